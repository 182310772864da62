"""Anchors: where RetinaFace looks, and how its outputs become boxes and landmarks in pixels.

Source:
    Sizes, strides and variances of the MobileNet-0.25 weights, as their training code (biubug6,
    Pytorch_Retinaface) sets them; the encoding is that of SSD (Liu et al., ECCV 2016).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

STRIDES = (8, 16, 32)
ANCHOR_SIZES = ((16, 32), (64, 128), (256, 512))
"""Sides of the square anchors of every cell, in pixels, per stride."""
ANCHORS_PER_CELL = 2
CENTER_VARIANCE, SIZE_VARIANCE = 0.1, 0.2
MEAN_RGB = (123, 117, 104)
"""Subtracted from red, green and blue; pixels of this color are what the network sees as zero."""

Floats = NDArray[np.float32]


@lru_cache(maxsize=64)
def anchors(height: int, width: int) -> Floats:
    """Center x, center y and side of every anchor, in pixels; (A, 3).

    Args:
        height: Of the network's input, a multiple of the largest stride.
        width: Likewise.
    """
    levels = []
    for stride, sizes in zip(STRIDES, ANCHOR_SIZES, strict=True):
        y, x, size = np.meshgrid(
            (np.arange(height // stride) + 0.5) * stride,
            (np.arange(width // stride) + 0.5) * stride,
            np.asarray(sizes, dtype=np.float64),
            indexing="ij",
        )
        levels.append(np.stack([x, y, size], axis=-1).reshape(-1, 3))
    found = np.concatenate(levels).astype(np.float32)
    found.setflags(write=False)  # shared by all callers of this size
    return found


def decode_boxes(deltas: Floats, at: Floats) -> Floats:
    """Boxes ``x0, y0, x1, y1`` in pixels of the network's input; (K, 4).

    Args:
        deltas: Outputs of the box heads, (K, 4).
        at: Their anchors, (K, 3).
    """
    centers = at[:, :2] + deltas[:, :2] * CENTER_VARIANCE * at[:, 2:]
    half = at[:, 2:] * np.exp(deltas[:, 2:] * SIZE_VARIANCE) / 2
    return np.concatenate([centers - half, centers + half], axis=1)


def decode_landmarks(deltas: Floats, at: Floats) -> Floats:
    """Landmarks in pixels of the network's input; (K, 5, 2).

    Args:
        deltas: Outputs of the landmark heads, (K, 10).
        at: Their anchors, (K, 3).
    """
    offsets = deltas.reshape(-1, 5, 2) * CENTER_VARIANCE * at[:, None, 2:]
    return at[:, None, :2] + offsets
