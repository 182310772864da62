"""What a report is made from: a table with its labels, or tallies that were kept of tables."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from faceaudit.audit.small_cells import merge_small_cells
from faceaudit.audit.subgroups import find_features
from faceaudit.audit.suppress import check_suppression
from faceaudit.audit.tally import (
    TALLY_SUFFIX,
    TableFacts,
    Tally,
    add_up,
    cut,
    facts_of,
    load_tally,
    save_tally,
)
from faceaudit.audit.tally import tally as count
from faceaudit.errors import SchemaError, UsageError
from faceaudit.labels import ANNOTATED, NONE, LabelTable, none_found, read_labels
from faceaudit.reporting.subject import MIXED, Provenance
from faceaudit.storage import as_path, check_outputs
from faceaudit.tables import PredictionTable, image_names, read_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """How a table is to be read (see ``tables.read_table``), and the labels to join."""

    labels: str = NONE
    provenance: str = ANNOTATED
    columns: Mapping[str, str] | None = None
    classes: Mapping[str, Sequence[str]] | None = None
    age_bins: Sequence[int] | None = None
    scheme_map: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Source:
    """A table or a tally, what is told of it, and notes on its labels."""

    table: PredictionTable | Tally
    facts: TableFacts
    provenance: str
    """Where labels come from, unless the table or the labels say it."""
    notes: tuple[str, ...] = ()

    def origin(self, has_labels: bool) -> Provenance:
        """Where the audited rows come from."""
        facts = self.facts
        stated = facts.metadata.labels if facts.metadata else {}
        labels: tuple[str | None, str | None] = (None, None)
        if facts.labels_format or facts.labels_provenance == MIXED:
            labels = facts.labels_format, facts.labels_provenance
        elif has_labels:
            labels = stated.get("format"), stated.get("provenance", self.provenance)
        return Provenance(facts.path, facts.sha256, facts.rows, facts.metadata, *labels)


def has_labels(table: PredictionTable | Tally) -> bool:
    """Whether any face of a table or a tally is labeled."""
    if isinstance(table, PredictionTable):
        return bool(table.annotated)
    return table.errors.any() or any(found.any() for found in table.confusion.values())


def tally(
    table: Path,
    file: Path,
    *,
    labels: str = NONE,
    provenance: str = ANNOTATED,
    columns: Mapping[str, str] | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
    age_bins: Sequence[int] | None = None,
    scheme_map: Mapping[str, str] | None = None,
    by: Sequence[str] | None = None,
    unit: str | None = None,
    suppress_below: int = 0,
) -> Tally:
    """Count a table of predictions per subgroup and keep the counts in a small file.

    The file holds no image, name or row; ``report`` takes it in the place of the table, and sums
    several. It can be cut by the features that it was made with, and by no others.

    Args:
        table: A Parquet or CSV file, or a folder of ``part-*.parquet``.
        file: Where the tally goes, ``NAME.tally``.
        labels: Annotations to join: ``none``, ``auto``, a label format, or ``FORMAT:FILE``.
        provenance: Where the labels come from, unless the table says it itself.
        columns: Canonical name -> name in the table, where they differ.
        classes: Task -> its classes in the order of a bare list of scores.
        age_bins: Lower bounds of the age groups, in years.
        scheme_map: Task -> the scheme to coarsen it to.
        by: Sensitive features; None takes every annotated one of gender and race.
        unit: A column whose values (a person, a prompt) name rows that are not independent.
        suppress_below: Subgroups with fewer images are put together, for privacy; 0 keeps all.

    Raises:
        FaceauditError: If an option cannot work, or the table or the labels cannot be read.
    """
    file = as_path(file)
    check_suppression(suppress_below)
    check_tally_name(file)
    reading = Reading(labels, provenance, columns, classes, age_bins, scheme_map)
    check_outputs([file], [table, label_file(labels)])
    counted = count_table(as_path(table), reading, by=by, unit=unit, suppress_below=suppress_below)
    save_tally(counted, file)
    return counted


def check_tally_name(file: Path) -> None:
    """Raise a ``UsageError`` where a file's name is none of a tally."""
    if file.suffix.lower() != TALLY_SUFFIX:
        raise UsageError(f"{file}: a tally is kept in a file that ends in {TALLY_SUFFIX}")


