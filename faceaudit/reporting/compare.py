"""``compare``: two tables to a page on what changed, and the same figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import faceaudit
from faceaudit.audit.changes import Changes
from faceaudit.audit.run import check_confidence, check_min_n
from faceaudit.audit.tally import TALLY_SUFFIX
from faceaudit.errors import UnknownNameError, UsageError, check_names
from faceaudit.labels import ANNOTATED, NONE, PROVENANCES
from faceaudit.reporting.changes import (
    Choices,
    Wanted,
    changes_facts,
    find_changes,
    in_common_schemes,
    readings_of,
    table_names,
)
from faceaudit.reporting.changes_view import view
from faceaudit.reporting.html import make_environment
from faceaudit.reporting.source import Reading, Source, as_paths, label_file, read_source
from faceaudit.reporting.subject import word_of
from faceaudit.schema import SCHEMA_VERSION
from faceaudit.storage import as_path, check_outputs, write_text
from faceaudit.tables import SUFFIXES

SCHEMA_FILE = Path(__file__).parent / "compare.schema.json"
USUAL_FORMATS = ("html", "json")


@dataclass(frozen=True)
class Compared:
    """A comparison, where its tables come from, and the page's title."""

    changes: Changes
    first: Source
    second: Source
    title: str


@dataclass(frozen=True)
class CompareFiles:
    """The files that were written, in the order of the formats, and the comparison."""

    paths: tuple[Path, ...]
    changes: Changes


def compare(
    first: Path | Sequence[Path],
    second: Path | Sequence[Path],
    *,
    output: Path | None = None,
    labels: str = NONE,
    provenance: str = ANNOTATED,
    columns: Mapping[str, str] | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
    age_bins: Sequence[int] | None = None,
    scheme_map: Mapping[str, str] | None = None,
    by: Sequence[str] | None = None,
    unit: str | None = None,
    min_n: int = 30,
    suppress_below: int = 0,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    mode: Wanted = "auto",
    title: str | None = None,
    formats: Sequence[str] = USUAL_FORMATS,
) -> CompareFiles:
    """Compare a table of predictions with an earlier one, per subgroup.

    Tables of the same images are compared face by face; of different images, their figures and
    distributions are. Options that read a table hold for both.

    Args:
        first: The table to compare with, or a tally, or several, which are summed.
        second: The table that is compared; differences are second minus first.
        output: Where the page goes, ``NAME.html``; None is beside the second table, under its name
            and ``.compare``. The JSON has the same name.
        labels: Annotations to join: ``none``, ``auto``, a label format, or ``FORMAT:FILE``.
        provenance: Where the labels come from, unless the tables say it themselves.
        columns: Canonical name -> name in the tables, where they differ; of a table that has no
            column of such a name the canonical one is read.
        classes: Task -> its classes in the order of a bare list of scores.
        age_bins: Lower bounds of the age groups, in years.
        scheme_map: Task -> the scheme to coarsen it to.
        by: Sensitive features; None takes every annotated one of gender and race.
        unit: A column whose values (a person, a prompt) name rows that are not independent.
        min_n: Of subgroups with fewer faces no change is claimed.
        suppress_below: Cells of fewer faces or images are not shown, for privacy.
        confidence: Of all intervals, and of every family of tests.
        replicates: Draws of distances between tables of different images.
        seed: Of the draws.
        mode: ``paired``, ``drift``, or ``auto``: paired where at least half of the smaller table's
            rows are in both.
        title: Of the page; None names the tables.
        formats: Any of ``FORMATS``.

    Raises:
        FaceauditError: If an option cannot work, or tables or labels cannot be read or compared.
    """
    paths = as_paths(first), as_paths(second)
    output = None if output is None else as_path(output)
    _check(formats, provenance, output, min_n, confidence)
    targets = [target(paths[1][0], output, name) for name in formats]
    check_outputs(targets, (*paths[0], *paths[1], label_file(labels)))
    reading = Reading(labels, provenance, columns, classes, age_bins, scheme_map)
    readings = readings_of(paths, reading)
    sources = read_source(paths[0], readings[0]), read_source(paths[1], readings[1])
    sources = in_common_schemes(*sources, (paths[0][0], paths[1][0]), readings)
    choices = Choices(by, unit, min_n, confidence, replicates, seed, suppress_below, mode)
    found = find_changes(*sources, choices)
    names = table_names(*sources)
    compared = Compared(found, *sources, title or f"{names[1]} compared with {names[0]}")
    texts = [FORMATS[name](compared) for name in formats]
    for file, text in zip(targets, texts, strict=True):
        write_text(file, text)
    return CompareFiles(tuple(targets), found)


def render(compared: Compared) -> str:
    """The page of a comparison; the same comparison gives the same text."""
    names = table_names(compared.first, compared.second)
    word = word_of(compared.second.origin(True).labels_provenance)
    shown = view(compared.changes, *names, word=word)
    page = make_environment().get_template("compare.html")
    return page.render(
        v=shown,
        title=compared.title,
        suppress_below=compared.changes.options.get("suppress_below", 0),
        sides=(compared.first.facts, compared.second.facts),
        version=faceaudit.__version__,
    )


def to_json(compared: Compared) -> str:
    """The JSON of a comparison; ``compare.schema.json`` describes it."""
    facts = {
        "schema_version": SCHEMA_VERSION,
        **{name: _table(source) for name, source in _sides(compared)},
        **changes_facts(compared.changes),
    }
    parts = [f"{json.dumps(name)}: {_lines(value)}" for name, value in facts.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


FORMATS: dict[str, Callable[[Compared], str]] = {"html": render, "json": to_json}
"""What a comparison is written as; the name is also the file's suffix."""


def _sides(compared: Compared) -> tuple[tuple[str, Source], tuple[str, Source]]:
    return ("first", compared.first), ("second", compared.second)


def _table(source: Source) -> dict[str, object]:
    return {
        "path": source.facts.path,
        "sha256": source.facts.sha256,
        "rows": source.facts.rows,
        "model": source.facts.metadata.model.get("name") if source.facts.metadata else None,
    }


def _lines(value: object) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    entries = [json.dumps(one, allow_nan=False, ensure_ascii=False) for one in value]
    return "[\n" + ",\n".join(entries) + "\n]"


def target(table: Path, output: Path | None, suffix: str) -> Path:
    """Where a comparison goes: beside its second table, or where the user said."""
    if output is None:
        known = table.suffix.lower() in {*SUFFIXES, TALLY_SUFFIX}
        return table.parent / f"{table.stem if known else table.name}.compare.{suffix}"
    known = output.suffix.lower() in {f".{name}" for name in FORMATS}
    return output.parent / f"{output.stem if known else output.name}.{suffix}"


def _check(
    formats: Sequence[str],
    provenance: str,
    output: Path | None,
    min_n: int,
    confidence: float,
) -> None:
    check_names("format of a comparison", formats, FORMATS)
    if not formats:
        raise UsageError(f"--format: give at least one of {', '.join(FORMATS)}")
    if provenance not in PROVENANCES:
        raise UnknownNameError("provenance of labels", provenance, PROVENANCES)
    check_min_n(min_n)
    check_confidence(confidence)
    if output is not None and output.is_dir():
        raise UsageError(f"--output {output}: a folder; give a file such as {output}/compare.html")
