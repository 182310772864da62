"""How far faces move a figure, and what that makes of its interval and its tests.

A corrected share is a smooth function of means over several sources of faces: the set itself, and
faces that were labeled. To first order every face moves it by so much; the sums of the squares and
cubes of these moves are the variance and the skewness of the figure. No draw is needed, and units
are sums of the moves of their faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from faceaudit.audit.intervals import Bounds, normal_quantile, student_quantile
from faceaudit.audit.metrics import Values, ratio
from faceaudit.audit.quantify import Codes
from faceaudit.audit.results import FitTest
from faceaudit.audit.tally import BLOCKS

SMALLEST = 1e-9
"""A variance that varies by a smaller share of itself is taken as known."""
NO_SPREAD = "the differences have no spread"


@dataclass(frozen=True)
class Moves:
    """How far the faces of one source move F figures; faces that are alike share a row."""

    each: Values  # (m, F): of one face, around its mean
    times: Values  # (m,): how many such faces there are
    units: Values | None = None  # (BLOCKS, F): of all faces of a block of units; None without units

    @classmethod
    def of_faces(cls, each: Values, unit: Codes | None = None) -> Moves:
        """Moves of single faces (n, F), with the block of units of each."""
        units = None
        if unit is not None:
            units = np.zeros((BLOCKS, each.shape[1]))
            np.add.at(units, unit, each)
        return cls(each, np.ones(len(each)), units)

    def with_same_units(self, other: Moves) -> Moves:
        """Moves of two sources whose faces are of the same units."""
        if self.units is None or other.units is None:
            raise ValueError("both sources must have units")
        return Moves(
            np.concatenate([self.each, other.each]),
            np.concatenate([self.times, other.times]),
            self.units + other.units,
        )

    @cached_property
    def variance(self) -> Values:
        """Of the figures, as if faces were independent, (F,)."""
        return np.asarray(self.times @ np.square(self.each))

    @cached_property
    def skew(self) -> Values:
        """Third central moments of the figures, as if faces were independent, (F,)."""
        return np.asarray(self.times @ (self.each * self.each * self.each))

    @cached_property
    def fourth(self) -> Values:
        """Sums of the fourth powers of the moves, (F,)."""
        return np.asarray(self.times @ np.square(self.each * self.each))

    @cached_property
    def freedom(self) -> float:
        """Degrees of freedom of the spread over units; infinite where faces are independent."""
        return np.inf if self.units is None else float(self.units.any(axis=1).sum()) - 1

    def effect(self, confidence: float) -> Values:
        """By how much units raise the variance, at least 1, (F,); NaN with a single unit.

        Where Student's quantile is larger than the normal one, it is raised by the squared ratio.
        """
        if self.units is None:
            return np.ones(self.each.shape[1])
        student = student_quantile(self.freedom, confidence) / normal_quantile(confidence)
        over_units = np.square(self.units).sum(axis=0) * ratio(self.freedom + 1, self.freedom)
        return np.asarray(np.maximum(ratio(over_units, self.variance), 1) * student**2)

    @property
    def covariance(self) -> Values:
        """Of the figures, (F, F), by units where there are any."""
        if self.units is None:
            return np.asarray(self.each.T @ (self.times[:, None] * self.each))
        return np.asarray(self.units.T @ self.units * ratio(self.freedom + 1, self.freedom))


def skewed_interval(center: Values, sources: Sequence[Moves], confidence: float) -> Bounds:
    """Interval of figures whose errors are sums over faces of independent sources.

    The variance is taken to change with the figure as its skewness says: a figure that came out low
    because rare errors are missing has a variance that is too low as well. Of a plain share it is
    Hall's interval. What the variance varies by besides, as it rests on the moves of few faces,
    makes the quantile Student's, with Satterthwaite's degrees of freedom.

    Args:
        center: The figures, (F,).
        sources: Moves of each source.
        confidence: Such as 0.95.

    Source:
        Hall: Improving the normal approximation when constructing one-sided confidence intervals
        for binomial or Poisson parameters, Biometrika 69, 1982; Cai: One-sided confidence intervals
        in discrete distributions, Journal of Statistical Planning and Inference 131, 2005;
        Satterthwaite: An approximate distribution of estimates of variance components, Biometrics
        Bulletin 2, 1946.
    """
    effects = [one.effect(confidence) for one in sources]
    # Units of m like faces have m times the variance, and m squared times the third moment.
    variance, skew, fourth = (
        np.sum([e**power * part for part, e in zip(parts, effects, strict=True)], axis=0)
        for power, parts in enumerate(
            zip(*((one.variance, one.skew, one.fourth) for one in sources), strict=True), start=1
        )
    )
    # The variance of the variance, less what goes with the figure itself.
    varies = np.maximum(fourth - np.nan_to_num(ratio(skew**2, variance)), SMALLEST * variance**2)
    z = student_quantile(2 * ratio(variance**2, varies), confidence)
    shift = (2 * z**2 + 1) / 6 * np.nan_to_num(ratio(skew, variance))
    half = np.sqrt(z**2 * variance + shift**2)
    return center + shift - half, center + shift + half


def wald(found: Values, sources: Sequence[Moves]) -> FitTest:
    """Whether figures that sum to 0 are 0: chi-square, or with units Hotelling's test.

    Args:
        found: The figures, (F,).
        sources: Moves of each source.

    Source:
        Hotelling: The generalization of Student's ratio, Annals of Mathematical Statistics 2, 1931.
    """
    from scipy.stats import chi2, f

    covariance = sum(one.covariance for one in sources)[:-1, :-1]  # type: ignore[index]
    degrees, freedom = len(found) - 1, min(one.freedom for one in sources)
    # With a single unit the covariance is not even known.
    if freedom < degrees or np.linalg.matrix_rank(covariance, hermitian=True) < degrees:
        return FitTest(None, None, None, NO_SPREAD)
    statistic = float(found[:-1] @ np.linalg.solve(covariance, found[:-1]))
    if np.isinf(freedom):
        return FitTest(statistic, degrees, float(chi2.sf(statistic, degrees)))
    left = freedom - degrees + 1
    p_value = f.sf(statistic * left / (degrees * freedom), degrees, left)
    return FitTest(statistic, degrees, float(p_value))
