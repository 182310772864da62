"""The training loop: steps, moving average, checkpoints, validation."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceaudit.models import find_backbone
from faceaudit.models.heads import MultiTaskNetwork
from faceaudit.schema import AGE, AGE_BINS, DEFAULT_AGE_SCHEME
from faceaudit.training.data import Batch, CropSet, batches
from faceaudit.training.losses import class_loss, years_loss
from faceaudit.training.recipe import Recipe

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 300


@dataclass
class State:
    """Everything that a training is at one moment; saved and restored whole."""

    network: MultiTaskNetwork
    average: MultiTaskNetwork
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    step: int = 0  # within the epoch
    total: int = 0  # over all epochs


def new_state(recipe: Recipe) -> State:
    """A training before its first step."""
    torch.manual_seed(recipe.seed)
    backbone = find_backbone(recipe.backbone)
    trunk = backbone.build()
    if recipe.weights == "imagenet":
        backbone.load_imagenet(trunk)
    outputs = {task.output: len(task.classes) for task in recipe.outputs()}
    network = MultiTaskNetwork(trunk, backbone.features, outputs, recipe.heads.dropout)
    network = network.to(memory_format=torch.channels_last)
    return State(network, deepcopy(network), make_optimizer(network, recipe))


def make_optimizer(network: MultiTaskNetwork, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW with a rate for the trunk and one for the heads; no decay of norms and biases."""
    groups = []
    for module, rate in (
        (network.trunk, recipe.trunk_learning_rate or recipe.learning_rate),
        (network.heads, recipe.learning_rate),
    ):
        parameters = list(module.parameters())
        for decay, members in (
            (recipe.weight_decay, [p for p in parameters if p.ndim > 1]),
            (0.0, [p for p in parameters if p.ndim <= 1]),
        ):
            groups.append({"params": members, "lr": rate, "base_lr": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups)


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
    return peak * rate_factor((epoch - begin + share) / (end - begin), recipe.schedule.warmup)


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
        say(f"going on at epoch {state.epoch + 1}, step {state.step}")
    steps = math.ceil(len(training) / recipe.batch)
    steps = min(steps, max_steps) if max_steps else steps
    sizes = stage_sizes(recipe)
    while state.epoch < recipe.epochs:
        size = sizes[state.epoch]
        loss = _run_epoch(recipe, state, training, size, steps, checkpoint, say)
        state.epoch, state.step = state.epoch + 1, 0
        metrics = validate(state.average, recipe, validation, recipe.size)
        _append_history(work / "history.csv", state.epoch, size, loss, metrics)
        figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        say(f"epoch {state.epoch}/{recipe.epochs} at {size} px: loss {loss:.4f}; {figures}")
        save(state, checkpoint)
    return state


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
        loss = batch_loss(state.network, batch, recipe)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(state.network.parameters(), 5.0)
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
    return (pixels - mean) / std


def batch_loss(network: MultiTaskNetwork, batch: Batch, recipe: Recipe) -> Tensor:
    """Weighted sum of the tasks' losses on one batch."""
    logits = network(normalised(batch.images, recipe))
    total = torch.zeros(())
    for name, task in recipe.tasks.items():
        if name == AGE:
            low, high = (torch.from_numpy(batch.labels[f"age_{end}"]) for end in ("low", "high"))
            loss = years_loss(logits[AGE], low, high, task.smoothness)
        else:
            labels = torch.from_numpy(batch.labels[name])
            loss = class_loss(logits[name], labels, task.label_smoothing)
        total = total + task.weight * loss
    return total


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
    """Accuracy by task on the central views; for age, of the groups of the default scheme."""
    logits = predict_logits(network, recipe, crops, size)
    metrics = {}
    for name in recipe.tasks:
        if name == AGE:
            metrics["age_group"] = _age_group_accuracy(logits[AGE], crops)
        else:
            known = crops.labels[name] >= 0
            right = logits[name].argmax(1)[known] == crops.labels[name][known]
            metrics[name] = float(right.mean())
    return metrics


def _age_group_accuracy(logits: NDArray[np.float32], crops: CropSet) -> float:
    """Share of faces whose most probable age group holds their annotated age."""
    bins = np.asarray(AGE_BINS[DEFAULT_AGE_SCHEME])
    probs = np.exp(logits - logits.max(1, keepdims=True))
    group = np.add.reduceat(probs, bins, axis=1).argmax(1)
    known = crops.labels["age_low"] >= 0
    true = np.searchsorted(bins, crops.labels["age_low"], side="right") - 1
    return float((group == true)[known].mean())


def save(state: State, path: Path) -> None:
    """Write a checkpoint; the previous one stays until this one is complete."""
    part = path.with_suffix(".part")
    torch.save(
        {
            "network": state.network.state_dict(),
            "average": state.average.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "epoch": state.epoch,
            "step": state.step,
            "total": state.total,
        },
        part,
    )
    part.replace(path)


def restore(state: State, path: Path) -> None:
    """Fill a state from a checkpoint (tensors and numbers only; nothing is unpickled freely)."""
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    state.network.load_state_dict(found["network"])
    state.average.load_state_dict(found["average"])
    state.optimizer.load_state_dict(found["optimizer"])
    state.epoch, state.step, state.total = found["epoch"], found["step"], found["total"]


def _append_history(
    path: Path, epoch: int, size: int, loss: float, metrics: dict[str, float]
) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["epoch", "size", "loss", *metrics])
        writer.writerow([epoch, size, f"{loss:.5f}", *(f"{v:.5f}" for v in metrics.values())])
