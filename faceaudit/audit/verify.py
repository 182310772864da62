"""Figures recomputed by scikit-learn and fairlearn on the same rows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.age import AGE_METRICS, LEGAL_YEARS
from faceaudit.audit.metrics import METRICS, Values
from faceaudit.audit.results import Audit, MetricValue, Subgroup, Verification
from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally import CALIBRATION_BINS
from faceaudit.errors import UnknownNameError
from faceaudit.schema import AGE_PRED, AGE_TRUE, Task
from faceaudit.tables import PredictionTable, score_columns

VERIFY_ROWS = 50_000
"""With ``auto``, larger tables are not verified."""
VERIFY_SUBGROUPS = 12
"""With ``auto``, the figures of everybody and of so many subgroups are: other libraries need about
as long for one subgroup as an audit does for ten."""
BY_FAIRLEARN = "accuracy"
"""The metric that fairlearn's MetricFrame recomputes by subgroup."""

OF_SCORES = {
    metric.name
    for metric in [*METRICS, *AGE_METRICS]
    if metric.needs in {"scores", "losses", "calibration"}
}
"""Metrics that compare scores, not predicted classes, with annotations."""


@dataclass(frozen=True)
class FaceRows:
    """Rows of one task in one subgroup, as plain arrays; classes are numbers."""

    y_true: NDArray[Any]
    y_pred: NDArray[Any]
    y_score: NDArray[np.float64] | None
    classes: int

    @cached_property
    def auc(self) -> Values:
        """AUC of every class against the rest, (K,); NaN where it has no face, or all."""
        from sklearn.metrics import roc_auc_score

        faces = self._annotated.sum(axis=0)
        return self._of_scores(roc_auc_score, (faces > 0) & (faces < len(self.y_true)))

    @cached_property
    def average_precision(self) -> Values:
        """Average precision of every class, (K,); NaN where it has no face."""
        from sklearn.metrics import average_precision_score

        return self._of_scores(average_precision_score, self._annotated.sum(axis=0) > 0)

    @cached_property
    def by_class(self) -> Sequence[Values]:
        """Precision, recall and F1 of every class, (K,) each."""
        from sklearn.metrics import precision_recall_fscore_support

        numbers = range(self.classes)
        found: Sequence[Values] = precision_recall_fscore_support(
            self.y_true, self.y_pred, labels=numbers, average=None, zero_division=np.nan
        )
        return found

    @cached_property
    def false_positive_rate(self) -> Values:
        """False positives of every class by all faces of others, (K,); NaN where there are none."""
        from sklearn.metrics import multilabel_confusion_matrix

        counts = multilabel_confusion_matrix(
            self.y_true, self.y_pred, labels=range(self.classes)
        ).astype(np.float64)
        others = counts[:, 0].sum(axis=-1)
        return np.asarray(counts[:, 0, 1] / np.where(others > 0, others, np.nan))

    @property
    def _annotated(self) -> NDArray[np.bool_]:
        """Whether each face is of each class, (N, K)."""
        return np.asarray(np.eye(self.classes, dtype=bool)[self.y_true])

    def _of_scores(self, score: Callable[..., Any], defined: NDArray[np.bool_]) -> Values:
        """A figure of some classes in one call."""
        found = np.full(self.classes, np.nan)
        if self.y_score is not None and defined.any():
            own, scores = self._annotated[:, defined], self.y_score[:, defined]
            # A single column is taken for a binary task, which is one list.
            shape = (-1,) if own.shape[1] == 1 else own.shape
            found[defined] = score(own.reshape(shape), scores.reshape(shape), average=None)
        return found


Reference = Callable[[FaceRows], Any]
Name = tuple[tuple[str, str], ...]
"""A subgroup's features and values; empty for everybody."""


def references() -> dict[str, Reference]:
    """Metric name -> the same figure by scikit-learn, per class where the metric is."""
    from fairlearn import metrics as fair
    from sklearn import metrics as sk

    def steps(rows: FaceRows) -> NDArray[np.float64]:
        return np.asarray(np.asarray(rows.y_pred, np.float64) - rows.y_true)

    return {
        "accuracy": lambda rows: sk.accuracy_score(rows.y_true, rows.y_pred),
        "balanced_accuracy": lambda rows: sk.recall_score(
            rows.y_true, rows.y_pred, labels=np.unique(rows.y_true), average="macro"
        ),
        "macro_f1": lambda rows: sk.f1_score(
            rows.y_true, rows.y_pred, average="macro", zero_division=0
        ),
        "macro_precision": lambda rows: sk.precision_score(
            rows.y_true, rows.y_pred, average="macro", zero_division=0
        ),
        "macro_recall": lambda rows: sk.recall_score(
            rows.y_true, rows.y_pred, average="macro", zero_division=np.nan
        ),
        "macro_auc": lambda rows: np.nanmean(rows.auc),
        "macro_average_precision": lambda rows: np.nanmean(rows.average_precision),
        "log_loss": _log_loss,
        "brier": _brier,
        "ece": _calibration_error,
        "f1": lambda rows: rows.by_class[2],
        "recall": lambda rows: rows.by_class[1],
        "precision": lambda rows: rows.by_class[0],
        "selection_rate": lambda rows: [(rows.y_pred == k).mean() for k in range(rows.classes)],
        "false_positive_rate": lambda rows: rows.false_positive_rate,
        "auc": lambda rows: rows.auc,
        "average_precision": lambda rows: rows.average_precision,
        "one_off": lambda rows: (np.abs(steps(rows)) <= 1).mean(),
        "step_mae": lambda rows: sk.mean_absolute_error(rows.y_true, rows.y_pred),
        "mean_signed_step": lambda rows: steps(rows).mean(),
        "mae": lambda rows: sk.mean_absolute_error(rows.y_true, rows.y_pred),
        "rmse": lambda rows: sk.root_mean_squared_error(rows.y_true, rows.y_pred),
        "mean_signed_error": lambda rows: steps(rows).mean(),
        "cs_at_5": lambda rows: (np.abs(steps(rows)) <= 5).mean(),
        "challenge_25_fpr": lambda rows: fair.false_positive_rate(
            rows.y_true >= 18, rows.y_pred >= 25, pos_label=True
        ),
        "challenge_25_fnr": lambda rows: fair.false_negative_rate(
            rows.y_true >= 18, rows.y_pred >= 25, pos_label=True
        ),
    }


