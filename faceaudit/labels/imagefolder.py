"""A ``metadata.csv``, ``.jsonl`` or ``.parquet`` beside the images, with a ``file_name`` column.

Source:
    Hugging Face Datasets, "ImageFolder": file names are relative to the folder of the metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from faceaudit.errors import LabelError
from faceaudit.labels.annotations import Annotations, Names
from faceaudit.labels.tables import annotated_columns, joined, read_text_table, recorded_tasks

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE_NAME = "file_name"


def read(path: Path | None, names: Names, folder: Path | None) -> Annotations:
    """The labels of these images.

    Args:
        path: A metadata file, or the folder of one; without it the folder of the images and the
            folders within that hold images are searched.
        names: Names of the images.
        folder: What the names are relative to.

    Raises:
        LabelError: If there is no metadata, or it has no file names or no labels.
    """
    place = path or folder
    files = [path] if path and path.is_file() else _files(place, names)
    if not files:
        raise LabelError(f"{place or 'a tar file'}: none of {', '.join(NAMES)} is there")
    return _read(files, names, folder)


def find(names: Names, folder: Path | None) -> Annotations | None:
    """The labels of metadata in the folder of the images, if there are any labels."""
    files = [path for path in _files(folder, names) if _has_labels(read_text_table(path))]
    return _read(files, names, folder) if files else None


def _files(folder: Path | None, names: Names) -> list[Path]:
    """The metadata file of a folder, or those of the folders within that hold images."""
    if folder is None:
        return []
    if found := _file(folder):
        return [found]
    within = _inner(names.first)
    if not names.are_all and any(_file(folder / place) for place in within):
        within = set().union(*map(_inner, names.blocks()))
    return [found for place in sorted(within) if (found := _file(folder / place))]


def _inner(images: Iterable[str]) -> set[str]:
    """Folders within that hold images."""
    return {image.rpartition("/")[0] for image in images} - {""}


def _file(folder: Path) -> Path | None:
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def _has_labels(raw: pl.DataFrame) -> bool:
    return FILE_NAME in raw.columns and bool(annotated_columns(raw, {}))


def _read(files: Sequence[Path], names: Names, folder: Path | None) -> Annotations:
    tables = [_keyed(path, folder) for path in files]
    table = pl.concat(tables, how="diagonal")
    columns = annotated_columns(table, recorded_tasks(files))
    source = ", ".join(map(str, files))
    if not columns:
        raise LabelError(f"{source}: no labels; call a column gender, race, age or age_group")
    return joined(source, table[FILE_NAME], columns, names, folder)


def _keyed(path: Path, folder: Path | None) -> pl.DataFrame:
    """A metadata file whose file names are relative to the folder of the images."""
    raw = read_text_table(path)
    if FILE_NAME not in raw.columns:
        raise LabelError(f"{path}: no column {FILE_NAME}; read other tables with table:{path}")
    if folder is None or not path.parent.is_relative_to(folder) or path.parent == folder:
        return raw
    prefix = f"{path.parent.relative_to(folder).as_posix()}/"
    return raw.with_columns((prefix + pl.col(FILE_NAME)).alias(FILE_NAME))
