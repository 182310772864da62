"""The paired tally: what two models made of the same faces, as counts per cell of joint outcomes.

It holds the ordinary tally of either table over the faces that both scored, so that every metric is
computed in the same way as in an audit, and joint counts, which say on which faces the two differ.
Everything is kept in ``BLOCKS`` shares of the faces (or of the units), so that the spread of any
difference follows from leaving a share out of both. Paired tallies add.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.age import CHALLENGE_YEARS, CS_YEARS, LEGAL_YEARS
from faceaudit.audit.matching import COUNTED, FIRST, SECOND, Matching, images_once, match_rows
from faceaudit.audit.subgroups import DEFAULT_FEATURES, Feature, find_features
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
from faceaudit.errors import SchemaError, UnknownNameError, UsageError
from faceaudit.schema import AGE, AGE_PRED, AGE_TRUE, OK, STATUSES, Task
from faceaudit.tables import IMAGE, NOT_SCORED, STATUS, PredictionTable, score_columns

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
_UNIT = "unit "
"""With a blank, which columns of a table have not around their names."""
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
            self.unit,
            tuple(dict.fromkeys([*self.notes, *other.notes])),
        )

    def counts(self, kind: str, task: str) -> CellCounts | None:
        """Joint counts; None where there are none."""
        return self.joint.numbers.get(kind, {}).get(task)


@dataclass(frozen=True)
class Pairs:
    """The rows of two tables side by side, each as a table of its own, and how they were found."""

    first: PredictionTable
    second: PredictionTable
    matching: Matching
    features: tuple[Feature, ...]
    images: pl.DataFrame
    """Of each row whether its image is counted in it, and whether either table scored the image."""
    notes: tuple[str, ...] = ()


def pair_tables(
    first: PredictionTable,
    second: PredictionTable,
    by: Sequence[str] | None = None,
    *,
    unit: str | None = None,
) -> Pairs:
    """Match two tables face by face.

    Predictions stand only where both tables have them, so that both are measured on the same faces.
    Annotations are taken from either table; where the two contradict each other the annotation is
    left out and counted. Holds both tables' predictions and scores of
    matched rows in memory.

    Args:
        first: The table to compare with.
        second: The table that is compared.
        by: Sensitive features; None takes every annotated one of gender and race.
        unit: A column whose values name rows that are not independent.

    Raises:
        UsageError: If a feature is a prediction, of which there are two.
        SchemaError: If the rows have no names, none match, or the tasks have other classes.
    """
    _check(first, second, by)
    tasks = common_tasks(first, second)
    found, matching = match_rows(first, second)
    if not matching.matched:
        raise SchemaError(
            f"{first.path} and {second.path} have no image in common; compare tables of the same "
            "images, or of different ones with --mode drift"
        )
    asked = _asked(first, second, by, unit)
    rows = _rows(first, tasks, asked, found[FIRST]), _rows(second, tasks, asked, found[SECOND])
    labels, notes = _agreed(rows, [task.true_column for task in tasks] + [AGE_TRUE, *asked])
    if by is not None or unit is not None:
        _check_agreed(first, second, rows, labels, asked)
    both = _in_both(rows, tasks, first.scored & second.scored)
    left, right = (
        _side(first, rows[0], labels, both, tasks),
        _side(second, rows[1], labels, both, tasks),
    )
    features = find_features(left, by)
    known = labels.select(
        feature.values(labels.lazy()).is_not_null().alias(feature.name) for feature in features
    )
    images = images_once(first, found[FIRST], [one[STATUS] == OK for one in rows], known)
    return Pairs(left, right, matching, features, images, tuple(notes))


def common_tasks(first: PredictionTable | Tally, second: PredictionTable | Tally) -> list[Task]:
    """Tasks of both, which must have the same classes.

    Raises:
        SchemaError: If their classes differ, or there is no common task.
    """
    theirs = {task.name: task for task in second.tasks}
    common = [task for task in first.tasks if task.name in theirs]
    for task in common:
        other = theirs[task.name]
        if task.classes != other.classes:
            raise SchemaError(
                f"{task.name} has the classes {', '.join(task.classes)} in the first and "
                f"{', '.join(other.classes)} in the second; bring both to one scheme with --map "
                "or --age-bins"
            )
    return common


def paired_tally(pairs: Pairs, *, unit: str | None = None) -> PairedTally:
    """Count matched rows; costs two tallies and one pass over the pairs."""
    first, second = (
        tally(table, pairs.features, unit=unit or _UNIT) for table in (pairs.first, pairs.second)
    )
    return PairedTally(
        first, second, _joint(pairs, first, unit or _UNIT), pairs.matching, unit, pairs.notes
    )


def save_paired(counted: PairedTally, path: Path) -> None:
    """Write a paired tally; equal ones give equal bytes."""
    facts = {"matching": counted.matching.counts, "unit": counted.unit, "notes": counted.notes}
    save_archive({name: getattr(counted, name) for name in PARTS}, facts, path)


def load_paired(path: Path) -> PairedTally:
    """Read a paired tally that ``save_paired`` wrote.

    Raises:
        InputError: If the file cannot be read or is no paired tally.
    """
    parts, facts = load_archive(path, PARTS)
    matching = Matching(*facts["matching"])
    return PairedTally(**parts, matching=matching, unit=facts["unit"], notes=tuple(facts["notes"]))


# --- rows side by side ------------------------------------------------------------------------


def _check(first: PredictionTable, second: PredictionTable, by: Sequence[str] | None) -> None:
    for table in (first, second):
        if not table.named:
            raise SchemaError(
                f"{table.path}: there is no column image to match rows by; name it with "
                "--columns image=NAME, or compare with --mode drift"
            )
    for name in by or ():
        if name.endswith("_pred"):
            raise UsageError(
                f"--by {name}: the two tables predict different subgroups; cut by annotated ones"
            )


def _asked(
    first: PredictionTable,
    second: PredictionTable,
    by: Sequence[str] | None,
    unit: str | None,
) -> list[str]:
    """Columns beside the tasks' that features and units are read from, in either table."""
    known = {*first.features, *second.features}
    for name in by or ():
        if not {name, f"{name}_true"} & known:
            raise UnknownNameError("column to form subgroups by", name, sorted(known))
    found = [
        column
        for name in (DEFAULT_FEATURES if by is None else by)
        for column in (name, f"{name}_true")
        if column in known
    ]
    if unit is not None:
        if unit not in known:
            raise UnknownNameError("column to take units from", unit, sorted(known))
        found.append(unit)
    return list(dict.fromkeys(found))


