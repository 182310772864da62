"""Figures at one age or one value of a control feature, and what of a gap is mix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from faceaudit.audit.results.values import Estimate, Subgroup


@dataclass(frozen=True)
class ConditionedAge:
    """Age error of faces of one annotated age group in one subgroup.

    ``subgroup`` is ``{}`` for everybody; ``age_group`` is None for all ages together, and
    ``standardised`` then tells whether the ages were re-weighted to the common age distribution.
    ``estimates`` maps ``exact``, ``one_off``, ``step_mae``, ``mean_signed_step`` (in groups) and,
    where years are known, ``mae`` and ``mean_signed_error`` (in years).
    """

    subgroup: Subgroup
    age_group: str | None
    estimates: Mapping[str, Estimate]
    standardised: bool = False
    small: bool = False


@dataclass(frozen=True)
class Standardised:
    """A figure of one subgroup, re-weighted to the mix of a control feature that is common to all.

    ``within`` is the control feature; ``subgroup`` does not name it.
    """

    task: str
    metric: str
    within: str
    subgroup: Subgroup
    estimate: Estimate
    small: bool = False


@dataclass(frozen=True)
class Contribution:
    """What faces with one value of the control feature add to the part of a gap that is no mix."""

    value: str
    estimate: Estimate


@dataclass(frozen=True)
class Decomposition:
    """The gap of a figure between two groups of faces, in a part that is mix and one that is not.

    ``gap`` is the first minus the second; ``mix`` (they differ in the control feature ``within``)
    and ``rate`` (what is left at the same mix) sum to it. ``contributions`` sum to ``rate``, the
    largest first. ``mix_share`` is mix by gap.
    """

    task: str
    metric: str
    within: str
    by: tuple[str, ...]
    first: Subgroup
    second: Subgroup | None
    """None for all other faces of the grouping."""
    gap: Estimate
    mix: Estimate
    rate: Estimate
    mix_share: Estimate
    contributions: tuple[Contribution, ...]
