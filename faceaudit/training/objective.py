"""A batch through the network: its outputs, and how far off they are by the labels of each task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from faceaudit.models.facts import VALUE_SCHEME, YEARS_SCHEME
from faceaudit.models.heads import to_gray
from faceaudit.schema import AGE, YEARS
from faceaudit.training.batches import Batch
from faceaudit.training.labels import class_sets
from faceaudit.training.losses import (
    classes_between,
    distillation_loss,
    roughness,
    set_loss,
    value_loss,
)
from faceaudit.training.recipe import Augmentation, Recipe, TaskRecipe, age_bins

IMAGES = "images"
"""All faces of a batch, among the numbers of those that a task has a label of."""


def faces_of(labels: Mapping[str, NDArray[np.int64]], recipe: Recipe) -> dict[str, float]:
    """How many faces each loss is a mean over: by task those with a label, and all as ``IMAGES``.

    Args:
        labels: As in ``CropSet``, (N,) each.
        recipe: Whose tasks they are.
    """
    found = {name: float(_known(labels, name, task).sum()) for name, task in recipe.tasks.items()}
    return {**found, IMAGES: float(len(next(iter(labels.values()))))}


def batch_losses(
    network: nn.Module,
    batch: Batch,
    recipe: Recipe,
    seed: tuple[int, ...],
    faces: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Loss of each task on one batch, without its weight; images may be mixed.

    Labels and what teachers say of the images are then mixed by the same share. ``faces`` are what
    sums are divided by where processes share a batch, as ``faces_of`` gives them for one.
    """
    images = normalized(batch.images, recipe, device_of(network))
    images, order, share = mixed(images, recipe.augmentation, np.random.default_rng(seed))
    found = forward(network, images, recipe)
    losses = taught_losses(found, batch.labels, batch.taught, recipe, faces)
    if share == 1:
        return losses
    labels = {name: values[order] for name, values in batch.labels.items()}
    taught = {name: values[order] for name, values in batch.taught.items()}
    other = taught_losses(found, labels, taught, recipe, faces)
    return {name: share * loss + (1 - share) * other[name] for name, loss in losses.items()}


def weighted(losses: Mapping[str, Tensor], recipe: Recipe) -> Tensor:
    """Sum of the tasks' losses by their weights."""
    return torch.stack([recipe.tasks[name].weight * loss for name, loss in losses.items()]).sum()


def taught_losses(
    found: Mapping[str, Tensor],
    labels: Mapping[str, NDArray[np.int64]],
    taught: Mapping[str, NDArray[np.float32]],
    recipe: Recipe,
    faces: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Loss of each task by labels and teachers, without its weight.

    Args:
        found: The network's outputs, (N, K) each.
        labels: As in ``CropSet``, (N,) each.
        taught: The teachers' logits, (N, K) each; empty without teachers.
        recipe: Whose tasks they are, and how much teachers count.
        faces: What sums are divided by; by default ``faces_of`` the labels.
    """
    faces = faces or faces_of(labels, recipe)
    losses, settings = task_losses(found, labels, recipe, faces), recipe.distillation
    for name, values in taught.items():
        logits = torch.from_numpy(values).to(found[name].device)
        loss = distillation_loss(found[name], logits, settings.temperature, faces[IMAGES])
        losses[name] = (1 - settings.weight) * losses[name] + settings.weight * loss
    return losses


def task_losses(
    found: Mapping[str, Tensor],
    labels: Mapping[str, NDArray[np.int64]],
    recipe: Recipe,
    faces: Mapping[str, float] | None = None,
) -> dict[str, Tensor]:
    """Loss of each task, without its weight.

    Args:
        found: The network's outputs, (N, K) each.
        labels: As in ``CropSet``, (N,) each.
        recipe: Whose tasks they are.
        faces: What sums are divided by; by default ``faces_of`` the labels.
    """
    losses = {}
    faces = faces or faces_of(labels, recipe)
    device = next(iter(found.values())).device
    for name, task in recipe.tasks.items():
        if name == AGE and task.scheme == VALUE_SCHEME:
            low, high = (end.to(device) for end in _ages(labels))
            losses[name] = value_loss(found[name], low, high, task.scale, faces[name])
            continue
        allowed = allowed_classes(labels, name, task).to(device)
        losses[name] = set_loss(found[name], allowed, task.label_smoothing, faces[name])
        if name == AGE and task.smoothness:
            rough = roughness(found[name], faces[IMAGES])
            losses[name] = losses[name] + task.smoothness * rough
    return losses


def _known(labels: Mapping[str, NDArray[np.int64]], name: str, task: TaskRecipe) -> Tensor:
    """Which faces have a label of a task, (N,) bool."""
    if name == AGE and task.scheme == VALUE_SCHEME:
        return _ages(labels)[0] >= 0
    return allowed_classes(labels, name, task).any(dim=1)


def allowed_classes(labels: Mapping[str, NDArray[np.int64]], name: str, task: TaskRecipe) -> Tensor:
    """Classes that the label of each face stands for, (N, K) bool."""
    if name == AGE:
        return classes_between(*_ages(labels), _age_bounds(task.scheme))
    rows = torch.from_numpy(labels[name])
    return _class_sets(task.scheme)[rows.clamp(min=0)] & (rows >= 0)[:, None]


def _ages(labels: Mapping[str, NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """First and last possible year of each face, (N,) each."""
    return torch.from_numpy(labels["age_low"]), torch.from_numpy(labels["age_high"])


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


def normalized(
    images: NDArray[np.uint8], recipe: Recipe, device: torch.device | str = "cpu"
) -> Tensor:
    """Network input (N, 3, S, S), channels last in memory, of uint8 RGB crops (N, S, S, 3)."""
    pixels = torch.from_numpy(images).to(device, non_blocking=True).permute(0, 3, 1, 2).float()
    mean = 255 * torch.tensor(recipe.mean, device=device).view(1, 3, 1, 1)
    std = 255 * torch.tensor(recipe.std, device=device).view(1, 3, 1, 1)
    return ((to_gray(pixels) if recipe.gray else pixels) - mean) / std


def forward(network: nn.Module, images: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """Outputs in float32, computed in the recipe's precision."""
    precision = precision_of(recipe, images.device)
    with torch.autocast(images.device.type, precision, enabled=precision != torch.float32):
        found: dict[str, Tensor] = network(images)
    return {name: values.float() for name, values in found.items()}


def precision_of(recipe: Recipe, device: torch.device) -> torch.dtype:
    """What convolutions compute in: bfloat16 where asked for, or where a GPU has it."""
    able = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    wanted = recipe.precision == "bfloat16" or (recipe.precision == "auto" and able)
    return torch.bfloat16 if wanted else torch.float32


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    return next(network.parameters()).device


@cache
def _class_sets(scheme: str) -> Tensor:
    return torch.from_numpy(class_sets(scheme))


@cache
def _age_bounds(scheme: str) -> Tensor:
    return torch.tensor(YEARS if scheme == YEARS_SCHEME else age_bins(scheme))