def reference_by_name(name: str) -> Reference:
    """The reference of a metric of years that carries its tolerance or threshold in its name."""
    from fairlearn import metrics as fair

    if found := re.fullmatch(r"cs_at_(\d+)", name):
        tolerance = int(found[1])
        return lambda rows: (np.abs(rows.y_pred - rows.y_true) <= tolerance).mean()
    if found := re.fullmatch(r"challenge_(\d+)_f([pn])r", name):
        threshold, kind = int(found[1]), {"p": "positive", "n": "negative"}[found[2]]
        rate = getattr(fair, f"false_{kind}_rate")
        return lambda rows: rate(
            rows.y_true >= LEGAL_YEARS, rows.y_pred >= threshold, pos_label=True
        )
    raise UnknownNameError("metric with a reference", name, references())


def _log_loss(rows: FaceRows) -> float:
    from sklearn.metrics import log_loss

    with warnings.catch_warnings():
        # Probabilities in single precision sum to 1 within 1e-7 only, of which it warns.
        warnings.simplefilter("ignore", UserWarning)
        return float(log_loss(rows.y_true, rows.y_score, labels=range(rows.classes)))


def _brier(rows: FaceRows) -> float:
    from sklearn.metrics import mean_squared_error

    annotated = np.eye(rows.classes)[rows.y_true]
    return float(mean_squared_error(annotated, rows.y_score) * rows.classes / 2)


def _calibration_error(rows: FaceRows) -> float:
    """Debiased, over the bins of scikit-learn's calibration curve that hold two faces or more."""
    from sklearn.calibration import calibration_curve

    if rows.y_score is None:
        return float("nan")
    confidence = rows.y_score.max(axis=1)
    right = rows.y_score.argmax(axis=1) == rows.y_true
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
    faces = np.unique(np.searchsorted(edges, confidence), return_counts=True)[1]
    share, mean = calibration_curve(right, confidence, n_bins=CALIBRATION_BINS, pos_label=True)
    faces, share, mean = (part[faces > 1] for part in (faces, share, mean))
    if not len(faces):
        return float("nan")
    squares = (mean - share) ** 2 - share * (1 - share) / (faces - 1)
    return float(np.sqrt(max(np.average(squares, weights=faces), 0)))


def verify_audit(
    table: PredictionTable, features: Sequence[Feature], found: Audit, most: int | None = None
) -> Verification | None:
    """The largest difference between the audit's figures and scikit-learn's and fairlearn's.

    None where the audit has no figure to recompute.

    Args:
        table: The table that was audited.
        features: What it was cut by.
        found: The audit.
        most: Subgroups whose figures are recomputed, evenly spread over all; None takes every one.
    """
    from sklearn import config_context

    largest, where, compared = 0.0, "", 0
    every = list(dict.fromkeys(_name(value) for value in found.metrics if value.subgroup))
    chosen = _spread_over(every, most)
    # The rows were checked when the table was read; to check them at every call takes longest.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        for value, expected in _pairs(table, features, found, {(), *chosen}):
            compared += 1
            difference = abs((value.estimate.value or 0.0) - expected)
            if difference >= largest:
                largest, where = difference, _place(value)
    if not compared:
        return None
    return Verification(
        table.rows, compared, float(largest), where, _libraries(), len(chosen), len(every)
    )


def _name(value: MetricValue) -> Name:
    return tuple(value.subgroup.items())


def _spread_over(names: Sequence[Name], most: int | None) -> Sequence[Name]:
    """So many of the names, evenly spread, the first and the last included."""
    if most is None or len(names) <= most:
        return names
    return [names[at] for at in np.linspace(0, len(names) - 1, most).round().astype(int)]


def _libraries() -> str:
    import fairlearn
    import sklearn

    return f"scikit-learn {sklearn.__version__}, fairlearn {fairlearn.__version__}"


