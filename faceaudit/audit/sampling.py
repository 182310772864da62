"""A sample of a set's faces to label by hand: strata, how many of each, and which.

Strata are predicted classes, split by confidence. Rare classes and faces of low confidence, of
which a plain sample would hold few, are drawn at a higher, known rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.intervals import generator_for
from faceaudit.audit.quantify import Codes, Values
from faceaudit.schema import Task

LOW_SHARE = 0.25
"""The least confident quarter of the faces is drawn at ``LOW_RATE`` times the rate."""
LOW_RATE = 2.0
LEAST = 5
"""Faces of every stratum at least, where it has so many."""
ROOMY = 10
"""Classes of a further task split the strata as long as that leaves so many faces for each."""


@dataclass(frozen=True)
class Drawn:
    """Which faces were drawn, by their place among the scored faces; n faces of H strata."""

    place: Codes  # (n,), in random order
    stratum: Codes  # (n,), from 0
    weight: Values  # (n,): how many faces each stands for
    sizes: Codes  # (H,): faces of each stratum
    split_by: tuple[str, ...]
    """Names of the tasks whose predicted classes form the strata."""


def draw(
    scored: pl.DataFrame, tasks: Sequence[Task], confidence: Sequence[str], n: int, seed: int
) -> Drawn:
    """Faces to label.

    Args:
        scored: Predicted classes (``<task>_pred``) and confidences of the scored faces, a row each.
        tasks: Tasks to stratify by, the first one first; one that would make strata too small is
            left out.
        confidence: Names of the columns that hold confidences.
        n: How many faces to draw; of more strata, one of each.
        seed: Equal seeds draw equal faces of equal tables.
    """
    code, low, split_by = _strata(scored, tasks, confidence, n)
    sizes = np.bincount(code)
    wanted = allocate(sizes, np.where(low, LOW_RATE, 1.0), n)
    generator = generator_for(seed, "sample", {})
    key = generator.random(len(code))
    order = np.lexsort((key, code))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    chosen = np.concatenate(
        [order[start : start + k] for start, k in zip(starts, wanted, strict=True)]
    )
    chosen = chosen[np.argsort(generator.random(len(chosen)))]
    stratum = code[chosen]
    return Drawn(chosen, stratum, (sizes / np.maximum(wanted, 1))[stratum], sizes, split_by)


def allocate(sizes: Codes, rates: Values, n: int) -> Codes:
    """How many faces to draw of each stratum: by the square root of its size times its rate.

    Every stratum gets ``LEAST`` faces, or all where it has fewer; where ``n`` is too small for
    that, an equal number each, and never fewer than one.

    Args:
        sizes: Faces of each stratum, (H,).
        rates: How much more often than others its faces are drawn, (H,).
        n: Faces in all.

    Source:
        Bankier: Power allocations: determining sample sizes for subnational areas, The American
        Statistician 42, 1988.

    Example:
        >>> allocate(np.array([900, 100, 2]), np.ones(3), 42)
        array([30, 10,  2])
    """
    if n >= sizes.sum():
        return np.asarray(sizes)
    least = max(min(LEAST, n // len(sizes)), 1)
    found = np.minimum(sizes, least)
    share = np.sqrt(sizes) * rates
    while (left := n - int(found.sum())) > 0:
        open_ = found < sizes
        aim = share * open_ / (share * open_).sum() * (n - found[~open_].sum())
        short = np.maximum(aim - found, 0) * open_
        step = np.floor(left * short / short.sum()).astype(np.int64)
        if not step.any():
            step[np.argsort(-short, kind="stable")[: min(left, int(open_.sum()))]] = 1
        found = np.minimum(found + step, sizes)
    return np.asarray(found)


def _strata(
    scored: pl.DataFrame, tasks: Sequence[Task], confidence: Sequence[str], n: int
) -> tuple[Codes, NDArray[np.bool_], tuple[str, ...]]:
    """The stratum of every face, whether a stratum is of low confidence, and the tasks used."""
    low = _unsure(scored, confidence)
    code, used = low.astype(np.int64), list[str]()
    for task in tasks:
        number = scored[task.pred_column].cast(pl.Enum(task.classes), strict=False).to_physical()
        own = number.cast(pl.Int64).fill_null(len(task.classes)).to_numpy()
        finer = np.unique(code * (len(task.classes) + 1) + own, return_inverse=True)[1]
        if not used or (finer.max() + 1) * ROOMY <= n:
            code, used = np.asarray(finer, np.int64), [*used, task.name]
    return code, np.bincount(code, low) > 0, tuple(used)


def _unsure(scored: pl.DataFrame, confidence: Sequence[str]) -> NDArray[np.bool_]:
    """Whether a face is among the ``LOW_SHARE`` whose confidences have the lowest product."""
    if not confidence:
        return np.zeros(scored.height, bool)
    columns = [scored[name].fill_null(0.0).to_numpy() for name in confidence]
    product = np.prod(columns, axis=0)
    return np.asarray(product <= np.quantile(product, LOW_SHARE))
