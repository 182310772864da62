"""Drift: two tables of different images, and in what their figures and distributions differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.changes import (
    FAILURE_RATE,
    PREDICTED_SHARE,
    Change,
    Changes,
    Distance,
    Failures,
    Family,
    What,
    judge,
    without_claims,
)
from faceaudit.audit.clusters import degrees_of
from faceaudit.audit.comparisons import figures_of
from faceaudit.audit.coverage import NOT_ANNOTATED
from faceaudit.audit.distances import TwoSamples
from faceaudit.audit.estimates import Options
from faceaudit.audit.image_measures import SHORTER_SIDE, SIZES_PER_OCTAVE, measures
from faceaudit.audit.intervals import Bounds, generator_for, normal_quantile
from faceaudit.audit.measure import EVERY_METRIC
from faceaudit.audit.metrics import Metric, Values
from faceaudit.audit.paired_rows import common_tasks
from faceaudit.audit.rates import RATES
from faceaudit.audit.results import Audit, Estimate, Subgroup
from faceaudit.audit.run import audit
from faceaudit.audit.simultaneous import Pairs, holm, two_sided
from faceaudit.audit.subgroups import Feature, chosen_features, find_features, find_groupings
from faceaudit.audit.tally import CONFIDENCE_BINS, CellCounts, Tally, cut, tally
from faceaudit.errors import SchemaError
from faceaudit.schema import AGE, Task
from faceaudit.tables import STATUS, PredictionTable

Source = PredictionTable | Tally
OF_TASKS: tuple[What, ...] = ("annotated", "predicted", "confidence")
NO_VALUE = "no value in one of the tables, or no interval"
ALIKE = "no interval: all are of one class"
NO_FACES = "no faces to compare in one of the tables"
Key = tuple[str, str, str | None, tuple[str, ...], frozenset[tuple[str, str]], Failures]


@dataclass(frozen=True)
class Sides:
    """What is known of one table: its tally, its audit, and measures of its images."""

    counted: Tally
    audit: Audit
    measures: Mapping[str, NDArray[np.int64]]
    """Histograms (blocks, bins) by name."""


def compare_drift(
    first: Source,
    second: Source,
    *,
    by: Sequence[str] | None = None,
    unit: str | None = None,
    min_n: int = 30,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Changes:
    """Everything in which two tables of different images differ.

    Costs an audit of either table; distances cost ``replicates`` draws of counts each, whatever the
    number of rows.

    Args:
        first: The table, or its tally, to compare with.
        second: The one that is compared.
        by: Sensitive features; None takes those that both have.
        unit: A column whose values name rows that are not independent.
        min_n: Subgroups with fewer faces are shown, and no change is claimed of them.
        confidence: Of the intervals, and of the families of tests.
        replicates: Draws of distances, and of the audits.
        seed: Of both.

    Raises:
        SchemaError: If tasks or units do not fit together.
    """
    names = _shared_features(first, second, by)
    tasks = common_tasks(first, second)
    sides = [
        _side(one, names, unit, min_n, confidence, replicates, seed) for one in (first, second)
    ]
    if sides[0].counted.unit != sides[1].counted.unit:
        raise SchemaError(_other_units((first, second), [side.counted.unit for side in sides]))
    groupings = find_groupings(chosen_features(sides[0].counted.features, names))
    drawing = _Drawing(sides[0], sides[1], replicates, seed, min_n, confidence)
    return Changes(
        mode="drift",
        tasks=tuple(tasks),
        by=groupings,
        images=(sides[0].audit.images, sides[1].audit.images),
        labelled={
            task: min(n, sides[1].audit.labelled.get(task, 0))
            for task, n in sides[0].audit.labelled.items()
        },
        changes=tuple(_changes(sides, tasks, Options(min_n, confidence))),
        distances=tuple(_distances(drawing, tasks, groupings)),
        notes=tuple(dict.fromkeys(_notes(sides))),
        options={
            "by": names,
            "unit": sides[0].counted.unit,
            "min_n": min_n,
            "confidence": confidence,
            "replicates": replicates,
            "seed": seed,
        },
    )


def _other_units(given: tuple[Source, Source], units: Sequence[str | None]) -> str:
    """That two units do not fit together, and what would."""
    kinds = ["tally" if isinstance(one, Tally) else "table" for one in given]
    told = (
        f"the first, a {kinds[0]}, has the unit {units[0] or 'none'}, the second, a {kinds[1]}, "
        f"{units[1] or 'none'}"
    )
    if "table" in kinds:
        # A table has the unit that is asked for, and so has a tally, or it is refused.
        return f"{told}; give --unit {next(unit for unit in units if unit is not None)}"
    return f"{told}; make both with the same --unit"


def _notes(sides: Sequence[Sides]) -> Iterator[str]:
    """What a reader must know of the tables and how they were cut."""
    for side in sides:
        yield from (note for table in side.counted.tables for note in table.notes)
    unit = sides[0].counted.unit
    if unit is not None:
        yield f"Faces and images of one {unit} are not taken as independent."
    for feature in sides[0].counted.features:
        if feature.predicted:
            yield (
                f"Subgroups by {feature.name} are formed by predictions: where the models differ, "
                "so do the subgroups."
            )


def _shared_features(first: Source, second: Source, by: Sequence[str] | None) -> list[str]:
    found = [_features(one, by) for one in (first, second)]
    theirs = {feature.name for feature in found[1]}
    return [feature.name for feature in found[0] if feature.name in theirs]


def _features(one: Source, by: Sequence[str] | None) -> tuple[Feature, ...]:
    return chosen_features(one.features, by) if isinstance(one, Tally) else find_features(one, by)


def _side(
    one: Source,
    names: Sequence[str],
    unit: str | None,
    min_n: int,
    confidence: float,
    replicates: int,
    seed: int,
) -> Sides:
    found = audit(
        one,
        by=names,
        unit=unit,
        min_n=min_n,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        verify="never",
    )
    if isinstance(one, Tally):
        return Sides(one, found, {})
    return Sides(tally(one, find_features(one, names), unit=unit), found, measures(one, unit))


# --- figures of both --------------------------------------------------------------------------


def _changes(sides: Sequence[Sides], tasks: Sequence[Task], options: Options) -> Iterator[Change]:
    """Differences of the figures that both audits have, family by family."""
    known = {task.name for task in tasks}
    metrics = {metric.name: metric for metric in (*EVERY_METRIC, *RATES)}
    theirs = dict(_figures(sides[1].audit))
    degrees = [_degrees(side) for side in sides]
    families: dict[tuple[str, str, tuple[str, ...], Failures], list[Both]] = {}
    for key, estimate, subgroup in _figures_with_subgroups(sides[0].audit):
        task, metric, label, by, cell, failures = key
        if key in theirs and (task in known or task in {"", AGE}):
            freedom = (degrees[0].get(cell, math.inf), degrees[1].get(cell, math.inf))
            both = Both(subgroup, label, (estimate, theirs[key]), freedom)
            families.setdefault((task, metric, by, failures), []).append(both)
    for (task, metric, by, failures), found in families.items():
        family = unpaired(metrics[metric], task, by, found, options.confidence)
        yield from judge(replace(family, failures=failures), options.min_n, options.confidence)


def _degrees(side: Sides) -> dict[frozenset[tuple[str, str]], float]:
    """Degrees of freedom of the spread in every subgroup of a table with units."""
    if side.counted.unit is None:
        return {}
    cuts = [cut(side.counted, by) for by in ((), *side.audit.by)]
    return {
        frozenset(subgroup.items()): degrees
        for cells in cuts
        for subgroup, degrees in zip(cells.subgroups, degrees_of(side.counted, cells), strict=True)
    }


def _figures(found: Audit) -> Iterator[tuple[Key, Estimate]]:
    for key, estimate, _ in _figures_with_subgroups(found):
        yield key, estimate


def _figures_with_subgroups(found: Audit) -> Iterator[tuple[Key, Estimate, Subgroup]]:
    """Everything with an estimate: failures, predicted shares, metrics."""
    groupings = {frozenset(by): by for by in ((), *found.by)}

    def key(
        task: str,
        metric: str,
        label: str | None,
        subgroup: Subgroup,
        failures: Failures = "left out",
    ) -> Key:
        by = groupings[frozenset(subgroup)]
        return task, metric, label, by, frozenset(subgroup.items()), failures

    for coverage in found.coverage:
        where = key("", FAILURE_RATE, None, coverage.subgroup)
        yield where, coverage.failure_rate, coverage.subgroup
    for share in found.composition:
        where = key(share.task, PREDICTED_SHARE, share.label, share.subgroup)
        yield where, share.share, share.subgroup
    for value in found.metrics:
        where = key(value.task, value.metric, value.label, value.subgroup)
        yield where, value.estimate, value.subgroup
    for both in found.with_failures:
        where = key(both.task, both.metric, both.label, both.subgroup, "errors")
        yield where, both.with_failures, both.subgroup


@dataclass(frozen=True)
class Both:
    """A figure in both tables."""

    subgroup: Subgroup
    label: str | None
    estimates: tuple[Estimate, Estimate]
    degrees: tuple[float, float] = (math.inf, math.inf)
    """Of freedom of either one's spread; infinite without units."""


