"""Which images are the same picture: equal bytes, or nearly equal pixels, also mirrored.

Everything works on arrays of hashes; reading images is up to the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from faceaudit.ordered import in_order

PAIRS_AT_ONCE = 4_000_000
"""Candidates that are compared, and held, together."""
BANDED = 24
"""Largest distance, in bits, that is searched by bands: beyond, bands are so short that nearly all
images agree in one."""
ROWS_AT_ONCE = 256
"""Hashes that one thread compares with all others."""
TILE = (4, 4096)
"""Hashes that are compared with hashes at once: the arrays of so many stay in a core's cache."""

Hashes = NDArray[np.uint8]
"""Difference hashes, (N, 32) bytes."""
Words = NDArray[np.uint64]

ROWS, COLUMNS = 16, 16
BITS = ROWS * COLUMNS
NEAR = 18
"""Bits of ``BITS`` by which two hashes of one picture differ at most.

Chosen by looking at pairs of 18,914 aligned faces of UTKFace, hashed as the model sees them: up to
18 bits the pairs looked at were one picture, scaled, compressed, toned or mirrored, and their
annotated race agreed in nine of ten; from 19 bits on, lookalikes come in and agreement falls.
"""


@dataclass(frozen=True)
class Pairs:
    """Pairs of images that are nearly the same picture, each once; arrays have shape (P,)."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: NDArray[np.int64]
    """Differing bits."""
    mirrored: NDArray[np.bool_]
    """Whether one shows the other with left and right exchanged."""

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: NDArray[Any]) -> Pairs:
        """The pairs at these positions, or where a mask is true."""
        return Pairs(self.first[rows], self.second[rows], self.distance[rows], self.mirrored[rows])

    def at(self, rows: NDArray[np.int64]) -> Pairs:
        """The same pairs, where image k of the pairs is image ``rows[k]`` of a larger set."""
        return Pairs(rows[self.first], rows[self.second], self.distance, self.mirrored)


def difference_hash(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What stays of a picture when it is scaled, compressed or made brighter, (32,) bytes.

    Each bit says whether a cell of a 16 x 17 reduction is darker than its right neighbor.

    Args:
        image: Gray (H, W) or RGB (H, W, 3), at least 17 pixels wide and 16 high for full detail.

    Source:
        Krawetz: Kind of Like That, 2013 (the "dHash"), with 16 rows of 16 comparisons.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    small = cv2.resize(grey, (COLUMNS + 1, ROWS), interpolation=cv2.INTER_AREA)
    return np.packbits(small[:, 1:] > small[:, :-1])


def picture_hashes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Difference hashes of a picture and of its mirror image, (2, 32) bytes."""
    mirrored = np.ascontiguousarray(image[:, ::-1])
    return np.stack([difference_hash(image), difference_hash(mirrored)])


def find_pairs(hashes: Hashes, mirrored: Hashes, near: int = NEAR) -> Pairs:
    """All pairs of pictures whose hashes differ in at most ``near`` bits, directly or mirrored.

    Of a pair that is found both ways, the closer one is kept. What it costs is told at
    ``find_candidates``.

    Args:
        hashes: Of the pictures, (N, 32).
        mirrored: Of their mirror images, (N, 32).
        near: Largest distance, in bits.
    """
    found = find_candidates(hashes, mirrored, near)
    order = np.lexsort((found.mirrored, found.distance, found.second, found.first))
    places = found.first[order] * np.int64(len(hashes)) + found.second[order]
    _, kept = np.unique(places, return_index=True)  # the closest of a pair's entries stands first
    return found.take(order[kept])


