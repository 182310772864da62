"""Small cells of a tally put together, for privacy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.suppress import check_suppression
from faceaudit.audit.tally import CellCounts, Codes, Tally
from faceaudit.audit.tally.cells import merged
from faceaudit.audit.tally.tally import Cell, sorted_cells


def merge_small_cells(counted: Tally, below: int) -> Tally:
    """The tally with cells of fewer than ``below`` images, or of fewer faces, put together.

    The last feature of a small cell becomes unknown, then the one before it, until the cells that
    are alike by then hold enough. If those of which nothing is known are still too few, the next
    smallest cell joins them. Counts within a cell (a class, a score) can be smaller.

    Raises:
        UsageError: If ``below`` is negative.
    """
    check_suppression(below)
    if not below:
        return counted
    sizes = _sizes(counted)
    names = list(counted.cells)
    for place in reversed(range(len(counted.features))):
        found = _added_up(names, sizes)
        names = [
            (*cell[:place], None, *cell[place + 1 :]) if _few(found[cell], below) else cell
            for cell in names
        ]
    unknown: Cell = (None,) * len(counted.features)
    found = _added_up(names, sizes)
    while unknown in found and _few(found[unknown], below) and len(found) > 1:
        others = (cell for cell in found if cell != unknown)
        smallest = min(others, key=lambda cell: tuple(found[cell]))
        names = [unknown if cell == smallest else cell for cell in names]
        found = _added_up(names, sizes)
    return _merged(counted, names)


def _sizes(counted: Tally) -> NDArray[np.int64]:
    """Images and faces of every cell, (cells, 2).

    A face of an image that is counted in another cell is no image of its own.
    """

    def per_cell(counts: CellCounts) -> NDArray[np.int64]:
        every = np.arange(len(counted.cells))
        sums = np.asarray(counts.sums(every, len(every)), np.int64).reshape(len(every), -1)
        return np.asarray(sums.sum(axis=-1))

    faces = [per_cell(one) for one in counted.predicted.values()]
    faces += [
        per_cell(one) + per_cell(counted.missed[name]) if name in counted.missed else per_cell(one)
        for name, one in counted.confusion.items()
    ]
    images = per_cell(counted.images)
    return np.stack([images, np.max([np.zeros_like(images), *faces], axis=0)], axis=-1)


def _few(sizes: NDArray[np.int64], below: int) -> bool:
    return bool(((sizes > 0) & (sizes < below)).any())


def _added_up(names: Sequence[Cell], sizes: NDArray[np.int64]) -> dict[Cell, NDArray[np.int64]]:
    found: dict[Cell, NDArray[np.int64]] = {}
    for cell, n in zip(names, sizes, strict=True):
        found[cell] = found[cell] + n if cell in found else n
    return found


def _merged(counted: Tally, names: Sequence[Cell]) -> Tally:
    cells = sorted_cells(set(names), counted.features)
    place = {cell: index for index, cell in enumerate(cells)}
    at = np.array([place[cell] for cell in names], np.int64)
    numbers = {
        kind: {name: _moved(one, at, len(cells)) for name, one in found.items()}
        for kind, found in counted.numbers.items()
    }
    return replace(counted, cells=cells, numbers=numbers)


def _moved(counts: CellCounts, at: Codes, cells: int) -> CellCounts:
    moved = counts.spread(at, cells)
    codes, values = merged([moved.codes], [moved.values])
    return CellCounts(codes, values, moved.shape)
