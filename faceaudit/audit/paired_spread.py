"""How far the difference of two tables of the same faces varies: blocks of faces are left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceaudit.audit.intervals import Bounds
from faceaudit.audit.metrics import (
    Metric,
    Values,
    macro_f1,
    macro_precision,
    present_classes,
    ratio,
)
from faceaudit.audit.tally import YearErrors

TINY = 1e-12
"""Differences below this are rounding."""


@dataclass(frozen=True)
class Outcomes:
    """Faces by which table has them right; blocks come first, (B, F)."""

    both: Values
    first: Values
    second: Values
    n: Values

    def total(self, part: Values) -> Values:
        return np.asarray(part.sum(axis=0))


@dataclass(frozen=True)
class PairedSpread:
    """Figures of both tables, and how their difference varies over blocks; all (F,)."""

    n: Values
    first: Values
    second: Values
    error: Values
    """Standard error of the difference."""
    blocks: Values
    """Blocks with faces."""
    moving: Values
    """Blocks that move the difference at all."""

    @classmethod
    def of(cls, parts: Sequence[PairedSpread]) -> PairedSpread:
        """Several subgroups, one after the other."""
        return cls(*(np.concatenate(one) for one in zip(*map(_fields, parts), strict=True)))

    def at(self, places: slice) -> PairedSpread:
        """Those of some figures."""
        return PairedSpread(*(part[places] for part in _fields(self)))

    @property
    def difference(self) -> Values:
        return self.second - self.first

    @property
    def p_values(self) -> Values:
        """Student's test, but never below what the signs of the moving blocks can tell."""
        from scipy.special import stdtr

        degrees = np.where(self.blocks > 1, self.blocks - 1, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = 2 * stdtr(degrees, -np.abs(self.difference) / self.error)
        found = np.maximum(found, 2.0 ** (1 - np.maximum(self.moving, 1)))
        found = np.where(self.moving == 0, 1.0, found)
        return np.where(np.isnan(self.difference), np.nan, found)

    def bounds(self, confidence: float) -> Bounds:
        from scipy.special import stdtrit

        degrees = np.where(self.blocks > 1, self.blocks - 1, np.nan)
        half = stdtrit(degrees, (1 + confidence) / 2) * np.where(self.error > 0, self.error, np.nan)
        return self.difference - half, self.difference + half


def _fields(spread: PairedSpread) -> tuple[Values, ...]:
    return spread.n, spread.first, spread.second, spread.error, spread.blocks, spread.moving


def spread_of_shares(outcomes: Outcomes) -> PairedSpread:
    """Linearized spread of a difference of shares over blocks."""
    n = outcomes.total(outcomes.n)
    both, gained = outcomes.total(outcomes.both), outcomes.second - outcomes.first
    difference = ratio(outcomes.total(gained), n)
    moves = gained - np.nan_to_num(difference) * outcomes.n
    blocks = np.asarray((outcomes.n > 0).sum(axis=0), np.float64)
    scale = ratio(blocks, blocks - 1)
    return PairedSpread(
        n,
        ratio(both + outcomes.total(outcomes.first), n),
        ratio(both + outcomes.total(outcomes.second), n),
        np.sqrt(scale * np.square(moves).sum(axis=0)) / np.where(n > 0, n, np.nan),
        blocks,
        np.asarray((gained != 0).sum(axis=0), np.float64),
    )


def spread_of_difference(
    metric: Metric, sides: Sequence[tuple[Any, Any]], figures: int
) -> PairedSpread:
    """Both values of one subgroup and the spread of their difference, each (L,).

    Args:
        metric: The metric.
        sides: Of either table what the metric needs, whole and by block.
        figures: How many figures it gives: classes, or 1.
    """
    values, moves, faces, occupied = [], [], [], []
    for whole, blocks in sides:
        values.append(np.reshape(metric.function(whole), figures))
        faces.append(np.reshape(metric.faces(whole), figures))
        occupied.append(np.asarray(metric.faces(blocks)).reshape(-1, figures) > 0)
        moves.append(_moves(metric, blocks).reshape(-1, figures))
    moved = moves[1] - moves[0]  # (B, L)
    count = np.asarray((occupied[0] | occupied[1]).sum(axis=0), np.float64)
    error = np.sqrt(ratio(count - 1, count) * np.square(moved).sum(axis=0))
    moving = np.asarray((np.abs(moved) > TINY).sum(axis=0), np.float64)
    return PairedSpread(np.minimum(*faces), values[0], values[1], error, count, moving)


def _moves(metric: Metric, blocks: Any) -> Values:
    """How far the metric moves when each block is left out, (B, ...).

    Source:
        Efron, Stein: The jackknife estimate of variance, Annals of Statistics 9, 1981.
    """
    function: Callable[[Any], Values] = metric.function
    if metric.function in (macro_f1, macro_precision):
        present = present_classes(np.asarray(blocks).sum(axis=0))
        macro = metric.function

        def function(counts: Any) -> Values:
            return macro(counts, present)

    if isinstance(blocks, YearErrors):
        left = blocks.map(lambda part: part.sum(axis=0, keepdims=True) - part)
        return np.asarray(function(left) - function(blocks.map(lambda part: part.sum(axis=0))))
    every = np.asarray(blocks)
    return np.asarray(
        function(every.sum(axis=0, keepdims=True) - every) - function(every.sum(axis=0))
    )
