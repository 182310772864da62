"""The training loop: steps, moving average, checkpoints, validation."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceaudit.errors import InputError, UsageError
from faceaudit.models import find_backbone
from faceaudit.models.bundle import load_bundle
from faceaudit.models.heads import MultiTaskNetwork, freeze, to_gray
from faceaudit.models.weights import load_weights
from faceaudit.ordered import available_cores
from faceaudit.runtimes.torch_runtime import load_network
from faceaudit.schema import AGE, AGE_BINS, DEFAULT_AGE_SCHEME, YEARS
from faceaudit.storage import atomic_write, write_text
from faceaudit.training.data import Batch, CropSet, batches, class_sets
from faceaudit.training.folding import fold_norms, unfold_norms
from faceaudit.training.group import ALONE, Group
from faceaudit.training.losses import classes_between, roughness, set_loss, value_loss
from faceaudit.training.recipe import (
    VALUE_SCHEME,
    YEARS_SCHEME,
    Augmentation,
    Recipe,
    TaskRecipe,
    age_bins,
)

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 300


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}
OnEpoch = Callable[[int, Mapping[str, float]], None]
HISTORY = "history.csv"
WITHOUT_EFFECT = ("name", "licence", "training_data", "reference", "card", "tune")
"""Keys of a recipe that do not change what is learned."""
BEST = "best.pt"
"""Averaged weights of the best epoch, beside the checkpoint."""


@dataclass
class State:
    """Everything that a training is at one moment; saved and restored whole."""

    network: MultiTaskNetwork
    average: MultiTaskNetwork
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0  # within the epoch
    total: int = 0  # over all epochs
    best: float = -math.inf  # highest validation value so far
    best_epoch: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # of the epoch's training losses, by task
    history: list[dict[str, float]] = field(default_factory=list)  # one row per finished epoch
    seconds: float = 0.0  # spent on finished epochs, over all runs


def new_state(recipe: Recipe, device: str = "cpu") -> State:
    """A training before its first step, on a device."""
    torch.manual_seed(recipe.seed)
    backbone = find_backbone(recipe.backbone)
    trunk = backbone.build()
    if not recipe.start:
        load_weights(backbone, trunk, recipe.weights)
    outputs = {task.output: max(1, len(task.classes)) for task in recipe.outputs()}
    heads = recipe.heads
    network = MultiTaskNetwork(
        trunk, backbone.features, outputs, heads.dropout, heads.kind, heads.units
    )
    if recipe.start:
        begin_with(network, recipe)
    freeze(network, backbone, recipe.frozen)
    if recipe.norms == "folded":
        fold_norms(network.trunk, recipe.size)
    network = network.to(device).to(memory_format=torch.channels_last)
    return State(network, deepcopy(network), make_optimizer(network, recipe))


def begin_with(network: MultiTaskNetwork, recipe: Recipe) -> None:
    """Copy the weights of the bundle that a recipe starts from.

    Raises:
        BundleError: If the bundle is missing or damaged.
        UsageError: If it has another backbone, other heads or other outputs.
    """
    bundle = load_bundle(recipe.start)
    found = load_network(bundle).network.state_dict()
    try:
        network.load_state_dict(found)
    except RuntimeError as error:
        raise UsageError(
            f"recipe {recipe.name}: start: the bundle {bundle.name} has another backbone, other "
            "heads or other outputs than the recipe"
        ) from error


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


def rate_factor(done: float, warmup: float) -> float:
    """Learning rate as a share of its peak: linear warm-up, then half a cosine to zero.

    Args:
        done: Share of all steps done, 0 to 1.
        warmup: Share of all steps that warm up.
    """
    if done < warmup:
        return done / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def rate_at(recipe: Recipe, epoch: int, share: float) -> float:
    """Learning rate as a share of its peak at a moment of a training.

    Args:
        recipe: Whose stages make the cycles.
        epoch: Epochs finished.
        share: Share of the running epoch's steps done, 0 to 1.
    """
    begin = end = 0  # epochs of the cycle that holds this one
    peak = 1.0
    for stage in recipe.stages:
        if stage.restart or end == 0:
            if end > epoch:
                break
            begin, peak = end, stage.rate
        end += stage.epochs
    done = (epoch - begin + share) / (end - begin)
    schedule = recipe.schedule
    if schedule.kind == "cosine":
        return peak * rate_factor(done, schedule.warmup)
    if done < schedule.warmup:
        return peak * done / schedule.warmup
    if schedule.kind == "step":
        return float(peak * schedule.factor ** ((epoch - begin) // schedule.every))
    if schedule.kind == "exponential":
        return float(peak * schedule.factor ** max(0, epoch - begin + 1 - schedule.after))
    return peak


def stage_sizes(recipe: Recipe) -> list[int]:
    """Input size of every epoch, in pixels."""
    return [stage.size for stage in recipe.stages for _ in range(stage.epochs)]


def train(
    recipe: Recipe,
    training: CropSet,
    validation: CropSet,
    work: Path,
    say: Callable[[str], None],
    max_steps: int | None = None,
    device: str = "cpu",
    on_epoch: OnEpoch | None = None,
    group: Group = ALONE,
) -> State:
    """Train to the recipe's end, going on from a checkpoint in ``work`` where there is one.

    On a CPU, an interrupted training ends with the same weights as an uninterrupted one.

    Args:
        recipe: What to do.
        training: Crops to learn from.
        validation: Crops to report on after every epoch.
        work: Folder of the checkpoint and of ``history.csv``; must exist.
        say: Takes a line of progress.
        max_steps: Stop after this many steps of every epoch (a trial).
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        on_epoch: Called after every epoch with its number and its row of the history.
        group: The processes that train together; each gives the same arguments.

    Raises:
        UsageError: If the checkpoint is of another recipe or of other data, the batch cannot be
            shared by the group, or the loss is no number any more.
    """
    group.check(recipe.batch)
    state = new_state(recipe, device)
    identity = identity_of(recipe, training, validation, max_steps)
    checkpoint = work / CHECKPOINT
    if checkpoint.is_file():
        restore(state, checkpoint, identity)
        ended = state.epoch >= recipe.epochs or _is_exhausted(state, recipe)
        say(
            f"training is complete after epoch {state.epoch}"
            if ended
            else f"going on at epoch {state.epoch + 1}, step {state.step}"
        )
    joined = group.joined(state.network, device_of(state.network))
    steps = math.ceil(group.whole(len(training)) / recipe.batch)
    steps = min(steps, max_steps) if max_steps else steps
    sizes = stage_sizes(recipe)
    keep = partial(save, state, checkpoint, identity) if group.leads else _keep_nothing
    while state.epoch < recipe.epochs and not _is_exhausted(state, recipe):
        begun = time.monotonic()
        facts: dict[str, float] = {"epoch": state.epoch + 1, "size": sizes[state.epoch]}
        facts["learning_rate"] = recipe.learning_rate * rate_at(recipe, state.epoch, 0.5)
        _run_epoch(recipe, state, joined, training, sizes[state.epoch], steps, keep, say, group)
        losses = _mean_losses(state, steps, recipe)
        state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
        metrics = group.told(partial(validate, state.average, recipe, validation, recipe.size))
        state.seconds += time.monotonic() - begun
        state.history.append(facts | losses | metrics | {"seconds": state.seconds})
        if group.leads:
            write_history(work / HISTORY, state.history)
        figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        say(f"epoch {state.epoch}/{recipe.epochs}: loss {losses['loss']:.4f}; {figures}")
        _note_best(state, selection_value(metrics, recipe), recipe, work if group.leads else None)
        keep()
        if on_epoch is not None:
            on_epoch(state.epoch, state.history[-1])
    group.wait()
    if recipe.selection.keep == "best" and (work / BEST).is_file():
        found = torch.load(work / BEST, map_location=device, weights_only=True)
        state.average.load_state_dict(found)
    unfold_norms(state.average.trunk)
    return state


def _mean_losses(state: State, steps: int, recipe: Recipe) -> dict[str, float]:
    """Training losses of the epoch that ends: their weighted sum, and each task's alone."""
    losses = {name: total / steps for name, total in state.sums.items()}
    loss = sum(recipe.tasks[name].weight * value for name, value in losses.items())
    if not math.isfinite(loss):
        raise UsageError(
            f"recipe {recipe.name}: the loss is {loss} in epoch {state.epoch + 1}; lower "
            f"learning_rate ({recipe.learning_rate:g}) or set clip_norm"
        )
    return {"loss": loss} | {f"training_{name}_loss": value for name, value in losses.items()}


