"""The paired tally: what two models made of the same faces, as counts per cell of joint outcomes.

It holds the ordinary tally of either table over the faces that both scored, so that every metric is
computed in the same way as in an audit, and joint counts, which say on which faces the two differ.
Everything is kept in ``BLOCKS`` shares of the faces (or of the units), so that the spread of any
difference follows from leaving a share out of both. Paired tallies add.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.age import CHALLENGE_YEARS, CS_YEARS, LEGAL_YEARS
from faceaudit.audit.matching import COUNTED, FIRST, SECOND, Matching
from faceaudit.audit.paired_rows import UNIT, Pairs, alone, label_column
from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally import (
    BLOCKS,
    CellCoder,
    CellCounts,
    Codes,
    Tally,
    add_up,
    block_of,
    load_archive,
    save_archive,
    tally,
)
from faceaudit.audit.tally.cells import Counter
from faceaudit.schema import AGE, AGE_TRUE, Task

CLASSES, PREDICTIONS, YEARS, CHECKS, IMAGES = KINDS = (
    "classes",
    "predictions",
    "years",
    "checks",
    "images",
)
WITHIN, BEYOND, UNKNOWN = range(3)
PASSED, CHALLENGED = range(2)
MINORS, ADULTS = range(2)
PARTS = ("first", "second", "joint")
JOINT_ROWS = 2**19
"""Faces whose outcomes are counted together."""


@dataclass(frozen=True)
class PairedTally:
    """Counts of the same faces as two tables scored them; K classes.

    ``first`` and ``second`` are the tallies of the faces that both tables scored, with the same
    cells and blocks. ``joint`` holds, per cell and block, by kind and task:

    * ``classes``: labeled faces by annotated class and both predictions, (K, K + 1, K + 1); the
      last prediction is "not scored",
    * ``predictions``: all matched faces by both predictions, (K + 1, K + 1),
    * ``years``: faces with an annotated age by whether each prediction is within ``CS_YEARS``,
      beyond, or missing, (3, 3),
    * ``checks``: minors and adults by whether an age check at ``CHALLENGE_YEARS`` lets them pass,
      challenges them, or has no prediction, (2, 3, 3),
    * ``images``: matched images by whether each table scored them, (2, 2), failures first.
    """

    first: Tally
    second: Tally
    joint: Tally
    matching: Matching
    images: tuple[int, int]
    """Images of either table, matched or not."""
    unit: str | None
    """The column of units; None where every image is its own."""
    notes: tuple[str, ...] = ()

    def __add__(self, other: PairedTally) -> PairedTally:
        """The paired tally of both pairs of tables, which hold different images."""
        if self.unit != other.unit:
            raise ValueError("paired tallies of different units cannot be added")
        return PairedTally(
            self.first + other.first,
            self.second + other.second,
            self.joint + other.joint,
            self.matching + other.matching,
            (self.images[0] + other.images[0], self.images[1] + other.images[1]),
            self.unit,
            tuple(dict.fromkeys([*self.notes, *other.notes])),
        )

    def counts(self, kind: str, task: str) -> CellCounts | None:
        """Joint counts; None where there are none."""
        return self.joint.numbers.get(kind, {}).get(task)


def paired_tally(pairs: Pairs, *, unit: str | None = None) -> PairedTally:
    """Count matched rows; costs two tallies and one pass over the pairs."""
    column = UNIT if unit is None else label_column(unit)
    first, second = (
        tally(table, pairs.features, unit=column) for table in (pairs.first, pairs.second)
    )
    joint = _joint(pairs, first, column)
    return PairedTally(first, second, joint, pairs.matching, pairs.totals, unit, pairs.notes)


def save_paired(counted: PairedTally, path: Path) -> None:
    """Write a paired tally; equal ones give equal bytes."""
    facts = {
        "matching": counted.matching.counts,
        "images": counted.images,
        "unit": counted.unit,
        "notes": counted.notes,
    }
    save_archive({name: getattr(counted, name) for name in PARTS}, facts, path)


def load_paired(path: Path) -> PairedTally:
    """Read a paired tally that ``save_paired`` wrote.

    Raises:
        InputError: If the file cannot be read or is no paired tally.
    """
    parts, facts = load_archive(path, PARTS)
    matching = Matching(*facts["matching"])
    first, second = facts["images"]
    return PairedTally(
        **parts,
        matching=matching,
        images=(first, second),
        unit=facts["unit"],
        notes=tuple(facts["notes"]),
    )


# --- joint counts -----------------------------------------------------------------------------


def _joint(pairs: Pairs, counted: Tally, unit: str) -> Tally:
    """Joint counts of both tables' outcomes, in the cells and blocks of their tallies."""
    coder = CellCoder.of(pairs.first, pairs.features)
    starts = range(0, pairs.first.rows, JOINT_ROWS)
    found = add_up(_joint_of(pairs, coder, counted, unit, start) for start in starts)
    return replace(found, tables=counted.tables)


