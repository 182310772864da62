"""A table under construction: parts that are finished, and segments of the part that is not.

A run gives rows in the order of the images, some images at a time. Each time they are kept at once
as a small file, a *segment*; when the segments hold enough rows they become a *part*. A manifest
says which parts there are and of which images they were made. Killed at any moment, a run finds
everything that was kept, and every step leaves a state that is read correctly:

    segment written and renamed ─► part written and renamed ─► manifest renamed ─► segments removed

A segment's name says which images it holds, counted from the first of the table, and a checksum of
its bytes; what lies in a part already is passed over, and what is damaged is scored again.
"""

from __future__ import annotations

import io
import re
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from faceaudit.pipeline.digest import PACKED, ImageDigest, pack, total, unpack
from faceaudit.pipeline.manifest import Manifest, Part, unreadable, write_manifest
from faceaudit.pipeline.table import in_row_groups, is_first_row, open_table
from faceaudit.schema import MANIFEST_FILE
from faceaudit.storage import (
    PARTS,
    arrow_file,
    atomic_write,
    is_remote,
    list_parts,
    make_folder,
    never_lost,
    remove,
    remove_unfinished,
)

SEGMENTS = ".segments"
DIGESTS_KEY = b"digests"
STORE_SECONDS = 5.0
"""How long rows are held before they are sent to an object store, which takes its time."""
_PART = re.compile(r"part-(\d+)")
_SEGMENT = re.compile(r"(\d+)-(\d+)-([0-9a-f]{8})\.arrow")


def tables_in(path: Path) -> Iterator[pa.Table]:
    """The rows of a file of the table, in tables of moderate size.

    Raises:
        InputError: If it is missing, damaged, or cannot be read.
    """
    try:
        with pq.ParquetFile(arrow_file(path)) as file:
            for batch in file.iter_batches():
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None)
    except (pa.ArrowInvalid, OSError) as error:
        raise unreadable(path, error) from error


def write_part(
    folder: Path,
    file: str,
    schema: pa.Schema,
    tables: Iterator[pa.Table],
    still_mine: Callable[[], None] = never_lost,
) -> Part:
    """Write rows as a part; of what it holds all is told but its digest."""
    statuses: Counter[str] = Counter()
    rows = faces = 0
    with open_table(folder / file, schema) as writer:
        for table in in_row_groups(tables, schema):
            statuses.update(table.filter(is_first_row(table))["status"].to_pylist())
            rows += len(table)
            faces += len(table) - table["face"].null_count
            writer.write_table(table)
        still_mine()
    return Part(file, rows, faces, dict(sorted(statuses.items())), ImageDigest())


def segments_in(folder: Path) -> Iterator[pa.Table]:
    """The rows that are kept in a folder and in no part yet; some may be in a part by now."""
    for path, _, _, checksum in _listed(folder / SEGMENTS):
        if not _is_damaged(path, checksum):
            yield _read(path)


def columns_in(folder: Path, manifest: Manifest) -> pa.Schema | None:
    """The columns of the rows that a run left; None where it left none that can be read."""
    for part in manifest.parts:
        path = folder / part.file
        try:
            return pq.read_schema(arrow_file(path))
        except (pa.ArrowInvalid, OSError) as error:
            raise unreadable(path, error) from error
    for path, _, _, checksum in _listed(folder / SEGMENTS):
        if not _is_damaged(path, checksum):
            return _read(path).schema
    return None


@dataclass(frozen=True)
class Segment:
    """Rows of consecutive images that are kept but in no part yet."""

    path: Path
    first: int
    """Position of its first image in the table."""
    end: int
    """Position after its last image."""
    packed: bytes
    """The digests of its images."""

    def digests(self, start: int, end: int) -> list[ImageDigest]:
        """Digests of its images that lie between these positions."""
        return unpack(self.packed)[max(0, start - self.first) : max(0, end - self.first)]


