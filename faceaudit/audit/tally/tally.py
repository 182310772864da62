"""The tally itself: numbers per cell, which add, and the subgroups that are cut from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Protocol

import numpy as np

from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally.bins import AGE_YEARS, BLOCKS, ERROR_BINS
from faceaudit.audit.tally.cells import CellCounts, Codes, Numbers
from faceaudit.schema import AGE, AGE_GROUP, STATUSES, TableMetadata, Task

Cell = tuple[str | None, ...]
"""A value per feature; None where it is not known."""
POWERS = 4
"""Sums kept of age errors: of the error, its absolute value, its square and its fourth power."""
LOSSES = 5
"""Sums kept of a task's scores: faces, log loss, its square, Brier score, its square."""


KINDS = (
    "confusion",
    "predicted",
    "missed",
    "confidence",
    "scores",
    "coarse_scores",
    "losses",
    "calibration",
    "errors",
    "error_sums",
    "ages",
    "images",
    "several",
)
"""Everything that a tally counts."""


@dataclass(frozen=True)
class TableFacts:
    """What is told of a table that was counted."""

    path: str
    sha256: str
    rows: int
    images: int
    notes: tuple[str, ...] = ()
    metadata: TableMetadata | None = None
    labels_format: str | None = None
    """Format of the labels that were joined to it, None where it brought its own."""
    labels_provenance: str | None = None


@dataclass(frozen=True)
class YearErrors:
    """Signed errors in years, predicted minus annotated; leading axes are subgroups or groups.

    ``errors`` counts faces by ``bins.error_bin``; ``sums`` are exact sums of the error, |error|,
    error² and error⁴.
    """

    errors: Numbers  # (..., ERROR_BINS)
    sums: Numbers  # (..., POWERS)

    @property
    def faces(self) -> Numbers:
        """How many faces; shape (...)."""
        return np.asarray(self.errors.sum(axis=-1))

    def map(self, function: Callable[[Any], Any]) -> YearErrors:
        """The same errors with both arrays passed through a function of their leading axes."""
        return YearErrors(function(self.errors), function(self.sums))


