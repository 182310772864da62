"""Several backbones side by side, as ``A+B``: heads read the features of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from faceaudit.models.backbones.backbone import Backbone

if TYPE_CHECKING:
    from torch import Tensor, nn

SIGN = "+"
"""Between the names of the parts."""


def build(parts: Sequence[Backbone]) -> nn.Module:
    """The trunks of the parts; the pooled features of all, in their order, are its maps."""
    import torch
    from torch import nn
    from torch.nn.functional import adaptive_avg_pool2d, interpolate

    class Joined(nn.Module):
        """Pooled features (N, F, 1, 1) of several trunks, F being the sum of theirs.

        A trunk that was made for one size gets the images in that size.
        """

        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(part.build() for part in parts)
            self.sizes = tuple(part.size for part in parts)

        def forward(self, images: Tensor) -> Tensor:
            pooled = []
            for part, size in zip(self.parts, self.sizes, strict=True):
                seen = interpolate(images, size=(size, size), mode="bilinear") if size else images
                pooled.append(adaptive_avg_pool2d(part(seen), 1))
            return torch.cat(pooled, dim=1)

    return Joined()


def join(parts: Sequence[Backbone]) -> Backbone:
    """The backbone of several, which starts from a bundle of each or from random weights."""
    name = SIGN.join(part.name for part in parts)
    return Backbone(
        name=name,
        features=sum(part.features for part in parts),
        build=partial(build, tuple(parts)),
        last_block=tuple(
            f"parts.{number}.{block}"
            for number, part in enumerate(parts)
            for block in part.last_block
        )
        if all(part.last_block for part in parts)
        else (),
        paper="; ".join(part.paper for part in parts if part.paper),
        elsewhere=(f'{name}: give start, a bundle of each of its parts, with weights = "none"'),
    )
