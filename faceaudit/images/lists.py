"""Images named by a list of paths: one a line, or a column of a table."""

from __future__ import annotations

from pathlib import Path, PurePath

import polars as pl

from faceaudit.errors import InputError
from faceaudit.images.refs import ImageRef, ImageSource
from faceaudit.schema import BASE_FIELDS
from faceaudit.storage import read_csv

LIST_SUFFIXES = (".txt", ".csv", ".parquet")
PATH_COLUMNS = ("image", "path", "file", "file_name", "filename")
"""Names of the column that holds the paths; the first that is there is taken."""


def read_list(path: Path) -> ImageSource:
    """The images that a list names, in its order; its other columns are carried.

    Paths are relative to the folder of the list or, where the first is not found there, to the
    current folder. A file that is not there still gets a row.

    Raises:
        InputError: If the list cannot be read, has no column of paths, or names one image twice
            with different values in other columns.
    """
    frame = _read(path)
    column = _path_column(path, frame)
    paths = pl.col(column).str.strip_chars()
    filled = frame.with_columns(paths).filter(paths != "")
    tidy = pl.col(column).map_elements(_tidy, return_dtype=pl.String)
    named = filled.with_columns(tidy).unique(maintain_order=True)
    _check(path, named, column)
    names = named[column].to_list()
    folder = _base(path, names)
    return ImageSource(
        source=str(path),
        folder=folder,
        images=tuple(ImageRef(name, folder / name) for name in names),
        carried=named.drop(column) if named.width > 1 else None,
        notes=_notes(path, frame.height - filled.height),
    )


def _notes(path: Path, blank: int) -> tuple[str, ...]:
    rows = "1 row names" if blank == 1 else f"{blank:,} rows name"
    return (f"{path}: {rows} no image",) if blank else ()


def _read(path: Path) -> pl.DataFrame:
    """The list as a table whose column of paths is text."""
    if path.suffix.lower() == ".txt":
        return pl.DataFrame({PATH_COLUMNS[0]: _lines(path)}, schema={PATH_COLUMNS[0]: pl.String})
    if path.suffix.lower() == ".csv":
        frame = read_csv(path)
        column = _path_column(path, frame)
        return frame.select(
            frame[name] if name == column else typed(frame[name]) for name in frame.columns
        )
    try:
        frame = pl.read_parquet(path, glob=False)
        return frame.with_columns(pl.col(_path_column(path, frame)).cast(pl.String))
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: is not a Parquet file with a column of paths") from error


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; save the list as UTF-8") from error
    return [line for line in text.split("\n") if line.strip()]


def typed(column: pl.Series) -> pl.Series:
    """A text column as numbers, where nothing is lost: ``007`` stays text."""
    text = column.drop_nulls()
    if text.is_empty() or text.str.contains(r"^[-+]?0[0-9]").any():
        return column
    for dtype in (pl.Int64, pl.Float64):
        numbers = text.cast(dtype, strict=False)
        if not numbers.null_count():
            return column.cast(dtype)
    return column


def _path_column(path: Path, frame: pl.DataFrame) -> str:
    for name in PATH_COLUMNS:
        if name in frame.columns:
            return name
    raise InputError(
        f"{path}: no column of paths among {', '.join(map(repr, frame.columns))}; "
        f"call it one of: {', '.join(PATH_COLUMNS)}"
    )


def _tidy(given: str) -> str:
    """A path without ``./`` and doubled slashes; a URI as it is."""
    return given if "://" in given else PurePath(given).as_posix()


def _check(path: Path, named: pl.DataFrame, column: str) -> None:
    """Refuse what would make two rows of one image, or overwrite a column of the table."""
    names = named[column]
    if remote := names.filter(names.str.contains("://", literal=True)).to_list():
        raise InputError(f"{path}: remote images are not read yet, such as {remote[0]!r}")
    if twice := names.filter(names.is_duplicated()).unique(maintain_order=True).to_list():
        raise InputError(
            f"{path}: {len(twice):,} images are named more than once with different values beside "
            f"them, such as {twice[0]!r}; keep one row per image"
        )
    taken = {field.name for field in BASE_FIELDS} & set(named.columns) - {column}
    if taken:
        raise InputError(
            f"{path}: faceaudit writes columns of these names itself, rename them in the list: "
            f"{', '.join(sorted(taken))}"
        )


def _base(path: Path, names: list[str]) -> Path:
    """The folder that the paths of a list are relative to."""
    beside = path.parent
    if names and not (beside / names[0]).exists() and Path(names[0]).exists():
        return Path()
    return beside