@dataclass(frozen=True)
class Tally:
    """Numbers per cell of one table or of several; K classes, G age groups, S statuses.

    A cell is a combination of the features' values. With a ``unit``, numbers are kept apart for
    ``BLOCKS`` shares of its values, so that what belongs together is resampled together.
    """

    tasks: tuple[Task, ...]
    features: tuple[Feature, ...]
    cells: tuple[Cell, ...]
    statuses: tuple[str, ...]
    unit: str | None
    tables: tuple[TableFacts, ...]
    numbers: Mapping[str, Mapping[str, CellCounts]]
    """What is counted -> task (``age`` for years, an empty name for images) -> numbers."""

    @property
    def blocks(self) -> int:
        """How many blocks there are; 1 without units."""
        return BLOCKS if self.unit else 1

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    @property
    def confusion(self) -> Mapping[str, CellCounts]:
        """Task -> faces by annotated and predicted class, (K, K)."""
        return self.numbers["confusion"]

    @property
    def predicted(self) -> Mapping[str, CellCounts]:
        """Task -> faces by predicted class, annotated or not, (K,)."""
        return self.numbers["predicted"]

    @property
    def missed(self) -> Mapping[str, CellCounts]:
        """Task -> annotated rows without a prediction by annotated class, (K,); of years (1,)."""
        return self.numbers["missed"]

    @property
    def confidence(self) -> Mapping[str, CellCounts]:
        """Task -> scored faces by their highest score, annotated or not, (CONFIDENCE_BINS,)."""
        return self.numbers["confidence"]

    @property
    def scores(self) -> Mapping[str, CellCounts]:
        """Task -> annotated faces by score of each class, others' first, (K, 2, SCORE_BINS).

        Never in blocks.
        """
        return self.numbers["scores"]

    @property
    def coarse_scores(self) -> Mapping[str, CellCounts]:
        """Task -> the same in blocks and few bins, (K, 2, COARSE_BINS); only with a unit."""
        return self.numbers["coarse_scores"]

    @property
    def losses(self) -> Mapping[str, CellCounts]:
        """Task -> sums over annotated faces with scores, (LOSSES,)."""
        return self.numbers["losses"]

    @property
    def calibration(self) -> Mapping[str, CellCounts]:
        """Task -> faces, sum of confidence and right faces by bin, (CALIBRATION_BINS, 3)."""
        return self.numbers["calibration"]

    @property
    def errors(self) -> CellCounts:
        """Faces by annotated age group (the last: not known) and error, (G + 1, ERROR_BINS)."""
        return self._of_years("errors", (self.age_groups + 1, ERROR_BINS))

    @property
    def error_sums(self) -> CellCounts:
        """Sums of powers of the errors by annotated age group, (G + 1, POWERS)."""
        return self._of_years("error_sums", (self.age_groups + 1, POWERS))

    @property
    def ages(self) -> CellCounts:
        """Faces by annotated and predicted whole year, (AGE_YEARS, AGE_YEARS)."""
        return self._of_years("ages", (AGE_YEARS, AGE_YEARS))

    @property
    def images(self) -> CellCounts:
        """Images by status, (S,)."""
        return self.numbers["images"][""]

    @property
    def several(self) -> CellCounts:
        """Images with more than one face, (1,)."""
        return self.numbers["several"][""]

    @property
    def age_groups(self) -> int:
        """How many age groups there are; 0 without the task."""
        return next((len(task.classes) for task in self.tasks if task.name == AGE_GROUP), 0)

    def _of_years(self, kind: str, inner: tuple[int, ...]) -> CellCounts:
        empty = CellCounts(
            np.zeros(0, np.int64), np.zeros(0), (len(self.cells), self.blocks, *inner)
        )
        return self.numbers[kind].get(AGE, empty)

    def __add__(self, other: Tally) -> Tally:
        """The tally of both tables, which hold different images."""
        if self.kind != other.kind:
            raise ValueError("tallies of different tasks, features or units cannot be added")
        cells = sorted_cells({*self.cells, *other.cells}, self.features)
        statuses = sorted_statuses({*self.statuses, *other.statuses})
        mine, theirs = (one._spread(cells, statuses) for one in (self, other))
        kinds = {**mine.numbers, **theirs.numbers}
        return replace(
            mine,
            tables=(*self.tables, *other.tables),
            numbers={kind: _sum(mine.numbers[kind], theirs.numbers[kind]) for kind in kinds},
        )

    @property
    def kind(self) -> tuple[Any, ...]:
        """What two tallies must share to be added."""
        return self.tasks, self.features, self.unit

    def _spread(self, cells: tuple[Cell, ...], statuses: tuple[str, ...]) -> Tally:
        """The same numbers over more cells and statuses."""
        numbers: Mapping[str, Mapping[str, CellCounts]] = self.numbers
        if statuses != self.statuses:
            images = _with_statuses(self.images, self.statuses, statuses)
            numbers = {**numbers, "images": {"": images}}
        if cells != self.cells:
            place = {cell: index for index, cell in enumerate(cells)}
            at = np.array([place[cell] for cell in self.cells], np.int64)
            numbers = {
                kind: {name: one.spread(at, len(cells)) for name, one in found.items()}
                for kind, found in numbers.items()
            }
        return replace(self, cells=cells, statuses=statuses, numbers=numbers)


def add_up(tallies: Iterable[Tally]) -> Tally:
    """The tally of all, which were counted from different images.

    Of an iterator one tally is held beside the sum, so that a stream of any length can be counted
    part by part.
    """
    return reduce(lambda one, other: one + other, tallies)


