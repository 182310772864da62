"""What a comparison could have shown: the smallest gap, the faces needed, and equivalence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from faceaudit.audit.intervals import Values
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
MOST_FACES = 1e9
STEPS, STRIDE = 6, 4 / 3
"""Limits grow at most as the root of a gap, and shrink at least as that of the faces and at most as
their number: in this stride each step leaves at most a third of what is off."""
UNKNOWN_APART = 4.0
"""How many times too far a gap with as few faces is from being shown."""
TINY = 1e-300
"""For a spread of 0, of which no part is anybody's."""


@dataclass(frozen=True)
class Planned:
    """Figures, and beside each another subgroup that is off from it by a gap; arrays (M,).

    A figure from 0 to 1 is off toward a half, where shares vary most, and any other upward. What
    another subgroup's figure would vary by there is what its limits take it to: a share p varies as
    p (1 - p) does, a mean that cannot be negative as its own size. Of steps with a sign, which have
    either sign or are 0, a gap of g takes g of the faces that are off by one more.

    Source:
        Fleiss, Levin, Paik: Statistical methods for rates and proportions, 2003, chapter 4 (faces
        for two proportions, each with the spread at its own figure); here they are those at which
        the project's own limits leave out zero.
    """

    both: Figures
    """Of the subgroups and, after them, of the others, at their own figures; (2M,)."""
    faces: Values
    """Behind each of ``both``, (2M,)."""
    in_steps: bool
    """Whether the figures are means of steps with a sign."""

    @classmethod
    def of(cls, metric: Metric, figures: Figures, faces: Values, own: Any, others: Any) -> Planned:
        """Some subgroups beside others, both by their numbers, (M,)."""
        if figures.limits == (0.0, 1.0) and figures.shape == "even":
            figures = replace(figures, shape="share")
        elif figures.shape == "share":
            # No face tells more than a face does, however few there are to say how far they vary.
            figures = replace(figures, told=np.minimum(figures.told, faces))
        at = np.concatenate([own, others])
        return cls(figures.at(at), faces[at], metric.interval == "signed_steps")

    def with_faces(self, faces: Values) -> Planned:
        """The same where each of both subgroups has so many faces."""
        both = np.concatenate([faces, faces])
        return replace(self, both=self.both.with_faces(both / self.faces), faces=both)

    @property
    def values(self) -> Values:
        """The figures that others are off from."""
        return self.both.values[: len(self.faces) // 2]

    @property
    def way(self) -> Values:
        """Where the others are off to, 1 for up."""
        return np.where(self.values > sum(self.both.limits) / 2, -1.0, 1.0)

    @property
    def room(self) -> Values:
        """The largest possible gap."""
        low, high = self.both.limits
        return np.where(self.way > 0, high - self.values, self.values - low)

    def reach(self, gaps: Values, critical: float) -> Values:
        """The gap that would show with a chance of ``POWER`` if figures varied as at these gaps.

        The figures are taken to come out nearer to each other than they are, by the normal quantile
        of the power, each as much as it varies; their limits there must not meet.
        """
        size, way, z = len(gaps), self.way, NormalDist().inv_cdf(POWER)
        true = self._off(way * gaps)
        variances = _variances(true)
        together = np.sqrt(variances[:size] + variances[size:])
        each = variances / np.maximum(np.concatenate([together, together]), TINY)
        nearer = np.concatenate([way, -way]) * z * each
        drawn = replace(true, values=np.clip(true.values + nearer, *true.limits))
        below, above = drawn.sides(np.arange(2 * size), np.full(2 * size, critical))
        up, down = np.hypot(above[:size], below[size:]), np.hypot(below[:size], above[size:])
        return np.asarray(np.where(way > 0, up, down) + z * together)

    def _off(self, moves: Values) -> Figures:
        """Both figures, the others' where the first are, but moved."""
        there = np.clip(self.values + moves, *self.both.limits)
        moved = replace(self.both, values=np.concatenate([self.values, there]))
        if not self.in_steps:
            return moved
        more = np.concatenate([np.zeros(len(moves)), np.abs(moves)]) / self.faces
        below, above = (np.sqrt(part**2 + more) for part in (moved.below, moved.above))
        return replace(moved, below=below, above=above)


def _variances(figures: Figures) -> Values:
    """Of figures, if each is the true one."""
    if figures.shape == "share":
        return np.asarray(figures.values * (1 - figures.values) / figures.told)
    if figures.shape == "skewed":
        return np.asarray(2 * figures.told * figures.values)
    return np.square((figures.below + figures.above) / 2)


def smallest_detectable(
    metric: Metric, figures: Figures, faces: Values, critical: float
) -> float | None:
    """The gap that any two subgroups would show with a chance of ``POWER``; None where none would.

    The largest of the gaps of each subgroup to the one of the others that tells least.

    Args:
        metric: The metric.
        figures: Of the subgroups, (K,).
        faces: Behind each, (K,).
        critical: Standard normal quantile of the simultaneous intervals.
    """
    tells = -(figures.below + figures.above) if figures.shape == "even" else figures.told
    order = np.argsort(-tells if figures.shape == "skewed" else tells)
    others = np.full(len(faces), order[0])
    others[order[0]] = order[1]
    planned = Planned.of(metric, figures, faces, np.arange(len(faces)), others)
    gaps = planned.reach(np.zeros(len(faces)), critical)
    for _ in range(STEPS):
        gaps = gaps * (planned.reach(gaps, critical) / gaps) ** STRIDE
    shown = np.isfinite(gaps) & (gaps <= planned.room)
    return float(gaps.max()) if shown.all() else None


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


def n_needed(
    metric: Metric,
    figures: Figures,
    faces: Values,
    critical: float,
    gaps: Sequence[float],
    least: int = 1,
) -> tuple[int, ...]:
    """Faces that every subgroup must have for gaps to be shown with a chance of ``POWER``.

    They are those at which each subgroup, at its figure, would show the gap to another with as many
    faces that is off by it; the most over all subgroups.

    Args:
        metric: The metric.
        figures: Of the subgroups, (K,).
        faces: Behind each, (K,).
        critical: Standard normal quantile of the simultaneous intervals.
        gaps: In the metric's unit; their signs do not matter.
        least: Faces under which no subgroup is compared.

    Raises:
        ValueError: If a gap is 0.
    """
    if not all(gaps):
        raise ValueError("no number of faces shows a gap of 0")
    each = np.tile(np.arange(len(faces)), len(gaps))
    sought = np.abs(np.repeat(gaps, len(faces)))
    planned = Planned.of(metric, figures, faces, each, each)
    needed = np.maximum(faces[each], least)
    for _ in range(STEPS):
        apart = planned.with_faces(needed).reach(sought, critical) / sought
        # Limits of a face or two may be past all numbers.
        apart = np.where(np.isfinite(apart), apart, UNKNOWN_APART)
        needed = np.clip(needed * apart**STRIDE, least, MOST_FACES)
    return tuple(math.ceil(n) for n in needed.reshape(len(gaps), -1).max(axis=1))


def faces_needed(
    metric: Metric, figures: Figures, faces: Values, critical: float, least: int
) -> tuple[tuple[float, int], ...]:
    """Gaps in the metric's unit, and the faces per subgroup that each is shown with."""
    gaps = GAPS[metric.unit]
    found = n_needed(metric, figures, faces, critical, gaps, least)
    return tuple(zip(gaps, found, strict=True))
