"""Rows that are not independent: how far a figure moves when whole blocks of units are left out.

Faces of one person or one video err together, so that a thousand faces of a hundred persons tell
less than a thousand of a thousand. The tally keeps units in blocks, no unit in two of them; the
spread of a figure over tables that lack one block each holds whatever the faces of a unit share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from faceaudit.audit.bounds import smoothed_confusion, squares_of, union
from faceaudit.audit.intervals import Bounds, normal_quantile, student_quantile
from faceaudit.audit.metrics import Interval, Metric, Values, predicted_faces, ratio
from faceaudit.audit.results import Subgroup
from faceaudit.audit.tally import Cut, Tally, YearErrors

FEW_BLOCKS = 20
"""With fewer blocks of units an interval rests on too few to be relied on."""
NAMED = 5
"""So many subgroups are named in a note; of the others their number is told."""
UNSEEN: Mapping[Interval, float] = {
    "share": 0.016,
    "overlap": 0.016,
    "classes": 0.05,
    "mean_of_classes": 0.05,
    "rank": 0.01,
    "curve": 0.01,
}
"""Kinds of intervals of figures whose distance from 0 or 1 is a share of errors, and errors that
are added to those seen for how far faces of a unit err together: the part of a block of m faces,
times ln(m)², as the more is unknown of it; by simulation."""
UNSEEN_OF_CURVES = 0.25
"""The same for curves averaged over classes, which a few errors of one class move far."""
SHORT_OF_BLOCKS, ENOUGH_BLOCKS = 6, 60
"""From so many blocks on that part grows over so many more: of fewer, intervals are long as it
is."""
UNSEEN_OF_MEANS = 0.005
"""The same for means of what is never negative, whose errors are those that its squares tell of."""
STUDENTS: frozenset[Interval] = frozenset(
    {"mean", "positive", "root", "steps", "signed_steps", "calibration"}
)
"""Kinds of intervals that have Student's quantile of so many faces as it is."""
BOUNDED: frozenset[Interval] = frozenset({"share", "overlap", "rank", "curve", *STUDENTS})
"""Kinds of intervals whose variance is between that of independent and of wholly alike faces."""
LARGE: frozenset[Interval] = frozenset({"positive", "root", "steps", "signed_steps"})
"""Kinds of intervals of means that may rest on few large errors."""
LEAST_UNIT = 1.1
"""Units of fewer faces each count as of so many: what bounds their spread is known."""


@dataclass(frozen=True)
class Spread:
    """How far figures move over blocks of units; all (...)."""

    variance: Values
    blocks: Values
    """How many blocks have faces."""
    alone: Values
    """The variance of independent faces if the figure seen is true; NaN where it is that of the
    plain bounds."""
    size: Values
    """Faces of the block that a face is in, on average: more than a block has, if they differ."""
    together: Values
    """How many faces of its block a face stands for, were they wholly alike; infinite where that
    does not bound the spread."""
    large: Values
    """Of as many equal errors a mean would be, had all others none; NaN of other figures."""

    @classmethod
    def of(cls, parts: Sequence[Spread]) -> Spread:
        """Several subgroups along a first axis."""
        return cls(*(np.stack(part) for part in zip(*map(_fields, parts), strict=True)))


def _fields(spread: Spread) -> tuple[Values, ...]:
    return tuple(getattr(spread, one.name) for one in fields(spread))


def spread_over_blocks(metric: Metric, blocks: Any) -> Spread:
    """Jackknife variance of a metric over the blocks of one subgroup.

    The calibration error left without a block moves by chance, too, which is no spread of its own:
    what is asked there is how alike the faces of a block are in confidence less right predictions.

    Args:
        metric: The metric.
        blocks: What the metric needs, with a first axis of blocks.

    Source:
        Efron, Stein: The jackknife estimate of variance, Annals of Statistics 9, 1981; a block is
        left out at a time.
    """
    faces = np.asarray(metric.faces(blocks), np.float64)
    occupied = (faces > 0).sum(axis=0)
    whole = _map(blocks, lambda part: part.sum(axis=0))
    # Leaving out a block without faces moves nothing.
    some = faces.reshape(len(faces), -1).any(axis=1)
    left = _map(blocks, lambda part: part.sum(axis=0, keepdims=True) - part[some])
    function, alone = metric.function, np.full(occupied.shape, np.nan)
    if metric.interval == "classes":
        # As in the interval itself; also, no class is lost with a block.
        smooth = smoothed_confusion(whole)
        left, whole = left + (smooth - whole), smooth
    if metric.interval == "calibration":
        function, alone = _mean_gap, np.asarray(_variance_of_gap(whole))
    elif metric.interval in {"share", "overlap"}:
        alone = _variance_of_share(metric, whole)
    elif metric.second_moment is not None:
        alone = _variance_of_mean(metric, whole)
    moves = np.square(function(left) - function(whole)).sum(axis=0)
    scale = np.where(occupied > 1, (occupied - 1) / np.maximum(occupied, 1), np.nan)
    size = ratio(np.square(faces).sum(axis=0), faces.sum(axis=0))
    # How many faces of a block are predicted as a class depends on how many are right.
    shares = metric.interval in {"share", "calibration"} and metric.faces is not predicted_faces
    together = size if shares else np.full(occupied.shape, np.inf)
    large = np.full(occupied.shape, np.nan)
    if metric.interval in LARGE:
        large = _large_errors(metric, whole)
    return Spread(
        np.asarray(scale * moves), np.asarray(occupied, np.float64), alone, size, together, large
    )


