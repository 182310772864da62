"""Changes: how far figures differ between two models or two dates, and which may be claimed.

A family is one metric of one task over all subgroups of one grouping (and all classes, of a metric
per class). Within it p values are adjusted by Holm's method and intervals are simultaneous, so that
with nothing changed at all a family claims a change in at most 1 - confidence of the cases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from faceaudit.audit.intervals import Bounds
from faceaudit.audit.matching import Matching
from faceaudit.audit.metrics import Values
from faceaudit.audit.results import Estimate, Subgroup
from faceaudit.audit.simultaneous import holm
from faceaudit.schema import Task

Verdict = Literal["improved", "regressed", "changed", "no difference shown", "few faces"]
Mode = Literal["paired", "drift"]
Better = Literal["higher", "lower", "zero", "neither"]
Failures = Literal["left out", "errors"]
What = Literal["subgroups", "status", "annotated", "predicted", "confidence", "measure"]
FAILURE_RATE, PREDICTED_SHARE = "failure_rate", "predicted_share"
NO_SPREAD = "no interval: it needs two faces, of two units, on which the difference varies"


@dataclass(frozen=True)
class Change:
    """One figure in both tables and the difference, second minus first.

    ``low`` and ``high`` bound the difference, simultaneously over its family; ``p_adjusted`` is
    adjusted over the same family. A change is claimed where both agree.
    """

    task: str
    """A task, ``age`` for years, or empty for images."""
    metric: str
    by: tuple[str, ...]
    subgroup: Subgroup
    n: int
    """Faces behind the figure; of different images, those of the smaller side."""
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None
    verdict: Verdict
    label: str | None = None
    """The class, of a figure per class."""
    reason: str | None = None
    failures: Failures = "left out"
    """Whether faces that a table did not score are left out or count as its errors."""
    only_first: int | None = None
    only_second: int | None = None
    """Faces that only one table has right (or selected, or scored), of figures that are shares."""
    sides: tuple[int, int] | None = None
    """Faces behind the figure on either side, of different images; None where both have ``n``."""

    @property
    def claimed(self) -> bool:
        """Whether the figures may be said to differ."""
        return self.verdict in {"improved", "regressed", "changed"}


@dataclass(frozen=True)
class Agreement:
    """Share of faces that both tables scored and predicted as the same class."""

    task: str
    subgroup: Subgroup
    share: Estimate


@dataclass(frozen=True)
class Distance:
    """How far two distributions lie apart.

    ``total_variation`` is the least share of faces that would have to move to another class or bin
    for both to be alike, without bias: 0 where chance alone explains what is seen. ``psi`` is the
    population stability index, and ``ks`` the largest distance of the cumulated shares, of what has
    an order. The test says whether there is a shift (``shifted``); the distance says how large,
    cautiously, so that its lower bound may be 0 where the test finds one.
    """

    what: What
    name: str
    """The task, the measure, or the features."""
    subgroup: Subgroup
    first: int
    second: int
    """Faces or images counted on either side."""
    total_variation: float | None
    low: float | None
    high: float | None
    psi: float | None
    ks: float | None
    medians: tuple[float, float] | None
    """Of either side, of what has an order: centers of the bins that hold them."""
    p_value: float | None
    p_adjusted: float | None
    shifted: bool
    small: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Changes:
    """Everything that a comparison found."""

    mode: Mode
    tasks: tuple[Task, ...]
    by: tuple[tuple[str, ...], ...]
    images: tuple[int, int]
    """Images of either table, whether or not the other has them, too."""
    labelled: Mapping[str, int]
    """Task -> labeled faces compared; of different images, of the smaller side."""
    changes: tuple[Change, ...]
    matching: Matching | None = None
    agreement: tuple[Agreement, ...] = ()
    distances: tuple[Distance, ...] = ()
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One metric over the subgroups of a grouping, before it is judged; arrays are (F,)."""

    task: str
    metric: str
    by: tuple[str, ...]
    better: Better
    where: Sequence[tuple[Subgroup, str | None]]
    """Subgroup and class of each figure."""
    n: Values
    first: Values
    second: Values
    p_values: Values
    bounds: Callable[[float], Bounds]
    """Confidence to bounds of the differences."""
    undefined: str
    failures: Failures = "left out"
    only: tuple[Values, Values] | None = None
    sides: tuple[Values, Values] | None = None
    no_interval: str = NO_SPREAD
    """Why a difference that is defined has no interval, where it has none."""


def without_claims(family: Family, why: str) -> Family:
    """A family of which the figures are told, and nothing of their differences."""
    unknown = np.full(len(family.n), np.nan)
    return replace(
        family,
        p_values=unknown,
        bounds=lambda confidence: (unknown, unknown),
        no_interval=f"not compared: {why}",
    )


def judge(family: Family, min_n: int, confidence: float) -> list[Change]:
    """Changes with verdicts, by the multiplicity of the family.

    Figures of fewer than ``min_n`` faces are shown and neither tested nor counted as tests.

    Source:
        Holm: A simple sequentially rejective multiple test procedure, Scandinavian Journal of
        Statistics 6, 1979; Sidak: Rectangular confidence regions for the means of multivariate
        normal distributions, JASA 62, 1967 (holds whatever the correlation).
    """
    defined = ~np.isnan(family.second - family.first)
    tested = (family.n >= min_n) & defined & ~np.isnan(family.p_values)
    adjusted = np.full(len(family.n), np.nan)
    adjusted[tested] = holm(family.p_values[tested])
    low, high = family.bounds(confidence ** (1 / max(int(tested.sum()), 1)))
    return [
        _change(family, index, adjusted[index], (low[index], high[index]), min_n, confidence)
        for index in range(len(family.n))
    ]


def _change(
    family: Family,
    index: int,
    adjusted: float,
    bounds: tuple[float, float],
    min_n: int,
    confidence: float,
) -> Change:
    first, second = _known(family.first[index]), _known(family.second[index])
    subgroup, label = family.where[index]
    n = int(family.n[index])
    difference = None if first is None or second is None else second - first
    low, high = (None, None) if difference is None else (_known(bounds[0]), _known(bounds[1]))
    reason = family.no_interval if low is None else None
    if difference is None:
        reason = family.undefined
    p_value = None if difference is None else _known(family.p_values[index])
    p_adjusted = None if difference is None else _known(adjusted)
    verdict: Verdict = "few faces" if n < min_n else "no difference shown"
    if (
        difference is not None
        and low is not None
        and high is not None
        and p_adjusted is not None
        and p_adjusted < 1 - confidence
        and not low <= 0 <= high
    ):
        verdict = _direction(family.better, difference)
    only, sides = family.only, family.sides
    return Change(
        family.task,
        family.metric,
        family.by,
        subgroup,
        n,
        first,
        second,
        difference,
        low,
        high,
        p_value,
        p_adjusted,
        verdict,
        label,
        reason,
        family.failures,
        None if only is None else int(only[0][index]),
        None if only is None else int(only[1][index]),
        None if sides is None else (int(sides[0][index]), int(sides[1][index])),
    )


def _direction(better: Better, difference: float) -> Verdict:
    if better in {"zero", "neither"}:
        return "changed"
    return "improved" if (difference > 0) == (better == "higher") else "regressed"


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
