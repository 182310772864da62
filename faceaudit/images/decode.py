"""The bytes of an image file, decoded to upright RGB or to a reason why not."""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import dataclass, replace

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from faceaudit.images.formats import ImageFormat, describe, find_format, orientation_of
from faceaudit.images.orientation import (
    Pixels,
    orientation_of_jpeg,
    swaps_sides,
    upright,
)
from faceaudit.schema import OK, TOO_LARGE, UNREADABLE, UNSUPPORTED, Status

MAX_PIXELS = 100_000_000

READER_ERRORS = (
    OSError,  # files that are cut off, and errors of the decoders in C
    SyntaxError,  # headers that do not fit their format
    ValueError,  # fields out of range, undecodable text, tiles outside the image
    RuntimeError,  # WebP, AVIF and JPEG 2000 decoders; NotImplementedError of rare variants
    EOFError,  # an animation without its first frame
    LookupError,  # tables and palettes that end early; unknown modes
    TypeError,  # values that are missing or of another type
    AttributeError,  # parts that are missing
    AssertionError,  # checks within the readers
    ArithmeticError,  # sizes and resolutions that overflow or divide by zero
    MemoryError,  # sizes that no memory holds
    struct.error,  # fields that are cut off
    zlib.error,  # damaged compressed chunks
    Image.DecompressionBombWarning,  # raised where a process turns warnings into errors
)
"""What Pillow's readers raise on damaged files; found by damaging files at random."""

_INKS = ("CMYK", "YCCK")
"""Color spaces of JPEGs that were made for print."""

_HARMLESS = re.compile(r"extraneous bytes before marker 0xd9|unknown JFIF revision")
"""Complaints about a JPEG whose pixels are all there."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image as upright RGB, or why there is none."""

    status: Status
    error: str | None
    image: NDArray[np.uint8] | None
    """(H, W, 3), contiguous, or gray (H, W); None where ``status`` is not ``ok``."""
    width: int | None
    """Of the upright image, pixels; known for ``ok`` and ``too_large``."""
    height: int | None


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """An image file as upright RGB, 8 bits per channel; never raises for what a file holds.

    The format is told by the content. Of an animation the first frame counts. Deeper channels are
    scaled to 8 bits, transparent pixels are laid on white, color profiles are not applied. A file
    that is cut off or damaged gives no image, rather than one that is partly gray.

    Args:
        data: The whole file.
        max_pixels: An image with more is ``too_large``, told from its header and never decoded.
    """
    if not data:
        return _failed(UNREADABLE, "the file is empty")
    found = find_format(data)
    if found is None:
        return _failed(UNSUPPORTED, f"not an image of a supported format: {describe(data)}")
    if found.name == "JPEG" and (header := _jpeg_header(data)):
        return _decode_jpeg(data, header, max_pixels)
    return _decode_with_pillow(found, data, max_pixels)


