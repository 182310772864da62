"""A network's raw outputs to probabilities, classes and ages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceaudit.models.bundle import Output
from faceaudit.runtimes.outputs import columns_of
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
    """Probabilities (N, K) of raw outputs, row by row, that sum to 1; NaN where all are 0."""
    wide = values.astype(np.float64)
    if activation in ("sigmoid", "none"):
        with np.errstate(over="ignore"):  # of a logit far below 0: the probability is 0
            second = 1 / (1 + np.exp(-wide)) if activation == "sigmoid" else np.clip(wide, 0, 1)
        shares = np.column_stack([1 - second, second]) if second.shape[1] == 1 else second
    else:
        shares = np.exp(wide - wide.max(axis=1, keepdims=True))
    with np.errstate(invalid="ignore"):
        # Of a softmax in low precision the sum is not quite 1.
        found: NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return found


def scores_of(
    raw: Mapping[str, Floats], outputs: Sequence[Output], age_bins: Sequence[int]
) -> Scores:
    """Probabilities of every task; those of age groups are sums over their years.

    What the network did not say, where an output is no finite number, is NaN in all classes.

    Args:
        raw: The runtime's outputs by name, (N, ...) each.
        outputs: What each output means.
        age_bins: Lower bounds of the age groups, in years.
    """
    probs: dict[str, Floats] = {}
    age: Floats | None = None
    for output in outputs:
        values = columns_of(raw, output, len(raw[output.tensor]))
        unknown = np.logical_not(np.isfinite(values).all(axis=1))
        values = np.where(unknown[:, np.newaxis], np.float32(0), values)
        if output.activation == "value":
            years = output.scale * values[:, 0] + output.shift
            age = np.clip(years, 0, MAX_AGE_PREDICTED).astype(np.float32)
            found = one_hot_groups(age, age_bins)
        else:
            shares = activate(values, output.activation)
            unknown |= np.isnan(shares[:, 0])
            found = shares.astype(np.float32)
            if output.is_age:
                by_year = on_years(shares, output.classes, age_bins)
                # Not a matrix product: its rounding may depend on the batch.
                age = (by_year * np.arange(by_year.shape[1])).sum(axis=1).astype(np.float32)
                found = np.add.reduceat(by_year, np.asarray(age_bins), axis=1).astype(np.float32)
        if output.is_age and age is not None:
            age[unknown] = np.nan
        found[unknown] = np.nan
        name = age_group_task(age_bins).name if output.is_age else output.name
        probs[name] = found
    return Scores(probs, age)


def on_years(
    shares: NDArray[np.float64], classes: Sequence[str], age_bins: Sequence[int]
) -> NDArray[np.float64]:
    """Probabilities over the years 0, 1, ... to the last, or to the last bound of the groups."""
    years = [int(year) for year in classes]
    size = max(years[-1], age_bins[-1]) + 1
    if years == list(range(size)):
        return shares
    wide = np.zeros((len(shares), size))
    wide[:, years] = shares
    return wide


def one_hot_groups(age: Floats, age_bins: Sequence[int]) -> Floats:
    """All probability on the age group of each age in years, (N, G)."""
    group = np.searchsorted(np.asarray(age_bins), np.floor(age), side="right") - 1
    return np.eye(len(age_bins), dtype=np.float32)[np.maximum(group, 0)]


def predicted_tasks(outputs: Sequence[Output], age_bins: Sequence[int]) -> tuple[Task, ...]:
    """The tasks with columns in the table, in the order of the outputs."""
    return tuple(age_group_task(age_bins) if output.is_age else output.task for output in outputs)
