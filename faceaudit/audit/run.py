"""The audit: one table of predictions to everything that was found in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from faceaudit.audit.age import AGE_METRICS
from faceaudit.audit.conditioned import condition_age
from faceaudit.audit.coverage import find_composition, find_coverage
from faceaudit.audit.disparity import find_disparity
from faceaudit.audit.estimates import Options, class_counts, estimate
from faceaudit.audit.metrics import METRICS, Metric
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
from faceaudit.audit.subgroups import Feature, find_features, find_groupings
from faceaudit.audit.tally import Counts, Cut, Tally, cut, tally
from faceaudit.audit.verify import VERIFY_ROWS, verify_audit
from faceaudit.errors import UsageError
from faceaudit.schema import AGE, Task
from faceaudit.tables import PredictionTable

EVERY_METRIC: tuple[Metric, ...] = (*METRICS, *AGE_METRICS)
Verify = Literal["auto", "always", "never"]


def audit(
    table: PredictionTable,
    *,
    by: Sequence[str] | None = None,
    min_n: int = 30,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    verify: Verify = "auto",
) -> Audit:
    """Everything that is found in a table of predictions.

    Args:
        table: The table, as ``tables.read_table`` opens it.
        by: Sensitive features; None takes every annotated one of gender and race. Each is cut
            alone, and all of them together.
        min_n: Subgroups with fewer faces are shown and marked, and not ranked.
        confidence: Of all intervals.
        replicates: Number of replicates, where an interval needs them.
        seed: Of the replicates.
        verify: Whether to recompute the figures with scikit-learn and fairlearn; ``auto`` does up
            to ``VERIFY_ROWS`` rows.

    Raises:
        UsageError: If an option cannot work.
        SchemaError: If the table cannot be cut as asked.
    """
    _check_options(min_n, confidence, replicates, seed)
    options = Options(min_n, confidence, replicates, seed)
    features = find_features(table, by)
    groupings = find_groupings(features)
    counted = tally(table, features)
    rows = _score_rows(table, features)
    metrics: list[MetricValue] = []
    disparities: list[Disparity] = []
    curves: list[RocCurve] = []
    for grouping in [(), *groupings]:
        cells = cut(counted, grouping)
        values, found_curves = _measure(counted, cells, rows, options)
        metrics += values
        curves += found_curves
        if grouping:
            disparities += _disparities(grouping, values, min_n)
    conditioned, age_notes = condition_age(counted, groupings, options)
    found = Audit(
        tasks=table.tasks,
        by=groupings,
        rows=table.rows,
        images=table.images,
        labelled=_labelled(table, counted),
        coverage=tuple(find_coverage(counted, groupings, confidence)),
        metrics=tuple(metrics),
        disparities=tuple(disparities),
        conditioned_age=tuple(conditioned),
        confusions=tuple(_confusions(counted, groupings)),
        roc_curves=tuple(curves),
        composition=tuple(find_composition(counted, groupings, confidence)),
        notes=(*table.notes, *_notes(table, features), *age_notes),
        options={
            "by": [feature.name for feature in features],
            "min_n": min_n,
            "confidence": confidence,
            "replicates": replicates,
            "seed": seed,
            "verify": verify,
        },
    )
    if verify == "always" or (verify == "auto" and table.rows <= VERIFY_ROWS):
        return replace(found, verification=verify_audit(table, features, found))
    return found


def _check_options(min_n: int, confidence: float, replicates: int, seed: int) -> None:
    if not 0 < confidence < 1:
        raise UsageError(f"--confidence {confidence}: give a share between 0 and 1, such as 0.95")
    if replicates < 100:
        raise UsageError(f"--replicates {replicates}: give at least 100; 2000 is the default")
    if min_n < 1:
        raise UsageError(f"--min-n {min_n}: give at least 1; 30 is the default")
    if seed < 0:
        raise UsageError(f"--seed {seed}: give 0 or more; 0 is the default")


def _score_rows(table: PredictionTable, features: Sequence[Feature]) -> Mapping[str, ScoreRows]:
    """Scores row by row, of a table that fits; empty for a larger one."""
    if table.rows > EXACT_ROWS:
        return {}
    tasks = [task for task in table.tasks if task.name in table.scored & table.annotated]
    return read_scores(table, features, tasks)


def _labelled(table: PredictionTable, counted: Tally) -> dict[str, int]:
    faces = {
        task.name: int(counted.confusion[task.name].sum()) if task.name in table.annotated else 0
        for task in table.tasks
    }
    years = int(counted.years.faces.sum())
    return {**faces, AGE: years} if years else faces


def _confusions(counted: Tally, groupings: Sequence[tuple[str, ...]]) -> Iterator[Confusion]:
    tasks = [task for task in counted.tasks if task.name in counted.confusion]
    for by in [(), *groupings]:
        cells = cut(counted, by)
        for task in tasks:
            for index, subgroup in enumerate(cells.subgroups):
                counts = counted.confusion[task.name][cells.members[index]].sum(axis=0)
                yield Confusion(task, subgroup, counts)


# --- metrics ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A task in a subgroup."""

    task: str
    classes: tuple[str, ...]
    subgroup: Subgroup
    own_class: bool
    """Whether the subgroup is formed by the task's own annotated classes."""


