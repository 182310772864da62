"""`faceaudit purge`: rows of images deleted for good; their counts and the reason are kept."""

from __future__ import annotations

import datetime as dt
import re
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import faceaudit
from faceaudit.audit.suppress import check_suppression
from faceaudit.audit.tally import save_tally
from faceaudit.errors import UsageError
from faceaudit.jobs.history import append
from faceaudit.labels.annotations import counted
from faceaudit.pipeline.deletion import (
    Deletion,
    delete,
    files_of,
    parts_older_than,
    was_interrupted,
)
from faceaudit.pipeline.purged import read_purged, write_purged
from faceaudit.pipeline.table import is_first_row
from faceaudit.reporting.source import Reading, count_table
from faceaudit.schema import SCHEMA_VERSION
from faceaudit.storage import arrow_file, as_path, exclusive, followed, sha256_of_file

SUPPRESS_BELOW = 10
"""Cells of the tally that is kept with fewer images are put together."""
UNITS = {"h": "hours", "d": "days", "w": "weeks"}
SHOWN = 3
"""Names that a message has."""


@dataclass(frozen=True)
class Purge:
    """What was deleted of a table, or would be."""

    table: Path
    images: int
    rows: int
    files: int
    """Of the table, which had any of the rows."""
    tally: Path | None = None
    """The counts of the deleted rows; None where there were too few to be kept."""
    record: Path | None = None
    """Where it stands what was deleted and why; None of a trial."""
    alike: tuple[str, ...] = ()
    """Images that stay and have the same bytes as one that was deleted."""


@dataclass
class _Found:
    """The rows that are to go."""

    images: int = 0
    rows: int = 0
    touched: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    hashes: set[str] = field(default_factory=set)


def purge(
    dataset: str | Path,
    *,
    older_than: str | None = None,
    image: Sequence[str] = (),
    reason: str | None = None,
    by: Sequence[str] | None = None,
    suppress_below: int = SUPPRESS_BELOW,
    dry_run: bool = False,
) -> Purge:
    """Delete rows of a table that ``predict`` wrote, keep their counts, and write down why.

    The images are not scored again by later runs, whether or not their files still exist; their
    names are kept as hashes for that. Before anything is deleted, a tally of the rows is kept and a
    line in the record says how many they are and why.

    Args:
        dataset: A folder of parts, or one file.
        older_than: Delete the parts all of whose rows were made so long ago: ``30d``, ``12h``,
            ``8w``.
        image: Delete the rows of these images, named as in the column ``image``.
        reason: Why, in words; stands in the record.
        by: Sensitive features of the tally; None takes every annotated one of gender and race.
        suppress_below: Cells of the tally with fewer images are put together, and no tally is kept
            of fewer images than that; 0 keeps all.
        dry_run: Count, and delete nothing.

    Raises:
        UsageError: If nothing or an image that the table lacks is named, or an option cannot work.
        InputError: If there is no such table, or it is damaged.
        TemporaryError: If a run that writes it has not ended.
    """
    check_suppression(suppress_below)
    if not older_than and not image:
        raise UsageError("purge: name what is to go: --older-than 30d, or --image PATH")
    now = dt.datetime.now(dt.UTC)
    then = None if older_than is None else now - parse_age(older_than)
    out = followed(as_path(dataset))
    with exclusive(out) as still_mine:
        files = files_of(out)
        whole = frozenset() if then is None else parts_older_than(out, then)
        deletion = Deletion(whole, frozenset(image))
        found = _find(files, deletion)
        purged = read_purged(out)
        missing = [name for name in image if name not in found.names and not purged.has(name)]
        if missing:
            raise UsageError(
                f"--image {missing[0]}: {out} has no such image; give a name as it stands in the "
                "column image"
            )
        result = Purge(
            out, found.images, found.rows, len(found.touched), alike=_alike(files, deletion, found)
        )
        if dry_run:
            return result
        if not found.rows:
            if was_interrupted(out):  # only the manifest was left to write
                delete(out, deletion, (), still_mine)
            return result
        tally = _keep_tally(out, files, deletion, by, suppress_below, found.images, now)
        write_purged(out, purged.with_names(found.names))
        record = _beside(out, "purges.jsonl")
        facts = _facts(result, tally, now, older_than, image, reason)
        append(record, facts)
        delete(out, deletion, found.touched, still_mine)
    return Purge(out, found.images, found.rows, len(found.touched), tally, record, result.alike)


