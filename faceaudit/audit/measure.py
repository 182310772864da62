"""Every metric in the subgroups of a grouping: numbers of a tally to values with intervals."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.age import AGE_METRICS, share_of_marks
from faceaudit.audit.bounds import ScoreCounts
from faceaudit.audit.estimates import Options, estimate
from faceaudit.audit.metrics import (
    METRICS,
    Metric,
    Need,
    Values,
    auc_bound,
    average_precision_bound,
)
from faceaudit.audit.reliability import find_reliability, without_scores
from faceaudit.audit.results import MetricValue, Reliability, RocCurve, Subgroup
from faceaudit.audit.scores import ScoreRows, roc_points, score_counts, told_correlations
from faceaudit.audit.tally import CellCounts, Cut, Numbers, Tally, YearErrors
from faceaudit.schema import AGE, Task

EVERY_METRIC: tuple[Metric, ...] = (*METRICS, *AGE_METRICS)
CHUNK = 24
"""Subgroups whose numbers are held in memory at a time."""


@dataclass(frozen=True)
class _Places:
    """A task in some subgroups of one grouping."""

    task: str
    classes: tuple[str, ...]
    subgroups: Sequence[Subgroup]
    metrics: Sequence[Metric]
    own_class: bool = False
    """Whether the subgroups are formed by the task's own annotated classes."""

    def asks(self, *needs: Need) -> bool:
        """Whether any metric is computed from one of these."""
        return any(metric.needs in needs for metric in self.metrics)


@dataclass
class Measured:
    """Figures as they are found."""

    values: list[MetricValue] = field(default_factory=list)
    curves: list[RocCurve] = field(default_factory=list)
    reliability: list[Reliability] = field(default_factory=list)
    bounds: dict[str, float] = field(default_factory=dict)
    """How far figures from histograms of scores can be off at most, by the figure's name."""

    def extend(self, other: Measured) -> None:
        self.values += other.values
        self.curves += other.curves
        self.reliability += other.reliability
        for name, bound in other.bounds.items():
            self.bounds[name] = max(bound, self.bounds.get(name, 0.0))


def measure(
    counted: Tally,
    cells: Cut,
    rows: Mapping[str, ScoreRows],
    options: Options,
    metrics: Sequence[Metric] | None = None,
    task: str | None = None,
) -> Measured:
    """Metrics in the subgroups of one grouping, with ROC curves and bins of confidence.

    Args:
        counted: The tally.
        cells: The grouping.
        rows: Task -> scores row by row, where the table fits.
        options: Confidence and what is asked for.
        metrics: Which; None takes every one.
        task: Of which task, or ``age``; None takes every one.
    """
    chosen = (*EVERY_METRIC, *options.also) if metrics is None else tuple(metrics)
    tasks = {*(one.name for one in counted.tasks), AGE} if task is None else {task}
    years = _Years.of(counted, chosen) if AGE in tasks and counted.errors.any() else None
    found = Measured()
    for start in range(0, len(cells.subgroups), CHUNK):
        chunk = range(start, min(start + CHUNK, len(cells.subgroups)))
        measured = _measure_chunk(counted, cells, chunk, rows, options, chosen, tasks, years)
        # Everything of a subgroup together, in the order in which it was found.
        order = {id(cells.subgroups[index]): index for index in chunk}
        measured.values.sort(key=lambda value: order[id(value.subgroup)])
        found.extend(measured)
    return found


