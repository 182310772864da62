"""Heads: from feature maps to one output per task, and how the tasks share.

To add a kind of head: one class here and one entry in ``HEADS``. Pooled features stay (N, F, 1, 1)
and every dense layer is a 1x1 convolution: a runtime then works image by image through the whole
graph, and a row's values do not depend on its batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from faceaudit.errors import UnknownNameError, UsageError
from faceaudit.models.backbones.backbone import Backbone

GENDER = "gender"
"""The output that the gender embedding is learned by."""


Units = Sequence[int] | Mapping[str, Sequence[int]]
"""Widths of the hidden layers of every output, or of each by its name."""


def dense(before: int, after: int) -> nn.Module:
    """A fully connected layer with ReLU on (N, F, 1, 1)."""
    return nn.Sequential(nn.Conv2d(before, after, kernel_size=1), nn.ReLU(inplace=True))


def linear(features: int, units: Sequence[int], size: int, dropout: float) -> nn.Module:
    """One layer; dropout acts on the shared features."""
    return nn.Conv2d(features, size, kernel_size=1)


def dense_stack(features: int, units: Sequence[int], size: int, dropout: float) -> nn.Module:
    """Hidden layers of ``units`` with ReLU, dropout after the last, and the output."""
    widths = [features, *units]
    layers = [dense(before, after) for before, after in itertools.pairwise(widths)]
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Conv2d(widths[-1], size, kernel_size=1))


def conv_stack(features: int, units: Sequence[int], size: int, dropout: float) -> nn.Module:
    """3x3 convolutions of ``units`` channels with batch norm and ReLU on the maps, then pooling."""
    widths = [features, *units]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [
            nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
        ]
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Dropout(dropout)]
    return nn.Sequential(*layers, *pooled, nn.Conv2d(widths[-1], size, kernel_size=1))


class Gate(nn.Module):
    """A number from 0 to 1 that the whole gender embedding is multiplied by."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(dense(units, units), nn.Conv2d(units, 1, 1), nn.Sigmoid())

    def forward(self, embedding: Tensor) -> Tensor:
        gated: Tensor = self.layers(embedding) * embedding
        return gated


class Attention(nn.Module):
    """Weights that sum to 1 over the units of the gender embedding."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(dense(units, units), nn.Conv2d(units, units, 1))

    def forward(self, embedding: Tensor) -> Tensor:
        attended: Tensor = self.layers(embedding).softmax(dim=1) * embedding
        return attended


class GenderEmbedding(nn.Module):
    """The hidden layer of the gender head joins what the other heads see.

    Each other task reads a dense layer on the concatenation of the pooled features and the
    embedding, which ``select`` (one per task) may scale. Dropout is of these layers: the gender
    head, which reads the embedding itself, has none.

    Source:
        dileepajj/DJ_Project: GE, GE with gating (GM), GE with attention (AM).
    """

    def __init__(
        self,
        features: int,
        outputs: Mapping[str, int],
        units: Units,
        dropout: float,
        select: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        if GENDER not in outputs or isinstance(units, Mapping) or len(units) != 1:
            raise UsageError(
                "heads: a gender embedding needs the task gender and one entry in units"
            )
        others = {name: size for name, size in outputs.items() if name != GENDER}
        self.embedding = dense(features, units[0])
        self.gender = nn.Conv2d(units[0], outputs[GENDER], kernel_size=1)
        self.select = nn.ModuleDict({name: select(units[0]) for name in others})
        self.tasks = nn.ModuleDict(
            {
                name: dense_stack(features + units[0], units, size, dropout)
                for name, size in others.items()
            }
        )
        self.outputs = tuple(outputs)

    def forward(self, pooled: Tensor) -> dict[str, Tensor]:
        """Raw outputs by name, (N, K, 1, 1), of pooled features (N, F, 1, 1)."""
        embedding = self.embedding(pooled)  # (N, U, 1, 1)
        found = {GENDER: self.gender(embedding)}
        for name, head in self.tasks.items():
            # The source joins them the other way round in GE, which changes the order of weights.
            joined = torch.cat([pooled, self.select[name](embedding)], dim=1)
            found[name] = head(joined)
        return {name: found[name] for name in self.outputs}


PER_TASK: dict[str, Callable[[int, Sequence[int], int, float], nn.Module]] = {
    "linear": linear,
    "dense": dense_stack,
    "conv": conv_stack,
}
"""Kinds in which every task has layers of its own."""

GENDER_EMBEDDING: dict[str, Callable[[int], nn.Module]] = {
    "ge": lambda units: nn.Identity(),
    "gm": Gate,
    "am": Attention,
}
"""Kinds in which other tasks see the gender embedding, through this."""

HEADS = (*PER_TASK, *GENDER_EMBEDDING)


class MultiTaskNetwork(nn.Module):
    """A trunk shared by all tasks, and heads (hard parameter sharing).

    Args:
        trunk: From images (N, 3, S, S) to feature maps (N, F, H, W).
        features: F.
        outputs: Output name -> number of values, such as ``{"gender": 2, "age": 101}``.
        dropout: Share dropped in training: of pooled features (``linear``), else of the last
            hidden layer, but for the gender head of a gender embedding; 0 to 1.
        kind: A name of ``HEADS``.
        units: Widths of the hidden layers; of some outputs others than of the rest in kinds of
            ``PER_TASK`` alone.
        mirrored: Whether outputs in evaluation are the mean over images and their mirror images.
    """

    heads: nn.ModuleDict | GenderEmbedding

    def __init__(
        self,
        trunk: nn.Module,
        features: int,
        outputs: Mapping[str, int],
        dropout: float = 0.0,
        kind: str = "linear",
        units: Units = (),
        mirrored: bool = False,
    ) -> None:
        super().__init__()
        if kind not in HEADS:
            raise UnknownNameError("kind of heads", kind, HEADS)
        self.trunk = trunk
        self.kind = kind
        self.mirrored = mirrored
        self.frozen: tuple[nn.Module, ...] = ()
        self.dropout = nn.Dropout(dropout if kind == "linear" else 0.0)
        if kind in GENDER_EMBEDDING:
            select = GENDER_EMBEDDING[kind]
            self.heads = GenderEmbedding(features, outputs, units, dropout, select)
        else:
            make = PER_TASK[kind]
            own = units if isinstance(units, Mapping) else dict.fromkeys(outputs, units)
            self.heads = nn.ModuleDict(
                {name: make(features, own[name], size, dropout) for name, size in outputs.items()}
            )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Raw outputs by name, (N, K) each, of normalized images (N, 3, S, S)."""
        twice = self.mirrored and not self.training
        if twice:
            images = torch.cat([images, images.flip(3)])  # (2 N, 3, S, S)
        maps = self.trunk(images)  # (N, F, H, W)
        if self.kind != "conv":
            maps = self.dropout(adaptive_avg_pool2d(maps, 1))  # (N, F, 1, 1)
        if isinstance(self.heads, GenderEmbedding):
            found = self.heads(maps)
        else:
            found = {name: head(maps) for name, head in self.heads.items()}
        outputs = {name: values.flatten(1) for name, values in found.items()}
        if twice:
            outputs = {
                name: values.reshape(2, -1, values.shape[1]).mean(0)
                for name, values in outputs.items()
            }
        return outputs

    def train(self, mode: bool = True) -> MultiTaskNetwork:
        """Set the mode; what is frozen stays in evaluation, so its statistics do not move."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def keep(self, outputs: Sequence[str]) -> None:
        """Drop the layers of other outputs, where tasks do not need one another's."""
        if isinstance(self.heads, nn.ModuleDict):
            for name in [name for name in self.heads if name not in outputs]:
                del self.heads[name]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        if isinstance(self.heads, GenderEmbedding):
            return self.heads.outputs
        return tuple(self.heads)

    def last_layers(self) -> dict[str, nn.Module]:
        """The layer that gives each output, by output name."""
        if isinstance(self.heads, GenderEmbedding):
            layers = {GENDER: self.heads.gender, **self.heads.tasks}
        else:
            layers = dict(self.heads.items())
        ordered = {name: layers[name] for name in self.outputs}
        return {
            name: layer[-1] if isinstance(layer, nn.Sequential) else layer
            for name, layer in ordered.items()
        }


