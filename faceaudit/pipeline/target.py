"""What `predict` writes: one file, or a folder of parts; started, gone on with, or added to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Protocol

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from faceaudit.errors import LockedError, TemporaryError, UsageError
from faceaudit.pipeline.custody import check_same, digest_in, with_images
from faceaudit.pipeline.dataset import DataSet, columns_in, segments_in, tables_in
from faceaudit.pipeline.digest import ImageDigest
from faceaudit.pipeline.known import Group, Known
from faceaudit.pipeline.manifest import Manifest, read_manifest
from faceaudit.pipeline.purged import begun_file
from faceaudit.pipeline.table import in_row_groups, is_first_row, open_table, without_replaced
from faceaudit.schema import MANIFEST_FILE, METADATA_KEY, TableMetadata
from faceaudit.storage import arrow_file, never_lost, remove, remove_unfinished
from faceaudit.tables.files import read_metadata

FILE_PARTS = 1 << 18
"""Rows of a part while one file is made."""
DEFAULT_PART_ROWS = 1_000_000
UNFINISHED_PURGE = "%s: a `faceaudit purge` of it was interrupted; run that again, then this"


@dataclass(frozen=True)
class Totals:
    """What a table holds."""

    images: int
    faces: int
    statuses: Mapping[str, int]
    """Images by status."""


class Target(Protocol):
    """A table that rows are added to."""

    rows: DataSet
    """Where new rows go."""
    known: Known
    """The images that it has."""
    complete: bool
    """Whether no run is unfinished."""
    replaces_rows: bool
    """Whether images whose bytes could not be read may be added again."""

    def note(self, verified: Mapping[int, ImageDigest]) -> None:
        """Remember the digests of groups of images that were found to be the same.

        They need not be compared again; those of a file, once something is added to it.
        """

    def finish(
        self, names: Callable[[], Iterable[str]], notes: Sequence[str], images: ImageDigest
    ) -> None:
        """Bring the table to its final form.

        Args:
            names: Gives the source's images in order.
            notes: What the labels lack.
            images: What the source's images are now, where some took the place of others.
        """

    def tidy(self) -> None:
        """Keep what is held; remove what was begun, where nothing was kept.

        Where the lock was lost it does nothing: what is there may be another run's.
        """

    def totals(self) -> Totals:
        """What the finished table holds."""


@dataclass(frozen=True)
class Wanted:
    """What the table of this run must be."""

    metadata: TableMetadata
    columns: pa.Schema
    part_rows: int
    still_mine: Callable[[], None]

    @property
    def schema(self) -> pa.Schema:
        """With the metadata that does not depend on the images."""
        return self.columns.with_metadata({METADATA_KEY: self.metadata.to_json().encode()})

    def check(self, out: Path, metadata: TableMetadata, columns: pa.Schema | None) -> None:
        """Refuse a table that was made otherwise."""
        check_same(out, metadata, self.metadata, columns or self.columns, self.columns)

    def open(self, folder: Path, manifest: Manifest) -> DataSet:
        """A data set that a run left."""
        return DataSet.resume(folder, self.schema, self.part_rows, manifest, self.still_mine)

    def start(self, folder: Path, *, replaces: bool = False) -> DataSet:
        """A data set without rows."""
        manifest = Manifest(self.metadata, replaces=replaces)
        return DataSet.start(folder, self.schema, self.part_rows, manifest, self.still_mine)


def open_target(
    out: Path,
    columns: pa.Schema,
    metadata: TableMetadata,
    part_rows: int | None,
    *,
    restart: bool,
    still_mine: Callable[[], None] = never_lost,
) -> Target:
    """The table of a run, with what earlier runs made of it.

    Args:
        out: ``NAME.parquet``, or a folder.
        columns: The table's columns.
        metadata: What it says of itself whatever its images.
        part_rows: Rows of a part of a folder.
        restart: Discard what is there.
        still_mine: Raises ``LockedError`` where the lock was lost; called before every change.

    Raises:
        UsageError: If something else is there, or a table that was made otherwise.
    """
    if out.suffix == ".parquet":
        return _open_file(out, Wanted(metadata, columns, FILE_PARTS, still_mine), restart)
    wanted = Wanted(metadata, columns, part_rows or DEFAULT_PART_ROWS, still_mine)
    return _open_folder(out, wanted, restart)


# --- one file ---------------------------------------------------------------------------------


@dataclass
class TableFile:
    """``NAME.parquet``, made from a hidden folder of parts beside it."""

    out: Path
    rows: DataSet
    known: Known
    before: TableMetadata | None
    """Of the file to which images are added."""
    complete: bool
    replaces_rows = True

    def note(self, verified: Mapping[int, ImageDigest]) -> None:
        """Remember the digest of the file's images."""
        if self.before is not None and 0 in verified:
            self.before = with_images(self.before, verified[0], ())

    def finish(
        self, names: Callable[[], Iterable[str]], notes: Sequence[str], images: ImageDigest
    ) -> None:
        """Write the file: rows in the order of the source's images."""
        digest = self.rows.digest()
        if self.before is not None:
            digest += digest_in(self.before)
        if self.known.had_unread:
            digest = images
        tables = _in_source_order(self._tables, names) if len(self.known) else self._tables()
        metadata = with_images(self.rows.manifest.metadata, digest, notes)
        self.rows.mark_as_becoming(digest)
        schema = self.rows.schema.with_metadata({METADATA_KEY: metadata.to_json().encode()})
        with open_table(self.out, schema) as writer:
            for table in in_row_groups(tables, schema):
                writer.write_table(table)
            self.rows.still_mine()
        _discard(self.rows.folder, self.rows.still_mine)

    def _tables(self) -> Iterator[pa.Table]:
        return without_replaced(self._all) if self.known.had_unread else self._all()

    def _all(self) -> Iterator[pa.Table]:
        if self.before is not None:
            yield from tables_in(self.out)
        yield from self.rows.tables()

    def tidy(self) -> None:
        """Keep what is held; remove the hidden folder, where nothing was kept."""
        with suppress(LockedError):
            self.rows.flush()
            if self.rows.is_empty:
                _discard(self.rows.folder, self.rows.still_mine)

    def totals(self) -> Totals:
        """What the file holds."""
        table = pq.read_table(arrow_file(self.out), columns=["status", "face"])
        statuses = Counter(table.filter(is_first_row(table))["status"].to_pylist())
        faces = len(table) - table["face"].null_count
        return Totals(sum(statuses.values()), faces, dict(sorted(statuses.items())))


