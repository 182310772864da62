"""Differences of subgroups at one confidence for all of them together, and their p values.

Everything rests on the limits of the single subgroups, which may lie unevenly around their values:
rates near 0 and 1 keep limits that hold, and so do their differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.intervals import Bounds, Values, normal_quantile
from faceaudit.audit.metrics import Interval, Metric
from faceaudit.audit.results import Estimate

Places = NDArray[np.int64]
Shape = Literal["share", "skewed", "even"]
SHAPES: dict[Interval, Shape] = {
    "share": "share",
    "rank": "share",
    "positive": "skewed",
    "root": "skewed",
    "steps": "skewed",
}
"""How limits far out follow from an interval; "even" where it is not told here."""
EVENED: Mapping[Interval, float] = {"mean": 1.0, "signed_steps": 0.15}
"""How far the shorter side of an interval is taken towards the longer: all the way of those that
are cut at a limit alone; a little, by simulation, where limits far out follow from nearer ones."""
FARTHEST = 8.2
"""Standard errors beyond which a p value is not told from 0."""
MANY = 50
"""With more hits Wilson's limit reaches as far as the exact one."""
LEAST_TRIALS = 1e-6
"""Faces that limits from 0 to 1 speak of."""
GRID = np.linspace(0, FARTHEST, 83)
"""Standard normal quantiles that limits are taken at, (Z,)."""
HALVINGS = 7
"""After so many a part of ``GRID`` has two neighbors."""


@dataclass(frozen=True)
class Figures:
    """Values of subgroups and what their limits at any confidence follow from; arrays (K,).

    ``told`` is, of a mean that cannot be negative, how far the middle of its limits is above it at
    one standard error; of a share and any other figure from 0 to 1, the faces of a share that would
    tell as much if they were independent. All figures but such means and shares have limits that
    reach in proportion, ``below`` and ``above`` at one standard error.
    """

    values: Values
    told: Values
    below: Values
    above: Values
    degrees: Values
    limits: tuple[float, float]
    shape: Shape

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
        values, low, high = (
            np.array([getattr(one, name) for one in estimates], np.float64)
            for name in ("value", "low", "high")
        )
        return cls.of_bounds(metric, values, low, high, confidence, np.asarray(degrees, np.float64))

    @classmethod
    def of_bounds(
        cls,
        metric: Metric,
        values: Values,
        low: Values,
        high: Values,
        confidence: float,
        degrees: Values | None = None,
    ) -> Figures:
        """Figures of values with bounds at a confidence, (K,) each."""
        freedom = np.full_like(values, np.inf) if degrees is None else degrees
        z = normal_quantile(confidence)
        reach = student(np.full_like(values, z), freedom)
        below, above = values - low, high - values
        evened, longer = EVENED.get(metric.interval, 0.0), np.maximum(below, above)
        below, above = (side + evened * (longer - side) for side in (below, above))
        shape, told = SHAPES.get(metric.interval, "even"), np.full_like(values, np.nan)
        if shape == "skewed":
            told = above**2 / (2 * (above + values)) / reach**2
        elif metric.limits == (0.0, 1.0):
            told = _trials(values, low, high, z) * (reach / z) ** 2
        return cls(values, told, below / reach, above / reach, freedom, metric.limits, shape)

    def at(self, numbers: Places) -> Figures:
        """Those of some subgroups."""
        return replace(
            self,
            values=self.values[numbers],
            told=self.told[numbers],
            below=self.below[numbers],
            above=self.above[numbers],
            degrees=self.degrees[numbers],
        )

    def with_faces(self, times: Values) -> Figures:
        """The same figures of so many times as many faces, (K,)."""
        root = np.sqrt(times)
        told = self.told / times if self.shape == "skewed" else self.told * times
        return replace(
            self,
            told=told,
            below=self.below / root,
            above=self.above / root,
            degrees=self.degrees * times,
        )

    def with_means(self, like: Sequence[Places]) -> Figures:
        """These, and others of which nothing is known, each taken to be the mean of some of these.

        Args:
            like: Numbers of those that each of the others is like.
        """

        def more(parts: Values) -> Values:
            return np.concatenate([parts, [parts[at].mean() for at in like]])

        return replace(
            self,
            values=more(self.values),
            told=more(self.told),
            below=more(self.below),
            above=more(self.above),
            degrees=more(self.degrees),
        )

    @cached_property
    def standard_errors(self) -> Values:
        """The mean distance of the limits at one standard error, never 0; (K,)."""
        everyone = np.arange(len(self.values))
        below, above = self.sides(everyone, np.ones(len(everyone)))
        return np.asarray((below + above) / 2)

    @cached_property
    def on_grid(self) -> Bounds:
        """How far the limits are below and above at every quantile of ``GRID``, (Z, K) each."""
        at = np.broadcast_to(np.arange(len(self.values)), (len(GRID), len(self.values)))
        return self._reaching(at, self._student)

    @cached_property
    def _student(self) -> Values:
        return student_grid(self.degrees)

    def at_step(self, at: Places, step: Places) -> Bounds:
        """``on_grid`` of some subgroups at one place of the grid each, (M,) each."""
        return self._reaching(at, self._student[step, at])

    def sides(self, at: Places, z: Values) -> Bounds:
        """How far the limits of some subgroups are below and above them, (M,) each.

        Args:
            at: Numbers of the subgroups, (M,).
            z: Standard normal quantile of each, (M,).
        """
        return self._reaching(at, student(z, self.degrees[at]))

    def _reaching(self, at: Places, reach: Values) -> Bounds:
        """The same with each subgroup's own quantile, (M,)."""
        values = self.values[at]
        if self.shape == "share":
            low, high = _score_limits(values, self.told[at], reach)
        elif self.shape == "skewed":
            low, high = _skewed_limits(values, self.told[at], reach)
        else:
            low = np.maximum(values - reach * self.below[at], self.limits[0])
            high = np.minimum(values + reach * self.above[at], self.limits[1])
        return values - low, high - values


