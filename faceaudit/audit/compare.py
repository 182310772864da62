"""Paired comparison: the same faces in two tables, and on which figures the two differ.

Shares of the same faces are compared by the faces on which only one table is right; every other
metric by how the difference moves when a block of faces is left out of both tables. With units,
all of them are compared in the latter way, block by block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from faceaudit.audit.changes import (
    Agreement,
    Change,
    Changes,
    Family,
    judge,
    without_claims,
)
from faceaudit.audit.clusters import few_units
from faceaudit.audit.estimates import OWN_CLASS
from faceaudit.audit.intervals import share_interval
from faceaudit.audit.measure import EVERY_METRIC
from faceaudit.audit.metrics import Need
from faceaudit.audit.paired import (
    IMAGES,
    PREDICTIONS,
    PairedTally,
    paired_tally,
)
from faceaudit.audit.paired_outcomes import (
    NO_PAIR,
    SHARES,
    age_checks,
    failure_rates,
    predicted_shares,
    shares_of_classes,
    shares_of_years,
)
from faceaudit.audit.paired_rows import Pairs
from faceaudit.audit.paired_spread import (
    PairedSpread,
    spread_of_difference,
)
from faceaudit.audit.results import Estimate
from faceaudit.audit.scores import EXACT_ROWS, ScoreRows, read_scores, score_counts
from faceaudit.audit.subgroups import find_groupings
from faceaudit.audit.tally import CellCounts, Cut, Tally, cut, years_by_block, years_of
from faceaudit.schema import AGE, Task

NO_AGREEMENT_INTERVAL = "no interval: faces of one unit are not independent"

NEEDS: tuple[Need, ...] = ("classes", "groups", "scores", "losses", "calibration")
"""Kinds of counts of a task with classes."""
YEARS_TASK = Task(AGE, "years", ())


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
        images=counted.images,
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
    yield failure_rates(counted, by)
    for task in counted.first.tasks:
        yield predicted_shares(counted, cells, task)
        yield from shares_of_classes(counted, cells, task, own_class=task.name in own)
        for need in NEEDS:
            yield from _spreads(counted, cells, task, need, rows, own_class=task.name in own)
    yield from shares_of_years(counted, cells)
    yield from age_checks(counted, cells)
    yield from _spreads(counted, cells, YEARS_TASK, "years", rows, own_class=False)


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
