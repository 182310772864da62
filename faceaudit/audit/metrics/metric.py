"""What a metric is, and the arithmetic that every metric needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Need = Literal[
    "classes", "groups", "scores", "losses", "calibration", "years", "ages", "images", "predicted"
]
Interval = Literal[
    "share",
    "overlap",
    "classes",
    "mean_of_classes",
    "rank",
    "curve",
    "mean",
    "positive",
    "root",
    "steps",
    "signed_steps",
    "calibration",
]
"""Kinds of intervals: see ``bounds.BOUNDS``."""


@dataclass(frozen=True)
class Metric:
    """A metric: its function, its direction, and what a reader must know of it."""

    name: str
    title: str
    definition: str
    """One sentence: what the figure is."""
    source: str
    function: Callable[..., Values]
    faces: Callable[[Any], Values]
    """Counts to the number of faces behind the value."""
    undefined: str
    """Why the value is not defined, where it is not."""
    needs: Need = "classes"
    """What it is computed from, by the name of what the tally counts."""
    interval: Interval = "share"
    better: Literal["higher", "lower", "zero", "neither"] = "higher"
    unit: Literal["share", "score", "nats", "groups", "years"] = "share"
    per_class: bool = False
    within_own_class: bool = True
    """Whether it has a meaning among faces of a single annotated class of its own task."""
    incomparable: str | None = None
    """Why nothing is claimed of differences in it, where nothing is."""
    second_moment: Callable[[Any], Values] | None = None
    """Counts to the mean square of what a ``mean``, ``positive`` or ``root`` metric averages."""
    mean_of: str = ""
    """The metric per class whose unweighted mean over the classes it is."""
    marks: Callable[[], Any] | None = None
    """Of a share of ``ages``: the years of the faces that count and of those that are hits, each
    (AGE_YEARS, AGE_YEARS), true or false. It can then be had without tables of all years."""

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest possible value."""
        if self.unit in {"share", "score"}:
            return 0.0, 1.0
        return (-np.inf if self.better == "zero" else 0.0), np.inf


def ratio(part: Any, whole: Any) -> Values:
    """``part / whole``; NaN where ``whole`` is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole != 0, part / whole, np.nan))


def ratio_or_0(part: Any, whole: Any) -> Values:
    """``part / whole``; 0 where ``whole`` is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole != 0, part / whole, 0.0))


def mean_of_defined(values: Any, counted: Any | None = None) -> Values:
    """Mean over the last axis of the values that are not NaN, or of those that are counted."""
    chosen = ~np.isnan(values) if counted is None else np.asarray(counted)
    return ratio(np.where(chosen, values, 0).sum(axis=-1), chosen.sum(axis=-1))
