"""Extremes of figures with their intervals: the highest, the lowest, the farthest apart.

Where the intervals that go in hold all together, so does the interval that comes out: the highest
of several true values lies between the highest of the lower and the highest of the upper bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from faceaudit.audit.intervals import difference_interval
from faceaudit.audit.metrics import Values
from faceaudit.audit.tally import Numbers

ROWS = 256
"""Subgroups that are compared with all others at a time."""


@dataclass(frozen=True)
class Bounded:
    """A metric in G subgroups with intervals that hold it; each (G,)."""

    values: Values
    low: Values
    high: Values

    def without_sign(self) -> Bounded:
        """The distances from 0."""
        nearest = np.maximum(np.maximum(self.low, -self.high), 0)
        farthest = np.maximum(np.abs(self.low), np.abs(self.high))
        return Bounded(np.abs(self.values), nearest, farthest)

    def negated(self) -> Bounded:
        return Bounded(-self.values, -self.high, -self.low)


@dataclass(frozen=True)
class Extreme:
    """An extreme with its interval, and the subgroups (one, or two compared) that make each."""

    value: float
    low: float
    high: float
    at: tuple[int, ...]
    low_at: tuple[int, ...]
    high_at: tuple[int, ...]

    def negated(self) -> Extreme:
        return Extreme(-self.value, -self.high, -self.low, self.at, self.high_at, self.low_at)


def highest(
    figures: Sequence[Bounded], strata: Numbers, others: Sequence[Bounded] | None = None
) -> Extreme:
    """The highest figure of any subgroup; it is compared with none."""
    return _highest((one.values, one.low, one.high, None) for one in figures)


def lowest(
    figures: Sequence[Bounded], strata: Numbers, others: Sequence[Bounded] | None = None
) -> Extreme:
    """The lowest figure of any subgroup; it is compared with none."""
    return highest([one.negated() for one in figures], strata).negated()


def farthest_apart(
    figures: Sequence[Bounded], strata: Numbers, others: Sequence[Bounded] | None = None
) -> Extreme:
    """The largest difference between two subgroups of a stratum.

    Args:
        figures: Metrics, each compared with itself only.
        strata: The stratum of each subgroup, (G,).
        others: The metrics as they are in the lower of two subgroups; None takes the same.
    """
    found = _highest(
        _differences(one, other, *pairs)
        for one, other in zip(figures, others or figures, strict=True)
        for pairs in _pairs(strata)
    )
    return replace(found, low=max(found.low, 0.0))


def least_ratio(
    figures: Sequence[Bounded], strata: Numbers, others: Sequence[Bounded] | None = None
) -> Extreme:
    """The smallest ratio of one subgroup's figure to another's of its stratum.

    Args:
        figures: Metrics, each compared with itself only.
        strata: The stratum of each subgroup, (G,).
        others: The metrics as they are in the subgroup that is divided by; None takes the same.

    Source:
        Donner, Zou: Closed-form confidence intervals for functions of the normal mean and standard
        deviation, Statistical Methods in Medical Research 21, 2012 (ratio of two parameters).
    """
    found = _highest(
        _ratios(one, other, *pairs)
        for one, other in zip(figures, others or figures, strict=True)
        for pairs in _pairs(strata)
    )
    least = found.negated()
    return replace(least, high=min(least.high, 1.0))


_Parts = tuple[Values, Values, Values, tuple[Numbers, Numbers] | None]
"""Values, low and high, (G,) or of pairs (R, G), and which subgroups the pairs are of."""


def _pairs(strata: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Some subgroups of a stratum, and all of it, until every two were together."""
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        if len(members) > 1:
            for start in range(0, len(members), ROWS):
                yield members[start : start + ROWS], members


def _differences(one: Bounded, other: Bounded, rows: Numbers, others: Numbers) -> _Parts:
    value, low, high = (part[rows][:, None] for part in (one.values, one.low, one.high))
    values, lows, highs = (part[others][None] for part in (other.values, other.low, other.high))
    bounds = difference_interval((value, low, high), (values, lows, highs))
    return _without_self(value - values, *bounds, rows, others)


def _ratios(one: Bounded, other: Bounded, rows: Numbers, others: Numbers) -> _Parts:
    """Minus the ratios, so that the smallest is the highest."""
    a, a_low, a_high = (part[rows][:, None] for part in (one.values, one.low, one.high))
    b, b_low, b_high = (part[others][None] for part in (other.values, other.low, other.high))
    least, most = a_low * (2 * a - a_low), b_high * (2 * b - b_high)
    wide, narrow = a_high * (2 * a - a_high), b_low * (2 * b - b_low)
    with np.errstate(divide="ignore", invalid="ignore"):
        low = least / (a * b + np.sqrt(np.maximum((a * b) ** 2 - least * most, 0)))
        high = (a * b + np.sqrt(np.maximum((a * b) ** 2 - wide * narrow, 0))) / narrow
        ratio = a / b
    # Two zeros have no ratio, and nothing bounds it.
    ratio, high = np.where(np.isnan(ratio), np.inf, ratio), np.where(np.isnan(high), np.inf, high)
    return _without_self(-ratio, -high, -np.nan_to_num(low), rows, others)


def _without_self(
    values: Values, low: Values, high: Values, rows: Numbers, others: Numbers
) -> _Parts:
    self = rows[:, None] == others[None]
    values, low, high = (np.where(self, -np.inf, part) for part in (values, low, high))
    return values, low, high, (rows, others)


def _highest(parts: Iterator[_Parts]) -> Extreme:
    best: list[tuple[float, tuple[int, ...]]] = [(-np.inf, ())] * 3
    for *numbers, pairs in parts:
        for k, number in enumerate(numbers):
            place = int(np.argmax(number))
            if number.flat[place] > best[k][0] or not best[k][1]:
                best[k] = (float(number.flat[place]), _members(place, pairs))
    (value, at), (low, low_at), (high, high_at) = best
    return Extreme(value, low, high, at, low_at, high_at)


def _members(place: int, pairs: tuple[Numbers, Numbers] | None) -> tuple[int, ...]:
    if pairs is None:
        return (place,)
    row, other = divmod(place, len(pairs[1]))
    return (int(pairs[0][row]), int(pairs[1][other]))
