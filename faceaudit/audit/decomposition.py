"""Figures at the same mix of a control feature, and how much of a gap that mix explains.

Subgroups differ in what a control feature holds (ages, cameras, sites), and figures differ with it.
A figure that is a mean over faces can be re-weighted to a common mix, and the gap between two
groups of faces falls into a part that is the mix and a part that is left at the same mix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from faceaudit.audit.intervals import normal_quantile, wilson
from faceaudit.audit.metrics import Metric, Values, ratio
from faceaudit.audit.results import Contribution, Estimate, Subgroup

MEANS = (
    "accuracy",
    "log_loss",
    "brier",
    "one_off",
    "step_mae",
    "mean_signed_step",
    "mae",
    "mean_signed_error",
    "cs_at_5",
)
"""Metrics that are means over faces, which alone can be re-weighted and decomposed."""
PSEUDO_FACES = 2.0
"""Faces added to each value of the control feature for its spread, distributed as everybody's."""
NOT_APART = "the gap itself cannot be told apart from 0"
OF_PARTS = "no interval: what is uncertain is said by the intervals of the two parts"
NO_FACES = "no face has a figure"
NO_SPREAD = "no interval: all faces have the same figure"


@dataclass(frozen=True)
class Strata:
    """Faces, sums of a figure and sums of its squares by value of a control feature.

    ``sums`` has the shape (..., G, 3); ``blocks`` the same with a first axis of blocks of units,
    and is None where rows are independent.
    """

    sums: Values
    blocks: Values | None = None

    def of(self, places: Any) -> Strata:
        """Those of some subgroups, along the axis before the values of the control feature."""
        blocks = None if self.blocks is None else self.blocks[:, places]
        return Strata(self.sums[places], blocks)

    def rest(self, place: int) -> Strata:
        """All subgroups but one, together."""
        sums, blocks = self._totals
        others = None if blocks is None or self.blocks is None else blocks - self.blocks[:, place]
        return Strata(sums - self.sums[place], others)

    @cached_property
    def _totals(self) -> tuple[Values, Values | None]:
        """All subgroups together."""
        blocks = None if self.blocks is None else self.blocks.sum(axis=1)
        return np.asarray(self.sums.sum(axis=0)), blocks


def face_sums(metric: Metric, counts: Any, *, by_class: bool = False) -> Values:
    """Faces, sum of the figure and sum of its squares, (..., 3), of one of ``MEANS``.

    Args:
        metric: The metric.
        counts: What it needs; leading axes stay.
        by_class: Whether confusions, (..., K, K), give those of every annotated class, (..., K, 3).
    """
    if metric.needs in {"classes", "groups"}:
        size = np.shape(counts)[-1]
        each = metric.function(np.eye(size * size).reshape(size, size, size, size))
        summed = (-1,) if by_class else (-2, -1)
        parts = [(counts * each**power).sum(axis=summed) for power in range(3)]
        return np.asarray(np.stack(parts, axis=-1), np.float64)
    faces, mean = np.asarray(metric.faces(counts), np.float64), metric.function(counts)
    square = mean if metric.second_moment is None else metric.second_moment(counts)
    parts = [faces, np.nan_to_num(mean) * faces, np.nan_to_num(square) * faces]
    return np.stack(parts, axis=-1)


# --- the same mix -----------------------------------------------------------------------------


def common_mix(faces: Any, min_n: int) -> Values | None:
    """Weight of each value of a control feature, (G,): its share of all faces.

    Only values count that every subgroup with at least ``min_n`` faces has. None where there is no
    such value.

    Args:
        faces: Faces by subgroup and value, (S, G).
        min_n: Subgroups with fewer faces do not decide.
    """
    faces = np.asarray(faces)
    if not faces.size:
        return None
    total = faces.sum(axis=0)
    common = (faces[faces.sum(axis=-1) >= min_n] > 0).all(axis=0) & (total > 0)
    weights = np.where(common, total, 0)
    return ratio(weights, weights.sum()) if weights.any() else None


