"""What a comparison could have shown: the smallest gap, the faces needed, and equivalence."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from faceaudit.audit.metrics import Metric
from faceaudit.audit.results import Comparison, Equivalence
from faceaudit.audit.simultaneous import Figures, Pairs, every_pair

POWER = 0.8
"""The chance of showing a gap that faces needed and the smallest gap are given for."""
GAPS = {
    "share": (0.02, 0.05, 0.1),
    "score": (0.02, 0.05, 0.1),
    "nats": (0.02, 0.05, 0.1),
    "groups": (0.1, 0.2, 0.5),
    "years": (0.5, 1.0, 2.0),
}
"""Unit of a metric -> gaps that the faces needed are given for."""
MOST_PAIRED = 400
"""With more ranked subgroups equivalence is not tested."""


def smallest_detectable(figures: Figures, critical: float) -> float:
    """The gap that any two subgroups would show with a chance of ``POWER``."""
    errors = figures.standard_errors
    widest = np.argsort(errors)[-2:]
    pair = Pairs(figures, widest[:1], widest[1:])
    low, high = pair.bounds(critical)
    reach = NormalDist().inv_cdf(POWER) * pair.standard_errors
    return float(((high - low) / 2 + reach)[0])


def equivalent_within(comparison: Comparison, margin: float) -> Equivalence:
    """Whether all ranked subgroups are within a margin of each other, by two one-sided tests.

    Every pair must be within it, so that no adjustment for their number is due; the level is one
    minus the comparison's confidence.

    Args:
        comparison: The comparison.
        margin: In the metric's unit, above 0.

    Raises:
        ValueError: If the margin is not above 0.

    Source:
        Schuirmann: A comparison of the two one-sided tests procedure and the power approach,
        Journal of Pharmacokinetics and Biopharmaceutics 15, 1987; Berger: Multiparameter hypothesis
        testing and acceptance sampling, Technometrics 24, 1982 (intersection-union).
    """
    from scipy.special import ndtr

    if margin <= 0:
        raise ValueError(f"a margin must be above 0, got {margin}")
    left_out = tuple(one.subgroup for one in comparison.subgroups if one.reason is not None)
    if comparison.figures is None:
        return Equivalence(margin, None, None, None, None, left_out, comparison.reason)
    if len(comparison.figures.values) > MOST_PAIRED:
        reason = f"equivalence of more than {MOST_PAIRED} subgroups is not tested"
        return Equivalence(margin, None, None, None, None, left_out, reason)
    pairs = Pairs(comparison.figures, *every_pair(len(comparison.figures.values)))
    inside = np.minimum(pairs.distances(-margin), -pairs.distances(margin))
    p_value = float(ndtr(-inside).max())
    low, high = pairs.bounds(NormalDist().inv_cdf(comparison.confidence))
    return Equivalence(
        margin,
        p_value <= 1 - comparison.confidence,
        p_value,
        float(low.min()),
        float(high.max()),
        left_out,
    )


def n_needed(comparison: Comparison, gap: float, power: float = POWER) -> int | None:
    """Faces that every subgroup must have for a gap to be shown with this chance.

    They are those at which the gap is the critical value plus the normal quantile of the power, in
    standard errors, of the subgroup whose faces differ most. None where nothing could be compared.

    Args:
        comparison: The comparison, of which spreads and confidence are taken.
        gap: In the metric's unit; its sign does not matter.
        power: Chance that the interval of such a gap excludes 0.

    Raises:
        ValueError: If the gap is 0.
    """
    if gap == 0:
        raise ValueError("no number of faces shows a gap of 0")
    if comparison.critical is None:
        return None
    per_face = max(
        one.standard_error**2 * one.n for one in comparison.ranked if one.standard_error is not None
    )
    reach = comparison.critical + NormalDist().inv_cdf(power)
    return math.ceil(2 * per_face * (reach / gap) ** 2)


def faces_needed(comparison: Comparison, metric: Metric) -> tuple[tuple[float, int], ...]:
    """Gaps in the metric's unit, and the faces per subgroup that each is shown with."""
    found = [(gap, n_needed(comparison, gap)) for gap in GAPS[metric.unit]]
    return tuple((gap, n) for gap, n in found if n is not None)
