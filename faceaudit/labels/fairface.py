"""FairFace: a CSV with the columns file, age, gender, race.

Copies of these files that went through a spreadsheet have dates where age groups were: ``3-9`` has
become ``9-Mar`` or ``3-Sep``, ``10-19`` has become ``19-Oct`` or ``Oct-19``. They are repaired.

Source:
    FairFace README and fairface_label_train.csv: nine age groups, the last "more than 70"; gender
    Male and Female; seven races.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from faceaudit.errors import LabelError
from faceaudit.labels.annotations import Annotations, Names
from faceaudit.labels.parse import Column, age_groups, categories
from faceaudit.labels.tables import joined, read_text_table
from faceaudit.schema import AGE, AGE_GROUP, GENDER, RACE
from faceaudit.storage import is_remote

FILE = "file"
COLUMNS = (FILE, AGE, GENDER, RACE)


def read(path: Path | None, names: Names, folder: Path | None) -> Annotations:
    """The labels of these images; without a path, of all such tables in their folder.

    Raises:
        LabelError: If there is no such table, or it has other columns.
    """
    paths = [path] if path else _tables(folder)
    if not paths:
        raise LabelError(
            f"{folder or 'a tar file'}: no CSV with the columns {', '.join(COLUMNS)} there; "
            "name it, such as fairface:labels.csv"
        )
    table = pl.concat([_read(one) for one in paths])
    columns = [
        _named(categories(GENDER, table[GENDER], ("gender2",)), GENDER),
        _named(categories(RACE, table[RACE], ("fairface7", "fairface4")), RACE),
        _named(age_groups(table[AGE], "fairface9"), AGE_GROUP),
    ]
    return joined(", ".join(map(str, paths)), table[FILE], columns, names, folder)


def find(names: Names, folder: Path | None) -> Annotations | None:
    """The labels of FairFace tables in the folder of the images, if there are any."""
    return read(None, names, folder) if _tables(folder) else None


def _named(column: Column, task: str) -> Column:
    return Column(column.values.alias(f"{task}_true"), column.task, column.notes)


def _tables(folder: Path | None) -> list[Path]:
    """CSV files of a folder that have FairFace's columns."""
    if folder is None or not folder.is_dir():
        return []
    if is_remote(folder):
        return [path for path in sorted(folder.glob("*.csv")) if _fits(path)]
    # Not Path.glob, which would hold every file of the folder at once.
    with os.scandir(folder) as listing:
        names = sorted(entry.name for entry in listing if entry.name.endswith(".csv"))
    return [folder / name for name in names if _fits(folder / name)]


def _fits(path: Path) -> bool:
    if path.name.startswith(".") or not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(4096).decode("utf-8-sig", "replace").strip().lower()
    names = {name.strip(' "') for name in first.replace(";", ",").split(",")}
    return set(COLUMNS) <= names


def _read(path: Path) -> pl.DataFrame:
    raw = read_text_table(path)
    raw = raw.rename({name: name.strip().lower() for name in raw.columns})
    missing = [name for name in COLUMNS if name not in raw.columns]
    if missing:
        raise LabelError(
            f"{path}: no FairFace labels, the columns {', '.join(missing)} are missing; "
            f"read other tables with table:{path}"
        )
    return raw.select(COLUMNS)
