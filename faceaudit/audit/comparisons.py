"""Comparisons of subgroups that do not cry wolf: all differences at one confidence, any gap, power.

The highest of several equal subgroups lies above the lowest by chance alone. Differences therefore
share one confidence over a family that is said in words, and subgroups with too few faces are shown
and never tested into a claim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from faceaudit.audit.age import AGE_METRICS, age_metric
from faceaudit.audit.estimates import Options
from faceaudit.audit.intervals import Values
from faceaudit.audit.measure import measure
from faceaudit.audit.metrics import METRICS, STUDENT, Metric
from faceaudit.audit.results import (
    AnyGapTest,
    Comparison,
    Equivalence,
    Estimate,
    MetricValue,
    PairwiseDifference,
    Subgroup,
    SubgroupFigure,
)
from faceaudit.audit.scores import ScoreRows
from faceaudit.audit.simultaneous import (
    Family,
    Figures,
    Pairs,
    every_pair,
    family_of,
    holm,
    two_sided,
)
from faceaudit.audit.tally import CellCounts, Codes, Cut, Numbers, Tally, cut
from faceaudit.errors import UnknownNameError, UsageError
from faceaudit.schema import AGE

POWER = 0.8
MOST_RANKED = 40
"""With more ranked subgroups pairs are not listed, and every subgroup is compared with the rest."""
MAX_T = (
    "studentized: the furthest of all differences, in its standard errors, against simulated "
    "families without any difference; no annotated classes are held fixed"
)
MAX_T_BLOCKS = MAX_T + "; the spread is that over blocks of units"


def compare_subgroups(
    counted: Tally,
    task: str,
    metric: str,
    by: Sequence[str],
    *,
    label: str | None = None,
    confidence: float = 0.95,
    options: Options | None = None,
    rows: Mapping[str, ScoreRows] | None = None,
    within: Mapping[str, str] | None = None,
) -> Comparison:
    """One metric over the subgroups of one grouping: every pair, and each against the rest.

    Args:
        counted: The tally.
        task: Name of a task, or ``age`` for years.
        metric: Name of a metric.
        by: Features that form the subgroups.
        label: The class, of a per-class metric.
        confidence: Of all intervals of the family together.
        options: Fewest faces, replicates and seed; their confidence is not used.
        rows: Task -> scores row by row, where the table fits.
        within: Control feature -> the value that faces must have.

    Raises:
        UnknownNameError: If the tally has no such task, feature, value or class, or there is no
            such metric.
        UsageError: If a class is missing for a per-class metric or given for another.
    """
    chosen, kept = _metric(metric), dict(within or {})
    used = replace(options or Options(), confidence=confidence)
    _check_names(counted, task, chosen, by, label, kept)
    cells = cut_within(counted, by, kept)
    own, rest = (
        _measured(counted, part, chosen, task, label, rows or {}, used)
        for part in (cells, rest_of(cells))
    )
    if not own.values:
        raise UsageError(f"{metric} of {task}: the table holds nothing to compute it from")
    return compare_values(chosen, own, rest, by, used, within=kept)


def _measured(
    counted: Tally,
    cells: Cut,
    metric: Metric,
    task: str,
    label: str | None,
    rows: Mapping[str, ScoreRows],
    options: Options,
) -> Measurements:
    found = measure(counted, cells, rows, options, [metric], task).values
    return Measurements(
        [value for value in found if value.label == label], degrees_of(counted, cells)
    )


@dataclass(frozen=True)
class Measurements:
    """One metric, of one task and one class, in every subgroup of a grouping."""

    values: Sequence[MetricValue]
    degrees: Sequence[float]
    """Degrees of freedom of each subgroup's spread; infinite where it follows from counts."""

    def at(self, numbers: Sequence[int]) -> Measurements:
        """Those of some subgroups."""
        return Measurements([self.values[k] for k in numbers], [self.degrees[k] for k in numbers])


@dataclass(frozen=True)
class Rest(Cut):
    """For every subgroup of a grouping the faces of all the others."""

    def of(self, counts: CellCounts) -> Numbers:
        """Numbers of every rest, (subgroups, ...)."""
        own = super().of(counts)
        return np.asarray(own.sum(axis=0) - own)

    def cells(self, subgroup: int) -> Codes:
        """Numbers of the cells of all other subgroups."""
        return np.asarray(np.flatnonzero((self.index >= 0) & (self.index != subgroup)))


