"""Any network of timm, as ``timm:NAME``."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from faceaudit.errors import UnknownNameError
from faceaudit.models.backbones.backbone import Backbone

if TYPE_CHECKING:
    from torch import nn

PREFIX = "timm:"


def build(name: str) -> nn.Module:
    """The network's last feature maps, channels first, with random weights."""
    import timm
    from torch import Tensor, nn

    class Last(nn.Module):
        """The only map of a network of features."""

        def __init__(self) -> None:
            super().__init__()
            self.network = create(name)

        def forward(self, images: Tensor) -> Tensor:
            maps: Tensor = self.network(images)[-1]
            return maps

    def create(name: str) -> nn.Module:
        made: nn.Module = timm.create_model(
            name, pretrained=False, features_only=True, out_indices=[-1]
        )
        return made

    return Last()


def find(name: str) -> Backbone:
    """The backbone of a timm network.

    Raises:
        UnknownNameError: If timm has none of this name.
    """
    import timm

    plain = name.removeprefix(PREFIX)
    if not timm.is_model(plain):
        near = get_close_matches(plain, timm.list_models(), 5)
        raise UnknownNameError("timm network", plain, near or ["see timm.list_models()"])
    import torch

    with torch.device("meta"):
        info = timm.create_model(plain, pretrained=False, features_only=True, out_indices=[-1])
    facts: Any = info.feature_info
    features = int(facts.channels()[-1])
    return Backbone(name=name, features=features, build=partial(build, plain), last_block=())
