"""How far two distributions lie apart, and whether more than chance would have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.intervals import normal_quantile
from faceaudit.audit.metrics import Values, ratio

SMALLEST_EXPECTED = 5
"""With fewer expected faces in a class, chi-square is not trusted and faces are permuted."""
SPLITS = 400
"""Random halves that a distance is averaged over, each used twice."""
PRIOR = 0.5
"""Faces added to every class for the stability index, which is infinite where one is empty."""


@dataclass(frozen=True)
class TwoSamples:
    """Faces by class or bin on two sides, by blocks of units; no draw looks at a face.

    ``first`` and ``second`` are (B, K), of one block where faces are independent.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    draws: int
    generator: np.random.Generator
    ordered: bool = False

    @cached_property
    def sides(self) -> Values:
        """Faces of both sides, (2, K)."""
        return np.stack([self.first.sum(axis=0), self.second.sum(axis=0)]).astype(np.float64)

    @property
    def clustered(self) -> bool:
        return len(self.first) > 1

    @property
    def total_variation(self) -> float:
        """Half the sum of absolute differences of the shares, as observed."""
        return float(total_variation(self.sides[0], self.sides[1]))

    @cached_property
    def by_chance(self) -> Values:
        """Both sides as they would have come out if they were alike, (draws, 2, K)."""
        if self.clustered:
            return self._permuted_blocks()
        n, pooled = self.sides.sum(axis=1).astype(np.int64), self.sides.sum(axis=0)
        drawn = self.generator.multivariate_hypergeometric(
            pooled.astype(np.int64), n[0], self.draws, method="marginals"
        )
        return np.stack([drawn, pooled - drawn], axis=1)

    def _permuted_blocks(self) -> Values:
        """Whole blocks of units change sides, so that what belongs together stays together."""
        blocks = np.concatenate([self.first, self.second]).astype(np.float64)
        used = np.flatnonzero(blocks.sum(axis=1) > 0)
        own = (self.first.sum(axis=1) > 0).sum()
        ranks = self.generator.random((self.draws, len(used))).argsort(axis=1)
        mine = (ranks < own).astype(np.float64) @ blocks[used]
        return np.stack([mine, blocks.sum(axis=0) - mine], axis=1)

    def cross_fitted(self, confidence: float) -> tuple[float, float, float]:
        """Total variation without what chance adds, with its interval.

        The distance is the largest difference of the share of any set of classes. Which set that is
        is read from one half of the faces, and its difference from the other half, so that a set
        that owes its place to chance shows a difference of 0 on average; the mean over
        ``SPLITS`` random halves is taken. Where a difference is near what chance gives, the set may
        be missed and the distance too small; the upper bound therefore starts from the distance as
        observed, which is too large. With 60 to 2,500 faces in 2 to 9 classes 93 to 100 % of such
        95 % intervals held the true distance.

        Source:
            Chernozhukov et al.: Double/debiased machine learning for treatment and structural
            parameters, Econometrics Journal 21, 2018 (sample splitting with cross-fitting).
        """
        found, signs = self._split_differences()
        value = max(float(found.mean()), 0.0)
        half = normal_quantile(confidence) * self._error(signs)
        high = max(value, self.total_variation) + half
        return value, max(value - half, 0.0), min(high, 1.0)

    def _split_differences(self) -> tuple[Values, Values]:
        """Differences of sets chosen in the other half, (S,), and the sets as signs, (S, K)."""
        halves = [self._halves(blocks) for blocks in (self.first, self.second)]
        differences = [
            shares(halves[1][part]) - shares(halves[0][part]) for part in range(2)
        ]  # each (S, K)
        signs = np.concatenate([np.sign(one) for one in differences]) / 2
        others = np.concatenate(differences[::-1])
        return np.nansum(signs * others, axis=-1), np.nan_to_num(signs)

    def _halves(self, blocks: NDArray[np.int64]) -> tuple[Values, Values]:
        """Random halves of one side, twice (S, K): of its faces, or of its blocks."""
        counts = blocks.sum(axis=0)
        if self.clustered:
            used = blocks[blocks.sum(axis=1) > 0].astype(np.float64)
            ranks = self.generator.random((SPLITS, len(used))).argsort(axis=1)
            half = (ranks < len(used) // 2).astype(np.float64) @ used
        else:
            half = self.generator.multivariate_hypergeometric(
                counts, int(counts.sum()) // 2, SPLITS, method="marginals"
            ).astype(np.float64)
        return half, counts - half

    def _error(self, signs: Values) -> float:
        """Standard error of the difference of a set's share, on average over sets, (S, K)."""
        variance = np.zeros(len(signs))
        for blocks in (self.first, self.second):
            total, part = blocks.sum(), shares(blocks.sum(axis=0))
            centered = signs - (signs @ part)[:, None]
            if self.clustered:
                used = blocks[blocks.sum(axis=1) > 0].astype(np.float64)
                scale = len(used) / max(len(used) - 1, 1)
                variance += scale * np.square(centered @ used.T).sum(axis=1) / total**2
            else:
                variance += np.square(centered) @ part / max(total - 1, 1)
        return float(np.sqrt(variance.mean()))

    @property
    def p_value(self) -> float:
        """Of "both sides come from one distribution".

        What has an order is tested by the largest distance of the cumulated shares, other
        distributions by chi-square; both against permutations where faces come in units or a class
        is rare.
        """
        if self.ordered:
            return self._permuted(kolmogorov_smirnov) if self.clustered else self._kolmogorov()
        expected = np.outer(self.sides.sum(axis=1), self.sides.sum(axis=0)) / self.sides.sum()
        expected = expected[:, expected[0] > 0]
        if expected.shape[1] < 2:
            return 1.0
        if self.clustered or expected.min() < SMALLEST_EXPECTED:
            return self._permuted(chi_square)
        from scipy.special import chdtrc

        return float(chdtrc(expected.shape[1] - 1, chi_square(self.sides)))

    def _permuted(self, statistic: Callable[[Values], Values]) -> float:
        observed, drawn = statistic(self.sides), statistic(self.by_chance)
        return float((1 + (drawn >= observed * (1 - 1e-9)).sum()) / (1 + self.draws))

    def _kolmogorov(self) -> float:
        from scipy.special import kolmogorov

        n = self.sides.sum(axis=1)
        # Binned values are tied, which makes the test cautious.
        return float(kolmogorov(kolmogorov_smirnov(self.sides) * np.sqrt(n.prod() / n.sum())))

    @property
    def ks(self) -> float | None:
        """Largest distance of the cumulated shares; None of what has no order."""
        return float(kolmogorov_smirnov(self.sides)) if self.ordered else None

    @property
    def psi(self) -> float:
        """Population stability index, without what chance adds; never below 0.

        Source:
            Yurdakul, Naranjo: Statistical properties of the population stability index, Journal of
            Risk Model Validation 14, 2020 (its mean under no difference).
        """
        used = self.sides[:, self.sides.sum(axis=0) > 0] + PRIOR
        n = used.sum(axis=1)
        part = used / n[:, None]
        found = ((part[1] - part[0]) * np.log(part[1] / part[0])).sum()
        by_chance = (used.shape[1] - 1) * (1 / n).sum()
        return float(max(found - by_chance, 0.0))


def shares(counts: Values | NDArray[np.int64]) -> Values:
    """Counts as shares of their sum over the last axis."""
    return ratio(counts, counts.sum(axis=-1, keepdims=True))


def total_variation(first: Values, second: Values) -> Values:
    """Half the sum of the absolute differences of two lists of shares, from counts (..., K)."""
    return np.asarray(np.abs(shares(first) - shares(second)).sum(axis=-1) / 2)


def chi_square(sides: Values) -> Values:
    """Pearson's statistic of homogeneity, from counts (..., 2, K)."""
    rows, columns = sides.sum(axis=-1, keepdims=True), sides.sum(axis=-2, keepdims=True)
    expected = rows * columns / sides.sum(axis=(-2, -1), keepdims=True)
    return np.asarray(
        np.nan_to_num(ratio(np.square(sides - expected), expected)).sum(axis=(-2, -1))
    )


def kolmogorov_smirnov(sides: Values) -> Values:
    """Largest distance of the cumulated shares, from counts (..., 2, K)."""
    cumulated = shares(sides).cumsum(axis=-1)
    return np.asarray(np.abs(cumulated[..., 0, :] - cumulated[..., 1, :]).max(axis=-1))