def count_table(
    path: Path,
    reading: Reading,
    *,
    by: Sequence[str] | None,
    unit: str | None,
    suppress_below: int,
    called: str | None = None,
) -> Tally:
    """The tally of a table.

    Args:
        path: The table.
        reading: How it is read.
        by: Sensitive features; None takes every annotated one of gender and race.
        unit: A column whose values name rows that are not independent.
        suppress_below: Subgroups with fewer images are put together; 0 keeps all.
        called: The table that the tally names, where the rows lie elsewhere for a moment.

    Raises:
        FaceauditError: If an option cannot work, or the table or the labels cannot be read.
    """
    source = read_labelled([path], reading)
    if isinstance(source.table, Tally):
        raise UsageError(f"{path}: is a tally already")
    counted = count(source.table, find_features(source.table, by), unit=unit)
    facts = replace(
        source.facts,
        path=called or source.facts.path,
        notes=(*source.notes, *source.facts.notes),
        labels_provenance=source.facts.labels_provenance or reading.provenance,
    )
    return merge_small_cells(replace(counted, tables=(facts,)), suppress_below)


def label_file(labels: str) -> str | None:
    """The file that labels are read from, as ``FORMAT:FILE`` names it; None where it names none.

    Example:
        >>> label_file("table:labels.csv")
        'labels.csv'
    """
    return labels.partition(":")[2] or None


def read_source(paths: Sequence[Path], reading: Reading) -> Source:
    """A table, or the sum of tallies.

    Raises:
        FaceauditError: If an option cannot work, or the table or the labels cannot be read.
    """
    return read_tallies(paths, reading) if is_tally(paths) else read_labelled(paths, reading)


def as_paths(given: Path | str | Sequence[Path | str]) -> list[Path]:
    """What a caller gives as a table or tallies, as a list of paths.

    Raises:
        UsageError: If it is empty.
    """
    each = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    paths = [as_path(one) for one in each]
    if not paths:
        raise UsageError("no table: give a Parquet or CSV table, or tallies")
    return paths


def is_tally(paths: Sequence[Path]) -> bool:
    """Whether tallies are given, or one table.

    Raises:
        UsageError: If several tables are given.
    """
    kept = [path.suffix.lower() == TALLY_SUFFIX for path in paths]
    if len(paths) > 1 and not all(kept):
        raise UsageError(
            f"{paths[kept.index(False)]}: several tables; give one, or a tally of each "
            "(`faceaudit tally`)"
        )
    return all(kept)


def read_labelled(paths: Sequence[Path], reading: Reading) -> Source:
    """A table with the labels that are joined to it."""
    path = paths[0]
    joined, missed = _read_labels(path, reading)
    opened = read_table(
        path,
        columns=reading.columns,
        classes=reading.classes,
        age_bins=reading.age_bins,
        scheme_map=reading.scheme_map,
        labels=joined.frame if joined else None,
    )
    facts = facts_of(opened)
    if joined is None:
        return Source(opened, facts, reading.provenance, missed)
    facts = replace(facts, labels_format=joined.format, labels_provenance=joined.provenance)
    return Source(opened, facts, reading.provenance, joined.notes)


def read_tallies(paths: Sequence[Path], reading: Reading) -> Source:
    """The sum of tallies.

    Raises:
        UsageError: If an option needs the rows.
        SchemaError: If the tallies cannot be added.
    """
    if _needs_rows(reading):
        raise UsageError(
            f"{paths[0]}: a tally is counted already; give --labels, --columns, --classes, "
            "--age-bins and --map to `faceaudit tally`"
        )
    tallies = [load_tally(path) for path in paths]
    for path, one in zip(paths, tallies, strict=True):
        if one.kind != tallies[0].kind:
            raise SchemaError(
                f"{path} ({_kind(one)}) and {paths[0]} ({_kind(tallies[0])}) cannot be summed; "
                "make both with the same classes, --by and --unit"
            )
    _check_apart(paths, tallies)
    counted = add_up(tallies)
    tables = [table for one in tallies if _is_labelled(one) for table in one.tables]
    named = [(table.path, _provenance_of(table)) for table in tables]
    facts = _merged(paths, counted, named)
    notes = (*_of_labels(named), *_by_tally(counted))
    return Source(counted, facts, facts.labels_provenance or reading.provenance, notes)


