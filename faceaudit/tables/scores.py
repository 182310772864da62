"""Probabilities: one column per class, checked, and summed where classes are merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from faceaudit.errors import SchemaError
from faceaudit.schema import Task
from faceaudit.schemes import Coarsening
from faceaudit.tables.table import Draft, as_number, score_column, score_columns

SUM_TOLERANCE = 1e-3
"""How far the probabilities of one face may sum from 1."""


def with_scores(
    draft: Draft, name: str, given: Sequence[str] | None
) -> tuple[Draft, tuple[str, ...]]:
    """Scores as one column per class, and the classes; no classes where there are no scores."""
    column = f"{name}_probs"
    dtype = draft.dtypes.get(column)
    if dtype is None:
        return _with_score_columns(draft, name, given)
    if any(other.startswith(f"{name}_prob_") for other in draft.dtypes):
        raise SchemaError(
            f"{draft.path}: {name} has scores twice, in {column} and in columns {name}_prob_...; "
            "keep one of them"
        )
    if isinstance(dtype, pl.Struct):
        classes = tuple(part.name for part in dtype.fields)
        _check_classes(draft, name, classes, given)
        values = [
            as_number(draft, column, pl.col(column).struct.field(part.name), _type_of(part))
            for part in dtype.fields
        ]
    elif isinstance(dtype, pl.List | pl.Array):
        classes = tuple(given or ())
        _check_list(draft, column, classes)
        listed = pl.col(column).cast(pl.List(pl.Float64))
        values = [listed.list.get(k, null_on_oob=True) for k in range(len(classes))]
    else:
        raise SchemaError(
            f"{draft.path}: {column} is of type {dtype}; give a struct with one field per class, "
            f"or columns {name}_prob_<class>"
        )
    scores = [
        value.alias(f"{name}_prob_{label}") for value, label in zip(values, classes, strict=True)
    ]
    return draft.having(draft.frame.with_columns(scores).drop(column)), classes


def number_of_scores(draft: Draft, name: str, given: Sequence[str] | None) -> int:
    """How many classes of a task are scored; nothing of them is looked at but names and types."""
    dtype = draft.dtypes.get(f"{name}_probs")
    if isinstance(dtype, pl.Struct):
        return len(dtype.fields)
    if isinstance(dtype, pl.List | pl.Array):
        return len(given or ())
    return sum(column.startswith(f"{name}_prob_") for column in draft.dtypes)


def _check_list(draft: Draft, column: str, classes: Sequence[str]) -> None:
    name = column.removesuffix("_probs")
    if not classes:
        raise SchemaError(
            f"{draft.path}: {column} is a bare list, which does not say which score is whose; "
            f"name its classes in order: --classes {name}=first,second,..."
        )
    lengths = draft.frame.select(pl.col(column).cast(pl.List(pl.Float64)).list.len().unique())
    found = sorted(length for length in lengths.collect().to_series().drop_nulls())
    if found not in ([], [len(classes)]):
        raise SchemaError(
            f"{draft.path}: --classes {name} names {len(classes)} classes but {column} holds "
            f"{', '.join(map(str, found))} scores; name every class once"
        )


def _with_score_columns(
    draft: Draft, name: str, given: Sequence[str] | None
) -> tuple[Draft, tuple[str, ...]]:
    prefix = f"{name}_prob_"
    classes = tuple(
        column.removeprefix(prefix) for column in draft.dtypes if column.startswith(prefix)
    )
    if not classes:
        return draft, ()
    _check_classes(draft, name, classes, given)
    scores = [
        as_number(draft, column, pl.col(column), draft.dtypes[column])
        for column in (prefix + label for label in classes)
    ]
    return draft.having(draft.frame.with_columns(scores)), classes


def _check_classes(
    draft: Draft, name: str, classes: Sequence[str], given: Sequence[str] | None
) -> None:
    """Scores of every class; one alone cannot tell what the others are."""
    if len(classes) < 2 or (given and set(given) != set(classes)):
        raise SchemaError(
            f"{draft.path}: {name} has scores for {', '.join(classes) or 'no class'} only; "
            f"give one column {name}_prob_<class> for every class"
        )


def _type_of(part: pl.Field) -> pl.DataType:
    return part.dtype if isinstance(part.dtype, pl.DataType) else part.dtype()


def argmax(name: str, classes: Sequence[str]) -> pl.Expr:
    """The class of the highest score, the first of equal ones; null where a score is."""
    columns = [pl.col(f"{name}_prob_{label}") for label in classes]
    complete = pl.all_horizontal(column.is_not_null() for column in columns)
    top = pl.max_horizontal(columns)
    found = pl.lit(classes[-1])
    for column, label in reversed(list(zip(columns, classes, strict=True))):
        found = pl.when(column == top).then(pl.lit(label)).otherwise(found)
    return pl.when(complete).then(found)


def with_checked_scores(draft: Draft, task: Task) -> Draft:
    """Scores that are probabilities; those of a face that are not are null and counted."""
    columns = [pl.col(name) for name in score_columns(task)]
    top, total = pl.max_horizontal(columns), pl.sum_horizontal(columns, ignore_nulls=False)
    given = top.is_not_null()
    # Nothing but finite numbers from 0 sums to a finite number without a null.
    finite = (total.is_finite() & (pl.min_horizontal(columns) >= 0)).fill_null(False)
    usable = finite & ((total - 1).abs() <= SUM_TOLERANCE)
    # Codes compare several times faster than text.
    code = pl.col(task.pred_column).cast(pl.Enum(task.classes), strict=False).to_physical()
    beaten = pl.any_horizontal(
        (code == number) & (column < top) for number, column in enumerate(columns)
    )
    differs = usable & beaten
    counts = draft.frame.select(
        given.sum().alias("given"),
        usable.sum().alias("usable"),
        (given & ~finite).sum().alias("broken"),
        differs.fill_null(False).sum().alias("differs"),
        total.filter(finite).first().alias("example"),
    )
    found = counts.collect(engine="streaming").row(0, named=True)
    if found["given"] and not found["usable"]:
        example = f", such as {found['example']:g}" if found["example"] is not None else ""
        raise SchemaError(
            f"{draft.path}: no face's {task.name} scores are probabilities that sum to 1"
            f"{example}; give softmax outputs from 0 to 1, or leave the columns out"
        )
    notes = _score_notes(task, found)
    if found["given"] == found["usable"]:
        return replace(draft, notes=(*draft.notes, *notes))
    frame = draft.frame.with_columns(pl.when(usable).then(column) for column in columns)
    return draft.having(frame, *notes)


def _score_notes(task: Task, found: Mapping[str, int]) -> list[str]:
    notes = []
    off = found["given"] - found["usable"] - found["broken"]
    for count, why in (
        (found["broken"], "missing, negative or not finite"),
        (off, "not sum to 1"),
    ):
        if count:
            verb = "are" if why.startswith("missing") else "do"
            notes.append(
                f"{task.name}: the scores of {count:,} of {found['given']:,} faces {verb} {why}; "
                "they were left out of every figure that needs scores."
            )
    if found["differs"]:
        share = found["differs"] / found["usable"]
        notes.append(
            f"{task.name}: for {found['differs']:,} of {found['usable']:,} faces ({share:.1%}) the "
            f"highest score belongs to another class than {task.pred_column} names."
        )
    return notes


def with_summed_scores(frame: pl.LazyFrame, way: Coarsening) -> pl.LazyFrame:
    """Scores of merged classes: the sums of the scores of their parts."""
    merged = []
    for label in way.target.classes:
        parts = [old for old, new in way.classes.items() if new == label]
        columns = [pl.col(score_column(way.source, old)) for old in parts]
        total = pl.sum_horizontal(columns, ignore_nulls=False) if columns else pl.lit(0.0)
        merged.append(total.alias(f"_merged_{label}"))
    first = pl.col(score_columns(way.source)[0])
    names = {f"_merged_{label}": score_column(way.target, label) for label in way.target.classes}
    complete = [pl.when(first.is_not_null()).then(pl.col(name)).alias(name) for name in names]
    return (
        frame.with_columns(merged)
        .with_columns(complete)
        .drop(score_columns(way.source))
        .rename(names)
    )
