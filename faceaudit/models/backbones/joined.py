"""Several backbones side by side, as ``A+B``: heads read the features of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from faceaudit.errors import UsageError
from faceaudit.models.backbones.backbone import Backbone

if TYPE_CHECKING:
    from torch import Tensor, nn

SIGN = "+"
"""Between the names of the parts."""


def build(parts: Sequence[Backbone]) -> nn.Module:
    """The trunks of the parts; the pooled features of all, in their order, are its maps."""
    import torch
    from torch import nn
    from torch.nn.functional import adaptive_avg_pool2d

    class Joined(nn.Module):
        """Pooled features (N, F, 1, 1) of several trunks, F being the sum of theirs."""

        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(part.build() for part in parts)

        def forward(self, images: Tensor) -> Tensor:
            return torch.cat([adaptive_avg_pool2d(part(images), 1) for part in self.parts], dim=1)

    return Joined()


def join(parts: Sequence[Backbone]) -> Backbone:
    """The backbone of several, which starts from a bundle of each or from random weights.

    Raises:
        UsageError: If a part has no name, or two were made for inputs of different sizes.
    """
    name = SIGN.join(part.name for part in parts)
    sizes = {part.size: part.name for part in parts if part.size}
    if len(sizes) > 1:
        told = ", ".join(f"{one} of {size} pixels" for size, one in sizes.items())
        raise UsageError(f"backbone {name}: its parts take images of different sizes: {told}")
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
        size=next(iter(sizes), None),
        elsewhere=(f'{name}: give start, a bundle of each of its parts, with weights = "none"'),
    )
