"""Annotated columns of a table as a report reads them, so that one class is never two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from faceaudit.errors import SchemaError
from faceaudit.schema import (
    AGE_BINS,
    AGE_GROUP,
    AGE_TRUE,
    GENDER,
    RACE,
    SCHEMES,
    SCHEMES_OF,
    Task,
    age_group_names,
)
from faceaudit.tables.spelling import spelling_notes, spellings
from faceaudit.tables.table import Draft, as_number, values_of
from faceaudit.tables.years import MAX_YEARS

TASKS = (GENDER, RACE, AGE_GROUP)


def annotated_columns(draft: Draft) -> list[str]:
    """The annotated columns that a table has."""
    columns = [f"{name}_true" for name in TASKS] + [AGE_TRUE]
    return [name for name in columns if name in draft.dtypes]


def with_annotations(draft: Draft, declared: Mapping[str, Task]) -> Draft:
    """Classes in one spelling, years as numbers; what is missing or no age is null, with notes.

    Args:
        draft: The table.
        declared: Task -> what the table says that its annotations are.

    Raises:
        SchemaError: If a column is of a type that holds neither.
    """
    for name in TASKS:
        if f"{name}_true" in draft.dtypes:
            classes = declared[name].classes if name in declared else _known_classes(name)
            draft = _with_one_spelling(draft, name, classes)
    return _with_years(draft) if AGE_TRUE in draft.dtypes else draft


def _known_classes(name: str) -> list[str]:
    """Classes of all named schemes of a task."""
    if name == AGE_GROUP:
        named = [age_group_names(bins) for bins in AGE_BINS.values()]
    else:
        named = [SCHEMES[scheme] for scheme in SCHEMES_OF[name]]
    return list(dict.fromkeys(label for classes in named for label in classes))


def _with_one_spelling(draft: Draft, name: str, classes: Sequence[str]) -> Draft:
    column = f"{name}_true"
    draft = draft.having(draft.frame.with_columns(_as_text(draft, column).alias(column)))
    counts = values_of(draft, column)
    changes = spellings(name, {}, counts, classes)
    if not changes:
        return draft
    spelled = pl.col(column).replace(list(changes), list(changes.values()))
    return draft.having(
        draft.frame.with_columns(spelled), *spelling_notes(name, ({}, counts), changes)
    )


def _as_text(draft: Draft, column: str) -> pl.Expr:
    """Values without blanks around them, empty is null, whole numbers without a fraction."""
    dtype, value = draft.dtypes[column], pl.col(column)
    if dtype.is_nested() or dtype == pl.Binary:
        raise SchemaError(f"{draft.path}: {column} is of type {dtype}; give class names")
    text = value.cast(pl.String).str.strip_chars()
    if dtype.is_float():
        text = text.str.strip_suffix(".0")
    return pl.when(text != "").then(text)


def _with_years(draft: Draft) -> Draft:
    years = as_number(draft, AGE_TRUE, pl.col(AGE_TRUE), draft.dtypes[AGE_TRUE])
    usable = years.is_between(0, MAX_YEARS)
    facts = draft.frame.select(years.count().alias("given"), (usable & years.is_not_null()).sum())
    given, used = facts.collect(engine="streaming").row(0)
    note = f"{given - used:,} of {given:,} values of {AGE_TRUE} are no age and were left out."
    return draft.having(
        draft.frame.with_columns(pl.when(usable).then(years).alias(AGE_TRUE)),
        *([note] if used < given else []),
    )