def with_rests(figures: Figures, faces: Values) -> Figures:
    """The figures, and after them for each the mean of all others by their faces, (2K,)."""
    others = faces.sum() - faces

    def without(parts: Values) -> Values:
        return np.asarray(parts.sum() - parts)

    values = without(faces * figures.values) / others
    errors = np.sqrt(without(np.square(faces * figures.standard_errors))) / others
    told = without(figures.told)
    if figures.shape == "skewed":
        told = errors**2 / (2 * np.maximum(values, errors))
    return Figures(
        np.concatenate([figures.values, values]),
        np.concatenate([figures.told, told]),
        np.concatenate([figures.below, errors]),
        np.concatenate([figures.above, errors]),
        np.concatenate([figures.degrees, np.full(len(others), figures.degrees.sum())]),
        figures.limits,
        figures.shape,
    )


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

    def bounds(self, z: float) -> Bounds:
        """Bounds of every difference at a standard normal quantile.

        Source:
            Newcombe: Interval estimation for the difference between independent proportions,
            Statistics in Medicine 17, 1998 (method 10); Zou, Donner: Construction of confidence
            limits about effect measures, Statistics in Medicine 27, 2008, for other figures.
        """
        everyone = np.arange(len(self.figures.values))
        below, above = self.figures.sides(everyone, np.full(len(everyone), z))
        found = self.differences
        return (
            found - np.hypot(below[self.first], above[self.second]),
            found + np.hypot(above[self.first], below[self.second]),
        )

    @cached_property
    def from_zero(self) -> Values:
        """``distances`` from 0."""
        return self.distances(0.0)

    def distances(self, point: float) -> Values:
        """The quantile at which each interval just reaches a point, (M,); negative where below it.

        The interval turned round to a test: 1.96 is a two-sided p value of 0.05. Limits are
        those at ``GRID``, joined by lines.
        """
        apart = self.differences - point
        gap, higher = np.abs(apart), apart >= 0
        before = np.zeros(len(gap), np.int64)
        step = np.full(len(gap), len(GRID) - 1)
        # Limits ascend along the grid: it is halved until two neighbors hold the point.
        for _ in range(HALVINGS):
            middle = np.maximum((before + step) // 2, 1)
            short = self._reach(middle, higher) < gap
            before, step = np.where(short, middle, before), np.where(short, step, middle)
        near, far = self._reach(step - 1, higher), self._reach(step, higher)
        width = np.where(far > near, far - near, np.inf)
        found = GRID[step - 1] + (GRID[1] - GRID[0]) * np.clip((gap - near) / width, 0, 1)
        found = np.where(far < gap, FARTHEST, found)
        return np.where(higher, found, -found)

    def _reach(self, step: Places, higher: NDArray[np.bool_]) -> Values:
        """How far each interval reaches towards the other side at a place of ``GRID``, (M,)."""
        sides = []
        for at in (self.first, self.second):
            if 2 * HALVINGS * len(at) < len(GRID) * len(self.figures.values):
                sides.append(self.figures.at_step(at, step))
            else:
                below, above = self.figures.on_grid
                sides.append((below[step, at], above[step, at]))
        first, second = sides
        return np.where(higher, np.hypot(first[0], second[1]), np.hypot(first[1], second[0]))


def student(z: Values, degrees: Values) -> Values:
    """The Student quantiles that leave the same tails as standard normal ones."""
    from scipy.special import ndtr, stdtrit

    finite = np.isfinite(degrees)
    if not finite.any():
        return z
    used = np.where(finite, degrees, 1.0)
    return np.where(finite, -stdtrit(used, ndtr(-z)), z)


def student_grid(degrees: Values) -> Values:
    """``student`` of every quantile of ``GRID``, (Z, K), from degrees of freedom, (K,)."""
    different, place = np.unique(degrees, return_inverse=True)
    known = [_student_grid(float(one)) for one in different]
    return np.stack(known, axis=-1)[:, place.reshape(-1)]


@lru_cache(maxsize=2**14)
def _student_grid(degrees: float) -> Values:
    """Those of one number; subgroups have the same one in many metrics."""
    return student(GRID, np.full_like(GRID, degrees))


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


@lru_cache(maxsize=256)
def critical_of_pairs(size: int, confidence: float) -> float:
    """The quantile within which all differences of equal subgroups stay with this probability.

    Exact for subgroups with equal spreads and never too small for others.

    Source:
        Tukey's range; Hayter: A proof of the conjecture that the Tukey-Kramer multiple comparisons
        procedure is conservative, Annals of Statistics 12, 1984. Limits that rest on few blocks
        reach further by Student's quantile of the same tail: Hasler, Hothorn: Multiple contrast
        tests in the presence of heteroscedasticity, Biometrical Journal 50, 2008.
    """
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(confidence, size, np.inf) / math.sqrt(2))


