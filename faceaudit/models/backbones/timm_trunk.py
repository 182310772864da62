"""Any network of timm, as ``timm:NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from faceaudit.errors import UnknownNameError, UsageError
from faceaudit.models.backbones.backbone import Backbone, first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

PREFIX = "timm:"
PLACES = ("network.", "network.body.", "network.model.")
"""Where timm puts a network's parts when it gives its maps only."""


def build(name: str) -> nn.Module:
    """The network's last feature maps, channels first, with random weights."""
    from torch import nn

    class Last(nn.Module):
        """The only map of a network of features."""

        def __init__(self) -> None:
            super().__init__()
            self.network = _features(name)
            self.channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"

        def forward(self, images: Tensor) -> Tensor:
            maps: Tensor = self.network(images)[-1]
            return maps.permute(0, 3, 1, 2) if self.channels_last else maps

    return Last()


def _features(name: str) -> Any:
    import timm

    return timm.create_model(name, pretrained=False, features_only=True, out_indices=[-1])


def convert(name: str, tensors: Mapping[str, Tensor], trunk: nn.Module) -> Mapping[str, Tensor]:
    """The tensors of the whole network, as timm itself names them; those behind the maps fall away.

    A tensor that the whole network has not keeps a place among the trunk's, for it to be refused.
    """
    import timm
    import torch

    with torch.device("meta"):
        whole = timm.create_model(name, pretrained=False).state_dict()
    wanted = trunk.state_dict()
    found = {}
    for given, tensor in tensors.items():
        # timm takes the parts of some stages out of them: stages.0 is stages_0 then.
        names = [place + own for own in (given, given.replace(".", "_", 1)) for place in PLACES]
        fit = next((one for one in names if one in wanted), None)
        if fit or given not in whole:
            found[fit or names[0]] = tensor
    return found


def find(name: str) -> Backbone:
    """The backbone of a timm network.

    Raises:
        UnknownNameError: If timm has none of this name, or no weights of its tag.
        UsageError: If timm does not give the network's maps.
    """
    import timm
    import torch

    plain = name.removeprefix(PREFIX)
    if not timm.is_model(plain):
        near = get_close_matches(plain, timm.list_models(), 5)
        if not near:
            raise UsageError(
                f"no timm network is called {plain!r}; timm.list_models() in Python lists them"
            )
        raise UnknownNameError("timm network", plain, near)
    network, _, tag = plain.partition(".")
    known = timm.list_models(f"{network}.*", pretrained=True)
    if tag and plain not in known:
        raise UnknownNameError("timm network", plain, [network, *known])
    try:
        with torch.device("meta"):
            info = _features(plain)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UsageError(
            f"backbone {name}: timm gives no feature maps of it: {first_line(error)}"
        ) from error
    config = info.pretrained_cfg
    return Backbone(
        name=name,
        features=int(info.feature_info.channels()[-1]),
        build=partial(build, plain),
        last_block=(),
        size=config["input_size"][-1] if config.get("fixed_input_size") else None,
        convert=partial(convert, plain),
        elsewhere=_elsewhere(name, config),
    )


def _elsewhere(name: str, config: Mapping[str, Any]) -> str:
    """Where timm's own weights of a network are, and what they ask of a recipe."""
    if not config.get("hf_hub_id"):
        return f"{name}, of which timm has none: choose none, or give a file"
    mean, std = (list(config[key]) for key in ("mean", "std"))
    return (
        f"{name}: give the file model.safetensors of https://huggingface.co/{config['hf_hub_id']} "
        f"(license {config.get('license') or 'not stated'}), with mean = {mean} and std = {std}; "
        "or choose none"
    )
