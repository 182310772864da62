"""Images that a table has already, and whether they are still the ones that were scored.

Names are held as 128-bit hashes, 16 bytes each. Whether files and labels are the same is told by
sums of hashes per group (a part of the table); only where a sum differs, as after images were
deleted, the files of that group are read and compared by their SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from faceaudit.images.refs import ImageRef, read_bytes
from faceaudit.pipeline.digest import BYTES, ImageDigest, hash_of
from faceaudit.pipeline.table import is_first_row

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

    def __post_init__(self) -> None:
        pieces, owners = [], []
        for number, group in enumerate(self.groups):
            for table in group.tables():
                names = table.filter(is_first_row(table))["image"].to_pylist()
                pieces.append(b"".join(hash_of(name).to_bytes(BYTES, "little") for name in names))
                owners.append(np.full(len(names), number, np.int32))
        halves = np.frombuffer(b"".join(pieces), "<u8").reshape(-1, 2)
        order = np.argsort(halves[:, 1], kind="stable")
        self.low, self.high = halves[order, 0].copy(), halves[order, 1].copy()
        self.group = np.concatenate([np.empty(0, np.int32), *owners])[order]

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
    sums = [ImageDigest() for _ in known.groups]
    for one in listed():
        group = known.group_of(one.ref.name)
        if group is None:
            new += 1
        else:
            sums[group] += one.digest
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
            if (row := rows.get(one.ref.name)) is None:
                continue
            sha256, values = row
            if _sha256(one.ref) != sha256:
                files.append(one.ref.name)
            if values != one.digest.labels:
                labels.append(one.ref.name)
    return Comparison(new, gone, tuple(files), tuple(labels))


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
