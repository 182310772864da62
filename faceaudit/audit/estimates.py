"""Metric and counts to estimates: values with intervals, faces and reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from faceaudit.audit.clusters import Spread, clustered, spread_over_blocks
from faceaudit.audit.intervals import (
    Bounds,
    generator_for,
    mean_interval,
    normal_quantile,
    rank_interval,
    replicates_of,
    spread_around,
    wilson,
)
from faceaudit.audit.metrics import (
    Metric,
    Values,
    auc,
    average_precision,
    macro_f1,
    macro_precision,
    mean_of_defined,
    present_classes,
    ratio,
)
from faceaudit.audit.results import Estimate
from faceaudit.audit.tally import Numbers

NO_SPREAD = "no interval: it needs two faces, of two units, whose errors differ"
NOT_ANNOTATED = "no interval: no face is annotated as this class"
OWN_CLASS = "among faces of one annotated class only accuracy and recall have a meaning"


@dataclass(frozen=True)
class Options:
    """How an audit computes."""

    min_n: int = 30
    confidence: float = 0.95
    replicates: int = 2000
    seed: int = 0
    also: tuple[Metric, ...] = ()
    """Metrics beside the registered ones."""


@dataclass(frozen=True)
class ClassCounts:
    """Counts of subgroups, such as confusions (..., K, K), with the replicates of the same."""

    counts: Numbers
    draws: Values  # (replicates, ..., K, K)

    @classmethod
    def of(cls, parts: Sequence[ClassCounts]) -> ClassCounts:
        """Several subgroups as one, along a first axis of the counts."""
        return cls(
            np.stack([part.counts for part in parts]),
            np.stack([part.draws for part in parts], axis=1),
        )


@dataclass(frozen=True)
class ScoreCounts:
    """Faces of subgroups by ascending score of each class, others' first.

    One array (K, 2, B) per subgroup; where every different score is counted, B differs.
    """

    each: Sequence[Numbers]

    def apply(self, function: Callable[[Numbers], Values]) -> Values:
        """A figure of every subgroup, along a first axis."""
        return np.stack([function(scores) for scores in self.each])

    @cached_property
    def totals(self) -> Values:
        """Faces of other classes and of each class, (subgroups, K, 2)."""
        return self.apply(lambda scores: scores.sum(axis=-1))


def class_counts(
    confusion: Numbers, task: str, subgroup: Mapping[str, str], options: Options
) -> ClassCounts:
    """The confusion of a subgroup and how it might have come out."""
    generator = generator_for(options.seed, task, subgroup)
    return ClassCounts(confusion, replicates_of(confusion, options.replicates, generator))


def calibration_counts(
    calibration: Numbers, task: str, subgroup: Mapping[str, str], options: Options
) -> ClassCounts:
    """Bins of confidence, (bins, 3), and how they might have come out at the same confidence."""
    generator = generator_for(options.seed, f"{task} calibration", subgroup)
    faces, confidence, right = np.moveaxis(calibration, -1, 0)
    outcomes = np.stack([faces - right, right], axis=-1)
    drawn = replicates_of(outcomes, options.replicates, generator)
    n = drawn.sum(axis=-1)
    mean = np.nan_to_num(ratio(confidence, faces))
    return ClassCounts(calibration, np.stack([n, mean * n, drawn[..., 1]], axis=-1))


def estimate(
    metric: Metric,
    counts: Any,
    options: Options,
    *,
    own_class: bool = False,
    blocks: Sequence[Any] | None = None,
) -> list[Estimate]:
    """The metric's values with their intervals, one per class and leading axis of the counts.

    Args:
        metric: The metric.
        counts: What the metric needs: ``ClassCounts``, ``ScoreCounts``, ``YearErrors``, or an array
            of losses (..., 5) or ages (..., AGE_YEARS, AGE_YEARS).
        options: Confidence and replicates.
        own_class: Whether the faces are of a single annotated class of the metric's own task.
        blocks: Of each subgroup (the first axis of the counts), what the metric needs by block of
            units; None where rows are independent.
    """
    values, faces = _figures(metric.function, counts), _figures(metric.faces, counts)
    if own_class and not metric.within_own_class:
        return [Estimate(None, None, None, int(n), OWN_CLASS) for n in faces.ravel()]
    bounds = _bounds(metric, counts, values, faces, options)
    if blocks is not None:
        spread = Spread.of([spread_over_blocks(metric, one) for one in blocks])
        bounds = clustered(metric, values, faces, bounds, spread, options.confidence)
    low, high = (np.broadcast_to(bound, values.shape) for bound in bounds)
    parts = zip(values.ravel(), low.ravel(), high.ravel(), faces.ravel(), strict=True)
    return [_estimate(metric, value, least, most, int(n)) for value, least, most, n in parts]


def standard_error(found: Estimate, confidence: float) -> float | None:
    """Standard error that an estimate's interval stands for, in the metric's unit.

    Half the width of the interval by the normal quantile. It is never 0 because no error was seen,
    and with units it is that of clustered faces. None where there is no interval. Bounds at another
    confidence come from ``estimate`` with other options; a difference's from
    ``intervals.difference_interval`` of two such.

    Args:
        found: The estimate.
        confidence: That of its interval, such as 0.95.
    """
    if found.low is None or found.high is None:
        return None
    return (found.high - found.low) / (2 * normal_quantile(confidence))


def _figures(function: Callable[..., Values], counts: Any) -> Values:
    if isinstance(counts, ScoreCounts):
        return counts.apply(function)
    plain = counts.counts if isinstance(counts, ClassCounts) else counts
    return np.asarray(function(plain))


def _estimate(metric: Metric, value: float, low: float, high: float, faces: int) -> Estimate:
    if np.isnan(value):
        return Estimate(None, None, None, int(faces), metric.undefined)
    if not faces:
        return Estimate(float(value), None, None, 0, NOT_ANNOTATED)
    if np.isnan(low) or low == high:
        return Estimate(float(value), None, None, int(faces), NO_SPREAD)
    return Estimate(float(value), float(low), float(high), int(faces))


def _bounds(metric: Metric, counts: Any, values: Values, faces: Values, options: Options) -> Bounds:
    if metric.interval == "share":
        return wilson(values, faces, options.confidence)
    if metric.interval == "replicates":
        return _replicated(metric, counts, values, options)
    if metric.interval in {"rank", "curve"}:
        return _score_bounds(metric, counts, options)
    return _mean_bounds(metric, counts, values, options)


def _replicated(metric: Metric, counts: ClassCounts, values: Values, options: Options) -> Bounds:
    if metric.function in (macro_f1, macro_precision):
        drawn = metric.function(counts.draws, present_classes(counts.counts))
    else:
        drawn = metric.function(counts.draws)
    return spread_around(values, drawn, options.confidence, metric.limits)


def _score_bounds(metric: Metric, counts: ScoreCounts, options: Options) -> Bounds:
    others, own = np.moveaxis(counts.totals, -1, 0)  # (subgroups, K)
    if metric.interval == "rank":
        low, high = rank_interval(counts.apply(auc), own, others, options.confidence)
    else:
        # Roughly a share of the faces of the class: Boyd, Eng, Page: Area under the
        # precision-recall curve, ECML 2013 (binomial interval).
        low, high = wilson(counts.apply(average_precision), own, options.confidence)
    if metric.per_class:
        return low, high
    # The classes share their faces: whatever the correlation, the mean is no further off than this.
    return mean_of_defined(low), mean_of_defined(high)


def _mean_bounds(metric: Metric, counts: Any, values: Values, options: Options) -> Bounds:
    if metric.second_moment is None:
        raise ValueError(f"the metric {metric.name} names no second moment for its interval")
    faces = metric.faces(counts)
    averaged = values**2 if metric.interval == "root" else values
    low, high = mean_interval(
        faces,
        averaged * faces,
        metric.second_moment(counts) * faces,
        options.confidence,
    )
    if metric.interval == "root":
        return np.sqrt(np.maximum(low, 0)), np.sqrt(high)
    return (np.maximum(low, 0), high) if metric.better == "lower" else (low, high)
