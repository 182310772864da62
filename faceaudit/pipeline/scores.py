"""A network's raw outputs to probabilities, classes and ages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceaudit.models.bundle import Output
from faceaudit.schema import Task, age_group_task

Floats = NDArray[np.float32]
MAX_AGE_PREDICTED = 120.0
"""Years that a regression is cut off at."""


@dataclass(frozen=True)
class Scores:
    """What the network says of a batch of faces: probabilities by task, ages in years."""

    probs: Mapping[str, Floats]  # (N, K) by task name
    age: Floats | None  # (N,)


def activate(values: Floats, activation: str) -> NDArray[np.float64]:
    """Probabilities (N, K) of raw outputs, row by row."""
    wide = values.astype(np.float64)
    if activation == "none":
        return wide
    if activation == "sigmoid":
        second = 1 / (1 + np.exp(-wide.reshape(-1)))
        return np.column_stack([1 - second, second])
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def scores_of(
    raw: Mapping[str, Floats], outputs: Sequence[Output], age_bins: Sequence[int]
) -> Scores:
    """Probabilities of every task; those of age groups are sums over their years.

    Args:
        raw: The runtime's outputs by output name, (N, K) each.
        outputs: What each output means.
        age_bins: Lower bounds of the age groups, in years.
    """
    probs: dict[str, Floats] = {}
    age: Floats | None = None
    for output in outputs:
        if output.activation == "value":
            age = np.clip(raw[output.output].reshape(-1), 0, MAX_AGE_PREDICTED).astype(np.float32)
            groups = one_hot_groups(age, age_bins)
            probs[age_group_task(age_bins).name] = groups
            continue
        found = activate(raw[output.output], output.activation)
        if output.activation == "years":
            # Not a matrix product: its rounding may depend on the batch.
            age = (found * np.arange(found.shape[1])).sum(axis=1).astype(np.float32)
            groups = np.add.reduceat(found, np.asarray(age_bins), axis=1)
            probs[age_group_task(age_bins).name] = groups.astype(np.float32)
        else:
            probs[output.name] = found.astype(np.float32)
    return Scores(probs, age)


def one_hot_groups(age: Floats, age_bins: Sequence[int]) -> Floats:
    """All probability on the age group of each age in years, (N, G)."""
    group = np.searchsorted(np.asarray(age_bins), np.floor(age), side="right") - 1
    return np.eye(len(age_bins), dtype=np.float32)[np.maximum(group, 0)]


def predicted_tasks(outputs: Sequence[Output], age_bins: Sequence[int]) -> tuple[Task, ...]:
    """The tasks with columns in the table, in the order of the outputs."""
    return tuple(age_group_task(age_bins) if output.is_age else output.task for output in outputs)
