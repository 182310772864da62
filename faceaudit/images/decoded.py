"""What decoding gives: an image as upright RGB, or a reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceaudit.images.orientation import swaps_sides
from faceaudit.statuses import TOO_LARGE, UNREADABLE, Status


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
    reduction: int = 1
    """How many pixels of the upright image, per side, one pixel of ``image`` stands for."""


def failed(status: Status, error: str) -> Decoded:
    """No image, and why."""
    return Decoded(status, error, None, None, None)


def unreadable(name: str, error: BaseException) -> Decoded:
    """No image, because a reader gave up."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return failed(UNREADABLE, f"damaged {name} file: {reason[:200]}")


def too_large(size: tuple[int, int], max_pixels: int) -> Decoded:
    """No image, because it is larger than what is allowed.

    Args:
        size: Width and height of the upright image.
        max_pixels: What is allowed.
    """
    error = f"{size[0]} x {size[1]} pixels, more than the {max_pixels} allowed"
    return Decoded(TOO_LARGE, error, None, *size)


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height of the upright image."""
    return (height, width) if swaps_sides(orientation) else (width, height)
