"""Reliability: how often the model was right at each degree of confidence.

The confidence of a face is its highest score. Bins are equally wide, the same in every subgroup,
and an edge belongs to the bin below it. Cost grows with subgroups times bins, not with rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from faceaudit.audit.estimates import OWN_CLASS, Options, estimate
from faceaudit.audit.metrics import NO_SCORES, Metric, Values, ratio
from faceaudit.audit.results import Reliability, ReliabilityBin, Subgroup
from faceaudit.audit.tally import CALIBRATION_BINS

EDGES = tuple((np.arange(CALIBRATION_BINS + 1) / CALIBRATION_BINS).tolist())
"""Of the bins, ascending from 0 to 1."""


def share_right(calibration: Any) -> Values:
    """Share of right predictions in each bin, (..., bins), from (..., bins, 3)."""
    faces, _, right = np.moveaxis(np.asarray(calibration, np.float64), -1, 0)
    return ratio(right, faces)


def faces_of_bins(calibration: Any) -> Values:
    """Annotated faces with scores in each bin, (..., bins), from (..., bins, 3)."""
    return np.asarray(np.asarray(calibration)[..., 0])


SHARE_RIGHT = Metric(
    name="share_right",
    title="Share right",
    definition="Share of right predictions among the faces of one bin of confidence.",
    source="scikit-learn, sklearn.calibration.calibration_curve",
    function=share_right,
    faces=faces_of_bins,
    undefined="no face has such a confidence",
    needs="calibration",
    within_own_class=False,
)
"""Not in ``METRICS``: it has a value per bin, not one per subgroup."""


def find_reliability(
    task: str,
    subgroups: Sequence[Subgroup],
    calibration: Any,
    options: Options,
    *,
    own_class: bool = False,
    blocks: Sequence[Any] | None = None,
) -> Iterator[Reliability]:
    """The bins of one task in some subgroups.

    Args:
        task: Its name.
        subgroups: S of them.
        calibration: Faces, sum of confidence and right predictions by bin, (S, bins, 3).
        options: Of which the confidence and ``min_n`` are used.
        own_class: Whether the subgroups are formed by the task's own annotated classes.
        blocks: The same of each subgroup by block of units, (blocks, bins, 3); None where rows are
            independent.

    Source:
        Murphy, Winkler: Reliability of subjective probability forecasts of precipitation and
        temperature, Applied Statistics 26, 1977 (the diagram). Shares have accuracy's interval.
    """
    calibration = np.asarray(calibration, np.float64)
    shares = estimate(SHARE_RIGHT, calibration, options, own_class=own_class, blocks=blocks)
    sure = ratio(calibration[..., 1], calibration[..., 0]).tolist()
    for place, subgroup in enumerate(subgroups):
        own = shares[place * CALIBRATION_BINS : (place + 1) * CALIBRATION_BINS]
        n = sum(one.n for one in own)
        small = n < options.min_n
        if own_class:
            yield Reliability(task, subgroup, n, (), OWN_CLASS, small)
            continue
        bins = zip(EDGES[:-1], EDGES[1:], sure[place], own, strict=True)
        found = tuple(ReliabilityBin(*one) for one in bins if one[-1].n)
        yield Reliability(task, subgroup, n, found, None if n else NO_SCORES, small)


def without_scores(task: str, subgroups: Sequence[Subgroup]) -> Iterator[Reliability]:
    """What is told of a task whose table has no scores: nothing, and why."""
    for subgroup in subgroups:
        yield Reliability(task, subgroup, 0, (), NO_SCORES, small=True)