def decode_gray(data: bytes, side: int, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """An image file as upright gray, (H, W); never raises for what a file holds.

    A JPEG is decoded at the smallest size whose sides reach ``side``, which is several times as
    fast as decoding it whole; every other format at its full size.

    Args:
        data: The whole file.
        side: Height and width that are enough, pixels.
        max_pixels: An image with more is ``too_large``.
    """
    found = find_format(data) if data else None
    header = _jpeg_header(data) if found is not None and found.name == "JPEG" else None
    if header is None or header.colors in _INKS or header.width * header.height > max_pixels:
        whole = decode(data, max_pixels=max_pixels)
        gray = None if whole.image is None else cv2.cvtColor(whole.image, cv2.COLOR_RGB2GRAY)
        return replace(whole, image=None if gray is None else np.asarray(gray, np.uint8))
    orientation = orientation_of_jpeg(data)
    try:
        pixels = _jpeg_pixels(data, "GRAY", min_height=side, min_width=side)
    except (ValueError, MemoryError) as error:
        return _unreadable("JPEG", error)
    size = _sides(header.width, header.height, orientation)
    return Decoded(OK, None, upright(pixels, orientation)[:, :, 0], *size)


def _failed(status: Status, error: str) -> Decoded:
    return Decoded(status, error, None, None, None)


def _unreadable(name: str, error: BaseException) -> Decoded:
    reason = " ".join(str(error).split()) or type(error).__name__
    return _failed(UNREADABLE, f"damaged {name} file: {reason[:200]}")


def _too_large(width: int, height: int, max_pixels: int) -> Decoded:
    error = f"{width} x {height} pixels, more than the {max_pixels} allowed"
    return Decoded(TOO_LARGE, error, None, width, height)


def _ok(image: Pixels, orientation: int) -> Decoded:
    image = upright(image, orientation)
    height, width = image.shape[:2]
    return Decoded(OK, None, image, width, height)


def _sides(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height of the upright image."""
    return (height, width) if swaps_sides(orientation) else (width, height)


# --- JPEG -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _JpegHeader:
    width: int
    height: int
    colors: str


def _jpeg_header(data: bytes) -> _JpegHeader | None:
    """Size and color space; None where the fast reader does not know this kind of JPEG."""
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return _JpegHeader(width, height, colors)


def _decode_jpeg(data: bytes, header: _JpegHeader, max_pixels: int) -> Decoded:
    orientation = orientation_of_jpeg(data)
    if header.width * header.height > max_pixels:
        return _too_large(*_sides(header.width, header.height, orientation), max_pixels)
    colors = "CMYK" if header.colors in _INKS else "RGB"
    try:
        image = _jpeg_pixels(data, colors)
    except (ValueError, MemoryError) as error:
        return _unreadable("JPEG", error)
    if colors == "CMYK":
        # Adobe writes inks inverted, and every other writer of CMYK JPEGs does as Adobe does.
        inks = Image.frombytes("CMYK", (header.width, header.height), (255 - image).tobytes())
        image = np.array(inks.convert("RGB"))
    return _ok(image, orientation)


def _jpeg_pixels(data: bytes, colors: str, **reduced: int) -> Pixels:
    """Pixels of a JPEG that is whole; smaller where ``reduced`` says what is enough.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colors, **reduced)
    except ValueError as error:
        if not _HARMLESS.search(str(error)):
            raise
        pixels = simplejpeg.decode_jpeg(data, colors, strict=False, **reduced)
    return pixels


# --- every other format -----------------------------------------------------------------------


def _decode_with_pillow(found: ImageFormat, data: bytes, max_pixels: int) -> Decoded:
    limit = _limit(found, max_pixels)
    size = found.size(data) if found.size else None
    if size and size[0] * size[1] > limit:
        return _too_large(*size, limit)
    try:
        # The reader itself, not Image.open: that one warns about large images before their size
        # can be checked here, and reports damaged files of a known format as unknown.
        image = found.open(io.BytesIO(found.prepare(data)))
        orientation = orientation_of(found, data, image)
        if image.width * image.height > limit:
            return _too_large(*_sides(*image.size, orientation), limit)
        image.load()
        if image.mode == "LAB":
            return _failed(UNSUPPORTED, "images in the LAB color space are not supported")
        return _ok(_rgb(image), orientation)
    except Image.DecompressionBombError as error:
        return _failed(TOO_LARGE, _first_clause(error))
    except READER_ERRORS as error:
        return _unreadable(found.name, error)


def _limit(found: ImageFormat, max_pixels: int) -> int:
    """Pixels that may be decoded: Pillow's TIFF reader has a limit of its own."""
    own = Image.MAX_IMAGE_PIXELS if found.name == "TIFF" else None
    return max_pixels if own is None else min(max_pixels, own)


def _first_clause(error: BaseException) -> str:
    return str(error).split(",", 1)[0]


def _rgb(image: Image.Image) -> Pixels:
    """Pixels of an opened image as 8-bit RGB, (H, W, 3)."""
    if image.mode == "F" or image.mode.startswith("I"):
        gray = _to_8_bits(np.asarray(image))
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        return _on_white(image)
    return np.array(image.convert("RGB"))


def _on_white(image: Image.Image) -> Pixels:
    """Transparent pixels laid on white, the page that such pictures are made for."""
    layer = image.convert("RGBA")
    page = Image.new("RGBA", layer.size, "white")
    return np.array(Image.alpha_composite(page, layer).convert("RGB"))


def _to_8_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Gray values of any depth, scaled to 0-255.

    Unsigned 16-bit values are scaled by their full range, as are integers that fit it. Fractions
    are taken as 0-1 where they fit it, else as 0-255; what fits neither is stretched from its
    lowest to its highest value.
    """
    with np.errstate(invalid="ignore"):  # some bit patterns are no number
        gray = np.nan_to_num(values.astype(np.float64))
    low, high = float(gray.min()), float(gray.max())
    whole = values.dtype.kind in "iu"
    for top in (65535.0,) if whole else (1.0, 255.0):
        if low >= 0 and high <= top:
            return np.rint(gray * (255.0 / top)).astype(np.uint8)
    with np.errstate(over="ignore"):
        scaled = (gray / 2 - low / 2) / max(high / 2 - low / 2, np.finfo(np.float64).tiny)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
