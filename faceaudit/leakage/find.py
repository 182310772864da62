"""Which images of several sets are one picture, and what that does to the sets."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.leakage.conflicts import AgeLabels, Labels, labels_of
from faceaudit.leakage.duplicates import Pairs, find_candidates, join_groups
from faceaudit.leakage.prints import Prints, by_bytes_alone, joined, take_prints
from faceaudit.leakage.sets import ImageSet
from faceaudit.leakage.verify import SIMILAR, similarities
from faceaudit.ordered import available_cores
from faceaudit.progress import progress

log = logging.getLogger(__name__)

MAX_PIXELS = 100_000_000
CANDIDATE = 40
"""Bits by which the hashes of one picture differ at most, before the pixels are compared.

A crop of 5 % changes about 31 bits; of two different faces of UTKFace, one pair in 50,000 is as
near as 40.
"""
EXACT, NEAR = "exact", "near"
FAR_AGES = 5
"""Years; a larger gap between the annotated ages of one picture is told apart."""


@dataclass(frozen=True)
class SetFacts:
    """What was found in one set."""

    name: str
    images: int
    unreadable: int
    """Images that could not be read, or hold no bytes: they are compared with nothing."""
    bytes_alone: int
    """Images that were compared by their bytes alone: without pixels, damaged or blank."""
    repeated: int
    """Images that show a picture which another image of the set shows, too."""
    leaked: int
    """Images that show a picture which another set shows, too."""
    labels: str | None


@dataclass(frozen=True)
class Overlap:
    """Images of one set whose picture is in another one."""

    of: str
    other: str
    images: int
    exact: int
    """Those of them with a byte-identical image in the other set."""


@dataclass(frozen=True)
class Conflict:
    """Pictures that are annotated in ways that exclude each other."""

    task: str
    groups: int
    """Pictures with several images, at least two of them annotated."""
    conflicting: int
    """Those of them whose annotations exclude each other."""
    exact: int
    """Those of them with byte-identical images whose annotations exclude each other."""
    images: int
    """Images in the conflicting groups."""
    far: int | None = None
    """Of ages: those whose annotations are more than ``FAR_AGES`` years apart."""


@dataclass(frozen=True, eq=False)
class Leaks:
    """Everything that was found."""

    sets: tuple[SetFacts, ...]
    pairs: pl.DataFrame
    """One row per pair; ``docs/leaks.md`` describes its columns."""
    groups: int
    """Pictures that several images show."""
    sizes: Mapping[int, int]
    """Images per picture -> pictures, from 2 on."""
    overlaps: tuple[Overlap, ...]
    conflicts: tuple[Conflict, ...]
    conflicting: int
    """Pictures whose annotations exclude each other in any task, each counted once."""
    candidates: int
    """Pairs whose pixels were compared."""
    errors: tuple[tuple[str, str, str], ...]
    """Set, image and reason, of the first images that could not be read."""
    notes: tuple[str, ...]

    def count(self, kind: str) -> int:
        """Pairs of a kind."""
        return int((self.pairs["kind"] == kind).sum())

    @property
    def leaked(self) -> int:
        """Images whose picture is in several sets."""
        return sum(one.leaked for one in self.sets)


def find_leaks(
    sets: Sequence[ImageSet],
    *,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    quiet: bool = True,
) -> Leaks:
    """Search sets of images for pictures that several images show.

    Every image is read once; hashes are compared each with each, and the pixels of those that are
    near. The cost is linear in the images for reading and grows with their square for comparing.

    Args:
        sets: As ``read_sets`` returns them.
        max_pixels: An image with more is compared by its bytes alone.
        workers: Threads; None is one per core.
        quiet: Show no progress.
    """
    threads = workers or available_cores()
    prints, unopened = _prints(sets, max_pixels, threads, quiet)
    exact = _exact_groups(prints)
    near = _near_pairs(prints, exact, threads)
    groups = join_groups(exact, near.pairs)
    place = np.repeat(np.arange(len(sets)), [len(one.images) for one in sets])
    labels, notes = labels_of(sets)
    present = _presence(groups, place, len(sets))
    return Leaks(
        sets=tuple(_set_facts(sets, prints, groups, place, present)),
        pairs=_table(sets, prints, exact, near, groups, place, present, labels),
        groups=int((np.bincount(groups, minlength=1) > 1).sum()) if len(groups) else 0,
        sizes=_sizes(groups),
        overlaps=tuple(_overlaps(sets, exact, groups, place)),
        conflicts=tuple(_conflicts(labels, exact, groups)),
        conflicting=_conflicting(labels, groups),
        candidates=near.candidates,
        errors=tuple(_errors(sets, prints, place)),
        notes=(*(note for one in sets for note in one.notes), *unopened, *notes),
    )


# --- the search -------------------------------------------------------------------------------


def _prints(
    sets: Sequence[ImageSet], max_pixels: int, workers: int, quiet: bool
) -> tuple[Prints, list[str]]:
    """What is kept of all images, and notes of those that only a table's hash is known of."""
    parts, notes = [], []
    total = sum(len(one.refs) for one in sets if one.refs is not None)
    with progress("read", total, quiet=quiet) as advance:
        for one in sets:
            if one.refs is None:
                parts.append(by_bytes_alone(one.sha256 or ()))
                continue
            found = take_prints(
                one.refs, one.view, max_pixels=max_pixels, workers=workers, advance=advance
            )
            if one.sha256 is not None:  # of the images that crops were cut from
                both = zip(one.sha256, found.sha256.tolist(), strict=True)
                found.sha256[:] = [known or own for known, own in both]
            if one.recorded is not None and (missing := found.take_recorded(one.recorded)):
                notes.append(
                    f"{one.name}: {missing:,} of its images could not be opened, and are compared "
                    "by the sha256 of the table alone"
                )
            parts.append(found)
    return parts[0] if len(parts) == 1 else joined(parts), notes


