"""Scores: exact ranks of tables that fit in memory, and ROC curves.

Everything works on counts of faces by ascending score, (2, B), others' first. For a table that
fits, every different score is a bin of its own, so that AUC and curves are exact; for a larger one
the tally's histogram serves, whose bins are narrow near 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.metrics import auc_influence, curve_influence
from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally import CellCoder, Codes, Cut, Numbers, Tally
from faceaudit.schema import Task
from faceaudit.tables import PredictionTable, score_columns

Values = NDArray[np.float64]
EXACT_ROWS = 200_000
"""Tables with more rows are ranked by histogram."""
CURVE_POINTS = 120
INFLUENCES = {"auc": auc_influence, "average_precision": curve_influence}
"""Metric per class -> how far a face of each kind moves it."""
FEW_OF_ALL = 20
"""A subgroup with less than one in so many of all faces is sorted by itself."""


@dataclass(frozen=True)
class ScoreRows:
    """Annotated class, scores and cell of every scored face of one task."""

    true: Codes  # (N,)
    scores: Values  # (N, K)
    cells: Codes  # (N,)

    def ranks(self, cells: Cut, index: int) -> Ranks:
        """The faces of one subgroup by their score of each class."""
        rows = self._rows_of(cells, index)
        rank, order = self._ranked
        if len(rows) * FEW_OF_ALL < len(self.true):
            ascending = np.argsort(rank[:, rows], axis=-1, kind="stable")
        else:
            # Those of the subgroup out of everybody's order: nothing is sorted again.
            places = np.full(len(self.true), -1)
            places[rows] = np.arange(len(rows))
            ascending = places[order]
            ascending = ascending[ascending >= 0].reshape(len(order), len(rows))
        ranks = np.take_along_axis(rank, rows[ascending], axis=-1)
        return Ranks(self.true[rows], _numbered(ranks, ascending))

    def _rows_of(self, cells: Cut, index: int) -> Codes:
        """Numbers of one subgroup's rows, ascending."""
        order, sorted_cells = self._by_cell
        members = cells.cells(index)
        starts = np.searchsorted(sorted_cells, members, side="left")
        ends = np.searchsorted(sorted_cells, members, side="right")
        parts = [order[start:end] for start, end in zip(starts, ends, strict=True)]
        return np.sort(np.concatenate([order[:0], *parts]))

    @cached_property
    def _by_cell(self) -> tuple[Codes, Codes]:
        """Rows by cell, and the cells in that order, (N,) each."""
        order = np.argsort(self.cells, kind="stable")
        return order, self.cells[order]

    @cached_property
    def _ranked(self) -> tuple[Codes, Codes]:
        """Of each class the rank of every row's score, and the rows by it, (K, N) each."""
        ranks = _places(self.scores)
        return ranks, np.argsort(ranks, axis=-1, kind="stable")


@dataclass(frozen=True)
class Ranks:
    """Faces by their score of each class, equal scores together; N faces of K classes."""

    true: Codes
    """Annotated classes, (N,)."""
    places: Codes
    """Of each class the place of every face's score among the different ones, (K, N)."""

    @cached_property
    def counts(self) -> Numbers:
        """Faces by every different score of each class, others' first, (K, 2, B)."""
        width = int(self.places.max(initial=0)) + 1
        kinds = 2 * np.arange(len(self.places))[:, None] + self._own
        found = np.bincount(
            (self.places + width * kinds).ravel(), minlength=2 * width * len(self.places)
        )
        return found.reshape(len(self.places), 2, width)

    @property
    def correlations(self) -> dict[str, Values]:
        """Correlation of the classes' AUC and average precision, each (K, K)."""
        at = np.arange(len(self.places))[:, None], self._own, self.places
        return {name: _correlation(move(self.counts)[at]) for name, move in INFLUENCES.items()}

    @cached_property
    def _own(self) -> Codes:
        """1 for the faces of each class, else 0, (K, N)."""
        return np.asarray(self.true == np.arange(len(self.places))[:, None], np.int64)


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
    return rows.ranks(cells, index).counts


def rank_counts(true: Codes, scores: Values) -> Numbers:
    """Faces by every different score of each class, others' first, (K, 2, B).

    Args:
        true: Annotated classes, (N,).
        scores: Scores, (N, K).
    """
    return Ranks(true, _places(scores)).counts


