"""BOUNDS: the interval of each kind of metric, as a function of its value and its counts.

``told`` is the share of the faces that count: 1 where rows are independent, less with units (see
``clusters``). Leading axes of the counts are subgroups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from faceaudit.audit.age import step_sides
from faceaudit.audit.intervals import (
    Bounds,
    calibration_interval,
    mean_interval,
    overlap_interval,
    positive_mean_interval,
    rank_interval,
    rank_variance,
    share_interval,
    sure_bounds,
    told_by_degrees,
    weighted_interval,
    wilson,
)
from faceaudit.audit.metrics import (
    METRICS,
    Metric,
    Values,
    annotated_faces,
    auc_influence,
    correct_faces,
    curve_influence,
    labelled_faces,
    predicted_faces,
    present_classes,
    ratio,
)
from faceaudit.audit.tally import Numbers

PSEUDO_FACES, PSEUDO_AT = 0.5, 50
"""Half a face with a large error is added to the spread of fifty faces, and of others in proportion
to the root of their number, so that unseen errors are possible: ``GROUPS_OFF`` age groups off,
``TWICE`` the mean absolute error, ``FAR_OFF`` times the root mean squared one, or a loss of
``UNSEEN``."""
GROUPS_OFF, TWICE, FAR_OFF = 3, 2, 3.5
SIDE_OFF = 1.25
"""The same among faces judged too old, or too young, alone: of fifty faces so many age groups off,
of others in proportion to the fourth root of their number."""
UNSEEN = {"log_loss": -math.log(0.01), "brier": 0.95**2}
"""Losses of a face whose annotated class has a probability of .01, or .05, and another the rest."""
CHANCE_FACES = 0.2
"""Part of a face that scores by chance, for the spread of an AUC where few are out of order."""
LOST_FACES = 0.1
"""Part of a face of the class that scores lowest, for the spread of an average precision."""
ALIKE_FACES = 0.5
"""Part of a face in which all classes vary as one, for their correlation."""
MORE_FACES = 2.5
"""Faces added to every annotated class, for figures of several classes."""
RIGHT_AND_WRONG = 2
STEP = 1e-4
"""Share of a face that is added to see how a figure moves."""


@dataclass(frozen=True)
class ScoreCounts:
    """Faces of subgroups by ascending score of each class, others' first.

    One array (K, 2, B) per subgroup; where every different score is counted, B differs.
    """

    each: Sequence[Numbers]
    correlations: Mapping[str, Values] = field(default_factory=dict)
    """Metric per class -> correlation of its values, (subgroups, K, K)."""
    _known: dict[Callable[[Numbers], Values], Values] = field(
        default_factory=dict, init=False, repr=False
    )

    def apply(self, function: Callable[[Numbers], Values]) -> Values:
        """A figure of every subgroup, along a first axis; each is computed once."""
        if function not in self._known:
            self._known[function] = np.stack([function(scores) for scores in self.each])
        return self._known[function]

    @cached_property
    def totals(self) -> Values:
        """Faces of other classes and of each class, (subgroups, K, 2)."""
        return self.apply(_sides)


def _sides(scores: Numbers) -> Values:
    return np.asarray(scores.sum(axis=-1))


def figures(function: Callable[..., Values], counts: Any) -> Values:
    """Values of a function of counts, one per subgroup."""
    return (
        counts.apply(function) if isinstance(counts, ScoreCounts) else np.asarray(function(counts))
    )


def bounds_of(metric: Metric, counts: Any, told: Any, confidence: float) -> Bounds:
    """Lower and upper bounds of a metric; NaN where there are none.

    Args:
        metric: The metric.
        counts: What it needs, with leading axes of subgroups.
        told: The share of the faces that count, like the metric's values.
        confidence: Such as 0.95.
    """
    values = figures(metric.function, counts)
    return BOUNDS[metric.interval](metric, counts, values, told, confidence)


def sure_bounds_of(
    metric: Metric, counts: Any, told: Any, bounds: Bounds, confidence: float
) -> Bounds:
    """Bounds of shares, and of F1, as verdicts need them (see ``sure_bounds``); others as given."""
    values = figures(metric.function, counts)
    if metric.interval == "share":
        return sure_bounds(bounds, values, figures(metric.faces, counts) * told, confidence)
    if metric.interval == "overlap":
        shares = bounds[0] / (2 - bounds[0]), bounds[1] / (2 - bounds[1])
        low, high = sure_bounds(shares, values / (2 - values), union(counts) * told, confidence)
        return 2 * low / (1 + low), 2 * high / (1 + high)
    return bounds


def _share(metric: Metric, counts: Any, values: Values, told: Any, confidence: float) -> Bounds:
    return share_interval(values, figures(metric.faces, counts) * told, confidence)


def _overlap(metric: Metric, counts: Any, values: Values, told: Any, confidence: float) -> Bounds:
    return overlap_interval(values, union(counts) * told, confidence)


def _rank(metric: Metric, counts: Any, values: Values, told: Any, confidence: float) -> Bounds:
    others, own = np.moveaxis(counts.totals, -1, 0)
    smaller = np.minimum(others, own)
    unseen = rank_variance(1 - ratio(CHANCE_FACES / 2, smaller + CHANCE_FACES), own, others)
    spread = ratio(counts.apply(auc_variance) + unseen, rank_variance(values, own, others) + unseen)
    told = ratio(told, spread)
    return rank_interval(values, own * told, others * told, confidence)


def _curve(metric: Metric, counts: Any, values: Values, told: Any, confidence: float) -> Bounds:
    own = counts.totals[..., 1]
    variance = counts.apply(average_precision_variance)
    # As a share of so many faces would vary; a perfect curve tells no more than its faces.
    alone = ratio(LOST_FACES, own)
    faces = ratio(values * (1 - values) * own + LOST_FACES, variance * own + alone)
    return wilson(values, faces * told, confidence)


def _mean(metric: Metric, counts: Any, values: Values, told: Any, confidence: float) -> Bounds:
    faces = figures(metric.faces, counts) * told
    return mean_interval(values, squares_of(metric, counts) - values**2, faces, confidence)


def _positive(metric: Metric, counts: Any, values: Values, told: Any, confidence: float) -> Bounds:
    faces = figures(metric.faces, counts) * told
    large = UNSEEN.get(metric.name, TWICE * values)
    dispersion = _dispersion(values, squares_of(metric, counts), faces, large)
    low, high = positive_mean_interval(values, dispersion, faces, confidence)
    return low, np.minimum(high, metric.limits[1])


def _root(metric: Metric, counts: Any, values: Values, told: Any, confidence: float) -> Bounds:
    faces, squared = figures(metric.faces, counts) * told, values**2
    tails = faces * squares_of(metric, counts) + _pseudo_faces(faces) * (FAR_OFF * values) ** 4
    dispersion = ratio(ratio(tails, faces) - squared**2, squared)
    low, high = positive_mean_interval(squared, dispersion, faces, confidence)
    return np.sqrt(low), np.sqrt(high)


def _dispersion(values: Values, squares: Values, faces: Values, large: Any) -> Values:
    """Variance of values by their mean, with the part of a face that has a ``large`` one."""
    more = _pseudo_faces(faces)
    spread = faces * (squares - values**2)
    return ratio(spread + more * large**2, faces * values + more * large)


def _pseudo_faces(faces: Values) -> Values:
    """How many faces with a large error are added: the largest of more errors is larger."""
    return np.asarray(PSEUDO_FACES * np.sqrt(faces / PSEUDO_AT))


def squares_of(metric: Metric, counts: Any) -> Values:
    """The mean square of what a metric is the mean of, or the root of a mean of."""
    if metric.second_moment is None:
        raise ValueError(f"the metric {metric.name} names no second moment for its interval")
    return figures(metric.second_moment, counts)


def _steps(metric: Metric, counts: Any, values: Values, told: Any, confidence: float) -> Bounds:
    faces = figures(metric.faces, counts) * told
    dispersion = _dispersion(values, squares_of(metric, counts), faces, GROUPS_OFF)
    return positive_mean_interval(values, dispersion, faces, confidence)


def _signed_steps(
    metric: Metric, counts: Any, values: Values, told: Any, confidence: float
) -> Bounds:
    # Student's interval leaves out the true mean too often where a few errors are all to one side.
    faces = (figures(metric.faces, counts) * told)[..., None]
    sides, squares = step_sides(counts), step_sides(counts, 2)
    dispersion = _dispersion(sides, squares, faces, SIDE_OFF * (faces / PSEUDO_AT) ** 0.25)
    bounds = positive_mean_interval(sides, dispersion, faces, confidence)
    spread = np.sqrt((squares - sides**2).prod(axis=-1))
    # No face is judged both too old and too young.
    together = np.where(spread > 0, -ratio(sides.prod(axis=-1), spread), 0.0)
    correlation = np.where(np.eye(2, dtype=bool), 1.0, together[..., None, None])
    return weighted_interval(sides, bounds, [1, -1], correlation)


def _classes(metric: Metric, counts: Any, values: Values, told: Any, confidence: float) -> Bounds:
    smooth = smoothed_confusion(counts)
    moves = influence(metric.function, smooth)
    by_class = (smooth * np.square(moves)).sum(axis=-1)
    variance, center = by_class.sum(axis=-1), np.asarray(metric.function(smooth))
    # A share of so many faces would vary as much, and be known as well.
    alike = ratio(center * (1 - center), variance)
    seen = ratio(labelled_faces(counts), labelled_faces(smooth))
    known = told_by_degrees(degrees_of_sum(by_class, annotated_faces(smooth) - 1), confidence)
    low, high = share_interval(center, alike * seen * known * told, confidence)
    return np.minimum(low, values), np.maximum(high, values)


def degrees_of_sum(variances: Values, degrees: Values) -> Values:
    """Degrees of freedom of a sum over the last axis, from those of what is added.

    Args:
        variances: Of what is added, (..., K).
        degrees: Degrees of freedom of each variance, (..., K); 0 or less where there is none.

    Source:
        Satterthwaite: An approximate distribution of estimates of variance components, Biometrics
        Bulletin 2, 1946.
    """
    each = np.square(variances) / np.where(degrees > 0, degrees, np.inf)
    return ratio(np.square(variances.sum(axis=-1)), each.sum(axis=-1))


def smoothed_confusion(confusion: Any) -> Values:
    """The confusion with ``MORE_FACES`` faces of every annotated class, (..., K, K).

    They are right as often as all faces are with ``RIGHT_AND_WRONG`` more of either, and their
    errors are spread evenly over the other classes that occur, so that a class of few faces is
    neither sure to be recognized nor lost.

    Source:
        Agresti, Coull: Approximate is better than "exact" for interval estimation of binomial
        proportions, American Statistician 52, 1998 (two successes and two failures are added).
    """
    confusion = np.asarray(confusion, np.float64)
    size = confusion.shape[-1]
    present = present_classes(confusion)
    right = (correct_faces(confusion).sum(axis=-1) + RIGHT_AND_WRONG) / (
        labelled_faces(confusion) + 2 * RIGHT_AND_WRONG
    )
    others = np.maximum(present.sum(axis=-1) - 1, 1)
    wrong = (1 - right) / others
    diagonal = np.eye(size, dtype=bool)
    likely = np.where(diagonal, right[..., None, None], wrong[..., None, None])
    annotated = annotated_faces(confusion) > 0
    more = MORE_FACES * likely * annotated[..., :, None] * present[..., None, :]
    return np.asarray(confusion + more)


def influence(function: Callable[..., Values], confusion: Values) -> Values:
    """How far one more face in each cell moves a figure, (..., K, K)."""
    size = confusion.shape[-1]
    added = STEP * np.eye(size * size).reshape(size, size, size, size)
    moved = function(confusion[..., None, None, :, :] + added)
    return np.asarray((moved - function(confusion)[..., None, None]) / STEP)


def _mean_of_classes(
    metric: Metric, counts: ScoreCounts, values: Values, told: Any, confidence: float
) -> Bounds:
    single = _PER_CLASS[metric.mean_of]
    each = figures(single.function, counts)
    bounds = BOUNDS[single.interval](single, counts, each, np.asarray(told)[..., None], confidence)
    counted = ~np.isnan(each)
    weights = np.nan_to_num(ratio(counted, counted.sum(axis=-1, keepdims=True)))
    return weighted_interval(each, bounds, weights, _correlation(single, counts))


def _correlation(single: Metric, counts: ScoreCounts) -> Values:
    """How the values of a metric per class vary together, (..., K, K).

    Where it is not given: at worst, as one. Few faces of a class tell little of it.
    """
    own = counts.totals[..., 1]
    fewer = np.minimum(own[..., :, None], own[..., None, :])
    found = counts.correlations.get(single.name, np.ones_like(fewer))
    return np.asarray((fewer * found + ALIKE_FACES) / (fewer + ALIKE_FACES))


def union(confusion: Any) -> Values:
    """Faces annotated or predicted as each class, (..., K)."""
    both = annotated_faces(confusion) + predicted_faces(confusion)
    return np.asarray(both - correct_faces(confusion))


def auc_variance(scores: Any) -> Values:
    """DeLong's variance of the AUC, (...), from (..., 2, B)."""
    scores = np.asarray(scores)
    faces = scores.sum(axis=-1)
    moves = (np.square(auc_influence(scores)) * scores).sum(axis=-1)
    return np.asarray((moves * faces / np.maximum(faces - 1, 1)).sum(axis=-1))


