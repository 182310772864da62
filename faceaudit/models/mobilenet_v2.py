"""MobileNetV2 (Sandler and others, CVPR 2018), as torchvision builds it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from faceaudit.errors import BundleError
from faceaudit.models.backbone import Backbone

if TYPE_CHECKING:
    from torch import nn

WEIGHTS_FILE = "mobilenet_v2-b0353104.pth"


def build() -> nn.Module:
    """The trunk without pooling and classifier; 1280 feature maps."""
    import torchvision

    trunk: nn.Module = torchvision.models.mobilenet_v2(weights=None).features
    return trunk


def load_imagenet(trunk: nn.Module) -> None:
    """Copy torchvision's ImageNet weights from its cache into a trunk; nothing is downloaded."""
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_FILE
    if not path.is_file():
        raise BundleError(
            f"mobilenet_v2: no ImageNet weights at {path}; place torchvision's {WEIGHTS_FILE} "
            "there (BSD-3-Clause) or set TORCH_HOME to the folder that has it"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "features."
    trunk.load_state_dict(
        {name.removeprefix(prefix): value for name, value in state.items() if prefix in name}
    )


MOBILENET_V2 = Backbone(
    name="mobilenet_v2",
    features=1280,
    build=build,
    load_imagenet=load_imagenet,
    weights_source="ImageNet-1k, torchvision's IMAGENET1K_V1 file",
    weights_licence="BSD-3-Clause",
)