def p_value_of_pairs(furthest: float, size: int) -> float:
    """The probability that the furthest difference of equal subgroups is at least this far."""
    from scipy.stats import studentized_range

    alone = float(two_sided(np.asarray(furthest)))
    together = float(studentized_range.sf(furthest * math.sqrt(2), size, np.inf))
    # Far out, rounding is larger than what is left.
    return min(max(together, alone), alone * size * (size - 1) / 2, 1.0)


def critical_of(size: int, confidence: float) -> float:
    """The quantile within which several differences of any dependence stay, at least.

    Source:
        Sidak: Rectangular confidence regions for the means of multivariate normal distributions,
        JASA 62, 1967.
    """
    return NormalDist().inv_cdf((1 + confidence ** (1 / size)) / 2)


def _trials(values: Values, low: Values, high: Values, z: float) -> Values:
    """The faces for which score limits at ``z`` are these; nearly none where all is possible."""
    # The further limit, which is never the value itself.
    limit = np.where(values - low >= high - values, low, high)
    trials = z**2 * limit * (1 - limit) / np.square(values - limit)
    return np.asarray(np.maximum(trials, LEAST_TRIALS))


def _score_limits(share: Values, trials: Values, z: Values) -> Bounds:
    """Wilson's limits at standard normal quantiles, mended toward 0 and 1.

    There they are too near after a few hits: at 99 % of 30 faces two misses come about in 4 of 100
    tables, which Wilson's limit at 2.7 standard errors calls impossible. The limit on that side is
    therefore no nearer than the rate at which so few come about with the two-sided error.

    Source:
        Clopper, Pearson: The use of confidence or fiducial limits illustrated in the case of the
        binomial, Biometrika 26, 1934 (one-sided limit).
    """
    squared = z**2
    center = (share + squared / (2 * trials)) / (1 + squared / trials)
    spread = share * (1 - share) / trials + squared / (4 * trials**2)
    half = z / (1 + squared / trials) * np.sqrt(spread)
    low = np.minimum(center - half, _rarest(share * trials, trials, z))
    high = np.maximum(center + half, 1 - _rarest((1 - share) * trials, trials, z))
    return np.minimum(np.maximum(low, 0), share), np.maximum(np.minimum(high, 1), share)


def _skewed_limits(mean: Values, shift: Values, z: Values) -> Bounds:
    """Limits of a mean that cannot be negative, at Student's quantiles.

    They are those of the figure's own interval, whose values vary in proportion to their mean, but
    for the upper one, which is further by as much again as the interval's middle is above the mean:
    where a mean is larger, so are all values, and thirty of them seldom show the largest.

    Source:
        ``intervals.positive_mean_interval``; the square of the spread by the mean that is added is
        the second order of limits for values that vary in proportion to the square of their mean.
    """
    middle = shift * z**2
    half = np.sqrt(2 * middle * mean + middle**2)
    return np.maximum(mean + middle - half, 0), mean + 2 * middle + half


def _rarest(hits: Values, trials: Values, z: Values) -> Values:
    """The rate at which at least so many hits come about with the two-sided error of ``z``.

    No bound, the highest rate, where hits are many: Wilson's limit is no nearer then.
    """
    from scipy.special import betaincinv

    few = (hits > 1e-9) & (hits <= MANY)
    found = np.where(hits > MANY, 1.0, 0.0)
    misses = np.maximum(trials - hits, 0)[few]
    found[few] = betaincinv(hits[few], misses + 1, two_sided(z[few]))
    return found
