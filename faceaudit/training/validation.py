"""How well a network does on crops that it did not learn from, and what an epoch is chosen by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from faceaudit.errors import InputError, UsageError
from faceaudit.models.facts import VALUE_SCHEME, YEARS_SCHEME
from faceaudit.models.heads import MultiTaskNetwork
from faceaudit.progress import counted
from faceaudit.schema import AGE, AGE_BINS, AGE_GROUP, DEFAULT_AGE_SCHEME, GENDER, RACE
from faceaudit.training.batches import Batch, batches
from faceaudit.training.data import CropSet
from faceaudit.training.labels import class_sets
from faceaudit.training.objective import device_of, faces_of, forward, normalized, task_losses
from faceaudit.training.recipe import Recipe, TaskRecipe, age_bins

FEWEST = 30
"""Faces of a subgroup whose accuracy can be the lowest that is told."""


def validate(
    network: MultiTaskNetwork, recipe: Recipe, crops: CropSet, size: int
) -> dict[str, float]:
    """Accuracy and loss by task on the central views; nothing of a task that no crop has.

    A class counts as right where the annotation allows it. Ages count by group, a distribution
    over years by the groups of the default scheme; where years are predicted and some are known,
    ``age_mae`` is the mean absolute error. ``<task>_lowest`` is the lowest accuracy of a subgroup
    of annotated gender and race, as far as the recipe has them as tasks, with ``FEWEST`` faces or
    more: being the lowest of several, it is too low by chance.
    """
    found, labels = predict_logits(network, recipe, crops, size)
    metrics: dict[str, float] = {}
    labeled = _labeled(recipe, labels)
    for name in labeled:
        task = recipe.tasks[name]
        if name == AGE:
            metrics |= _age_metrics(found[AGE], labels, task)
        else:
            known = labels[name] >= 0
            sets = class_sets(task.scheme)
            right = sets[labels[name], found[name].argmax(1)]
            metrics |= _accuracies(name, right, known, labels)
    tensors = {name: torch.from_numpy(values) for name, values in found.items()}
    losses = task_losses(tensors, labels, recipe)
    return metrics | {f"{name}_loss": losses[name].item() for name in labeled}


def _accuracies(
    name: str,
    right: NDArray[np.bool_],
    known: NDArray[np.bool_],
    labels: Mapping[str, NDArray[np.int64]],
) -> dict[str, float]:
    """A task's accuracy on the faces whose label is known, and its lowest of a subgroup."""
    if not known.any():
        return {}
    metrics = {name: float(right[known].mean())}
    by = [labels[column] for column in (GENDER, RACE) if column in labels]
    if by:
        placed = known & np.all([one >= 0 for one in by], axis=0)
        _, cell = np.unique(np.stack(by)[:, placed], axis=1, return_inverse=True)
        faces = np.bincount(cell.ravel())
        shares = np.bincount(cell.ravel(), right[placed])[faces >= FEWEST] / faces[faces >= FEWEST]
        metrics |= {f"{name}_lowest": float(shares.min())} if shares.size else {}
    return metrics


def _labeled(recipe: Recipe, labels: Mapping[str, NDArray[np.int64]]) -> list[str]:
    """The tasks of which at least one crop has a label."""
    faces = faces_of(labels, recipe)
    return [name for name in recipe.tasks if faces[name]]


@torch.inference_mode()
def predict_logits(
    network: MultiTaskNetwork, recipe: Recipe, crops: CropSet, size: int
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.int64]]]:
    """Logits (N, K) and labels (N,) by name, of the central views of crops that can be decoded."""
    network.eval()
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in recipe.tasks}
    labels: dict[str, list[NDArray[np.int64]]] = {name: [] for name in crops.labels}
    place = device_of(network)
    source = batches(crops, range(len(crops)), size, 128, None, (0,), device=place.type)
    for batch in counted("validate", source, len(crops), _images_of):
        if not len(batch.images):
            continue
        images = normalized(batch.images, recipe, place)
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


def _images_of(batch: Batch) -> int:
    return len(batch.images) + len(batch.skipped)


def selection_value(metrics: Mapping[str, float], recipe: Recipe) -> float:
    """What the selection maximizes after an epoch (see ``Selection``)."""
    by = recipe.selection.by
    if by.endswith("_loss"):
        return -metrics[by]
    values = {name: _task_value(metrics, name, task) for name, task in recipe.tasks.items()}
    if by:
        return values[by] or 0.0
    known = {name: value for name, value in values.items() if value is not None}
    weights = [recipe.tasks[name].weight for name in known]
    return float(np.average([*known.values()], weights=weights)) if any(weights) else 0.0


def check_selection(recipe: Recipe, validation: CropSet) -> None:
    """Refuse to select epochs by a task that no validation crop has a label of.

    Raises:
        UsageError: If the recipe does; names the key.
    """
    by, labeled = recipe.selection.by, _labeled(recipe, validation.labels)
    selects = recipe.selection.keep == "best" or recipe.selection.patience
    if selects and not (by.removesuffix("_loss") in labeled if by else labeled):
        raise UsageError(
            f"recipe {recipe.name}: selection: no validation crop has a label of {by or 'a task'}, "
            f"by which epochs would be chosen; labels are of {', '.join(labeled) or 'none'}"
        )


def _task_value(metrics: Mapping[str, float], name: str, task: TaskRecipe) -> float | None:
    """How well a task does, higher being better; None where no crop has its label."""
    if name == AGE and task.scheme == VALUE_SCHEME:
        return -metrics["age_mae"] / task.scale if "age_mae" in metrics else None
    return metrics.get("age_group" if name == AGE else name)


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
        metrics |= _accuracies(AGE_GROUP, *_right_groups(probs, low, high, task), labels)
    if task.scheme in (VALUE_SCHEME, YEARS_SCHEME) and exact.any():
        metrics["age_mae"] = float(np.abs(years[exact] - low[exact]).mean())
    return metrics


def _right_groups(
    probs: NDArray[np.float32], low: NDArray[np.int64], high: NDArray[np.int64], task: TaskRecipe
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the most probable group is the right one, and whether that is known, (N,) each.

    It is known of faces whose age surely falls in one.
    """
    bins = np.asarray(AGE_BINS[DEFAULT_AGE_SCHEME])
    if task.scheme == YEARS_SCHEME:
        probs = np.add.reduceat(probs, bins, axis=1)
    else:
        bins = np.asarray(age_bins(task.scheme))
    first, last = (np.searchsorted(bins, end, side="right") - 1 for end in (low, high))
    return probs.argmax(1) == first, (low >= 0) & (first == last)
