"""Comparisons of subgroups that do not cry wolf: all differences at one confidence, any gap, power.

The highest of several equal subgroups lies above the lowest by chance alone. Differences therefore
share one confidence over a family that is said in words, and subgroups with too few faces are shown
and never tested into a claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from faceaudit.audit.age import AGE_METRICS, age_metric
from faceaudit.audit.clusters import degrees_for, degrees_of
from faceaudit.audit.estimates import Options
from faceaudit.audit.intervals import Values
from faceaudit.audit.measure import EVERY_METRIC, measure
from faceaudit.audit.metrics import METRICS, Metric
from faceaudit.audit.permutation import Permutations
from faceaudit.audit.power import faces_needed, smallest_detectable
from faceaudit.audit.results import (
    AnyGapTest,
    Comparison,
    Estimate,
    MetricValue,
    PairwiseDifference,
    Subgroup,
    SubgroupFigure,
)
from faceaudit.audit.scores import ScoreRows
from faceaudit.audit.simultaneous import (
    Figures,
    Pairs,
    critical_of,
    critical_of_pairs,
    every_pair,
    holm,
    p_value_of_pairs,
    two_sided,
    with_rests,
)
from faceaudit.audit.tally import CellCounts, Codes, Cut, Numbers, Tally, cut
from faceaudit.errors import UnknownNameError, UsageError
from faceaudit.schema import AGE

Place = tuple[str, str, str | None]
"""Task, metric and class."""
MOST_RANKED = 40
"""With more ranked subgroups pairs are not listed, and every subgroup is compared with the rest."""
STUDENTIZED = (
    "studentized: the furthest of all differences, in its standard errors, against the range of as "
    "many equal subgroups; whatever mix of annotated classes they have"
)
FROM_REST = (
    "studentized: the furthest of all differences from the mean of the others, in its standard "
    "errors, with Sidak's adjustment; whatever mix of annotated classes they have"
)
OVER_BLOCKS = "; the spread is that over blocks of units"
Test = Callable[[Metric, str, str | None, Sequence[int]], AnyGapTest | None]
"""A test of any gap: of a metric, a task and a class, over some subgroups by their numbers."""


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
        options: Fewest faces, and draws and seed of the permutation test; not the confidence.
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
    test = Permutations(counted, cells, used).test
    return compare_values(chosen, own, rest, by, used, within=kept, test=test)


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


def compare_values(
    metric: Metric,
    own: Measurements,
    rest: Measurements,
    by: Sequence[str],
    options: Options,
    *,
    within: Mapping[str, str] | None = None,
    test: Test | None = None,
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
        test: Of any gap; the studentized one where it is None or gives None.
    """
    shown = [_figure(metric, value, options) for value in own.values]
    at = [number for number, one in enumerate(shown) if one.reason is None]
    task, label = own.values[0].task, own.values[0].label
    base = Comparison(
        task=task,
        metric=metric.name,
        label=label,
        by=tuple(by),
        within=dict(within or {}),
        confidence=options.confidence,
        subgroups=tuple(shown),
        pairs=(),
        versus_rest=(),
        any_gap=None,
        family=_family_in_words(own.values[0], by, within or {}),
        smallest_detectable=None,
        reason=f"not compared: {metric.incomparable}"
        if metric.incomparable
        else f"fewer than two subgroups with at least {options.min_n} faces have an interval",
    )
    if len(at) < 2 or metric.incomparable:
        return base
    ranked = own.at(at)
    figures, faces = _figures(metric, ranked, options), _faces(ranked)
    critical = critical_of_pairs(len(at), options.confidence)
    base = replace(
        base,
        subgroups=_with_errors(shown, at, figures.standard_errors),
        any_gap=test(metric, task, label, at) if test else None,
        smallest_detectable=smallest_detectable(metric, figures, faces, critical),
        reason=None,
        needed=faces_needed(metric, figures, faces, critical, options.min_n),
        critical=critical,
        figures=figures,
    )
    if len(at) > MOST_RANKED:
        return _compare_with_rest(base, ranked, options)
    pairs = Pairs(figures, *every_pair(len(at)))
    return replace(
        base,
        pairs=_differences(pairs, [one.subgroup for one in ranked.values], critical),
        versus_rest=_versus_rest(metric, own, rest, at, options),
        any_gap=base.any_gap or _studentized(pairs, ranked),
    )


def _compare_with_rest(base: Comparison, ranked: Measurements, options: Options) -> Comparison:
    """Many subgroups: each against the mean of the others by their faces."""
    if base.figures is None:
        return base
    size = len(ranked.values)
    both = with_rests(base.figures, _faces(ranked))
    pairs = Pairs(both, np.arange(size), np.arange(size, 2 * size))
    names = [value.subgroup for value in ranked.values]
    found = _differences(pairs, names, critical_of(size, options.confidence))
    furthest = float(np.abs(pairs.from_zero).max())
    smallest = min(pair.p_value for pair in found)
    p_value = -math.expm1(size * math.log1p(-smallest)) if smallest < 1 else 1.0
    method = FROM_REST + _over_blocks(ranked)
    return replace(
        base,
        versus_rest=found,
        any_gap=base.any_gap or AnyGapTest(furthest, p_value, method),
        reason=f"pairs of more than {MOST_RANKED} subgroups are not listed",
    )


