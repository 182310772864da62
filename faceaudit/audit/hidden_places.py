"""Places of confusion matrices and bins of confidence that are kept back, for privacy.

A place is kept back in all subgroups of a grouping at once, so that it does not follow from the
same place in the others and in everybody; and in every finer grouping, whose subgroups add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.results import Confusion, Reliability, Subgroup

Names = frozenset[str]
"""The features of a grouping."""
Mask = NDArray[np.bool_]
HiddenPlaces = Mapping[tuple[str, Names], Mask]
"""Task and grouping -> places kept back, (K, K)."""
HiddenBins = Mapping[tuple[str, Names], frozenset[float]]
"""Task and grouping -> lower edges of the bins kept back."""


def names_of(subgroup: Subgroup) -> Names:
    """The features that a subgroup is formed by."""
    return frozenset(subgroup)


def hidden_places(matrices: Iterable[Confusion], below: int) -> dict[tuple[str, Names], Mask]:
    """Places that are too small in a subgroup of a grouping, and those that would tell them.

    The sums of rows and columns and the diagonal are taken as known. Of two classes nothing then
    is unknown: with one place all are kept back.
    """
    stacks: dict[tuple[str, Names], list[NDArray[np.int64]]] = {}
    for one in matrices:
        stacks.setdefault((one.task.name, names_of(one.subgroup)), []).append(one.counts)
    found: dict[tuple[str, Names], Mask] = {}
    for (task, names), counts in sorted(stacks.items(), key=lambda item: len(item[0][1])):
        stack = np.stack(counts)
        small: Mask = np.asarray(np.any((stack > 0) & (stack < below), axis=0))
        for (other, coarse), mask in found.items():
            if other == task and coarse < names:
                small |= mask
        found[task, names] = _with_tellers(small, stack.sum(axis=0))
    return found


def _with_tellers(small: Mask, totals: NDArray[np.int64]) -> Mask:
    """Places with those that keep them from following from the rest, the smallest there are.

    Three corners of a rectangle off the diagonal do; where there is none, the places in line.
    """
    hidden = small.copy()
    every = range(len(totals))
    while (told := _told(hidden)).any():
        row, column = np.argwhere(told)[0]
        corners = [
            ((row, other), (line, column), (line, other))
            for line in every
            for other in every
            if line not in (row, column, other) and other not in (row, column)
        ]
        if not corners:
            rows, columns = np.nonzero(told)
            hidden[rows, :] = hidden[:, columns] = True
            break
        costs = [sum(totals[at] for at in three if not hidden[at]) for three in corners]
        for at in corners[int(np.argmin(costs))]:
            hidden[at] = True
    return hidden


def _told(hidden: Mask) -> Mask:
    """Hidden places that follow from the sums of rows and columns, the diagonal and the rest.

    The diagonal itself is not meant: every recall tells it.
    """
    size = len(hidden)
    told = np.zeros_like(hidden)
    rows, columns = np.nonzero(hidden)
    if not len(rows):
        return told
    sums = np.zeros((3 * size, len(rows)))
    every = np.arange(len(rows))
    sums[rows, every] = sums[size + columns, every] = 1
    sums[2 * size + rows, every] = rows == columns
    _, values, vectors = np.linalg.svd(sums)
    free = vectors[(values > 1e-9).sum() :]
    told[rows, columns] = (np.abs(free) < 1e-9).all(axis=0) & (rows != columns)
    return told


def hidden_bins(
    found: Iterable[Reliability], below: int
) -> dict[tuple[str, Names], frozenset[float]]:
    """Lower edges of bins that are too small in a subgroup of a grouping, and that would tell them.

    In no subgroup is one bin kept back alone, as it would follow from the number of its faces.
    """
    tables: dict[tuple[str, Names], list[dict[float, int]]] = {}
    for one in found:
        bins = {place.lower: place.right.n for place in one.bins if place.right.n}
        tables.setdefault((one.task, names_of(one.subgroup)), []).append(bins)
    hidden: dict[tuple[str, Names], frozenset[float]] = {}
    for (task, names), rows in sorted(tables.items(), key=lambda item: len(item[0][1])):
        small = {lower for bins in rows for lower, n in bins.items() if n < below}
        small |= {
            lower
            for (other, coarse), kept in hidden.items()
            if other == task and coarse < names
            for lower in kept
        }
        while alone := [
            bins for bins in rows if len(bins.keys() & small) == 1 and bins.keys() - small
        ]:
            small |= {min(bins.keys() - small, key=bins.__getitem__) for bins in alone}
        hidden[task, names] = frozenset(small)
    return hidden
