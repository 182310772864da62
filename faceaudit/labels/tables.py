"""Label files as tables of text, and their columns as annotations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from faceaudit.errors import InputError, LabelError
from faceaudit.labels.annotations import Annotations, Names
from faceaudit.labels.join import KEY, Joined
from faceaudit.labels.parse import Column, age_groups, are_years, as_recorded, categories, years
from faceaudit.schema import AGE, AGE_GROUP, GENDER, RACE, Task
from faceaudit.storage import local_copy, parquet_schema, read_csv
from faceaudit.tables.files import read_metadata

LABEL_COLUMNS = (GENDER, RACE, AGE, AGE_GROUP)
"""Names of annotated columns, each also with ``_true``; case does not matter."""
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def joined(
    source: str,
    keys: pl.Series,
    columns: Iterable[Column],
    names: Names,
    folder: Path | None,
) -> Annotations:
    """Annotated columns brought from the rows of a table to images."""
    found = list(columns)
    tasks = tuple(column.task for column in found if column.task is not None)
    said = tuple(note for column in found for note in column.notes)
    table = pl.DataFrame([keys.alias(KEY), *(column.values for column in found)])
    return Joined(source, table, names, folder, tasks=tasks, said=said)


def annotated_columns(raw: pl.DataFrame, recorded: Mapping[str, Task]) -> list[Column]:
    """The annotated columns of a table; ``age`` may hold years or age groups.

    Args:
        raw: Columns as text.
        recorded: As ``recorded_tasks`` returns them; for other tasks the scheme is the one that
            fits the values.
    """
    found = {name: raw[column] for name in LABEL_COLUMNS if (column := _column(raw, name))}
    columns = [
        _named(as_recorded(found[name], recorded.get(name)) or categories(name, found[name]), name)
        for name in (GENDER, RACE)
        if name in found
    ]
    if AGE in found and are_years(found[AGE]):
        columns.append(_named(years(found.pop(AGE)), AGE))
    groups = found.get(AGE_GROUP, found.get(AGE))
    if groups is not None:
        known = as_recorded(groups, recorded.get(AGE_GROUP))
        columns.append(_named(known or age_groups(groups), AGE_GROUP))
    return columns


def _named(column: Column, name: str) -> Column:
    return Column(column.values.alias(f"{name}_true"), column.task, column.notes)


def _column(raw: pl.DataFrame, name: str) -> str | None:
    """The column of this name or with ``_true``, in any case."""
    lower = {column.strip().casefold(): column for column in reversed(raw.columns)}
    return lower.get(f"{name}_true", lower.get(name))


# --- files ------------------------------------------------------------------------------------


def read_text_table(path: Path) -> pl.DataFrame:
    """A table with its columns as text; nested columns are left out.

    Raises:
        LabelError: If it is missing, damaged or of another kind.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise LabelError(f"{path}: there is no such label file")
    if suffix not in TABLE_SUFFIXES:
        raise LabelError(f"{path}: a label file ends in {', '.join(TABLE_SUFFIXES)}")
    try:
        if suffix == ".parquet":
            return _read_parquet(path)
        return _read_jsonl(path) if suffix == ".jsonl" else read_csv(path)
    except (InputError, OSError, ValueError, RecursionError, pl.exceptions.PolarsError) as error:
        reason = str(error).split("\n", 1)[0]
        raise LabelError(
            reason if isinstance(error, InputError) else f"{path}: {reason}"
        ) from error


def recorded_tasks(files: Sequence[Path]) -> dict[str, Task]:
    """Task -> the classes that annotations were chosen from, where all files record the same.

    Tables that faceaudit wrote record it.
    """
    if any(path.suffix.lower() != ".parquet" for path in files):
        return {}
    found = [read_metadata(local_copy(path), str(path)) for path in files]
    first, *others = [{} if metadata is None else metadata.annotated_tasks for metadata in found]
    return {
        name: task
        for name, task in first.items()
        if all(other.get(name) == task for other in others)
    }


def _read_parquet(path: Path) -> pl.DataFrame:
    schema = parquet_schema(path)
    flat = [name for name, dtype in schema.items() if not dtype.is_nested() and dtype != pl.Binary]
    return pl.read_parquet(local_copy(path), columns=flat, glob=False).cast(pl.String)


def _json_line(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"{line.strip()[:40]!r} is no JSON, as each line must be") from error


def _read_jsonl(path: Path) -> pl.DataFrame:
    with path.open(encoding="utf-8-sig") as file:
        rows = list(map(_json_line, filter(str.strip, file)))
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line of a .jsonl file must be a JSON object")
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame(
        {name: [_text(row.get(name)) for row in rows] for name in names},
        schema=dict.fromkeys(names, pl.String),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) or value is None else json.dumps(value)
