"""`faceaudit purge`: rows of images deleted for good; their counts and the reason are kept."""

from __future__ import annotations

import datetime as dt
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import faceaudit
from faceaudit.audit.suppress import check_suppression
from faceaudit.audit.tally import save_tally
from faceaudit.errors import UsageError
from faceaudit.jobs import history
from faceaudit.labels.annotations import counted
from faceaudit.pipeline.dataset import tables_in
from faceaudit.pipeline.deletion import (
    begin,
    begun,
    delete,
    files_of,
    parts_older_than,
    rows_of,
)
from faceaudit.pipeline.purged import Purged, read_purged, write_purged
from faceaudit.pipeline.table import is_first_row
from faceaudit.reporting.source import Reading, count_table
from faceaudit.schema import METADATA_KEY, SCHEMA_VERSION, TableMetadata
from faceaudit.storage import arrow_file, as_path, exclusive, followed, sha256_of_file
from faceaudit.tables.purges import RECORD, beside

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
    tally: Path | None = None
    """The counts of the deleted rows; None where there were too few to be kept."""
    record: Path | None = None
    """Where it stands what was deleted and why; None where nothing was deleted."""
    alike: tuple[str, ...] = ()
    """Images that stay and have the same bytes as one that was named."""


@dataclass
class _Found:
    """Rows of a table."""

    images: int = 0
    rows: int = 0
    names: set[str] = field(default_factory=set)
    hashes: set[str] = field(default_factory=set)

    def add(self, table: pa.Table) -> None:
        first = table.filter(is_first_row(table))
        self.rows += len(table)
        self.images += len(first)
        self.names.update(first["image"].to_pylist())
        self.hashes.update(filter(None, first["sha256"].to_pylist()))


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
    line in the record says how many they are and why. A purge that was killed is finished first.

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
    then = None if older_than is None else moment_before(older_than, now)
    out = followed(as_path(dataset))
    with exclusive(out) as still_mine:
        files = files_of(out)
        purged = read_purged(out)
        if not dry_run and (left := begun(out)) is not None:
            _finish(out, left, purged, still_mine)
            files = files_of(out)
        whole = frozenset() if then is None else parts_older_than(out, then)
        found, named = _find(files, whole, frozenset(image))
        _check_known(out, image, named.names, purged)
        alike = _alike(files, named, found.names)
        if dry_run or not found.rows:
            return Purge(out, found.images, found.rows, alike=alike)
        facts: Mapping[str, Any] = {
            "when": now.isoformat(),
            "older_than": older_than,
            "images_named": len(image),
            "reason": reason,
            "by": None if by is None else list(by),
            "suppress_below": suppress_below,
        }
        begin(out, facts, still_mine)
        purged = purged.with_names(found.names)
        still_mine()
        write_purged(out, purged)
        return replace(_finish(out, facts, purged, still_mine), alike=alike)


def moment_before(given: str, now: dt.datetime) -> dt.datetime:
    """The moment that lies a length of time in hours, days or weeks before another.

    Raises:
        UsageError: If it is no such length.

    Example:
        >>> moment_before("30d", dt.datetime(2026, 3, 31)).day
        1
    """
    found = re.fullmatch(r"0*([1-9]\d{0,5})([hdw])", given.strip())
    try:
        if found is not None:
            return now - dt.timedelta(**{UNITS[found[2]]: int(found[1])})
    except OverflowError:
        pass
    raise UsageError(f"--older-than {given}: give hours, days or weeks, such as 12h, 30d or 8w")


def _find(
    files: Iterable[Path], whole: frozenset[str], image: frozenset[str]
) -> tuple[_Found, _Found]:
    """The rows that are to go, and those of them whose image was named."""
    found, named = _Found(), _Found()
    wanted = pa.array(sorted(image), pa.string())
    for path in files:
        for table in tables_in(path):
            of_named = table.filter(pc.is_in(table["image"], value_set=wanted))
            named.add(of_named)
            found.add(table if path.name in whole else of_named)
    return found, named


def _check_known(out: Path, image: Sequence[str], there: set[str], purged: Purged) -> None:
    for name in image:
        if name not in there and not purged.has(name):
            raise UsageError(
                f"--image {name}: {out} has no such image; give a name as it stands in the column "
                "image"
            )


