"""VGG16 and VGG19 (Simonyan and Zisserman, ICLR 2015), as torchvision builds them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from faceaudit.models.backbones.backbone import Backbone, Weights, torchvision_weights

if TYPE_CHECKING:
    from torch import nn

PAPER = "Simonyan and Zisserman: Very Deep Convolutional Networks, ICLR 2015"
VGGFACE = Weights(
    file="rcmalli_vggface_tf_notop_vgg16.h5",
    training_data="VGGFace (Parkhi and others, BMVC 2015), converted to Keras by rcmalli",
    licence="CC BY-NC 4.0: research only",
    research_only=True,
    url="https://github.com/rcmalli/keras-vggface/releases/download/v2.0/"
    "rcmalli_vggface_tf_notop_vgg16.h5",
)


def build(name: str) -> nn.Module:
    """The convolutions with their pooling, without classifier; 512 feature maps."""
    import torchvision

    trunk: nn.Module = getattr(torchvision.models, name)(weights=None).features
    return trunk


VGG16 = Backbone(
    name="vgg16",
    features=512,
    build=partial(build, "vgg16"),
    last_block=("24.", "26.", "28."),
    sources={**torchvision_weights("vgg16-397923af.pth", "features."), "vggface": VGGFACE},
    paper=PAPER,
)
VGG19 = Backbone(
    name="vgg19",
    features=512,
    build=partial(build, "vgg19"),
    last_block=("28.", "30.", "32.", "34."),
    sources=torchvision_weights("vgg19-dcbb9e9d.pth", "features."),
    paper=PAPER,
)
