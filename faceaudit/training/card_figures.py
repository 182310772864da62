"""What a bundle's card says of its held-out crops: figures, weakest subgroups, confusions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.face_sets import calibrate
from faceaudit.audit.results import Audit, Estimate, MetricValue
from faceaudit.schema import AGE, AGE_GROUP, OK
from faceaudit.tables import read_table, score_columns

MIN_FACES = 100
"""A subgroup is called weakest only with so many annotated faces."""
SMALL_NAMED = 12
"""Of the smaller ones so many are named."""
CALIBRATION_BINS = 15


def card_metrics(found: Audit, on: str) -> dict[str, dict[str, Any]]:
    """Accuracy of every task and the mean absolute error of ages, with 95 % intervals.

    Shares have Wilson intervals.
    """
    wanted = {"accuracy": None, "mae": AGE}
    metrics = {}
    for value in found.metrics:
        estimate = value.estimate
        if value.subgroup or value.metric not in wanted or estimate.value is None:
            continue
        facts: dict[str, Any] = {value.metric: round(estimate.value, 4)}
        if estimate.low is not None and estimate.high is not None:
            facts |= {"low": round(estimate.low, 4), "high": round(estimate.high, 4)}
        metrics[wanted[value.metric] or value.task] = facts | {"n": estimate.n, "on": on}
    return metrics


def left_out_classes(table: Path) -> dict[str, dict[str, int]]:
    """Task -> annotated class that its figures leave out -> faces; nothing where all are counted.

    Those are classes that are none of the task's, and that no mapping brings there: of several sets
    together, the classes of a set with another scheme.

    Args:
        table: Predictions with annotations, all of them of faces.
    """
    opened = read_table(table)
    found = {}
    for task in opened.tasks:
        if task.name not in opened.annotated:
            continue
        column = task.true_column
        given = pl.scan_parquet(table).filter(pl.col("status") == OK).select(column)
        counted = opened.frame.filter(pl.col("status") == OK).select(pl.col(column).alias("as"))
        both = pl.concat([given, counted], how="horizontal").collect()
        lost = both.filter(pl.col(column).is_not_null() & pl.col("as").is_null())
        if len(lost):
            found[task.name] = dict(sorted(lost[column].value_counts().iter_rows()))
    return found


def with_left_out(
    metrics: Mapping[str, dict[str, Any]], left_out: Mapping[str, dict[str, int]]
) -> dict[str, dict[str, Any]]:
    """Figures of a card that say which annotated classes they leave out."""
    return {
        name: {**figure, **({"left_out": left_out[name]} if name in left_out else {})}
        for name, figure in metrics.items()
    }


def weakest(found: Audit, min_faces: int = MIN_FACES, partial: Collection[str] = ()) -> list[str]:
    """For every task, the subgroup by gender and race with the lowest accuracy, as a sentence.

    Nothing is said of a task in which all subgroups are equal, or none is below all faces.

    Args:
        found: The audit.
        min_faces: Smaller subgroups are not named.
        partial: Tasks whose figures leave out annotated classes.
    """
    features = max(found.by, key=len, default=())
    accuracies = [value for value in found.metrics if value.metric == "accuracy"]
    sentences = []
    for task in found.tasks:
        own = [value for value in accuracies if value.task == task.name]
        overall = next((value for value in own if not value.subgroup), None)
        groups = [
            value
            for value in own
            if tuple(value.subgroup) == features
            and features
            and value.estimate.value is not None
            and value.estimate.n >= min_faces
        ]
        if overall is None or overall.estimate.value is None:
            continue
        if len({value.estimate.value for value in groups}) < 2:
            continue
        worst = min(groups, key=lambda value: (value.estimate.value, str(value.subgroup)))
        if worst.estimate.value is None or worst.estimate.value >= overall.estimate.value:
            continue  # the weakest are too small to be looked at
        sentences.append(_sentence(worst, overall, task.name in partial))
    return sentences


def weakest_ages(by_age: Audit, min_faces: int = MIN_FACES) -> list[str]:
    """For every task, the annotated age group that it is least often right for, as a sentence.

    Args:
        by_age: An audit by age group alone.
        min_faces: Smaller groups are not named.
    """
    sentences = []
    for task in by_age.tasks:
        known = {
            group: (estimate.value, estimate)
            for group, estimate in _right_by_age(by_age, task.name).items()
            if estimate.value is not None and estimate.n >= min_faces
        }
        if len({value for value, _ in known.values()}) > 1:
            group, (_, estimate) = min(known.items(), key=lambda one: (one[1][0], str(one[0])))
            name = "the age group" if task.name == AGE_GROUP else task.name
            sentences.append(
                f"Of the annotated age groups, {name} is least often right for {group}: "
                f"{_share(estimate)}."
            )
    return sentences


def _right_by_age(by_age: Audit, task: str) -> dict[Any, Estimate]:
    """Annotated age group -> how often a task is right; of the age group itself, its recall."""
    if task == AGE_GROUP:
        return {
            value.label: value.estimate
            for value in by_age.metrics
            if (value.task, value.metric, value.subgroup) == (AGE_GROUP, "recall", {})
        }
    return {
        value.subgroup[AGE_GROUP]: value.estimate
        for value in by_age.metrics
        if (value.task, value.metric) == (task, "accuracy") and value.subgroup
    }


def too_small(found: Audit, by_age: Audit | None, min_faces: int = MIN_FACES) -> list[str]:
    """The groups that ``weakest`` and ``weakest_ages`` do not look at, as a sentence.

    Args:
        found: The audit.
        by_age: An audit by age group alone.
        min_faces: Smaller groups are named here.
    """
    features = max(found.by, key=len, default=())
    faces: dict[str, int] = {}
    for value in found.metrics:
        if value.metric == "accuracy" and features and tuple(value.subgroup) == features:
            who = ", ".join(str(one) for one in value.subgroup.values())
            faces[who] = max(faces.get(who, 0), value.estimate.n)
    for task in by_age.tasks if by_age else ():
        for group, estimate in _right_by_age(by_age, task.name).items() if by_age else ():
            faces[str(group)] = max(faces.get(str(group), 0), estimate.n)
    small = [f"{who} ({count:,})" for who, count in faces.items() if 0 < count < min_faces]
    if not small:
        return []
    named = "; ".join(small[:SMALL_NAMED])
    more = f"; and {len(small) - SMALL_NAMED} more" if len(small) > SMALL_NAMED else ""
    return [f"Not looked at, having fewer than {min_faces} annotated faces: {named}{more}."]


def _share(estimate: Estimate) -> str:
    interval = (
        f"{estimate.low:.1%} to {estimate.high:.1%}, "
        if estimate.low is not None and estimate.high is not None
        else ""
    )
    return f"{estimate.value:.1%} ({interval}{estimate.n:,} faces)"


def _sentence(worst: MetricValue, overall: MetricValue, partial: bool) -> str:
    who = ", ".join(f"{name} {value}" for name, value in worst.subgroup.items())
    everyone = (
        f"the {overall.estimate.n:,} faces annotated with one of its classes"
        if partial
        else "all faces"
    )
    return (
        f"{worst.task.replace('_', ' ').capitalize()} is least often right for faces annotated "
        f"{who}: {_share(worst.estimate)}, against {overall.estimate.value:.1%} of {everyone}."
    )


def card_confusions(table: Path, on: str) -> dict[str, dict[str, Any]]:
    """How a bundle confuses the classes of each annotated task, to correct shares by.

    Args:
        table: Predictions of held-out crops with annotations.
        on: What the crops are.

    Returns:
        Task -> ``classes``, upper ``edges`` of bins of confidence, and ``counts`` of faces by
        annotated class, predicted class and bin.
    """
    opened = read_table(table)
    found = {}
    for task in opened.tasks:
        if task.name not in opened.annotated:
            continue
        columns = [task.true_column, task.pred_column]
        columns += score_columns(task) if task.name in opened.scored else []
        known = calibrate(task, opened.frame.select(columns).collect(), on, "bundle")
        found[task.name] = {
            "on": on,
            "classes": list(task.classes),
            "edges": known.edges.tolist(),
            "counts": known.joint.round().astype(int).tolist(),
        }
    return found


def calibration_errors(table: Path, found: Audit) -> Mapping[str, float]:
    """Calibration error of every scored task of a table (see ``calibration_error``)."""
    frame = pl.read_parquet(table)
    errors = {}
    for task in found.tasks:
        true, probs = f"{task.name}_true", f"{task.name}_probs"
        if true not in frame.columns or probs not in frame.columns:
            continue
        own = frame.filter(pl.col(true).is_in(task.classes) & pl.col(probs).is_not_null())
        fields = own[probs].struct.unnest()
        if fields.columns != list(task.classes) or len(own) < 2 * CALIBRATION_BINS:
            continue
        right = (own[true] == own[f"{task.name}_pred"]).to_numpy()
        errors[task.name] = round(calibration_error(fields.to_numpy().max(axis=1), right), 4)
    return errors


def calibration_error(
    confidence: NDArray[np.floating[Any]],
    right: NDArray[np.bool_],
    bins: int = CALIBRATION_BINS,
) -> float:
    """Root mean squared difference of confidence and accuracy, less what chance alone adds.

    Faces are sorted into bins of equal size; from each bin's squared difference the variance of its
    accuracy is subtracted, so that its square is right on average for any number of faces. Below 0
    it counts as 0, so that of a calibrated model it is above 0 on average, the more the fewer
    faces: about .09 of 30, .01 of 1,000.

    Args:
        confidence: Probability of the predicted class, (N,), 0 to 1.
        right: Whether the prediction is right, (N,).
        bins: Number of bins; at least two faces are needed in each.

    Source:
        Kumar, Liang, Ma: Verified Uncertainty Calibration, NeurIPS 2019 (the debiased estimator).
    """
    order = np.argsort(confidence, kind="stable")
    total = 0.0
    for rows in np.array_split(order, bins):
        share = right[rows].mean()
        squared = (confidence[rows].mean() - share) ** 2
        total += len(rows) * (squared - share * (1 - share) / (len(rows) - 1))
    return float(np.sqrt(max(total / len(order), 0.0)))
