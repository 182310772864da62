"""Rows that are not independent: how far a figure moves when whole blocks of units are left out.

Faces of one person or one video err together, so that a thousand faces of a hundred persons tell
less than a thousand of a thousand. The tally keeps units in blocks, no unit in two of them; the
spread of a figure over tables that lack one block each holds whatever the faces of a unit share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceaudit.audit.intervals import Bounds, normal_quantile, wilson
from faceaudit.audit.metrics import Metric, Values, macro_f1, macro_precision, present_classes
from faceaudit.audit.tally import YearErrors

FEW_BLOCKS = 20
"""With fewer blocks of units an interval rests on too few to be relied on."""


@dataclass(frozen=True)
class Spread:
    """The variance of figures over blocks, and how many blocks have faces; both (...)."""

    variance: Values
    blocks: Values

    @classmethod
    def of(cls, parts: Sequence[Spread]) -> Spread:
        """Several subgroups along a first axis."""
        return cls(
            np.stack([part.variance for part in parts]), np.stack([part.blocks for part in parts])
        )


def spread_over_blocks(metric: Metric, blocks: Any) -> Spread:
    """Jackknife variance of a metric over the blocks of one subgroup.

    Args:
        metric: The metric.
        blocks: What the metric needs, with a first axis of blocks.

    Source:
        Efron, Stein: The jackknife estimate of variance, Annals of Statistics 9, 1981; a block is
        left out at a time.
    """
    function = _function_of(metric, blocks)
    left = _map(blocks, lambda part: part.sum(axis=0, keepdims=True) - part)
    whole = function(_map(blocks, lambda part: part.sum(axis=0)))
    occupied = (np.asarray(metric.faces(blocks)) > 0).sum(axis=0)
    moves = np.square(function(left) - whole).sum(axis=0)
    scale = np.where(occupied > 1, (occupied - 1) / np.maximum(occupied, 1), np.nan)
    return Spread(np.asarray(scale * moves), np.asarray(occupied, np.float64))


def clustered(
    metric: Metric, values: Values, faces: Values, plain: Bounds, spread: Spread, confidence: float
) -> Bounds:
    """Bounds that hold for rows in units: never narrower than those of independent rows.

    Shares get Wilson's interval with as many faces as independent ones would tell the same; other
    figures reach Student's quantile times the spread over blocks. NaN with fewer than two blocks.

    Args:
        metric: The metric.
        values: Its values, (...).
        faces: Faces behind each.
        plain: Bounds as if the rows were independent.
        spread: Variances over blocks, (...).
        confidence: Such as 0.95.

    Source:
        Korn, Graubard: Confidence intervals for proportions with small expected number of positive
        counts estimated from survey data, Survey Methodology 24, 1998 (effective faces).
    """
    from scipy.special import stdtrit

    degrees = np.where(spread.blocks > 1, spread.blocks - 1, np.nan)
    quantile = stdtrit(degrees, (1 + confidence) / 2)
    if metric.interval == "share":
        alone = np.minimum(faces, spread.blocks)
        with np.errstate(divide="ignore", invalid="ignore"):
            told = np.where(spread.variance > 0, values * (1 - values) / spread.variance, alone)
        effective = np.minimum(told * (normal_quantile(confidence) / quantile) ** 2, faces)
        return wilson(values, effective, confidence)
    half = quantile * np.sqrt(spread.variance)
    low, high = metric.limits
    return (
        np.minimum(plain[0], np.maximum(values - half, low)),
        np.maximum(plain[1], np.minimum(values + half, high)),
    )


def _function_of(metric: Metric, blocks: Any) -> Callable[[Any], Values]:
    """The metric as a function of counts alone: classes are those of the whole subgroup."""
    if metric.function not in (macro_f1, macro_precision):
        return metric.function
    present = present_classes(blocks.sum(axis=0))
    return lambda counts: metric.function(counts, present)


def _map(counts: Any, function: Callable[[Any], Any]) -> Any:
    return counts.map(function) if isinstance(counts, YearErrors) else function(np.asarray(counts))
