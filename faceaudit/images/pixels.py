"""Images of a pixel file: a CSV whose rows are images as gray values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from faceaudit.images.refs import ImageRef
from faceaudit.images.remote import file_ref, part_of
from faceaudit.images.source import ImageSource
from faceaudit.pixel_file import pixel_rows

PREFIX = "pixels:"


class PixelFile(ImageSource):
    """The images of a pixel file, in its order."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{PREFIX}{path}", path)
        self._path = path

    def _walk(self) -> Iterator[ImageRef]:
        file = file_ref("", self._path)
        for name, offset, size in pixel_rows(self._path):
            yield part_of(file, name, offset, size, grey_values=True)


def as_image(values: bytes) -> bytes:
    r"""Gray values as the bytes of a PGM file; what is no square of values stays as it is.

    Args:
        values: Numbers from 0 to 255 with spaces between, row by row of a square image.

    Example:
        >>> as_image(b"0 255 10 20")
        b'P5 2 2 255\n\x00\xff\n\x14'
    """
    numbers = values.split()
    try:
        grey = bytes(map(int, numbers)) if all(map(bytes.isdigit, numbers)) else b""
    except ValueError:  # more than 255
        return values
    side = math.isqrt(len(grey))
    return b"P5 %d %d 255\n" % (side, side) + grey if side and side * side == len(grey) else values