def _exact_groups(prints: Prints) -> NDArray[np.int64]:
    """First image with the same bytes as each, (N,)."""
    keys: dict[str, int] = {}
    return np.asarray(
        [
            row if digest is None else keys.setdefault(digest, row)
            for row, digest in enumerate(prints.sha256.tolist())
        ],
        np.int64,
    )


@dataclass(frozen=True)
class NearPairs:
    """Pairs of pictures that are one, each once."""

    pairs: Pairs
    similarity: NDArray[np.float64]
    """Correlation of each pair after alignment, (P,)."""
    candidates: int
    """Pairs whose pixels were compared."""


def _near_pairs(prints: Prints, exact: NDArray[np.int64], workers: int) -> NearPairs:
    """Pairs of pictures that are one; of byte-identical images the first is compared."""
    rows = np.flatnonzero(prints.comparable & (exact == np.arange(len(exact))))
    found = find_candidates(prints.hashes[rows], prints.mirrored[rows], CANDIDATE, workers)
    found = found.at(rows)
    log.info("compared hashes: the pixels of %s pairs are next", f"{len(found):,}")
    agreement = similarities(prints.pictures, found, workers)
    order = np.lexsort((found.mirrored, -agreement, found.second, found.first))
    order = order[agreement[order] >= SIMILAR]
    places = found.first[order] * np.int64(len(exact)) + found.second[order]
    kept = order[np.unique(places, return_index=True)[1]]
    return NearPairs(found.take(kept), agreement[kept], len(found))


# --- what it comes to -------------------------------------------------------------------------


def _presence(groups: NDArray[np.int64], place: NDArray[np.int64], sets: int) -> NDArray[np.int64]:
    """Images of each set in the group of each image, (N, S)."""
    _, number = np.unique(groups, return_inverse=True)
    counts = np.zeros((int(number.max(initial=-1)) + 1, sets), np.int64)
    np.add.at(counts, (number, place), 1)
    return counts[number]


def _set_facts(
    sets: Sequence[ImageSet],
    prints: Prints,
    groups: NDArray[np.int64],
    place: NDArray[np.int64],
    present: NDArray[np.int64],
) -> Sequence[SetFacts]:
    unread = prints.unread
    leaked = (present > 0).sum(axis=1) > 1
    found = []
    for number, one in enumerate(sets):
        own = place == number
        found.append(
            SetFacts(
                name=one.name,
                images=len(one.images),
                unreadable=int((own & unread).sum()),
                bytes_alone=int((own & ~unread & ~prints.comparable).sum()),
                repeated=int((own & (present[:, number] > 1)).sum()),
                leaked=int((own & leaked).sum()),
                labels=one.labels,
            )
        )
    return found


def _overlaps(
    sets: Sequence[ImageSet],
    exact: NDArray[np.int64],
    groups: NDArray[np.int64],
    place: NDArray[np.int64],
) -> Sequence[Overlap]:
    by_picture, by_bytes = (_presence(one, place, len(sets)) for one in (groups, exact))
    return [
        Overlap(
            sets[of].name,
            sets[other].name,
            int((by_picture[place == of, other] > 0).sum()),
            int((by_bytes[place == of, other] > 0).sum()),
        )
        for of in range(len(sets))
        for other in range(len(sets))
        if of != other
    ]


