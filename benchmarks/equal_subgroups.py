"""Tables of subgroups that are truly equal, many at a time, as the tally counts them.

Every table draws its faces with replacement from a pool of typical ones, so that one multinomial
draw per subgroup tells confusions, scores, losses and bins of confidence at once, and the true
figures of all subgroups are those of the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.bounds import ScoreCounts
from faceaudit.audit.metrics import auc_influence, curve_influence
from faceaudit.audit.tally import ERROR_BINS, YearErrors
from faceaudit.audit.tally.bins import CALIBRATION_BINS, calibration_bin, error_bin

Counts = NDArray[np.int64]
Values = NDArray[np.float64]
FACES = 240
"""Typical faces, or sizes of typical errors."""
CHUNK = 100
"""Tables that are held at a time."""
SURE = 1.5
"""Scores are computed from log odds that are so many times too large."""


class DrawnScores(ScoreCounts):
    """Scores of many tables in one array, (N, K, 2, B), that functions are applied to at once."""

    def apply(self, function: Callable[[Any], Values]) -> Values:
        """A figure of every table, along a first axis."""
        if function not in self._known:
            self._known[function] = np.asarray(function(self.each))
        return self._known[function]


@dataclass(frozen=True)
class Faces:
    """Typical faces: annotated class (M,) and scores (M, K), alike in every class but for its name.

    As all classes are recognized alike, subgroups with other mixes of them are equal in every
    figure that does not depend on how common a class is.
    """

    true: Counts
    scores: Values

    @classmethod
    def of(cls, classes: int, rate: float) -> Faces:
        """A pool whose faces are recognized at this rate.

        Args:
            classes: Number of classes.
            rate: Share of right predictions.
        """
        each = FACES // classes
        noise = np.random.default_rng(classes).normal(size=(each, classes))
        lead = np.quantile(noise[:, 1:].max(axis=1) - noise[:, 0], rate)
        odds = SURE * max(lead, 0.5) * (noise + lead * np.eye(classes)[0])
        odds -= odds.max(axis=1, keepdims=True)
        scores = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
        turned = [np.roll(scores, k, axis=1) for k in range(classes)]
        return cls(np.repeat(np.arange(classes), each), np.concatenate(turned))

    def draw(
        self, generator: np.random.Generator, tables: int, sizes: Counts, mixes: Values
    ) -> Counts:
        """Faces of every kind, (tables, S, M).

        Args:
            generator: Random numbers.
            tables: How many.
            sizes: Faces of each subgroup, (S,).
            mixes: Shares of the classes in each subgroup, (S, K).
        """
        likely = mixes[:, self.true]
        return np.stack(
            [
                generator.multinomial(n, one / one.sum(), tables)
                for n, one in zip(sizes, likely, strict=True)
            ],
            axis=1,
        )

    def counts(self, needs: str, drawn: Counts, *, correlated: bool = True) -> Any:
        """What metrics need, from faces of every kind, (N, M)."""
        if needs in {"classes", "groups"}:
            size = self.scores.shape[1]
            return (drawn @ self._cells).astype(np.int64).reshape(-1, size, size)
        if needs == "losses":
            return drawn @ self.losses
        if needs == "calibration":
            return (drawn @ self._calibration).reshape(len(drawn), CALIBRATION_BINS, 3)
        ranked = np.stack([drawn[:, order] for order in self._order], axis=1)  # (N, K, M)
        own = np.stack([self.true[order] == k for k, order in enumerate(self._order)])
        counts = np.stack([np.where(own, 0, ranked), np.where(own, ranked, 0)], axis=2)
        return DrawnScores(counts, self._correlations(drawn, counts) if correlated else {})

    def _correlations(self, drawn: Counts, counts: Counts) -> dict[str, Values]:
        """How the classes' figures vary together, (N, K, K)."""
        found = {}
        for name, influence in (("auc", auc_influence), ("average_precision", curve_influence)):
            moves = np.empty((*counts.shape[:2], counts.shape[-1]))
            for k, order in enumerate(self._order):
                both = influence(counts[:, k])  # (N, 2, M)
                moves[:, k, order] = np.where(self.true[order] == k, both[:, 1], both[:, 0])
            moves = np.nan_to_num(moves)
            shared = np.einsum("nkm,nlm,nm->nkl", moves, moves, drawn, optimize=True)
            length = np.sqrt(np.einsum("nkk->nk", shared))
            product = length[:, :, None] * length[:, None, :]
            found[name] = np.divide(shared, product, out=np.ones_like(shared), where=product > 0)
        return found

    @cached_property
    def _order(self) -> list[Counts]:
        return [np.argsort(column) for column in self.scores.T]

    @cached_property
    def _cells(self) -> Values:
        size = self.scores.shape[1]
        return np.eye(size * size)[self.true * size + self.scores.argmax(axis=1)]

    @cached_property
    def losses(self) -> Values:
        """What losses sum up of every kind of face, (M, 5)."""
        own = self.scores[np.arange(len(self.true)), self.true]
        squared = (np.square(self.scores).sum(axis=1) - own**2 + (1 - own) ** 2) / 2
        loss = -np.log(own)
        return np.stack([np.ones_like(own), loss, loss**2, squared, squared**2], axis=-1)

    @cached_property
    def _calibration(self) -> Values:
        sure, right = self.scores.max(axis=1), self.scores.argmax(axis=1) == self.true
        told = np.stack([np.ones_like(sure), sure, right], axis=-1)
        place = np.eye(CALIBRATION_BINS)[calibration_bin(sure)]
        return (place[:, :, None] * told[:, None, :]).reshape(len(sure), -1)


@dataclass(frozen=True)
class Errors:
    """Typical errors in years, (M,)."""

    years: Values

    @classmethod
    def gamma(cls, shape: float = 1.3, scale: float = 4.5) -> Errors:
        """Absolute errors with a gamma distribution, which is skewed; half of them negative."""
        from scipy import stats

        return cls._of(stats.gamma(shape, scale=scale))

    @classmethod
    def lognormal(cls, spread: float) -> Errors:
        """Absolute errors whose logarithms have this standard deviation; half of them negative."""
        from scipy import stats

        return cls._of(stats.lognorm(spread))

    @classmethod
    def _of(cls, distribution: Any) -> Errors:
        away = distribution.ppf((np.arange(2 * FACES) + 0.5) / (2 * FACES))
        return cls(np.concatenate([away, -away]))

    def with_mean(self, mean: float) -> Errors:
        """Errors of the same shape with another mean absolute error."""
        return Errors(self.years * (mean / self.mean))

    @property
    def mean(self) -> float:
        """Mean absolute error."""
        return float(np.abs(self.years).mean())

    def draw(self, generator: np.random.Generator, tables: int, sizes: Counts) -> Counts:
        """Errors of every kind, (tables, S, M)."""
        likely = np.full(len(self.years), 1 / len(self.years))
        return np.stack([generator.multinomial(n, likely, tables) for n in sizes], axis=1)

    def counts(self, drawn: Counts) -> YearErrors:
        """What metrics of years need, from errors of every kind, (N, M)."""
        powers = [self.years, np.abs(self.years), self.years**2, self.years**4]
        return YearErrors(
            (drawn @ np.eye(ERROR_BINS)[error_bin(self.years)]).astype(np.int64),
            drawn @ np.stack(powers, axis=-1),
        )


def chunks(simulations: int, most: int = CHUNK) -> Iterator[int]:
    """Numbers of tables that are held at a time."""
    for start in range(0, simulations, most):
        yield min(most, simulations - start)
