"""The plain CNN of the reference works: five times convolution, batch norm, pooling.

Sohan-Sekhar-Sabat's ``mtcnn-implementation`` gives the widths 32 to 512; what stands between them
is our reading of it. dileepajj's own CNN is not public at all, so it is this one too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from faceaudit.models.backbones.backbone import Backbone

if TYPE_CHECKING:
    from torch import nn

WIDTHS = (32, 64, 128, 256, 512)


def build() -> nn.Module:
    """The trunk; each block halves the maps."""
    from torch import nn

    layers: list[nn.Module] = []
    for before, after in zip((3, *WIDTHS), WIDTHS, strict=False):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*layers)


CUSTOM_CNN = Backbone(
    name="custom_cnn", features=WIDTHS[-1], build=build, last_block=("16.", "17.")
)
