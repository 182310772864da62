"""The audit's figures as data frames, and fairlearn's MetricFrame of the same rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from faceaudit.audit.age import AGE_METRICS
from faceaudit.audit.metrics import METRICS
from faceaudit.audit.results import Audit, Estimate, Subgroup
from faceaudit.audit.subgroups import Feature, find_features
from faceaudit.audit.verify import OF_SCORES, FaceRows, references
from faceaudit.errors import SchemaError, UnknownNameError, UsageError
from faceaudit.schema import AGE, AGE_PRED, AGE_TRUE, Task
from faceaudit.storage import as_path
from faceaudit.tables import PredictionTable, read_table, score_columns

if TYPE_CHECKING:
    import pandas as pd
    from fairlearn.metrics import MetricFrame

Score = Callable[..., Any]
NEEDS = {metric.name: metric for metric in (*METRICS, *AGE_METRICS)}
RESERVED = ("task", "metric", "class", "n", "value", "low", "high", "reason", "small")
"""Columns of ``metrics_to_polars`` beside those of the features."""
BIN_COLUMNS = ("task", "lower", "upper", "confidence", *RESERVED[3:])
"""Columns of ``calibration_to_polars`` beside those of the features."""
_Columns = dict[str, tuple[list[Any], type[pl.DataType]]]


def metrics_to_polars(found: Audit) -> pl.DataFrame:
    """One row per figure: task, metric, class, a column per feature, n, value, low, high.

    A feature is null where the row is not cut by it; ``class`` is null unless the metric is of one
    class; value, low and high are null where undefined, with ``reason``. A feature that is called
    as one of ``RESERVED`` gets the column ``subgroup_NAME``.
    """
    values = found.metrics
    return _frame(
        {
            "task": ([one.task for one in values], pl.String),
            "metric": ([one.metric for one in values], pl.String),
            "class": ([one.label for one in values], pl.String),
        },
        _features(found, [one.subgroup for one in values], RESERVED),
        _estimates([one.estimate for one in values]),
        {"small": ([one.small for one in values], pl.Boolean)},
    )


def calibration_to_polars(found: Audit) -> pl.DataFrame:
    """One row per bin of confidence: task, a column per feature, its edges, confidence and figures.

    ``confidence`` is the mean confidence of its faces, and value the share of them that was
    predicted right, with low and high. Bins without a face have no row. Features are as in
    ``metrics_to_polars``, with the names in ``BIN_COLUMNS``.
    """
    rows = [(one, place) for one in found.calibration for place in one.bins]
    return _frame(
        {"task": ([one.task for one, _ in rows], pl.String)},
        _features(found, [one.subgroup for one, _ in rows], BIN_COLUMNS),
        {
            name: ([getattr(place, name) for _, place in rows], pl.Float64)
            for name in ("lower", "upper", "confidence")
        },
        _estimates([place.right for _, place in rows]),
        {"small": ([place.right.n < found.options["min_n"] for _, place in rows], pl.Boolean)},
    )


def _frame(*parts: _Columns) -> pl.DataFrame:
    columns = {name: column for part in parts for name, column in part.items()}
    series = [pl.Series(name, given, dtype) for name, (given, dtype) in columns.items()]
    return pl.DataFrame(series)


def _features(found: Audit, subgroups: Sequence[Subgroup], reserved: Sequence[str]) -> _Columns:
    features = dict.fromkeys(name for by in found.by for name in by)
    if found.within is not None:
        features[found.within] = None
    return {
        f"subgroup_{name}" if name in reserved else name: (
            [one.get(name) for one in subgroups],
            pl.String,
        )
        for name in features
    }


def _estimates(estimates: Sequence[Estimate]) -> _Columns:
    return {
        "n": ([None if one.suppressed else one.n for one in estimates], pl.Int64),
        **{
            part: ([getattr(one, part) for one in estimates], pl.Float64)
            for part in ("value", "low", "high")
        },
        "reason": ([one.reason for one in estimates], pl.String),
    }


def metrics_to_pandas(found: Audit) -> pd.DataFrame:
    """The same as ``metrics_to_polars``, in pandas."""
    return metrics_to_polars(found).to_pandas()


def to_metric_frame(
    table: PredictionTable | Path | str,
    metrics: str | Score | Sequence[str] | Mapping[str, Score],
    *,
    task: str,
    by: Sequence[str] | None = None,
    within: str | None = None,
) -> MetricFrame:
    """Fairlearn's MetricFrame of the rows that the audit counts.

    Args:
        table: The table, as ``tables.read_table`` opens it, or its path.
        metrics: Names of the audit's metrics, or functions of ``y_true`` and ``y_pred``, which get
            class names, or years where the task is ``age``.
        task: Such as ``gender``; ``age`` for years.
        by: Sensitive features; None takes every annotated one of gender and race.
        within: A control feature.

    Returns:
        A MetricFrame of all rows that have the annotation, the prediction, scores where a metric
        needs them, and every feature. Its ``overall`` is of these rows, which are fewer than the
        audit's where a feature is not known.

    Raises:
        UnknownNameError: If no task, metric or column has such a name.
        SchemaError: If the table lacks the annotations or scores.
        UsageError: If there is no feature to form subgroups by.
    """
    from fairlearn.metrics import MetricFrame

    opened = table if isinstance(table, PredictionTable) else read_table(as_path(table))
    chosen = _chosen(metrics)
    features = find_features(opened, by)
    if not features:
        raise UsageError(f"{opened.path}: no annotated gender or race; give by=, such as a column")
    control = find_features(opened, [within]) if within else ()
    known = _task(opened, task)
    scored = known is not None and any(name in OF_SCORES for name in chosen)
    if scored and task not in opened.scored:
        raise SchemaError(f"{opened.path}: the task {task} has no scores, which the metrics need")
    rows = _rows(opened, known, (*features, *control), scored)
    functions = {name: _function(name, given, known, rows) for name, given in chosen.items()}
    places = {"rows": np.arange(rows.height)}
    single = len(functions) == 1 and (isinstance(metrics, str) or callable(metrics))
    return MetricFrame(
        metrics=next(iter(functions.values())) if single else functions,
        y_true=rows["_true"].to_numpy(),
        y_pred=rows["_pred"].to_numpy(),
        sensitive_features=_columns(rows, features),
        control_features=_columns(rows, control) if control else None,
        sample_params=places if single else dict.fromkeys(functions, places),
    )


def _chosen(metrics: str | Score | Sequence[str] | Mapping[str, Score]) -> dict[str, Score | None]:
    """Names of metrics, with the functions of those that the user brings."""
    if callable(metrics):
        return {getattr(metrics, "__name__", "metric"): metrics}
    if isinstance(metrics, Mapping):
        return dict(metrics)
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    whole = [name for name, metric in NEEDS.items() if not metric.per_class]
    for name in names:
        if name not in whole:
            raise UnknownNameError("metric of a whole subgroup", name, whole)
    return dict.fromkeys(names)


def _task(table: PredictionTable, name: str) -> Task | None:
    """The task, None for years.

    Raises:
        UnknownNameError: If there is no such task.
        SchemaError: If it has no annotations.
    """
    years = [AGE] if AGE_PRED in table.frame.collect_schema() else []
    names = [*(task.name for task in table.tasks), *years]
    if name not in names:
        raise UnknownNameError("task", name, names)
    if name not in table.annotated:
        raise SchemaError(f"{table.path}: the task {name} has no annotated value")
    return None if name == AGE else table.task(name)


def _rows(
    table: PredictionTable, task: Task | None, features: Sequence[Feature], scored: bool
) -> pl.DataFrame:
    """Annotated and predicted value, scores and features of the rows that have them all."""
    true, pred = (task.true_column, task.pred_column) if task else (AGE_TRUE, AGE_PRED)
    columns = [pl.col(true).alias("_true"), pl.col(pred).alias("_pred")]
    columns += [one.values(table.frame).alias(f"_{one.name}") for one in features]
    if scored and task is not None:
        columns += [pl.col(name) for name in score_columns(task)]
    return table.frame.select(columns).drop_nulls().collect(engine="streaming")


def _columns(rows: pl.DataFrame, features: Sequence[Feature]) -> dict[str, Any]:
    return {one.name: rows[f"_{one.name}"].to_numpy() for one in features}


def _function(name: str, given: Score | None, task: Task | None, rows: pl.DataFrame) -> Score:
    """A function of ``y_true``, ``y_pred`` and the places of the rows."""
    if given is not None:
        return _named(name, partial(_plain, given))
    metric = NEEDS[name]
    of_years = metric.needs in {"years", "ages"}
    if of_years != (task is None):
        raise UsageError(f"{name}: a metric of {'years, give task=age' if of_years else 'classes'}")
    scores = None
    if task is not None and name in OF_SCORES:
        scores = rows.select(score_columns(task)).to_numpy()
    return _named(name, partial(_by_name, references()[name], task, scores))


def _named(name: str, function: partial[Any]) -> Score:
    """The function with the name that fairlearn shows."""
    function.__name__ = name  # type: ignore[attr-defined]
    return function


def _plain(function: Score, y_true: Any, y_pred: Any, rows: Any) -> Any:
    return function(y_true, y_pred)


def _by_name(
    function: Callable[[FaceRows], Any],
    task: Task | None,
    scores: Any,
    y_true: Any,
    y_pred: Any,
    rows: Any,
) -> float:
    if task is None:
        return float(function(FaceRows(np.asarray(y_true), np.asarray(y_pred), None, 0)))
    place = {label: number for number, label in enumerate(task.classes)}
    true, pred = (np.array([place[one] for one in given]) for given in (y_true, y_pred))
    own = None if scores is None else scores[np.asarray(rows)]
    return float(function(FaceRows(true, pred, own, len(task.classes))))
