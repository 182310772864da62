"""What an audit finds: frozen facts, one dataclass per kind, from which page and JSON are made.

A figure that is not defined is None with a ``reason``; it is never 0, NaN or a neutral value.
Subgroups are mappings from feature to class, ``{"race": "Black", "gender": "Female"}``; ``{}`` is
everybody.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from faceaudit.schema import Task

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from faceaudit.audit.simultaneous import Figures

Subgroup = Mapping[str, str]
MetricKey = tuple[str, str, str | None, frozenset[tuple[str, str]]]
"""Task, metric, class and subgroup."""


@dataclass(frozen=True)
class Estimate:
    """A value with its uncertainty.

    ``value``, ``low`` and ``high`` share the metric's unit; ``n`` counts the labeled faces behind
    it. ``reason`` says why ``value`` (or the interval) is None.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None = None
    suppressed: bool = False
    """Whether the figure and its ``n`` are kept back, for privacy."""


@dataclass(frozen=True)
class MetricValue:
    """One metric of one task in one subgroup; ``label`` names the class of a per-class metric."""

    task: str
    metric: str
    subgroup: Subgroup
    estimate: Estimate
    label: str | None = None
    small: bool = False
    """Whether the subgroup has fewer than ``min_n`` faces: shown and marked, never ranked."""