def _keep_nothing() -> None:
    """What a process does that does not lead, where the leading one saves a checkpoint."""


def _note_best(state: State, value: float, recipe: Recipe, work: Path | None) -> None:
    """Remember the best epoch, and its weights where they are to be kept, in a folder."""
    if value > state.best:
        state.best, state.best_epoch = value, state.epoch
        if work is not None and recipe.selection.keep == "best":
            _write(state.average.state_dict(), work / BEST)


def identity_of(
    recipe: Recipe, training: CropSet, validation: CropSet, max_steps: int | None
) -> dict[str, str]:
    """What a checkpoint must agree in: everything that decides the weights, as text."""
    facts = {
        name: json.dumps(value, sort_keys=True)
        for name, value in recipe.to_json().items()
        if name not in WITHOUT_EFFECT
    }
    return facts | {
        "training crops": digest_of(training),
        "validation crops": digest_of(validation),
        "max_steps": str(max_steps),
    }


def digest_of(crops: CropSet) -> str:
    """Hash of crops, their sources and their labels."""
    found = hashlib.sha256()
    for file, digest in zip(crops.files, crops.sha256, strict=True):
        found.update(f"{file.name}\0{digest}\n".encode("utf-8", "surrogateescape"))
    for name in sorted(crops.labels):
        found.update(np.ascontiguousarray(crops.labels[name]).tobytes())
    return found.hexdigest()


