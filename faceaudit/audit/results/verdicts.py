"""What became of the rules of a policy."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

from faceaudit.audit.results.values import Subgroup

Outcome = Literal["pass", "fail", "insufficient"]


@dataclass(frozen=True)
class Exemption:
    """Subgroups excepted from a rule: by whom, why, until when, and whether that is over."""

    subgroup: Subgroup
    approved_by: str
    reason: str
    expires: dt.date
    current: bool
    """Whether it still counts; what has expired is told and changes nothing."""
    covers: int
    """How many subgroups of the table it is about."""


@dataclass(frozen=True)
class Verdict:
    """What became of one rule of a policy.

    ``value`` is the quantity that the rule bounds (the worst figure, the largest difference, ...)
    and ``subgroups`` the one or two that it is of; ``low`` and ``high`` bound it with the rule's
    share of the policy's confidence, and decide. ``n`` counts the faces (or images) of the
    smallest of those subgroups and of those that a failure, or the lack of a decision, rests on;
    ``n_needed`` is how many every subgroup would need for a decision if the figures stayed as they
    are, None where a decision was made or no number can be named; why, says ``explanation``. Both
    are None where they are suppressed.
    """

    rule: str
    """The rule in one line."""
    task: str | None
    metric: str
    label: str | None
    by: tuple[str, ...]
    within: tuple[str, ...]
    only: Subgroup
    measure: str
    at_least: float | None
    at_most: float | None
    owner: str
    reason: str
    """Why the rule's owner set this limit."""
    confidence: float
    min_n: int
    outcome: Outcome
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    n_needed: int | None
    subgroups: tuple[Subgroup, ...]
    explanation: str
    """Why the outcome is what it is."""
    exemptions: tuple[Exemption, ...] = ()
    small: tuple[Subgroup, ...] = ()
    """Subgroups that are too small, absent or without a value, and so not judged."""
    failures: str = "left_out"
    """Whether annotated faces without a prediction are ``errors``, or left out."""
    unplaced: int | None = 0
    """Faces (or images) that are left out because they have no value of one of the features; None
    where it is suppressed."""
    rests_on: tuple[Subgroup, ...] = ()
    """Subgroups whose numbers ``low``, ``high`` or ``n`` may be, besides ``subgroups``."""


@dataclass(frozen=True)
class PolicyFacts:
    """Which policy was held against the table, and on which day."""

    name: str
    sha256: str
    day: dt.date
