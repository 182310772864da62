"""Any CSV, JSON-lines or Parquet table with a column of images and columns of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faceaudit.errors import LabelError, UsageError
from faceaudit.labels.annotations import Annotations, Names
from faceaudit.labels.tables import (
    LABEL_COLUMNS,
    annotated_columns,
    joined,
    read_text_table,
    recorded_tasks,
)

KEY_COLUMNS = ("image", "file", "file_name", "path", "filename")
"""Names of the column that says which image a label is of; the first that is there is taken."""


def read(path: Path | None, names: Names, folder: Path | None) -> Annotations:
    """The labels of these images.

    Raises:
        UsageError: If no file is given.
        LabelError: If it cannot be read, or has no column of images or of labels.
    """
    if path is None:
        raise UsageError(
            "labels table: name the file, such as table:labels.csv, with a column "
            f"{' or '.join(KEY_COLUMNS)} and columns {', '.join(LABEL_COLUMNS)}"
        )
    raw = read_text_table(path)
    key = _key_column(path, raw.columns)
    columns = annotated_columns(raw, recorded_tasks([path]))
    if not columns:
        raise LabelError(
            f"{path}: no labels among the columns {_listed(raw.columns)}; call one of them "
            f"{', '.join(LABEL_COLUMNS)}"
        )
    return joined(str(path), raw[key], columns, names, folder)


def _key_column(path: Path, columns: Sequence[str]) -> str:
    lower = {column.strip().casefold(): column for column in reversed(columns)}
    for name in KEY_COLUMNS:
        if name in lower:
            return lower[name]
    raise LabelError(
        f"{path}: no column of image names among the columns {_listed(columns)}; call it "
        f"{' or '.join(KEY_COLUMNS)}"
    )


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(repr, columns[:20])) or "(none)"