def _measure_chunk(
    counted: Tally,
    cells: Cut,
    chunk: Sequence[int],
    rows: Mapping[str, ScoreRows],
    options: Options,
    metrics: Sequence[Metric],
    tasks: Container[str],
    years: _Years | None,
) -> Measured:
    found = Measured()
    subgroups = [cells.subgroups[index] for index in chunk]
    own = {
        feature.column.removesuffix("_true")
        for feature in counted.features
        if feature.name in cells.by and feature.column.endswith("_true")
    }
    part = _Part(counted, cells, chunk)
    for task in counted.tasks:
        if task.name not in tasks or task.name not in counted.confusion:
            continue
        places = _Places(task.name, task.classes, subgroups, metrics, task.name in own)
        if places.asks("classes", "groups"):
            found.values += _measure_classes(part, task, places, options)
        if task.name in counted.scores:
            found.extend(_measure_probabilities(part, task, rows.get(task.name), places, options))
        elif places.asks("calibration"):
            found.reliability += without_scores(task.name, subgroups)
    if years is not None:
        places = _Places(AGE, (), subgroups, metrics)
        found.values += _measure_years(part, years, places, options)
    return found


def _measure_probabilities(
    part: _Part, task: Task, rows: ScoreRows | None, places: _Places, options: Options
) -> Measured:
    found = Measured()
    if places.asks("scores"):
        found.extend(_measure_scores(part, task, rows, places, options))
    if places.asks("losses"):
        losses = part.of(part.counted.losses[task.name])
        found.values += _values(places, np.stack(losses.each), "losses", options, losses.blocks)
    if places.asks("calibration"):
        found.extend(_measure_calibration(part, places, options))
    return found


@dataclass(frozen=True)
class _Read:
    """Numbers of some subgroups, whole and, with units, by block."""

    each: Sequence[Numbers]
    blocks: Sequence[Numbers] | None


@dataclass(frozen=True)
class _Part:
    """Some subgroups of a grouping."""

    counted: Tally
    cells: Cut
    chunk: Sequence[int]

    def of(self, counts: CellCounts) -> _Read:
        return _Read(
            [self.cells.one(counts, index) for index in self.chunk], self.blocks_of(counts)
        )

    def blocks_of(self, counts: CellCounts) -> Sequence[Numbers] | None:
        """By block, without the blocks of which a subgroup has nothing."""
        if self.counted.unit is None:
            return None
        every = [self.cells.blocks(counts, index) for index in self.chunk]
        return [blocks[_occupied(blocks)] for blocks in every]


def _occupied(blocks: Numbers) -> NDArray[np.bool_]:
    """Which blocks hold anything, (B,); the first where none does."""
    kept = np.asarray(blocks.reshape(len(blocks), -1).any(axis=1))
    kept[0] |= not kept.any()
    return kept


def _measure_classes(
    part: _Part, task: Task, places: _Places, options: Options
) -> Iterator[MetricValue]:
    confusions = part.of(part.counted.confusion[task.name])
    counts = np.stack(confusions.each)
    yield from _values(places, counts, "classes", options, confusions.blocks)
    if task.ordinal:
        yield from _values(places, counts, "groups", options, confusions.blocks)


def _measure_scores(
    part: _Part, task: Task, rows: ScoreRows | None, places: _Places, options: Options
) -> Measured:
    scores, correlations = _scores_of(part, task, rows, several=not places.own_class)
    counted = part.counted
    blocks = part.blocks_of(counted.coarse_scores[task.name]) if counted.unit else None
    counts = ScoreCounts(scores, correlations)
    found = Measured(list(_values(places, counts, "scores", options, blocks)))
    if places.own_class:
        return found
    if len(places.subgroups[0]) < 2 and "auc" in {metric.name for metric in places.metrics}:
        found.curves += _curves(places, scores, found.values)
    if rows is None:
        for one in scores:
            found.extend(Measured(bounds=_score_bounds(one, options.min_n)))
    return found


def _scores_of(
    part: _Part, task: Task, rows: ScoreRows | None, *, several: bool
) -> tuple[list[Numbers], dict[str, Values]]:
    """Faces by score, and how the figures of several classes vary together, (S, K, K)."""
    scores, each = [], []
    for index in part.chunk:
        if rows is None:
            scores.append(score_counts(task, part.counted, None, part.cells, index))
            confusion = part.cells.one(part.counted.confusion[task.name], index)
            if several:
                each.append(told_correlations(scores[-1], confusion))
            continue
        ranks = rows.ranks(part.cells, index)
        scores.append(ranks.counts)
        if several:
            each.append(ranks.correlations)
    names = each[0] if each else {}
    return scores, {name: np.stack([one[name] for one in each]) for name in names}