def _measure(
    counted: Tally, cells: Cut, rows: Mapping[str, ScoreRows], options: Options
) -> tuple[list[MetricValue], list[RocCurve]]:
    """Every metric of every task in the subgroups of one grouping, and ROC curves."""
    values: list[MetricValue] = []
    curves: list[RocCurve] = []
    own = {
        feature.column.removesuffix("_true")
        for feature in counted.features
        if feature.name in cells.by and feature.column.endswith("_true")
    }
    for index, subgroup in enumerate(cells.subgroups):
        for task in counted.tasks:
            if task.name not in counted.confusion:
                continue
            place = _Place(task.name, task.classes, subgroup, task.name in own)
            values += _measure_classes(counted, cells, index, task, place, options)
            if task.name in counted.scores:
                scores = score_counts(task, counted, rows.get(task.name), cells, index)
                found = list(_values(place, scores, "scores", options))
                values += found
                if len(cells.by) < 2 and not place.own_class:
                    curves += _curves(place, scores, found)
        years = counted.years.map(partial(_sum_of, cells=cells, index=index))
        if counted.years.faces.any():
            place = _Place(AGE, (), subgroup, own_class=False)
            values += _values(place, years, "years", options)
    return values, curves


def _sum_of(part: Any, *, cells: Cut, index: int) -> Any:
    return part[cells.members[index]].sum(axis=(0, 1))


def _measure_classes(
    counted: Tally, cells: Cut, index: int, task: Task, place: _Place, options: Options
) -> Iterator[MetricValue]:
    confusion = counted.confusion[task.name][cells.members[index]].sum(axis=0)
    counts = class_counts(confusion, task.name, place.subgroup, options)
    yield from _values(place, counts, "classes", options)
    if task.ordinal:
        yield from _values(place, counts, "groups", options)


def _values(place: _Place, counts: object, needs: str, options: Options) -> Iterator[MetricValue]:
    for metric in EVERY_METRIC:
        if metric.needs != needs:
            continue
        found = estimate(metric, counts, options, own_class=place.own_class)
        labels: Sequence[str | None] = place.classes if metric.per_class else (None,)
        for label, one in zip(labels, found, strict=True):
            yield MetricValue(
                place.task,
                metric.name,
                place.subgroup,
                one,
                label,
                small=one.n < options.min_n,
            )


def _curves(
    place: _Place,
    scores: Counts,
    found: Sequence[MetricValue],
) -> Iterator[RocCurve]:
    areas = {value.label: value.estimate for value in found if value.metric == "auc"}
    for label, counts in zip(place.classes, scores, strict=True):
        if areas[label].value is not None:
            falls, rises = roc_points(counts)
            yield RocCurve(place.task, label, place.subgroup, falls, rises, areas[label])


def _disparities(
    by: tuple[str, ...], values: Sequence[MetricValue], min_n: int
) -> Iterator[Disparity]:
    """One disparity per task, metric and class of a grouping."""
    metrics = {metric.name: metric for metric in EVERY_METRIC}
    together: dict[tuple[str, str, str | None], list[MetricValue]] = {}
    for value in values:
        together.setdefault((value.task, value.metric, value.label), []).append(value)
    for (_, name, _), found in together.items():
        yield find_disparity(metrics[name], by, found, min_n=min_n)


def _notes(table: PredictionTable, features: Sequence[Feature]) -> Iterator[str]:
    """Warnings that belong to how the table was cut."""
    for feature in features:
        if feature.predicted:
            yield (
                f"Subgroups by {feature.name} are formed by predictions, not annotations: the "
                "model's errors decide who is counted where, and can create or hide differences."
            )
    if table.rows > EXACT_ROWS and table.scored & table.annotated:
        yield (
            f"AUC and ROC curves of tables with more than {EXACT_ROWS:,} rows come from histograms "
            "of the scores, in which faces of one bin count as tied; where a class has some "
            "hundred faces they differ from exact ranks by less than 0.001."
        )