def _mean_gap(calibration: Any) -> Values:
    """Mean confidence less the share of right predictions, from (..., bins, 3)."""
    faces, sure, right = np.moveaxis(np.asarray(calibration, np.float64).sum(axis=-2), -1, 0)
    return ratio(sure - right, faces)


def _variance_of_gap(calibration: Any) -> Values:
    """The variance of the mean gap of independent faces; those of a bin are equally sure."""
    faces, sure, right = np.moveaxis(np.asarray(calibration, np.float64), -1, 0)
    mean = np.nan_to_num(ratio(sure, faces))
    squares = right * (1 - mean) ** 2 + (faces - right) * mean**2
    n = faces.sum(axis=-1)
    return ratio(ratio(squares.sum(axis=-1), n) - _mean_gap(calibration) ** 2, n)


def _variance_of_share(metric: Metric, whole: Any) -> Values:
    """The variance of a share, or of F1, which is a function of one: the share of a union."""
    value, faces = np.asarray(metric.function(whole)), np.asarray(metric.faces(whole))
    if metric.interval == "share":
        return ratio(value * (1 - value), faces)
    share = value / (2 - value)
    return ratio(share * (1 - share) * (2 / (1 + share) ** 2) ** 2, union(whole))


def _variance_of_mean(metric: Metric, whole: Any) -> Values:
    """The variance of a mean over faces, or of a root of one."""
    value, faces = np.asarray(metric.function(whole)), np.asarray(metric.faces(whole))
    squares = squares_of(metric, whole)
    if metric.interval == "root":
        return ratio(squares - value**4, faces * 4 * value**2)
    return ratio(squares - value**2, faces)


def _large_errors(metric: Metric, whole: Any) -> Values:
    """Of as many equal errors a mean would be: the square of a sum by the sum of the squares."""
    value, faces = np.asarray(metric.function(whole)), np.asarray(metric.faces(whole))
    squares = squares_of(metric, whole)
    if metric.interval == "signed_steps":
        return np.asarray(faces * squares)  # about as many as are off, most by one group
    power = 4 if metric.interval == "root" else 2
    return np.nan_to_num(ratio(faces * value**power, squares))


