"""Trunks of networks, and the pretrained weights they can start from.

To add an architecture: one file in this folder with a ``Backbone``, one entry in ``BACKBONES``.
torch is imported only when a trunk is built.
"""

from __future__ import annotations

from faceaudit.errors import UnknownNameError
from faceaudit.models.backbones import joined, timm_trunk
from faceaudit.models.backbones.backbone import Backbone
from faceaudit.models.backbones.custom_cnn import CUSTOM_CNN
from faceaudit.models.backbones.densenet import DENSENET121
from faceaudit.models.backbones.efficientnet import EFFICIENTNET_B1, EFFICIENTNET_B3
from faceaudit.models.backbones.efficientnet_lite import EFFICIENTNET_LITE0, EFFICIENTNET_LITE2
from faceaudit.models.backbones.mobilefacenet import MOBILEFACENET
from faceaudit.models.backbones.mobilenet_v2 import MOBILENET_V2
from faceaudit.models.backbones.mobilenet_v3 import MOBILENET_V3_LARGE, MOBILENET_V3_SMALL
from faceaudit.models.backbones.resnet import RESNET34, RESNET50
from faceaudit.models.backbones.vgg import VGG16, VGG19

BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        EFFICIENTNET_LITE0,
        EFFICIENTNET_LITE2,
        MOBILENET_V2,
        MOBILENET_V3_LARGE,
        MOBILENET_V3_SMALL,
        EFFICIENTNET_B1,
        EFFICIENTNET_B3,
        MOBILEFACENET,
        VGG16,
        VGG19,
        RESNET34,
        RESNET50,
        DENSENET121,
        CUSTOM_CNN,
    )
}


def find_backbone(name: str) -> Backbone:
    """The backbone of this name; ``timm:NAME`` is any network of timm, ``A+B`` two side by side.

    Raises:
        UnknownNameError: If there is none.
    """
    if joined.SIGN in name:
        return joined.join([find_backbone(part) for part in name.split(joined.SIGN)])
    if name.startswith(timm_trunk.PREFIX):
        return timm_trunk.find(name)
    if name not in BACKBONES:
        raise UnknownNameError("backbone", name, [*BACKBONES, "timm:NAME", "A+B"])
    return BACKBONES[name]
