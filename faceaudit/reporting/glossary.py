"""What the page calls things: metrics, as the audit defines them, with short titles; tasks.

A metric that the audit adds appears here by itself; a title that is too long for a column gets a
shorter one in ``SHORT_TITLES``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from faceaudit.audit.measure import EVERY_METRIC
from faceaudit.audit.metrics import Metric
from faceaudit.reporting.names import isolated

Unit = Literal[
    "share",
    "points",
    "signed_points",
    "index",
    "signed_index",
    "nats",
    "signed_nats",
    "years",
    "signed_years",
    "groups",
    "signed_groups",
    "count",
]
Better = Literal["higher", "lower", "zero", "neither"]

SHORT_TITLES = {
    "mae": "MAE",
    "rmse": "RMSE",
    "mean_signed_error": "Signed error",
    "step_mae": "Step error",
    "mean_signed_step": "Signed step",
    "one_off": "One-off",
}
UNITS: dict[tuple[str, bool], Unit] = {
    ("share", False): "share",
    ("score", False): "index",
    ("nats", False): "nats",
    ("years", False): "years",
    ("groups", False): "groups",
    ("years", True): "signed_years",
    ("groups", True): "signed_groups",
}
"""(unit of a metric, whether its sign matters) -> how the page writes it."""
INTERVALS: dict[str, str] = {
    "share": "Wilson score, mended for rare hits",
    "overlap": "Wilson score of the share that is both annotated and predicted",
    "classes": "Wilson score with as many faces as would vary as much",
    "mean_of_classes": "combined from those of the classes (MOVER)",
    "rank": "Newcombe score for AUC",
    "curve": "Wilson score with as many faces as would vary as much",
    "mean": "Student's t",
    "positive": "score, with a variance in proportion to the mean",
    "root": "score, of the squared errors",
    "steps": "score, with a variance in proportion to the mean",
    "signed_steps": "score of either side, combined (MOVER)",
    "calibration": "score, of the squared gaps",
}
"""How the intervals are computed, by the audit's name for the way."""


@dataclass(frozen=True)
class MetricFacts:
    """How one metric is called, measured, read and defined."""

    name: str
    title: str
    unit: Unit
    better: Better
    definition: str
    source: str = ""
    interval: str = ""


def facts_of(metric: Metric) -> MetricFacts:
    """Facts of a metric of the audit."""
    return MetricFacts(
        metric.name,
        SHORT_TITLES.get(metric.name, metric.title),
        UNITS[metric.unit, metric.better == "zero"],
        metric.better,
        metric.definition,
        metric.source,
        INTERVALS[metric.interval],
    )


BY_NAME = {metric.name: facts_of(metric) for metric in EVERY_METRIC}
# Under its own name where age groups are compared.
BY_NAME["exact"] = replace(
    BY_NAME["accuracy"],
    name="exact",
    title="Exact group",
    definition="Share of faces predicted in the annotated age group.",
)

TASK_TITLES = {"gender": "Gender", "race": "Race", "age_group": "Age group", "age": "Age in years"}

UNIT_NAMES: dict[Unit, str] = {
    "share": "share of faces",
    "points": "percentage points",
    "signed_points": "percentage points",
    "signed_index": "0 to 1",
    "index": "0 to 1",
    "nats": "nats, from 0 on",
    "signed_nats": "nats",
    "years": "years",
    "signed_years": "years",
    "groups": "age groups",
    "signed_groups": "age groups",
    "count": "faces",
}
DIFFERENCES: dict[Unit, Unit] = {
    "share": "signed_points",
    "index": "signed_index",
    "nats": "signed_nats",
    "years": "signed_years",
    "groups": "signed_groups",
}
"""Unit of a figure -> unit of a difference whose sign matters."""


def metric_facts(name: str) -> MetricFacts:
    """Facts of a metric; one that the glossary does not know keeps its own name."""
    plain = MetricFacts(name, name.replace("_", " "), "index", "neither", "Not described here.")
    return BY_NAME.get(name, plain)


def task_title(task: str) -> str:
    """A task's name as a heading."""
    return TASK_TITLES.get(task, isolated(task.replace("_", " ").capitalize()))


def feature_origin(feature: str, word: str) -> str:
    """Where the classes of a feature come from; empty for a plain column.

    Args:
        feature: A task name, a column such as ``race_true`` or ``race_pred``, or any other column.
        word: What the labels are called, such as annotated or self-reported.
    """
    if feature.endswith("_pred"):
        return "predicted"
    return word if feature.endswith("_true") or feature in TASK_TITLES else ""


def feature_title(feature: str, word: str) -> str:
    """A feature's name that says where its classes come from, such as "annotated race".

    Args:
        feature: A task name, a column such as ``race_true`` or ``race_pred``, or any other column.
        word: What the labels are called, such as annotated or self-reported.
    """
    origin = feature_origin(feature, word)
    stem = feature.removesuffix("_true").removesuffix("_pred") if origin else feature
    return f"{origin} {isolated(stem.replace('_', ' '))}".strip()


def subgroup_kind(groupings: Iterable[Sequence[str]], word: str) -> str:
    """What subgroups are called: annotated ones, where annotations alone form them."""
    origins = {feature_origin(feature, word) for by in groupings for feature in by}
    origin = origins.pop() if len(origins) == 1 else ""
    return f"{origin} subgroup".strip()


def grouping_title(by: Sequence[str], word: str) -> str:
    """A grouping's name, such as "annotated gender x annotated race" with the word said once."""
    titles = [feature_title(feature, word) for feature in by]
    first, rest = titles[0], [title.removeprefix(f"{word} ") for title in titles[1:]]
    return " \N{MULTIPLICATION SIGN} ".join([first, *rest])