def compare_grouping(
    counted: Tally,
    cells: Cut,
    values: Sequence[MetricValue],
    rows: Mapping[str, ScoreRows],
    options: Options,
    within: Mapping[str, str] | None = None,
) -> dict[Place, Comparison]:
    """Comparisons of everything that was measured in the subgroups of one grouping.

    Args:
        counted: The tally.
        cells: The grouping.
        values: Every metric in every subgroup.
        rows: Task -> scores row by row, where the table fits.
        options: Of the measurement.
        within: Control feature -> the value that all faces have.
    """
    metrics = {metric.name: metric for metric in (*EVERY_METRIC, *options.also)}
    rests = rest_of(cells)
    few = 2 < len(cells.subgroups) <= MOST_RANKED
    against = [metric for metric in metrics.values() if not metric.per_class]
    theirs = measure(counted, rests, rows, options, against).values if few else []
    own, rest = by_place(values), by_place(theirs)
    degrees, rest_degrees = degrees_of(counted, cells), degrees_of(counted, rests) if few else []
    test = Permutations(counted, cells, options).test
    return {
        place: compare_values(
            metrics[place[1]],
            Measurements(found, degrees),
            Measurements(rest.get(place, []), rest_degrees),
            cells.by,
            options,
            within=within,
            test=test,
        )
        for place, found in own.items()
    }


def by_place(values: Sequence[MetricValue]) -> dict[Place, list[MetricValue]]:
    """Values of the same task, metric and class together."""
    found: dict[Place, list[MetricValue]] = {}
    for value in values:
        found.setdefault((value.task, value.metric, value.label), []).append(value)
    return found


def difference_between(
    comparison: Comparison, first: Subgroup, second: Subgroup, families: int = 1
) -> PairwiseDifference | None:
    """The difference of two ranked subgroups, listed or not; None where they were not compared.

    Args:
        comparison: The comparison.
        first: A subgroup.
        second: Another.
        families: Among how many families the confidence is shared, where the widest of several
            metrics is looked for.
    """
    names = [dict(one.subgroup) for one in comparison.ranked]
    known = dict(first) in names and dict(second) in names
    if comparison.figures is None or not known:
        return None
    size = len(names)
    confidence = 1 - (1 - comparison.confidence) / families
    both = np.array([names.index(dict(first)), names.index(dict(second))])
    pair = Pairs(comparison.figures.at(both), np.array([0]), np.array([1]))
    low, high = pair.bounds(critical_of_pairs(size, confidence))
    listed = _listed(comparison, first, second)
    p_value = listed.p_value if listed else float(two_sided(pair.from_zero)[0])
    adjusted = listed.p_adjusted if listed else p_value * size * (size - 1) / 2
    return PairwiseDifference(
        first,
        second,
        float(pair.differences[0]),
        float(low[0]),
        float(high[0]),
        p_value,
        min(1.0, families * adjusted),
    )


def _listed(comparison: Comparison, first: Subgroup, second: Subgroup) -> PairwiseDifference | None:
    """The pair of two subgroups, in whichever order."""
    wanted = (first, second), (second, first)
    return next((p for p in comparison.pairs if (p.first, p.second) in wanted), None)


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


def figures_of(
    metric: Metric, estimates: Sequence[Estimate], degrees: Sequence[float], confidence: float
) -> Figures:
    """What limits of differences follow from.

    Args:
        metric: The metric.
        estimates: Of every subgroup.
        degrees: Of freedom of each one's spread, as ``degrees_of`` gives them. They are fewer than
            the faces: limits far out rest on a spread that is estimated from them.
        confidence: Of the estimates' intervals.
    """
    used = [
        max(min(float(degrees_for(metric, given, estimate.n / (given + 1))), estimate.n - 1.0), 1.0)
        for estimate, given in zip(estimates, degrees, strict=True)
    ]
    return Figures.of(metric, estimates, used, confidence)


def _figures(metric: Metric, measured: Measurements, options: Options) -> Figures:
    estimates = [value.estimate for value in measured.values]
    return figures_of(metric, estimates, measured.degrees, options.confidence)


def _faces(measured: Measurements) -> Values:
    """Behind each figure."""
    return np.array([value.estimate.n for value in measured.values], np.float64)


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
    critical = critical_of(size, options.confidence)
    return _differences(pairs, [value.subgroup for value in mine.values], critical)


def _differences(
    pairs: Pairs, names: Sequence[Subgroup], critical: float
) -> tuple[PairwiseDifference, ...]:
    """All differences of a family; a second member without a name is the rest."""
    low, high = pairs.bounds(critical)
    p_values = two_sided(pairs.from_zero)
    columns = (pairs.differences, low, high, p_values, holm(p_values))
    return tuple(
        PairwiseDifference(
            names[one], names[other] if other < len(names) else None, *map(float, numbers)
        )
        for one, other, *numbers in zip(pairs.first, pairs.second, *columns, strict=True)
    )


def _studentized(pairs: Pairs, ranked: Measurements) -> AnyGapTest:
    furthest = float(np.abs(pairs.from_zero).max())
    p_value = p_value_of_pairs(furthest, len(ranked.values))
    return AnyGapTest(furthest, p_value, STUDENTIZED + _over_blocks(ranked))


def _over_blocks(measured: Measurements) -> str:
    return OVER_BLOCKS if np.isfinite(measured.degrees).all() else ""


def _family_in_words(value: MetricValue, by: Sequence[str], within: Mapping[str, str]) -> str:
    of = value.metric if value.label is None else f"{value.metric} of {value.label}"
    among = "".join(f", among {name} {given}" for name, given in within.items())
    return (
        f"task {value.task}, {of}{among}: all differences between any two subgroups by "
        f"{' and '.join(by)} that have enough faces; and, apart from those, all differences of a "
        "subgroup from the rest"
    )