def freeze(network: MultiTaskNetwork, backbone: Backbone, frozen: str) -> None:
    """Keep a part of the trunk as it is.

    Args:
        network: Changed in place.
        backbone: Of its trunk.
        frozen: ``none``, ``trunk``, or ``all_but_last_block``.
    """
    if frozen == "none":
        return
    trained = backbone.last_block if frozen == "all_but_last_block" else ()
    if frozen == "all_but_last_block" and not trained:
        raise UsageError(f"frozen: the last block of {backbone.name} is not known here")
    for name, parameter in network.trunk.named_parameters():
        parameter.requires_grad_(name.startswith(trained) if trained else False)
    network.frozen = tuple(_frozen_modules(network.trunk, trained))


def _frozen_modules(trunk: nn.Module, trained: tuple[str, ...]) -> Iterable[nn.Module]:
    for name, module in trunk.named_modules():
        # timm's norms hold their activation, so they are no leaves.
        whole = isinstance(module, nn.modules.batchnorm._BatchNorm) or not any(module.children())
        if whole and not (trained and f"{name}.".startswith(trained)):
            yield module


class Deployed(nn.Module):
    """A network as it is deployed: uint8 RGB crops in, a tuple of raw outputs out.

    Normalization is part of the graph, so no runtime can get it wrong.

    Args:
        network: What it wraps.
        mean: Of pixels in 0 to 1, per channel.
        std: The same.
        gray: Whether crops are made gray first (ITU-R BT.601).
        scales: Output name -> factor, for outputs that are numbers.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: MultiTaskNetwork,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        gray: bool = False,
        scales: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.gray = gray
        self.scales = dict(scales or {})
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Raw outputs in the order of the heads, of uint8 crops (N, S, S, 3)."""
        images = crops.permute(0, 3, 1, 2).float()  # (N, 3, S, S)
        if self.gray:
            images = to_gray(images)
        found = self.network((images - self.mean) / self.std)
        return tuple(values * self.scales.get(name, 1.0) for name, values in found.items())


def to_gray(images: Tensor) -> Tensor:
    """Images (N, 3, S, S) whose three channels are their luma (ITU-R BT.601)."""
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    return (0.299 * red + 0.587 * green + 0.114 * blue).expand(-1, 3, -1, -1)