def unpaired(
    metric: Metric, task: str, by: tuple[str, ...], found: Sequence[Both], confidence: float
) -> Family:
    """A family of differences between independent figures, from their own intervals.

    They are made of the same limits as those of subgroups (see ``simultaneous``).

    Args:
        metric: The metric.
        task: Its task.
        by: The grouping.
        found: The figure in every subgroup and class.
        confidence: Of the estimates' intervals.
    """
    sides = [[one.estimates[k] for one in found] for k in range(2)]
    n = [np.array([one.n for one in side], np.float64) for side in sides]
    degrees = [one.degrees[k] for k in range(2) for one in found]
    figures = figures_of(metric, [*sides[0], *sides[1]], degrees, confidence)
    first = np.arange(len(found))
    pairs = Pairs(figures, first + len(found), first)
    none = np.isnan(pairs.standard_errors)

    def bounds(wanted: float) -> Bounds:
        low, high = pairs.bounds(normal_quantile(wanted))
        return np.where(none, np.nan, low), np.where(none, np.nan, high)

    family = Family(
        task,
        metric.name,
        by,
        metric.better,
        [(one.subgroup, one.label) for one in found],
        np.minimum(*n),
        figures.values[: len(found)],
        figures.values[len(found) :],
        np.where(none, np.nan, two_sided(pairs.from_zero)),
        bounds,
        NO_VALUE,
        sides=(n[0], n[1]),
    )
    return without_claims(family, metric.incomparable) if metric.incomparable else family


