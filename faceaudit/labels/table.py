"""Any CSV, JSON-lines or Parquet table with a column of images and columns of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faceaudit.errors import UsageError
from faceaudit.labels.annotations import Annotations
from faceaudit.labels.tables import KEY_COLUMNS, LABEL_COLUMNS, read_annotations


def read(path: Path | None, images: Sequence[str], folder: Path | None) -> Annotations:
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
    return read_annotations(path, images, folder)