@dataclass(frozen=True)
class Disparity:
    """How far a metric is apart over the subgroups of one ``by``.

    ``worst`` and ``best`` are the ranked subgroups (at least ``min_n`` faces); ``difference`` is
    the highest value minus the lowest, ``ratio`` the lowest by the highest. ``low`` and ``high``
    bound that difference, at a confidence that holds for all differences of the comparison
    together. Of a signed metric the worst is the furthest from 0 and the best the nearest; where no
    direction is better, the worst is the lowest. ``p_value`` tests whether there is any gap at all;
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
    subgroups with a chance of 80 %, with the faces at hand. Where nothing can be compared the
    tests are empty or None and ``reason`` says why.
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


@dataclass(frozen=True)
class Coverage:
    """Who was scored and who is missing: images by status in one annotated subgroup.

    ``rates`` maps a status to the share of images with it, and further ``decoding`` to the share of
    images that could be decoded, ``detection`` to the share of those in which a face was found, and
    ``multi_face`` to the share of scored images with more than one face.
    """

    subgroup: Subgroup
    images: int
    statuses: Mapping[str, int | None]
    """Images by status; None where the number is kept back, for privacy."""
    failure_rate: Estimate
    """Share of images without a scored face."""
    rates: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class WithFailures:
    """A figure twice: on scored faces, and on all that are annotated, failures counted as errors.

    ``difference`` is the first minus the second, by how much a figure of scored faces flatters.
    """

    task: str
    metric: str
    subgroup: Subgroup
    scored: Estimate
    with_failures: Estimate
    difference: Estimate
    missed: int | None
    """Annotated faces without a prediction; None where the number is kept back, for privacy."""
    label: str | None = None
    small: bool = False


@dataclass(frozen=True)
class Confusion:
    """Faces by annotated (rows) and predicted (columns) class in one subgroup."""

    task: Task
    subgroup: Subgroup
    counts: NDArray[np.int64]  # (K, K)
    hidden: NDArray[np.bool_] | None = None
    """Places whose counts are kept back, for privacy; None hides none."""


@dataclass(frozen=True)
class RocCurve:
    """One-vs-rest ROC curve of one class in one subgroup, thinned to what a figure can show."""

    task: str
    label: str
    subgroup: Subgroup
    false_positive_rate: NDArray[np.float64]  # (P,), ascending from 0 to 1
    true_positive_rate: NDArray[np.float64]  # (P,)
    auc: Estimate


@dataclass(frozen=True)
class ReliabilityBin:
    """Faces of like confidence: how sure the model was of them, and how often it was right.

    ``lower`` and ``upper`` are the bin's edges, of which the upper one belongs to it; the first bin
    has both. ``confidence`` is the mean of the highest scores.
    """

    lower: float
    upper: float
    confidence: float | None
    """None where the bin is kept back, for privacy."""
    right: Estimate
    """Share of right predictions."""


@dataclass(frozen=True)
class Reliability:
    """One task in one subgroup: how often it was right at each degree of confidence.

    ``bins`` ascend; those without a face are left out. Where there is none, ``reason`` says why.
    """

    task: str
    subgroup: Subgroup
    n: int | None
    """Annotated faces with scores; None where the number is kept back, for privacy."""
    bins: tuple[ReliabilityBin, ...]
    reason: str | None = None
    small: bool = False


@dataclass(frozen=True)
class FitTest:
    """Whether counts or shares fit what was expected of them, by a chi-square statistic.

    ``reason`` says why there is none.
    """

    statistic: float | None
    degrees: int | None
    p_value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class ReferenceShare:
    """The share that a class should have, and how far the set is from it."""

    share: float
    difference: Estimate
    """The set's share, corrected where it could be, minus the reference; the bounds of all classes
    of a task hold together."""


@dataclass(frozen=True)
class Composition:
    """Share of one class among scored faces, as predicted and as corrected."""

    task: str
    label: str
    subgroup: Subgroup
    share: Estimate
    """Share of faces that were predicted as the class."""
    corrected: Estimate | None = None
    """Share of faces that would be annotated as the class; None where nothing was to correct."""
    em: Estimate | None = None
    """The same by the scores of the faces (EM), where they were used."""
    reference: ReferenceShare | None = None


@dataclass(frozen=True)
class Correction:
    """How the shares of one task were corrected for the model's confusion, and how far that holds.

    ``method`` is ``post_stratified`` (labeled faces of the set itself) or ``adjusted_count``
    (labeled faces of another set, or the model's own validation), None where the shares could not
    be corrected, for the ``reason``.
    """

    task: str
    method: str | None
    source: str | None
    """Where labeled faces come from: ``sample`` of the set, other ``labels``, ``bundle``."""
    where: str | None
    """The file of labels, or the name of the model."""
    labelled: int
    reason: str | None = None
    fit: FitTest | None = None
    """Whether the set's confidences fit what the labeled faces say, under label shift."""
    reference: FitTest | None = None
    """Whether the set's shares fit the reference shares."""
    reference_source: str | None = None
    """The file of reference shares."""
    doubtful: tuple[Subgroup, ...] = ()
    """Subgroups whose confidences contradict label shift."""


@dataclass(frozen=True)
class Verification:
    """Figures recomputed by scikit-learn and fairlearn on the same rows."""

    rows: int
    compared: int
    largest_difference: float
    where: str
    """The metric and subgroup of the largest difference."""
    against: str
    """The libraries and their versions."""
    subgroups: int
    """Of so many subgroups, and of everybody."""
    of_subgroups: int


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
    ``n_needed`` is how many every subgroup would need for a decision if the
    figures stayed as they are, None where a decision was made or no number can be named. ``n`` is
    None where it is suppressed.
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
    """Subgroups that are too small, or without a value, to be judged."""
    failures: str = "left_out"
    """Whether annotated faces without a prediction are ``errors``, or left out."""


@dataclass(frozen=True)
class PolicyFacts:
    """Which policy was held against the table, and on which day."""

    name: str
    sha256: str
    day: dt.date


@dataclass(frozen=True)
class LeakEffect:
    """One figure of one task over all rows, over the leaked ones, and over those that are left."""

    task: str
    metric: str
    every: Estimate
    leaked: Estimate
    without: Estimate
    difference: Estimate
    """``every`` minus ``without``; ``n`` is the leaked faces."""


@dataclass(frozen=True)
class LeaksLeftOut:
    """Rows that were left out because their picture is in several sets, and what they changed."""

    path: str
    sha256: str
    """Of the table of leaks."""
    matched_by: str
    """The column that rows were matched by: ``sha256`` or ``image``."""
    rows: int
    images: int
    of_rows: int
    effects: tuple[LeakEffect, ...] = ()


@dataclass(frozen=True)
class Audit:
    """Everything that one audit found."""

    tasks: tuple[Task, ...]
    by: tuple[tuple[str, ...], ...]
    """The groupings that were cut, such as ``(("gender",), ("race",), ("gender", "race"))``."""
    rows: int
    images: int
    labelled: Mapping[str, int]
    """Task name (``age`` for years) -> faces with both an annotated and a predicted value."""
    coverage: tuple[Coverage, ...]
    metrics: tuple[MetricValue, ...]
    disparities: tuple[Disparity, ...]
    conditioned_age: tuple[ConditionedAge, ...]
    confusions: tuple[Confusion, ...]
    roc_curves: tuple[RocCurve, ...]
    composition: tuple[Composition, ...]
    notes: tuple[str, ...]
    """Sentences that a reader must see: mappings used, classes merged, scores refused."""
    options: Mapping[str, Any] = field(default_factory=dict)
    verification: Verification | None = None
    comparisons: tuple[Comparison, ...] = ()
    """Every metric over the subgroups of every grouping."""
    with_failures: tuple[WithFailures, ...] = ()
    within: str | None = None
    """The control feature that figures were also found within."""
    standardised: tuple[Standardised, ...] = ()
    decompositions: tuple[Decomposition, ...] = ()
    policy: PolicyFacts | None = None
    verdicts: tuple[Verdict, ...] = ()
    """One per rule of the policy, in its order."""
    leaks: LeaksLeftOut | None = None
    corrections: tuple[Correction, ...] = ()
    """How the composition was corrected, one entry per task where that was tried or compared."""
    calibration: tuple[Reliability, ...] = ()
    """How often every annotated task was right at each degree of confidence, by subgroup."""

    @cached_property
    def metrics_by_key(self) -> Mapping[MetricKey, MetricValue]:
        """The metrics by task, metric, class and subgroup."""
        return {
            (one.task, one.metric, one.label, frozenset(one.subgroup.items())): one
            for one in self.metrics
        }

    def to_polars(self) -> pl.DataFrame:
        """The metrics, one row per figure (see ``frame.metrics_to_polars``)."""
        from faceaudit.audit.frame import metrics_to_polars

        return metrics_to_polars(self)

    def to_pandas(self) -> pd.DataFrame:
        """The same in pandas."""
        from faceaudit.audit.frame import metrics_to_pandas

        return metrics_to_pandas(self)

    def calibration_to_polars(self) -> pl.DataFrame:
        """The reliability bins, one row per bin (see ``frame.calibration_to_polars``)."""
        from faceaudit.audit.frame import calibration_to_polars

        return calibration_to_polars(self)
