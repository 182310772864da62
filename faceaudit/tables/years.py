"""Ages in years, and the age groups that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from faceaudit.errors import SchemaError
from faceaudit.schema import (
    AGE_BINS,
    AGE_GROUP,
    AGE_PRED,
    AGE_TRUE,
    DEFAULT_AGE_SCHEME,
    Task,
    age_bins_of,
    age_group_task,
)
from faceaudit.schemes import task_of_values
from faceaudit.tables.table import Draft, as_number, task_names, values_of
from faceaudit.tables.wording import age_group_or_date

MAX_YEARS = 130
"""An annotated age above this is a year of birth or a mistake."""
FURTHEST_YEARS = 1e6
"""A predicted age may be wrong without bound, but powers of its error must stay finite."""


def with_years(draft: Draft) -> Draft:
    """Ages as numbers; what is no age is null and counted."""
    for name in (AGE_TRUE, AGE_PRED):
        if name in draft.dtypes:
            draft = _with_years_in(draft, name)
    return draft


def _with_years_in(draft: Draft, name: str) -> Draft:
    years = as_number(draft, name, pl.col(name), draft.dtypes[name])
    low, high = (0.0, MAX_YEARS) if name == AGE_TRUE else (-FURTHEST_YEARS, FURTHEST_YEARS)
    usable = years.is_between(low, high)
    given = years.is_not_null()
    counts = draft.frame.select(given.sum().alias("given"), (usable & given).sum().alias("usable"))
    given_rows, usable_rows = counts.collect().row(0)
    if given_rows and not usable_rows:
        raise SchemaError(f"{draft.path}: no value of {name} is an age in years")
    if given_rows == usable_rows:
        return draft.having(draft.frame.with_columns(years.alias(name)))
    note = (
        f"{given_rows - usable_rows:,} of {given_rows:,} values of {name} are no age in years and "
        "were left out."
    )
    return draft.having(draft.frame.with_columns(pl.when(usable).then(years).alias(name)), note)


def without_groups_of_years(draft: Draft) -> Draft:
    """Annotated years alone, where there are years and groups: years fit any age bins."""
    column = f"{AGE_GROUP}_true"
    if AGE_TRUE not in draft.dtypes or column not in draft.dtypes:
        return draft
    lost = pl.col(column).is_not_null() & pl.col(AGE_TRUE).is_null()
    count = draft.frame.select(lost.sum()).collect().item()
    note = f"{column} was formed anew from {AGE_TRUE}"
    if count:
        note += f"; {count:,} rows that have an age group but no {AGE_TRUE} are left without one"
    return draft.having(draft.frame.drop(column), f"{note}.")


def with_groups_of_predicted_years(
    draft: Draft, classes: Mapping[str, Sequence[str]], age_bins: Sequence[int] | None
) -> tuple[Draft, Mapping[str, Sequence[str]]]:
    """Predicted age groups from years, where only years are predicted; and their classes."""
    if AGE_PRED not in draft.dtypes or AGE_GROUP in task_names(draft):
        return draft, classes
    task = age_group_task(age_bins or _annotated_bins(draft) or AGE_BINS[DEFAULT_AGE_SCHEME])
    frame = draft.frame.with_columns(_group_of(AGE_PRED, task, task.pred_column))
    return draft.having(frame), {**classes, AGE_GROUP: task.classes}


def _annotated_bins(draft: Draft) -> tuple[int, ...] | None:
    """Lower bounds of the annotated age groups, where they are groups with bounds."""
    written = values_of(draft, f"{AGE_GROUP}_true")
    values = {age_group_or_date(str(value)) or str(value) for value in written}
    return age_bins_of(task_of_values(AGE_GROUP, values, []).classes) if values else None


def with_groups_of_annotated_years(draft: Draft) -> Draft:
    """Annotated age groups from years, where only years are annotated."""
    task = next((task for task in draft.tasks if task.name == AGE_GROUP), None)
    if task is None or AGE_TRUE not in draft.dtypes or age_bins_of(task.classes) is None:
        return draft
    group = _group_of(AGE_TRUE, task, task.true_column)
    if task.true_column not in draft.dtypes:
        return draft.having(draft.frame.with_columns(group))
    given = pl.col(task.true_column)
    both = given.is_not_null() & group.is_not_null()
    counts = draft.frame.select(both.sum().alias("both"), (both & (given != group)).sum()).collect()
    rows, unlike = counts.row(0)
    frame = draft.frame.with_columns(pl.coalesce(given, group))
    if not unlike:
        return draft.having(frame)
    return draft.having(
        frame,
        f"In {unlike:,} of {rows:,} rows with both, {AGE_TRUE} lies outside {task.true_column}; "
        "group figures follow the groups, figures in years the years.",
    )


def _group_of(years: str, task: Task, name: str) -> pl.Expr:
    """The age group of a column of years; below the first bound counts as the first group."""
    found = pl.lit(task.classes[0])
    bins = age_bins_of(task.classes) or ()
    for low, label in list(zip(bins, task.classes, strict=True))[1:]:
        found = pl.when(pl.col(years) >= low).then(pl.lit(label)).otherwise(found)
    return pl.when(pl.col(years).is_not_null()).then(found).alias(name)
