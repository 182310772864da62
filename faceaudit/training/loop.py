"""The training loop: steps, moving average, checkpoints, validation."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceaudit.models import find_backbone
from faceaudit.models.heads import MultiTaskNetwork, freeze, to_gray
from faceaudit.models.weights import load_weights
from faceaudit.schema import AGE, AGE_BINS, DEFAULT_AGE_SCHEME, YEARS
from faceaudit.training.data import Batch, CropSet, batches, class_sets
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


def new_state(recipe: Recipe) -> State:
    """A training before its first step."""
    torch.manual_seed(recipe.seed)
    backbone = find_backbone(recipe.backbone)
    trunk = backbone.build()
    load_weights(backbone, trunk, recipe.weights)
    outputs = {task.output: max(1, len(task.classes)) for task in recipe.outputs()}
    heads = recipe.heads
    network = MultiTaskNetwork(
        trunk, backbone.features, outputs, heads.dropout, heads.kind, heads.units
    )
    freeze(network, backbone, recipe.frozen)
    network = network.to(memory_format=torch.channels_last)
    return State(network, deepcopy(network), make_optimizer(network, recipe))


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
) -> State:
    """Train to the recipe's end, going on from a checkpoint in ``work`` where there is one.

    Args:
        recipe: What to do.
        training: Crops to learn from.
        validation: Crops to report on after every epoch.
        work: Folder of the checkpoint and of ``history.csv``; must exist.
        say: Takes a line of progress.
        max_steps: Stop after this many steps of every epoch (a trial).
    """
    state = new_state(recipe)
    checkpoint = work / CHECKPOINT
    if checkpoint.is_file():
        restore(state, checkpoint)
        at_end = state.epoch >= recipe.epochs
        say(
            "already complete"
            if at_end
            else f"going on at epoch {state.epoch + 1}, step {state.step}"
        )
    steps = math.ceil(len(training) / recipe.batch)
    steps = min(steps, max_steps) if max_steps else steps
    sizes = stage_sizes(recipe)
    while state.epoch < recipe.epochs and not _is_exhausted(state, recipe):
        size = sizes[state.epoch]
        loss = _run_epoch(recipe, state, training, size, steps, checkpoint, say)
        state.epoch, state.step = state.epoch + 1, 0
        metrics = validate(state.average, recipe, validation, recipe.size)
        _append_history(work / "history.csv", state.epoch, size, loss, metrics)
        figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        say(f"epoch {state.epoch}/{recipe.epochs} at {size} px: loss {loss:.4f}; {figures}")
        value = selection_value(metrics, recipe)
        if value > state.best:
            state.best, state.best_epoch = value, state.epoch
            if recipe.selection.keep == "best":
                _write(state.average.state_dict(), work / BEST)
        save(state, checkpoint)
    if recipe.selection.keep == "best" and (work / BEST).is_file():
        state.average.load_state_dict(torch.load(work / BEST, weights_only=True))
    return state


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
    return float(np.average(values, weights=weights))


def _task_value(metrics: Mapping[str, float], name: str, task: TaskRecipe) -> float:
    if name == AGE and task.scheme == VALUE_SCHEME:
        return -metrics["age_mae"] / task.scale
    return metrics["age_group" if name == AGE else name]


def _run_epoch(
    recipe: Recipe,
    state: State,
    training: CropSet,
    size: int,
    steps: int,
    checkpoint: Path,
    say: Callable[[str], None],
) -> float:
    """Mean loss of the steps that were run."""
    order = np.random.default_rng((recipe.seed, state.epoch)).permutation(len(training))
    order = order[: steps * recipe.batch]
    source = batches(
        training,
        order.tolist(),
        size,
        recipe.batch,
        recipe.augmentation,
        (recipe.seed, state.epoch),
        first=state.step,
    )
    state.network.train()
    losses: list[float] = []
    first, begun = state.step, time.monotonic()
    saved = said = begun
    for batch in source:
        factor = rate_at(recipe, state.epoch, state.step / steps)
        for group in state.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        torch.manual_seed(recipe.seed + 7919 * state.total)  # dropout: equal after a resume
        loss = batch_loss(state.network, batch, recipe, (recipe.seed, state.total))
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip_norm:
            nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip_norm)
        state.optimizer.step()
        update_average(state, recipe.ema)
        losses.append(loss.item())
        state.step, state.total = state.step + 1, state.total + 1
        now = time.monotonic()
        if now - said > 30:
            rate = (state.step - first) * recipe.batch / (now - begun)
            recent = np.mean(losses[-50:])
            say(f"step {state.step}/{steps}, loss {recent:.4f}, {rate:.0f} images/s")
            said = now
        if now - saved > CHECKPOINT_SECONDS:
            save(state, checkpoint)
            saved = now
    return float(np.mean(losses)) if losses else float("nan")


def normalised(images: NDArray[np.uint8], recipe: Recipe) -> Tensor:
    """Network input (N, 3, S, S), channels last in memory, of uint8 RGB crops (N, S, S, 3)."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    mean = 255 * torch.tensor(recipe.mean).view(1, 3, 1, 1)
    std = 255 * torch.tensor(recipe.std).view(1, 3, 1, 1)
    return ((to_gray(pixels) if recipe.gray else pixels) - mean) / std