def _sum(mine: Mapping[str, CellCounts], theirs: Mapping[str, CellCounts]) -> dict[str, CellCounts]:
    """Numbers of both; a task that one of them has none of adds nothing."""
    shared = {name: mine[name] + theirs[name] for name in mine if name in theirs}
    return {**mine, **theirs, **shared}


def _with_statuses(
    images: CellCounts, statuses: Sequence[str], wanted: Sequence[str]
) -> CellCounts:
    """Images by status among more statuses."""
    at = np.array([wanted.index(status) for status in statuses], np.int64)
    cell, status = np.divmod(images.codes, len(statuses))
    codes = cell * len(wanted) + at[status]
    order = np.argsort(codes)
    return CellCounts(codes[order], images.values[order], (*images.shape[:2], len(wanted)))


def sorted_cells(cells: Iterable[Cell], features: Sequence[Feature]) -> tuple[Cell, ...]:
    """Cells in the order to show them."""

    def rank(cell: Cell) -> list[tuple[int, str]]:
        return [feature.rank(value) for feature, value in zip(features, cell, strict=True)]

    return tuple(sorted(cells, key=rank))


def sorted_statuses(statuses: Iterable[str]) -> tuple[str, ...]:
    """Statuses in the order of the contract, others after them."""
    order = list(STATUSES)
    return tuple(sorted(statuses, key=lambda name: (name not in order, name)))


# --- subgroups --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """The subgroups of one grouping, as sums of cells."""

    by: tuple[str, ...]
    subgroups: tuple[Mapping[str, str], ...]
    index: Codes
    """The subgroup of each cell, (C,); -1 where it belongs to none."""

    def of(self, counts: CellCounts) -> Numbers:
        """Numbers of every subgroup, (subgroups, ...)."""
        return counts.sums(self.index, len(self.subgroups))

    def one(self, counts: CellCounts, subgroup: int) -> Numbers:
        """Numbers of one subgroup, (...)."""
        return counts.total(self.cells(subgroup))

    def blocks(self, counts: CellCounts, subgroup: int) -> Numbers:
        """Numbers of one subgroup by block, (B, ...)."""
        return counts.blocks(self.cells(subgroup))

    def cells(self, subgroup: int) -> Codes:
        """Numbers of the cells that one subgroup consists of."""
        return np.asarray(np.flatnonzero(self.index == subgroup))


class Celled(Protocol):
    """What is counted by cell: a tally, or what numbers the cells of one."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """What cells are combinations of."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Values of the features, cell by cell."""


def cut(counted: Celled, by: Sequence[str], *, missing: str | None = None) -> Cut:
    """The subgroups of a grouping; no feature at all is everybody.

    Args:
        counted: The tally.
        by: Names of features.
        missing: Name for unknown values; None leaves faces with an unknown value out.
    """
    names = [feature.name for feature in counted.features]
    at = [names.index(name) for name in by]
    keys = [tuple(cell[index] for index in at) for cell in counted.cells]
    chosen = [counted.features[index] for index in at]
    found = sorted_cells({key for key in keys if missing or None not in key}, chosen)
    place = {key: index for index, key in enumerate(found)}
    subgroups = tuple(
        {
            name: str(missing if value is None else value)
            for name, value in zip(by, key, strict=True)
        }
        for key in found
    )
    return Cut(tuple(by), subgroups, np.array([place.get(key, -1) for key in keys], np.int64))


def years_of(counted: Tally, cells: Cut, subgroup: int) -> YearErrors:
    """Age errors of one subgroup by annotated age group, (G + 1, ...)."""
    return YearErrors(cells.one(counted.errors, subgroup), cells.one(counted.error_sums, subgroup))


def years_by_block(counted: Tally, cells: Cut, subgroup: int) -> YearErrors:
    """Age errors of one subgroup by block and annotated age group, (B, G + 1, ...)."""
    return YearErrors(
        cells.blocks(counted.errors, subgroup), cells.blocks(counted.error_sums, subgroup)
    )