def rest_of(cells: Cut) -> Rest:
    """The rests of a grouping's subgroups."""
    return Rest(cells.by, cells.subgroups, cells.index)


def cut_within(counted: Tally, by: Sequence[str], within: Mapping[str, str]) -> Cut:
    """The subgroups of a grouping among faces whose control features have these values."""
    cells = cut(counted, by)
    names = [feature.name for feature in counted.features]
    kept = [
        all(cell[names.index(name)] == value for name, value in within.items())
        for cell in counted.cells
    ]
    index = np.where(kept, cells.index, -1)
    used = sorted({*index.tolist()} - {-1})
    place = np.full(len(cells.subgroups) + 1, -1)
    place[used] = np.arange(len(used))
    return Cut(cells.by, tuple(cells.subgroups[number] for number in used), place[index])


def degrees_of(counted: Tally, cells: Cut) -> list[float]:
    """Degrees of freedom of the spread in each subgroup: its blocks less 1; infinite without units.

    Without units they are infinite, as spreads follow from counts.
    """
    if counted.unit is None:
        return [math.inf] * len(cells.subgroups)
    blocks = np.zeros((len(cells.subgroups), counted.blocks))
    for counts in counted.predicted.values():
        for number in range(len(cells.subgroups)):
            blocks[number] += cells.blocks(counts, number).sum(axis=-1)
    return [float(max(used - 1, 1)) for used in (blocks > 0).sum(axis=1)]


def compare_values(
    metric: Metric,
    own: Measurements,
    rest: Measurements,
    by: Sequence[str],
    options: Options,
    *,
    within: Mapping[str, str] | None = None,
    any_gap: AnyGapTest | None = None,
) -> Comparison:
    """The comparison of figures that were measured already.

    Args:
        metric: The metric.
        own: The metric in every subgroup.
        rest: The metric among the faces of all others, in the same order; without any, pairs alone
            are compared.
        by: Features that form the subgroups.
        options: Of the measurement.
        within: Control feature -> the value that all faces have.
        any_gap: A test to give instead of the studentized one.
    """
    shown = [_figure(metric, value, options) for value in own.values]
    at = [number for number, one in enumerate(shown) if one.reason is None]
    base = Comparison(
        task=own.values[0].task,
        metric=metric.name,
        label=own.values[0].label,
        by=tuple(by),
        within=dict(within or {}),
        confidence=options.confidence,
        subgroups=tuple(shown),
        pairs=(),
        versus_rest=(),
        any_gap=None,
        family=_family_in_words(own.values[0], by, within or {}),
        smallest_detectable=None,
        reason=f"fewer than two subgroups with at least {options.min_n} faces have an interval",
    )
    if len(at) < 2:
        return base
    ranked = own.at(at)
    figures = _figures(metric, ranked, options)
    pairs = Pairs(figures, *every_pair(len(at)))
    family = family_of(contrasts_of(pairs), figures.standard_errors)
    critical = family.quantile(options.confidence)
    listed = len(at) <= MOST_RANKED
    blocks = bool(np.isfinite(ranked.degrees).all())
    return replace(
        base,
        subgroups=_with_errors(shown, at, figures.standard_errors),
        pairs=_differences(pairs, [one.subgroup for one in ranked.values], critical)
        if listed
        else (),
        versus_rest=_versus_rest(metric, own, rest, at, options),
        any_gap=any_gap or _studentized(family, pairs, blocks=blocks),
        smallest_detectable=_detectable(pairs, critical),
        reason=None if listed else f"pairs of more than {MOST_RANKED} subgroups are not listed",
        critical=critical,
        figures=figures,
    )


def difference_between(
    comparison: Comparison, first: Subgroup, second: Subgroup
) -> PairwiseDifference | None:
    """The difference of two ranked subgroups, listed or not; None where they were not compared."""
    for pair in comparison.pairs:
        if (pair.first, pair.second) == (first, second):
            return pair
        if (pair.first, pair.second) == (second, first):
            return replace(
                pair,
                first=first,
                second=second,
                difference=-pair.difference,
                low=-pair.high,
                high=-pair.low,
            )
    names = [dict(one.subgroup) for one in comparison.ranked]
    if comparison.figures is None or comparison.critical is None:
        return None
    if dict(first) not in names or dict(second) not in names:
        return None
    one, other = names.index(dict(first)), names.index(dict(second))
    found = Pairs(comparison.figures, np.array([one]), np.array([other]))
    low, high = found.bounds(comparison.critical)
    p_value = float(two_sided(found.distances(0.0))[0])
    adjusted = min(1.0, p_value * len(names) * (len(names) - 1) / 2)
    return PairwiseDifference(
        first,
        second,
        float(found.differences[0]),
        float(low[0]),
        float(high[0]),
        p_value,
        adjusted,
    )


