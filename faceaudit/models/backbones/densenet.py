"""DenseNet121 (Huang and others, CVPR 2017), as torchvision builds it."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from faceaudit.models.backbones.backbone import Backbone, torchvision_weights

if TYPE_CHECKING:
    from torch import Tensor, nn


def build() -> nn.Module:
    """The network up to its last activation, without pooling and classifier; 1024 maps."""
    import torchvision
    from torch import nn

    features = torchvision.models.densenet121(weights=None).features
    return nn.Sequential(OrderedDict(features=features, relu=nn.ReLU(inplace=True)))


def convert(tensors: Mapping[str, Tensor], trunk: nn.Module) -> Mapping[str, Tensor]:
    """The trunk's tensors, whose names in torchvision's old file have one more dot."""
    found = {re.sub(r"\.(norm|conv)\.(\d)\.", r".\1\2.", name): t for name, t in tensors.items()}
    return {name: found[name] for name in trunk.state_dict() if name in found}


DENSENET121 = Backbone(
    name="densenet121",
    features=1024,
    build=build,
    last_block=("features.denseblock4.", "features.norm5."),
    sources=torchvision_weights(
        "densenet121-a639ec97.pth", ported_from="LuaTorch", convert=convert
    ),
    paper="Huang, Liu, van der Maaten, Weinberger: Densely Connected Networks, CVPR 2017",
)
