"""Images that a table has already, and whether they are still the ones that were scored.

Names are held as 128-bit hashes, 16 bytes each. Whether files and labels are the same is told by
sums of hashes per group (a part of the table); only where a sum differs, as after images were
deleted, the files of that group are read and compared by their SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from faceaudit.images.refs import ImageRef, read_bytes
from faceaudit.pipeline.digest import BYTES, ImageDigest, hash_of
from faceaudit.pipeline.table import is_first_row, is_never_read

HALF = 1 << 64


@dataclass(frozen=True)
class Group:
    """Rows that one digest stands for."""

    digest: ImageDigest
    tables: Callable[[], Iterable[pa.Table]]
    """Gives the rows, again at each call."""


@dataclass
class Known:
    """The names of all images in groups of rows."""

    groups: Sequence[Group]
    high: NDArray[np.uint64] = field(init=False)
    low: NDArray[np.uint64] = field(init=False)
    group: NDArray[np.int32] = field(init=False)
    never_read: set[str] = field(init=False, default_factory=set)
    """Names of images whose bytes could not be read when their last row was made."""
    had_unread: bool = field(init=False, default=False)
    """Whether there is any such row, be there a later one of its image or not."""

    def __post_init__(self) -> None:
        pieces, owners = [], []
        for number, group in enumerate(self.groups):
            for table in group.tables():
                first = table.filter(is_first_row(table))
                names = first["image"].to_pylist()
                self._note_unread(names, is_never_read(first).to_pylist())
                pieces.append(b"".join(hash_of(name).to_bytes(BYTES, "little") for name in names))
                owners.append(np.full(len(names), number, np.int32))
        halves = np.frombuffer(b"".join(pieces), "<u8").reshape(-1, 2)
        order = np.argsort(halves[:, 1], kind="stable")
        low, high = halves[order, 0], halves[order, 1]
        same = (low[1:] == low[:-1]) & (high[1:] == high[:-1])
        last = np.append(~same, True)[: len(high)]  # of an image that was scored again
        self.low, self.high = low[last], high[last]
        self.group = np.concatenate([np.empty(0, np.int32), *owners])[order][last]

    def _note_unread(self, names: Sequence[str], unread: Sequence[bool]) -> None:
        for name, is_unread in zip(names, unread, strict=True):
            if is_unread:
                self.never_read.add(name)
                self.had_unread = True
            else:
                self.never_read.discard(name)

    def __len__(self) -> int:
        return len(self.high)

    def group_of(self, name: str) -> int | None:
        """The number of the group that has an image; None where none has."""
        high, low = divmod(hash_of(name), HALF)
        place = int(np.searchsorted(self.high, np.uint64(high)))
        while place < len(self.high) and self.high[place] == high:
            if self.low[place] == low:
                return int(self.group[place])
            place += 1
        return None


@dataclass(frozen=True)
class Comparison:
    """How the images of a source stand to those of a table."""

    new: int
    """Images of the source that the table lacks."""
    gone: int
    """Images of the table that the source lacks."""
    changed_files: tuple[str, ...]
    changed_labels: tuple[str, ...]
    readable: frozenset[str]
    """Images of the table whose bytes could not be read when it was made, and can be now."""
    same: ImageDigest
    """Of the other images that both have."""
    verified: Mapping[int, ImageDigest]
    """Groups whose digest differed although their images are the same, and what it is now."""


@dataclass(frozen=True)
class Listed:
    """An image of the source with its digest and the values beside it."""

    ref: ImageRef
    digest: ImageDigest


def compare(
    known: Known, listed: Callable[[], Iterable[Listed]], columns: Sequence[str]
) -> Comparison:
    """Compare the images of a source with those of a table.

    Args:
        known: The images of the table.
        listed: Gives the images of the source; called again only where the digest of a group
            differs.
        columns: The columns of labels and carried values, in the order of the digests.
    """
    new = 0
    readable: set[str] = set()
    same = ImageDigest()
    sums = [ImageDigest() for _ in known.groups]
    for one in listed():
        group = known.group_of(one.ref.name)
        if group is None:
            new += 1
        else:
            sums[group] += one.digest
            if one.ref.name in known.never_read and _sha256(one.ref) is not None:
                readable.add(one.ref.name)
            else:
                same += one.digest
    gone = len(known) - sum(found.images for found in sums)
    suspect = {
        number
        for number, (found, group) in enumerate(zip(sums, known.groups, strict=True))
        if found != group.digest
    }
    files: list[str] = []
    labels: list[str] = []
    for number in sorted(suspect):
        rows = _facts_by_name(known.groups[number].tables(), columns)
        for one in listed():
            name = one.ref.name
            if name in readable or name not in rows or known.group_of(name) != number:
                continue
            sha256, values = rows[name]
            if _sha256(one.ref) != sha256:
                files.append(name)
            if values != one.digest.labels:
                labels.append(name)
    verified = (
        {}
        if files or labels or readable
        else {
            number: sums[number]
            for number in suspect
            if sums[number].images == known.groups[number].digest.images
        }
    )
    return Comparison(new, gone, tuple(files), tuple(labels), frozenset(readable), same, verified)


def _facts_by_name(
    tables: Iterable[pa.Table], columns: Sequence[str]
) -> dict[str, tuple[str | None, int]]:
    """SHA-256 of each image's file, and the hash of its name and values."""
    facts: dict[str, tuple[str | None, int]] = {}
    for table in tables:
        first = table.filter(is_first_row(table))
        values = (first[name].to_pylist() for name in ("image", "sha256", *columns))
        for name, sha256, *further in zip(*values, strict=True):
            facts[name] = sha256, hash_of(name, *further)
    return facts


def _sha256(ref: ImageRef) -> str | None:
    try:
        return hashlib.sha256(read_bytes(ref)).hexdigest()
    except OSError:
        return None
