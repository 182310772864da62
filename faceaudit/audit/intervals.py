"""How far a figure may be off: intervals for shares, means, rank measures and means of classes.

All are closed forms of counts, so that they cost nothing and repeat exactly, and none shrinks to a
point because no error was seen. Numbers of faces need not be whole: clustered faces count as the
number of independent ones that would tell as much.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.metrics import ratio

Values = NDArray[np.float64]
Bounds = tuple[Values, Values]
BISECTIONS = 50
RARE = 3
"""So many hits are rare: the score interval's bound toward 0 is replaced by Poisson's."""
RARE_OF_FORTY, RARE_OF_TEN = 2, 1
"""Of no more than forty faces, and of no more than ten: two hits of five are not rare."""
PART_OF_BOUND = 1 / 4
"""Of the inverse number of calibration bins; 1/2 were each bin's part of its bound, 0 the whole."""


def normal_quantile(confidence: float) -> float:
    """Two-sided standard normal quantile, 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def student_quantile(degrees: Any, confidence: float) -> Values:
    """Two-sided quantile of Student's distribution; NaN without degrees of freedom."""
    from scipy.special import stdtrit

    degrees = np.asarray(degrees, np.float64)
    return np.asarray(stdtrit(np.where(degrees > 0, degrees, np.nan), (1 + confidence) / 2))


def told_by_degrees(degrees: Any, confidence: float) -> Values:
    """The share of faces that count where a variance is estimated; NaN without degrees of freedom.

    An interval of so much fewer faces at the normal quantile is as long as Student's.
    """
    student = student_quantile(degrees, confidence)
    return np.asarray(np.square(normal_quantile(confidence) / student))


def wilson(share: Any, trials: Any, confidence: float) -> Bounds:
    """Score interval of a share; NaN where there are no trials.

    Args:
        share: Observed shares in [0, 1].
        trials: Numbers of faces they are shares of.
        confidence: Such as 0.95.

    Source:
        Wilson: Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
    """
    z = normal_quantile(confidence)
    p = np.asarray(share, np.float64)
    n = np.where(np.asarray(trials) > 0, np.asarray(trials, np.float64), np.nan)
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    # At 0 and 1 the bound is exact; rounding must not push it past the share.
    return np.minimum(np.maximum(center - half, 0), p), np.maximum(np.minimum(center + half, 1), p)


def share_interval(
    share: Any, trials: Any, confidence: float, *, of_ten: int = RARE_OF_TEN
) -> Bounds:
    """Wilson's interval, which is too short on one side after one to three hits, mended there.

    After one hit in a hundred it leaves out rates of one in six hundred, which bring such a hit
    about in 15 of 100 tables. After few hits (one of ten faces, two of forty, three of more) the
    lower bound is therefore the rate at which so many come about with a chance of one minus
    confidence; misses likewise.

    Args:
        share: Observed shares in [0, 1].
        trials: Numbers of faces they are shares of.
        confidence: Such as 0.95.
        of_ten: How many hits of no more than ten faces are few.

    Source:
        Brown, Cai, DasGupta: Interval estimation for a binomial proportion, Statistical Science 16,
        2001 (modified Wilson interval).
    """
    low, high = wilson(share, trials, confidence)
    n = np.asarray(trials, np.float64)
    hits = np.asarray(share, np.float64) * n
    most = np.where(n > 40, RARE, np.where(n > 10, RARE_OF_FORTY, of_ten))
    lowest = np.fmin(low, _rare(hits, most, n, confidence))
    highest = np.fmax(high, 1 - _rare(n - hits, most, n, confidence))
    return lowest, highest


def _rare(hits: Values, most: Any, trials: Values, confidence: float) -> Values:
    """Lower bound of a share after few hits; NaN where they are more than that, or none."""
    from scipy.special import gammaincinv

    # A share times its trials is a whole number but for rounding.
    few = (hits > 1e-9) & (hits < most + 0.5)
    rate = gammaincinv(np.where(few, hits, 1.0), 1 - confidence)
    return np.where(few, rate / np.where(few, trials, 1.0), np.nan)


