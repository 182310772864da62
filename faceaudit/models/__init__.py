"""Networks that predict attributes from face crops, and the bundles they are saved in.

To add an architecture: one file in this folder with a ``Backbone``, one entry in ``BACKBONES``.
torch is imported only when a network is built: bundles run without it.
"""

from __future__ import annotations

from faceaudit.errors import UnknownNameError
from faceaudit.models.backbone import Backbone
from faceaudit.models.efficientnet_lite0 import EFFICIENTNET_LITE0
from faceaudit.models.mobilenet_v2 import MOBILENET_V2

BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone for backbone in (EFFICIENTNET_LITE0, MOBILENET_V2)
}


def find_backbone(name: str) -> Backbone:
    """The backbone of this name.

    Raises:
        UnknownNameError: If there is none.
    """
    if name not in BACKBONES:
        raise UnknownNameError("backbone", name, BACKBONES)
    return BACKBONES[name]
