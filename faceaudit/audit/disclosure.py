"""Which counts are kept back so that no small one follows from those that are shown.

A count belongs to a key, the set of features with their values that its faces or images share.
Counts of one kind make a table, in which a key is the sum of its finer keys. Small counts are kept
back, and with them those without which an attacker could work them out: for every small count a
shift of the table is found that keeps every sum, changes nothing that is shown, leaves no count
negative, and makes the small one large enough. What the shift changes is kept back as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, hstack

from faceaudit.schema import OK

Key = frozenset[tuple[str, str]]
Counts = Mapping[Key, int]
IMAGES = ("(images)", "")
"""Part of the keys of images. Names in brackets are of no feature."""
STATUS = "(status)"
"""In the keys of images with a status; every image has one."""
ADULT = "(adult)"
"""In the keys of faces of a known age; every one is an adult's or a minor's."""
PARTING = (STATUS, ADULT)
"""Names in brackets whose values part what they are told of, and so sum to it."""
UNSCORED = ("(unscored)", "")
"""Part of the keys of annotated images or faces without a prediction."""
TOLERANCE = 1e-6
DEAR = 8.0
"""How much dearer than others."""
UNDECIDED = 16.0
"""What a face that a small count lacks costs while many are made larger at once."""
MOST_KEYS, MOST_PROGRAMS = 6_000, 300
"""In larger tables, and after so many programs, whatever is of the same features as a small count
is kept back with it: more than need be, but at once."""


def hidden_keys(
    tables: Sequence[Counts], below: int, dear: frozenset[Key] = frozenset()
) -> frozenset[Key]:
    """Keys whose counts are not shown: the small ones, and those that would give them away.

    Tables that agree where they meet are taken as one, because an attacker may think so; of those
    that do not, the same keys are hidden. Then no linear reasoning from what is shown leads to a
    small count: other counts fit as well, of which it is ``below`` or more, or, where the whole
    has too few, another one. Keys of no feature, which everybody shares, are shown and never
    hidden, but for adults and minors. Costs one linear program and further ones for small counts
    that cannot be made large at once; their size grows with the keys. Beyond ``MOST_KEYS`` keys, or
    ``MOST_PROGRAMS`` programs, all keys of a small one's features are hidden.

    Args:
        tables: Counts by key; a key that is absent is known to be 0.
        below: Counts from 1 to below - 1 are small.
        dear: Keys to hide last, because much is lost with them.

    Source:
        Kelly, Golden and Assad: Cell suppression: disclosure protection for sensitive tabular data,
        Networks 22, 1992 (a small count is safe if a shift of hidden counts protects it).
    """
    merged: list[dict[Key, int]] = []
    for table in tables:
        for one in merged:
            if all(one[key] == table[key] for key in one.keys() & table.keys()):
                one.update(table)
                break
        else:
            merged.append(dict(table))
    hidden = {key for one in merged for key, n in one.items() if 0 < n < below and _can_hide(key)}
    for one in merged:
        hidden |= _Table(one, below, dear).protected(hidden)
    return frozenset(hidden | {of_images(key) for key in hidden if IMAGES in key})


def key_of(subgroup: Mapping[str, str], **more: str) -> Key | None:
    """The key of a subgroup, and of a class within it; None if no face can be in both.

    An annotated class is the same whether a subgroup is formed by it or a figure is of it.
    """
    parts = {name.removesuffix("_true"): value for name, value in subgroup.items()}
    if any(parts.get(name, value) != value for name, value in more.items()):
        return None
    return frozenset((parts | more).items())


def of_images(key: Key) -> Key:
    """The key of the images of which a status or the like is told."""
    return _plain(key) | {IMAGES}


def _plain(key: Key) -> Key:
    """The subgroup or class that a count is of."""
    return frozenset(part for part in key if not part[0].startswith("("))


def _can_hide(key: Key) -> bool:
    """Whether a key is of less than everybody; adults and minors are."""
    return any(name == ADULT or not name.startswith("(") for name, _ in key)


def _is_closed(key: Key, hidden: set[Key]) -> bool:
    """Whether a key is not shown, by itself or because what it is of is not."""
    of = {key, _plain(key)} | ({of_images(key)} if IMAGES in key else set())
    return not hidden.isdisjoint(of)


class _Table:
    """Counts of one kind with the sums that hold between them."""

    def __init__(self, counts: Counts, below: int, dear: frozenset[Key]) -> None:
        self.keys = list(counts)
        self.n = np.array([counts[key] for key in self.keys], np.float64)
        self.below = below
        self.programs = 0
        self.fixed = np.array([not _can_hide(key) for key in self.keys], bool)
        # The smaller a count, the sooner it is kept back; to keep back that there is none, last.
        self.weights = np.where(self.n > 0, 1 + np.log1p(self.n), 8.0)
        self.weights[[key in dear for key in self.keys]] *= DEAR

    def protected(self, hidden: set[Key]) -> set[Key]:
        """Keys that must be hidden besides those that are."""
        small = np.flatnonzero((self.n > 0) & (self.n < self.below) & ~self.fixed)
        if not len(small):
            return set()
        closed = np.array([_is_closed(key, hidden) for key in self.keys], bool) & ~self.fixed
        before = closed.copy()
        self.sums = self._sums()
        protected = ~np.isin(np.arange(len(self.n)), small)
        # Coarse ones first, as what is hidden for them then protects finer ones as well.
        by_names: dict[tuple[int, tuple[str, ...]], list[int]] = {}
        for place in small.tolist():
            names = tuple(sorted(name for name, _ in self.keys[place]))
            by_names.setdefault((len(names), names), []).append(place)
        for _, places in sorted(by_names.items()):
            found = self._affordable
            while found and len(left := [place for place in places if not protected[place]]):
                shift = self._shift(np.array(left), closed, soft=True)
                found = self._take(shift, closed, protected) and bool(protected[left].any())
                found &= self._affordable
            for place in (place for place in places if not protected[place]):
                if not self._affordable:
                    closed |= self._alike(place)
                    break
                alone = np.array([place])
                shift = self._shift(alone, closed)
                if shift is None:  # everybody has too few
                    shift = self._shift(alone, closed, down=True)
                if not self._take(shift, closed, protected):
                    closed |= self._alike(place)
        return {self.keys[place] for place in np.flatnonzero(closed & ~before)}

    @property
    def _affordable(self) -> bool:
        return len(self.keys) <= MOST_KEYS and self.programs < MOST_PROGRAMS

    def _alike(self, place: int) -> NDArray[np.bool_]:
        """All keys of images, or all of the same features: hidden where no shift is found."""
        of_faces = IMAGES not in self.keys[place]
        names = {name for name, _ in self.keys[place]}
        alike = [
            {name for name, _ in key} == names if of_faces else IMAGES in key for key in self.keys
        ]
        return np.asarray(np.array(alike, bool) & ~self.fixed)

    def _take(
        self,
        shift: NDArray[np.float64] | None,
        closed: NDArray[np.bool_],
        protected: NDArray[np.bool_],
    ) -> bool:
        """Hide what a shift changes, and note what it makes large; False if there is none."""
        if shift is None:
            return False
        closed |= np.abs(shift) > TOLERANCE
        protected |= self.n + shift >= self.below - TOLERANCE
        return True

    def _shift(
        self,
        small: NDArray[np.int64],
        closed: NDArray[np.bool_],
        soft: bool = False,
        down: bool = False,
    ) -> NDArray[np.float64] | None:
        """The cheapest shift that makes all small counts large, or, ``down``, smaller by one.

        Soft, a count may stay small at a price. None where no shift does.
        """
        self.programs += 1
        size, few = len(self.n), len(small)
        movable = ~self.fixed
        costs = np.where(closed, 1e-4, self.weights)
        # Prices differ, so that counts that cannot all be large are made so one by one.
        prices = UNDECIDED * (1 + np.arange(few) / max(few, 1)) if soft else np.zeros(0)
        missing = np.full(few, 1.0) if down else self.below - self.n[small]
        one = coo_array((np.ones(few), (np.arange(few), small)), shape=(few, size))
        grow = [one, -one] if down else [-one, one]
        parts = [*grow, coo_array(-np.eye(few))] if soft else grow
        equal = [self.sums, -self.sums]
        if soft:
            equal.append(csr_array((self.sums.shape[0], few)))
        upper = np.concatenate(
            [
                np.where(movable, np.inf, 0.0),
                np.where(movable, self.n, 0.0),
                np.full(len(prices), np.inf),
            ]
        )
        found = linprog(
            np.concatenate([costs, costs, prices]),
            A_ub=hstack(parts, format="csr"),
            b_ub=-missing,
            A_eq=hstack(equal, format="csr") if self.sums.shape[0] else None,
            b_eq=np.zeros(self.sums.shape[0]) if self.sums.shape[0] else None,
            bounds=np.stack([np.zeros(len(upper)), upper], axis=-1),
            method="highs",
        )
        if found.x is None:
            return None
        return np.asarray(found.x[:size] - found.x[size : 2 * size])

    def _sums(self) -> csr_array:
        """A row for every sum that holds: a key minus its parts, as counts of the keys."""
        entries = [
            (row, place, value)
            for row, (whole, parts) in enumerate([*self._families(), *self._images()])
            for place, value in [(whole, -1.0), *((part, 1.0) for part in parts)]
        ]
        rows, places, values = zip(*entries, strict=True) if entries else ((), (), ())
        shape = (rows[-1] + 1 if rows else 0, len(self.keys))
        return csr_array(coo_array((values, (rows, places)), shape=shape, dtype=np.float64))

    def _images(self) -> Iterator[tuple[int, list[int]]]:
        """Images are scored or not, and scored ones are faces, wherever the counts say so."""
        at = {key: place for place, key in enumerate(self.keys)}
        for key, place in at.items():
            parts = [at.get(_plain(key)), at.get(key | {UNSCORED})]
            scored = at.get(key | {(STATUS, OK)})
            if key != of_images(key) or parts[0] is None:
                continue
            if parts[1] is not None and self.n[place] == self.n[parts[0]] + self.n[parts[1]]:
                yield place, [parts[0], parts[1]]
            if scored is not None and self.n[scored] == self.n[parts[0]]:
                yield scored, [parts[0]]

    def _families(self) -> Iterator[tuple[int, list[int]]]:
        """Every key with its finer keys of one set of features."""
        by_names: dict[frozenset[str], list[int]] = {}
        for place, key in enumerate(self.keys):
            by_names.setdefault(frozenset(name for name, _ in key), []).append(place)
        for coarse, fine in permutations(by_names, 2):
            more = fine - coarse
            if not coarse < fine or any(name[0] == "(" and name not in PARTING for name in more):
                continue
            children: dict[Key, list[int]] = {}
            for place in by_names[fine]:
                rest = frozenset(part for part in self.keys[place] if part[0] in coarse)
                children.setdefault(rest, []).append(place)
            for place in by_names[coarse]:
                if self.keys[place] in children:
                    yield place, children[self.keys[place]]