def sure_bounds(bounds: Bounds, share: Any, trials: Any, confidence: float) -> Bounds:
    """Bounds of shares that are beyond the true one in no more tables than they are allowed to be.

    An interval of 95 % holds on average over rates. Where each of many subgroups has one of a
    higher confidence, as in a verdict, it is the rates near 0 and 1 that count: there, four or more
    misses by chance would decide far too often. Each bound is therefore moved to the exact one
    where that is further out, which lies beyond the true share in at most one minus confidence of
    all tables.

    Args:
        bounds: As ``share_interval`` gives them.
        share: Observed shares in [0, 1].
        trials: Numbers of faces they are shares of; they need not be whole.
        confidence: Such as 0.999.

    Source:
        Clopper, Pearson: The use of confidence or fiducial limits illustrated in the case of the
        binomial, Biometrika 26, 1934.
    """
    n = np.asarray(trials, np.float64)
    hits = np.asarray(share, np.float64) * n
    low = np.fmin(bounds[0], _exact(hits, n, confidence))
    return low, np.fmax(bounds[1], 1 - _exact(n - hits, n, confidence))


def _exact(hits: Values, trials: Values, confidence: float) -> Values:
    """Lower bound of a share, one-sided; 0 without hits, NaN without trials."""
    from scipy.special import betaincinv

    some = (hits > 1e-9) & (trials > 0)
    known, others = np.where(some, hits, 1.0), np.where(some, np.maximum(trials - hits, 0), 1.0)
    found = betaincinv(known, others + 1, 1 - confidence)
    return np.where(some, found, np.where(trials > 0, 0.0, np.nan))


def overlap_interval(f1: Any, union: Any, confidence: float) -> Bounds:
    """Score interval of F1, which is a function of a share; NaN where there are no faces.

    Of the faces annotated or predicted as a class, the share that are both is F1 / (2 - F1).

    Args:
        f1: Observed values in [0, 1].
        union: Numbers of faces annotated or predicted as the class.
        confidence: Such as 0.95.

    Source:
        Lam, Gopal, Qian: Confidence intervals for the F1 score: a comparison of four methods,
        arXiv 2309.14621, 2023 (Wilson indirect method).
    """
    value = np.asarray(f1, np.float64)
    low, high = share_interval(value / (2 - value), union, confidence)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def rank_interval(auc: Any, positives: Any, negatives: Any, confidence: float) -> Bounds:
    """Score-type interval of an AUC; NaN where either class is empty.

    The bounds are the values whose distance from the AUC is the normal quantile times their own
    standard error, in which both class sizes are replaced by their mean.

    Source:
        Newcombe: Confidence intervals for an effect size measure based on the Mann-Whitney
        statistic. Part 2, Statistics in Medicine 25, 2006 (method 5); the variance is that of
        Hanley and McNeil, Radiology 143, 1982.
    """
    z = normal_quantile(confidence)
    theta, m, n = (np.asarray(part, np.float64) for part in (auc, positives, negatives))
    usable = (m > 0) & (n > 0)
    theta = np.where(usable, theta, np.nan)
    m, n = np.where(usable, m, np.nan), np.where(usable, n, np.nan)

    def outside(t: Values) -> NDArray[np.bool_]:
        return np.asarray(np.abs(t - theta) > z * np.sqrt(rank_variance(t, m, n)))

    low = _boundary(outside, np.zeros_like(theta), theta)
    high = _boundary(outside, np.ones_like(theta), theta)
    return low, high


def rank_variance(auc: Any, positives: Any, negatives: Any) -> Values:
    """Variance of an AUC, from its value and the faces of both classes; NaN without either.

    Source:
        Hanley, McNeil: The meaning and use of the area under a receiver operating characteristic
        curve, Radiology 143, 1982; both class sizes are replaced by their mean (Newcombe 2006).
    """
    t, m, n = (np.asarray(part, np.float64) for part in (auc, positives, negatives))
    spread = t * (1 - t) * (1 + ((m + n) / 2 - 1) * ((1 - t) / (2 - t) + t / (1 + t)))
    return ratio(spread, m * n)


