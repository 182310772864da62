"""Tables as files: their columns, and text in columns."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, TYPE_CHECKING

from faceaudit.errors import InputError
from faceaudit.storage.copies import local_copy
from faceaudit.storage.paths import is_remote

if TYPE_CHECKING:
    import polars as pl


def read_csv(path: Path) -> pl.DataFrame:
    """A CSV file with every column as text; empty cells are null.

    The separator (comma, semicolon or tab) is the one that the first line has most of.

    Raises:
        InputError: If it cannot be read, is not UTF-8, or its rows do not fit its first line.
    """
    import polars as pl

    try:
        data = path.read_bytes()
        first = data.split(b"\n", 1)[0]
        separator = max(",;\t", key=lambda mark: first.count(mark.encode()))
        data.decode("utf-8")
        return pl.read_csv(io.BytesIO(data), separator=separator, infer_schema=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; save it as CSV UTF-8") from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{path}: cannot be read as CSV ({reason})") from error


def arrow_file(path: Path) -> Path | IO[bytes]:
    """A file as pyarrow reads it now: by its path, or opened where it is on an object store.

    Raises:
        FileNotFoundError: If there is none on the store.
    """
    return path.open("rb") if is_remote(path) else path


def parquet_schema(path: Path) -> dict[str, pl.DataType]:
    """Columns of a Parquet file and their types; a name with brackets or stars is no pattern.

    Raises:
        polars.exceptions.PolarsError: If it is no Parquet file.
    """
    import polars as pl

    return dict(pl.scan_parquet(local_copy(path), glob=False).collect_schema())
