"""Coverage and composition: who was scored, and what the scored faces were predicted as."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np

from faceaudit.audit.estimates import Options, estimate
from faceaudit.audit.metrics import Metric
from faceaudit.audit.rates import RATES, images_by_outcome
from faceaudit.audit.results import Composition, Coverage, Estimate
from faceaudit.audit.tally import CellCounts, Cut, Numbers, Tally, cut
from faceaudit.schema import OK, STATUSES

NOT_ANNOTATED = "(not annotated)"
"""Name of the subgroup of images whose annotation is not known."""
NO_CAUSE = "the table does not say why images were not scored"
ONE_FACE_KEPT = (
    "the table holds one face per image, so that images with several are not known; "
    "predict with --faces all keeps every face"
)
ALL_FACES = "all"
"""The choice of faces, as a table's metadata state it, that keeps every face of an image."""
_RATES = {metric.name: metric for metric in RATES}
OF_IMAGES = (
    _RATES["failure_rate"],
    _RATES["decoding"],
    replace(_RATES["detection"], undefined="no image could be decoded"),
)
PREDICTED_SHARE = _RATES["predicted_share"]
STATUS_SHARE = replace(PREDICTED_SHARE, name="status", undefined="there is no image")
SEVERAL_SHARE = replace(PREDICTED_SHARE, name="multi_face", undefined="no image was scored")
"""Shares of images, computed as those of predicted classes are."""


def find_coverage(
    counted: Tally, groupings: Sequence[tuple[str, ...]], confidence: float
) -> list[Coverage]:
    """Images by status, of everybody and in every annotated subgroup.

    Groupings by a prediction are left out: images that failed have none.
    """
    options = Options(confidence=confidence)
    found = []
    for by in [(), *annotated_groupings(counted, groupings)]:
        cells = cut(counted, by, missing=NOT_ANNOTATED)
        rates = _rates_of_images(counted, cells, options)
        images = cells.of(counted.images)
        for index, subgroup in enumerate(cells.subgroups):
            total = int(images[index].sum())
            statuses = dict(zip(counted.statuses, map(int, images[index]), strict=True))
            own = {name: each[index] for name, each in rates.items()}
            if any(n for status, n in statuses.items() if status not in STATUSES):
                unknown = Estimate(None, None, None, total, NO_CAUSE)
                own |= {"decoding": unknown, "detection": unknown}
            failed = own.pop("failure_rate")
            if total:
                found.append(Coverage(subgroup, total, statuses, failed, own))
    return found


def _rates_of_images(counted: Tally, cells: Cut, options: Options) -> dict[str, Sequence[Estimate]]:
    """Rates by name, one per subgroup: of every status but ``ok``, and those of ``RATES``."""
    statuses = counted.statuses
    each = estimate_counts(STATUS_SHARE, counted, cells, [counted.images], options)
    rates: dict[str, Sequence[Estimate]] = {
        status: each[place :: len(statuses)]
        for place, status in enumerate(statuses)
        if status != OK
    }
    outcomes = partial(images_by_outcome, statuses=statuses)
    for metric in OF_IMAGES:
        rates[metric.name] = estimate_counts(
            metric, counted, cells, [counted.images], options, outcomes
        )
    if _every_face_kept(counted):
        scored = np.array([status == OK for status in statuses])

        def several_or_one(several: Numbers, images: Numbers) -> Numbers:
            return np.stack([several[..., 0], images @ scored - several[..., 0]], axis=-1)

        rates["multi_face"] = estimate_counts(
            SEVERAL_SHARE,
            counted,
            cells,
            [counted.several, counted.images],
            options,
            several_or_one,
        )[::2]
    else:
        faces = cells.of(counted.images)[:, [status == OK for status in statuses]].sum(axis=-1)
        rates["multi_face"] = [Estimate(None, None, None, int(n), ONE_FACE_KEPT) for n in faces]
    return rates


def estimate_counts(
    metric: Metric,
    counted: Tally,
    cells: Cut,
    counts: Sequence[CellCounts],
    options: Options,
    change: Callable[..., Numbers] = np.asarray,
) -> list[Estimate]:
    """A metric in every subgroup of a grouping, by blocks where the tally has units.

    Args:
        metric: The metric.
        counted: The tally.
        cells: The grouping.
        counts: Counts of the tally that the metric is made from.
        options: Of which the confidence is used.
        change: From dense counts to what the metric needs.
    """
    blocks = None
    if counted.unit is not None:
        every = range(len(cells.subgroups))
        blocks = [change(*(cells.blocks(one, index) for one in counts)) for index in every]
    return estimate(metric, change(*map(cells.of, counts)), options, blocks=blocks)


def annotated_groupings(
    counted: Tally, groupings: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Groupings by annotations alone: images that failed have no prediction."""
    predicted = {feature.name for feature in counted.features if feature.predicted}
    return [by for by in groupings if not predicted & set(by)]


def _every_face_kept(counted: Tally) -> bool:
    """Whether an image with several faces has a row for each of them."""
    stated = [table.metadata for table in counted.tables]
    if all(metadata is not None for metadata in stated):
        return all(one.preprocessing.get("faces") == ALL_FACES for one in stated if one is not None)
    return counted.several.any()


def find_composition(
    counted: Tally, groupings: Sequence[tuple[str, ...]], confidence: float
) -> list[Composition]:
    """Share of each predicted class among scored faces, of everybody and in every subgroup."""
    options, found = Options(confidence=confidence), []
    for by in [(), *groupings]:
        cells = cut(counted, by)
        for task in counted.tasks:
            faces = [counted.predicted[task.name]]
            shares = estimate_counts(PREDICTED_SHARE, counted, cells, faces, options)
            places = product(cells.subgroups, task.classes)
            found += [
                Composition(task.name, label, subgroup, share)
                for (subgroup, label), share in zip(places, shares, strict=True)
            ]
    return found
