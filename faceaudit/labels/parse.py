"""Annotated values as people and spreadsheets write them, in the spelling of the schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from faceaudit.labels.annotations import counted, were
from faceaudit.schema import (
    AGE_BINS,
    AGE_GROUP,
    SCHEMES,
    SCHEMES_OF,
    Task,
    age_bins_of,
    age_group_task,
    task_of_scheme,
)
from faceaudit.tables.table import DECIMAL_COMMA
from faceaudit.tables.wording import age_group, plain, repaired_age_group, spelled

CUSTOM = "custom"
MAX_YEARS = 116
"""The highest age in UTKFace, and about the highest that a person has reached."""
CUSTOM_SHARE, CUSTOM_ROWS = 0.05, 5
"""An unknown value that is this frequent is a class of its own, not a slip."""

MISSING = frozenset({"", "?", "-", "na", "n/a", "nan", "none", "null", "unknown"})
"""Ways to say that nothing is known, in lower case."""


@dataclass(frozen=True, eq=False)
class Column:
    """One annotated column: its values, their task (None for years), and notes."""

    values: pl.Series
    task: Task | None
    notes: tuple[str, ...] = ()


def as_recorded(raw: pl.Series, task: Task | None) -> Column | None:
    """A column in the classes that are recorded of it; None where it has others, or none are."""
    if task is None or not set(_counts(raw)) <= set(task.classes):
        return None
    return Column(_replaced(raw, {name: name for name in task.classes}), task)


def categories(name: str, raw: pl.Series, schemes: Sequence[str] | None = None) -> Column:
    """A gender or race column in the classes of the scheme that fits it.

    The scheme is the one with most of the labels among its classes, and where several have as many
    the smallest of them. What is not among them becomes null, but a value that is frequent is a
    class: then the values themselves are the classes, under the scheme ``custom``.

    Args:
        name: ``gender`` or ``race``.
        raw: Text as written.
        schemes: Schemes to choose from, where the format says which; then none is custom.
    """
    counts = _counts(raw)
    spellings = {one: spelled(counts, SCHEMES[one]) for one in schemes or SCHEMES_OF[name]}
    scheme = max(spellings, key=lambda one: sum(counts[value] for value in spellings[one]))
    known = spellings[scheme]
    stray = {value: count for value, count in counts.items() if value not in known}
    if schemes is None and _are_classes(stray, counts):
        found = _as_written(counts) | known
        task = Task(name, CUSTOM, tuple(sorted({*found.values()})))
        return Column(_replaced(raw, found), task, (_custom_note(task),))
    alike = [one for one in spellings if one != scheme and len(spellings[one]) == len(known)]
    return Column(
        _replaced(raw, known),
        task_of_scheme(name, scheme),
        (*_note(name, stray, counts), *_alike_note(name, scheme, alike if known else [])),
    )


def years(raw: pl.Series) -> Column:
    """Ages in years as float32; what is no age from 0 to 116 is null."""
    numbers = _numbers(raw)
    valid = numbers.is_between(0, MAX_YEARS).fill_null(value=False)
    counts = _counts(raw)
    bad = _counts(raw.filter(~valid))
    values = pl.select(pl.when(valid).then(numbers)).to_series().cast(pl.Float32)
    return Column(values.alias(raw.name), None, _note("age", bad, counts))


def are_years(raw: pl.Series) -> bool:
    """Whether at least half of the values are numbers."""
    given = sum(_counts(raw).values())
    return 2 * _numbers(raw).count() >= given


def age_groups(raw: pl.Series, scheme: str | None = None) -> Column:
    """An age-group column, its names written as the schema does and spreadsheet dates repaired.

    Args:
        raw: Text as written, such as ``3-9``, ``more than 70`` or ``9-Mar``.
        scheme: The scheme, where the format says which; else the one that has all groups.
    """
    counts = _counts(raw)
    read = {value: group for value in counts if (group := age_group(value))}
    repaired = {value: group for value in counts if (group := repaired_age_group(value))}
    found = {**read, **repaired}
    by_name = scheme is None and sum(counts[one] for one in found) < sum(counts.values()) / 2
    if by_name:
        found = _as_written(counts)
    task = task_of_scheme(AGE_GROUP, scheme) if scheme else _age_task(set(found.values()))
    found = {value: group for value, group in found.items() if group in task.classes}
    stray = {value: count for value, count in counts.items() if value not in found}
    return Column(
        _replaced(raw, found),
        task,
        (
            *((_custom_note(task),) if by_name else _repair_note(counts, repaired)),
            *_note(AGE_GROUP, stray, counts),
        ),
    )


def _age_task(groups: set[str]) -> Task:
    """The age-group task with these groups: a named scheme, bounds without gaps, or as they are."""
    for scheme in AGE_BINS:
        task = task_of_scheme(AGE_GROUP, scheme)
        if groups <= set(task.classes):
            return task
    ordered = tuple(sorted(groups, key=_lower_bound))
    bins = age_bins_of(ordered)
    return age_group_task(bins) if bins else Task(AGE_GROUP, CUSTOM, ordered)


def _lower_bound(group: str) -> tuple[int, str]:
    digits = re.match("[0-9]{1,9}", group)
    return (int(digits[0]) if digits else 10**9, group)


def _numbers(raw: pl.Series) -> pl.Series:
    """Values as finite numbers, with a point or a comma; null where they are none."""
    numbers = raw.str.strip_chars().str.replace(*DECIMAL_COMMA).cast(pl.Float64, strict=False)
    return numbers.set(~numbers.is_finite().fill_null(value=False), None)


def _counts(raw: pl.Series) -> dict[str, int]:
    """Values that say something, in order of appearance, with how often they occur."""
    counted_values = raw.drop_nulls().to_frame("value").group_by("value", maintain_order=True).len()
    pairs = zip(counted_values["value"], counted_values["len"], strict=True)
    return {value: count for value, count in pairs if value.strip().casefold() not in MISSING}


def _as_written(values: Mapping[str, int]) -> dict[str, str]:
    """Value -> itself, in the first of the spellings that differ only in case and marks."""
    first: dict[str, str] = {}
    return {value: first.setdefault(plain(value), value.strip()) for value in values}


def _are_classes(stray: Mapping[str, int], counts: Mapping[str, int]) -> bool:
    """Whether values outside a scheme are classes: the most, or one that is frequent."""
    total = sum(counts.values())
    frequent = max(CUSTOM_ROWS, CUSTOM_SHARE * total)
    return 2 * sum(stray.values()) > total or any(count >= frequent for count in stray.values())


def _replaced(raw: pl.Series, found: Mapping[str, str]) -> pl.Series:
    return raw.replace_strict(
        pl.Series(list(found), dtype=pl.String),
        pl.Series(list(found.values()), dtype=pl.String),
        default=None,
        return_dtype=pl.String,
    )


def _repair_note(counts: Mapping[str, int], repaired: Mapping[str, str]) -> tuple[str, ...]:
    number = sum(counts[value] for value in repaired)
    if not number:
        return ()
    value, group = next(iter(repaired.items()))
    return (
        f"{counted(number, 'age group')} {were(number)} repaired from spreadsheet dates "
        f"(such as {value!r} to {group})",
    )


def _note(name: str, stray: Mapping[str, int], counts: Mapping[str, int]) -> tuple[str, ...]:
    number = sum(stray.values())
    if not number:
        return ()
    shown = ", ".join(f"{value!r} ({count:,})" for value, count in _first(stray, 5))
    return (
        f"{number:,} of {counted(sum(counts.values()), f'{name} label')} {were(number)} not "
        f"understood and left empty: {shown}",
    )


def _alike_note(name: str, scheme: str, alike: Sequence[str]) -> tuple[str, ...]:
    if not alike:
        return ()
    return (
        f"the {name} labels fit {scheme} and {' and '.join(alike)} alike, and are taken to be of "
        f"{scheme}: a face of a class that it lacks would change what the others count as",
    )


def _custom_note(task: Task) -> str:
    classes = ", ".join(map(repr, task.classes[:12]))
    return f"the {task.name} labels are of no known scheme; they are taken as classes: {classes}"


def _first(stray: Mapping[str, int], number: int) -> list[tuple[str, int]]:
    """The most frequent values."""
    return sorted(stray.items(), key=lambda item: -item[1])[:number]
