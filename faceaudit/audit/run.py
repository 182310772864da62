"""The audit: one table of predictions to everything that was found in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal

import numpy as np

from faceaudit.audit.age import AGE_METRICS, age_metric
from faceaudit.audit.clusters import FEW_BLOCKS
from faceaudit.audit.conditioned import condition_age
from faceaudit.audit.coverage import find_composition, find_coverage
from faceaudit.audit.disparity import find_disparity
from faceaudit.audit.estimates import (
    ClassCounts,
    Options,
    ScoreCounts,
    calibration_counts,
    class_counts,
    estimate,
)
from faceaudit.audit.fairness import named_disparities, over_geometric_mean
from faceaudit.audit.metrics import (
    METRICS,
    Metric,
    Need,
    auc_bound,
    average_precision_bound,
)
from faceaudit.audit.results import (
    Audit,
    Confusion,
    Disparity,
    MetricValue,
    RocCurve,
    Subgroup,
)
from faceaudit.audit.scores import (
    EXACT_ROWS,
    ScoreRows,
    read_scores,
    roc_points,
    score_counts,
)
from faceaudit.audit.subgroups import Feature, chosen_features, find_features, find_groupings
from faceaudit.audit.tally import CellCounts, Cut, Numbers, Tally, YearErrors, cut, tally
from faceaudit.audit.verify import VERIFY_ROWS, verify_audit
from faceaudit.errors import UsageError
from faceaudit.schema import AGE, Task
from faceaudit.tables import PredictionTable

EVERY_METRIC: tuple[Metric, ...] = (*METRICS, *AGE_METRICS)
Verify = Literal["auto", "always", "never"]
CHUNK = 24
"""Subgroups whose replicates are held in memory at a time."""


def audit(
    table: PredictionTable | Tally,
    *,
    by: Sequence[str] | None = None,
    unit: str | None = None,
    min_n: int = 30,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    verify: Verify = "auto",
    also: Sequence[str] = (),
) -> Audit:
    """Everything that is found in a table of predictions.

    Args:
        table: The table, as ``tables.read_table`` opens it, or its tally.
        by: Sensitive features; None takes every annotated one of gender and race, and of a tally
            all that it has. Each is cut alone, and all of them together.
        unit: A column whose values (a person, a prompt) name rows that are not independent.
        min_n: Subgroups with fewer faces are shown and marked, and not ranked.
        confidence: Of all intervals.
        replicates: Number of replicates, where an interval needs them.
        seed: Of the replicates.
        verify: Whether to recompute the figures with scikit-learn and fairlearn; ``auto`` does up
            to ``VERIFY_ROWS`` rows. A tally has no rows to recompute from.
        also: Further metrics by name, such as ``cs_at_3`` or ``challenge_30_fpr``.

    Raises:
        UsageError: If an option cannot work.
        SchemaError: If the table cannot be cut as asked.
    """
    _check_options(min_n, confidence, replicates, seed)
    options = Options(min_n, confidence, replicates, seed, tuple(map(age_metric, also)))
    if isinstance(table, Tally):
        _check_tally(table, unit, verify)
        return _audited(table, chosen_features(table.features, by), {}, options, verify)
    features = find_features(table, by)
    counted = tally(table, features, unit=unit)
    found = _audited(counted, features, _score_rows(table, features), options, verify)
    if verify == "always" or (verify == "auto" and table.rows <= VERIFY_ROWS):
        return replace(found, verification=verify_audit(table, features, found))
    return found


def _audited(
    counted: Tally,
    features: Sequence[Feature],
    rows: Mapping[str, ScoreRows],
    options: Options,
    verify: Verify,
) -> Audit:
    """Everything but the verification, from a tally and the scores of a table that fits."""
    groupings = find_groupings(features)
    measured = _Measured()
    disparities: list[Disparity] = []
    for grouping in [(), *groupings]:
        found = _measure(counted, cut(counted, grouping), rows, options)
        measured.extend(found)
        if grouping:
            disparities += _disparities(grouping, found.values, options)
    conditioned, age_notes = condition_age(counted, groupings, options)
    table_notes = [note for table in counted.tables for note in table.notes]
    return Audit(
        tasks=counted.tasks,
        by=groupings,
        rows=counted.rows,
        images=int(cut(counted, ()).one(counted.images, 0).sum()),
        labelled=_labelled(counted),
        coverage=tuple(find_coverage(counted, groupings, options.confidence)),
        metrics=tuple(measured.values),
        disparities=tuple(disparities),
        conditioned_age=tuple(conditioned),
        confusions=tuple(_confusions(counted, groupings)),
        roc_curves=tuple(measured.curves),
        composition=tuple(find_composition(counted, groupings, options.confidence)),
        notes=tuple(
            dict.fromkeys([*table_notes, *_notes(counted, features, measured.bounds), *age_notes])
        ),
        options={
            "by": [feature.name for feature in features],
            "unit": counted.unit,
            "min_n": options.min_n,
            "confidence": options.confidence,
            "replicates": options.replicates,
            "seed": options.seed,
            "verify": verify,
        },
    )


def _check_options(min_n: int, confidence: float, replicates: int, seed: int) -> None:
    if not 0 < confidence < 1:
        raise UsageError(f"--confidence {confidence}: give a share between 0 and 1, such as 0.95")
    if replicates < 100:
        raise UsageError(f"--replicates {replicates}: give at least 100; 2000 is the default")
    if min_n < 1:
        raise UsageError(f"--min-n {min_n}: give at least 1; 30 is the default")
    if seed < 0:
        raise UsageError(f"--seed {seed}: give 0 or more; 0 is the default")


def _check_tally(counted: Tally, unit: str | None, verify: Verify) -> None:
    if verify == "always":
        raise UsageError("--verify always: a tally holds no rows to recompute; give the table")
    if unit is not None and unit != counted.unit:
        has = f"was made with --unit {counted.unit}" if counted.unit else "was made without --unit"
        raise UsageError(f"--unit {unit}: the tally {has}; make it again from the table")


def _score_rows(table: PredictionTable, features: Sequence[Feature]) -> Mapping[str, ScoreRows]:
    """Scores row by row, of a table that fits; empty for a larger one."""
    if table.rows > EXACT_ROWS:
        return {}
    tasks = [task for task in table.tasks if task.name in table.scored & table.annotated]
    return read_scores(table, features, tasks)


def _labelled(counted: Tally) -> dict[str, int]:
    everybody = cut(counted, ())
    faces = {
        task.name: int(everybody.one(counted.confusion[task.name], 0).sum())
        if task.name in counted.confusion
        else 0
        for task in counted.tasks
    }
    years = int(everybody.one(counted.errors, 0).sum())
    return {**faces, AGE: years} if years else faces


def _confusions(counted: Tally, groupings: Sequence[tuple[str, ...]]) -> Iterator[Confusion]:
    tasks = [task for task in counted.tasks if task.name in counted.confusion]
    for by in [(), *groupings]:
        cells = cut(counted, by)
        for task in tasks:
            every = cells.of(counted.confusion[task.name])
            for subgroup, counts in zip(cells.subgroups, every, strict=True):
                yield Confusion(task, subgroup, counts)


# --- metrics ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Places:
    """A task in some subgroups of one grouping."""

    task: str
    classes: tuple[str, ...]
    subgroups: Sequence[Subgroup]
    own_class: bool = False
    """Whether the subgroups are formed by the task's own annotated classes."""


