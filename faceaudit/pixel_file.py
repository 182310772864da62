"""Pixel files: a CSV whose rows are images as gray values with spaces between."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from faceaudit.errors import InputError

PIXELS, NAMES = "pixels", ("img_name", "image", "file_name", "file")
_AROUND = " \t[]()\"'"
"""What may stand around the values of a row."""


def pixel_rows(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name of each row, and where in the file its values begin and how many bytes they take.

    A row is named by the column ``img_name`` (or ``image``, ``file_name``, ``file``), else by its
    number, ``row-000001``; a name that stands twice gets the number too. Whether the values
    are an image is not looked at.

    Raises:
        InputError: If the file cannot be read or has no column ``pixels``.
    """
    taken: set[str] = set()
    for number, (name, offset, size) in enumerate(_rows(path), 1):
        own = name or f"row-{number:06}"
        while own in taken:  # once, unless the name with its number came before too
            own += f"#{number}"
        taken.add(own)
        yield own, offset, size


def _rows(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name of each row, and where its values lie."""
    try:
        with path.open("rb") as file:
            header = file.readline()
            columns = _columns(path, header)
            name = next((columns.index(known) for known in NAMES if known in columns), None)
            pixels = columns.index(PIXELS)
            place = len(header)
            for line in file:
                if line.strip():
                    yield _row(line, place, pixels, name)
                place += len(line)
    except OSError as error:
        raise InputError(f"pixels:{path}: cannot be read ({error.strerror})") from error


def _row(line: bytes, place: int, pixels: int, name: int | None) -> tuple[str, int, int]:
    fields = _fields(line)
    values = fields[pixels].strip(_AROUND).encode() if pixels < len(fields) else b""
    start = line.find(values) if values else len(line)
    if start < 0 or line.count(b'"') % 2:  # written oddly, or cut off: no part of it is an image
        start, values = 0, line
    named = fields[name].strip() if name is not None and name < len(fields) else ""
    return named, place + start, len(values)


def _columns(path: Path, header: bytes) -> list[str]:
    columns = [name.strip() for name in _fields(header.removeprefix(b"\xef\xbb\xbf"))]
    if PIXELS not in columns:
        raise InputError(
            f"pixels:{path}: has no column {PIXELS!r} of gray values; it has: "
            f"{', '.join(columns[:8])}"
        )
    return columns


def _fields(line: bytes) -> list[str]:
    text = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
    if len(text) > csv.field_size_limit():  # an image of 190 x 190 pixels fills the usual limit
        csv.field_size_limit(len(text))
    return next(csv.reader(io.StringIO(text)), [])