def _is_exhausted(state: State, recipe: Recipe) -> bool:
    """Whether validation has not improved for as long as the recipe's patience."""
    patience = recipe.selection.patience
    return bool(patience) and state.epoch - state.best_epoch >= patience


def selection_value(metrics: Mapping[str, float], recipe: Recipe) -> float:
    """What the selection maximises after an epoch (see ``Selection``)."""
    by = recipe.selection.by
    if by.endswith("_loss"):
        return -metrics[by]
    names = [by] if by else list(recipe.tasks)
    weights = [recipe.tasks[name].weight for name in names]
    values = [_task_value(metrics, name, recipe.tasks[name]) for name in names]
    return float(np.average(values, weights=weights)) if sum(weights) else 0.0


def _task_value(metrics: Mapping[str, float], name: str, task: TaskRecipe) -> float:
    if name == AGE and task.scheme == VALUE_SCHEME:
        return -metrics.get("age_mae", task.scale) / task.scale
    return metrics["age_group" if name == AGE else name]


def _run_epoch(
    recipe: Recipe,
    state: State,
    joined: nn.Module,
    training: CropSet,
    size: int,
    steps: int,
    keep: Callable[[], None],
    say: Callable[[str], None],
    group: Group,
) -> None:
    """Take the steps that are left of an epoch; ``state.sums`` gathers their losses."""
    order = np.random.default_rng((recipe.seed, state.epoch)).permutation(len(training))
    order = order[: min(steps * recipe.batch, group.whole(len(training)))]
    source = batches(
        training,
        group.share(order.tolist(), recipe.batch),
        size,
        recipe.batch // group.size,
        recipe.augmentation,
        (recipe.seed, state.epoch, *([group.rank] if group.size > 1 else [])),
        first=state.step,
        workers=available_cores(),
    )
    state.network.train()
    first, begun = state.step, time.monotonic()
    saved = said = begun
    skipped: list[Path] = []
    for batch in source:
        skipped += batch.skipped
        if group.size > 1 and not len(batch.images):
            batch = _blank(batch, size)  # the others wait for this process's gradients
        _take_step(recipe, state, joined, batch, steps)
        now = time.monotonic()
        if now - said > 30:
            rate = (state.step - first) * recipe.batch / (now - begun)
            loss = sum(recipe.tasks[name].weight * total for name, total in state.sums.items())
            say(f"step {state.step}/{steps}, loss {loss / state.step:.4f}, {rate:.0f} images/s")
            said = now
        if now - saved > CHECKPOINT_SECONDS:
            keep()
            saved = now
    if skipped:
        say(f"left out {len(skipped)} crops that cannot be decoded, such as {skipped[0]}")


