"""Differences of subgroups at one confidence for all of them together, and their p values.

Everything rests on the limits of the single subgroups, which may lie unevenly around their values:
rates near 0 and 1 keep limits that hold, and so do their differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.intervals import Bounds, Values, normal_quantile
from faceaudit.audit.metrics import SYMMETRIC, Metric
from faceaudit.audit.results import Estimate

Places = NDArray[np.int64]
DRAWS = 30_000
"""Simulated families behind a critical value; its tail is then off by about 0.1 points."""
SIMULATED = 1_000
"""Larger families take Bonferroni's critical value, which is never too small."""
FARTHEST = 8.2
"""Standard errors beyond which a p value is not told from 0."""
BISECTIONS = 50


@dataclass(frozen=True)
class Figures:
    """Values of subgroups and what their limits at any confidence follow from; arrays (K,).

    Of a share that is ``trials``, the faces that would tell as much if they were independent; of
    any other figure how far its limits are below and above it at one standard error.
    """

    values: Values
    trials: Values
    below: Values
    above: Values
    degrees: Values
    limits: tuple[float, float]
    is_share: bool

    @classmethod
    def of(
        cls,
        metric: Metric,
        estimates: Sequence[Estimate],
        degrees: Sequence[float],
        confidence: float,
    ) -> Figures:
        """Figures of estimates that have intervals.

        Args:
            metric: The metric.
            estimates: One per subgroup.
            degrees: Degrees of freedom of each one's spread; infinite where it is not estimated
                from a few values.
            confidence: Of the estimates' intervals.
        """
        values = np.array([one.value for one in estimates], np.float64)
        low = np.array([one.low for one in estimates], np.float64)
        high = np.array([one.high for one in estimates], np.float64)
        freedom = np.asarray(degrees, np.float64)
        z = normal_quantile(confidence)
        reach = student(np.full_like(values, z), freedom)
        below, above = values - low, high - values
        if metric.interval in SYMMETRIC:
            below = above = np.maximum(below, above)
        trials = np.full_like(values, np.nan)
        if metric.interval == "share":
            trials = _trials(values, low, high, z) * (reach / z) ** 2
        return cls(
            values,
            trials,
            below / reach,
            above / reach,
            freedom,
            metric.limits,
            metric.interval == "share",
        )

    @property
    def standard_errors(self) -> Values:
        """The mean distance of the limits at one standard error, never 0; (K,)."""
        everyone = np.arange(len(self.values))
        below, above = self.sides(everyone, np.ones(len(everyone)))
        return np.asarray((below + above) / 2)

    def sides(self, at: Places, z: Values) -> Bounds:
        """How far the limits of some subgroups are below and above them, (M,) each.

        Args:
            at: Numbers of the subgroups, (M,).
            z: Standard normal quantile of each, (M,).
        """
        values, reach = self.values[at], student(z, self.degrees[at])
        if self.is_share:
            low, high = _score_limits(values, self.trials[at], reach)
        else:
            low = np.maximum(values - reach * self.below[at], self.limits[0])
            high = np.minimum(values + reach * self.above[at], self.limits[1])
        return values - low, high - values


@dataclass(frozen=True)
class Pairs:
    """Differences of figures, ``first`` minus ``second``; both are numbers of subgroups, (M,)."""

    figures: Figures
    first: Places
    second: Places

    @property
    def differences(self) -> Values:
        return np.asarray(self.figures.values[self.first] - self.figures.values[self.second])

    @property
    def standard_errors(self) -> Values:
        errors = self.figures.standard_errors
        return np.hypot(errors[self.first], errors[self.second])

    def bounds(self, z: float | Values) -> Bounds:
        """Bounds of every difference at a standard normal quantile.

        Source:
            Newcombe: Interval estimation for the difference between independent proportions,
            Statistics in Medicine 17, 1998 (method 10); Zou, Donner: Construction of confidence
            limits about effect measures, Statistics in Medicine 27, 2008, for other figures.
        """
        reach = np.broadcast_to(np.asarray(z, np.float64), self.first.shape)
        first_below, first_above = self.figures.sides(self.first, reach)
        second_below, second_above = self.figures.sides(self.second, reach)
        found = self.differences
        return (
            found - np.hypot(first_below, second_above),
            found + np.hypot(first_above, second_below),
        )

    def distances(self, point: float) -> Values:
        """The quantile at which each interval just reaches a point, (M,); negative where below it.

        The interval turned round to a test: 1.96 is a two-sided p value of 0.05.
        """
        over = self.differences >= point
        near, far = np.zeros(len(over)), np.full(len(over), FARTHEST)
        for _ in range(BISECTIONS):
            middle = (near + far) / 2
            low, high = self.bounds(middle)
            clear = np.where(over, low > point, high < point)
            near, far = np.where(clear, middle, near), np.where(clear, far, middle)
        return np.where(over, near, -near)