@dataclass
class _Measured:
    """Figures as they are found."""

    values: list[MetricValue] = field(default_factory=list)
    curves: list[RocCurve] = field(default_factory=list)
    bounds: dict[str, float] = field(default_factory=dict)
    """How far figures from histograms of scores can be off at most, by the figure's name."""

    def extend(self, other: _Measured) -> None:
        self.values += other.values
        self.curves += other.curves
        for name, bound in other.bounds.items():
            self.bounds[name] = max(bound, self.bounds.get(name, 0.0))


def _measure(
    counted: Tally, cells: Cut, rows: Mapping[str, ScoreRows], options: Options
) -> _Measured:
    """Every metric of every task in the subgroups of one grouping, and ROC curves."""
    found = _Measured()
    for start in range(0, len(cells.subgroups), CHUNK):
        chunk = range(start, min(start + CHUNK, len(cells.subgroups)))
        measured = _measure_chunk(counted, cells, chunk, rows, options)
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
) -> _Measured:
    found = _Measured()
    subgroups = [cells.subgroups[index] for index in chunk]
    own = {
        feature.column.removesuffix("_true")
        for feature in counted.features
        if feature.name in cells.by and feature.column.endswith("_true")
    }
    part = _Part(counted, cells, chunk)
    for task in counted.tasks:
        if task.name not in counted.confusion:
            continue
        places = _Places(task.name, task.classes, subgroups, task.name in own)
        found.values += _measure_classes(part, task, places, options)
        if task.name in counted.scores:
            found.extend(_measure_scores(part, task, rows.get(task.name), places, options))
            losses = part.of(counted.losses[task.name])
            found.values += _values(places, np.stack(losses.each), "losses", options, losses.blocks)
            found.values += _measure_calibration(part, places, options)
    if counted.errors.any():
        found.values += _measure_years(part, _Places(AGE, (), subgroups), options)
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
        if self.counted.unit is None:
            return None
        return [self.cells.blocks(counts, index) for index in self.chunk]


