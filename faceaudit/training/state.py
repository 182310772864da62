"""What a training is at one moment: its start, its moving average, and its checkpoint."""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from faceaudit.errors import InputError, UsageError
from faceaudit.models.backbones import find_backbone
from faceaudit.models.backbones.weights import file_of, load_weights, source_of
from faceaudit.models.bundle import Bundle, load_bundle
from faceaudit.models.heads import MultiTaskNetwork, freeze
from faceaudit.runtimes.torch_runtime import load_network
from faceaudit.storage import atomic_write, sha256_of_file
from faceaudit.training.data import CropSet
from faceaudit.training.distillation import differing_outputs
from faceaudit.training.folding import fold_norms
from faceaudit.training.recipe import Recipe

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}
WITHOUT_EFFECT = (
    "name", "licence", "training_data", "research_only", "reference", "card", "tune",
)  # fmt: skip
"""Keys of a recipe that do not change what is learned."""
COUNTERS = (
    "epoch", "step", "total", "best", "best_epoch", "best_weights", "sums", "counts", "history",
    "seconds",
)  # fmt: skip
CHECKPOINT_KEYS = ("identity", "network", "average", "optimizer")


@dataclass
class State:
    """Everything that a training is at one moment; saved and restored whole."""

    network: MultiTaskNetwork
    average: MultiTaskNetwork  # exponential moving average (EMA) of its weights
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0  # within the epoch
    total: int = 0  # over all epochs (global step)
    best: float = -math.inf  # highest validation value so far
    best_epoch: int = 0
    best_weights: dict[str, Tensor] | None = None  # its averages, where they are to be kept
    sums: dict[str, float] = field(default_factory=dict)  # of the epoch's training losses, by task
    counts: dict[str, int] = field(default_factory=dict)  # of the losses summed
    history: list[dict[str, float]] = field(default_factory=list)  # one row per finished epoch
    seconds: float = 0.0  # spent, over all runs
    since: float = field(default_factory=time.monotonic)  # until when they are counted

    def count_seconds(self) -> None:
        """Add what was spent since the last call."""
        now = time.monotonic()
        self.seconds, self.since = self.seconds + now - self.since, now


def new_state(recipe: Recipe, device: str = "cpu") -> State:
    """A training before its first step, on a device."""
    torch.manual_seed(recipe.seed)
    backbone = find_backbone(recipe.backbone)
    network = begun_network(recipe)
    freeze(network, backbone, recipe.frozen)
    if recipe.norms == "folded":
        fold_norms(network.trunk, recipe.size)
    network = network.to(device).to(memory_format=torch.channels_last)
    return State(network, deepcopy(network), make_optimizer(network, recipe))


def begun_network(recipe: Recipe) -> MultiTaskNetwork:
    """The network of a recipe with the weights that it begins with.

    Raises:
        BundleError: If the start or the file of weights is missing or damaged.
        UsageError: If the start has another backbone, other heads or other outputs.
    """
    backbone = find_backbone(recipe.backbone)
    trunk = backbone.build()
    if not recipe.starts:
        load_weights(backbone, trunk, recipe.weights)
    network = with_heads(trunk, recipe)
    if recipe.starts:
        begin_with(network, recipe)
    return network


def with_heads(trunk: nn.Module, recipe: Recipe) -> MultiTaskNetwork:
    """A recipe's trunk with its heads, which have random values."""
    outputs = {one.output: one.size for one in recipe.outputs()}
    features, heads = find_backbone(recipe.backbone).features, recipe.heads
    return MultiTaskNetwork(
        trunk, features, outputs, heads.dropout, heads.kind, heads.units, recipe.mirrored
    )


