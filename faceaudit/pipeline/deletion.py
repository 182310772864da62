"""Rows of images taken out of a table that `predict` wrote, so that it stays one of those.

A folder's manifest says that rows are being deleted while they are; what was begun and killed is
done again by the same purge. A file is replaced at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from faceaudit.errors import InputError, TemporaryError, UsageError
from faceaudit.pipeline.custody import with_images
from faceaudit.pipeline.dataset import SEGMENTS, tables_in, write_part
from faceaudit.pipeline.digest import ImageDigest
from faceaudit.pipeline.manifest import Manifest, Part, read_manifest, write_manifest
from faceaudit.pipeline.table import in_row_groups, is_first_row, open_table
from faceaudit.schema import METADATA_KEY
from faceaudit.storage import arrow_file, list_parts
from faceaudit.tables.files import read_metadata

ENDED = "run the same `faceaudit predict` again, which goes on where it stopped, then purge"


@dataclass(frozen=True)
class Deletion:
    """Which rows are to go: all of some files of the table, and those of some images."""

    whole: frozenset[str]
    """Names of parts."""
    images: frozenset[str]

    def rows(self, path: Path) -> Iterator[pa.Table]:
        """The rows of a file that are to go."""
        for table in tables_in(path):
            yield table if path.name in self.whole else table.filter(self._among(table))

    def rest(self, path: Path) -> Iterator[pa.Table]:
        """The rows of a file that stay."""
        if path.name not in self.whole:
            for table in tables_in(path):
                yield table.filter(pc.invert(self._among(table)))

    def _among(self, table: pa.Table) -> pa.ChunkedArray:
        return pc.is_in(table["image"], value_set=pa.array(self.images, pa.string()))


def files_of(out: Path) -> list[Path]:
    """The files of a finished table.

    Raises:
        InputError: If there is no table, or another program wrote it.
        TemporaryError: If a run has begun and not ended.
    """
    if out.suffix == ".parquet":
        if not out.is_file() or read_metadata(out) is None:
            raise InputError(f"{out}: is no table that `faceaudit predict` wrote")
        if (out.parent / f".{out.name}.run").exists():
            raise TemporaryError(f"{out}: a run that adds to it has not ended; {ENDED}")
        return [out]
    return [out / part.file for part in _manifest_of(out).parts]


def _manifest_of(out: Path) -> Manifest:
    manifest = read_manifest(out)
    if manifest is None:
        raise InputError(f"{out}: is no table that `faceaudit predict` wrote")
    begun = (out / SEGMENTS).is_dir() and any((out / SEGMENTS).iterdir())
    if begun or not (manifest.complete or manifest.purging):
        raise TemporaryError(f"{out}: a run that adds to it has not ended; {ENDED}")
    return manifest


def was_interrupted(out: Path) -> bool:
    """Whether a purge was killed while it deleted."""
    return out.suffix != ".parquet" and _manifest_of(out).purging


def parts_older_than(out: Path, then: datetime) -> frozenset[str]:
    """Names of the parts all of whose rows were made before a moment.

    Of parts of earlier versions, which do not say when, it is when their file was last changed.

    Raises:
        UsageError: If the table is one file, whose rows have no dates.
    """
    if out.suffix == ".parquet":
        raise UsageError(
            f"--older-than: {out} is one file, whose rows may be of different days; give a folder "
            "of parts, --image, or delete the file"
        )
    return frozenset(part.file for part in _manifest_of(out).parts if _written(out, part) < then)


def _written(out: Path, part: Part) -> datetime:
    if part.written is not None:
        return datetime.fromisoformat(part.written)
    return datetime.fromtimestamp((out / part.file).stat().st_mtime, UTC)


def delete(
    out: Path, deletion: Deletion, touched: Collection[str], still_mine: Callable[[], None]
) -> None:
    """Delete rows.

    Args:
        out: The table.
        deletion: Which.
        touched: Names of the files that have any of them.
        still_mine: Raises ``LockedError`` where the lock was lost.

    Raises:
        FaceauditError: If it cannot be written; the same purge then goes on.
    """
    if out.suffix == ".parquet":
        _from_file(out, deletion, still_mine)
    else:
        _from_folder(out, deletion, touched, still_mine)


def _from_file(out: Path, deletion: Deletion, still_mine: Callable[[], None]) -> None:
    metadata = read_metadata(out)
    assert metadata is not None
    schema = pq.read_schema(arrow_file(out))
    kept = sum(pc.sum(is_first_row(table)).as_py() or 0 for table in deletion.rest(out))
    changed = with_images(metadata, ImageDigest(kept), metadata.labels.get("notes", ()))
    schema = schema.with_metadata({**schema.metadata, METADATA_KEY: changed.to_json().encode()})
    with open_table(out, schema) as writer:
        for table in in_row_groups(deletion.rest(out), schema):
            writer.write_table(table)
        still_mine()


def _from_folder(
    out: Path, deletion: Deletion, touched: Collection[str], still_mine: Callable[[], None]
) -> None:
    before = _manifest_of(out)
    write_manifest(out, replace(before, complete=False, purging=True), still_mine)
    parts = [
        _rewritten(out, part, deletion, still_mine) if part.file in touched else part
        for part in before.parts
        if part.file not in deletion.whole
    ]
    parts = [part for part in parts if part.rows] or [
        _rewritten(out, before.parts[-1], deletion, still_mine)
    ]
    after = replace(before, parts=tuple(parts))
    write_manifest(out, replace(after, complete=False, purging=True), still_mine)
    named = {part.file for part in parts}
    for path in list_parts(out):
        if path.name not in named:
            path.unlink(missing_ok=True)
    write_manifest(out, replace(after, complete=True, purging=False), still_mine)


def _rewritten(out: Path, part: Part, deletion: Deletion, still_mine: Callable[[], None]) -> Part:
    """The rows of a part that stay, in a file whose name sorts where the part's does."""
    stem, _, times = part.file.removesuffix(".parquet").partition("_")
    file = f"{stem}_{int(times or 0) + 1}.parquet"
    schema = pq.read_schema(arrow_file(out / part.file))
    made = write_part(out, file, schema, deletion.rest(out / part.file), still_mine)
    images = sum(made.statuses.values())
    return replace(made, digest=ImageDigest(images), written=_written(out, part).isoformat())