def _joint_of(pairs: Pairs, coder: CellCoder, counted: Tally, unit: str, start: int) -> Tally:
    """The same of some faces."""
    frames = [side.frame.slice(start, JOINT_ROWS) for side in (pairs.first, pairs.second)]
    names = [
        *(alone(name) for name in [*(task.name for task in counted.tasks), AGE]),
    ]
    names += [AGE_TRUE, *(task.true_column for task in counted.tasks)]
    sides = tuple(
        frame.select(pl.selectors.by_name(*names, require_all=False)).collect() for frame in frames
    )
    codes = (
        frames[0]
        .select(
            *coder.feature_codes(frames[0]),
            Feature(unit, unit).values(frames[0]).alias("_block"),
        )
        .collect()
    )
    places = coder.cell_numbers(codes) * BLOCKS + block_of(codes["_block"])
    size = (len(coder.cells), BLOCKS)
    numbers: dict[str, dict[str, CellCounts]] = {kind: {} for kind in KINDS}
    for task in counted.tasks:
        k = len(task.classes)
        mine, theirs = (_class_numbers(side[alone(task.name)], task, k) for side in sides)
        outcome = mine * (k + 1) + theirs
        both = (k + 1) ** 2
        numbers[PREDICTIONS][task.name] = _counts((*size, k + 1, k + 1), places * both + outcome)
        if task.name in pairs.first.annotated:
            true = _class_numbers(sides[0][task.true_column], task, -1)
            kept = true >= 0
            codes_of = (places[kept] * k + true[kept]) * both + outcome[kept]
            numbers[CLASSES][task.name] = _counts((*size, k, k + 1, k + 1), codes_of)
    if AGE in pairs.first.annotated:
        for kind, outcomes in _year_outcomes((sides[0], sides[1]), places, size):
            numbers[kind][AGE] = outcomes
    numbers[IMAGES][""] = _image_outcomes(pairs.images.slice(start, JOINT_ROWS), places, size)
    return replace(counted, statuses=(), numbers=numbers)


def _counts(shape: tuple[int, ...], codes: Codes) -> CellCounts:
    counter = Counter(shape)
    counter.add(codes)
    return counter.counts()


def _class_numbers(values: pl.Series, task: Task, missing: int) -> Codes:
    number = values.cast(pl.Enum(task.classes), strict=False).to_physical().cast(pl.Int64)
    return number.fill_null(missing).to_numpy()


def _year_outcomes(
    sides: tuple[pl.DataFrame, pl.DataFrame], places: Codes, size: tuple[int, int]
) -> Iterator[tuple[str, CellCounts]]:
    true = sides[0][AGE_TRUE]
    kept = true.is_not_null().to_numpy()
    preds = [side[alone(AGE)] for side in sides]
    near = [_outcome((pred - true).abs() <= CS_YEARS, WITHIN, BEYOND)[kept] for pred in preds]
    yield YEARS, _counts((*size, 3, 3), places[kept] * 9 + near[0] * 3 + near[1])
    adult = _outcome(true >= LEGAL_YEARS, ADULTS, MINORS)[kept]
    passed = [_outcome(pred >= CHALLENGE_YEARS, PASSED, CHALLENGED)[kept] for pred in preds]
    codes = (places[kept] * 2 + adult) * 9 + passed[0] * 3 + passed[1]
    yield CHECKS, _counts((*size, 2, 3, 3), codes)


def _outcome(true: pl.Series, yes: int, no: int) -> Codes:
    """A number for yes, no and not known."""
    number = pl.when(true).then(yes).when(~true).then(no).otherwise(UNKNOWN)
    return np.asarray(pl.select(number.cast(pl.Int64)).to_series().to_numpy())


def _image_outcomes(images: pl.DataFrame, places: Codes, size: tuple[int, int]) -> CellCounts:
    """Images by whether either table scored them, each once."""
    kept: NDArray[np.bool_] = images[COUNTED].to_numpy()
    scored = [images[name].to_numpy().astype(np.int64)[kept] for name in (FIRST, SECOND)]
    return _counts((*size, 2, 2), places[kept] * 4 + scored[0] * 2 + scored[1])
