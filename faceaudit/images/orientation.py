"""Which way up an image is stored.

The orientation tag is read here and not by the image library, whose reader of metadata warns about
damaged entries and turns some formats by itself.

Source:
    EXIF 2.32 (CIPA DC-008), tag 0x0112; TIFF 6.0, section 2: image file directories.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceaudit.images.segments import segments_of_jpeg

Pixels = NDArray[np.uint8]  # (H, W, 3)

ORIENTATION = 0x0112
UPRIGHT = 1
_SHORT, _LONG = 3, 4

_EXIF = b"Exif\x00\x00"
_APP1 = 0xE1


def swaps_sides(orientation: int) -> bool:
    """Whether width and height change places."""
    return orientation >= 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a TIFF directory."""

    start: int
    """Position of the entry itself."""
    tag: int
    type: int
    count: int
    field: bytes
    """The value where it fits, else its position; 4 bytes (8 in a BigTIFF)."""


def byte_order(tiff: bytes) -> str:
    """The order of bytes, ``<`` or ``>``, that a TIFF header declares; empty if it is none."""
    return {b"II": "<", b"MM": ">"}.get(tiff[:2], "")


@dataclass(frozen=True, slots=True)
class Directory:
    """The first directory of a TIFF file."""

    entries: tuple[Entry, ...]
    end: int
    """Position after all entries, where that of the next directory stands; both may be cut off."""
    pointer: int
    """Bytes of a position: 4, in a BigTIFF 8."""


def directory(tiff: bytes) -> Directory | None:
    """The first directory, of entries that are cut off without these; None where there is none.

    Args:
        tiff: Data that begins with a TIFF header: a TIFF file, or the inside of an EXIF block.
    """
    order = byte_order(tiff)
    if not order or len(tiff) < 16:
        return None
    big = 43 in tiff[2:4]
    # Of a directory: its position, the number of its entries; of an entry: its fields.
    place, number, fields = (8, "Q", "HHQ8s") if big else (4, "H", "HHL4s")
    pointer = 8 if big else 4
    (start,) = struct.unpack_from(order + ("Q" if big else "L"), tiff, place)
    first, each = (
        start + struct.calcsize(order + number),
        struct.calcsize(order + fields),
    )
    if first > len(tiff):
        return None
    (count,) = struct.unpack_from(order + number, tiff, start)
    whole = min(count, (len(tiff) - first) // each)
    entries = (
        Entry(position, *struct.unpack_from(order + fields, tiff, position))
        for position in range(first, first + whole * each, each)
    )
    return Directory(tuple(entries), first + count * each, pointer)


def orientation_of_exif(exif: bytes) -> int:
    """The orientation that an EXIF block names, 1 to 8; 1 where it names none.

    Args:
        exif: The block, with or without its leading ``Exif`` and two null bytes.
    """
    tiff = exif.removeprefix(_EXIF)
    order = byte_order(tiff)
    found = directory(tiff)
    for entry in found.entries if found else ():
        if entry.tag == ORIENTATION and entry.type in (_SHORT, _LONG):
            kind = order + ("H" if entry.type == _SHORT else "L")
            (value,) = struct.unpack_from(kind, entry.field)
            return value if 1 <= value <= 8 else UPRIGHT
    return UPRIGHT


def orientation_of_jpeg(data: bytes) -> int:
    """The orientation of a JPEG file, 1 to 8; 1 where it names none."""
    for marker, start in segments_of_jpeg(data):
        if marker == _APP1 and data.startswith(_EXIF, start + 2):
            length = int.from_bytes(data[start : start + 2])
            return orientation_of_exif(data[start + 2 : start + length])
    return UPRIGHT
