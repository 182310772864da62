"""Every format but the plain JPEG, by Pillow's readers; ``isolation.py`` runs this apart."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from faceaudit.images.decoded import Decoded, failed, too_large, unreadable, upright_size
from faceaudit.images.formats import ImageFormat, orientation_of
from faceaudit.images.orientation import UPRIGHT, Pixels
from faceaudit.statuses import OK, TOO_LARGE, UNSUPPORTED

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


_UNKNOWN_PIXELS = "unknown pixel mode"
"""What Pillow's TIFF reader says of three floats per pixel, or one of 64 bits."""
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
"""The tag of a TIFF that says what values mean; Pillow heeds it up to 8 bits (TIFF 6.0, 8)."""
_BLOCK_PIXELS = 1 << 20
"""Pixels of a deep image that are scaled at once: their fractions take much memory."""


def read_with_pillow(found: ImageFormat, data: bytes, max_pixels: int) -> tuple[Decoded, int]:
    """An image as RGB the way it is stored, and its orientation; never raises for damaged files.

    Args:
        found: The format of the file.
        data: The whole file.
        max_pixels: An image with more is ``too_large``, told from its header and never decoded.
    """
    limit = _limit(found, max_pixels)
    size = found.size(data) if found.size else None
    if size and size[0] * size[1] > limit:
        orientation = found.orientation(data) if found.orientation else UPRIGHT
        return too_large(upright_size(*size, orientation), limit), orientation
    try:
        # The reader itself, not Image.open: that one warns about large images before their size
        # can be checked here, and reports damaged files of a known format as unknown.
        image = found.open(io.BytesIO(found.prepare(data)))
        orientation = orientation_of(found, data, image)
        size = upright_size(*image.size, orientation)
        if size[0] * size[1] > limit:
            return too_large(size, limit), orientation
        image.load()
        if found.check is not None:
            found.check(data, image)
        if image.mode == "LAB":
            error = "images in the LAB color space are not supported"
            return failed(UNSUPPORTED, error), orientation
        size = upright_size(*image.size, orientation)
        return Decoded(OK, None, _rgb(image), *size), orientation
    except Image.DecompressionBombError as error:
        return failed(TOO_LARGE, str(error).split(",", 1)[0]), UPRIGHT
    except READER_ERRORS as error:
        if found.name == "TIFF" and _UNKNOWN_PIXELS in str(error):
            reason = "TIFF images with pixels of this kind or depth are not supported"
            return failed(UNSUPPORTED, reason), UPRIGHT
        return unreadable(found.name, error), UPRIGHT


def _limit(found: ImageFormat, max_pixels: int) -> int:
    """Pixels that may be decoded: Pillow's TIFF reader has a limit of its own.

    A process for decoding raises it to what is allowed.
    """
    own = Image.MAX_IMAGE_PIXELS if found.name == "TIFF" else None
    return max_pixels if own is None else min(max_pixels, own)


def _rgb(image: Image.Image) -> Pixels:
    """Pixels of an opened image as 8-bit RGB, (H, W, 3)."""
    if image.mode == "F" or image.mode.startswith("I"):
        gray = _to_8_bits(np.asarray(image))
        if image.mode.startswith("I;16") and _is_negative(image):
            gray = 255 - gray
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        return _on_white(image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _is_negative(image: Image.Image) -> bool:
    """Whether an image is a TIFF in which the lowest value is white."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    return bool(image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def _on_white(image: Image.Image) -> Pixels:
    """Transparent pixels laid on white, the page that such pictures are made for."""
    layer = image.convert("RGBA")
    page = Image.new("RGBA", layer.size, "white")
    return np.asarray(Image.alpha_composite(page, layer).convert("RGB"))


def _to_8_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Gray values of any depth, scaled to 0-255.

    Unsigned 16-bit values are scaled by their full range, as are integers that fit it. Fractions
    are taken as 0-1 where they fit it, else as 0-255; what fits neither is stretched from its
    lowest to its highest value.
    """
    rows = max(1, _BLOCK_PIXELS // values.shape[1])
    blocks = [slice(start, start + rows) for start in range(0, values.shape[0], rows)]
    low = min(float(_finite(values[block]).min()) for block in blocks)
    high = max(float(_finite(values[block]).max()) for block in blocks)
    gray = np.empty(values.shape, np.uint8)
    for block in blocks:
        gray[block] = _scaled(_finite(values[block]), low, high, values.dtype.kind in "iu")
    return gray


def _finite(values: NDArray[np.generic]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # some bit patterns are no number
        return np.nan_to_num(values.astype(np.float64))


def _scaled(gray: NDArray[np.float64], low: float, high: float, whole: bool) -> NDArray[np.float64]:
    """Values as 0 to 255, of an image whose values are whole or not, and reach from low to high."""
    for top in (65535.0,) if whole else (1.0, 255.0):
        if low >= 0 and high <= top:
            return np.rint(gray * (255.0 / top))
    with np.errstate(over="ignore"):
        scaled = (gray / 2 - low / 2) / max(high / 2 - low / 2, np.finfo(np.float64).tiny)
    return np.rint(np.clip(scaled, 0, 1) * 255)
