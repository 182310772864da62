"""How far subgroups are apart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from faceaudit.audit.results.values import Subgroup

if TYPE_CHECKING:
    from faceaudit.audit.simultaneous import Figures


@dataclass(frozen=True)
class Disparity:
    """How far a metric is apart over the subgroups of one ``by``.

    ``worst`` and ``best`` are the ranked subgroups (at least ``min_n`` faces); ``difference`` is
    the highest value minus the lowest, ``ratio`` the lowest by the highest. ``low`` and ``high``
    bound that difference, at a confidence that holds for all differences of the comparison
    together. Of a signed metric the worst is the furthest from 0 and the best the nearest; where no
    direction is better, the worst is the lowest. Where all are equal there is no worst and no best
    (``all_equal``). ``p_value`` tests whether there is any gap at all;
    ``p_adjusted`` is Holm's of this one difference.
    """

    task: str
    metric: str
    by: tuple[str, ...]
    worst: Subgroup | None
    best: Subgroup | None
    difference: float | None
    ratio: float | None
    low: float | None
    high: float | None
    n_ranked: int
    reason: str | None = None
    label: str | None = None
    """The class, of a per-class metric."""
    over_geometric_mean: float | None = None
    """The highest error of the ranked subgroups by the geometric mean of their errors."""
    within: Subgroup = field(default_factory=dict)
    """The value of the control feature that was held fixed, if any."""
    p_value: float | None = None
    p_adjusted: float | None = None

    @property
    def all_equal(self) -> bool:
        """Whether all ranked subgroups have the same value, so that none is worst."""
        return self.difference == 0

    @property
    def shown(self) -> bool:
        """Whether the interval of the difference leaves no room for equality."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class SubgroupFigure:
    """A metric in one subgroup of a comparison.

    ``reason`` says why the subgroup takes no part in the tests: too few faces (``small``), or no
    value or interval.
    """

    subgroup: Subgroup
    estimate: float | None
    standard_error: float | None
    n: int
    small: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class PairwiseDifference:
    """How far two subgroups are apart, ``first`` minus ``second``, in the metric's unit.

    ``low`` and ``high`` hold for all differences of the family together; ``p_value`` is two-sided
    and of this difference alone, ``p_adjusted`` is Holm's over the family. ``second`` is None where
    the first is compared with all faces of the other subgroups.
    """

    first: Subgroup
    second: Subgroup | None
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float

    @property
    def shown(self) -> bool:
        """Whether the interval leaves no room for equality."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class AnyGapTest:
    """Whether the subgroups differ at all: the furthest difference, and how often chance does that.

    ``statistic`` is that difference in standard errors; ``method`` says in words what was assumed
    and done.
    """

    statistic: float
    p_value: float
    method: str


@dataclass(frozen=True)
class Comparison:
    """One metric of one task over the subgroups of one grouping: all their differences.

    ``family`` says in words which differences the confidence and the adjusted p values are shared
    by. ``smallest_detectable`` is the gap that would have been shown between any two ranked
    subgroups with a chance of 80 %, with the faces at hand; None where no gap would. Where nothing
    can be compared the tests are empty or None and ``reason`` says why.
    """

    task: str
    metric: str
    label: str | None
    by: tuple[str, ...]
    within: Subgroup
    confidence: float
    subgroups: tuple[SubgroupFigure, ...]
    pairs: tuple[PairwiseDifference, ...]
    versus_rest: tuple[PairwiseDifference, ...]
    any_gap: AnyGapTest | None
    family: str
    smallest_detectable: float | None
    reason: str | None = None
    needed: tuple[tuple[float, int], ...] = ()
    """Gaps, and the faces that every subgroup needs for each to be shown with that chance."""
    critical: float | None = None
    """Standard normal quantile of the simultaneous intervals of pairs."""
    figures: Figures | None = field(default=None, repr=False, compare=False)
    """What intervals of the ranked subgroups at other confidences follow from."""

    @property
    def ranked(self) -> tuple[SubgroupFigure, ...]:
        """The subgroups that take part in the tests, in order."""
        return tuple(one for one in self.subgroups if one.reason is None)

    @property
    def shown(self) -> tuple[PairwiseDifference, ...]:
        """The pairs whose interval leaves no room for equality, the widest apart first."""
        found = [pair for pair in self.pairs if pair.shown]
        return tuple(sorted(found, key=lambda pair: -abs(pair.difference)))


@dataclass(frozen=True)
class Equivalence:
    """Whether all ranked subgroups are within a margin of each other.

    ``equivalent`` is None where that cannot be tested. ``p_value`` is the largest of all pairs,
    each tested one-sidedly on both sides. ``low`` and ``high`` are the furthest bounds of the pairs
    at a confidence of one minus twice the test's level: equivalent if both are within the margin.
    ``left_out`` are subgroups that took no part, of which nothing is said.
    """

    margin: float
    equivalent: bool | None
    p_value: float | None
    low: float | None
    high: float | None
    left_out: tuple[Subgroup, ...]
    reason: str | None = None