# --- distributions ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Drawing:
    """Both sides, and how distances are drawn and judged."""

    first: Sides
    second: Sides
    replicates: int
    seed: int
    min_n: int
    confidence: float

    def distance(
        self,
        what: What,
        name: str,
        subgroup: Subgroup,
        counts: tuple[NDArray[np.int64], NDArray[np.int64]],
        centers: Values | None = None,
    ) -> Distance:
        """One distance, not yet judged; counts are (B, K)."""
        n = int(counts[0].sum()), int(counts[1].sum())
        small = min(n) < self.min_n
        empty = Distance(
            what, name, subgroup, *n, *(None,) * 8, shifted=False, small=small, reason=NO_FACES
        )
        if not min(n):
            return empty
        generator = generator_for(self.seed, f"{what} {name}", subgroup)
        samples = TwoSamples(*counts, self.replicates, generator, centers is not None)
        value, low, high = samples.cross_fitted(self.confidence)
        alike = int((samples.sides.sum(axis=0) > 0).sum()) < 2
        medians = None
        if centers is not None:
            medians = (
                _median(counts[0].sum(axis=0), centers),
                _median(counts[1].sum(axis=0), centers),
            )
        return replace(
            empty,
            total_variation=value,
            low=None if alike else low,
            high=None if alike else high,
            psi=samples.psi,
            ks=samples.ks,
            medians=medians,
            p_value=samples.p_value,
            reason=ALIKE if alike else None,
        )


def _distances(
    drawing: _Drawing, tasks: Sequence[Task], groupings: Sequence[tuple[str, ...]]
) -> Iterator[Distance]:
    """All distances, judged within one kind, one name and one grouping."""
    for by in groupings:
        yield from _judged([_of_subgroups(drawing, by)], drawing)
    for by in [(), *groupings]:
        yield from _judged(_of_statuses(drawing, by), drawing)
        for task in tasks:
            if task.name in by or f"{task.name}_true" in by:
                continue
            for what in OF_TASKS:
                yield from _judged(_of_task(drawing, what, task, by), drawing)
    for name in drawing.first.measures:
        if name in drawing.second.measures:
            yield from _judged([_of_measure(drawing, name)], drawing)