def parse_age(given: str) -> dt.timedelta:
    """A length of time in hours, days or weeks.

    Raises:
        UsageError: If it is none.

    Example:
        >>> parse_age("30d").days
        30
    """
    found = re.fullmatch(r"(\d{1,6})([hdw])", given.strip())
    if found is None:
        raise UsageError(f"--older-than {given}: give hours, days or weeks, such as 12h, 30d or 8w")
    return dt.timedelta(**{UNITS[found[2]]: int(found[1])})


def _find(files: Sequence[Path], deletion: Deletion) -> _Found:
    found = _Found()
    for path in files:
        rows = 0
        for table in deletion.rows(path):
            rows += len(table)
            first = table.filter(is_first_row(table))
            found.images += len(first)
            found.names.update(first["image"].to_pylist())
            found.hashes.update(filter(None, first["sha256"].to_pylist()))
        if rows or path.name in deletion.whole:
            found.touched.append(path.name)
        found.rows += rows
    return found


def _alike(files: Sequence[Path], deletion: Deletion, found: _Found) -> tuple[str, ...]:
    """Images that stay and have the bytes of one that goes, where single ones are named."""
    if not deletion.images or not found.hashes:
        return ()
    wanted = pa.array(sorted(found.hashes), pa.string())
    alike: Counter[str] = Counter()
    for path in files:
        for table in deletion.rest(path):
            same = table.filter(pc.is_in(table["sha256"], value_set=wanted))
            alike.update(same["image"].to_pylist())
    return tuple(sorted(alike))


def _beside(out: Path, name: str) -> Path:
    """A file that belongs to a table: in its folder, or beside its file."""
    return out.with_name(f"{out.stem}.{name}") if out.suffix == ".parquet" else out / f"_{name}"


def _keep_tally(
    out: Path,
    files: Sequence[Path],
    deletion: Deletion,
    by: Sequence[str] | None,
    suppress_below: int,
    images: int,
    now: dt.datetime,
) -> Path | None:
    """Keep the counts of the rows that are to go; None where they are too few."""
    if images < suppress_below:
        return None
    schema = pq.read_schema(arrow_file(files[0]))
    with tempfile.TemporaryDirectory(prefix="faceaudit-") as folder:
        rows = Path(folder) / "rows.parquet"
        with pq.ParquetWriter(rows, schema) as writer:
            for path in files:
                for table in deletion.rows(path):
                    writer.write_table(table.cast(schema))
        kept = count_table(
            rows, Reading(), by=by, unit=None, suppress_below=suppress_below, called=str(out)
        )
    tally = _beside(out, f"purged-{now:%Y%m%dT%H%M%SZ}.tally")
    save_tally(kept, tally)
    return tally


def _facts(
    found: Purge,
    tally: Path | None,
    now: dt.datetime,
    older_than: str | None,
    images: Collection[str],
    reason: str | None,
) -> dict[str, Any]:
    """The line of the record: no name of an image."""
    return {
        "schema_version": SCHEMA_VERSION,
        "version": faceaudit.__version__,
        "when": now.isoformat(timespec="seconds"),
        "older_than": older_than,
        "images_named": len(images),
        "reason": reason,
        "images": found.images,
        "rows": found.rows,
        "files": found.files,
        "tally": None if tally is None else tally.name,
        "tally_sha256": None if tally is None else sha256_of_file(tally),
    }


def message(found: Purge) -> list[str]:
    """What was deleted, in words; or would be."""
    done = "deleted" if found.record else "to delete"
    of = f"{counted(found.rows, 'row')} of {counted(found.images, 'image')}"
    lines = [f"{found.table}: {of} {done}" if found.rows else f"{found.table}: nothing to delete"]
    if found.record is not None:
        kept = "too few for a tally" if found.tally is None else f"their counts: {found.tally}"
        lines.append(f"{kept}; {found.record} says why")
    if found.alike:
        named = ", ".join(found.alike[:SHOWN])
        more = len(found.alike) - SHOWN
        lines.append(
            f"{counted(len(found.alike), 'image')} that stayed had the same bytes as one of them: "
            f"{named}{f' and {more:,} more' if more > 0 else ''}; --image deletes them too"
        )
    return lines