def _measure_calibration(part: _Part, places: _Places, options: Options) -> Measured:
    bins = part.of(part.counted.calibration[places.task])
    counts = np.stack(bins.each)
    reliability = find_reliability(
        places.task,
        places.subgroups,
        counts,
        options,
        own_class=places.own_class,
        blocks=bins.blocks,
    )
    values = _values(places, counts, "calibration", options, bins.blocks)
    return Measured(list(values), reliability=list(reliability))


@dataclass(frozen=True)
class _Years:
    """What metrics of years need of a tally, reduced before it is spread over subgroups."""

    errors: CellCounts
    """Faces by error, (ERROR_BINS,)."""
    sums: CellCounts
    """Sums of powers of the errors, (POWERS,)."""
    marked: Mapping[str, CellCounts]
    """Metric of ``ages`` -> faces that count and hits, (2,)."""

    @classmethod
    def of(cls, counted: Tally, metrics: Sequence[Metric]) -> _Years:
        """Those of a tally, for some metrics."""
        return cls(
            counted.errors.without(0),
            counted.error_sums.without(0),
            {one.name: counted.ages.marked(one.marks()) for one in metrics if one.marks},
        )


def _measure_years(
    part: _Part, years: _Years, places: _Places, options: Options
) -> Iterator[MetricValue]:
    each = [
        [part.cells.one(counts, index) for counts in (years.errors, years.sums)]
        for index in part.chunk
    ]
    counts = YearErrors(*(np.stack(one) for one in zip(*each, strict=True)))
    blocks = None
    if part.counted.unit is not None:
        both = (
            [part.cells.blocks(counts, index) for counts in (years.errors, years.sums)]
            for index in part.chunk
        )
        blocks = [
            YearErrors(*(one[_occupied(errors)] for one in (errors, sums))) for errors, sums in both
        ]
    yield from _values(places, counts, "years", options, blocks)
    for name, marked in years.marked.items():
        metrics = [share_of_marks(one) for one in places.metrics if one.name == name]
        found = part.of(marked)
        alone = replace(places, metrics=metrics)
        yield from _values(alone, np.stack(found.each), "ages", options, found.blocks)


def _score_bounds(scores: Numbers, min_n: int) -> dict[str, float]:
    """The largest bounds over the classes that have enough faces on either side."""
    ranked = scores[(scores.sum(axis=-1) >= min_n).all(axis=-1)]
    if not len(ranked):
        return {}
    return {
        "AUC": float(np.max(auc_bound(ranked))),
        "average precision": float(np.max(average_precision_bound(ranked))),
    }


def _values(
    places: _Places,
    counts: object,
    needs: Need,
    options: Options,
    blocks: Sequence[object] | None = None,
) -> Iterator[MetricValue]:
    for metric in places.metrics:
        if metric.needs != needs:
            continue
        found = estimate(metric, counts, options, own_class=places.own_class, blocks=blocks)
        labels: Sequence[str | None] = places.classes if metric.per_class else (None,)
        where = product(places.subgroups, labels)
        for (subgroup, label), one in zip(where, found, strict=True):
            yield MetricValue(
                places.task, metric.name, subgroup, one, label, small=one.n < options.min_n
            )


def _curves(
    places: _Places, scores: Sequence[Numbers], found: Sequence[MetricValue]
) -> Iterator[RocCurve]:
    areas = [value.estimate for value in found if value.metric == "auc"]
    where = product(zip(places.subgroups, scores, strict=True), enumerate(places.classes))
    for ((subgroup, counts), (k, label)), area in zip(where, areas, strict=True):
        if area.value is not None:
            falls, rises = roc_points(counts[k])
            yield RocCurve(places.task, label, subgroup, falls, rises, area)