def standardised(
    metric: Metric,
    strata: Strata,
    everybody: Values,
    weights: Values,
    names: Sequence[str],
    confidence: float,
) -> Estimate:
    """The figure as it would be if the faces had the common mix (direct standardization).

    Args:
        metric: One of ``MEANS``.
        strata: Sums of one subgroup, (G, 3).
        everybody: Sums of all faces, (G, 3).
        weights: The common mix, (G,).
        names: Values of the control feature.
        confidence: Of the interval.

    Source:
        Breslow, Day: Statistical methods in cancer research, volume II, IARC 1987, chapter 2.
    """
    used = weights > 0
    faces = strata.sums[:, 0]
    n = int(faces[used].sum())
    missing = [name for name, one, k in zip(names, used, faces, strict=True) if one and not k]
    if missing:
        reason = f"no face of this subgroup is annotated {', '.join(missing)}"
        return Estimate(None, None, None, n, reason)

    def weighted(sums: Values) -> Values:
        # Without a block of units a value may have no face; the mix is then that of the others.
        kept = weights * (sums[..., 0] > 0)
        rates = np.nan_to_num(ratio(sums[..., 1], sums[..., 0]))
        return ratio((kept * rates).sum(axis=-1), kept.sum(axis=-1))

    value = float(weighted(strata.sums))
    spread = _spread(strata.sums, everybody)[used]
    variance = float((weights[used] ** 2 * spread / faces[used]).sum())
    variance *= _design_effect(strata, everybody)
    quantile = normal_quantile(confidence)
    if strata.blocks is not None:
        moved, quantile = _over_blocks(weighted, (strata.blocks,), confidence)
        variance = max(variance, float(moved))
    if not variance > 0 or np.isnan(quantile):
        return Estimate(value, None, None, n, NO_SPREAD)
    if metric.unit == "share":
        mean = float(weighted(_smoothed(strata.sums, everybody)))
        told = mean * (1 - mean) / variance * (normal_quantile(confidence) / quantile) ** 2
        low, high = wilson(value, told, confidence)
    else:
        half = quantile * np.sqrt(variance)
        low, high = np.clip([value - half, value + half], *metric.limits)
    return Estimate(value, float(low), float(high), n)


def _smoothed(sums: Values, everybody: Values) -> Values:
    """Sums with pseudo-faces, so that a spread that was not seen is not impossible."""
    prior = np.nan_to_num(ratio(everybody, everybody[..., :1]))
    return np.asarray(sums + PSEUDO_FACES * prior)


def _spread(sums: Values, everybody: Values) -> Values:
    """Variance of the figure among the faces of each value, (..., G)."""
    faces, total, squares = np.moveaxis(_smoothed(sums, everybody), -1, 0)
    return np.nan_to_num(np.maximum(ratio(squares, faces) - ratio(total, faces) ** 2, 0))


# --- gaps -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two groups of faces whose gap is decomposed; ``second`` is None for all other faces."""

    first: Subgroup
    second: Subgroup | None
    first_strata: Strata
    second_strata: Strata


def decompose(
    metric: Metric, pair: Pair, everybody: Values, names: Sequence[str], confidence: float
) -> tuple[Estimate, Estimate, Estimate, Estimate, tuple[Contribution, ...]]:
    """Gap, mix, rate, the mix's share of the gap, and what each value adds to the rate.

    With shares s and figures r by value of the control feature, the rate is the sum of differences
    in r times the mean of both s over values that both have, and the mix is the rest of the gap: so
    values that only one of them has belong to the mix.

    Args:
        metric: One of ``MEANS``.
        pair: Whom to compare; the gap is the first minus the second.
        everybody: Sums of all faces, (G, 3).
        names: Values of the control feature.
        confidence: Of the intervals, which rest on the delta method and, with units, reach at least
            as far as the spread over blocks says.

    Source:
        Kitagawa: Components of a difference between two rates, JASA 50, 1955.
    """
    first, second = pair.first_strata, pair.second_strata
    n = int(first.sums[:, 0].sum()), int(second.sums[:, 0].sum())
    if not min(n):
        nothing = Estimate(None, None, None, min(n), NO_FACES)
        return nothing, nothing, nothing, nothing, ()
    values = _parts(first.sums, second.sums)
    sides = zip((first, second), _sides(first.sums, second.sums), strict=True)
    variance = sum(
        _delta(*parts, everybody) * _design_effect(strata, everybody) for strata, parts in sides
    )
    quantile = normal_quantile(confidence)
    if first.blocks is not None and second.blocks is not None:
        moved, quantile = _over_blocks(_parts, (first.blocks, second.blocks), confidence)
        variance = np.maximum(variance, moved)
    half = quantile * np.sqrt(variance)
    gap, mix, rate, *each = (
        _estimate(value, one, sum(n)) for value, one in zip(values, half, strict=True)
    )
    both = (first.sums[:, 0] > 0) & (second.sums[:, 0] > 0)
    added = [
        Contribution(name, one) for name, one, seen in zip(names, each, both, strict=True) if seen
    ]
    ranked = sorted(added, key=lambda one: -abs(one.estimate.value or 0.0))
    return gap, mix, rate, _share(gap, mix), tuple(ranked)