def average_precision_variance(scores: Any) -> Values:
    """Variance of the average precision by the delta method, (...), from (..., 2, B)."""
    scores = np.asarray(scores)
    own = scores[..., 1, :].sum(axis=-1)
    moves = (np.square(curve_influence(scores)) * scores).sum(axis=(-2, -1))
    return np.asarray(moves * own / np.maximum(own - 1, 1))


def _calibration(
    metric: Metric, counts: Any, values: Values, told: Any, confidence: float
) -> Bounds:
    known = told_by_degrees(np.maximum(counts[..., 0] - 1, 0).sum(axis=-1), confidence)
    low, high = calibration_interval(counts, known * told, confidence, alike=told)
    # The value is less what chance adds to the gaps of independent faces.
    low, high = np.minimum(low, values), np.maximum(high, values)
    known = np.broadcast_to(~np.isnan(told), low.shape)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


BOUNDS: dict[str, Callable[..., Bounds]] = {
    "share": _share,
    "overlap": _overlap,
    "classes": _classes,
    "mean_of_classes": _mean_of_classes,
    "rank": _rank,
    "curve": _curve,
    "mean": _mean,
    "positive": _positive,
    "root": _root,
    "steps": _steps,
    "signed_steps": _signed_steps,
    "calibration": _calibration,
}
_PER_CLASS = {metric.name: metric for metric in METRICS if metric.per_class}
