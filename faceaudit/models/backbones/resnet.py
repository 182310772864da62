"""ResNet34 and ResNet50 (He and others, CVPR 2016), as torchvision builds them."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from faceaudit.models.backbones.backbone import Backbone, torchvision_weights

if TYPE_CHECKING:
    from torch import nn

PAPER = "He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016"


def build(name: str) -> nn.Module:
    """The network up to its last feature maps, without pooling and classifier."""
    import torchvision
    from torch import nn

    whole = getattr(torchvision.models, name)(weights=None)
    kept = [part for part in whole.named_children() if part[0] not in ("avgpool", "fc")]
    return nn.Sequential(OrderedDict(kept))


RESNET34 = Backbone(
    name="resnet34",
    features=512,
    build=partial(build, "resnet34"),
    last_block=("layer4.",),
    sources=torchvision_weights("resnet34-b627a593.pth"),
    paper=PAPER,
)
RESNET50 = Backbone(
    name="resnet50",
    features=2048,
    build=partial(build, "resnet50"),
    last_block=("layer4.",),
    sources=torchvision_weights("resnet50-0676ba61.pth"),
    paper=PAPER,
)
