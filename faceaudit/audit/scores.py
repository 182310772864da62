"""Scores: exact ranks of tables that fit in memory, and ROC curves.

Everything works on counts of faces by ascending score, (2, B), others' first. For a table that
fits, every different score is a bin of its own, so that AUC and curves are exact; for a larger one
the tally's histogram serves, whose bins are narrow near 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally import CellCoder, Codes, Cut, Numbers, Tally
from faceaudit.schema import Task
from faceaudit.tables import PredictionTable, score_columns

Values = NDArray[np.float64]
EXACT_ROWS = 200_000
"""Tables with more rows are ranked by histogram."""
CURVE_POINTS = 120


@dataclass(frozen=True)
class ScoreRows:
    """Annotated class, scores and cell of every scored face of one task."""

    true: Codes  # (N,)
    scores: Values  # (N, K)
    cells: Codes  # (N,)


def read_scores(
    table: PredictionTable, features: Sequence[Feature], tasks: Sequence[Task]
) -> dict[str, ScoreRows]:
    """Scores of every task, row by row; cells are numbered as in the table's tally."""
    coder = CellCoder.of(table, features)
    return {task.name: _read_task(table, coder, task) for task in tasks}


def _read_task(table: PredictionTable, coder: CellCoder, task: Task) -> ScoreRows:
    names = score_columns(task)
    number = pl.col(task.true_column).replace_strict(
        list(task.classes),
        list(range(len(task.classes))),
        default=None,
        return_dtype=pl.Int64,
    )
    rows = (
        table.frame.select(number.alias("_true"), *names, *coder.feature_codes(table.frame))
        .filter(pl.col("_true").is_not_null() & pl.col(names[0]).is_not_null())
        .collect()
    )
    return ScoreRows(
        rows["_true"].to_numpy(),
        rows.select(names).to_numpy(),
        coder.cell_numbers(rows),
    )


def score_counts(
    task: Task, counted: Tally, rows: ScoreRows | None, cells: Cut, index: int
) -> Numbers:
    """Faces of one subgroup by ascending score of each class, (K, 2, B).

    Args:
        task: The task.
        counted: The tally.
        rows: The scores row by row, where the table fits.
        cells: The grouping.
        index: Which of its subgroups.
    """
    if rows is None:
        return cells.one(counted.scores[task.name], index)
    members = np.zeros(len(cells.index), np.bool_)
    members[cells.cells(index)] = True
    kept = members[rows.cells]
    true, scores = rows.true[kept], rows.scores[kept]
    per_class = [_ranked(scores[:, k], true == k) for k in range(len(task.classes))]
    width = max(counts.shape[-1] for counts in per_class)
    return np.stack(
        [np.pad(counts, ((0, 0), (0, width - counts.shape[-1]))) for counts in per_class]
    )


def _ranked(scores: Values, own: NDArray[np.bool_]) -> Numbers:
    """Faces by different score, others' first, (2, B)."""
    values, place = np.unique(scores, return_inverse=True)
    width = max(len(values), 1)
    return np.bincount(place + width * own, minlength=2 * width).reshape(2, width)


def roc_points(counts: Numbers, points: int = CURVE_POINTS) -> tuple[Values, Values]:
    """False and true positive rates of a ROC curve, ascending from 0 to 1, thinned.

    Args:
        counts: Faces by ascending score, others' first, (2, B); neither class empty.
        points: How many points to keep at most.
    """
    falls = np.concatenate([[0], counts[0, ::-1].cumsum()]) / counts[0].sum()
    rises = np.concatenate([[0], counts[1, ::-1].cumsum()]) / counts[1].sum()
    kept = _corners(falls, rises)
    falls, rises = falls[kept], rises[kept]
    if len(falls) > points:
        # Evenly along the curve, so that a steep start keeps its points.
        length = falls + rises
        at = np.searchsorted(length, np.linspace(0, length[-1], points - 1))
        kept = np.unique(np.concatenate([[0], at, [len(falls) - 1]]))
        falls, rises = falls[kept], rises[kept]
    return falls, rises


def _corners(falls: Values, rises: Values) -> NDArray[np.int64]:
    """Points of a curve that do not lie on the straight line between their neighbours."""
    cross = np.diff(falls)[:-1] * np.diff(rises)[1:] - np.diff(falls)[1:] * np.diff(rises)[:-1]
    inner = np.flatnonzero(np.abs(cross) > 0) + 1
    return np.concatenate([[0], inner, [len(falls) - 1]])
