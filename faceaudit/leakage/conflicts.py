"""Whether the annotations of two images exclude each other, across schemes and age groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.leakage.duplicates import conflicting_intervals, conflicting_sets
from faceaudit.leakage.sets import ImageSet
from faceaudit.schema import AGE, AGE_GROUP, AGE_TRUE, GENDER, RACE, SCHEMES, Task
from faceaudit.schemes import coarsening

LAST_YEAR = 130
"""The upper end of an age group that has none."""


@dataclass(frozen=True)
class ClassLabels:
    """Annotated classes of N images of several sets, in the classes of one scheme."""

    allowed: NDArray[np.bool_]
    """Classes that each annotation allows, (N, K): several where it is coarser; none if unknown."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether each image is annotated, (N,)."""
        return np.asarray(self.allowed.any(axis=1), bool)

    def in_groups(self, groups: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each image is in a group whose annotations exclude each other, (N,)."""
        return conflicting_sets(groups, self.allowed)

    def in_pairs(
        self, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether both annotations of a pair are known, and whether they exclude each other."""
        a, b = self.allowed[first], self.allowed[second]
        known = self.known[first] & self.known[second]
        return known, known & ~(a & b).any(axis=1)


@dataclass(frozen=True)
class AgeLabels:
    """Annotated ages of N images: the first and last possible year, -1 if unknown, (N,)."""

    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether each image is annotated, (N,)."""
        return np.asarray(self.low >= 0, bool)

    def in_groups(self, groups: NDArray[np.int64], within: int = 0) -> NDArray[np.bool_]:
        """Whether each image is in a group whose annotations exclude each other, (N,).

        Args:
            groups: Number of the group of each image.
            within: Years that annotations may be apart.
        """
        high = np.where(self.known, self.high + within, self.high)
        return conflicting_intervals(groups, self.low, high)

    def in_pairs(
        self, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether both annotations of a pair are known, and whether they exclude each other."""
        known = self.known[first] & self.known[second]
        return known, known & (self.gaps(first, second) > 0)

    def gaps(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
        """Years between the annotations of pairs, (P,); 0 where they have a year in common."""
        latest = np.maximum(self.low[first], self.low[second])
        earliest = np.minimum(self.high[first], self.high[second])
        return np.asarray(np.maximum(latest - earliest, 0), np.int64)


Labels = ClassLabels | AgeLabels


def labels_of(sets: Sequence[ImageSet]) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Annotations of all images by task, and notes on tasks that cannot be compared."""
    found: dict[str, Labels] = {}
    notes = []
    for name in (GENDER, RACE):
        tasks = [one.tasks[name] for one in sets if name in one.tasks]
        if not tasks:
            continue
        fine = _common(tasks)
        if fine is None:
            schemes = " and ".join(dict.fromkeys(task.scheme for task in tasks))
            notes.append(
                f"Annotated {name} was not compared: no mapping joins the schemes {schemes}."
            )
            continue
        found[name] = ClassLabels(np.concatenate([_allowed(one, name, fine) for one in sets]))
    ages = [_years(one) for one in sets]
    low, high = (np.concatenate(part) for part in zip(*ages, strict=True))
    if (low >= 0).any():
        found[AGE] = AgeLabels(low, high)
    return found, tuple(notes)


def _common(tasks: Sequence[Task]) -> Task | None:
    """The scheme that all others are coarsenings of; None where there is none."""
    named = [Task(tasks[0].name, scheme, classes) for scheme, classes in SCHEMES.items()]
    for fine in (*tasks, *named):
        if all(coarsening(fine, task) is not None for task in tasks):
            return fine
    return None


def _allowed(one: ImageSet, name: str, fine: Task) -> NDArray[np.bool_]:
    """Classes of ``fine`` that each annotation of a set allows, (N, K)."""
    task = one.tasks.get(name)
    mapping = None if task is None else coarsening(fine, task)
    if task is None or mapping is None:
        return np.zeros((len(one.images), len(fine.classes)), bool)
    rows = {
        label: np.asarray([mapping.classes.get(k) == label for k in fine.classes], bool)
        for label in task.classes
    }
    unknown = np.zeros(len(fine.classes), bool)
    values = one.annotations[task.true_column].cast(pl.String)
    return np.stack([rows.get(value, unknown) for value in values])


def _years(one: ImageSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last possible year of each image of a set, -1 where unknown."""
    low = np.full(len(one.images), -1, np.int64)
    high = low.copy()
    column = f"{AGE_GROUP}_true"
    if column in one.annotations.columns:
        for value in one.annotations[column].cast(pl.String).unique().drop_nulls():
            if (bounds := _bounds(value)) is not None:
                rows = (
                    (one.annotations[column].cast(pl.String) == value).fill_null(False).to_numpy()
                )
                low[rows], high[rows] = bounds
    if AGE_TRUE in one.annotations.columns:
        years = one.annotations[AGE_TRUE].cast(pl.Float64, strict=False).fill_nan(None)
        known = years.is_not_null().to_numpy()
        low[known] = high[known] = np.floor(years.drop_nulls().to_numpy()).astype(np.int64)
    return low, high


def _bounds(group: str) -> tuple[int, int] | None:
    """Years of an age group.

    Example:
        >>> _bounds("20-29"), _bounds("70+"), _bounds("adult")
        ((20, 29), (70, 130), None)
    """
    if found := re.fullmatch(r"([0-9]{1,3})-([0-9]{1,3})", group):
        return int(found[1]), int(found[2])
    found = re.fullmatch(r"([0-9]{1,3})\+", group)
    return (int(found[1]), LAST_YEAR) if found else None