def told_by_units(
    metric: Metric, values: Values, faces: Values, plain: Bounds, spread: Spread, confidence: float
) -> Values:
    """How many independent faces would tell as much as one of these; at most 1.

    That is the variance of independent faces by the variance over blocks, and less where Student's
    quantile is larger than the one that the interval has anyway. Its degrees of freedom are the
    blocks less one and, as faces wholly alike bound how far a share or a mean moves,
    ``known_degrees`` more. Where few errors were seen they tell little of how far the faces of a
    unit err together: until as many are seen as a block has faces, the faces of a block
    increasingly count as one. Of a share they never count less than that, which is exact for faces
    wholly alike and needs no estimate. NaN with fewer than two blocks.

    Args:
        metric: The metric.
        values: Its values, (...).
        faces: Faces behind each.
        plain: Bounds as if the rows were independent.
        spread: Variances over blocks, (...).
        confidence: Such as 0.95.

    Source:
        Korn, Graubard: Confidence intervals for proportions with small expected number of positive
        counts estimated from survey data, Survey Methodology 24, 1998 (effective faces).
    """
    z = normal_quantile(confidence)
    size = np.fmax(ratio(faces, spread.blocks), 1)
    effect = np.fmax(_design_effect(faces, plain, spread, z), 1)
    part: Any = UNSEEN.get(metric.interval, UNSEEN_OF_MEANS)
    if metric.mean_of == "average_precision":
        part = UNSEEN_OF_CURVES * np.clip((spread.blocks - SHORT_OF_BLOCKS) / ENOUGH_BLOCKS, 0, 1)
    if metric.interval in UNSEEN or metric.interval in LARGE:
        is_share = metric.interval in UNSEEN
        errors = faces * np.minimum(values, 1 - values) if is_share else spread.large
        unseen = part * np.square(np.log(np.fmax(size, LEAST_UNIT))) * size
        lengthened = ratio(errors * effect + unseen * size, errors + unseen)
        effect = np.where(errors + unseen > 0, lengthened, effect)
    degrees = degrees_for(metric, spread.blocks - 1, spread.size)
    quantile: Any = z
    if metric.interval in STUDENTS:
        quantile = student_quantile(np.maximum(faces / effect - 1, degrees), confidence)
    told = (quantile / student_quantile(degrees, confidence)) ** 2 / effect
    return np.asarray(np.where(spread.blocks > 1, np.fmax(told, 1 / spread.together), np.nan))


def degrees_for(metric: Metric, degrees: Any, size: Any) -> Values:
    """Degrees of freedom of a metric's spread, with what bounds on it are worth.

    Args:
        metric: The metric.
        degrees: Blocks less one.
        size: Faces per block.
    """
    bounded = known_degrees(size) if metric.interval in BOUNDED else 0
    return np.asarray(degrees + bounded)


def known_degrees(size: Values) -> Values:
    """Degrees of freedom that a bound on the design effect is worth: 24 / ln(m)².

    Units of m faces multiply a variance by 1 (independent) to m (wholly alike). A factor that lies
    anywhere there, evenly in its logarithm, varies by ln(m)² / 12 in the logarithm, as an estimate
    of a variance with that many degrees does (2 by the degrees).

    Args:
        size: Faces per unit, m.
    """
    return np.asarray(24 / np.square(np.log(np.maximum(size, LEAST_UNIT))))


def _design_effect(faces: Values, plain: Bounds, spread: Spread, z: float) -> Values:
    """The variance over blocks by that of independent faces."""
    width = np.square((plain[1] - plain[0]) / (2 * z))
    given = ~np.isnan(spread.alone)
    effect = ratio(spread.variance, np.where(given, spread.alone, width))
    # Faces lie closer to their own figure than to the true one, the more the fewer they count as.
    return np.asarray(np.where(given, ratio(effect, 1 + effect / faces), effect))


def blocks_used(counted: Tally, cells: Cut) -> Values:
    """Blocks of units that the scored faces of every subgroup are in: about its units, (S,)."""
    faces = np.zeros((len(cells.subgroups), counted.blocks))
    for counts in counted.predicted.values():
        for number in range(len(cells.subgroups)):
            faces[number] += cells.blocks(counts, number).sum(axis=-1)
    return np.asarray((faces > 0).sum(axis=1), np.float64)


def degrees_of(counted: Tally, cells: Cut) -> list[float]:
    """Degrees of freedom of the spread in each subgroup: its blocks less 1.

    Without units they are infinite, as spreads follow from counts.
    """
    if counted.unit is None:
        return [math.inf] * len(cells.subgroups)
    return [float(max(used - 1, 1)) for used in blocks_used(counted, cells)]


def few_units(unit: str, used: Sequence[tuple[Subgroup, float]]) -> Iterator[str]:
    """A note on the subgroups whose faces are of too few units.

    Args:
        unit: What the units are called.
        used: Subgroups, that of all faces too, and about how many units each has.
    """
    few = [subgroup for subgroup, blocks in used if 0 < blocks < FEW_BLOCKS]
    if not few:
        return
    if {} in few:
        few = [{}]
    names = [", ".join(subgroup.values()) or "the whole table" for subgroup in few[:NAMED]]
    more = [f"and {len(few) - NAMED} more"] if len(few) > NAMED else []
    where = "; ".join([*names, *more])
    yield (
        f"Fewer than about {FEW_BLOCKS} different values of {unit} are in {where}: intervals there "
        "are wide for it (Student's), and less to be relied on than others."
    )


def _map(counts: Any, function: Callable[[Any], Any]) -> Any:
    return counts.map(function) if isinstance(counts, YearErrors) else function(np.asarray(counts))