def _boundary(outside: Any, far: Values, near: Values) -> Values:
    """The point between ``far`` (outside) and ``near`` (inside) where inside begins."""
    for _ in range(BISECTIONS):
        middle = (far + near) / 2
        beyond = outside(middle)
        far, near = np.where(beyond, middle, far), np.where(beyond, near, middle)
    return (far + near) / 2


def mean_interval(mean: Any, variance: Any, faces: Any, confidence: float) -> Bounds:
    """Student's interval of a mean; NaN where fewer than two faces, or none that differ.

    Args:
        mean: Observed means.
        variance: Mean squared distances from them (divided by the faces, not by one less).
        faces: Numbers of faces.
        confidence: Such as 0.95.
    """
    center, spread = np.asarray(mean, np.float64), _spread(mean, variance)
    degrees = _degrees(faces)
    half = student_quantile(degrees, confidence) * np.sqrt(spread / degrees)
    return center - half, center + half


def _degrees(faces: Any) -> Values:
    """Degrees of freedom of a mean; NaN below 1, where units leave less than two faces tell."""
    degrees = np.asarray(faces, np.float64) - 1
    return np.where(degrees >= 1, degrees, np.nan)


def _spread(mean: Any, variance: Any) -> Values:
    """A variance; NaN where rounding is all that is left of it: the values do not differ."""
    scale = np.maximum(np.square(np.asarray(mean, np.float64)), 1e-12)
    return np.where(np.asarray(variance) > 1e-12 * scale, variance, np.nan)


def positive_mean_interval(mean: Any, dispersion: Any, faces: Any, confidence: float) -> Bounds:
    """Score-type interval of the mean of values that are not negative, such as losses.

    Their spread grows with their mean: a table that happens to lack large ones has both too low.
    The bounds are the means whose distance from the observed one is Student's quantile times their
    own standard error, where the variance is in proportion to the mean.

    Args:
        mean: Observed means, 0 or more.
        dispersion: Variance of the values by their mean.
        faces: Numbers of faces.
        confidence: Such as 0.95.

    Source:
        McCullagh, Nelder: Generalized linear models, 1989, chapter 9 (variance in proportion to the
        mean), by inversion of the score test.
    """
    center, degrees = np.asarray(mean, np.float64), _degrees(faces)
    reach = student_quantile(degrees, confidence) ** 2 / degrees
    shift = reach * np.asarray(dispersion, np.float64) / 2
    half = np.sqrt(2 * shift * center + shift**2)
    return np.maximum(center + shift - half, 0), center + shift + half


def weighted_interval(
    values: Any, bounds: Bounds, weights: Any, correlation: Any | None = None
) -> Bounds:
    """Interval of a weighted sum over the last axis, from the intervals of what is added.

    Distances to the bounds add up as standard errors do, so that those of the sum keep the shape of
    those of its parts.

    Args:
        values: What is added, (..., K); NaN where its weight is 0.
        bounds: Its bounds, (..., K).
        weights: Of each, (..., K); negative ones for a difference.
        correlation: Of the values, (..., K, K); None for independent ones.

    Source:
        Zou, Huang, Zhang: A note on confidence interval estimation for a linear function of
        binomial proportions, Computational Statistics and Data Analysis 53, 2009 (MOVER).
    """
    weights = np.broadcast_to(weights, np.shape(values))
    used = weights != 0
    signed = np.where(used, weights, 0.0)
    center = (signed * np.where(used, values, 0.0)).sum(axis=-1)
    down = np.where(used, np.where(weights > 0, values - bounds[0], bounds[1] - values), 0.0)
    up = np.where(used, np.where(weights > 0, bounds[1] - values, values - bounds[0]), 0.0)
    return (
        center - _length(signed * down, correlation),
        center + _length(signed * up, correlation),
    )