def student(z: Values, degrees: Values) -> Values:
    """The Student quantiles that leave the same tails as standard normal ones."""
    from scipy.special import ndtr, stdtrit

    finite = np.isfinite(degrees)
    used = np.where(finite, degrees, 1.0)
    return np.where(finite, -stdtrit(used, ndtr(-z)), z)


def two_sided(z: Values) -> Values:
    """Two-sided p values of standard normal quantiles."""
    from scipy.special import ndtr

    return np.asarray(2 * ndtr(-np.abs(z)))


def holm(p_values: Values) -> Values:
    """P values adjusted so that a family's share of false alarms holds.

    Source:
        Holm: A simple sequentially rejective multiple test procedure, Scandinavian Journal of
        Statistics 6, 1979.
    """
    order = np.argsort(p_values)
    steps = (len(p_values) - np.arange(len(p_values))) * p_values[order]
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def every_pair(size: int) -> tuple[Places, Places]:
    """Numbers of both members of every pair, (M,) each."""
    first, second = np.triu_indices(size, 1)
    return first, second


@dataclass(frozen=True)
class Family:
    """How far the furthest of several differences lies from 0 by chance, in standard errors."""

    size: int
    largest: Values | None
    """Simulated, ascending; None where Bonferroni's bound is taken."""

    def quantile(self, confidence: float) -> float:
        """The critical value: the furthest stays within it with this probability."""
        bonferroni = NormalDist().inv_cdf(1 - (1 - confidence) / 2 / self.size)
        if self.largest is None:
            return bonferroni
        return min(float(np.quantile(self.largest, confidence)), bonferroni)

    def p_value(self, distance: float) -> float:
        """The probability of a difference at least this far from 0."""
        bonferroni = min(1.0, self.size * float(two_sided(np.asarray(distance))))
        if self.largest is None:
            return bonferroni
        beyond = len(self.largest) - np.searchsorted(self.largest, distance)
        return min(float(beyond + 1) / (len(self.largest) + 1), bonferroni)


def family_of(contrasts: Values, spreads: Values) -> Family:
    """The family of some contrasts of independent figures.

    Args:
        contrasts: Weights of the figures in each contrast, (M, K).
        spreads: Standard errors of the figures, (K,).

    Source:
        Hothorn, Bretz, Westfall: Simultaneous inference in general parametric models, Biometrical
        Journal 50, 2008 (max-t; here simulated); Hasler, Hothorn: Multiple contrast tests in the
        presence of heteroscedasticity, the same journal, for unequal spreads.
    """
    size = len(contrasts)
    if size > SIMULATED or size < 2:
        return Family(size, None)
    scaled = contrasts * spreads
    # To two decimals: what is as good as equal is simulated once.
    standard = np.round(scaled / np.linalg.norm(scaled, axis=1, keepdims=True), 2)
    return Family(size, _largest(standard.tobytes(), standard.shape))


@lru_cache(maxsize=256)
def _largest(contrasts: bytes, shape: tuple[int, int]) -> Values:
    """The furthest of the contrasts in each simulated family, ascending."""
    weights = np.frombuffer(contrasts).reshape(shape)
    weights = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    generator = np.random.default_rng(0)
    parts = [
        np.abs(generator.standard_normal((DRAWS // 10, shape[1])) @ weights.T).max(axis=1)
        for _ in range(10)
    ]
    return np.sort(np.concatenate(parts))


def _trials(values: Values, low: Values, high: Values, z: float) -> Values:
    """The faces for which score limits at ``z`` are these."""
    # The further limit, which is never the value itself.
    limit = np.where(values - low >= high - values, low, high)
    return np.asarray(z**2 * limit * (1 - limit) / np.square(values - limit))


def _score_limits(share: Values, trials: Values, z: Values) -> Bounds:
    """Wilson's limits at standard normal quantiles, as ``intervals.wilson``."""
    squared = z**2
    center = (share + squared / (2 * trials)) / (1 + squared / trials)
    spread = share * (1 - share) / trials + squared / (4 * trials**2)
    half = z / (1 + squared / trials) * np.sqrt(spread)
    return (
        np.minimum(np.maximum(center - half, 0), share),
        np.maximum(np.minimum(center + half, 1), share),
    )
