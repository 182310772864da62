"""The rows of two tables side by side: matched face by face, with the annotations of either.

Predictions stand where both tables have them, so that both are measured on the same faces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count

import polars as pl

from faceaudit.audit.matching import FACES_TELL, FIRST, SECOND, Matching, images_once, match_rows
from faceaudit.audit.subgroups import (
    DEFAULT_FEATURES,
    Feature,
    each_name,
    find_features,
    unit_feature,
)
from faceaudit.audit.tally import BLOCKS, Tally, block_of
from faceaudit.errors import SchemaError, UnknownNameError, UsageError
from faceaudit.schema import AGE, AGE_PRED, AGE_TRUE, OK, STATUSES, Task
from faceaudit.tables import IMAGE, NOT_SCORED, STATUS, PredictionTable, score_columns

UNIT = "unit "
"""With a blank, which columns of a table have not around their names."""


@dataclass(frozen=True)
class Pairs:
    """The rows of two tables side by side, each as a table of its own, and how they were found."""

    first: PredictionTable
    second: PredictionTable
    matching: Matching
    features: tuple[Feature, ...]
    images: pl.DataFrame
    """Of each row whether its image is counted in it, and whether either table scored the image."""
    totals: tuple[int, int]
    """Images of either table, matched or not."""
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
    by = None if by is None else each_name(by)
    _check(first, second, by, unit)
    tasks = common_tasks(first, second)
    found, matching = match_rows(first, second)
    if not matching.matched and matching.unclear:
        raise SchemaError(
            f"{first.path} and {second.path}: no row of one is that of a single one of the other, "
            f"as their images occur more than once; {FACES_TELL}"
        )
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
    named = replace(left, frame=labels.lazy(), features=tuple(labels.columns))
    features = find_features(named, by)
    if unit is not None:
        unit_feature(named, unit)
    known = labels.select(
        feature.values(labels.lazy()).is_not_null().alias(feature.name) for feature in features
    )
    images = images_once(first, found[FIRST], [one[STATUS] == OK for one in rows], known)
    own = tuple(replace(feature, column=label_column(feature.column)) for feature in features)
    totals = first.images, second.images
    return Pairs(left, right, matching, own, images, totals, tuple(notes))


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
    if not common:
        names = (", ".join(task.name for task in one.tasks) for one in (first, second))
        raise SchemaError(
            f"the first predicts {next(names)}, the second {next(names)}, and no task is in both; "
            "give tables of the same tasks, or name the columns of one with --columns"
        )
    return common


def _check(
    first: PredictionTable, second: PredictionTable, by: Sequence[str] | None, unit: str | None
) -> None:
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
    if unit is not None and unit.endswith("_pred"):
        raise UsageError(
            f"--unit {unit}: the two tables predict different units; give a column that says which "
            "rows belong together, such as image"
        )


def _asked(
    first: PredictionTable,
    second: PredictionTable,
    by: Sequence[str] | None,
    unit: str | None,
) -> list[str]:
    """Columns beside the tasks' that features and units are read from, in either table."""
    known = {*first.features, *second.features}
    offered = sorted(name for name in known if not name.endswith("_pred"))
    for name in by or ():
        if not {name, f"{name}_true"} & known:
            raise UnknownNameError("column to form subgroups by", name, offered)
    found = [
        column
        for name in (DEFAULT_FEATURES if by is None else by)
        for column in (name, f"{name}_true")
        if column in known
    ]
    if unit is not None:
        if unit not in known:
            raise UnknownNameError("column to take units from", unit, offered)
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
    rows = table.frame.select(*columns, block.alias(UNIT))
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
    found, notes = [rows[0][UNIT]], []
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
    labels = labels.rename(label_column)
    columns = [own[STATUS], *labels, *(own[name] for name in both)]
    # Whatever one table scored and the other did not is counted from these.
    columns += [own[task.pred_column].alias(alone(task.name)) for task in tasks]
    if AGE_PRED in own.columns:
        columns.append(own[AGE_PRED].alias(alone(AGE)))
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


def label_column(column: str) -> str:
    """The column of what a feature or a unit is read from: beside those that a table has anyway."""
    return column if column.endswith("_true") or column == UNIT else f"{column} label "


def alone(task: str) -> str:
    """The column of what one table predicts, whether or not the other does, too."""
    return f"{task} alone "
