"""What the page calls things: metrics with unit, direction, definition and source; tasks.

To name a new metric, add one entry to ``METRICS``; a metric without an entry is shown by its own
name, as a plain number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["share", "index", "years", "signed_years", "groups", "signed_groups", "count"]
Better = Literal["higher", "lower", "zero", "neither"]


@dataclass(frozen=True)
class MetricFacts:
    """How one metric is called, measured, read and defined."""

    name: str
    title: str
    unit: Unit
    better: Better
    definition: str
    source: str = ""


METRICS: list[MetricFacts] = [
    MetricFacts(
        "accuracy",
        "Accuracy",
        "share",
        "higher",
        "Share of faces whose predicted class is the annotated class.",
        "scikit-learn: accuracy_score",
    ),
    MetricFacts(
        "balanced_accuracy",
        "Balanced accuracy",
        "share",
        "higher",
        "Unweighted mean of the recall of every class that was annotated, so that a frequent "
        "class does not hide a rare one.",
        "scikit-learn: balanced_accuracy_score",
    ),
    MetricFacts(
        "macro_f1",
        "Macro F1",
        "index",
        "higher",
        "Unweighted mean of the F1 of the classes.",
        "scikit-learn: f1_score, average macro",
    ),
    MetricFacts(
        "macro_auc",
        "Macro AUC",
        "index",
        "higher",
        "Unweighted mean of the one-vs-rest AUC of the classes.",
        "scikit-learn: roc_auc_score, multi_class ovr, average macro",
    ),
    MetricFacts(
        "recall",
        "Recall",
        "share",
        "higher",
        "Of the faces annotated as a class, the share predicted as it (true positive rate).",
        "scikit-learn: recall_score",
    ),
    MetricFacts(
        "precision",
        "Precision",
        "share",
        "higher",
        "Of the faces predicted as a class, the share annotated as it.",
        "scikit-learn: precision_score",
    ),
    MetricFacts(
        "f1",
        "F1",
        "index",
        "higher",
        "Harmonic mean of precision and recall of a class.",
        "scikit-learn: f1_score",
    ),
    MetricFacts(
        "auc",
        "AUC",
        "index",
        "higher",
        "Probability that a random face annotated as the class gets a higher score for it than a "
        "random other face; ties count one half. 0.5 is chance, 1 is perfect.",
        "Hanley, McNeil: The Meaning and Use of the Area under a ROC Curve, Radiology 143(1), 1982",
    ),
    MetricFacts(
        "selection_rate",
        "Selection rate",
        "share",
        "neither",
        "Share of faces predicted as a class, whether rightly or not.",
        "fairlearn: selection_rate",
    ),
    MetricFacts(
        "false_positive_rate",
        "False positive rate",
        "share",
        "lower",
        "Of the faces not annotated as a class, the share predicted as it.",
        "fairlearn: false_positive_rate",
    ),
    MetricFacts(
        "ece",
        "Calibration error",
        "share",
        "lower",
        "Mean distance between the score of the predicted class and the share of right "
        "predictions at that score, over score bins weighted by their faces.",
        "Guo et al.: On Calibration of Modern Neural Networks, ICML 2017",
    ),
    MetricFacts(
        "mae",
        "MAE",
        "years",
        "lower",
        "Mean absolute error: how many years the predicted age is off, whichever the direction.",
        "scikit-learn: mean_absolute_error",
    ),
    MetricFacts(
        "rmse",
        "RMSE",
        "years",
        "lower",
        "Root of the mean squared error in years; large errors weigh more than in the MAE.",
        "scikit-learn: root_mean_squared_error",
    ),
    MetricFacts(
        "mean_signed_error",
        "Signed error",
        "signed_years",
        "zero",
        "Mean of predicted minus annotated age in years: above zero, faces are predicted older "
        "than annotated; below zero, younger.",
    ),
    MetricFacts(
        "cs_at_5",
        "CS@5",
        "share",
        "higher",
        "Cumulative score: share of faces whose predicted age is at most five years off.",
        "Geng, Zhou, Smith-Miles: Automatic Age Estimation Based on Facial Aging Patterns, "
        "TPAMI 29(12), 2007",
    ),
    MetricFacts(
        "exact",
        "Exact group",
        "share",
        "higher",
        "Share of faces predicted in the annotated age group.",
    ),
    MetricFacts(
        "one_off",
        "Within one group",
        "share",
        "higher",
        "Share of faces predicted in the annotated age group or in a neighboring one.",
    ),
    MetricFacts(
        "step_mae",
        "Step error",
        "groups",
        "lower",
        "Mean distance between the predicted and the annotated age group, counted in groups.",
    ),
    MetricFacts(
        "mean_signed_step",
        "Signed step",
        "signed_groups",
        "zero",
        "Mean of predicted minus annotated age group, counted in groups: above zero, faces are "
        "predicted older than annotated.",
    ),
]

BY_NAME = {facts.name: facts for facts in METRICS}

TASK_TITLES = {"gender": "Gender", "race": "Race", "age_group": "Age group", "age": "Age in years"}

UNIT_NAMES: dict[Unit, str] = {
    "share": "share of faces",
    "index": "0 to 1",
    "years": "years",
    "signed_years": "years",
    "groups": "age groups",
    "signed_groups": "age groups",
    "count": "faces",
}


def metric_facts(name: str) -> MetricFacts:
    """Facts of a metric; one that the glossary does not know keeps its own name."""
    plain = MetricFacts(name, name.replace("_", " "), "index", "neither", "Not described here.")
    return BY_NAME.get(name, plain)


def task_title(task: str) -> str:
    """A task's name as a heading."""
    return TASK_TITLES.get(task, task.replace("_", " ").capitalize())


def feature_title(feature: str, word: str) -> str:
    """A feature's name that says where its classes come from, such as "annotated race".

    Args:
        feature: A task name, a column such as ``race_true`` or ``race_pred``, or any other column.
        word: Provenance of the labels: annotated, self-reported or predicted.
    """
    stem = feature.removesuffix("_true").removesuffix("_pred")
    if feature.endswith("_pred"):
        return f"predicted {stem.replace('_', ' ')}"
    if stem in TASK_TITLES or feature.endswith("_true"):
        return f"{word} {stem.replace('_', ' ')}"
    return feature.replace("_", " ")


def grouping_title(by: Sequence[str], word: str) -> str:
    """A grouping's name, such as "annotated gender x annotated race" with the word said once."""
    titles = [feature_title(feature, word) for feature in by]
    first, rest = titles[0], [title.removeprefix(f"{word} ") for title in titles[1:]]
    return " \N{MULTIPLICATION SIGN} ".join([first, *rest])
