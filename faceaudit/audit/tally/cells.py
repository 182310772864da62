"""Numbers per cell of which few are not 0: kept sparse, so that rare combinations cost nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Numbers = NDArray[Any]
DENSE_SIZE = 2**20
"""Up to this many places rows are added to a dense array; beyond, to a sorted list."""
PENDING = 2**22
"""Entries that may wait before they are merged."""


@dataclass(frozen=True)
class CellCounts:
    """Counts or sums of every cell: an array (C, B, ...) without its zeros.

    A cell is a combination of features and a block a share of the units (one block without units).
    Read it through a ``Cut``, which gives dense arrays of subgroups.
    """

    codes: Codes
    """Places that are not 0 in the flattened array, ascending."""
    values: Numbers
    shape: tuple[int, ...]
    """C, B and the shape of what is counted."""

    @property
    def inner(self) -> tuple[int, ...]:
        """The shape of what is counted in one block of one cell."""
        return self.shape[2:]

    @cached_property
    def starts(self) -> Codes:
        """Where the entries of each cell begin, and the end of the last; shape (C + 1,)."""
        width = int(np.prod(self.shape[1:]))
        return np.asarray(np.searchsorted(self.codes, np.arange(self.shape[0] + 1) * width))

    def sums(self, groups: Codes, count: int) -> Numbers:
        """Sums over cells and blocks, (count, ...).

        Args:
            groups: The group of each cell, (C,); -1 belongs to none.
            count: How many groups there are.
        """
        width, size = int(np.prod(self.shape[1:])), int(np.prod(self.inner))
        group = groups[self.codes // width]
        kept = group >= 0
        places = group[kept] * size + self.codes[kept] % size
        return self._added(places, self.values[kept], count * size).reshape(count, *self.inner)

    def total(self, cells: Codes) -> Numbers:
        """The sum over some cells and all blocks, (...)."""
        codes, values = self._entries(cells)
        size = int(np.prod(self.inner))
        return self._added(codes % size, values, size).reshape(self.inner)

    def blocks(self, cells: Codes) -> Numbers:
        """The sum over some cells by block, (B, ...)."""
        codes, values = self._entries(cells)
        width = int(np.prod(self.shape[1:]))
        return self._added(codes % width, values, width).reshape(self.shape[1:])

    def any(self) -> bool:
        """Whether anything was counted at all."""
        return bool(len(self.codes))

    def spread(self, at: Codes, cells: int) -> CellCounts:
        """The same numbers among more cells: cell ``i`` becomes cell ``at[i]``."""
        width = int(np.prod(self.shape[1:]))
        codes = at[self.codes // width] * width + self.codes % width
        order = np.argsort(codes, kind="stable")
        return CellCounts(codes[order], self.values[order], (cells, *self.shape[1:]))

    def without(self, axis: int) -> CellCounts:
        """The same numbers summed over one axis of what is counted."""
        inner = list(self.inner)
        after = int(np.prod(inner[axis + 1 :]))
        length = inner.pop(axis)
        codes = self.codes // (after * length) * after + self.codes % after
        places, values = merged([codes], [self.values])
        return CellCounts(places, values, (*self.shape[:2], *inner))

    def marked(self, marks: Numbers) -> CellCounts:
        """How much is counted at marked places, (C, B, M).

        Args:
            marks: Which places each of M sums takes, (M, ...), true or false.
        """
        place = self.codes % int(np.prod(self.inner))
        return side_by_side([self._at(one.ravel()[place]) for one in marks])

    def _at(self, kept: Numbers) -> CellCounts:
        """The sum of some entries in every block of every cell, (C, B)."""
        size = int(np.prod(self.inner))
        places, values = merged([self.codes[kept] // size], [self.values[kept]])
        return CellCounts(places, values, self.shape[:2])

    def __add__(self, other: CellCounts) -> CellCounts:
        if self.shape != other.shape:
            raise ValueError(f"counts of shape {self.shape} and {other.shape} cannot be added")
        codes, values = merged([self.codes, other.codes], [self.values, other.values])
        return CellCounts(codes, values, self.shape)

    def _entries(self, cells: Codes) -> tuple[Codes, Numbers]:
        ranges = [slice(self.starts[cell], self.starts[cell + 1]) for cell in cells]
        if not ranges:
            return self.codes[:0], self.values[:0]
        return (
            np.concatenate([self.codes[one] for one in ranges]),
            np.concatenate([self.values[one] for one in ranges]),
        )

    def _added(self, places: Codes, values: Numbers, size: int) -> Numbers:
        # Counts pass through doubles unharmed up to 2^53.
        return np.bincount(places, weights=values, minlength=size).astype(self.values.dtype)


def merged(codes: Sequence[Codes], values: Sequence[Numbers]) -> tuple[Codes, Numbers]:
    """Each code once, ascending, with the sum of its values."""
    every, numbers = np.concatenate(codes), np.concatenate(values)
    order = np.argsort(every, kind="stable")
    every, numbers = every[order], numbers[order]
    if not len(every):
        return every, numbers
    first = np.flatnonzero(np.concatenate([[True], every[1:] != every[:-1]]))
    return every[first], np.add.reduceat(numbers, first)


class Counter:
    """Adds numbers up by place while rows stream by."""

    def __init__(self, shape: tuple[int, ...], dtype: type = np.int64) -> None:
        self.shape = shape
        self.dtype = dtype
        self.size = int(np.prod(shape))
        small = self.size <= DENSE_SIZE
        self._dense: Numbers | None = np.zeros(self.size, dtype) if small else None
        self._codes: list[Codes] = []
        self._values: list[Numbers] = []
        self._waiting = 0

    def add(self, codes: Codes, values: Numbers | None = None) -> None:
        """Add values (or ones) at places of the flattened array; places may repeat."""
        if self._dense is not None:
            found = np.bincount(codes, weights=values, minlength=self.size)
            self._dense += found.astype(self.dtype, copy=False)
            return
        places, inverse = np.unique(codes, return_inverse=True)
        self._codes.append(places)
        self._values.append(np.bincount(inverse, weights=values).astype(self.dtype, copy=False))
        self._waiting += len(places)
        if self._waiting > PENDING:
            self._merge()

    def counts(self) -> CellCounts:
        """What was added up."""
        if self._dense is not None:
            codes = np.flatnonzero(self._dense)
            return CellCounts(codes, self._dense[codes], self.shape)
        self._merge()
        kept = self._values[0] != 0
        return CellCounts(self._codes[0][kept], self._values[0][kept], self.shape)

    def _merge(self) -> None:
        codes, values = merged(
            [np.zeros(0, np.int64), *self._codes], [np.zeros(0, self.dtype), *self._values]
        )
        self._codes, self._values, self._waiting = [codes], [values], 0


def stacked(parts: Sequence[CellCounts]) -> CellCounts:
    """Counts of the same cells as one array, (C, B, parts, ...)."""
    cells, blocks, *inner = parts[0].shape
    size, count = int(np.prod(inner)), len(parts)
    codes = [
        part.codes // size * (size * count) + index * size + part.codes % size
        for index, part in enumerate(parts)
    ]
    places, values = merged(codes, [part.values for part in parts])
    return CellCounts(places, values, (cells, blocks, count, *inner))


def side_by_side(parts: Sequence[CellCounts]) -> CellCounts:
    """Counts of the same cells as one array, (C, B, ..., parts)."""
    codes = [part.codes * len(parts) + index for index, part in enumerate(parts)]
    places, values = merged(codes, [part.values for part in parts])
    return CellCounts(places, values, (*parts[0].shape, len(parts)))
