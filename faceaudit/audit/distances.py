"""How far two distributions lie apart, and whether more than chance would have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.metrics import Values, ratio

SMALLEST_EXPECTED = 5
"""With fewer expected faces in a class, chi-square is not trusted and faces are permuted."""
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

    def debiased(self, confidence: float) -> tuple[float, float, float]:
        """Total variation without what chance adds, with its interval.

        Chance adds to the square of the distance; its mean under no difference is taken off, once
        from what was observed and twice from replicates of it. At no difference the distance is 0
        in most samples, and far from it nothing is taken off that matters.
        """
        added = float(np.square(_distances(self.by_chance)).mean())
        value = self.total_variation
        replicates = np.square(_distances(self._replicates())) - 2 * added
        tail = (1 - confidence) / 2
        low, high = np.sqrt(np.maximum(np.quantile(replicates, [tail, 1 - tail]), 0))
        found = float(np.sqrt(max(value**2 - added, 0)))
        return found, min(float(low), found), max(float(high), found)

    def _replicates(self) -> Values:
        """Both sides as they might have come out again, (draws, 2, K)."""
        sides = []
        for blocks, counts in zip((self.first, self.second), self.sides, strict=True):
            if self.clustered:
                used = blocks[blocks.sum(axis=1) > 0].astype(np.float64)
                weights = self.generator.multinomial(
                    len(used), np.full(len(used), 1 / len(used)), self.draws
                )
                sides.append(weights.astype(np.float64) @ used)
            else:
                total = counts.sum()
                sides.append(self.generator.multinomial(int(total), counts / total, self.draws))
        return np.stack(sides, axis=1)

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
        shares = used / n[:, None]
        found = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()
        by_chance = (used.shape[1] - 1) * (1 / n).sum()
        return float(max(found - by_chance, 0.0))


def total_variation(first: Values, second: Values) -> Values:
    """Half the sum of the absolute differences of two lists of shares, from counts (..., K)."""
    shares = [ratio(side, side.sum(axis=-1, keepdims=True)) for side in (first, second)]
    return np.asarray(np.abs(shares[0] - shares[1]).sum(axis=-1) / 2)


def chi_square(sides: Values) -> Values:
    """Pearson's statistic of homogeneity, from counts (..., 2, K)."""
    rows, columns = sides.sum(axis=-1, keepdims=True), sides.sum(axis=-2, keepdims=True)
    expected = rows * columns / sides.sum(axis=(-2, -1), keepdims=True)
    return np.asarray(
        np.nan_to_num(ratio(np.square(sides - expected), expected)).sum(axis=(-2, -1))
    )


def kolmogorov_smirnov(sides: Values) -> Values:
    """Largest distance of the cumulated shares, from counts (..., 2, K)."""
    shares = ratio(sides, sides.sum(axis=-1, keepdims=True)).cumsum(axis=-1)
    return np.asarray(np.abs(shares[..., 0, :] - shares[..., 1, :]).max(axis=-1))


def _distances(sides: Values) -> Values:
    return total_variation(sides[:, 0], sides[:, 1])
