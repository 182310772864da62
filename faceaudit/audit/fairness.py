"""FAIRNESS: named disparities of classifications, and one number for the spread of errors.

Each named disparity is that of one metric per class or the larger of two; a class counts as what is
selected, all others as what is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from faceaudit.audit.comparisons import Place
from faceaudit.audit.disparity import with_bounds
from faceaudit.audit.metrics import Metric
from faceaudit.audit.results import Comparison, Disparity, MetricValue


@dataclass(frozen=True)
class Fairness:
    """A named disparity: the worst of the disparities of some metrics."""

    name: str
    title: str
    definition: str
    source: str
    of: tuple[str, ...]
    """Metrics whose differences and ratios over subgroups it takes the worst of."""


SOURCE = "fairlearn, fairlearn.metrics.{0}_difference and {0}_ratio"
FAIRNESS: list[Fairness] = [
    Fairness(
        "demographic_parity",
        "Demographic parity",
        "How far the share of faces predicted as a class is apart over subgroups.",
        SOURCE.format("demographic_parity"),
        ("selection_rate",),
    ),
    Fairness(
        "equal_opportunity",
        "Equal opportunity",
        "How far the recall of a class is apart over subgroups.",
        SOURCE.format("equal_opportunity"),
        ("recall",),
    ),
    Fairness(
        "equalized_odds",
        "Equalized odds",
        "The larger of how far recall and false positive rate of a class are apart over subgroups.",
        SOURCE.format("equalized_odds"),
        ("recall", "false_positive_rate"),
    ),
]
"""Disparities that go by a name of their own."""


def named_disparities(
    found: Sequence[Disparity], comparisons: Mapping[Place, Comparison]
) -> Iterator[Disparity]:
    """The named disparities, from those of the metrics of one grouping and their comparisons."""
    by_place = {(one.task, one.label, one.metric): one for one in found}
    places = dict.fromkeys((one.task, one.label) for one in found if one.label is not None)
    for task, label in places:
        for fairness in FAIRNESS:
            parts = [by_place.get((task, label, name)) for name in fairness.of]
            known = [part for part in parts if part is not None]
            if len(known) == len(fairness.of):
                yield _worst_of(fairness, known, comparisons)


def _worst_of(
    fairness: Fairness, parts: Sequence[Disparity], comparisons: Mapping[Place, Comparison]
) -> Disparity:
    """The part with the largest difference, under the name, with the smallest ratio.

    The parts share the confidence, and p values are adjusted for their number.
    """
    missing = next((part for part in parts if part.difference is None), None)
    if missing is not None:
        return replace(missing, metric=fairness.name, over_geometric_mean=None)
    worst = max(parts, key=lambda part: part.difference or 0.0)
    if len(parts) > 1 and worst.worst is not None and worst.best is not None:
        comparison = comparisons[worst.task, worst.metric, worst.label]
        worst = with_bounds(worst, comparison, (worst.worst, worst.best), len(parts))
    p_values = [part.p_value for part in parts if part.p_value is not None]
    ratios = [part.ratio for part in parts if part.ratio is not None]
    return replace(
        worst,
        metric=fairness.name,
        ratio=min(ratios) if len(ratios) == len(parts) else None,
        reason=next((part.reason for part in parts if part.reason), None),
        over_geometric_mean=None,
        p_value=min(1.0, len(parts) * min(p_values)) if p_values else None,
    )


def over_geometric_mean(metric: Metric, values: Sequence[MetricValue], min_n: int) -> float | None:
    """The highest error of the ranked subgroups by the geometric mean of their errors.

    1 means that all subgroups err alike. Of a share where more is better the error is what it lacks
    to 1. None where an error is 0, where fewer than two subgroups are ranked, or of a metric that
    is no error.

    Args:
        metric: The metric.
        values: The metric in every subgroup, of one task and one class.
        min_n: Fewest faces of a ranked subgroup.

    Source:
        Grother: Face recognition vendor test, part 8: summarizing demographic differentials, NIST
        IR 8429, 2022.
    """
    ranked = [one.estimate for one in values if one.estimate.n >= min_n]
    shares = np.array([one.value for one in ranked if one.value is not None])
    errors = shares if metric.better == "lower" else 1 - shares
    is_error = metric.better == "lower" or (
        metric.better == "higher" and metric.unit in {"share", "score"}
    )
    if not is_error or len(errors) < 2 or (errors <= 0).any():
        return None
    return float(errors.max() / np.exp(np.log(errors).mean()))