def _blank(batch: Batch, size: int) -> Batch:
    """A black image without labels in place of a batch of none."""
    nothing = {name: np.full(1, -1, values.dtype) for name, values in batch.labels.items()}
    return Batch(np.zeros((1, size, size, 3), np.uint8), nothing, batch.skipped)


def _take_step(recipe: Recipe, state: State, joined: nn.Module, batch: Batch, steps: int) -> None:
    factor = rate_at(recipe, state.epoch, state.step / steps)
    for group in state.optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    if len(batch.images):
        torch.manual_seed(recipe.seed + 7919 * state.total)  # dropout: equal after a resume
        losses = batch_losses(joined, batch, recipe, (recipe.seed, state.total))
        state.optimizer.zero_grad(set_to_none=True)
        _weighted(losses, recipe).backward()  # type: ignore[no-untyped-call]
        if recipe.clip_norm:
            nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip_norm)
        state.optimizer.step()
        update_average(state, recipe.ema)
        for name, loss in losses.items():
            state.sums[name] = state.sums.get(name, 0.0) + loss.item()
    state.step, state.total = state.step + 1, state.total + 1


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    return next(network.parameters()).device


def precision_of(recipe: Recipe, device: torch.device) -> torch.dtype:
    """What convolutions compute in: bfloat16 where asked for, or where a GPU has it."""
    able = device.type == "cuda" and torch.cuda.is_bf16_supported()
    wanted = recipe.precision == "bfloat16" or (recipe.precision == "auto" and able)
    return torch.bfloat16 if wanted else torch.float32