def _check_agreed(
    first: PredictionTable,
    second: PredictionTable,
    rows: tuple[pl.DataFrame, pl.DataFrame],
    labels: pl.DataFrame,
    asked: Sequence[str],
) -> None:
    """Refuse a column that both tables fill, and in which they agree on no face."""
    for name in asked:
        given = any(name in one.columns and one[name].is_not_null().any() for one in rows)
        if given and not labels[name].is_not_null().any():
            raise SchemaError(
                f"{first.path} and {second.path}: {name!r} differs on every matched face; compare "
                "without it, or with --mode drift"
            )


def _rows(
    table: PredictionTable, tasks: Sequence[Task], asked: Sequence[str], wanted: pl.Series
) -> pl.DataFrame:
    """What is compared of the wanted rows of a table, in memory.

    Classes are kept as numbers and scores in single precision, as predict writes them: four bytes
    for every score, and about as many for everything else of a task.
    """
    names = table.frame.collect_schema().names()
    kinds: dict[str, pl.DataType] = {STATUS: pl.Enum([*STATUSES, NOT_SCORED])}
    for task in tasks:
        kinds |= dict.fromkeys((task.pred_column, task.true_column), pl.Enum(task.classes))
        if task.name in table.scored:
            kinds |= dict.fromkeys(score_columns(task), pl.Float32())
    columns = [
        pl.col(name).cast(kind, strict=False) for name, kind in kinds.items() if name in names
    ]
    columns += [pl.col(name) for name in (AGE_TRUE, AGE_PRED) if name in names]
    columns += [
        Feature(name, name).values(table.frame).alias(name)
        for name in asked
        if name in names and name not in {*kinds, AGE_TRUE, AGE_PRED}
    ]
    block = (pl.col(IMAGE).hash() % BLOCKS).cast(pl.Int64)
    kind = pl.Enum(_block_names())
    block = block.replace_strict(list(range(BLOCKS)), list(_block_names()), return_dtype=kind)
    rows = table.frame.select(*columns, block.alias(_UNIT))
    every = rows.collect(engine="streaming")
    in_order = len(wanted) == every.height and wanted.is_sorted()
    return every if in_order else every[wanted]


