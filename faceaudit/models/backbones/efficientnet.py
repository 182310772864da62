"""EfficientNet-B1 and -B3 (Tan and Le, ICML 2019), as torchvision builds them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from faceaudit.models.backbones.backbone import Backbone, torchvision_weights

if TYPE_CHECKING:
    from torch import nn

PAPER = "Tan and Le: EfficientNet, ICML 2019"
ORIGIN = "the original paper's"


def build(name: str) -> nn.Module:
    """The trunk without pooling and classifier."""
    import torchvision

    trunk: nn.Module = getattr(torchvision.models, name)(weights=None).features
    return trunk


EFFICIENTNET_B1 = Backbone(
    name="efficientnet_b1",
    features=1280,
    build=partial(build, "efficientnet_b1"),
    last_block=("7.", "8."),
    sources=torchvision_weights(
        "efficientnet_b1_rwightman-bac287d4.pth", "features.", ported_from=ORIGIN
    ),
    paper=PAPER,
)
EFFICIENTNET_B3 = Backbone(
    name="efficientnet_b3",
    features=1536,
    build=partial(build, "efficientnet_b3"),
    last_block=("7.", "8."),
    sources=torchvision_weights(
        "efficientnet_b3_rwightman-b3899882.pth", "features.", ported_from=ORIGIN
    ),
    paper=PAPER,
)