@dataclass
class DataSet:
    """A folder of parts that grows; held by one run at a time (``storage.exclusive``)."""

    folder: Path
    schema: pa.Schema
    part_rows: int
    manifest: Manifest
    still_mine: Callable[[], None] = never_lost
    """Raises an error where the lock was lost; called before every change."""
    segments: list[Segment] = field(default_factory=list)
    open_rows: int = 0
    """Rows that are kept and in no part yet."""
    _held: list[tuple[pa.Table, Sequence[ImageDigest]]] = field(default_factory=list)
    _held_since: float = 0.0

    @classmethod
    def start(
        cls,
        folder: Path,
        schema: pa.Schema,
        part_rows: int,
        manifest: Manifest,
        still_mine: Callable[[], None] = never_lost,
    ) -> DataSet:
        """An empty one; the folder is created, and emptied of parts and segments of another."""
        found = cls(folder, schema, part_rows, manifest, still_mine)
        still_mine()
        remove(folder / SEGMENTS)
        found._make_segments()
        found._write_manifest()
        found._remove_other_parts()
        return found

    @classmethod
    def resume(
        cls,
        folder: Path,
        schema: pa.Schema,
        part_rows: int,
        manifest: Manifest,
        still_mine: Callable[[], None] = never_lost,
    ) -> DataSet:
        """One that a run left, with every segment that follows on the parts without a gap."""
        found = cls(folder, schema, part_rows, manifest, still_mine)
        still_mine()
        if not manifest.complete:
            found._make_segments()
        end = manifest.images
        for path, first, after, checksum in _listed(folder / SEGMENTS):
            fits = first <= end < after and not _is_damaged(path, checksum)
            if fits:
                packed = _read(path).schema.metadata[DIGESTS_KEY]
                found.segments.append(Segment(path, first, after, packed))
                end = after
            elif after > end:
                break
        found.open_rows = sum(map(len, found.open_tables()))
        kept = {segment.path.name for segment in found.segments}
        for path, *_ in _listed(folder / SEGMENTS):
            if path.name not in kept:
                path.unlink(missing_ok=True)
        return found

    def _make_segments(self) -> None:
        if not is_remote(self.folder):  # where no folder need be made
            make_folder(self.folder / SEGMENTS)

    @property
    def images(self) -> int:
        """Images whose rows are kept."""
        return self.segments[-1].end if self.segments else self.manifest.images

    @property
    def is_empty(self) -> bool:
        """Whether no row is kept."""
        return not self.segments and not self.manifest.parts

    def add(self, table: pa.Table, digests: Sequence[ImageDigest]) -> None:
        """Keep the rows of the next images: at once on a disk, soon on an object store.

        Args:
            table: Their rows, in order.
            digests: One per image.

        Raises:
            TemporaryError: If the disk is full, or the lock was lost.
        """
        if not self._held:
            self._held_since = time.monotonic()
        self._held.append((table, digests))
        if not is_remote(self.folder) or time.monotonic() - self._held_since > STORE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Keep what is only held, and make parts of rows that suffice for them."""
        if not self._held:
            return
        tables, digests = zip(*self._held, strict=True)
        self._held = []
        self._keep(pa.concat_tables(tables), pack(list(chain.from_iterable(digests))))
        while self.open_rows >= self.part_rows:
            self._cut(self.part_rows)

    def _keep(self, table: pa.Table, packed: bytes) -> None:
        """Write a segment."""
        first, end = self.images, self.images + len(packed) // PACKED
        table = table.replace_schema_metadata({DIGESTS_KEY: packed})
        data = io.BytesIO()
        with pa.ipc.new_file(data, table.schema) as writer:
            writer.write_table(table)
        value = data.getvalue()
        name = f"{first:012d}-{end:012d}-{zlib.crc32(value):08x}.arrow"
        path = self.folder / SEGMENTS / name
        self.still_mine()
        with atomic_write(path, durable=False) as file:
            file.write(value)
        self.segments.append(Segment(path, first, end, packed))
        self.open_rows += len(table)

    def open_tables(self) -> Iterator[pa.Table]:
        """Rows that are in no part yet, a table per segment."""
        for segment in self.segments:
            table = _read(segment.path).cast(self.schema).replace_schema_metadata(None)
            skipped = self.manifest.images - segment.first
            if skipped > 0:
                table = table.slice(_row_of_image(table, skipped))
            yield table

    def _cut(self, wanted: int) -> None:
        """Make a part of the open rows up to the image with which there are as many as wanted."""
        part = write_part(
            self.folder, self._next_file(), self.schema, self._up_to(wanted), self.still_mine
        )
        start = self.manifest.images
        digest = self._digest(start, start + sum(part.statuses.values()))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        part = replace(part, digest=digest, written=now)
        self.manifest = replace(self.manifest, parts=(*self.manifest.parts, part))
        self._write_manifest()
        self.open_rows -= part.rows
        done = [segment for segment in self.segments if segment.end <= self.manifest.images]
        self.segments = self.segments[len(done) :]
        for segment in done:
            segment.path.unlink(missing_ok=True)

    def _next_file(self) -> str:
        """A name that sorts after those of all parts."""
        last = max((int(_PART.findall(part.file)[0]) for part in self.manifest.parts), default=-1)
        return f"part-{last + 1:05d}.parquet"

    def _up_to(self, wanted: int) -> Iterator[pa.Table]:
        """The open rows up to the image with which there are as many as wanted."""
        for table in self.open_tables():
            ends = np.append(_starts(table)[1:], len(table))
            enough = np.flatnonzero(ends >= wanted)
            if len(enough):
                yield table.slice(0, int(ends[enough[0]]))
                return
            yield table
            wanted -= len(table)

    def _digest(self, start: int, end: int) -> ImageDigest:
        """Of the open images between these positions."""
        return total(digest for one in self.segments for digest in one.digests(start, end))

    def _write_manifest(self) -> None:
        write_manifest(self.folder, self.manifest, self.still_mine)

    def tables(self) -> Iterator[pa.Table]:
        """All rows that are kept in order, in tables of moderate size."""
        for part in self.manifest.parts:
            yield from tables_in(self.folder / part.file)
        yield from self.open_tables()

    def digest(self) -> ImageDigest:
        """Of all images whose rows are kept."""
        return total(part.digest for part in self.manifest.parts) + self.open_digest()

    def open_digest(self) -> ImageDigest:
        """Of the images that are in no part yet."""
        return self._digest(self.manifest.images, self.images)

    def note(self, digests: Mapping[int, ImageDigest]) -> None:
        """Remember the digests of parts, by their number."""
        parts = tuple(
            replace(part, digest=digests.get(number, part.digest))
            for number, part in enumerate(self.manifest.parts)
        )
        self.manifest = replace(self.manifest, parts=parts)
        self._write_manifest()

    def mark_as_becoming(self, digest: ImageDigest) -> None:
        """Say in the manifest that a file of these images is being made of the parts."""
        self.manifest = replace(self.manifest, becomes=digest)
        self._write_manifest()

    def finish(self, notes: Sequence[str] = ()) -> None:
        """Make the last part and say in the manifest that the table is complete."""
        if self.segments or not self.manifest.parts:
            self._cut(max(1, self.open_rows))
        self.manifest = replace(self.manifest, complete=True, replaces=False, notes=tuple(notes))
        self._write_manifest()
        self.still_mine()
        remove(self.folder / SEGMENTS)
        self._remove_other_parts()

    def _remove_other_parts(self) -> None:
        """Remove parts that the manifest does not name: of a run that was killed or replaced.

        Also what killed runs had written of parts and manifest.
        """
        remove_unfinished(self.folder, PARTS)
        remove_unfinished(self.folder, MANIFEST_FILE)
        named = {part.file for part in self.manifest.parts}
        for path in list_parts(self.folder):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def reopen(self) -> None:
        """Say in the manifest that rows are being added."""
        if self.manifest.complete:
            self._make_segments()
            self.manifest = replace(self.manifest, complete=False)
            self._write_manifest()


def _row_of_image(table: pa.Table, position: int) -> int:
    """The row at which the image at a position begins; the number of rows after the last."""
    starts = _starts(table)
    return int(starts[position]) if position < len(starts) else len(table)


def _starts(table: pa.Table) -> NDArray[np.intp]:
    """Rows at which an image begins."""
    return np.flatnonzero(is_first_row(table).to_numpy())


def _listed(folder: Path) -> list[tuple[Path, int, int, str]]:
    """Segments with their first and last image and checksum, by their first image."""
    try:
        named = [(path, _SEGMENT.fullmatch(path.name)) for path in folder.iterdir()]
    except FileNotFoundError:  # an object store keeps no empty folder
        return []
    found = [(path, int(at[1]), int(at[2]), at[3]) for path, at in named if at]
    return sorted(found, key=lambda segment: (segment[1], -segment[2]))


def _is_damaged(path: Path, checksum: str) -> bool:
    try:
        return f"{zlib.crc32(path.read_bytes()):08x}" != checksum
    except (FileNotFoundError, PermissionError):
        return True


def _read(path: Path) -> pa.Table:
    with pa.ipc.open_file(path.read_bytes()) as file:
        return file.read_all()
