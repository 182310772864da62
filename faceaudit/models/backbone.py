"""What every backbone says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Backbone:
    """A trunk from images (N, 3, S, S) to feature maps (N, F, H, W).

    ``build`` makes it with random weights; ``load_imagenet`` copies ImageNet weights into it and
    raises a ``BundleError`` that names the missing file where they are not installed.
    """

    name: str
    features: int
    build: Callable[[], nn.Module]
    load_imagenet: Callable[[nn.Module], None]
    weights_source: str
    weights_licence: str


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per channel (RGB), of pixels in 0 to 1; what ImageNet weights were trained with."""