def equivalent_within(comparison: Comparison, margin: float) -> Equivalence:
    """Whether all ranked subgroups are within a margin of each other, by two one-sided tests.

    Every pair must be within it, so that no adjustment for their number is due; the level is one
    minus the comparison's confidence.

    Args:
        comparison: The comparison.
        margin: In the metric's unit, above 0.

    Raises:
        ValueError: If the margin is not above 0.

    Source:
        Schuirmann: A comparison of the two one-sided tests procedure and the power approach,
        Journal of Pharmacokinetics and Biopharmaceutics 15, 1987; Berger: Multiparameter hypothesis
        testing and acceptance sampling, Technometrics 24, 1982 (intersection-union).
    """
    from scipy.special import ndtr

    if margin <= 0:
        raise ValueError(f"a margin must be above 0, got {margin}")
    left_out = tuple(one.subgroup for one in comparison.subgroups if one.reason is not None)
    if comparison.figures is None:
        return Equivalence(margin, None, None, None, None, left_out, comparison.reason)
    pairs = Pairs(comparison.figures, *every_pair(len(comparison.figures.values)))
    inside = np.minimum(pairs.distances(-margin), -pairs.distances(margin))
    p_value = float(ndtr(-inside).max())
    low, high = pairs.bounds(NormalDist().inv_cdf(comparison.confidence))
    return Equivalence(
        margin,
        p_value <= 1 - comparison.confidence,
        p_value,
        float(low.min()),
        float(high.max()),
        left_out,
    )


def n_needed(comparison: Comparison, gap: float, power: float = POWER) -> int | None:
    """Faces that every subgroup must have for a gap to be shown with this chance.

    They are those at which the gap is the critical value plus the normal quantile of the power, in
    standard errors, of the subgroup whose faces differ most. None where nothing could be compared.

    Args:
        comparison: The comparison, of which spreads and confidence are taken.
        gap: In the metric's unit; its sign does not matter.
        power: Chance that the interval of such a gap excludes 0.

    Raises:
        ValueError: If the gap is 0.
    """
    if gap == 0:
        raise ValueError("no number of faces shows a gap of 0")
    if comparison.critical is None:
        return None
    per_face = max(
        one.standard_error**2 * one.n for one in comparison.ranked if one.standard_error is not None
    )
    reach = comparison.critical + NormalDist().inv_cdf(power)
    return math.ceil(2 * per_face * (reach / gap) ** 2)


def contrasts_of(pairs: Pairs) -> Values:
    """Weights of the figures in each difference, (M, K)."""
    weights = np.zeros((len(pairs.first), len(pairs.figures.values)))
    rows = np.arange(len(pairs.first))
    weights[rows, pairs.first], weights[rows, pairs.second] = 1, -1
    return weights


def _metric(name: str) -> Metric:
    found = {metric.name: metric for metric in (*METRICS, *AGE_METRICS)}
    try:
        return found[name] if name in found else age_metric(name)
    except UnknownNameError:
        raise UnknownNameError("metric", name, list(found)) from None


def _check_names(
    counted: Tally,
    task: str,
    metric: Metric,
    by: Sequence[str],
    label: str | None,
    within: Mapping[str, str],
) -> None:
    classes = {one.name: one.classes for one in counted.tasks}
    if task not in {*classes, AGE}:
        raise UnknownNameError("task", task, [*classes, AGE])
    if not by:
        raise UsageError("by: name at least one feature to compare subgroups of")
    features = [feature.name for feature in counted.features]
    for name in (*by, *within):
        if name not in features:
            raise UnknownNameError("feature in the tally", name, features)
    for name, value in within.items():
        known = {str(cell[features.index(name)]) for cell in counted.cells}
        if value not in known:
            raise UnknownNameError(f"value of {name}", value, sorted(known))
    if metric.per_class and label is None:
        raise UsageError(f"{metric.name}: a metric per class; name a class of {task}")
    if label is not None and not metric.per_class:
        raise UsageError(f"{metric.name}: no metric per class; leave out the class {label!r}")
    if label is not None and label not in classes.get(task, ()):
        raise UnknownNameError(f"class of {task}", label, classes.get(task, ()))