def find_candidates(hashes: Hashes, mirrored: Hashes, near: int, workers: int = 1) -> Pairs:
    """The same, where a pair that is near directly and mirrored is there twice.

    Up to ``BANDED`` bits the search is by bands and its cost grows with the images and their
    lookalikes; beyond, every picture is compared with every other, at a cost that grows with the
    square of their number.

    Args:
        hashes: Of the pictures, (N, 32).
        mirrored: Of their mirror images, (N, 32).
        near: Largest distance, in bits.
        workers: Threads that compare each with each.
    """
    both = []
    for others, flag in ((hashes, False), (mirrored, True)):
        start, end, distance = (
            _banded_pairs(hashes, others, near)
            if near <= BANDED
            else _compared_pairs(hashes, others, near, workers)
        )
        first, second = np.minimum(start, end), np.maximum(start, end)
        order = np.lexsort((distance, second, first))
        order = order[first[order] < second[order]]  # each pair from both sides, none with itself
        places = first[order] * np.int64(len(hashes)) + second[order]
        kept = order[np.unique(places, return_index=True)[1]]
        both.append((first[kept], second[kept], distance[kept], np.full(len(kept), flag)))
    return Pairs(*(np.concatenate(parts) for parts in zip(*both, strict=True)))


def _compared_pairs(
    left: Hashes, right: Hashes, near: int, workers: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Positions (left, right) of hashes that differ in at most ``near`` bits, and by how many.

    Each is compared with each, as four words of 64 bits: exclusive or, and a count of bits, which
    processors do in an instruction. Where both sides are the same, each pair may come from one side
    alone.
    """
    none = np.empty(0, np.int64)
    columns = np.ascontiguousarray(right.view(np.uint64).T)
    work = partial(_near_rows, left.view(np.uint64), columns, near, right is left)
    with closing(in_order(work, range(0, len(left), ROWS_AT_ONCE), workers)) as parts:
        found = [(none, none, none), *chain.from_iterable(parts)]
    first, second, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, distance


def _near_rows(
    left: Words, columns: Words, near: int, same: bool, top: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """The same of ``ROWS_AT_ONCE`` hashes on the left, (N, 4), with all on the right, (4, M)."""
    found = []
    for row in range(top, min(top + ROWS_AT_ONCE, len(left)), TILE[0]):
        rows = left[row : min(row + TILE[0], top + ROWS_AT_ONCE), :, None]
        for start in range(top if same else 0, columns.shape[1], TILE[1]):
            different = rows ^ columns[:, start : start + TILE[1]]
            distance = np.bitwise_count(different).sum(axis=1, dtype=np.uint16)
            places = np.flatnonzero(distance <= near)
            if len(places):
                first, second = np.divmod(places, distance.shape[1])
                bits = distance.ravel()[places].astype(np.int64)
                found.append((first + row, second + start, bits))
    return found


def _banded_pairs(
    left: Hashes, right: Hashes, near: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The same, found band by band.

    The bits are dealt to at least ``near // 2 + 1`` bands. Two hashes that differ in ``near`` bits
    differ in at most one bit of some band; looking up every band as it is and with each bit flipped
    therefore misses no such pair.
    """
    found: list[NDArray[np.int64]] = []
    count = np.int64(max(len(right), 1))
    words_left, words_right = left.view(np.uint64), right.view(np.uint64)
    bands = max(near // 2 + 1, 5)  # of at most 52 bits: each is one number
    for a, b in zip(_bands(left, bands), _bands(right, bands), strict=True):
        to_left, to_right = np.argsort(a, kind="stable"), np.argsort(b, kind="stable")
        a, known = a[to_left], np.unique(b, return_counts=True)
        for flip in (0, *(1 << bit for bit in range(-(-BITS // bands)))):
            for place, other in _equal(a ^ np.uint64(flip), *known):
                first, second = to_left[place], to_right[other]
                close = _distances(words_left[first], words_right[second]) <= near
                found.append(first[close] * count + second[close])
    pairs = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    first, second = pairs // count, pairs % count
    return first, second, _distances(words_left[first], words_right[second])


def _bands(hashes: Hashes, count: int) -> list[NDArray[np.uint64]]:
    """The bits of each band as one number per hash.

    Neighboring bits resemble each other, so a band takes bits from all over the picture.
    """
    bits = np.unpackbits(hashes, axis=1)[:, np.random.default_rng(0).permutation(BITS)]
    return [
        part.astype(np.uint64) @ (np.uint64(1) << np.arange(part.shape[1], dtype=np.uint64))
        for part in np.array_split(bits, count, axis=1)
    ]


def _equal(
    wanted: NDArray[np.uint64], known: NDArray[np.uint64], counts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All positions with equal numbers, about ``PAIRS_AT_ONCE`` at a time.

    Args:
        wanted: In any order; nearly sorted ones are found faster.
        known: The different numbers of a sorted list.
        counts: How often each stands in it.
    """
    found = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    rows = np.flatnonzero(known[found] == wanted)
    sizes = counts[found[rows]]
    begin = (np.cumsum(counts) - counts)[found[rows]]
    ends = np.cumsum(sizes)
    start = 0
    while start < len(rows):
        done = ends[start] - sizes[start]
        stop = max(int(np.searchsorted(ends, done + PAIRS_AT_ONCE, side="right")), start + 1)
        size = sizes[start:stop]
        within = np.arange(size.sum()) - np.repeat(ends[start:stop] - size - done, size)
        yield np.repeat(rows[start:stop], size), np.repeat(begin[start:stop], size) + within
        start = stop


def _distances(left: Words, right: Words) -> NDArray[np.int64]:
    """Differing bits of hashes, each as four words, (P, 4)."""
    return np.asarray(np.bitwise_count(left ^ right).sum(axis=-1), np.int64)


def exact_groups(sha256: Sequence[str]) -> NDArray[np.int64]:
    """Number of the group of byte-identical images that each belongs to, (N,)."""
    _, group = np.unique(np.asarray(sha256, dtype=str), return_inverse=True)
    return np.asarray(group, np.int64).reshape(-1)


def join_groups(groups: NDArray[np.int64], pairs: Pairs) -> NDArray[np.int64]:
    """Groups in which every pair is together, numbered by their first member, (N,).

    Args:
        groups: Number of the group of each image, such as those of ``exact_groups``.
        pairs: Of images that belong together.
    """
    count = len(groups)
    if not count:
        return groups
    _, first_of_group = np.unique(groups, return_index=True)
    representative = first_of_group[np.unique(groups, return_inverse=True)[1].reshape(-1)]
    start = np.concatenate([np.arange(count), pairs.first])
    end = np.concatenate([representative, pairs.second])
    edges = coo_array((np.ones(len(start), bool), (start, end)), shape=(count, count))
    _, found = connected_components(edges, directed=False)
    _, first, back = np.unique(found, return_index=True, return_inverse=True)
    return np.asarray(first[back.reshape(-1)], np.int64)


def conflicting_sets(groups: NDArray[np.int64], allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each image is in a group whose annotated classes exclude each other, (N,).

    Args:
        groups: Number of the group of each image, (N,).
        allowed: Classes that each annotation allows, (N, K); none where it is unknown.
    """
    if not len(groups):
        return np.zeros(0, bool)
    known = allowed | ~allowed.any(axis=1, keepdims=True)
    _, place = np.unique(groups, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    common = np.logical_and.reduceat(known[order], starts, axis=0)
    empty = np.asarray(~common.any(axis=1))
    return empty[place]


def conflicting_intervals(
    groups: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether each image is in a group whose annotated intervals have nothing in common, (N,).

    Args:
        groups: Number of the group of each image, (N,).
        low: First possible year (or code), (N,); negative where unknown.
        high: The last one, included.
    """
    _, place = np.unique(groups, return_inverse=True)
    count = int(place.max()) + 1 if len(place) else 0
    known = low >= 0
    latest = np.full(count, -1, np.int64)
    earliest = np.full(count, np.iinfo(np.int64).max)
    np.maximum.at(latest, place[known], low[known])
    np.minimum.at(earliest, place[known], high[known])
    return np.asarray((latest > earliest)[place], bool)