def _place(value: MetricValue) -> str:
    label = f" of {value.label}" if value.label else ""
    subgroup = ", ".join(f"{name} {group}" for name, group in value.subgroup.items()) or "overall"
    return f"{value.task} {value.metric}{label}, {subgroup}"


def _pairs(
    table: PredictionTable, features: Sequence[Feature], found: Audit, chosen: Container[Name]
) -> Iterator[tuple[MetricValue, float]]:
    """The audit's values in some subgroups, each with the same figure by another library."""
    known = references()
    frame = _collected(table, features)
    scored = {task.name: task for task in table.tasks if task.name in table.scored}
    by_place: dict[tuple[str, Name], list[MetricValue]] = {}
    recomputed = [
        value
        for value in found.metrics
        if value.estimate.value is not None and _name(value) in chosen
    ]
    for value in recomputed:
        by_place.setdefault((value.task, _name(value)), []).append(value)
    tasks = {task.name: task for task in table.tasks}
    for (name, subgroup), values in by_place.items():
        part = _of_subgroup(frame, features, dict(subgroup))
        for needs_scores in (False, True):
            asked = [one for one in values if (one.metric in OF_SCORES) == needs_scores]
            if not asked or (needs_scores and name not in scored):
                continue
            rows = _face_rows(part, tasks.get(name), with_scores=needs_scores)
            yield from _compare(asked, rows, known, tasks.get(name))
    yield from _by_fairlearn(frame, features, tasks, recomputed)


def _compare(
    values: Sequence[MetricValue],
    rows: FaceRows,
    known: Mapping[str, Reference],
    task: Task | None,
) -> Iterator[tuple[MetricValue, float]]:
    names = {value.metric for value in values}
    results = {name: (known.get(name) or reference_by_name(name))(rows) for name in names}
    for value in values:
        expected = results[value.metric]
        if value.label is not None and task is not None:
            expected = expected[task.classes.index(value.label)]
        yield value, float(expected)


def _collected(table: PredictionTable, features: Sequence[Feature]) -> pl.DataFrame:
    """The rows that are compared, class columns as numbers."""
    names = table.frame.collect_schema().names()
    columns = [
        feature.values(table.frame).alias(f"_feature_{index}")
        for index, feature in enumerate(features)
    ]
    for task in table.tasks:
        numbers = list(range(len(task.classes)))
        columns += [
            pl.col(name).replace_strict(
                list(task.classes), numbers, default=None, return_dtype=pl.Int64
            )
            for name in (task.true_column, task.pred_column)
            if name in names
        ]
        if task.name in table.scored:
            columns += [pl.col(name) for name in score_columns(task)]
    columns += [pl.col(name) for name in (AGE_TRUE, AGE_PRED) if name in names]
    return table.frame.select(columns).collect()


def _of_subgroup(
    frame: pl.DataFrame, features: Sequence[Feature], subgroup: Subgroup
) -> pl.DataFrame:
    names = [feature.name for feature in features]
    for name, value in subgroup.items():
        frame = frame.filter(pl.col(f"_feature_{names.index(name)}") == value)
    return frame


def _face_rows(frame: pl.DataFrame, task: Task | None, *, with_scores: bool) -> FaceRows:
    """Rows with all that is needed; of years where there is no task."""
    true, pred = (task.true_column, task.pred_column) if task else (AGE_TRUE, AGE_PRED)
    names = score_columns(task) if task and with_scores else []
    needed = [true, *names] if names else [true, pred]
    frame = frame.drop_nulls(needed)
    return FaceRows(
        frame[true].to_numpy(),
        frame[pred].to_numpy(),
        # A softmax in float32 may round above 1, which scikit-learn refuses.
        np.minimum(frame.select(names).to_numpy(), 1) if names else None,
        len(task.classes) if task else 0,
    )


def _by_fairlearn(
    frame: pl.DataFrame,
    features: Sequence[Feature],
    tasks: Mapping[str, Task],
    recomputed: Sequence[MetricValue],
) -> Iterator[tuple[MetricValue, float]]:
    """Accuracy by subgroup, from fairlearn's MetricFrame."""
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score

    places = [feature.name for feature in features]
    families: dict[tuple[str, tuple[str, ...]], list[MetricValue]] = {}
    for value in recomputed:
        if value.metric == BY_FAIRLEARN and value.subgroup:
            families.setdefault((value.task, tuple(value.subgroup)), []).append(value)
    for (name, by), values in families.items():
        task = tasks[name]
        keys = [f"_feature_{places.index(one)}" for one in by]
        groups = pl.DataFrame(
            [tuple(value.subgroup.values()) for value in values], schema=keys, orient="row"
        )
        rows = frame.drop_nulls([task.true_column, task.pred_column]).join(
            groups, on=keys, how="semi"
        )
        by_group = MetricFrame(
            metrics=accuracy_score,
            y_true=rows[task.true_column].to_numpy(),
            y_pred=rows[task.pred_column].to_numpy(),
            sensitive_features={key: rows[key].to_numpy() for key in keys},
        ).by_group
        for value in values:
            group = tuple(value.subgroup.values())
            yield value, float(by_group[group if len(group) > 1 else group[0]])
