"""Everything that one audit found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from faceaudit.audit.results.conditioned import ConditionedAge, Decomposition, Standardised
from faceaudit.audit.results.coverage import Coverage, WithFailures
from faceaudit.audit.results.gaps import Comparison, Disparity
from faceaudit.audit.results.shares import Composition, Correction
from faceaudit.audit.results.values import (
    Confusion,
    Estimate,
    MetricKey,
    MetricValue,
    Reliability,
    RocCurve,
)
from faceaudit.audit.results.verdicts import PolicyFacts, Verdict
from faceaudit.schema import Task

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


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
    subgroups: int
    """Of so many subgroups, and of everybody."""
    of_subgroups: int


@dataclass(frozen=True)
class LeakEffect:
    """One figure of one task over all rows, over the leaked ones, and over those that are left."""

    task: str
    metric: str
    every: Estimate
    leaked: Estimate
    without: Estimate
    difference: Estimate
    """``every`` minus ``without``; ``n`` is the leaked faces."""


@dataclass(frozen=True)
class LeaksLeftOut:
    """Rows that were left out because their picture is in several sets, and what they changed."""

    path: str
    sha256: str
    """Of the table of leaks."""
    matched_by: str
    """The column that rows were matched by: ``sha256`` or ``image``."""
    rows: int
    images: int
    of_rows: int
    pairs: int
    """Pairs in the table of leaks whose picture is in several sets."""
    effects: tuple[LeakEffect, ...] = ()


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
    comparisons: tuple[Comparison, ...] = ()
    """Every metric over the subgroups of every grouping."""
    with_failures: tuple[WithFailures, ...] = ()
    within: str | None = None
    """The control feature that figures were also found within."""
    standardised: tuple[Standardised, ...] = ()
    decompositions: tuple[Decomposition, ...] = ()
    policy: PolicyFacts | None = None
    verdicts: tuple[Verdict, ...] = ()
    """One per rule of the policy, in its order."""
    leaks: LeaksLeftOut | None = None
    corrections: tuple[Correction, ...] = ()
    """How the composition was corrected, one entry per task where that was tried or compared."""
    calibration: tuple[Reliability, ...] = ()
    """How often every annotated task was right at each degree of confidence, by subgroup."""

    @cached_property
    def metrics_by_key(self) -> Mapping[MetricKey, MetricValue]:
        """The metrics by task, metric, class and subgroup."""
        return {
            (one.task, one.metric, one.label, frozenset(one.subgroup.items())): one
            for one in self.metrics
        }

    def to_polars(self) -> pl.DataFrame:
        """The metrics, one row per figure (see ``frame.metrics_to_polars``)."""
        from faceaudit.audit.frame import metrics_to_polars

        return metrics_to_polars(self)

    def to_pandas(self) -> pd.DataFrame:
        """The same in pandas."""
        from faceaudit.audit.frame import metrics_to_pandas

        return metrics_to_pandas(self)

    def calibration_to_polars(self) -> pl.DataFrame:
        """The reliability bins, one row per bin (see ``frame.calibration_to_polars``)."""
        from faceaudit.audit.frame import calibration_to_polars

        return calibration_to_polars(self)
