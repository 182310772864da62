"""Rows of purged images taken out of a table that `predict` wrote, so that it stays one of those.

What is to go are the rows of every name that ``purged`` has. A table says that a purge has begun,
from before anything is written until all is done: a folder in its manifest, a file in a small file
beside it. Whatever purge comes next finishes the one that was killed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from faceaudit.errors import InputError, TemporaryError, UsageError
from faceaudit.pipeline.custody import with_images
from faceaudit.pipeline.dataset import SEGMENTS, tables_in, write_part
from faceaudit.pipeline.digest import ImageDigest
from faceaudit.pipeline.manifest import Manifest, Part, read_manifest, write_manifest
from faceaudit.pipeline.purged import Purged, begun_file
from faceaudit.pipeline.table import in_row_groups, is_first_row, open_table
from faceaudit.schema import MANIFEST_FILE, METADATA_KEY
from faceaudit.storage import PARTS, arrow_file, list_parts, remove_unfinished, write_text
from faceaudit.tables.files import read_metadata

NO_TABLE = "%s: is no table that `faceaudit predict` wrote"
NOT_ENDED = (
    "%s: a run that adds to it has not ended; run the same `faceaudit predict` again, which goes "
    "on where it stopped, then purge; where that cannot work any more, delete the table, or make "
    "it anew with --restart"
)
Check = Callable[[], None]


def files_of(out: Path) -> list[Path]:
    """The files of a finished table.

    Raises:
        InputError: If there is no table, or another program wrote it.
        UsageError: If it is a part of one.
        TemporaryError: If a run has begun and not ended.
    """
    if out.suffix != ".parquet":
        return [out / part.file for part in manifest_of(out).parts]
    if not out.is_file() or read_metadata(out) is None:
        raise InputError(NO_TABLE % out)
    if read_manifest(out.parent) is not None:
        raise UsageError(f"{out}: is a part of a table; name its folder, {out.parent}")
    if (out.parent / f".{out.name}.run").exists():
        raise TemporaryError(NOT_ENDED % out)
    return [out]


def manifest_of(out: Path) -> Manifest:
    """The manifest of a finished folder of parts.

    Raises:
        InputError: If it has none.
        TemporaryError: If a run has begun and not ended.
    """
    manifest = read_manifest(out)
    if manifest is None:
        raise InputError(NO_TABLE % out)
    begun = (out / SEGMENTS).is_dir() and any((out / SEGMENTS).iterdir())
    if begun or not (manifest.complete or manifest.purging):
        raise TemporaryError(NOT_ENDED % out)
    return manifest


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
    return frozenset(part.file for part in manifest_of(out).parts if _written(out, part) < then)


def _written(out: Path, part: Part) -> datetime:
    if part.written is not None:
        return datetime.fromisoformat(part.written)
    return datetime.fromtimestamp((out / part.file).stat().st_mtime, UTC)


def rows_of(path: Path, purged: Purged) -> Iterator[pa.Table]:
    """The rows of a file that are to go."""
    for table in tables_in(path):
        yield table.filter(purged.among(table))


def rest_of(path: Path, purged: Purged) -> Iterator[pa.Table]:
    """The rows of a file that stay."""
    for table in tables_in(path):
        yield table.filter(pc.invert(purged.among(table)))


def begun(out: Path) -> Mapping[str, Any] | None:
    """What a purge that has not ended set out to do; None where there is none."""
    if out.suffix != ".parquet":
        return manifest_of(out).purging
    path = begun_file(out)
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{path}: is damaged; delete it, and purge again") from error
    return found


def begin(out: Path, facts: Mapping[str, Any], still_mine: Check) -> None:
    """Say that a purge has begun, and what it sets out to do."""
    still_mine()
    if out.suffix == ".parquet":
        write_text(begun_file(out), json.dumps(facts))
    else:
        manifest = replace(manifest_of(out), complete=False, purging=facts)
        write_manifest(out, manifest, still_mine)


def delete(out: Path, purged: Purged, still_mine: Check) -> None:
    """Delete the rows of purged images, and say that the purge has ended.

    Raises:
        FaceauditError: If it cannot be written; the next purge then goes on.
    """
    if out.suffix == ".parquet":
        _from_file(out, purged, still_mine)
        still_mine()
        begun_file(out).unlink(missing_ok=True)
        remove_unfinished(out.parent, f"{out.stem}.purge*")
    else:
        _from_folder(out, purged, still_mine)
        for pattern in (PARTS, MANIFEST_FILE, "_purge*"):
            remove_unfinished(out, pattern)


def _from_file(out: Path, purged: Purged, still_mine: Check) -> None:
    metadata = read_metadata(out)
    if metadata is None or not any(len(rows) for rows in rows_of(out, purged)):
        return
    schema = pq.read_schema(arrow_file(out))
    kept = sum(pc.sum(is_first_row(table)).as_py() or 0 for table in rest_of(out, purged))
    changed = with_images(metadata, ImageDigest(kept), ())  # notes may name an image
    schema = schema.with_metadata({**schema.metadata, METADATA_KEY: changed.to_json().encode()})
    with open_table(out, schema) as writer:
        for table in in_row_groups(rest_of(out, purged), schema):
            writer.write_table(table)
        still_mine()


def _from_folder(out: Path, purged: Purged, still_mine: Check) -> None:
    before = manifest_of(out)
    parts: list[Part] = []
    for part in before.parts:
        if any(len(rows) for rows in rows_of(out / part.file, purged)):
            part = _rewritten(out, part, purged, still_mine)
        parts.append(part)
    parts = [part for part in parts if part.rows] or parts[-1:]
    after = replace(before, parts=tuple(parts), notes=())  # notes may name an image
    write_manifest(out, after, still_mine)
    named = {part.file for part in parts}
    for path in list_parts(out):
        if path.name not in named:
            still_mine()
            path.unlink(missing_ok=True)
    write_manifest(out, replace(after, complete=True, purging=None), still_mine)


def _rewritten(out: Path, part: Part, purged: Purged, still_mine: Check) -> Part:
    """The rows of a part that stay, in a file whose name sorts where the part's does."""
    stem, _, times = part.file.removesuffix(".parquet").partition("_")
    file = f"{stem}_{int(times or 0) + 1}.parquet"
    schema = pq.read_schema(arrow_file(out / part.file))
    made = write_part(out, file, schema, rest_of(out / part.file, purged), still_mine)
    images = sum(made.statuses.values())
    return replace(made, digest=ImageDigest(images), written=_written(out, part).isoformat())
