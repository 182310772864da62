"""A CSV table: its separator, its header, and columns that are numbers or only look like them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa

from faceaudit.errors import InputError
from faceaudit.schema import AGE_PRED, AGE_TRUE, BASE_FIELDS
from faceaudit.storage import check_header, separator_of, short_rows
from faceaudit.storage.numerals import are_apart, decimals, has_exponents, integers

MEASURED = frozenset(
    {AGE_TRUE, AGE_PRED}
    | {one.name for one in BASE_FIELDS if pa.types.is_integer(one.type)}
    | {one.name for one in BASE_FIELDS if pa.types.is_floating(one.type)}
)
"""Columns that hold numbers whatever they look like; so do scores."""
_BLANK, _GAPS = "blank lines ", "gaps "  # with a blank, which columns have not around their names


def scan_csv(path: Path, file: Path, image: str) -> tuple[pl.LazyFrame, tuple[str, ...]]:
    """The rows of a CSV table, and notes on those that were left out or filled up.

    A column is one of numbers where it is by its meaning, or where each of its values can be
    written as it was; codes such as ``02134`` and ``12e4`` are text.

    Args:
        path: The table, for messages.
        file: Its copy on this machine.
        image: The column that names images, which is text.

    Raises:
        InputError: If it cannot be read.
        SchemaError: If its columns cannot be told apart.
    """
    separator = _separator(path, file)
    inferred = pl.scan_csv(file, separator=separator, infer_schema_length=None, glob=False)
    types = dict(inferred.collect_schema())
    check_header(path, list(types))
    types |= {name: pl.String() for name in types if name.strip() == image}
    looks = [name for name, dtype in types.items() if dtype.is_numeric() and not _measures(name)]
    # Types would be inferred anew in every pass over the rows, at the cost of several passes.
    as_text = types | {name: pl.String() for name in looks}
    rows = pl.scan_csv(file, separator=separator, schema=as_text, glob=False)
    blank, codes, gaps = _looked_at(path, rows, {name: types[name] for name in looks})
    short = short_rows(path, file, separator) if gaps else None
    notes = (f"The table has {short}",) if short else ()
    types |= {name: pl.String() for name in codes}
    frame = pl.scan_csv(file, separator=separator, schema=types, glob=False)
    if not blank:
        return frame, notes
    lines = "1 blank line" if blank == 1 else f"{blank:,} blank lines"
    note = f"{lines} of the table {'was' if blank == 1 else 'were'} left out."
    return frame.filter(~_is_blank()), (note, *notes)


def _separator(path: Path, file: Path) -> str:
    with file.open("rb") as opened:
        first = opened.readline()
    try:
        text = first.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; save it as CSV UTF-8") from error
    if "\r" in text.rstrip("\r\n"):
        raise InputError(f"{path}: its lines end in carriage returns; save it with line feeds")
    return separator_of(text)


def _measures(name: str) -> bool:
    return name.strip() in MEASURED or "_prob_" in name


def _is_blank() -> pl.Expr:
    return pl.all_horizontal(pl.all().is_null())


def _looked_at(
    path: Path, rows: pl.LazyFrame, looks: Mapping[str, pl.DataType]
) -> tuple[int, list[str], bool]:
    """What a pass over a table tells.

    That is: the number of blank lines, the columns that look like numbers but would not be written
    the same again, and whether other rows lack a value in the last column.

    Args:
        path: The table, for messages.
        rows: With these columns as text.
        looks: The columns, and the types of numbers that their values look like.
    """
    asked = [
        expression.alias(f"{name}\n{what}")
        for name, dtype in looks.items()
        for what, expression in _questions(name, dtype).items()
    ]
    try:
        # Reading single columns would overlook rows with too many fields.
        gaps = (pl.last().is_null() & ~_is_blank()).any().alias(_GAPS)
        found = rows.select(_is_blank().sum().alias(_BLANK), gaps, *asked).collect(
            engine="streaming"
        )
        facts = found.row(0, named=True)
        same = [name for name in looks if facts[f"{name}\nsame"]]
        scientific = [name for name in same if facts.get(f"{name}\nscientific")]
        apart = rows.select(are_apart(pl.col(name)).alias(name) for name in scientific)
        told = apart.collect(engine="streaming").row(0, named=True) if scientific else {}
    except pl.exceptions.ComputeError as error:
        if advice := _advice(error):
            raise InputError(f"{path}: cannot be read: {advice}") from error
        raise
    codes = [name for name in looks if name not in same or not told.get(name, True)]
    return facts[_BLANK], codes, facts[_GAPS]


def _questions(name: str, dtype: pl.DataType) -> dict[str, pl.Expr]:
    """What is asked of a column of text that looks like numbers."""
    if dtype.is_integer():
        return {"same": integers(pl.col(name))}
    text = pl.when(pl.col(name) != "NaN").then(pl.col(name))  # where a program had no number
    return {"same": decimals(text), "scientific": has_exponents(text)}


def _advice(error: pl.exceptions.ComputeError) -> str | None:
    known = {
        "utf-8": "it is not UTF-8 text; save it as CSV UTF-8",
        "more fields": "a row has more fields than the header; quote values that hold the "
        "separator",
    }
    return next((what for mark, what in known.items() if mark in str(error)), None)
