"""Metric and counts to estimates: values with intervals, faces and reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceaudit.audit.intervals import (
    Bounds,
    generator_for,
    mean_interval,
    rank_interval,
    replicates_of,
    spread_around,
    wilson,
)
from faceaudit.audit.metrics import (
    Metric,
    Values,
    auc,
    macro_f1,
    mean_of_defined,
    present_classes,
)
from faceaudit.audit.results import Estimate
from faceaudit.audit.tally import Counts

NO_SPREAD = "no interval: it needs two faces whose errors differ"
NOT_ANNOTATED = "no interval: no face is annotated as this class"
OWN_CLASS = "among faces of one annotated class only accuracy and recall have a meaning"


@dataclass(frozen=True)
class Options:
    """How an audit computes."""

    min_n: int = 30
    confidence: float = 0.95
    replicates: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class ClassCounts:
    """Confusion counts of one subgroup, (..., K, K), with the replicates of the same."""

    counts: Counts
    draws: Values  # (replicates, ..., K, K)


def class_counts(
    confusion: Counts, task: str, subgroup: Mapping[str, str], options: Options
) -> ClassCounts:
    """The counts of a subgroup and how they might have come out."""
    generator = generator_for(options.seed, task, subgroup)
    return ClassCounts(confusion, replicates_of(confusion, options.replicates, generator))


def estimate(
    metric: Metric, counts: Any, options: Options, *, own_class: bool = False
) -> list[Estimate]:
    """The metric's value with its interval; one per class, or per leading axis of the counts.

    Args:
        metric: The metric.
        counts: ``ClassCounts``, scores (K, 2, B) or ``YearErrors``, as the metric needs.
        options: Confidence and replicates.
        own_class: Whether the faces are of a single annotated class of the metric's own task.
    """
    plain = counts.counts if isinstance(counts, ClassCounts) else counts
    faces = np.atleast_1d(metric.faces(plain)).astype(int)
    if own_class and not metric.within_own_class:
        return [Estimate(None, None, None, int(n), OWN_CLASS) for n in faces]
    values = metric.function(plain)
    low, high = (np.atleast_1d(bound) for bound in _bounds(metric, counts, values, options))
    return [
        _estimate(metric, *parts)
        for parts in zip(np.atleast_1d(values), low, high, faces, strict=True)
    ]


def _estimate(metric: Metric, value: float, low: float, high: float, faces: int) -> Estimate:
    if np.isnan(value):
        return Estimate(None, None, None, int(faces), metric.undefined)
    if not faces:
        return Estimate(float(value), None, None, 0, NOT_ANNOTATED)
    if np.isnan(low):
        return Estimate(float(value), None, None, int(faces), NO_SPREAD)
    return Estimate(float(value), float(low), float(high), int(faces))


def _bounds(metric: Metric, counts: Any, values: Values, options: Options) -> Bounds:
    if metric.interval == "share":
        plain = counts.counts if isinstance(counts, ClassCounts) else counts
        return wilson(values, metric.faces(plain), options.confidence)
    if metric.interval == "replicates":
        return _replicated(metric, counts, values, options)
    if metric.interval == "rank":
        return _rank_bounds(metric, counts, options)
    return _mean_bounds(metric, counts, values, options)


def _replicated(metric: Metric, counts: ClassCounts, values: Values, options: Options) -> Bounds:
    if metric.function is macro_f1:
        drawn = macro_f1(counts.draws, present_classes(counts.counts))
    else:
        drawn = metric.function(counts.draws)
    return spread_around(values, drawn, options.confidence, metric.limits)


def _rank_bounds(metric: Metric, scores: Counts, options: Options) -> Bounds:
    totals = scores.sum(axis=-1)  # (K, 2)
    low, high = rank_interval(auc(scores), totals[:, 1], totals[:, 0], options.confidence)
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
