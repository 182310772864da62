"""Paired comparison: the same faces in two tables, and on which figures the two differ.

Shares of the same faces are compared by the faces on which only one table is right; every other
metric by how the difference moves when a block of faces is left out of both tables. With units,
all of them are compared in the latter way, block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.age import CHALLENGE_YEARS, CS_YEARS
from faceaudit.audit.changes import (
    Agreement,
    Better,
    Change,
    Changes,
    Family,
    judge,
    without_claims,
)
from faceaudit.audit.clusters import few_units
from faceaudit.audit.coverage import NOT_ANNOTATED
from faceaudit.audit.estimates import OWN_CLASS
from faceaudit.audit.intervals import Bounds, share_interval
from faceaudit.audit.measure import EVERY_METRIC
from faceaudit.audit.metrics import Need, Values, ratio
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
    Pairs,
    paired_tally,
)
from faceaudit.audit.paired_shares import mcnemar, tango_interval
from faceaudit.audit.paired_spread import (
    Outcomes,
    PairedSpread,
    spread_of_difference,
    spread_of_shares,
)
from faceaudit.audit.results import Estimate, Subgroup
from faceaudit.audit.scores import EXACT_ROWS, ScoreRows, read_scores, score_counts
from faceaudit.audit.subgroups import find_groupings
from faceaudit.audit.tally import CellCounts, Cut, Tally, cut, years_by_block, years_of
from faceaudit.schema import AGE, Task

FAILURE_RATE, PREDICTED_SHARE = "failure_rate", "predicted_share"
NO_IMAGES = "no image"
NO_PAIR = "no face was scored by both tables"
NO_AGREEMENT_INTERVAL = "no interval: faces of one unit are not independent"

NEEDS: tuple[Need, ...] = ("classes", "groups", "scores", "losses", "calibration")
"""Kinds of counts of a task with classes."""
YEARS_TASK = Task(AGE, "years", ())
Hits = Callable[[int], tuple[NDArray[np.bool_], NDArray[np.bool_]]]
"""From K to which predictions count, (L, K, K) by annotated class, and of which faces, (L, K)."""


def compare_pairs(
    pairs: Pairs,
    *,
    unit: str | None = None,
    min_n: int = 30,
    confidence: float = 0.95,
) -> Changes:
    """Every paired difference between two tables of the same images.

    Costs two tallies of the matched rows; what follows depends on the number of subgroups alone.

    Args:
        pairs: Matched rows.
        unit: A column whose values name rows that are not independent.
        min_n: Subgroups with fewer faces are shown, and no change is claimed of them.
        confidence: Of the intervals, and of the families of tests.
    """
    counted = paired_tally(pairs, unit=unit)
    sides = (pairs.first, pairs.second)
    rows: tuple[Mapping[str, ScoreRows], ...] = ({}, {})
    if pairs.first.rows <= EXACT_ROWS:
        rows = tuple(
            read_scores(
                side,
                pairs.features,
                [t for t in side.tasks if t.name in side.scored & side.annotated],
            )
            for side in sides
        )
    return compare_tally(counted, rows=(rows[0], rows[1]), min_n=min_n, confidence=confidence)


def compare_tally(
    counted: PairedTally,
    *,
    rows: tuple[Mapping[str, ScoreRows], Mapping[str, ScoreRows]] = ({}, {}),
    min_n: int = 30,
    confidence: float = 0.95,
) -> Changes:
    """Every paired difference in a paired tally.

    Args:
        counted: The paired tally.
        rows: Scores row by row of either table, for exact ranks; empty takes the histograms.
        min_n: Subgroups with fewer faces are shown, and no change is claimed of them.
        confidence: Of the intervals, and of the families of tests.
    """
    groupings = find_groupings(counted.first.features)
    changes: list[Change] = []
    agreement: list[Agreement] = []
    for by in [(), *groupings]:
        for family in _families(counted, by, rows):
            changes += judge(family, min_n, confidence)
        agreement += _agreement(counted, by, confidence)
    return Changes(
        mode="paired",
        tasks=counted.first.tasks,
        by=groupings,
        images=(counted.matching.rows_first, counted.matching.rows_second),
        labelled=_labelled(counted),
        changes=tuple(changes),
        matching=counted.matching,
        agreement=tuple(agreement),
        notes=(*counted.notes, *_unit_notes(counted)),
        options={
            "by": [feature.name for feature in counted.first.features],
            "unit": counted.unit,
            "min_n": min_n,
            "confidence": confidence,
        },
    )


def _labelled(counted: PairedTally) -> dict[str, int]:
    everybody = cut(counted.first, ())
    return {
        task: int(everybody.one(found, 0).sum())
        for task, found in [*counted.first.confusion.items(), (AGE, counted.first.errors)]
        if found.any()
    }


def _unit_notes(counted: PairedTally) -> Iterator[str]:
    if counted.unit is None:
        return
    yield (
        f"Faces of one {counted.unit} are not taken as independent: intervals and tests rest on "
        f"how the differences vary when blocks of {counted.unit} are left out."
    )
    used = []
    for by in [(), *find_groupings(counted.first.features)]:
        cells = cut(counted.joint, by)
        for index, subgroup in enumerate(cells.subgroups):
            blocks = cells.blocks(counted.joint.numbers[IMAGES][""], index)
            used.append((subgroup, float((blocks.sum(axis=(1, 2)) > 0).sum())))
    yield from few_units(counted.unit, used)


def _families(
    counted: PairedTally,
    by: tuple[str, ...],
    rows: tuple[Mapping[str, ScoreRows], Mapping[str, ScoreRows]],
) -> Iterator[Family]:
    cells = cut(counted.first, by)
    if not cells.subgroups:
        return
    own = {
        feature.column.removesuffix("_true")
        for feature in counted.first.features
        if feature.name in by and feature.column.endswith("_true")
    }
    yield _failures(counted, by)
    for task in counted.first.tasks:
        yield _predicted_shares(counted, cells, task)
        yield from _shares_of_classes(counted, cells, task, own_class=task.name in own)
        for need in NEEDS:
            yield from _spreads(counted, cells, task, need, rows, own_class=task.name in own)
    yield from _shares_of_years(counted, cells)
    yield from _age_checks(counted, cells)
    yield from _spreads(counted, cells, YEARS_TASK, "years", rows, own_class=False)


# --- shares of the same faces -----------------------------------------------------------------


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


def _shares_of_classes(
    counted: PairedTally, cells: Cut, task: Task, *, own_class: bool
) -> Iterator[Family]:
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


def _shares_of_years(counted: PairedTally, cells: Cut) -> Iterator[Family]:
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


def _age_checks(counted: PairedTally, cells: Cut) -> Iterator[Family]:
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


def _predicted_shares(counted: PairedTally, cells: Cut, task: Task) -> Family:
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


def _failures(counted: PairedTally, by: tuple[str, ...]) -> Family:
    """Images without a scored face; images without an annotation are a subgroup of their own."""
    cells = cut(counted.joint, by, missing=NOT_ANNOTATED)
    joint = _read(counted, cells, IMAGES, "")
    assert joint is not None  # Every paired tally counts images.
    failed = np.array([[[True, False]]])
    outcomes = _outcomes(joint[:, :, None], failed, np.ones((1, 1), bool))
    where: list[tuple[Subgroup, str | None]] = [(one, None) for one in cells.subgroups]
    named = _Named("", FAILURE_RATE, by, "lower", where, NO_IMAGES)
    return _share_family(named, outcomes, counted.unit)


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


# --- any metric, by leaving blocks out --------------------------------------------------------


def _spreads(
    counted: PairedTally,
    cells: Cut,
    task: Task,
    need: Need,
    rows: tuple[Mapping[str, ScoreRows], Mapping[str, ScoreRows]],
    *,
    own_class: bool,
) -> Iterator[Family]:
    """Families of the metrics that need one kind of counts, of which each is read once."""
    metrics = [
        metric for metric in EVERY_METRIC if metric.needs == need and metric.name not in SHARES
    ]
    sides = [
        _Side(side, task, need, exact.get(task.name))
        for side, exact in zip((counted.first, counted.second), rows, strict=True)
    ]
    if not metrics or not sides[0].counts or (need == "groups" and not task.ordinal):
        return
    found: dict[str, list[PairedSpread]] = {metric.name: [] for metric in metrics}
    for index in range(len(cells.subgroups)):
        read = [(side.whole(cells, index), side.blocks(cells, index)) for side in sides]
        for metric in metrics:
            figures = len(task.classes) if metric.per_class else 1
            found[metric.name].append(spread_of_difference(metric, read, figures))
    for metric in metrics:
        spread = PairedSpread.of(found[metric.name])
        undefined = own_class and not metric.within_own_class
        if undefined:
            spread = replace(spread, first=spread.first * np.nan, second=spread.second * np.nan)
        labels: Sequence[str | None] = task.classes if metric.per_class else (None,)
        family = Family(
            task.name,
            metric.name,
            cells.by,
            metric.better,
            list(product(cells.subgroups, labels)),
            spread.n,
            spread.first,
            spread.second,
            spread.p_values,
            spread.bounds,
            OWN_CLASS if undefined else metric.undefined,
        )
        yield without_claims(family, metric.incomparable) if metric.incomparable else family


@dataclass(frozen=True)
class _Side:
    """One kind of one table's counts of one task, whole and by block."""

    counted: Tally
    task: Task
    need: Need
    rows: ScoreRows | None

    @property
    def counts(self) -> CellCounts | None:
        kinds = {"classes": "confusion", "groups": "confusion", "years": "errors"}
        return self.counted.numbers[kinds.get(self.need, self.need)].get(self.task.name)

    def whole(self, cells: Cut, index: int) -> Any:
        if self.need == "scores":
            return score_counts(self.task, self.counted, self.rows, cells, index)
        if self.need == "years":
            return years_of(self.counted, cells, index).map(lambda part: part.sum(axis=0))
        assert self.counts is not None  # A side without counts is not read.
        return cells.one(self.counts, index)

    def blocks(self, cells: Cut, index: int) -> Any:
        if self.need == "scores":
            return cells.blocks(self.counted.coarse_scores[self.task.name], index)
        if self.need == "years":
            return years_by_block(self.counted, cells, index).map(lambda part: part.sum(axis=1))
        assert self.counts is not None
        return cells.blocks(self.counts, index)


# --- agreement --------------------------------------------------------------------------------


def _agreement(counted: PairedTally, by: tuple[str, ...], confidence: float) -> Iterator[Agreement]:
    cells = cut(counted.joint, by)
    if not cells.subgroups:
        return
    for task in counted.first.tasks:
        k = len(task.classes)
        joint = cells.of(counted.joint.numbers[PREDICTIONS][task.name])[:, :k, :k]
        for subgroup, faces in zip(cells.subgroups, joint, strict=True):
            yield Agreement(task.name, subgroup, _same(faces, counted.unit, confidence))


def _same(faces: Any, unit: str | None, confidence: float) -> Estimate:
    n, same = int(faces.sum()), int(np.trace(faces))
    if not n:
        return Estimate(None, None, None, 0, NO_PAIR)
    if unit is not None:
        return Estimate(same / n, None, None, n, NO_AGREEMENT_INTERVAL)
    low, high = share_interval(same / n, n, confidence)
    return Estimate(same / n, float(low), float(high), n)