def begin_with(network: MultiTaskNetwork, recipe: Recipe) -> None:
    """Copy the weights of the bundles that a recipe starts from.

    One bundle gives the whole network, and several of its backbone the mean of their weights: good
    where they are ends of one training, such as of its cycles, or went on from the same weights.
    Several of other backbones give one each of the trunks side by side; the heads then begin as
    the mean of theirs, so that logits are the mean of the bundles' logits.

    Raises:
        BundleError: If a bundle is missing or damaged.
        UsageError: If it has no network for torch, another backbone, other heads or other outputs.

    Source:
        Izmailov, Podoprikhin, Garipov, Vetrov, Wilson: Averaging Weights Leads to Wider Optima and
        Better Generalization, UAI 2018.
    """
    bundles = [_startable(recipe, name) for name in recipe.starts]
    trunks = list(getattr(network.trunk, "parts", ()))
    alike = all(bundle.card["backbone"] == recipe.backbone for bundle in bundles)
    side_by_side = len(bundles) > 1 and not alike
    if side_by_side and (len(bundles) != len(trunks) or network.kind != "linear"):
        raise UsageError(
            f"recipe {recipe.name}: start: {len(bundles)} bundles begin a network of their own "
            f"backbone, or one of {len(bundles)} backbones side by side with linear heads; "
            f"backbone is {recipe.backbone}, heads.kind {network.kind}"
        )
    found = [load_network(bundle).network for bundle in bundles]
    try:
        if side_by_side:
            _begin_side_by_side(network, trunks, found)
        else:
            network.load_state_dict(_mean_of(found))
    except (RuntimeError, LookupError) as error:
        raise UsageError(
            f"recipe {recipe.name}: start: the bundle {' or '.join(recipe.starts)} has another "
            "backbone, other heads or other outputs than the recipe"
        ) from error


def _startable(recipe: Recipe, name: str) -> Bundle:
    """A bundle that a recipe starts from."""
    bundle = load_bundle(name)
    if not bundle.for_torch:
        raise UsageError(
            f"recipe {recipe.name}: start: {name} is a graph alone, which cannot be "
            "trained on; give the folder of a bundle that `faceaudit train` wrote"
        )
    if differences := [*differing_outputs(bundle, recipe), *_differing_pixels(bundle, recipe)]:
        raise UsageError(f"recipe {recipe.name}: start: {name}: {'; '.join(differences)}")
    return bundle


def _differing_pixels(bundle: Bundle, recipe: Recipe) -> Iterator[str]:
    """What a bundle's network is given otherwise than the recipe's, as far as its card says."""
    made_by = bundle.card.get("recipe")
    known: Mapping[str, Any] = made_by if isinstance(made_by, Mapping) else {}
    for fact in ("mean", "std", "gray"):
        own, wanted = known.get(fact), getattr(recipe, fact)
        if own is not None and np.any(np.asarray(own) != np.asarray(wanted)):
            yield f"its {fact} is {own}, the recipe's {wanted}"


@torch.no_grad()
def _mean_of(starts: Sequence[MultiTaskNetwork]) -> dict[str, Tensor]:
    """The mean of the weights of networks; counters are those of the first.

    Raises:
        RuntimeError: If shapes differ.
        KeyError: If a network lacks what the first has.
    """
    given = [start.state_dict() for start in starts]
    return {
        name: torch.stack([one[name] for one in given]).mean(dim=0)
        if value.is_floating_point()
        else value
        for name, value in given[0].items()
    }


@torch.no_grad()
def _begin_side_by_side(
    network: MultiTaskNetwork, trunks: Sequence[nn.Module], starts: Sequence[MultiTaskNetwork]
) -> None:
    """Let each trunk begin as that of its start, and each head as the mean of theirs.

    Raises:
        RuntimeError: If shapes differ.
        KeyError: If a start lacks an output.
    """
    for trunk, start in zip(trunks, starts, strict=True):
        trunk.load_state_dict(start.trunk.state_dict())
    given = [start.last_layers() for start in starts]
    for name, layer in network.last_layers().items():
        own = [layers[name].state_dict() for layers in given]
        weight = torch.cat([one["weight"] for one in own], dim=1) / len(own)
        bias = torch.stack([one["bias"] for one in own]).mean(dim=0)
        layer.load_state_dict({"weight": weight, "bias": bias})


