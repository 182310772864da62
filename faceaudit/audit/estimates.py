"""Metric and counts to estimates: values with intervals, faces and reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceaudit.audit.bounds import bounds_of, figures, sure_bounds_of
from faceaudit.audit.clusters import FEW_BLOCKS, Spread, spread_over_blocks, told_by_units
from faceaudit.audit.intervals import normal_quantile
from faceaudit.audit.metrics import Metric
from faceaudit.audit.results import Estimate

NO_SPREAD = "no interval: it needs two faces (with --unit, of two units) whose errors differ"
OF_CLASS = 6
"""A class that is seen in fewer faces, or with units in fewer of them, tells too little of how it
fares. Asked of all classes of the task together, as a table that lacks one is no better for it."""
FEW_FACES = f"no interval: it needs {OF_CLASS} faces for every class"
FEW_UNITS = (
    f"no interval: figures of several classes need the faces of about {FEW_BLOCKS} units, and of "
    f"{OF_CLASS} for every class"
)
NOT_ANNOTATED = "no interval: no face is annotated as this class"
OWN_CLASS = "among faces of one annotated class only accuracy and recall have a meaning"


@dataclass(frozen=True)
class Options:
    """How an audit computes."""

    min_n: int = 30
    confidence: float = 0.95
    replicates: int = 2000
    """Draws of permutation tests."""
    seed: int = 0
    also: tuple[Metric, ...] = ()
    """Metrics beside the registered ones."""
    sure: bool = False
    """Whether each bound must hold by itself, as those of verdicts."""


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
        counts: What the metric needs: ``ScoreCounts``, ``YearErrors``, or an array of confusions
            (..., K, K), losses (..., 5), bins (..., bins, 3) or ages (..., AGE_YEARS, AGE_YEARS).
        options: Of which the confidence is used, and whether bounds must be sure.
        own_class: Whether the faces are of a single annotated class of the metric's own task.
        blocks: Of each subgroup (the first axis of the counts), what the metric needs by block of
            units; None where rows are independent.
    """
    values, faces = figures(metric.function, counts), figures(metric.faces, counts)
    if own_class and not metric.within_own_class:
        return [Estimate(None, None, None, int(n), OWN_CLASS) for n in faces.ravel()]
    told: Any = np.ones(values.shape)
    bounds = bounds_of(metric, counts, told, options.confidence)
    if blocks is not None:
        spread = Spread.of([spread_over_blocks(metric, one) for one in blocks])
        told = told_by_units(metric, values, faces, bounds, spread, options.confidence)
        bounds = bounds_of(metric, counts, told, options.confidence)
    if options.sure:
        bounds = sure_bounds_of(metric, counts, told, bounds, options.confidence)
    without = NO_SPREAD
    if metric.interval == "classes" and (blocks is not None or metric.mean_of != "recall"):
        needed = OF_CLASS * np.shape(counts)[-1]
        few = faces < needed
        without = FEW_FACES
        if blocks is not None:
            few = spread.blocks < np.maximum(needed, FEW_BLOCKS)
            without = FEW_UNITS
        bounds = (np.where(few, np.nan, bounds[0]), np.where(few, np.nan, bounds[1]))
    parts = zip(values.ravel(), *(bound.ravel() for bound in bounds), faces.ravel(), strict=True)
    return [_estimate(metric, value, low, high, int(n), without) for value, low, high, n in parts]


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


def _estimate(
    metric: Metric, value: float, low: float, high: float, faces: int, without: str
) -> Estimate:
    if np.isnan(value):
        return Estimate(None, None, None, int(faces), metric.undefined)
    if not faces:
        return Estimate(float(value), None, None, 0, NOT_ANNOTATED)
    if np.isnan(low) or np.isnan(high) or low == high:
        return Estimate(float(value), None, None, int(faces), without)
    return Estimate(float(value), float(low), float(high), int(faces))
