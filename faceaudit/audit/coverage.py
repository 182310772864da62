"""Coverage and composition: who was scored, and what the scored faces were predicted as."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faceaudit.audit.intervals import wilson
from faceaudit.audit.metrics import ratio
from faceaudit.audit.results import Composition, Coverage, Estimate
from faceaudit.audit.tally import Tally, cut
from faceaudit.schema import OK

NOT_ANNOTATED = "(not annotated)"
"""Name of the subgroup of images whose annotation is not known."""
NO_PREDICTION = "no face has a predicted class"


def find_coverage(
    counted: Tally, groupings: Sequence[tuple[str, ...]], confidence: float
) -> list[Coverage]:
    """Images by status, of everybody and in every annotated subgroup.

    Groupings by a prediction are left out: images that failed have none.
    """
    predicted = {feature.name for feature in counted.features if feature.predicted}
    found = []
    for by in [(), *(by for by in groupings if not predicted & set(by))]:
        cells = cut(counted, by, missing=NOT_ANNOTATED)
        for subgroup, images in zip(cells.subgroups, cells.of(counted.images), strict=True):
            statuses = dict(zip(counted.statuses, map(int, images), strict=True))
            total = int(images.sum())
            if total:
                rate = _share(total - statuses.get(OK, 0), total, confidence)
                found.append(Coverage(subgroup, total, statuses, rate))
    return found


def find_composition(
    counted: Tally, groupings: Sequence[tuple[str, ...]], confidence: float
) -> list[Composition]:
    """Share of each predicted class among scored faces, of everybody and in every subgroup."""
    found = []
    for by in [(), *groupings]:
        cells = cut(counted, by)
        for task in counted.tasks:
            every = cells.of(counted.predicted[task.name])
            for subgroup, faces in zip(cells.subgroups, every, strict=True):
                total = int(faces.sum())
                found += [
                    Composition(task.name, label, subgroup, _share(int(n), total, confidence))
                    for label, n in zip(task.classes, faces, strict=True)
                ]
    return found


def _share(part: int, whole: int, confidence: float) -> Estimate:
    value = ratio(part, whole)
    if np.isnan(value):
        return Estimate(None, None, None, whole, NO_PREDICTION)
    low, high = wilson(value, whole, confidence)
    return Estimate(float(value), float(low), float(high), whole)