def known_images(out: Path) -> Known:
    """The images that a table has, be it finished or begun; nothing is changed.

    Raises:
        UsageError: If something else is there.
        InputError: If it is damaged, or cannot be read.
    """
    if out.suffix != ".parquet":
        if read_manifest(out) is None and out.exists():
            _check_empty(out)
        return Known(list(_groups_kept(out)))
    manifest = read_manifest(folder := out.parent / f".{out.name}.run")
    replaced = manifest is not None and manifest.replaces
    before = _metadata_of(out) if out.exists() and not replaced else None
    return Known([*_groups_of_file(out, before), *_groups_kept(folder)])


def _groups_kept(folder: Path) -> Iterator[Group]:
    """What a run left in a folder; of no images where it left nothing."""
    if (manifest := read_manifest(folder)) is not None:
        for part in manifest.parts:
            yield Group(part.digest, partial(tables_in, folder / part.file))
        yield Group(ImageDigest(), partial(segments_in, folder))


def _open_file(out: Path, wanted: Wanted, restart: bool) -> TableFile:
    if begun_file(out).exists():
        raise TemporaryError(UNFINISHED_PURGE % out)
    folder = out.parent / f".{out.name}.run"
    manifest = None if restart else read_manifest(folder)
    exists = out.exists()
    before = None
    if exists:
        before = _metadata_of(out)
        becomes = manifest and not manifest.replaces and manifest.becomes
        if becomes and _holds(before, becomes):
            _discard(folder, wanted.still_mine)  # only this was left when a run was killed
            manifest = None
    if manifest is None:
        _discard(folder, wanted.still_mine)
        if exists and not restart and before is not None:
            wanted.check(out, before, pq.read_schema(arrow_file(out)))
        kept = before if not restart else None
        rows = wanted.start(folder, replaces=exists and restart)
        known = Known(_groups_of_file(out, kept))
        return TableFile(out, rows, known, kept, complete=kept is not None)
    wanted.check(out, manifest.metadata, columns_in(folder, manifest))
    rows = wanted.open(folder, manifest)
    if manifest.replaces:
        before = None
    known = Known([*_groups_of_file(out, before), *_groups_of(rows)])
    return TableFile(out, rows, known, before, complete=False)


def _discard(folder: Path, still_mine: Callable[[], None]) -> None:
    """Remove a hidden folder; its manifest first, which must not name parts that are gone."""
    still_mine()
    with suppress(NotADirectoryError):
        (folder / MANIFEST_FILE).unlink(missing_ok=True)
    remove(folder)


