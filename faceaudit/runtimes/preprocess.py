"""Pixels to what a graph without its own normalization takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.models.facts import LUMA, Input


def prepare(crops: NDArray[np.uint8], facts: Input, dtype: type = np.float32) -> NDArray[Any]:
    """Images in the graph's layout and type, of RGB crops (N, S, S, 3); uint8 ones as they are."""
    if facts.color == "BGR":
        crops = crops[..., ::-1]
    elif facts.color == "gray":
        red, green, blue = (crops[..., k : k + 1] * np.float32(LUMA[k]) for k in range(3))
        crops = np.rint(red + green + blue).astype(np.uint8)  # whole levels, as gray images have
    images: NDArray[Any] = crops
    if dtype != np.uint8:
        mean = np.asarray(facts.mean, np.float32)
        std = np.asarray(facts.std, np.float32)
        images = (crops.astype(np.float32) * np.float32(facts.range / 255) - mean) / std
    if facts.layout == "NCHW":
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images, dtype)
