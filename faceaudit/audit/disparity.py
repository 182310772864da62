"""Disparities: how far a metric is apart over subgroups, and whether chance does as much.

The highest of several values lies above the lowest by chance alone, and the more subgroups, the
further: the interval of that difference is one that holds for all differences together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from faceaudit.audit.comparisons import difference_between
from faceaudit.audit.metrics import Metric
from faceaudit.audit.results import Comparison, Disparity, MetricValue, Subgroup

NO_INTERVAL = "one of the two subgroups has no interval"
ALL_EQUAL = "all ranked subgroups have the same value: none is worst or best"


def find_disparity(
    metric: Metric,
    by: tuple[str, ...],
    values: Sequence[MetricValue],
    comparison: Comparison,
    *,
    min_n: int,
) -> Disparity:
    """Worst and best subgroup, difference and ratio of one metric, with its test of any gap.

    Subgroups with fewer than ``min_n`` faces, or without a value, are not ranked. ``difference`` is
    the highest value minus the lowest and ``ratio`` the lowest by the highest. The interval is one
    of those that hold for all differences of the comparison together. Of a signed metric the worst
    value is the one furthest from 0; where no direction is better, the worst is the lowest.

    Args:
        metric: The metric.
        by: The grouping.
        values: The metric in every subgroup, of one task and one class.
        comparison: The comparison of these subgroups.
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
    found = Disparity(
        task=task,
        metric=metric.name,
        by=by,
        worst=worst.subgroup,
        best=best.subgroup,
        difference=_value(highest) - _value(lowest),
        ratio=ratio,
        low=None,
        high=None,
        n_ranked=len(ranked),
        reason=reason,
        label=label,
        p_value=comparison.any_gap.p_value if comparison.any_gap else None,
    )
    return with_bounds(found, comparison, (highest.subgroup, lowest.subgroup))


def with_bounds(
    disparity: Disparity,
    comparison: Comparison,
    ends: tuple[Subgroup, Subgroup],
    families: int = 1,
) -> Disparity:
    """The disparity with the interval and adjusted p value of its two subgroups' difference.

    Args:
        disparity: The disparity.
        comparison: The comparison that it comes from.
        ends: The two subgroups, in any order.
        families: Among how many families the confidence is shared.
    """
    pair = difference_between(comparison, *ends, families)
    if pair is None:
        return replace(disparity, reason=disparity.reason or comparison.reason or NO_INTERVAL)
    low, high = (pair.low, pair.high) if pair.difference >= 0 else (-pair.high, -pair.low)
    return replace(disparity, low=low, high=high, p_adjusted=pair.p_adjusted)


def without_order(disparity: Disparity) -> Disparity:
    """The disparity, naming no worst and no best subgroup where all ranked ones are equal."""
    if disparity.difference != 0:
        return disparity
    reason = "; ".join(filter(None, (ALL_EQUAL, disparity.reason)))
    return replace(disparity, worst=None, best=None, reason=reason)


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
