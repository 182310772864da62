"""Tasks: predicted and annotated classes brought together, visibly."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import polars as pl

from faceaudit.errors import SchemaError
from faceaudit.schema import AGE_GROUP, AGE_PRED, AGE_TRUE, Task, age_group_task, task_of_scheme
from faceaudit.schemes import Agreement, agree, merge_note, named_task, schemes_with, task_of_values
from faceaudit.tables.scores import (
    argmax,
    number_of_scores,
    with_checked_scores,
    with_scores,
    with_summed_scores,
)
from faceaudit.tables.spelling import respelled, spelling_notes, spellings
from faceaudit.tables.table import Draft, some_of, task_names, values_of
from faceaudit.tables.years import without_groups_of_years

MAX_CLASSES = 100
"""A column with more different values is a measurement, not a class; so are as many scores."""


def with_tasks(
    draft: Draft,
    classes: Mapping[str, Sequence[str]],
    scheme_map: Mapping[str, str],
    age_bins: Sequence[int] | None,
) -> Draft:
    """Every predicted task in canonical columns and classes.

    Args:
        draft: The table.
        classes: Task -> its classes, where the user or the years name them.
        scheme_map: Task -> the scheme to coarsen it to.
        age_bins: Lower bounds of the age groups to audit in.

    Raises:
        SchemaError: If an option names a task that is not predicted, or schemes contradict.
    """
    names = task_names(draft)
    _check_names(draft, names)
    for option, given in (("--classes", classes), ("--map", scheme_map)):
        for name in given:
            if name not in names:
                known = ", ".join(names) or "none"
                raise SchemaError(
                    f"{draft.path}: {option} names the task {name!r}, which is not predicted; "
                    f"predicted: {known}"
                )
    for name in names:
        wanted = task_of_scheme(name, scheme_map[name]) if name in scheme_map else None
        if name == AGE_GROUP and age_bins is not None:
            wanted = age_group_task(age_bins)
            draft = without_groups_of_years(draft)
        draft = _with_task(draft, name, classes.get(name), wanted)
    return draft


def _with_task(draft: Draft, name: str, given: Sequence[str] | None, wanted: Task | None) -> Draft:
    """One task in canonical columns, its scores checked and its schemes brought together."""
    count = number_of_scores(draft, name, given)
    if count > MAX_CLASSES:  # expressions over thousands of columns would fill the memory
        return _not_audited(draft, f"{name} has scores of {count:,} classes, too many")
    draft, score_classes = with_scores(draft, name, given)
    draft = _with_text(draft, name, score_classes)
    predicted: Mapping[str, int] = values_of(draft, f"{name}_pred")
    annotated: Mapping[str, int] = values_of(draft, f"{name}_true")
    if len(predicted) > MAX_CLASSES:
        many = f"{len(predicted):,} different values, too many for classes"
        return _not_audited(draft, f"{name}_pred has {many}")
    task = _declared_task(draft, name, score_classes or given)
    draft, predicted, annotated = _with_one_spelling(
        draft, name, predicted, annotated, task.classes if task else ()
    )
    if task is None:
        _check_values_meet(draft, name, predicted, annotated)
        task = task_of_values(name, predicted, annotated)
    if score_classes:
        _check_scored_classes(draft, task, predicted)
        draft = with_checked_scores(draft, task)
    agreement = agree(
        task,
        annotated,
        declared=_declared_annotation(draft, name),
        wanted=wanted,
        where=str(draft.path),
    )
    draft = _with_agreement(draft, agreement, predicted, annotated, scored=bool(score_classes))
    scored = draft.scored | ({name} if score_classes else set())
    return replace(draft, tasks=(*draft.tasks, agreement.task), scored=scored)


def _not_audited(draft: Draft, why: str) -> Draft:
    return draft.having(draft.frame, f"{why}; it was not audited.")


def _check_names(draft: Draft, tasks: Sequence[str]) -> None:
    """Refuse names that would be overlooked for their case alone, such as Gender_True."""
    known = {*draft.dtypes, AGE_TRUE, AGE_PRED}
    known |= {f"{name}_{kind}" for name in tasks for kind in ("true", "pred", "probs")}
    for column in draft.dtypes:
        lower = column.casefold()
        ends = lower.endswith(("_true", "_pred", "_probs"))
        if not ends or column == lower or (column.endswith("_true") and lower not in known):
            continue
        if lower in known - {column} or not column.endswith(("_true", "_pred", "_probs")):
            raise SchemaError(
                f"{draft.path}: the column {column!r} is not read as {lower!r}, because case "
                f"counts; rename it, or map it with --columns {lower}={column}"
            )


def _with_one_spelling(
    draft: Draft,
    name: str,
    predicted: Mapping[str, int],
    annotated: Mapping[str, int],
    classes: Sequence[str],
) -> tuple[Draft, Mapping[str, int], Mapping[str, int]]:
    """Every class in one spelling, visibly, and the counts of both columns' values."""
    changes = spellings(name, predicted, annotated, classes)
    if not changes:
        return draft, predicted, annotated
    frame = draft.frame.with_columns(
        pl.col(column).replace(list(changes), list(changes.values()))
        for column in (f"{name}_pred", f"{name}_true")
        if column in draft.dtypes
    )
    draft = draft.having(frame, *spelling_notes(name, (predicted, annotated), changes))
    return draft, respelled(predicted, changes), respelled(annotated, changes)


