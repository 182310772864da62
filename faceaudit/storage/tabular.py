"""Tables as files: their columns, and text in columns."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from faceaudit.errors import InputError, SchemaError
from faceaudit.storage.copies import local_copy
from faceaudit.storage.paths import is_remote

if TYPE_CHECKING:
    import polars as pl


log = logging.getLogger(__name__)

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
"""What columns of a CSV file are separated by."""
TAIL = 1 << 16
"""Bytes at the end of a file in which its last row is looked for."""
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


def short_rows(path: Path, data: bytes | Path, separator: str) -> str | None:
    """What to say of rows of a CSV file with fewer fields than its first line; None without any.

    Polars fills them up. It costs one more pass over the file, and is needed only where the last
    column has empty cells.

    Args:
        path: The file, for messages.
        data: Its bytes, or a copy on this machine.
        separator: Between fields.

    Raises:
        InputError: If the file ends within a row.
    """
    import pyarrow as pa
    from pyarrow import csv

    found: list[csv.InvalidRow] = []

    def note(row: csv.InvalidRow) -> str:
        found.append(row)
        del found[1:-1]
        return "skip"

    parsing = csv.ParseOptions(
        delimiter=separator, newlines_in_values=True, invalid_row_handler=note
    )
    nothing = csv.ConvertOptions(include_columns=[""], include_missing_columns=True)
    reading = csv.ReadOptions(use_threads=False)  # rows are numbered then
    with suppress(pa.ArrowInvalid):  # such as of a value larger than a block, which polars reads
        for _ in csv.open_csv(
            io.BytesIO(data) if isinstance(data, bytes) else data, reading, parsing, nothing
        ):
            pass
    if not found:
        return None
    first, last = found[0], found[-1]
    end = data[-TAIL:] if isinstance(data, bytes) else _end_of(data)
    if not end.endswith(b"\n") and end.endswith(last.text.encode()):
        raise InputError(
            f"{path}: is cut off: its last row, {last.text[:80]!r}, has {last.actual_columns} "
            f"fields and the header {last.expected_columns}; write it anew"
        )
    return (
        f"rows with fewer fields than the header, such as row {first.number:,} with "
        f"{first.actual_columns} of {first.expected_columns}; the missing ones count as empty."
    )


def _end_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - TAIL))
        return opened.read()


def read_csv(path: Path) -> pl.DataFrame:
    """A CSV file with every column as text; empty cells are null.

    Raises:
        InputError: If it cannot be read, is not UTF-8, or its rows do not fit its first line.
        SchemaError: If two columns have one name.
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
    gaps = frame.width and frame[frame.columns[-1]].null_count()
    if gaps and (sentence := short_rows(path, data, separator)):
        log.warning("%s: has %s", path, sentence)
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