def forward(network: nn.Module, images: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """Outputs in float32, computed in the recipe's precision."""
    precision = precision_of(recipe, images.device)
    with torch.autocast(images.device.type, precision, enabled=precision != torch.float32):
        found: dict[str, Tensor] = network(images)
    return {name: values.float() for name, values in found.items()}


def normalised(
    images: NDArray[np.uint8], recipe: Recipe, device: torch.device | str = "cpu"
) -> Tensor:
    """Network input (N, 3, S, S), channels last in memory, of uint8 RGB crops (N, S, S, 3)."""
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float()
    mean = 255 * torch.tensor(recipe.mean, device=device).view(1, 3, 1, 1)
    std = 255 * torch.tensor(recipe.std, device=device).view(1, 3, 1, 1)
    return ((to_gray(pixels) if recipe.gray else pixels) - mean) / std


def batch_losses(
    network: nn.Module, batch: Batch, recipe: Recipe, seed: tuple[int, ...]
) -> dict[str, Tensor]:
    """Loss of each task on one batch, without its weight; images may be mixed."""
    images = normalised(batch.images, recipe, device_of(network))
    images, order, share = mixed(images, recipe.augmentation, np.random.default_rng(seed))
    found = forward(network, images, recipe)
    losses = task_losses(found, batch.labels, recipe)
    if share == 1:
        return losses
    labels = {name: values[order] for name, values in batch.labels.items()}
    other = task_losses(found, labels, recipe)
    return {name: share * loss + (1 - share) * other[name] for name, loss in losses.items()}


def _weighted(losses: Mapping[str, Tensor], recipe: Recipe) -> Tensor:
    return torch.stack([recipe.tasks[name].weight * loss for name, loss in losses.items()]).sum()


def mixed(
    images: Tensor, settings: Augmentation, rng: np.random.Generator
) -> tuple[Tensor, NDArray[np.int64], float]:
    """A batch with each image partly replaced by another, whose order comes with it.

    Returns:
        The images, the positions of what was mixed in, and the share that is the image itself.

    Source:
        Zhang and others: mixup, ICLR 2018; Yun and others: CutMix, ICCV 2019.
    """
    order = rng.permutation(len(images))
    kind, share = rng.random(), float(rng.beta(1.0, 1.0))
    if kind < settings.mixup_share:
        return share * images + (1 - share) * images[order], order, share
    if kind < settings.mixup_share + settings.cutmix_share:
        size = images.shape[-1]
        side = int(size * math.sqrt(1 - share))
        left, top = rng.integers(0, size - side + 1, 2)
        images = images.clone()
        box = (..., slice(top, top + side), slice(left, left + side))
        images[box] = images[order][box]
        return images, order, 1 - side * side / (size * size)
    return images, order, 1.0


def task_losses(
    found: Mapping[str, Tensor], labels: Mapping[str, NDArray[np.int64]], recipe: Recipe
) -> dict[str, Tensor]:
    """Loss of each task, without its weight.

    Args:
        found: The network's outputs, (N, K) each.
        labels: As in ``CropSet``, (N,) each.
        recipe: Whose tasks they are.
    """
    losses = {}
    device = next(iter(found.values())).device
    for name, task in recipe.tasks.items():
        if name != AGE:
            sets = _class_sets(task.scheme).to(device)
            rows = torch.from_numpy(labels[name]).to(device)
            allowed = sets[rows.clamp(min=0)] & (rows >= 0)[:, None]
            losses[name] = set_loss(found[name], allowed, task.label_smoothing)
            continue
        low, high = (torch.from_numpy(labels[f"age_{end}"]).to(device) for end in ("low", "high"))
        if task.scheme == VALUE_SCHEME:
            losses[name] = value_loss(found[name], low, high, task.scale)
            continue
        allowed = classes_between(low, high, _age_bounds(task.scheme).to(device))
        losses[name] = set_loss(found[name], allowed, task.label_smoothing)
        if task.smoothness:
            losses[name] = losses[name] + task.smoothness * roughness(found[name])
    return losses


@cache
def _class_sets(scheme: str) -> Tensor:
    return torch.from_numpy(class_sets(scheme))


@cache
def _age_bounds(scheme: str) -> Tensor:
    return torch.tensor(YEARS if scheme == YEARS_SCHEME else age_bins(scheme))


@torch.no_grad()
def update_average(state: State, decay: float) -> None:
    """Move the averaged weights toward the current ones; fast at first, slowly later."""
    decay = min(decay, (1 + state.total) / (10 + state.total))
    for mean, now in zip(
        state.average.state_dict().values(), state.network.state_dict().values(), strict=True
    ):
        if mean.is_floating_point():
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)


@torch.inference_mode()
def predict_logits(
    network: MultiTaskNetwork, recipe: Recipe, crops: CropSet, size: int
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.int64]]]:
    """Logits (N, K) and labels (N,) by name, of the central views of crops that can be decoded."""
    network.eval()
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in recipe.tasks}
    labels: dict[str, list[NDArray[np.int64]]] = {name: [] for name in crops.labels}
    source: Iterator[Batch] = batches(
        crops, range(len(crops)), size, 128, None, (0,), workers=available_cores()
    )
    for batch in source:
        if not len(batch.images):
            continue
        images = normalised(batch.images, recipe, device_of(network))
        for name, value in forward(network, images, recipe).items():
            found[name].append(value.cpu().numpy())
        for name, rows in batch.labels.items():
            labels[name].append(rows)
    if not any(found.values()):
        raise InputError(f"none of {len(crops)} crops can be decoded, such as {crops.files[0]}")
    return (
        {name: np.concatenate(values) for name, values in found.items()},
        {name: np.concatenate(rows) for name, rows in labels.items()},
    )