def make_optimizer(network: MultiTaskNetwork, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer, with a rate for the trunk and one for the heads.

    Frozen parameters are left out; norms and biases do not decay.
    """
    groups: list[dict[str, Any]] = []
    for module, rate in (
        (network.trunk, recipe.trunk_learning_rate or recipe.learning_rate),
        (network.heads, recipe.learning_rate),
    ):
        parameters = [p for p in module.parameters() if p.requires_grad]
        for decay, members in (
            (recipe.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            if members:
                facts = {"lr": rate, "base_lr": rate, "weight_decay": decay}
                groups.append({"params": members, **facts})
    return OPTIMIZERS[recipe.optimizer](groups)


@torch.no_grad()
def update_average(state: State, decay: float) -> None:
    """Move the averaged weights toward the current ones; fast at first, slowly later."""
    decay = min(decay, (1 + state.total) / (10 + state.total))
    means: list[Tensor] = []
    values: list[Tensor] = []
    for mean, now in zip(
        state.average.state_dict().values(), state.network.state_dict().values(), strict=True
    ):
        if mean.is_floating_point():
            means.append(mean)
            values.append(now)
        else:
            mean.copy_(now)
    get_ema_multi_avg_fn(decay)(means, values, None)  # type: ignore[no-untyped-call]


def identity_of(
    recipe: Recipe,
    training: CropSet,
    validation: CropSet,
    max_steps: int | None,
    teachers: Sequence[str] = (),
) -> dict[str, str]:
    """What a checkpoint must agree in: everything that decides the weights, as text.

    ``teachers`` are the hashes of the bundles that are learned from; without any, nothing is said,
    as of bundles that it starts from and of a file of weights.
    """
    facts = {
        name: json.dumps(value, sort_keys=True)
        for name, value in recipe.to_json().items()
        if name not in WITHOUT_EFFECT
    }
    taught = facts.pop("distillation")
    if teachers:
        facts |= {"distillation": taught, "teachers": " ".join(teachers)}
    if recipe.starts:
        facts["starts"] = " ".join(load_bundle(name).sha256 for name in recipe.starts)
    if weights := hash_of_weights(recipe):
        facts["weights file"] = weights
    return facts | {
        "training crops": digest_of(training),
        "validation crops": digest_of(validation),
        "crop files": digest_of_files([training, validation]),
        "max_steps": str(max_steps),
    }


def hash_of_weights(recipe: Recipe) -> str:
    """Of the file of weights that the trunk begins with; empty where there is none."""
    backbone = find_backbone(recipe.backbone)
    source = source_of(backbone, recipe.weights)
    if source is None or recipe.starts:
        return ""
    return sha256_of_file(file_of(backbone, recipe.weights, source))


def digest_of(crops: CropSet) -> str:
    """Hash of crops, their sources and their labels."""
    found = hashlib.sha256()
    for file, digest in zip(crops.files, crops.sha256, strict=True):
        found.update(f"{file.name}\0{digest}\n".encode("utf-8", "surrogateescape"))
    for name in sorted(crops.labels):
        found.update(np.ascontiguousarray(crops.labels[name]).tobytes())
    return found.hexdigest()


def digest_of_files(sets: Sequence[CropSet]) -> str:
    """Hash of how large the files of crops are, and of their views: both change with the margin."""
    found = hashlib.sha256()
    for crops in sets:
        for file, view in zip(crops.files, crops.views.tolist(), strict=True):
            size = file.stat().st_size if file.is_file() else None
            found.update(f"{size}\0{view:.9g}\n".encode())
    return found.hexdigest()


def save(state: State, path: Path, identity: Mapping[str, str]) -> None:
    """Write a checkpoint; the previous one stays until this one is complete."""
    write_tensors(
        {
            "identity": dict(identity),
            "network": state.network.state_dict(),
            "average": state.average.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            **{name: getattr(state, name) for name in COUNTERS},
        },
        path,
    )


def restore(state: State, path: Path, identity: Mapping[str, str]) -> None:
    """Fill a state from a checkpoint (tensors and numbers only; nothing is unpickled freely).

    Raises:
        InputError: If the file is damaged.
        UsageError: If it belongs to another training; says in what it differs.
    """
    found = read_tensors(path)
    if not found.keys() >= {*CHECKPOINT_KEYS, *COUNTERS}:
        raise _damaged(path)
    known = found["identity"]
    names = dict.fromkeys([*identity, *known])
    differing = [name for name in names if known.get(name) != identity.get(name)]
    if differing:
        raise UsageError(
            f"{path}: belongs to a training with other {', '.join(differing)}; "
            f"give another --output, or remove {path.parent} to start again"
        )
    state.network.load_state_dict(found["network"])
    state.average.load_state_dict(found["average"])
    state.optimizer.load_state_dict(found["optimizer"])
    for name in COUNTERS:
        setattr(state, name, found[name])


def write_tensors(facts: Any, path: Path) -> None:
    """Write tensors, numbers and text; the file that was there stays until it is complete.

    Raises:
        TemporaryError: If the disk is full.
    """
    memory = io.BytesIO()  # torch hides what keeps a file from being written
    torch.save(facts, memory)
    with atomic_write(path) as file:
        file.write(memory.getbuffer())


def read_tensors(path: Path) -> dict[str, Any]:
    """What ``write_tensors`` wrote, on the CPU.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, UnpicklingError) as error:
        raise _damaged(path) from error
    if not isinstance(found, dict):
        raise _damaged(path)
    return found


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: is damaged or cannot be read; remove {path.parent} to start again")