def _share(gap: Estimate, mix: Estimate) -> Estimate:
    """Mix by gap, where there is a gap to explain."""
    if not gap.value or mix.value is None or gap.low is None or gap.high is None:
        return Estimate(None, None, None, gap.n, NOT_APART)
    if gap.low <= 0 <= gap.high:
        return Estimate(None, None, None, gap.n, NOT_APART)
    return Estimate(mix.value / gap.value, None, None, gap.n, OF_PARTS)


def _estimate(value: float, half: float, n: int) -> Estimate:
    if not half > 0:
        return Estimate(float(value), None, None, n, NO_SPREAD)
    return Estimate(float(value), float(value - half), float(value + half), n)


def _shares_and_rates(sums: Values) -> tuple[Values, Values]:
    shares = ratio(sums[..., 0], sums[..., 0].sum(axis=-1, keepdims=True))
    return shares, np.nan_to_num(ratio(sums[..., 1], sums[..., 0]))


def _parts(first: Values, second: Values) -> Values:
    """Gap, mix, rate, and each value's part of the rate: (..., 3 + G)."""
    (s, r), (t, q) = _shares_and_rates(first), _shares_and_rates(second)
    each = np.where((s > 0) & (t > 0), (r - q) * (s + t) / 2, 0)
    gap, rate = (s * r).sum(axis=-1) - (t * q).sum(axis=-1), each.sum(axis=-1)
    return np.concatenate([np.stack([gap, gap - rate, rate], axis=-1), each], axis=-1)


def _sides(first: Values, second: Values) -> list[tuple[Values, Values, Values]]:
    """Of each side its sums and the derivatives of the parts by its figures and by its shares."""
    (s, r), (t, q) = _shares_and_rates(first), _shares_and_rates(second)
    both = (s > 0) & (t > 0)
    weight, apart = np.where(both, (s + t) / 2, 0), np.where(both, (r - q) / 2, 0)
    return [
        (first, _derivatives(s, weight), _derivatives(r, apart)),
        (second, _derivatives(-t, -weight), _derivatives(-q, apart)),
    ]


def _derivatives(of_gap: Values, of_rate: Values) -> Values:
    """Derivatives of every part by one thing per value of the control feature, (3 + G, G)."""
    return np.vstack([of_gap, of_gap - of_rate, of_rate, np.diag(of_rate)])


def _delta(sums: Values, by_rate: Values, by_share: Values, everybody: Values) -> Values:
    """Variance that one side's figures and shares bring to every part, (3 + G,)."""
    faces = sums[:, 0]
    shares, seen = faces / faces.sum(), faces > 0
    of_rates = (by_rate[:, seen] ** 2 * _spread(sums, everybody)[seen] / faces[seen]).sum(axis=-1)
    mean = (by_share * shares).sum(axis=-1)
    of_shares = ((by_share**2 * shares).sum(axis=-1) - mean**2) / faces.sum()
    return np.asarray(of_rates + np.maximum(of_shares, 0))


def _design_effect(strata: Strata, everybody: Values) -> float:
    """By how much units widen the variance of a mean; 1 where rows are independent.

    Source:
        Kish: Survey sampling, Wiley 1965, section 8.2.
    """
    if strata.blocks is None:
        return 1.0

    def mean(sums: Values) -> Values:
        return ratio(sums[..., 1].sum(axis=-1), sums[..., 0].sum(axis=-1))

    moved, _ = _over_blocks(mean, (strata.blocks,), 0.95)
    together = strata.sums.sum(axis=0, keepdims=True)
    plain = _spread(together, everybody.sum(axis=0, keepdims=True))[0] / together[0, 0]
    effect = float(ratio(moved, plain))
    return max(effect, 1.0) if np.isfinite(effect) else 1.0


def _over_blocks(
    function: Callable[..., Values], blocks: Sequence[Values], confidence: float
) -> tuple[Values, float]:
    """Jackknife variance over blocks of units, and Student's quantile for as many blocks.

    Source:
        Efron, Stein: The jackknife estimate of variance, Annals of Statistics 9, 1981.
    """
    from scipy.special import stdtrit

    totals = [part.sum(axis=0) for part in blocks]
    moves = function(*(whole - part for whole, part in zip(totals, blocks, strict=True)))
    occupied = int(sum(part[..., 0].sum(axis=-1) for part in blocks).astype(bool).sum())
    if occupied < 2:
        return np.full(moves.shape[1:], np.nan), float("nan")
    squares = np.nansum(np.square(moves - function(*totals)), axis=0)
    return (occupied - 1) / occupied * squares, float(stdtrit(occupied - 1, (1 + confidence) / 2))