def batch_loss(
    network: MultiTaskNetwork, batch: Batch, recipe: Recipe, seed: tuple[int, ...]
) -> Tensor:
    """Weighted sum of the tasks' losses on one batch, images of which may be mixed."""
    images = normalised(batch.images, recipe)
    images, order, share = mixed(images, recipe.augmentation, np.random.default_rng(seed))
    found = network(images)
    losses = task_losses(found, batch.labels, recipe)
    total = _weighted(losses, recipe)
    if share < 1:
        labels = {name: values[order] for name, values in batch.labels.items()}
        other = task_losses(found, labels, recipe)
        total = share * total + (1 - share) * _weighted(other, recipe)
    return total


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
    for name, task in recipe.tasks.items():
        if name != AGE:
            sets = _class_sets(task.scheme)
            rows = torch.from_numpy(labels[name])
            allowed = sets[rows.clamp(min=0)] & (rows >= 0)[:, None]
            losses[name] = set_loss(found[name], allowed, task.label_smoothing)
            continue
        low, high = (torch.from_numpy(labels[f"age_{end}"]) for end in ("low", "high"))
        if task.scheme == VALUE_SCHEME:
            losses[name] = value_loss(found[name], low, high, task.scale)
            continue
        allowed = classes_between(low, high, _age_bounds(task.scheme))
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
    """Move the averaged weights towards the current ones; fast at first, slowly later."""
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
) -> dict[str, NDArray[np.float32]]:
    """Logits (N, K) by output name, of the central views of crops."""
    network.eval()
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in recipe.tasks}
    source: Iterator[Batch] = batches(crops, range(len(crops)), size, 128, None, (0,))
    for batch in source:
        for name, value in network(normalised(batch.images, recipe)).items():
            found[name].append(value.numpy())
    return {name: np.concatenate(values) for name, values in found.items()}


def validate(
    network: MultiTaskNetwork, recipe: Recipe, crops: CropSet, size: int
) -> dict[str, float]:
    """Accuracy and loss by task on the central views.

    A class counts as right where the annotation allows it. Ages count by group, a distribution
    over years by the groups of the default scheme; a regression has ``age_mae`` instead.
    """
    found = predict_logits(network, recipe, crops, size)
    metrics = {}
    for name, task in recipe.tasks.items():
        if name == AGE:
            key, value = _age_metric(found[AGE], crops, task)
            metrics[key] = value
        else:
            known = crops.labels[name] >= 0
            sets = class_sets(task.scheme)
            right = sets[crops.labels[name][known], found[name][known].argmax(1)]
            metrics[name] = float(right.mean())
    tensors = {name: torch.from_numpy(values) for name, values in found.items()}
    losses = task_losses(tensors, crops.labels, recipe)
    return metrics | {f"{name}_loss": loss.item() for name, loss in losses.items()}


def _age_metric(found: NDArray[np.float32], crops: CropSet, task: TaskRecipe) -> tuple[str, float]:
    low, high = crops.labels["age_low"], crops.labels["age_high"]
    if task.scheme == VALUE_SCHEME:
        exact = (low >= 0) & (low == high)
        errors = np.abs(found[exact, 0] * task.scale - low[exact])
        return "age_mae", float(errors.mean()) if exact.any() else float("nan")
    bins = np.asarray(AGE_BINS[DEFAULT_AGE_SCHEME])
    values = np.exp(found - found.max(1, keepdims=True))
    if task.scheme == YEARS_SCHEME:
        values = np.add.reduceat(values, bins, axis=1)
    else:
        bins = np.asarray(age_bins(task.scheme))
    first, last = (np.searchsorted(bins, end, side="right") - 1 for end in (low, high))
    known = (low >= 0) & (first == last)
    return "age_group", float((values.argmax(1) == first)[known].mean())


def save(state: State, path: Path) -> None:
    """Write a checkpoint; the previous one stays until this one is complete."""
    _write(
        {
            "network": state.network.state_dict(),
            "average": state.average.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "epoch": state.epoch,
            "step": state.step,
            "total": state.total,
            "best": state.best,
            "best_epoch": state.best_epoch,
        },
        path,
    )


def _write(facts: Any, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(facts, part)
    part.replace(path)


def restore(state: State, path: Path) -> None:
    """Fill a state from a checkpoint (tensors and numbers only; nothing is unpickled freely)."""
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    state.network.load_state_dict(found["network"])
    state.average.load_state_dict(found["average"])
    state.optimizer.load_state_dict(found["optimizer"])
    state.epoch, state.step, state.total = found["epoch"], found["step"], found["total"]
    state.best, state.best_epoch = found.get("best", -math.inf), found.get("best_epoch", 0)


def _append_history(
    path: Path, epoch: int, size: int, loss: float, metrics: dict[str, float]
) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["epoch", "size", "loss", *metrics])
        writer.writerow([epoch, size, f"{loss:.5f}", *(f"{v:.5f}" for v in metrics.values())])
