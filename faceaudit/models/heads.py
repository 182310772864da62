"""Heads: from feature maps to one output per task.

The pooled features stay (N, F, 1, 1) and the last layer is a 1x1 convolution: a runtime then works
image by image through the whole graph, and a row's values do not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MultiTaskNetwork(nn.Module):
    """A trunk shared by all tasks and one linear head each (hard parameter sharing).

    Args:
        trunk: From images (N, 3, S, S) to feature maps (N, F, H, W).
        features: F.
        outputs: Output name -> number of classes, such as ``{"gender": 2, "age": 101}``.
        dropout: Share of pooled features dropped in training, 0 to 1.
    """

    def __init__(
        self, trunk: nn.Module, features: int, outputs: Mapping[str, int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict(
            {name: nn.Conv2d(features, size, kernel_size=1) for name, size in outputs.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits by output name, (N, K) each, of normalised images (N, 3, S, S)."""
        maps = self.trunk(images)  # (N, F, H, W)
        pooled = self.dropout(nn.functional.adaptive_avg_pool2d(maps, 1))  # (N, F, 1, 1)
        return {name: head(pooled).flatten(1) for name, head in self.heads.items()}


class Deployed(nn.Module):
    """A network as it is deployed: uint8 RGB crops in, a tuple of logits out.

    Normalisation is part of the graph, so no runtime can get it wrong.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: MultiTaskNetwork, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Logits in the order of the heads, of uint8 crops (N, S, S, 3)."""
        images = crops.permute(0, 3, 1, 2).float()  # (N, 3, S, S)
        return tuple(self.network((images - self.mean) / self.std).values())