def _sizes(groups: NDArray[np.int64]) -> dict[int, int]:
    members = np.unique(groups, return_counts=True)[1]
    sizes, counts = np.unique(members[members > 1], return_counts=True)
    return dict(zip(sizes.tolist(), counts.tolist(), strict=True))


def _conflicts(
    labels: Mapping[str, Labels], exact: NDArray[np.int64], groups: NDArray[np.int64]
) -> Sequence[Conflict]:
    found = []
    for name, given in labels.items():
        annotated = np.unique(groups[given.known], return_counts=True)[1]
        wrong = given.in_groups(groups)
        found.append(
            Conflict(
                task=name,
                groups=int((annotated > 1).sum()),
                conflicting=_pictures(groups, wrong),
                exact=_pictures(groups, given.in_groups(exact)),
                images=int(wrong.sum()),
                far=_pictures(groups, given.in_groups(groups, within=FAR_AGES))
                if isinstance(given, AgeLabels)
                else None,
            )
        )
    return found


def _conflicting(labels: Mapping[str, Labels], groups: NDArray[np.int64]) -> int:
    """Pictures whose annotations of any task exclude each other."""
    wrong = np.zeros(len(groups), bool)
    for given in labels.values():
        wrong |= given.in_groups(groups)
    return _pictures(groups, wrong)


def _pictures(groups: NDArray[np.int64], rows: NDArray[np.bool_]) -> int:
    """Groups among some images."""
    return len(np.unique(groups[rows]))


def _errors(
    sets: Sequence[ImageSet], prints: Prints, place: NDArray[np.int64], most: int = 20
) -> Sequence[tuple[str, str, str]]:
    unread = np.flatnonzero(prints.unread)[:most]
    starts = np.concatenate([[0], np.cumsum([len(one.images) for one in sets])])
    found = []
    for row in unread:
        one = sets[place[row]]
        name = one.images[row - starts[place[row]]]
        found.append((one.name, name, prints.error[row] or "no bytes"))
    return found


def _table(
    sets: Sequence[ImageSet],
    prints: Prints,
    exact: NDArray[np.int64],
    near: NearPairs,
    groups: NDArray[np.int64],
    place: NDArray[np.int64],
    present: NDArray[np.int64],
    labels: Mapping[str, Labels],
) -> pl.DataFrame:
    """All pairs, by group; each image of a byte-identical group is paired with the first of it."""
    copies = np.flatnonzero(exact != np.arange(len(exact)))
    first = np.concatenate([exact[copies], near.pairs.first])
    second = np.concatenate([copies, near.pairs.second])
    is_exact = np.arange(len(first)) < len(copies)
    names = pl.Series("name", [name for one in sets for name in one.images], dtype=pl.String)
    split = pl.Series("split", [one.name for one in sets], dtype=pl.String)
    ends = {"first": first, "second": second}
    digests = {
        f"{end}_{name}": pl.Series(getattr(prints, name).tolist(), dtype=pl.String).gather(rows)
        for name in ("sha256", "file_sha256")
        for end, rows in ends.items()
    }
    none = np.zeros(len(copies))
    columns = {
        "group": groups[first],
        "first": names.gather(first),
        "second": names.gather(second),
        "first_split": split.gather(place[first]),
        "second_split": split.gather(place[second]),
        "kind": np.where(is_exact, EXACT, NEAR).astype(object).tolist(),
        "distance": np.concatenate([none.astype(np.int64), near.pairs.distance]),
        "similarity": np.concatenate([none + 1, near.similarity]),
        "mirrored": np.concatenate([none.astype(bool), near.pairs.mirrored]),
        "across": place[first] != place[second],
        "leak": (present[first] > 0).sum(axis=1) > 1,
    }
    table = pl.DataFrame(columns, schema_overrides={"kind": pl.String})
    for name, given in labels.items():
        known, conflict = given.in_pairs(first, second)
        flags = pl.Series(f"{name}_conflict", conflict)
        table = table.with_columns(pl.when(pl.Series(known)).then(flags).alias(flags.name))
        if isinstance(given, AgeLabels):
            gaps = pl.Series("age_gap", given.gaps(first, second))
            table = table.with_columns(pl.when(pl.Series(known)).then(gaps).alias(gaps.name))
    return table.with_columns(**digests).sort(
        "group", "kind", "first", "second", maintain_order=True
    )