def _is_labelled(counted: Tally) -> bool:
    """Whether any face has a label."""
    everybody = cut(counted, ())
    faces = [everybody.one(counts, 0) for counts in counted.confusion.values()]
    return any(one.sum() for one in (*faces, everybody.one(counted.errors, 0)))


def _provenance_of(table: TableFacts) -> str:
    """Where the labels of a tallied table come from; what the table says of its own goes first."""
    stated = table.metadata.labels if table.metadata and not table.labels_format else {}
    return str(stated.get("provenance") or table.labels_provenance or ANNOTATED)


def _of_labels(named: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """That labels of several provenances are summed, and whose are which."""
    tables: dict[str, list[str]] = {}
    for path, provenance in named:
        tables.setdefault(provenance, []).append(path)
    if len(tables) < 2:
        return ()
    each = "; ".join(f"{provenance}: {', '.join(paths)}" for provenance, paths in tables.items())
    return (
        f"The labels are of several provenances, which every figure mixes ({each}): report the "
        "tallies of each by themselves to tell them apart.",
    )


def _check_apart(paths: Sequence[Path], tallies: Sequence[Tally]) -> None:
    """Refuse tallies that count one table twice, which would narrow every interval."""
    seen: dict[str, Path] = {}
    for path, one in zip(paths, tallies, strict=True):
        for table in one.tables:
            if table.sha256 in seen:
                raise UsageError(
                    f"{path} and {seen[table.sha256]}: both count the table {table.path}, whose "
                    "faces would count twice; give every table once"
                )
            seen[table.sha256] = path


def _needs_rows(reading: Reading) -> bool:
    named = reading.columns or reading.classes or reading.age_bins or reading.scheme_map
    return bool(named) or reading.labels != NONE


def _read_labels(path: Path, reading: Reading) -> tuple[LabelTable | None, tuple[str, ...]]:
    """Annotations of the table's images, None without any; and a note where none were found."""
    if reading.labels == NONE:
        return None, ()
    names = image_names(path, reading.columns)
    found = read_labels(reading.labels, names, None, provenance=reading.provenance)
    if found:
        return found, ()
    missed = f"labels: {none_found(names)}"
    log.warning(missed)
    return None, (missed[0].upper() + missed[1:],)


def _kind(counted: Tally) -> str:
    tasks = ", ".join(f"{task.name} {task.scheme}" for task in counted.tasks)
    by = ", ".join(feature.name for feature in counted.features) or "nothing"
    return f"{tasks}; by {by}; unit {counted.unit or 'none'}"


def _merged(paths: Sequence[Path], counted: Tally, named: Sequence[tuple[str, str]]) -> TableFacts:
    """One set of facts; what the tables differ in is left out.

    Args:
        paths: The tallies.
        counted: Their sum.
        named: Tables that have labels, each with their provenance.
    """
    provenances = {provenance for _, provenance in named}
    first, *rest = counted.tables
    same = all(one.metadata == first.metadata for one in rest)
    digest = hashlib.sha256("".join(one.sha256 for one in counted.tables).encode()).hexdigest()
    return TableFacts(
        ", ".join(map(str, paths)),
        digest if rest else first.sha256,
        counted.rows,
        sum(one.images for one in counted.tables),
        (),
        first.metadata if same else None,
        first.labels_format
        if all(one.labels_format == first.labels_format for one in rest)
        else None,
        MIXED if len(provenances) > 1 else next(iter(provenances), first.labels_provenance),
    )


def _by_tally(counted: Tally) -> tuple[str, ...]:
    """What a report from a tally cannot hold."""
    tables = ", ".join(table.path for table in counted.tables)
    return (
        f"The figures come from a tally of {tables}, without the rows: they were not recomputed "
        "with scikit-learn and fairlearn, and subgroups by other features cannot be cut.",
    )
