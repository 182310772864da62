"""Disparities: how far a metric is apart over the subgroups of a grouping.

They describe the subgroups at hand and test nothing: the highest of several values lies above the
lowest by chance alone, and the more subgroups, the further.
"""

from __future__ import annotations

from collections.abc import Sequence

from faceaudit.audit.intervals import difference_interval
from faceaudit.audit.metrics import Metric
from faceaudit.audit.results import Disparity, MetricValue


def find_disparity(
    metric: Metric, by: tuple[str, ...], values: Sequence[MetricValue], *, min_n: int
) -> Disparity:
    """Worst and best subgroup, difference and ratio of one metric; a description, not a test.

    Subgroups with fewer than ``min_n`` faces, or without a value, are not ranked. ``difference`` is
    the highest value minus the lowest and ``ratio`` the lowest by the highest. The interval bounds
    the difference between those two subgroups as if they had been named beforehand; it is too
    hopeful about the largest of many differences. Of a signed metric the worst value is the one
    furthest from 0; where no direction is better, the worst is the lowest.

    Args:
        metric: The metric.
        by: The grouping.
        values: The metric in every subgroup, of one task and one class.
        min_n: Fewest faces of a ranked subgroup.
    """
    ranked = [
        value for value in values if value.estimate.value is not None and value.estimate.n >= min_n
    ]
    task, label = values[0].task, values[0].label
    if len(ranked) < 2:
        return Disparity(
            task,
            metric.name,
            by,
            None,
            None,
            None,
            None,
            None,
            None,
            len(ranked),
            f"fewer than two subgroups with at least {min_n} faces have a value",
            label,
        )
    ordered = sorted(ranked, key=_value)
    lowest, highest = ordered[0], ordered[-1]
    worst, best = _worst_and_best(metric, ordered)
    ratio, reason = _ratio(metric, _value(lowest), _value(highest))
    low, high = _interval(highest, lowest)
    return Disparity(
        task=task,
        metric=metric.name,
        by=by,
        worst=worst.subgroup,
        best=best.subgroup,
        difference=_value(highest) - _value(lowest),
        ratio=ratio,
        low=low,
        high=high,
        n_ranked=len(ranked),
        reason=reason,
        label=label,
    )


def _value(value: MetricValue) -> float:
    if value.estimate.value is None:
        raise ValueError(f"{value.metric} of {value.subgroup} has no value to rank")
    return value.estimate.value


def _worst_and_best(
    metric: Metric, ordered: Sequence[MetricValue]
) -> tuple[MetricValue, MetricValue]:
    if metric.better == "zero":
        by_size = sorted(ordered, key=lambda value: abs(_value(value)))
        return by_size[-1], by_size[0]
    if metric.better == "lower":
        return ordered[-1], ordered[0]
    return ordered[0], ordered[-1]


def _ratio(metric: Metric, lowest: float, highest: float) -> tuple[float | None, str | None]:
    if metric.better == "zero":
        return None, "a ratio of signed errors has no meaning"
    if highest == 0:
        return None, "the ratio is not defined: every value is 0"
    return lowest / highest, None


def _interval(highest: MetricValue, lowest: MetricValue) -> tuple[float | None, float | None]:
    bounds = []
    for value in (highest, lowest):
        found = value.estimate
        if found.low is None or found.high is None:
            return None, None
        bounds.append((_value(value), found.low, found.high))
    return difference_interval(bounds[0], bounds[1])
