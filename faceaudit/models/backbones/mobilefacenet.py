"""MobileFaceNet (Chen and others, CCBR 2018): a face-recognition trunk for 112-pixel crops.

The feature maps of the trunk are the 512 outputs of the global depthwise convolution, (N, 512, 1,
1): attributes that identity does not need are less squeezed there than in the 128-number embedding
behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from faceaudit.models.backbones.backbone import Backbone, Weights

if TYPE_CHECKING:
    from torch import Tensor, nn

STAGES = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
"""Inverted residuals: expansion, channels, repeats, stride of the first."""


def build() -> nn.Module:
    """The trunk up to the global depthwise convolution; 512 feature maps of one pixel."""
    from torch import nn

    def conv(
        before: int, after: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> list[nn.Module]:
        layer = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [layer, nn.BatchNorm2d(after)]

    class Residual(nn.Module):
        """Expand, filter each channel, project; the input is added where shapes allow."""

        def __init__(self, before: int, after: int, expansion: int, stride: int) -> None:
            super().__init__()
            wide = before * expansion
            self.adds = stride == 1 and before == after
            self.layers = nn.Sequential(
                *conv(before, wide, 1),
                nn.ReLU6(inplace=True),
                *conv(wide, wide, 3, stride, groups=wide),
                nn.ReLU6(inplace=True),
                *conv(wide, after, 1),
            )

        def forward(self, maps: Tensor) -> Tensor:
            found: Tensor = self.layers(maps)
            return maps + found if self.adds else found

    layers: list[nn.Module] = [*conv(3, 64, 3, 2), nn.ReLU6(inplace=True)]
    layers += [*conv(64, 64, 3, groups=64), nn.ReLU(inplace=True)]
    layers += [*conv(64, 64, 1), nn.ReLU(inplace=True)]
    channels = 64
    for expansion, after, repeats, stride in STAGES:
        for index in range(repeats):
            layers.append(Residual(channels, after, expansion, stride if index == 0 else 1))
            channels = after
    layers += [*conv(channels, 512, 1), nn.ReLU6(inplace=True)]
    layers += [nn.Conv2d(512, 512, 7, groups=512, bias=False), nn.BatchNorm2d(512)]
    return nn.Sequential(*layers)


def convert(tensors: Mapping[str, Tensor], trunk: nn.Module) -> Mapping[str, Tensor]:
    """The file's tensors in the order in which the network applies them."""
    parts = [("conv1.0", "conv1.1")]
    parts += [("dw_conv.depthwise", "dw_conv.bn1"), ("dw_conv.pointwise", "dw_conv.bn2")]
    for index in range(sum(repeats for _, _, repeats, _ in STAGES)):
        block = f"features.{index}.conv"
        parts += [(f"{block}.0.0", f"{block}.0.1"), (f"{block}.1.0", f"{block}.1.1")]
        parts += [(f"{block}.2", f"{block}.3")]
    parts += [("conv2.0", "conv2.1"), ("gdconv.depthwise", "gdconv.bn")]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = [
        name for conv, bn in parts for name in (f"{conv}.weight", *(f"{bn}.{key}" for key in norm))
    ]
    pairs = zip(trunk.state_dict(), names, strict=True)
    return {own: tensors[name] for own, name in pairs if name in tensors}


MOBILEFACENET = Backbone(
    name="mobilefacenet",
    features=512,
    build=build,
    last_block=("22.", "23.", "24.", "25.", "27.", "28."),
    sources={
        "mobilefacenet": Weights(
            file="mobilefacenet_ms1m.safetensors",
            training_data="MS-Celeb-1M, a data set withdrawn since (foamliu/MobileFaceNet)",
            licence="Apache-2.0 by its author; the data make it research only",
            convert=convert,
            research_only=True,
        )
    },
    paper="Chen, Liu, Gao, Han: MobileFaceNets, CCBR 2018",
    size=112,
)
