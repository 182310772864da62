"""Plain JPEGs, by libjpeg-turbo, in this process: the fast path."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image

from faceaudit.images.decoded import Decoded, failed, too_large, unreadable, upright_size
from faceaudit.images.orientation import UPRIGHT, Pixels, orientation_of_jpeg
from faceaudit.images.segments import END_OF_IMAGE, START_OF_SCAN, segments_of_jpeg
from faceaudit.images.turn import upright
from faceaudit.statuses import OK, UNREADABLE

INKS = ("CMYK", "YCCK")
"""Color spaces of JPEGs that were made for print."""

MAX_SCANS = 100
"""A file of more is an attack: every scan of a progressive JPEG goes over all pixels again.
Encoders write ten or so."""

REDUCTIONS = (8, 4, 2)
"""Sizes that the inverse cosine transform gives at once, and fast."""

_UNKNOWN_REVISION = "unknown JFIF revision"
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
"""Bytes that the pixels did not need: padding, or data in which the decoder lost its way."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What is told before anything is decoded."""

    width: int
    """As stored, pixels."""
    height: int
    colors: str


def read_header(data: bytes) -> JpegHeader | None:
    """Size and color space; None where the fast reader does not know this kind of JPEG."""
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return JpegHeader(width, height, colors)


def decode_jpeg(
    data: bytes, header: JpegHeader, max_pixels: int, enough_side: int | None = None
) -> Decoded:
    """A JPEG as upright RGB, smaller where less is enough; see ``decode``."""
    orientation = orientation_of_jpeg(data)
    size = upright_size(header.width, header.height, orientation)
    if header.width * header.height > max_pixels:
        return too_large(size, max_pixels)
    if has_too_many_scans(data):
        return failed(UNREADABLE, f"damaged JPEG file: more than {MAX_SCANS} scans")
    colors = "CMYK" if header.colors in INKS else "RGB"
    times = _reduction(data, header, enough_side, orientation)
    reduced = {
        "min_width": -(-header.width // times),
        "min_height": -(-header.height // times),
    }
    try:
        image = read_pixels(data, colors, **reduced if times > 1 else {})
    except ValueError as error:
        return unreadable("JPEG", error)
    if colors == "CMYK":
        # Adobe writes inks inverted, and every other writer of CMYK JPEGs does as Adobe does.
        inks = Image.frombytes("CMYK", (header.width, header.height), (255 - image).tobytes())
        image = np.array(inks.convert("RGB"))
    return Decoded(OK, None, upright(image, orientation), *size, times)


def _reduction(data: bytes, header: JpegHeader, enough_side: int | None, orientation: int) -> int:
    """The largest of 1, 2, 4 and 8 by which the sides may be divided."""
    sides = (header.width, header.height)
    # What takes the time of a progressive JPEG is the same at every size.
    if enough_side is None or header.colors in INKS or max(sides) < 2 * enough_side:
        return 1
    if _has_several_scans(data):
        return 1
    for times in REDUCTIONS:
        # A last pixel that stands for fewer than the others would come first in a turned image.
        whole = orientation == UPRIGHT or not any(side % times for side in sides)
        if whole and max(sides) >= times * enough_side:
            return times
    return 1


def read_pixels(data: bytes, colors: str, **reduced: int) -> Pixels:
    """Pixels of a JPEG that is whole; smaller where ``reduced`` says what is enough.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colors, **reduced)
    except ValueError as error:
        if not _is_harmless(str(error), data):
            raise
        pixels = simplejpeg.decode_jpeg(data, colors, strict=False, **reduced)
    return pixels


def _is_harmless(complaint: str, data: bytes) -> bool:
    """Whether a decoder's complaint is about a JPEG whose pixels are all there."""
    if left_over := _LEFT_OVER.search(complaint):
        return _is_padded(data, int(left_over[1]))
    return _UNKNOWN_REVISION in complaint


def _is_padded(data: bytes, count: int) -> bool:
    """Whether so many bytes before the end of the image are padding: zeros or ones."""
    pixels = next((at for marker, at in segments_of_jpeg(data) if marker == START_OF_SCAN), None)
    if pixels is None:
        return False
    # The first end counts: thumbnails stand before the pixels, further images behind their end.
    end = data.find(bytes((0xFF, END_OF_IMAGE)), pixels)
    # Ones alone may stand before any marker, and are not in the count.
    return not data[pixels:end].rstrip(b"\xff")[-count:].strip(b"\x00\xff")


def has_too_many_scans(data: bytes) -> bool:
    """Whether a JPEG would be gone over more often than any real one; cheap for a plain one."""
    # Within the pixels' data these two bytes never stand side by side; in a thumbnail they may.
    return _has_several_scans(data) and data.count(bytes((0xFF, START_OF_SCAN))) > MAX_SCANS


def _has_several_scans(data: bytes) -> bool:
    """Whether the first scan holds less than the whole image, or that cannot be told."""
    components = None
    for marker, start in segments_of_jpeg(data):
        if marker in (0xC0, 0xC1):  # sequential: a scan is gone over once
            components = data[start + 7 : start + 8]
        elif marker == START_OF_SCAN:
            return components is None or components != data[start + 2 : start + 3]
    return True