def validate(
    network: MultiTaskNetwork, recipe: Recipe, crops: CropSet, size: int
) -> dict[str, float]:
    """Accuracy and loss by task on the central views; 0 where no crop has a label.

    A class counts as right where the annotation allows it. Ages count by group, a distribution
    over years by the groups of the default scheme; where years are predicted and some are known,
    ``age_mae`` is the mean absolute error.
    """
    found, labels = predict_logits(network, recipe, crops, size)
    metrics: dict[str, float] = {}
    for name, task in recipe.tasks.items():
        if name == AGE:
            metrics |= _age_metrics(found[AGE], labels, task)
        else:
            known = labels[name] >= 0
            sets = class_sets(task.scheme)
            metrics[name] = _share(sets[labels[name][known], found[name][known].argmax(1)])
    tensors = {name: torch.from_numpy(values) for name, values in found.items()}
    losses = task_losses(tensors, labels, recipe)
    return metrics | {f"{name}_loss": loss.item() for name, loss in losses.items()}


def _share(right: NDArray[np.bool_]) -> float:
    return float(right.mean()) if right.size else 0.0


def _age_metrics(
    found: NDArray[np.float32], labels: Mapping[str, NDArray[np.int64]], task: TaskRecipe
) -> dict[str, float]:
    low, high = labels["age_low"], labels["age_high"]
    exact = (low >= 0) & (low == high)
    metrics: dict[str, float] = {}
    if task.scheme == VALUE_SCHEME:
        years = found[:, 0] * task.scale
    else:
        powers = np.exp(found - found.max(1, keepdims=True))
        probs = powers / powers.sum(1, keepdims=True)
        years = probs @ np.arange(probs.shape[1], dtype=np.float32)
        metrics["age_group"] = _group_accuracy(probs, low, high, task)
    if task.scheme in (VALUE_SCHEME, YEARS_SCHEME) and exact.any():
        metrics["age_mae"] = float(np.abs(years[exact] - low[exact]).mean())
    return metrics


def _group_accuracy(
    probs: NDArray[np.float32], low: NDArray[np.int64], high: NDArray[np.int64], task: TaskRecipe
) -> float:
    """Share of faces whose most probable group is the one that their age surely falls in."""
    bins = np.asarray(AGE_BINS[DEFAULT_AGE_SCHEME])
    if task.scheme == YEARS_SCHEME:
        probs = np.add.reduceat(probs, bins, axis=1)
    else:
        bins = np.asarray(age_bins(task.scheme))
    first, last = (np.searchsorted(bins, end, side="right") - 1 for end in (low, high))
    known = (low >= 0) & (first == last)
    return _share((probs.argmax(1) == first)[known])


COUNTERS = ("epoch", "step", "total", "best", "best_epoch", "sums", "history", "seconds")


def save(state: State, path: Path, identity: Mapping[str, str]) -> None:
    """Write a checkpoint; the previous one stays until this one is complete."""
    _write(
        {
            "identity": dict(identity),
            "network": state.network.state_dict(),
            "average": state.average.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            **{name: getattr(state, name) for name in COUNTERS},
        },
        path,
    )


def _write(facts: Any, path: Path) -> None:
    with atomic_write(path) as file:
        torch.save(facts, file)


def restore(state: State, path: Path, identity: Mapping[str, str]) -> None:
    """Fill a state from a checkpoint (tensors and numbers only; nothing is unpickled freely).

    Raises:
        UsageError: If it belongs to another training; says in what it differs.
    """
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    known = found.get("identity", {})
    differing = [name for name, value in identity.items() if known.get(name) != value]
    if differing == ["stages"] and _is_continued(known["stages"], identity["stages"]):
        differing = []
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


def _is_continued(before: str, now: str) -> bool:
    """Whether stages, as text, only add a new cycle behind those before."""
    old, new = json.loads(before), json.loads(now)
    added = new[len(old) :]
    return bool(added) and new[: len(old)] == old and bool(added[0]["restart"])


def write_history(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write one row per finished epoch."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = (row.get(name, "") for name in names)
        writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in values])
    write_text(path, text.getvalue())
