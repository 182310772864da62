"""Shares of the same faces in two tables, by the faces on which only one of them is right.

Joint counts by class and both predictions become outcomes: faces that both tables have right, only
the first, only the second, or neither. McNemar's test and Tango's interval follow from them; with
units, how the difference varies over blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.age import CHALLENGE_YEARS, CS_YEARS
from faceaudit.audit.changes import FAILURE_RATE, PREDICTED_SHARE, Better, Family
from faceaudit.audit.coverage import NOT_ANNOTATED
from faceaudit.audit.estimates import OWN_CLASS
from faceaudit.audit.intervals import Bounds
from faceaudit.audit.measure import EVERY_METRIC
from faceaudit.audit.metrics import Values, ratio
from faceaudit.audit.paired import (
    ADULTS,
    CHALLENGED,
    CHECKS,
    CLASSES,
    IMAGES,
    MINORS,
    PASSED,
    PREDICTIONS,
    WITHIN,
    YEARS,
    PairedTally,
)
from faceaudit.audit.paired_shares import mcnemar, tango_interval
from faceaudit.audit.paired_spread import Outcomes, spread_of_shares
from faceaudit.audit.results import Subgroup
from faceaudit.audit.tally import Cut, cut
from faceaudit.schema import AGE, Task

NO_IMAGES = "no image"
NO_PAIR = "no face was scored by both tables"
Hits = Callable[[int], tuple[NDArray[np.bool_], NDArray[np.bool_]]]
"""From K to which predictions count, (L, K, K) by annotated class, and of which faces, (L, K)."""


def _accuracy(k: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return np.eye(k, dtype=bool)[None], np.ones((1, k), bool)


def _recall(k: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return _selected(k), np.eye(k, dtype=bool)


def _false_positives(k: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return _selected(k), ~np.eye(k, dtype=bool)


def _selection(k: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return _selected(k), np.ones((k, k), bool)


def _one_off(k: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    near = np.abs(np.arange(k)[:, None] - np.arange(k)) <= 1
    return near[None], np.ones((1, k), bool)


def _selected(k: int) -> NDArray[np.bool_]:
    """Predicted as class l, whatever the annotation; (L, K, K)."""
    return np.broadcast_to(np.eye(k, dtype=bool)[:, None, :], (k, k, k))


SHARES: dict[str, Hits | None] = {
    "accuracy": _accuracy,
    "recall": _recall,
    "false_positive_rate": _false_positives,
    "selection_rate": _selection,
    "one_off": _one_off,
    # Of years, for which the outcomes are counted when rows are read.
    f"cs_at_{CS_YEARS}": None,
    f"challenge_{CHALLENGE_YEARS}_fpr": None,
    f"challenge_{CHALLENGE_YEARS}_fnr": None,
}
"""Metrics that are shares of the same faces in both tables, whatever is predicted."""
WITH_FAILURES = ("accuracy", "one_off")
"""Shares that are also told with unscored faces as errors."""


def failure_rates(counted: PairedTally, by: tuple[str, ...]) -> Family:
    """Images without a scored face; images without an annotation are a subgroup of their own."""
    cells = cut(counted.joint, by, missing=NOT_ANNOTATED)
    joint = _read(counted, cells, IMAGES, "")
    assert joint is not None  # Every paired tally counts images.
    failed = np.array([[[True, False]]])
    outcomes = _outcomes(joint[:, :, None], failed, np.ones((1, 1), bool))
    where: list[tuple[Subgroup, str | None]] = [(one, None) for one in cells.subgroups]
    named = _Named("", FAILURE_RATE, by, "lower", where, NO_IMAGES)
    return _share_family(named, outcomes, counted.unit)


def predicted_shares(counted: PairedTally, cells: Cut, task: Task) -> Family:
    """How often each class is predicted, of the faces that both scored, labeled or not."""
    joint = _read(counted, cells, PREDICTIONS, task.name)
    assert joint is not None  # Every common task has predictions.
    k = len(task.classes)
    outcomes = _outcomes(
        joint[:, :, None, :k, :k], np.eye(k, dtype=bool)[:, None, :], np.ones((k, 1), bool)
    )
    where = list(product(cells.subgroups, task.classes))
    named = _Named(task.name, PREDICTED_SHARE, cells.by, "neither", where, NO_PAIR)
    return _share_family(named, outcomes, counted.unit)


def shares_of_classes(
    counted: PairedTally, cells: Cut, task: Task, *, own_class: bool
) -> Iterator[Family]:
    """``SHARES`` of a task with classes; of some also with unscored faces as errors."""
    joint = _read(counted, cells, CLASSES, task.name)
    if joint is None:
        return
    k = len(task.classes)
    known = {metric.name: metric for metric in EVERY_METRIC}
    for name, chosen in SHARES.items():
        metric = known[name]
        if chosen is None or (metric.needs == "groups" and not task.ordinal):
            continue
        hits, faces = chosen(k)
        labels: Sequence[str | None] = task.classes if metric.per_class else (None,)
        where = list(product(cells.subgroups, labels))
        family = _Named(task.name, name, cells.by, metric.better, where, metric.undefined)
        found = _share_family(family, _outcomes(joint[..., :k, :k], hits, faces), counted.unit)
        if own_class and not metric.within_own_class:
            nothing = np.full(len(where), np.nan)
            found = replace(found, first=nothing, second=nothing, undefined=OWN_CLASS, only=None)
        yield found
        if name in WITH_FAILURES:
            # An image that was not scored has no prediction that could be right.
            failed = np.concatenate([hits, np.zeros((*hits.shape[:2], 1), bool)], axis=-1)
            outcomes = _outcomes(joint, failed, faces)
            yield _share_family(family, outcomes, counted.unit, failures=True)


def shares_of_years(counted: PairedTally, cells: Cut) -> Iterator[Family]:
    """Ages within a few years, also with unscored faces as errors."""
    joint = _read(counted, cells, YEARS, AGE)
    if joint is None:
        return
    where: list[tuple[Subgroup, str | None]] = [(one, None) for one in cells.subgroups]
    near = np.zeros((1, 1, 3), bool)
    near[..., WITHIN] = True
    everyone = np.ones((1, 1), bool)
    family = _Named(AGE, f"cs_at_{CS_YEARS}", cells.by, "higher", where, NO_PAIR)
    scored = joint[:, :, None, :2, :2]
    yield _share_family(family, _outcomes(scored, near[..., :2], everyone), counted.unit)
    outcomes = _outcomes(joint[:, :, None], near, everyone)
    yield _share_family(family, outcomes, counted.unit, failures=True)


def age_checks(counted: PairedTally, cells: Cut) -> Iterator[Family]:
    """Minors whom an age check lets pass, and adults whom it challenges."""
    joint = _read(counted, cells, CHECKS, AGE)
    if joint is None:
        return
    where: list[tuple[Subgroup, str | None]] = [(one, None) for one in cells.subgroups]
    known = {metric.name: metric for metric in EVERY_METRIC}
    for kind, wrong, faces in (("fpr", PASSED, MINORS), ("fnr", CHALLENGED, ADULTS)):
        metric = known[f"challenge_{CHALLENGE_YEARS}_{kind}"]
        hits = np.zeros((1, 1, 2), bool)
        hits[..., wrong] = True
        scored = joint[:, :, faces : faces + 1, :2, :2]
        outcomes = _outcomes(scored, hits, np.ones((1, 1), bool))
        named = _Named(AGE, metric.name, cells.by, metric.better, where, metric.undefined)
        yield _share_family(named, outcomes, counted.unit)


@dataclass(frozen=True)
class _Named:
    """What a family is of."""

    task: str
    metric: str
    by: tuple[str, ...]
    better: Better
    where: Sequence[tuple[Subgroup, str | None]]
    undefined: str


def _share_family(
    named: _Named, outcomes: Outcomes, unit: str | None, *, failures: bool = False
) -> Family:
    n = outcomes.total(outcomes.n)
    only = outcomes.total(outcomes.first), outcomes.total(outcomes.second)
    both = outcomes.total(outcomes.both)
    if unit is None:
        p_values = np.where(n > 0, mcnemar(*only), np.nan)

        def bounds(confidence: float) -> Bounds:
            return tango_interval(*only, n, confidence)

    else:
        spread = spread_of_shares(outcomes)
        p_values, bounds = spread.p_values, spread.bounds
    return Family(
        named.task,
        named.metric,
        named.by,
        named.better,
        named.where,
        n,
        ratio(both + only[0], n),
        ratio(both + only[1], n),
        p_values,
        bounds,
        named.undefined,
        "errors" if failures else "left out",
        only,
    )


def _outcomes(joint: Values, hits: Any, counted: Any) -> Outcomes:
    """Outcomes from counts by class and both predictions.

    Args:
        joint: (B, G, K, P, P), P at least K.
        hits: Which predictions count, (L, K, P).
        counted: Of which faces, (L, K).
    """
    blocks, groups = joint.shape[:2]
    right = np.asarray(hits, np.float64) * np.asarray(counted, np.float64)[:, :, None]  # (L, K, P)
    whole = np.asarray(counted, np.float64)
    both = np.einsum(
        "bgkxy,lkx,lky->bgl", joint, right, np.asarray(hits, np.float64), optimize=True
    )
    first = np.einsum("bgkx,lkx->bgl", joint.sum(axis=-1), right, optimize=True)
    second = np.einsum("bgky,lky->bgl", joint.sum(axis=-2), right, optimize=True)
    n = np.einsum("bgk,lk->bgl", joint.sum(axis=(-2, -1)), whole, optimize=True)
    flat = (blocks, groups * len(whole))
    return Outcomes(
        *(np.asarray(part.reshape(flat)) for part in (both, first - both, second - both, n))
    )


def _read(counted: PairedTally, cells: Cut, kind: str, task: str) -> Values | None:
    """Joint counts by block and subgroup, (B, G, ...); one block where there are no units."""
    found = counted.counts(kind, task)
    if found is None:
        return None
    if counted.unit is None:
        return np.asarray(cells.of(found), np.float64)[None]
    each = [cells.blocks(found, index) for index in range(len(cells.subgroups))]
    return np.stack(each, axis=1).astype(np.float64)