def _alike(files: Sequence[Path], named: _Found, going: set[str]) -> tuple[str, ...]:
    """Images that stay and have the bytes of one that was named."""
    if not named.hashes:
        return ()
    wanted = pa.array(sorted(named.hashes), pa.string())
    alike: set[str] = set()
    for path in files:
        for table in tables_in(path):
            same = table.filter(pc.is_in(table["sha256"], value_set=wanted))
            alike.update(same["image"].to_pylist())
    return tuple(sorted(alike - going))


def _finish(
    out: Path, facts: Mapping[str, Any], purged: Purged, still_mine: Callable[[], None]
) -> Purge:
    """Do what is left of a purge: the tally and the record, unless they are there; the deletion."""
    files, found = files_of(out), _Found()
    for path in files:
        for table in rows_of(path, purged):
            found.add(table)
    when = dt.datetime.fromisoformat(facts["when"])
    tally = beside(out, f"purged-{when:%Y%m%dT%H%M%S.%fZ}.tally")
    record = beside(out, RECORD)
    if found.rows and not _is_recorded(record, facts["when"]):
        kept = found.images >= max(1, facts["suppress_below"])
        if kept:
            _keep_tally(out, files, facts, purged, tally)
        line = _line(facts, found, tally if kept else None)
        history.append(record, line, still_mine)
    delete(out, purged, still_mine)
    return Purge(out, found.images, found.rows, tally if tally.exists() else None, record)


def _is_recorded(record: Path, when: str) -> bool:
    """Whether a purge has its line: after that, rows may have gone already."""
    lines = history.read(record).splitlines()
    return any(json.loads(line).get("when") == when for line in lines[-1:])


def _keep_tally(
    out: Path, files: Sequence[Path], facts: Mapping[str, Any], purged: Purged, tally: Path
) -> None:
    """Keep the counts of the rows that are to go. No name of an image leaves the table for it."""
    schema = pq.read_schema(arrow_file(files[0]))
    with tempfile.TemporaryDirectory(prefix="faceaudit-") as folder:
        rows = Path(folder) / "rows.parquet"
        with pq.ParquetWriter(rows, _without_notes(schema)) as writer:
            for table in _nameless(_rows(files, purged)):
                writer.write_table(table.cast(schema))
        counts = count_table(
            rows,
            Reading(),
            by=facts["by"],
            unit=None,
            suppress_below=facts["suppress_below"],
            called=str(out),
        )
    save_tally(counts, tally)


def _rows(files: Sequence[Path], purged: Purged) -> Iterator[pa.Table]:
    """The rows that are to go, of all files."""
    for path in files:
        yield from rows_of(path, purged)


def _nameless(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows with numbers for names, and without hashes and messages."""
    images = 0
    for table in tables:
        numbers = pc.cumulative_sum(pc.cast(is_first_row(table), pa.int64()))
        names = pc.cast(pc.add(numbers, images), pa.string())
        images += pc.sum(is_first_row(table)).as_py() or 0
        changed = table.set_column(table.schema.get_field_index("image"), "image", names)
        for column in ("sha256", "error"):
            place = changed.schema.get_field_index(column)
            empty = pa.nulls(len(table), pa.string())
            changed = changed.set_column(place, column, empty)
        yield changed


def _without_notes(schema: pa.Schema) -> pa.Schema:
    """The same columns; what the metadata notes of labels may name an image."""
    metadata = TableMetadata.from_json(schema.metadata[METADATA_KEY], "the table")
    labels = {key: value for key, value in metadata.labels.items() if key != "notes"}
    text = replace(metadata, labels=labels).to_json()
    return schema.with_metadata({METADATA_KEY: text.encode()})


def _line(facts: Mapping[str, Any], found: _Found, tally: Path | None) -> dict[str, Any]:
    """The line of the record: no name of an image."""
    return {
        "schema_version": SCHEMA_VERSION,
        "version": faceaudit.__version__,
        **facts,
        "images": found.images,
        "rows": found.rows,
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
        verb = "has" if len(found.alike) == 1 else "have"
        lines.append(
            f"{counted(len(found.alike), 'image')} that stay{'s' if verb == 'has' else ''} {verb} "
            f"the same bytes: {named}{f' and {more:,} more' if more > 0 else ''}; --image deletes "
            "them too"
        )
    return lines