def _judged(found: Iterable[Distance], drawing: _Drawing) -> list[Distance]:
    distances = list(found)
    tested = [k for k, one in enumerate(distances) if one.p_value is not None and not one.small]
    adjusted = holm(np.array([distances[k].p_value for k in tested], np.float64))
    for k, p_value in zip(tested, adjusted, strict=True):
        distances[k] = replace(
            distances[k],
            p_adjusted=float(p_value),
            shifted=bool(p_value < 1 - drawing.confidence),
        )
    return distances


def _of_subgroups(drawing: _Drawing, by: tuple[str, ...]) -> Distance:
    """Shares of the subgroups of a grouping among the images."""
    sides = []
    for side in (drawing.first, drawing.second):
        cells = cut(side.counted, by, missing=NOT_ANNOTATED)
        sides.append(
            {
                tuple(one.values()): cells.blocks(side.counted.images, index).sum(axis=-1)
                for index, one in enumerate(cells.subgroups)
            }
        )
    first, second = (_columns(side, sorted({**sides[0], **sides[1]})) for side in sides)
    return drawing.distance("subgroups", ", ".join(by), {}, (first, second))


def _of_statuses(drawing: _Drawing, by: tuple[str, ...]) -> Iterator[Distance]:
    counted = drawing.first.counted, drawing.second.counted
    statuses = sorted({*counted[0].statuses, *counted[1].statuses})
    for subgroup, *images in _aligned(drawing, by, lambda side: side.images):
        first, second = (
            _columns(dict(zip(side.statuses, blocks.T, strict=True)), statuses)
            for side, blocks in zip(counted, images, strict=True)
        )
        yield drawing.distance("status", STATUS, subgroup, (first, second))


def _columns(side: Mapping[Any, NDArray[np.int64]], keys: Sequence[Any]) -> NDArray[np.int64]:
    """Counts by block under each key, (B, keys); 0 where a side has not the key."""
    none = np.zeros_like(next(iter(side.values())))
    return np.stack([side.get(key, none) for key in keys], axis=1)


def _of_task(drawing: _Drawing, what: What, task: Task, by: tuple[str, ...]) -> Iterator[Distance]:
    def counts_of(side: Tally) -> CellCounts | None:
        kind = "confusion" if what == "annotated" else what
        return side.numbers[kind].get(task.name)

    centers = (np.arange(CONFIDENCE_BINS) + 0.5) / CONFIDENCE_BINS if what == "confidence" else None
    for subgroup, first, second in _aligned(drawing, by, counts_of):
        both = (first, second)
        if what == "annotated":
            both = first.sum(axis=-1), second.sum(axis=-1)
        yield drawing.distance(what, task.name, subgroup, both, centers)


def _of_measure(drawing: _Drawing, name: str) -> Distance:
    first, second = drawing.first.measures[name], drawing.second.measures[name]
    steps = np.arange(first.shape[1]) + 0.5
    sizes = np.exp2(steps / SIZES_PER_OCTAVE) if name == SHORTER_SIDE else steps / CONFIDENCE_BINS
    return drawing.distance("measure", name, {}, (first, second), sizes)


def _aligned(
    drawing: _Drawing, by: tuple[str, ...], counts_of: Callable[[Tally], CellCounts | None]
) -> Iterator[tuple[Subgroup, NDArray[np.int64], NDArray[np.int64]]]:
    """Counts by block, (B, ...), of the subgroups that both tables have."""
    found: list[dict[tuple[str, ...], tuple[Subgroup, NDArray[np.int64]]]] = []
    for side in (drawing.first.counted, drawing.second.counted):
        counts = counts_of(side)
        if counts is None:
            return
        cells = cut(side, by)
        found.append(
            {
                tuple(one.values()): (one, cells.blocks(counts, index))
                for index, one in enumerate(cells.subgroups)
            }
        )
    for key, (subgroup, mine) in found[0].items():
        if key in found[1]:
            yield subgroup, mine, found[1][key][1]


def _median(counts: NDArray[np.int64], centers: Values) -> float:
    return float(centers[np.searchsorted(counts.cumsum(), counts.sum() / 2)])