@cache
def _block_names() -> tuple[str, ...]:
    """A name for every block that ``block_of`` finds it by."""
    names: dict[int, str] = {}
    for number in count():
        block = int(block_of(pl.Series([str(number)]))[0])
        names.setdefault(block, str(number))
        if len(names) == BLOCKS:
            return tuple(names[block] for block in range(BLOCKS))
    raise AssertionError("numbers do not end")


def _agreed(
    rows: tuple[pl.DataFrame, pl.DataFrame], columns: Sequence[str]
) -> tuple[pl.DataFrame, list[str]]:
    """Annotations of either table, without those in which the two differ, and notes on these."""
    found, notes = [rows[0][_UNIT]], []
    for name in dict.fromkeys(columns):
        mine, theirs = (one[name] if name in one.columns else None for one in rows)
        one = mine if mine is not None else theirs
        if one is None:
            continue
        if mine is not None and theirs is not None:
            differ = (mine != theirs).fill_null(value=False)
            one = mine.fill_null(theirs)
            one = pl.select(pl.when(~differ).then(one)).to_series().alias(name)
            if differ.any():
                notes.append(
                    f"{name}: the two tables contradict each other on {differ.sum():,} of "
                    f"{differ.len():,} matched faces, which count as not annotated."
                )
        found.append(one)
    return pl.DataFrame(found), notes


def _in_both(
    rows: tuple[pl.DataFrame, pl.DataFrame], tasks: Sequence[Task], scored: frozenset[str]
) -> dict[str, pl.Series]:
    """Columns of predictions and scores, and which faces have them in both tables.

    Columns that share a series share its name.
    """
    names = {task.pred_column: [task.pred_column] for task in tasks}
    names |= {score_columns(task)[0]: score_columns(task) for task in tasks if task.name in scored}
    if all(AGE_PRED in one.columns for one in rows):
        names[AGE_PRED] = [AGE_PRED]
    found: dict[str, pl.Series] = {}
    for first, columns in names.items():
        both = rows[0][first].is_not_null() & rows[1][first].is_not_null()
        found |= dict.fromkeys(columns, both.alias(f"{first} both "))
    return found


def _side(
    table: PredictionTable,
    own: pl.DataFrame,
    labels: pl.DataFrame,
    both: Mapping[str, pl.Series],
    tasks: Sequence[Task],
) -> PredictionTable:
    """One table's predictions of the faces that both have, with the agreed annotations.

    The others' are left out whenever rows are read: a copy without them would be as large as all.
    """
    columns = [own[STATUS], *labels, *(own[name] for name in both)]
    # Whatever one table scored and the other did not is counted from these.
    columns += [own[task.pred_column].alias(_alone(task.name)) for task in tasks]
    if AGE_PRED in own.columns:
        columns.append(own[AGE_PRED].alias(_alone(AGE)))
    masks = {mask.name: mask for mask in both.values()}
    rows = pl.DataFrame([*columns, *masks.values()]).with_row_index(IMAGE)
    frame = (
        rows.lazy()
        .with_columns(
            pl.when(pl.col(mask.name)).then(pl.col(name)).alias(name) for name, mask in both.items()
        )
        .drop(*masks)
    )
    trues = [*(task.name for task in tasks), AGE]
    return replace(
        table,
        frame=frame,
        rows=rows.height,
        images=rows.height,
        sliceable=True,
        tasks=tuple(tasks),
        annotated=frozenset(
            name
            for name in trues
            if f"{name}_true" in labels.columns
            and labels[f"{name}_true"].is_not_null().any()
            and (name != AGE or AGE_PRED in both)
        ),
        scored=frozenset(task.name for task in tasks if score_columns(task)[0] in both),
        features=tuple(labels.columns),
        notes=(),
    )


def _alone(task: str) -> str:
    """The column of what one table predicts, whether or not the other does, too."""
    return f"{task} alone "


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
        *(_alone(name) for name in [*(task.name for task in counted.tasks), AGE]),
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
        mine, theirs = (_class_numbers(side[_alone(task.name)], task, k) for side in sides)
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
    preds = [side[_alone(AGE)] for side in sides]
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
