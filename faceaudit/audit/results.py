"""What an audit finds: frozen facts, one dataclass per kind, from which page and JSON are made.

A figure that is not defined is None with a ``reason``; it is never 0, NaN or a neutral value.
Subgroups are mappings from feature to class, ``{"race": "Black", "gender": "Female"}``; ``{}`` is
everybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.schema import Task

Subgroup = Mapping[str, str]


@dataclass(frozen=True)
class Estimate:
    """A value with its uncertainty.

    ``value``, ``low`` and ``high`` share the metric's unit; ``n`` counts the labelled faces behind
    it. ``reason`` says why ``value`` (or the interval) is None.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None = None


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
class Disparity:
    """How far a metric is apart over the subgroups of one ``by``: a description, not a test.

    ``worst`` and ``best`` are the ranked subgroups (at least ``min_n`` faces); ``difference`` is
    the highest value minus the lowest, ``ratio`` the lowest by the highest. ``low`` and ``high``
    bound that difference. Of a signed metric the worst is the furthest from 0 and the best the
    nearest; where no direction is better, the worst is the lowest.
    """

    task: str
    metric: str
    by: tuple[str, ...]
    worst: Subgroup | None
    best: Subgroup | None
    difference: float | None
    ratio: float | None
    low: float | None
    high: float | None
    n_ranked: int
    reason: str | None = None
    label: str | None = None
    """The class, of a per-class metric."""
    over_geometric_mean: float | None = None
    """The highest error of the ranked subgroups by the geometric mean of their errors."""


@dataclass(frozen=True)
class ConditionedAge:
    """Age error of faces of one annotated age group in one subgroup.

    ``subgroup`` is ``{}`` for everybody; ``age_group`` is None for all ages together, and
    ``standardised`` then tells whether the ages were re-weighted to the common age distribution.
    ``estimates`` maps ``exact``, ``one_off``, ``step_mae``, ``mean_signed_step`` (in groups) and,
    where years are known, ``mae`` and ``mean_signed_error`` (in years).
    """

    subgroup: Subgroup
    age_group: str | None
    estimates: Mapping[str, Estimate]
    standardised: bool = False
    small: bool = False


@dataclass(frozen=True)
class Coverage:
    """Who was scored and who is missing: images by status in one annotated subgroup.

    ``rates`` maps a status to the share of images with it, and further ``decoding`` to the share of
    images that could be decoded, ``detection`` to the share of those in which a face was found, and
    ``multi_face`` to the share of scored images with more than one face.
    """

    subgroup: Subgroup
    images: int
    statuses: Mapping[str, int]
    failure_rate: Estimate
    """Share of images without a scored face."""
    rates: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class WithFailures:
    """A figure twice: on scored faces, and on all that are annotated, failures counted as errors.

    ``difference`` is the first minus the second, by how much a figure of scored faces flatters.
    """

    task: str
    metric: str
    subgroup: Subgroup
    scored: Estimate
    with_failures: Estimate
    difference: Estimate
    missed: int
    """Annotated faces without a prediction."""
    label: str | None = None
    small: bool = False


@dataclass(frozen=True)
class Confusion:
    """Faces by annotated (rows) and predicted (columns) class in one subgroup."""

    task: Task
    subgroup: Subgroup
    counts: NDArray[np.int64]  # (K, K)


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
class Composition:
    """Share of one predicted class among scored faces, uncorrected."""

    task: str
    label: str
    subgroup: Subgroup
    share: Estimate


@dataclass(frozen=True)
class Verification:
    """Figures recomputed by scikit-learn and fairlearn on the same rows."""

    rows: int
    compared: int
    largest_difference: float
    where: str
    """The metric and subgroup of the largest difference."""
    against: str
    """The libraries and their versions."""


@dataclass(frozen=True)
class Audit:
    """Everything that one audit found."""

    tasks: tuple[Task, ...]
    by: tuple[tuple[str, ...], ...]
    """The groupings that were cut, such as ``(("gender",), ("race",), ("gender", "race"))``."""
    rows: int
    images: int
    labelled: Mapping[str, int]
    """Task name (``age`` for years) -> faces with both an annotated and a predicted value."""
    coverage: tuple[Coverage, ...]
    metrics: tuple[MetricValue, ...]
    disparities: tuple[Disparity, ...]
    conditioned_age: tuple[ConditionedAge, ...]
    confusions: tuple[Confusion, ...]
    roc_curves: tuple[RocCurve, ...]
    composition: tuple[Composition, ...]
    notes: tuple[str, ...]
    """Sentences that a reader must see: mappings used, classes merged, scores refused."""
    options: Mapping[str, Any] = field(default_factory=dict)
    verification: Verification | None = None
    with_failures: tuple[WithFailures, ...] = ()