def _measure_classes(
    part: _Part, task: Task, places: _Places, options: Options
) -> Iterator[MetricValue]:
    confusions = part.of(part.counted.confusion[task.name])
    counts = ClassCounts.of(
        [
            class_counts(confusion, task.name, subgroup, options)
            for confusion, subgroup in zip(confusions.each, places.subgroups, strict=True)
        ]
    )
    yield from _values(places, counts, "classes", options, confusions.blocks)
    if task.ordinal:
        yield from _values(places, counts, "groups", options, confusions.blocks)


def _measure_scores(
    part: _Part, task: Task, rows: ScoreRows | None, places: _Places, options: Options
) -> _Measured:
    counted, cells = part.counted, part.cells
    scores = [score_counts(task, counted, rows, cells, index) for index in part.chunk]
    blocks = part.blocks_of(counted.coarse_scores[task.name]) if counted.unit else None
    found = _Measured(list(_values(places, ScoreCounts(scores), "scores", options, blocks)))
    if places.own_class:
        return found
    if len(places.subgroups[0]) < 2:
        found.curves += _curves(places, scores, found.values)
    if rows is None:
        for one in scores:
            found.extend(_Measured(bounds=_score_bounds(one, options.min_n)))
    return found


def _measure_calibration(part: _Part, places: _Places, options: Options) -> Iterator[MetricValue]:
    bins = part.of(part.counted.calibration[places.task])
    counts = ClassCounts.of(
        [
            calibration_counts(one, places.task, subgroup, options)
            for one, subgroup in zip(bins.each, places.subgroups, strict=True)
        ]
    )
    return _values(places, counts, "calibration", options, bins.blocks)


def _measure_years(part: _Part, places: _Places, options: Options) -> Iterator[MetricValue]:
    errors, sums = part.of(part.counted.errors), part.of(part.counted.error_sums)
    years = YearErrors(
        np.stack([one.sum(axis=0) for one in errors.each]),
        np.stack([one.sum(axis=0) for one in sums.each]),
    )
    blocks = None
    if errors.blocks is not None and sums.blocks is not None:
        blocks = [
            YearErrors(one.sum(axis=1), powers.sum(axis=1))
            for one, powers in zip(errors.blocks, sums.blocks, strict=True)
        ]
    yield from _values(places, years, "years", options, blocks)
    ages = part.of(part.counted.ages)
    yield from _values(places, np.stack(ages.each), "ages", options, ages.blocks)


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
    for metric in (*EVERY_METRIC, *options.also):
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


def _disparities(
    by: tuple[str, ...], values: Sequence[MetricValue], options: Options
) -> list[Disparity]:
    """One disparity per task, metric and class of a grouping, and the named ones."""
    metrics = {metric.name: metric for metric in (*EVERY_METRIC, *options.also)}
    together: dict[tuple[str, str, str | None], list[MetricValue]] = {}
    for value in values:
        together.setdefault((value.task, value.metric, value.label), []).append(value)
    plain = [
        replace(
            find_disparity(metrics[name], by, found, min_n=options.min_n),
            over_geometric_mean=over_geometric_mean(metrics[name], found, options.min_n),
        )
        for (_, name, _), found in together.items()
    ]
    return [*plain, *named_disparities(plain)]


def _notes(
    counted: Tally, features: Sequence[Feature], bounds: Mapping[str, float]
) -> Iterator[str]:
    """Warnings that belong to how the table was cut and counted."""
    for feature in features:
        if feature.predicted:
            yield (
                f"Subgroups by {feature.name} are formed by predictions, not annotations: the "
                "model's errors decide who is counted where, and can create or hide differences."
            )
    if counted.unit is not None:
        yield from _notes_of_units(counted)
    if bounds:
        worst = " and ".join(
            f"no {name} by more than {bound:.2g}" for name, bound in bounds.items()
        )
        yield (
            f"AUC, average precision and ROC curves of tables with more than {EXACT_ROWS:,} rows, "
            "and of tallies, come from histograms of the scores, in which faces of one bin count "
            f"as tied. Of the classes with enough faces to be ranked this changes {worst}."
        )


def _notes_of_units(counted: Tally) -> Iterator[str]:
    yield (
        f"Faces of one {counted.unit} are not taken as independent: intervals of metrics rest on "
        f"how the figures vary when blocks of {counted.unit} are left out. Those of age errors by "
        "age group do not."
    )
    everybody = cut(counted, ())
    faces = [everybody.blocks(counts, 0).sum(axis=-1) for counts in counted.predicted.values()]
    used = int((np.sum(faces, axis=0) > 0).sum())
    if used < FEW_BLOCKS:
        yield (
            f"The faces are of about {used} different values of {counted.unit}: too few "
            "for intervals that can be relied on."
        )
