"""Tables as files: their columns, and text in columns."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from faceaudit.errors import InputError, SchemaError
from faceaudit.storage.copies import local_copy
from faceaudit.storage.paths import is_remote

if TYPE_CHECKING:
    import polars as pl


SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
"""What columns of a CSV file are separated by."""
_NUMBERED = "_duplicated_"
"""In the name that polars gives to the second column of one name."""


def separator_of(first: str) -> str:
    """The separator that the first line of a CSV file has most of."""
    return max(SEPARATORS, key=first.count)


def check_header(path: Path, names: Sequence[str]) -> None:
    """Refuse columns of a CSV file that their names do not tell apart.

    Raises:
        SchemaError: If a name occurs more than once, or blanks are all that separates columns.
    """
    for name in names:
        first, mark, number = name.rpartition(_NUMBERED)
        if first and mark and number.isdecimal() and first in names:
            raise SchemaError(f"{path}: the column {first!r} occurs more than once; keep one")
    if len(names) == 1 and any(blank in names[0].strip() for blank in " \t"):
        *others, last = SEPARATORS.values()
        raise SchemaError(
            f"{path}: its first line {names[0][:80]!r} names a single column; "
            f"separate columns by a {', '.join(others)} or {last}"
        )


def read_csv(path: Path) -> pl.DataFrame:
    """A CSV file with every column as text; empty cells are null.

    Raises:
        InputError: If it cannot be read, is not UTF-8, its rows do not fit its first line, or two
            columns have one name.
    """
    import polars as pl

    try:
        data = path.read_bytes()
        data.decode("utf-8")
        separator = separator_of(data.split(b"\n", 1)[0].decode("utf-8"))
        frame = pl.read_csv(io.BytesIO(data), separator=separator, infer_schema=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; save it as CSV UTF-8") from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{path}: cannot be read as CSV ({reason})") from error
    check_header(path, frame.columns)
    return frame


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
