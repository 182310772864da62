"""The bytes of an image file, decoded to upright RGB or to a reason why not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from faceaudit.images.decoded import Decoded, failed, unreadable, upright_size
from faceaudit.images.formats import describe, find_format
from faceaudit.images.isolation import POOL
from faceaudit.images.jpeg import INKS, decode_jpeg, has_too_many_scans, read_header, read_pixels
from faceaudit.images.orientation import orientation_of_jpeg
from faceaudit.images.turn import upright
from faceaudit.schema import OK, UNREADABLE, UNSUPPORTED

__all__ = ["MAX_PIXELS", "Decoded", "decode", "decode_gray"]

MAX_PIXELS = 100_000_000


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, enough_side: int | None = None) -> Decoded:
    """An image file as upright RGB, 8 bits per channel; never raises for what a file holds.

    The format is told by the content. Of an animation the first frame counts. Deeper channels are
    scaled to 8 bits, transparent pixels are laid on white, color profiles are not applied. A file
    that is cut off or damaged gives no image, rather than one that is partly gray. A plain JPEG is
    decoded here, everything else in a process that may crash.

    Args:
        data: The whole file.
        max_pixels: An image with more is ``too_large``, told from its header and never decoded.
        enough_side: Longer side that is enough, pixels: a large JPEG is decoded at a half, a
            quarter or an eighth of its size (``Decoded.reduction``) as long as it has that much;
            one that is turned, only where that divides its sides.
    """
    if not data:
        return failed(UNREADABLE, "the file is empty")
    found = find_format(data)
    if found is None:
        return failed(UNSUPPORTED, f"not an image of a supported format: {describe(data)}")
    if found.name == "JPEG" and (header := read_header(data)):
        return decode_jpeg(data, header, max_pixels, enough_side)
    result, orientation = POOL.decode(found, data, max_pixels)
    if result.image is None:
        return result
    return replace(result, image=upright(result.image, orientation))


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
    header = read_header(data) if found is not None and found.name == "JPEG" else None
    if (
        header is None
        or header.colors in INKS
        or header.width * header.height > max_pixels
        or has_too_many_scans(data)
    ):
        whole = decode(data, max_pixels=max_pixels)
        gray = None if whole.image is None else cv2.cvtColor(whole.image, cv2.COLOR_RGB2GRAY)
        return replace(whole, image=None if gray is None else np.asarray(gray, np.uint8))
    orientation = orientation_of_jpeg(data)
    try:
        pixels = read_pixels(data, "GRAY", min_height=side, min_width=side)
    except ValueError as error:
        return unreadable("JPEG", error)
    size = upright_size(header.width, header.height, orientation)
    return Decoded(OK, None, upright(pixels[:, :, 0], orientation), *size)