def _places(scores: Values) -> Codes:
    """The place of each score among the different ones of its class, (K, N), from (N, K)."""
    places = [np.unique(each, return_inverse=True)[1].reshape(-1) for each in scores.T]
    return np.asarray(places, np.int64).reshape(scores.shape[1], len(scores))


def _numbered(ascending: Codes, faces: Codes) -> Codes:
    """The place of each face's rank among the different ones, (K, N).

    Args:
        ascending: Ranks, ascending, (K, N).
        faces: The face that each is of, (K, N).
    """
    new = np.diff(ascending, axis=-1, prepend=ascending[:, :1]) > 0
    places = np.empty(faces.shape, np.int64)
    np.put_along_axis(places, faces, np.cumsum(new, axis=-1), axis=-1)
    return places


def rank_correlations(true: Codes, scores: Values) -> dict[str, Values]:
    """Correlation of the classes' AUC and average precision in repeated tables, each (K, K).

    The classes rank the same faces, and each face moves all of them. Where a class does not vary,
    its correlation with others is not known and taken as 1, which makes their mean least certain.

    Args:
        true: Annotated classes, (N,).
        scores: Scores, (N, K).

    Source:
        DeLong, DeLong, Clarke-Pearson: Comparing the areas under two or more correlated receiver
        operating characteristic curves, Biometrics 44, 1988; for average precision the same with
        its own influence function.
    """
    return Ranks(true, _places(scores)).correlations


def told_correlations(scores: Numbers, confusion: Numbers) -> dict[str, Values]:
    """The same without rows, from what counts tell of how classes go together, each (K, K).

    Scores of two classes mirror each other, so that the histogram of one tells both. Of more
    classes the predicted one is known for every face: "predicted or not" is a score of two values,
    whose figures vary together nearly as those of the scores do. An AUC from two values tells less
    of it than an average precision, which is therefore the least that is taken; that figures
    balance each other is not relied on.

    Args:
        scores: Faces by ascending bin of each class, others' first, (K, 2, B).
        confusion: Annotated (rows) and predicted classes of the faces, (K, K).
    """
    if len(scores) == 2:
        # Of each kind (the second class, the first) and bin of the first class's score.
        mirror = (slice(None, None, -1), slice(None, None, -1))
        moves = {
            name: np.stack([both[0], both[1][mirror]])
            for name, both in ((name, move(scores)) for name, move in INFLUENCES.items())
        }
        return {name: _of_counts(each, scores[0]) for name, each in moves.items()}
    found = {name: _of_decisions(confusion, move) for name, move in INFLUENCES.items()}
    least = np.maximum(found["average_precision"], 0)
    return {"auc": np.maximum(found["auc"], least), "average_precision": least}


def _of_decisions(confusion: Numbers, influence: Callable[[Numbers], Values]) -> Values:
    """Correlation of the classes' figures, were a face's score whether it is predicted, (K, K)."""
    counts = np.asarray(confusion, np.float64)
    own = np.eye(len(counts), dtype=np.int64)
    faces, predicted, right = counts.sum(axis=1), counts.sum(axis=0), np.diagonal(counts)
    others, wrong = counts.sum() - faces, predicted - right
    scores = np.stack([[others - wrong, wrong], [faces - right, right]])  # (2, 2, K)
    moves = influence(np.moveaxis(scores, -1, 0))  # (K, 2, 2)
    # Of every cell of the confusion: whether it is annotated, and predicted, as the class.
    each = moves[np.arange(len(own))[:, None, None], own[:, :, None], own[:, None, :]]
    return _of_counts(each, counts)


def _of_counts(moves: Values, counts: Numbers) -> Values:
    """Correlation of moves (K, ...) by faces (...) that move so."""
    moves = np.where(counts > 0, np.nan_to_num(moves), 0) * np.sqrt(counts)
    return _correlation(moves.reshape(len(moves), -1))


def _correlation(moves: Values) -> Values:
    """Correlation over faces of (K, N) moves whose sum is 0."""
    shared = moves @ moves.T
    length = np.sqrt(np.diagonal(shared))
    found = np.ones_like(shared)
    np.divide(shared, np.outer(length, length), out=found, where=np.outer(length, length) > 0)
    return np.asarray(np.clip(found, -1, 1))


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
    """Points of a curve that do not lie on the straight line between their neighbors."""
    cross = np.diff(falls)[:-1] * np.diff(rises)[1:] - np.diff(falls)[1:] * np.diff(rises)[:-1]
    inner = np.flatnonzero(np.abs(cross) > 0) + 1
    return np.concatenate([[0], inner, [len(falls) - 1]])
