"""Figures with their uncertainty, and the counts and curves behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceaudit.schema import Task

Subgroup = Mapping[str, str]
MetricKey = tuple[str, str, str | None, frozenset[tuple[str, str]]]
"""Task, metric, class and subgroup."""


@dataclass(frozen=True)
class Estimate:
    """A value with its uncertainty.

    ``value``, ``low`` and ``high`` share the metric's unit; ``n`` counts the labeled faces behind
    it. ``reason`` says why ``value`` (or the interval) is None.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None = None
    suppressed: bool = False
    """Whether the figure and its ``n`` are kept back, for privacy."""


@dataclass(frozen=True)
class MetricValue:
    """One metric of one task in one subgroup; ``label`` names the class of a per-class metric."""

    task: str
    metric: str
    subgroup: Subgroup
    estimate: Estimate
    label: str | None = None
    small: bool = False
    """Whether the subgroup has fewer than ``min_n`` faces: shown and marked, never ranked."""


@dataclass(frozen=True)
class Confusion:
    """Faces by annotated (rows) and predicted (columns) class in one subgroup."""

    task: Task
    subgroup: Subgroup
    counts: NDArray[np.int64]  # (K, K)
    hidden: NDArray[np.bool_] | None = None
    """Places whose counts are kept back, for privacy; None hides none."""


@dataclass(frozen=True)
class RocCurve:
    """One-vs-rest ROC curve of one class in one subgroup, thinned to what a figure can show."""

    task: str
    label: str
    subgroup: Subgroup
    false_positive_rate: NDArray[np.float64]  # (P,), ascending from 0 to 1
    true_positive_rate: NDArray[np.float64]  # (P,)
    auc: Estimate


@dataclass(frozen=True)
class ReliabilityBin:
    """Faces of like confidence: how sure the model was of them, and how often it was right.

    ``lower`` and ``upper`` are the bin's edges, of which the upper one belongs to it; the first bin
    has both. ``confidence`` is the mean of the highest scores.
    """

    lower: float
    upper: float
    confidence: float | None
    """None where the bin is kept back, for privacy."""
    right: Estimate
    """Share of right predictions."""


@dataclass(frozen=True)
class Reliability:
    """One task in one subgroup: how often it was right at each degree of confidence.

    ``bins`` ascend; those without a face are left out. Where there is none, ``reason`` says why.
    """

    task: str
    subgroup: Subgroup
    n: int | None
    """Annotated faces with scores; None where the number is kept back, for privacy."""
    bins: tuple[ReliabilityBin, ...]
    reason: str | None = None
    small: bool = False