def _check_scored_classes(draft: Draft, task: Task, predicted: Collection[str]) -> None:
    """Refuse predictions of which none is a class that is scored."""
    if predicted and not set(predicted) & set(task.classes):
        raise SchemaError(
            f"{draft.path}: no value of {task.pred_column} ({some_of(predicted)}) is among the "
            f"classes that are scored ({', '.join(task.classes)}); write both in the same classes"
        )


def _check_values_meet(
    draft: Draft, name: str, predicted: Collection[str], annotated: Collection[str]
) -> None:
    """Refuse two codings of one thing, such as M and Male, in which nothing would be right."""
    known = any(schemes_with(name, values) for values in ({*predicted, *annotated}, predicted))
    if known or not predicted or not annotated or set(predicted) & set(annotated):
        return
    raise SchemaError(
        f"{draft.path}: no value of {name}_pred ({some_of(predicted)}) occurs in {name}_true "
        f"({some_of(annotated)}); write both in the same classes, or, where they are, name all: "
        f"--classes {name}=first,second,..."
    )


def _with_text(draft: Draft, name: str, score_classes: Sequence[str]) -> Draft:
    """The predicted and annotated column as text; predictions from scores where there are none."""
    pred, true = f"{name}_pred", f"{name}_true"
    frame = draft.frame.with_columns(
        _as_text(draft, column).alias(column) for column in (pred, true) if column in draft.dtypes
    )
    if pred not in draft.dtypes and score_classes:
        frame = frame.with_columns(argmax(name, score_classes).alias(pred))
    return draft.having(frame)


def _as_text(draft: Draft, column: str) -> pl.Expr:
    """Values as text: trimmed, empty is null, whole numbers without a fraction."""
    dtype, value = draft.dtypes[column], pl.col(column)
    if draft.metadata is not None and not draft.labels_joined and dtype == pl.String:
        return value
    if dtype.is_float():
        value = value.fill_nan(None)
        whole = value.cast(pl.Int64, strict=False)
        return pl.when(value == whole).then(whole.cast(pl.String)).otherwise(value.cast(pl.String))
    if dtype.is_nested() or dtype == pl.Binary:
        raise SchemaError(f"{draft.path}: {column} is of type {dtype}; give class names")
    if dtype == pl.String and all(
        text and text == text.strip() for text in values_of(draft, column)
    ):
        return value  # what needs no trimming is not trimmed anew in every pass over the rows
    text = value.cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _declared_task(draft: Draft, name: str, classes: Sequence[str] | None) -> Task | None:
    """The predicted task where the table, its score columns or the user name the classes."""
    written = draft.metadata.tasks if draft.metadata else ()
    for task in written:
        if task.name == name:
            if classes and set(classes) != set(task.classes):
                raise SchemaError(
                    f"{draft.path}: {name} is declared with the classes "
                    f"{', '.join(task.classes)} but scored in {', '.join(classes)}"
                )
            return task
    return named_task(name, classes) if classes else None


def _declared_annotation(draft: Draft, name: str) -> Task | None:
    """The annotations' scheme, where the table names it."""
    if draft.metadata is None or draft.labels_joined:
        return None
    return draft.metadata.annotated_tasks.get(name)


def _with_agreement(
    draft: Draft,
    agreement: Agreement,
    predicted: Mapping[str, int],
    annotated: Mapping[str, int],
    *,
    scored: bool,
) -> Draft:
    """Both columns, and the scores, in the classes that were agreed on."""
    task, way = agreement.task, agreement.predicted
    notes = []
    frame = draft.frame
    if way.changes and scored:
        frame = with_summed_scores(frame, way)
    if task.pred_column in draft.dtypes:
        frame = _mapped(frame, task.pred_column, way.classes, predicted)
        notes += _stray_note(task.pred_column, predicted, way.classes)
    if way.changes:
        notes.append(merge_note("predicted classes", way))
    if way.changes and scored:
        notes[-1] += " Probabilities were summed"
        if task.name == AGE_GROUP:
            # As `predict` would have it in these groups: its group is the highest sum over years.
            best = argmax(task.name, task.classes)
            given = pl.col(task.pred_column)
            merged = pl.when(given.is_not_null()).then(pl.coalesce(best, given))
            frame = frame.with_columns(merged.alias(task.pred_column))
            notes[-1] += " and the highest sum taken."
        else:
            notes[-1] += (
                f"; a face keeps the class that {task.pred_column} names, also where another has "
                "a higher sum."
            )
    if task.true_column in draft.dtypes:
        known = agreement.annotated.classes if agreement.annotated else _identity(task)
        frame = _mapped(frame, task.true_column, known, annotated)
        notes += _stray_note(task.true_column, annotated, known)
        if agreement.annotated and agreement.annotated.changes:
            notes.append(merge_note("annotated classes", agreement.annotated))
    return draft.having(frame, *notes)


def _identity(task: Task) -> dict[str, str]:
    return {label: label for label in task.classes}


def _mapped(
    frame: pl.LazyFrame, column: str, classes: Mapping[str, str], values: Iterable[str]
) -> pl.LazyFrame:
    """A text column in other classes; values without one are null."""
    if all(classes.get(value) == value for value in values):
        return frame
    return frame.with_columns(
        pl.col(column).replace_strict(
            list(classes), list(classes.values()), default=None, return_dtype=pl.String
        )
    )


def _stray_note(column: str, values: Mapping[str, int], known: Iterable[str]) -> list[str]:
    stray = {value: count for value, count in values.items() if value not in set(known)}
    if not stray:
        return []
    return [
        f"{sum(stray.values()):,} of {sum(values.values()):,} values of {column} are not among its "
        f"classes ({some_of(stray)}) and were left out."
    ]
