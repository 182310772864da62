"""Annotations as heads learn them: the classes, and the years, that each label stands for."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.errors import LabelError
from faceaudit.labels.parse import MAX_YEARS
from faceaudit.schema import (
    AGE_GROUP,
    AGE_TRUE,
    ANNOTATION_SETS,
    MAX_AGE,
    SCHEME_MAPS,
    Task,
    task_of_scheme,
)
from faceaudit.schemes import CUSTOM, coarsening_of_annotations, schemes_with

log = logging.getLogger(__name__)

UNKNOWN = -1
SHOWN = 5
"""Classes that a message names."""
GROUP = re.compile(r"([0-9]+)(?:-([0-9]+)|\+)")
"""An age group's first and last year; ``70+`` has no last."""


def coarser_schemes(scheme: str) -> dict[str, dict[str, str]]:
    """Coarser scheme -> class of this scheme -> class of the coarser one; fewest classes first."""
    found = {coarse: names for (fine, coarse), names in SCHEME_MAPS.items() if fine == scheme}
    return dict(sorted(found.items(), key=lambda item: len(set(item[1].values()))))


def wider_labels(scheme: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Other scheme -> its class -> the classes of this scheme that a face of it may be."""
    found = {}
    for other, names in coarser_schemes(scheme).items():
        found[other] = {
            coarse: tuple(fine for fine, one in names.items() if one == coarse)
            for coarse in sorted(set(names.values()))
        }
    sets = {other: labels for (other, own), labels in ANNOTATION_SETS.items() if own == scheme}
    return found | sets


def class_sets(scheme: str) -> NDArray[np.bool_]:
    """The classes that each possible label of a head stands for, (L, K).

    The first K rows are single classes; then come those of ``wider_labels``, in its order.
    """
    classes = task_of_scheme("", scheme).classes
    rows = list(np.eye(len(classes), dtype=bool))
    for labels in wider_labels(scheme).values():
        for allowed in labels.values():
            rows.append(np.asarray([name in allowed for name in classes]))
    return np.stack(rows)


def class_rows(
    table: pl.DataFrame, head: Task, annotated: Task | None, folder: Path
) -> NDArray[np.int64]:
    """Row of ``class_sets`` of each face, ``UNKNOWN`` where it is not annotated.

    Args:
        table: Of a folder of crops.
        head: The task that is learned.
        annotated: The classes that the labels were chosen from; None where that is not recorded:
            then they are taken to be of the first scheme that has all of them, the head's own
            before coarser ones.
        folder: Where the table lies, for messages.
    """
    column = head.true_column
    if column not in table.columns:
        log.warning("%s: no column %s; its crops do not teach %s", folder, column, head.name)
        return np.full(len(table), UNKNOWN, np.int64)
    given = annotated or _fitting(table[column], head, folder)
    rows_by_name = _rows_by_name(given, head)
    found = [rows_by_name.get(name, UNKNOWN) for name in table[column]]
    rows = np.asarray(found, np.int64)
    unused = table[column].filter(pl.Series(rows == UNKNOWN)).drop_nulls()
    if len(unused):
        log.warning(
            "%s: %d values of %s (scheme %s: %s) have no counterpart in the scheme %s",
            folder,
            len(unused),
            column,
            given.scheme,
            ", ".join(map(str, unused.unique().sort()[:SHOWN])),
            head.scheme,
        )
    return rows


def _rows_by_name(annotated: Task, head: Task) -> dict[str, int]:
    """Annotated class -> row of ``class_sets``; classes that no mapping brings there are absent."""
    index = {name: row for row, name in enumerate(head.classes)}
    start = len(index)
    for scheme, labels in wider_labels(head.scheme).items():
        if scheme == annotated.scheme:
            return {name: start + place for place, name in enumerate(labels)}
        start += len(labels)
    if way := coarsening_of_annotations(annotated, head):
        return {name: index[new] for name, new in way.classes.items()}
    return index if annotated.scheme == CUSTOM else {}


def _fitting(values: pl.Series, head: Task, folder: Path) -> Task:
    """The task that labels without a recorded scheme are taken to be of."""
    present = set(values.drop_nulls())
    own = [task_of_scheme(head.name, name) for name in (head.scheme, *coarser_schemes(head.scheme))]
    fitting = {
        task.scheme: task
        for task in [*own, *schemes_with(head.name, present)]
        if present <= set(task.classes)
    }
    if not fitting:
        return Task(head.name, CUSTOM, tuple(sorted(present)))
    if len(fitting) > 1 and present:
        log.warning(
            "%s: does not say which scheme its %s labels are of, %s; %s is taken. `faceaudit "
            "prepare` records it now",
            folder,
            head.name,
            " or ".join(fitting),
            next(iter(fitting)),
        )
    return next(iter(fitting.values()))


def age_intervals(table: pl.DataFrame, folder: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last possible year of each face, from years where given, else from groups.

    Years are as annotated, also beyond ``MAX_AGE``.

    Raises:
        LabelError: If an age is none, or the name of an age group does not say its years.
    """
    low = np.full(len(table), UNKNOWN, np.int64)
    high = low.copy()
    if f"{AGE_GROUP}_true" in table.columns:
        groups = table[f"{AGE_GROUP}_true"].cast(pl.String)
        ends = {name: _years_of(name, folder) for name in groups.drop_nulls().unique()}
        for row, name in enumerate(groups):
            if name is not None:
                low[row], high[row] = ends[name]
    if AGE_TRUE in table.columns:
        years = _years(table[AGE_TRUE], folder)
        known = ~np.isnan(years)
        low[known] = high[known] = years[known].astype(np.int64)
    return low, high


def _years(values: pl.Series, folder: Path) -> NDArray[np.float64]:
    """Annotated ages, NaN where there is none."""
    years = values.cast(pl.Float64, strict=False)
    no_number = years.is_null() & values.is_not_null()
    wrong = no_number | (years.is_not_nan() & ~years.is_between(0, MAX_YEARS))
    if (wrong := wrong.fill_null(value=False)).any():
        raise LabelError(
            f"{folder}: {AGE_TRUE} is {values.filter(wrong)[0]!r}; ages are years from 0 to "
            f"{MAX_YEARS}, prepare the crops again with such labels"
        )
    return years.to_numpy().astype(np.float64)


def _years_of(group: str, folder: Path) -> tuple[int, int]:
    """First and last year of an age group by its name."""
    found = GROUP.fullmatch(group)
    if found is None:
        raise LabelError(
            f"{folder}: age group {group!r} does not say its years; call groups 0-2 or 70+"
        )
    if found[2] and int(found[1]) > int(found[2]):
        raise LabelError(
            f"{folder}: age group {group!r} ends before it begins; call it {found[2]}-{found[1]}"
        )
    return min(int(found[1]), MAX_AGE), min(int(found[2] or MAX_AGE), MAX_AGE)