def _holds(metadata: TableMetadata, digest: ImageDigest) -> bool:
    return all(metadata.options.get(name) == value for name, value in digest.to_json().items())


def _metadata_of(out: Path) -> TableMetadata:
    try:
        found = read_metadata(out)
        if found is not None:
            digest_in(found)
            return found
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError):
        pass
    raise UsageError(f"{out}: exists and is not a faceaudit table; give another name")


def _groups_of_file(out: Path, metadata: TableMetadata | None) -> list[Group]:
    if metadata is None:
        return []
    return [Group(digest_in(metadata), partial(tables_in, out))]


def _in_source_order(
    open_tables: Callable[[], Iterator[pa.Table]], names: Callable[[], Iterable[str]]
) -> Iterator[pa.Table]:
    """Rows in the order of the source's images; of images that it lacks, after their neighbors.

    Where they stand so already, as after an interruption, they are not held all at once.
    """
    if _have_names(open_tables(), names()):
        yield from open_tables()
        return
    order = pl.DataFrame({"image": names()}, schema={"image": pl.String}).with_row_index("place")
    order = order.unique("image", keep="first", maintain_order=True)
    table = pa.concat_tables(open_tables())
    rows = pl.DataFrame({"image": pl.Series(table["image"])}).with_row_index("row")
    placed = rows.join(order, on="image", how="left", maintain_order="left")
    placed = placed.with_columns(pl.col("place").forward_fill().fill_null(0))
    if not placed["place"].is_sorted():
        table = table.take(placed.sort("place", "row")["row"].to_arrow())
    yield table


def _have_names(tables: Iterable[pa.Table], names: Iterable[str]) -> bool:
    """Whether the images of rows are exactly these, in this order."""
    columns = (table.filter(is_first_row(table))["image"].to_pylist() for table in tables)
    return all(one == name for one, name in zip_longest(chain.from_iterable(columns), names))


# --- a folder of parts ------------------------------------------------------------------------


@dataclass
class TableFolder:
    """A folder of ``part-*.parquet``; new images are appended."""

    out: Path
    rows: DataSet
    known: Known
    complete: bool
    created: bool
    replaces_rows = False

    def note(self, verified: Mapping[int, ImageDigest]) -> None:
        """Remember the digests of parts."""
        if verified:
            self.rows.note(verified)

    def finish(
        self, names: Callable[[], Iterable[str]], notes: Sequence[str], images: ImageDigest
    ) -> None:
        """Close the last part."""
        self.rows.finish(notes)

    def tidy(self) -> None:
        """Keep what is held; remove the folder, where it was created and nothing was kept."""
        with suppress(LockedError):
            self.rows.flush()
            if self.created and self.rows.is_empty:
                self.rows.still_mine()
                remove(self.out)

    def totals(self) -> Totals:
        """What the parts hold."""
        statuses: Counter[str] = Counter()
        for part in self.rows.manifest.parts:
            statuses.update(part.statuses)
        faces = sum(part.faces for part in self.rows.manifest.parts)
        return Totals(sum(statuses.values()), faces, dict(sorted(statuses.items())))


def _open_folder(out: Path, wanted: Wanted, restart: bool) -> TableFolder:
    if restart and (out / MANIFEST_FILE).exists():  # be it damaged
        remove_unfinished(out, "_purge*")
        return TableFolder(out, wanted.start(out), Known([]), complete=False, created=False)
    manifest = read_manifest(out)
    if manifest is None:
        created = not out.exists()
        if not created:
            _check_empty(out)
        return TableFolder(out, wanted.start(out), Known([]), complete=False, created=created)
    if manifest.purging is not None:
        raise TemporaryError(UNFINISHED_PURGE % out)
    wanted.check(out, manifest.metadata, columns_in(out, manifest))
    rows = wanted.open(out, manifest)
    return TableFolder(
        out, rows, Known(_groups_of(rows)), manifest.complete and not rows.segments, created=False
    )


def _check_empty(out: Path) -> None:
    """Refuse a folder that holds something else than a table."""
    if any(not path.name.startswith(".") for path in out.iterdir()):
        raise UsageError(
            f"{out}: holds files that faceaudit did not write ({MANIFEST_FILE} is missing); "
            "give an empty folder, a new one, or NAME.parquet"
        )


def _groups_of(rows: DataSet) -> list[Group]:
    """The parts of a data set, and its open segments."""
    parts = [
        Group(part.digest, partial(tables_in, rows.folder / part.file))
        for part in rows.manifest.parts
    ]
    return [*parts, Group(rows.open_digest(), rows.open_tables)] if rows.segments else parts