def _length(steps: Values, correlation: Any | None) -> Values:
    """Length of steps in directions that are correlated, (...)."""
    if correlation is None:
        return np.asarray(np.sqrt(np.square(steps).sum(axis=-1)))
    # Sums of fixed order: a table alone has the digits that it has among others.
    along = (np.asarray(correlation) * steps[..., None, :]).sum(axis=-1)
    return np.asarray(np.sqrt(np.maximum((steps * along).sum(axis=-1), 0)))


def calibration_interval(
    calibration: Any, told: Any, confidence: float, *, alike: Any = 1.0
) -> Bounds:
    """Score-type interval of the calibration error; NaN where no bin holds two faces.

    The squared gaps between confidence and share of right predictions, less what chance adds, have
    a mean whose variance has a part that is always there and one in proportion to the mean itself.
    The bounds are the means whose distance from the observed one is the normal quantile times their
    own standard error.

    Args:
        calibration: Faces, sum of confidence and right predictions by bin, (..., bins, 3).
        told: The share of the faces that count, (...).
        confidence: Such as 0.95.
        alike: The same but for what is not known of spreads: of so many faces the squared gaps hold
            what chance adds.
    """
    z = normal_quantile(confidence)
    faces, sure, right = np.moveaxis(np.asarray(calibration, np.float64), -1, 0)
    # NaN for bins that do not count.
    n = np.where(faces > 1, faces, np.nan)
    share, gap = right / n, (sure - right) / n
    weight = ratio(n, np.nansum(n, axis=-1, keepdims=True))
    # Where the mean of k equal bins is at its bound, each bin is off by 1 / sqrt(k) of its own: its
    # spread is that of the share between the observed one and its bound, here halfway in powers.
    part = np.nansum(weight**2, axis=-1, keepdims=True) ** PART_OF_BOUND
    # Wilson's interval at a part of the quantile is that of so many more trials.
    trials = n * np.asarray(told)[..., None] / part**2
    # What bins of a few faces leave out adds up over many bins.
    low, high = share_interval(share, trials, confidence, of_ten=RARE_OF_FORTY)
    chance = share * (1 - share) / (n - 1) / np.asarray(alike)[..., None]
    mean = np.maximum(np.nansum(weight * (gap**2 - chance), axis=-1), 0)
    # How far the gap of a bin may be nearer to 0, and further off, perhaps on the other side.
    nearer = np.where(gap > 0, high - share, share - low)
    mean_sure = sure / n
    further = np.maximum(np.abs(mean_sure - low), np.abs(mean_sure - high)) - np.abs(gap)
    reaches = []
    for sign, step in ((-1, nearer / (z * part)), (1, further / (z * part))):
        always = 2 * np.nansum(np.square(weight * step**2), axis=-1)
        growing = 4 * np.nansum(np.square(weight * step * gap), axis=-1)
        shift = z**2 / 2 * ratio(growing, np.nansum(weight * gap**2, axis=-1))
        half = np.sqrt(2 * shift * mean + shift**2 + z**2 * always)
        reaches.append(mean + shift + sign * half)
    low, high = (np.sqrt(np.clip(reach, 0, 1)) for reach in reaches)
    return low, high


def generator_for(seed: int, task: str, subgroup: Mapping[str, str]) -> np.random.Generator:
    """Random numbers that depend on the seed and the subgroup alone, not on what else is run."""
    name = "|".join([task, *(f"{key}={value}" for key, value in sorted(subgroup.items()))])
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def difference_interval(first: tuple[Any, Any, Any], second: tuple[Any, Any, Any]) -> Bounds:
    """Interval of ``first`` minus ``second``, independent figures, each as value, low and high.

    For shares with Wilson intervals this is Newcombe's hybrid score interval. Any shapes that
    broadcast.

    Source:
        Newcombe: Interval estimation for the difference between independent proportions, Statistics
        in Medicine 17, 1998 (method 10); Zou and Donner: Construction of confidence limits about
        effect measures, Statistics in Medicine 27, 2008, for other measures.
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    return a - b - np.hypot(a - a_low, b_high - b), a - b + np.hypot(a_high - a, b - b_low)
