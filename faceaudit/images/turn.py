"""Turning an image upright."""

from __future__ import annotations

from enum import IntEnum

import cv2
import numpy as np

from faceaudit.images.orientation import Pixels, swaps_sides


class _Flip(IntEnum):
    """What OpenCV calls its mirrors."""

    BOTH = -1
    UPSIDE_DOWN = 0
    LEFT_RIGHT = 1


_FLIPS = {
    2: _Flip.LEFT_RIGHT,
    3: _Flip.BOTH,
    4: _Flip.UPSIDE_DOWN,
    6: _Flip.LEFT_RIGHT,
    7: _Flip.BOTH,
    8: _Flip.UPSIDE_DOWN,
}
"""Stored to upright, by the value of the orientation tag, after swapping sides from 5 on; 6 is the
camera held clockwise."""


def upright(image: Pixels, orientation: int) -> Pixels:
    """The image turned upright, as a contiguous array.

    Args:
        image: Pixels as stored, RGB (H, W, 3) or gray (H, W).
        orientation: Value of the tag, 1 to 8.
    """
    turned = cv2.transpose(image) if swaps_sides(orientation) else image
    if orientation in _FLIPS:
        turned = cv2.flip(turned, _FLIPS[orientation])
    return np.asarray(turned, dtype=np.uint8)
