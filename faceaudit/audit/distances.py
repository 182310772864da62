"""How far two distributions lie apart, and whether more than chance would have them."""

from __future__ import annotations

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
        """Independent faces of both sides as they would have come out alike, (draws, 2, K)."""
        n, pooled = self.sides.sum(axis=1).astype(np.int64), self.sides.sum(axis=0)
        drawn = self.generator.multivariate_hypergeometric(
            pooled.astype(np.int64), n[0], self.draws, method="marginals"
        )
        return np.stack([drawn, pooled - drawn], axis=1)

    @cached_property
    def told(self) -> Values:
        """How many blocks of equal size each side is worth, (2,); faces where they are independent.

        Source:
            Kish: Survey Sampling, 1965 (the effective number under unequal weights).
        """
        if not self.clustered:
            return np.asarray(self.sides.sum(axis=1))
        faces = [blocks.sum(axis=1).astype(np.float64) for blocks in (self.first, self.second)]
        return np.array([each.sum() ** 2 / np.square(each).sum() for each in faces])

    @cached_property
    def alike(self) -> Values:
        """The shares of both sides if they were the same, (K,): each counts as what it is worth."""
        return np.asarray(self.told @ shares(self.sides) / self.told.sum())

    @cached_property
    def moves(self) -> Values:
        """What each block adds to the difference of the shares, were they alike, (blocks, K).

        Their sum, those of the second side negative, is the difference itself.
        """
        found = []
        for blocks in (self.first, self.second):
            used = blocks[blocks.sum(axis=1) > 0].astype(np.float64)
            found.append((used - used.sum(axis=1, keepdims=True) * self.alike) / used.sum())
        return np.concatenate(found)

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
        distributions by chi-square: against permuted faces where a class is rare, and where faces
        come in units against the moves of whole blocks with random signs. Sizes and numbers of
        units may differ between the sides.

        Source:
            Cameron, Gelbach, Miller: Bootstrap-based improvements for inference with clustered
            errors, Review of Economics and Statistics 90, 2008 (wild bootstrap by clusters, with
            the null hypothesis imposed).
        """
        if (self.sides.sum(axis=0) > 0).sum() < 2:
            return 1.0
        if self.clustered:
            statistic = farthest if self.ordered else self._squared
            signs = self.generator.integers(0, 2, (self.draws, len(self.moves))) * 2.0 - 1
            observed = shares(self.sides[0]) - shares(self.sides[1])
            return self._exceeded(statistic(observed), statistic(signs @ self.moves))
        if self.ordered:
            return self._kolmogorov()
        expected = np.outer(self.sides.sum(axis=1), self.sides.sum(axis=0)) / self.sides.sum()
        if expected[:, expected[0] > 0].min() < SMALLEST_EXPECTED:
            return self._exceeded(chi_square(self.sides), chi_square(self.by_chance))
        from scipy.special import chdtrc

        degrees = (expected[0] > 0).sum() - 1
        return float(chdtrc(degrees, chi_square(self.sides)))

    def _squared(self, differences: Values) -> Values:
        """Chi-square but for a factor, from differences of shares (..., K)."""
        return np.asarray(np.nan_to_num(ratio(np.square(differences), self.alike)).sum(axis=-1))

    def _exceeded(self, observed: Values, drawn: Values) -> float:
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
        some = self.sides.sum(axis=0) > 0
        n = self.sides.sum(axis=1, keepdims=True)
        # With units an empty class may be but for one unit.
        part = shares(self.sides[:, some] + PRIOR * n / self.told[:, None])
        found = ((part[1] - part[0]) * np.log(part[1] / part[0])).sum()
        if self.clustered:
            by_chance = ratio(np.square(self.moves).sum(axis=0), self.alike)[some].sum()
        else:
            by_chance = (len(part[0]) - 1) * (1 / n).sum()
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
    part = shares(sides)
    return farthest(part[..., 0, :] - part[..., 1, :])


def farthest(differences: Values) -> Values:
    """Largest distance of the cumulated shares, from their differences (..., K)."""
    return np.asarray(np.abs(differences.cumsum(axis=-1)).max(axis=-1))
