"""MobileNetV3 Large and Small (Howard and others, ICCV 2019), as torchvision builds them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from faceaudit.models.backbones.backbone import Backbone, torchvision_weights

if TYPE_CHECKING:
    from torch import nn

PAPER = "Howard and others: Searching for MobileNetV3, ICCV 2019"


def build(name: str) -> nn.Module:
    """The trunk without pooling and classifier.

    Its norms follow a batch by a tenth, as those of all other trunks here. torchvision's follow by
    a hundredth, which suits ImageNet's hundreds of thousands of steps: after the hundreds that an
    epoch has here, statistics lag so far behind the weights that evaluation is off.
    """
    import torchvision
    from torch.nn import BatchNorm2d

    trunk: nn.Module = getattr(torchvision.models, name)(weights=None).features
    for layer in trunk.modules():
        if isinstance(layer, BatchNorm2d):
            layer.momentum = 0.1
    return trunk


MOBILENET_V3_LARGE = Backbone(
    name="mobilenet_v3_large",
    features=960,
    build=partial(build, "mobilenet_v3_large"),
    last_block=("13.", "14.", "15.", "16."),
    sources=torchvision_weights("mobilenet_v3_large-8738ca79.pth", "features."),
    paper=PAPER,
)
MOBILENET_V3_SMALL = Backbone(
    name="mobilenet_v3_small",
    features=576,
    build=partial(build, "mobilenet_v3_small"),
    last_block=("9.", "10.", "11.", "12."),
    sources=torchvision_weights("mobilenet_v3_small-047dcff4.pth", "features."),
    paper=PAPER,
)