def _figure(metric: Metric, value: MetricValue, options: Options) -> SubgroupFigure:
    found = value.estimate
    small = found.n < options.min_n
    reason = None
    if found.value is None or found.low is None or found.high is None:
        reason = found.reason or metric.undefined
    elif small:
        reason = f"fewer than {options.min_n} faces"
    return SubgroupFigure(value.subgroup, found.value, None, found.n, small, reason)


def _figures(metric: Metric, measured: Measurements, options: Options) -> Figures:
    estimates = [value.estimate for value in measured.values]
    degrees = [
        _degrees(metric, one, given) for one, given in zip(estimates, measured.degrees, strict=True)
    ]
    return Figures.of(metric, estimates, degrees, options.confidence)


def _degrees(metric: Metric, estimate: Estimate, given: float) -> float:
    """Fewer than the faces of the metric itself, where its spread is estimated from faces."""
    if math.isfinite(given) or metric.interval in STUDENT:
        return float(max(min(given, estimate.n - 1), 1))
    return given


def _with_errors(
    shown: Sequence[SubgroupFigure], at: Sequence[int], errors: Values
) -> tuple[SubgroupFigure, ...]:
    found = list(shown)
    for place, error in zip(at, errors, strict=True):
        found[place] = replace(found[place], standard_error=float(error))
    return tuple(found)


def _versus_rest(
    metric: Metric, own: Measurements, rest: Measurements, at: Sequence[int], options: Options
) -> tuple[PairwiseDifference, ...]:
    """Every ranked subgroup against all faces of the others; two are each other's rest already."""
    if len(own.values) < 3 or not rest.values:
        return ()
    if any(rest.values[k].estimate.low is None for k in at):
        return ()
    size = len(at)
    mine, others = own.at(at), rest.at(at)
    figures = Measurements([*mine.values, *others.values], [*mine.degrees, *others.degrees])
    pairs = Pairs(_figures(metric, figures, options), np.arange(size), np.arange(size, 2 * size))
    faces = np.array([value.estimate.n for value in mine.values], np.float64)
    # The rest is the mean of the others by their faces.
    contrasts = np.eye(size) - (1 - np.eye(size)) * faces / (faces.sum() - faces)[:, None]
    family = family_of(contrasts, pairs.figures.standard_errors[:size])
    critical = family.quantile(options.confidence)
    return _differences(pairs, [value.subgroup for value in mine.values], critical)


def _differences(
    pairs: Pairs, names: Sequence[Subgroup], critical: float
) -> tuple[PairwiseDifference, ...]:
    """All differences of a family; a second member without a name is the rest."""
    low, high = pairs.bounds(critical)
    p_values = two_sided(pairs.distances(0.0))
    columns = (pairs.differences, low, high, p_values, holm(p_values))
    return tuple(
        PairwiseDifference(
            names[one], names[other] if other < len(names) else None, *map(float, numbers)
        )
        for one, other, *numbers in zip(pairs.first, pairs.second, *columns, strict=True)
    )


def _studentized(family: Family, pairs: Pairs, *, blocks: bool) -> AnyGapTest:
    furthest = float(np.abs(pairs.distances(0.0)).max())
    return AnyGapTest(furthest, family.p_value(furthest), MAX_T_BLOCKS if blocks else MAX_T)


def _detectable(pairs: Pairs, critical: float) -> float:
    """The gap that any two subgroups would show with a chance of ``POWER``."""
    low, high = pairs.bounds(critical)
    reach = (high - low) / 2 + NormalDist().inv_cdf(POWER) * pairs.standard_errors
    return float(reach.max())


def _family_in_words(value: MetricValue, by: Sequence[str], within: Mapping[str, str]) -> str:
    of = value.metric if value.label is None else f"{value.metric} of {value.label}"
    among = "".join(f", among {name} {given}" for name, given in within.items())
    return (
        f"task {value.task}, {of}{among}: all differences between any two subgroups by "
        f"{' and '.join(by)} that have enough faces; and, apart from those, all differences of a "
        "subgroup from the rest"
    )
