"""The tally: counts per subgroup, from which every figure is arithmetic.

Rows are counted once, at the finest cells (all sensitive features together); coarser groupings are
sums of cells. Tallies add: those of two tables of different images sum to that of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.subgroups import Feature
from faceaudit.errors import SchemaError
from faceaudit.schema import AGE, AGE_GROUP, AGE_PRED, AGE_TRUE, OK, STATUSES, Task
from faceaudit.tables import IMAGE, STATUS, PredictionTable, score_columns

Counts = NDArray[np.int64]
Values = NDArray[np.float64]
Cell = tuple[str | None, ...]
"""A value per feature; None where it is not known."""

SCORE_BINS = 1024
SCORE_LOGIT = 14.0
"""Bins of scores are equally wide in log odds within ± this, so they are dense near 0 and 1."""
ERROR_LIMIT = 100
"""Signed age errors are counted in bins of a year up to this; the outer bins hold the rest."""
ERROR_BINS = 2 * ERROR_LIMIT + 1
POWERS = 4
"""Sums kept per cell: of the error, its absolute value, its square and its fourth power."""
BATCH_ROWS = 131_072
CODE_MISSING = -1
MAX_CELLS = 500
"""More combinations of features than this would hold next to no face each."""


@dataclass(frozen=True)
class YearErrors:
    """Signed errors in years, predicted minus annotated; leading axes are subgroups or groups.

    Bin ``ERROR_LIMIT`` of ``errors`` counts errors of exactly 0, bin ``ERROR_LIMIT + k`` those in
    (k - 1, k] and bin ``ERROR_LIMIT - k`` those in [-k, 1 - k), so that sums of bins are exact at
    whole years. ``sums`` are exact sums of the error, |error|, error² and error⁴.
    """

    errors: Counts  # (..., ERROR_BINS)
    sums: Values  # (..., POWERS)

    @property
    def faces(self) -> Counts:
        """How many faces; shape (...)."""
        return np.asarray(self.errors.sum(axis=-1))

    def map(self, function: Callable[[Any], Any]) -> YearErrors:
        """The same errors with both arrays passed through a function of their leading axes."""
        return YearErrors(function(self.errors), function(self.sums))


@dataclass(frozen=True)
class Tally:
    """Counts per cell; C cells, K classes, G age groups, S statuses."""

    tasks: tuple[Task, ...]
    features: tuple[Feature, ...]
    cells: tuple[Cell, ...]
    statuses: tuple[str, ...]
    rows: int
    confusion: Mapping[str, Counts]
    """Task -> faces by annotated and predicted class, (C, K, K)."""
    predicted: Mapping[str, Counts]
    """Task -> faces by predicted class, annotated or not, (C, K)."""
    scores: Mapping[str, Counts]
    """Task -> annotated faces by score of each class, others' first, (C, K, 2, SCORE_BINS)."""
    years: YearErrors
    """Age errors by annotated age group, (C, G + 1, ...); the last group is not known."""
    images: Counts
    """Images by status, (C, S)."""

    def __add__(self, other: Tally) -> Tally:
        """The tally of both tables, which hold different images."""
        if (self.tasks, self.features) != (other.tasks, other.features):
            raise ValueError("tallies of different tasks or features cannot be added")
        cells = _sorted_cells({*self.cells, *other.cells}, self.features)
        statuses = _sorted_statuses({*self.statuses, *other.statuses})
        mine, theirs = self._spread(cells, statuses), other._spread(cells, statuses)
        return Tally(
            tasks=self.tasks,
            features=self.features,
            cells=cells,
            statuses=statuses,
            rows=self.rows + other.rows,
            confusion=_sum(mine.confusion, theirs.confusion),
            predicted=_sum(mine.predicted, theirs.predicted),
            scores=_sum(mine.scores, theirs.scores),
            years=YearErrors(
                mine.years.errors + theirs.years.errors,
                mine.years.sums + theirs.years.sums,
            ),
            images=mine.images + theirs.images,
        )

    def _spread(self, cells: tuple[Cell, ...], statuses: tuple[str, ...]) -> Tally:
        """The same counts over more cells and statuses."""
        if cells == self.cells and statuses == self.statuses:
            return self
        at = [cells.index(cell) for cell in self.cells]

        def spread(counts: Any) -> Any:
            wide = np.zeros((len(cells), *counts.shape[1:]), counts.dtype)
            wide[at] = counts
            return wide

        images = np.zeros((len(cells), len(statuses)), np.int64)
        images[np.ix_(at, [statuses.index(status) for status in self.statuses])] = self.images
        return Tally(
            tasks=self.tasks,
            features=self.features,
            cells=cells,
            statuses=statuses,
            rows=self.rows,
            confusion={name: spread(counts) for name, counts in self.confusion.items()},
            predicted={name: spread(counts) for name, counts in self.predicted.items()},
            scores={name: spread(counts) for name, counts in self.scores.items()},
            years=self.years.map(spread),
            images=images,
        )


def _sum(mine: Mapping[str, Counts], theirs: Mapping[str, Counts]) -> dict[str, Counts]:
    """Counts of both; a task that one of them has no counts of adds nothing."""
    shared = {name: mine[name] + theirs[name] for name in mine if name in theirs}
    return {**mine, **theirs, **shared}


def score_bin(score: Values) -> NDArray[np.int64]:
    """Bin of each score in [0, 1]; scores of 0 and 1 have bins of their own with their like."""
    # Scores are stored in single precision; logarithms in it are several times faster.
    part = np.minimum(score, 1).astype(np.float32)
    with np.errstate(divide="ignore"):
        logit = np.log(part / (1 - part))
    place = (logit / SCORE_LOGIT + 1) / 2 * (SCORE_BINS - 2) + 1
    return np.asarray(np.clip(np.floor(place), 0, SCORE_BINS - 1), np.int64)


def score_edges() -> Values:
    """Lower edge of each score bin, (SCORE_BINS,)."""
    place = (np.arange(SCORE_BINS) - 1) / (SCORE_BINS - 2) * 2 - 1
    edges = 1 / (1 + np.exp(-place * SCORE_LOGIT))
    edges[0] = 0.0
    return np.asarray(edges)


def error_bin(error: Values) -> NDArray[np.int64]:
    """Bin of each signed error in years (see ``YearErrors``)."""
    away = np.sign(error) * np.ceil(np.abs(error))
    return np.asarray(np.clip(away, -ERROR_LIMIT, ERROR_LIMIT) + ERROR_LIMIT, np.int64)


# --- counting ---------------------------------------------------------------------------------


def tally(table: PredictionTable, features: Sequence[Feature] = ()) -> Tally:
    """Count a table, in batches of rows.

    Args:
        table: The table of predictions.
        features: Sensitive features that subgroups will be formed by.
    """
    coder = CellCoder.of(table, features)
    images, statuses = _count_images(table, coder)
    total: Tally | None = None
    for batch in _coded(table, coder).collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
        counted = _count_batch(table, coder, batch, images, statuses)
        images = np.zeros_like(images)  # counted once, with the first batch
        total = counted if total is None else total + counted
    if total is None:
        raise ValueError("a table has at least one row")
    return total


@dataclass(frozen=True)
class CellCoder:
    """Numbers the cells of a table."""

    features: tuple[Feature, ...]
    values: tuple[tuple[str, ...], ...]
    """Values of each feature, in the order to show them."""
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, table: PredictionTable, features: Sequence[Feature]) -> CellCoder:
        """The cells that occur in a table's rows or images."""
        features = tuple(features)
        if not features:
            return cls((), (), ((),))
        texts = [
            feature.values(table.frame).alias(f"_feature_{index}")
            for index, feature in enumerate(features)
        ]
        found = set(table.frame.select(texts).unique().collect(engine="streaming").rows())
        if table.images < table.rows:
            merged = table.frame.select(IMAGE, *texts).group_by(IMAGE).agg(pl.all().min())
            found |= set(merged.drop(IMAGE).unique().collect(engine="streaming").rows())
        if len(found) > MAX_CELLS:
            names = " and ".join(feature.name for feature in features)
            raise SchemaError(
                f"{table.path}: {names} together form {len(found):,} subgroups, more than "
                f"{MAX_CELLS}; name fewer features"
            )
        values = tuple(
            tuple(sorted({cell[index] for cell in found} - {None}, key=feature.rank))
            for index, feature in enumerate(features)
        )
        return cls(features, values, _sorted_cells(found, features))

    def feature_codes(self, frame: pl.LazyFrame) -> list[pl.Expr]:
        """Number of each feature's value, 0 where it is missing."""
        return [
            feature.values(frame)
            .replace_strict(
                list(values),
                list(range(1, len(values) + 1)),
                default=0,
                return_dtype=pl.Int64,
            )
            .alias(f"_feature_{index}")
            for index, (feature, values) in enumerate(zip(self.features, self.values, strict=True))
        ]

    def cell_numbers(self, codes: pl.DataFrame) -> NDArray[np.int64]:
        """Number of each row's cell, from its feature codes."""
        if not self.features:
            return np.zeros(codes.height, np.int64)
        sizes = [len(values) + 1 for values in self.values]
        given = np.ravel_multi_index(
            [codes[f"_feature_{index}"].to_numpy() for index in range(len(sizes))],
            sizes,
        )
        numbers = np.ravel_multi_index(
            [
                [0 if cell[index] is None else values.index(cell[index]) + 1 for cell in self.cells]
                for index, values in enumerate(self.values)
            ],
            sizes,
        )
        order = np.argsort(numbers)
        return np.asarray(order[np.searchsorted(numbers[order], given)])


def _sorted_cells(cells: Iterable[Cell], features: Sequence[Feature]) -> tuple[Cell, ...]:
    def rank(cell: Cell) -> list[tuple[int, str]]:
        return [feature.rank(value) for feature, value in zip(features, cell, strict=True)]

    return tuple(sorted(cells, key=rank))


def _sorted_statuses(statuses: Iterable[str]) -> tuple[str, ...]:
    order = list(STATUSES)
    return tuple(sorted(statuses, key=lambda name: (name not in order, name)))


def _count_images(table: PredictionTable, coder: CellCoder) -> tuple[Counts, tuple[str, ...]]:
    """Images by cell and status; an image with several rows counts once, scored if any row is."""
    frame = table.frame.select(IMAGE, STATUS, *coder.feature_codes(table.frame))
    if table.images < table.rows:
        scored = (pl.col(STATUS) == OK).any()
        status = pl.when(scored).then(pl.lit(OK)).otherwise(pl.col(STATUS).min())
        known = [
            pl.col(f"_feature_{index}").filter(pl.col(f"_feature_{index}") > 0).min().fill_null(0)
            for index in range(len(coder.features))
        ]
        frame = frame.group_by(IMAGE).agg(status.alias(STATUS), *known)
    keys = [STATUS, *(f"_feature_{index}" for index in range(len(coder.features)))]
    counted = frame.group_by(keys).len().collect(engine="streaming")
    statuses = _sorted_statuses(set(counted[STATUS]))
    images = np.zeros((len(coder.cells), len(statuses)), np.int64)
    at = np.array([statuses.index(status) for status in counted[STATUS]])
    np.add.at(images, (coder.cell_numbers(counted), at), counted["len"].to_numpy())
    return images, statuses


def _coded(table: PredictionTable, coder: CellCoder) -> pl.LazyFrame:
    """The columns that are counted: class numbers, scores and years."""
    columns = coder.feature_codes(table.frame)
    names = table.frame.collect_schema().names()
    for task in table.tasks:
        columns.append(_class_number(task, task.pred_column))
        if task.true_column in names:
            columns.append(_class_number(task, task.true_column))
        if task.name in table.scored and task.name in table.annotated:
            columns += [pl.col(name) for name in score_columns(task)]
    columns += [pl.col(name) for name in (AGE_TRUE, AGE_PRED) if name in names]
    return table.frame.select(columns)


def _class_number(task: Task, column: str) -> pl.Expr:
    number = pl.col(column).cast(pl.Enum(task.classes), strict=False).to_physical()
    return number.cast(pl.Int64).fill_null(CODE_MISSING)


def _count_batch(
    table: PredictionTable,
    coder: CellCoder,
    batch: pl.DataFrame,
    images: Counts,
    statuses: tuple[str, ...],
) -> Tally:
    cells = coder.cell_numbers(batch)
    annotated = [task for task in table.tasks if task.name in table.annotated]
    return Tally(
        tasks=table.tasks,
        features=coder.features,
        cells=coder.cells,
        statuses=statuses,
        rows=batch.height,
        confusion={
            task.name: _confusion(task, batch, cells, len(coder.cells)) for task in annotated
        },
        predicted={
            task.name: _predicted(task, batch, cells, len(coder.cells)) for task in table.tasks
        },
        scores={
            task.name: _scores(task, batch, cells, len(coder.cells))
            for task in annotated
            if task.name in table.scored
        },
        years=_years(table, batch, cells, len(coder.cells)),
        images=images,
    )


def _histogram(codes: Sequence[NDArray[np.int64]], shape: tuple[int, ...]) -> Counts:
    """How often each combination of codes occurs."""
    flat = np.ravel_multi_index(tuple(codes), shape)
    return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)


def _confusion(task: Task, batch: pl.DataFrame, cells: NDArray[np.int64], count: int) -> Counts:
    true, pred = batch[task.true_column].to_numpy(), batch[task.pred_column].to_numpy()
    both = (true >= 0) & (pred >= 0)
    size = len(task.classes)
    return _histogram([cells[both], true[both], pred[both]], (count, size, size))


def _predicted(task: Task, batch: pl.DataFrame, cells: NDArray[np.int64], count: int) -> Counts:
    pred = batch[task.pred_column].to_numpy()
    return _histogram([cells[pred >= 0], pred[pred >= 0]], (count, len(task.classes)))


def _scores(task: Task, batch: pl.DataFrame, cells: NDArray[np.int64], count: int) -> Counts:
    names = score_columns(task)
    usable = batch.filter((pl.col(task.true_column) >= 0) & pl.col(names[0]).is_not_null())
    kept = (batch[task.true_column] >= 0) & batch[names[0]].is_not_null()
    cells, true = cells[kept.to_numpy()], usable[task.true_column].to_numpy()
    per_class = [
        _histogram(
            [cells, (true == k).astype(np.int64), score_bin(usable[name].to_numpy())],
            (count, 2, SCORE_BINS),
        )
        for k, name in enumerate(names)
    ]
    return np.stack(per_class, axis=1)


def _years(
    table: PredictionTable, batch: pl.DataFrame, cells: NDArray[np.int64], count: int
) -> YearErrors:
    """Errors of faces with both ages, by annotated age group; the last group is "not known"."""
    task = next((task for task in table.tasks if task.name == AGE_GROUP), None)
    groups = len(task.classes) if task else 0
    shape = (count, groups + 1)
    if AGE not in table.annotated or AGE_PRED not in batch.columns:
        return YearErrors(
            np.zeros((*shape, ERROR_BINS), np.int64), np.zeros((*shape, POWERS), np.float64)
        )
    group = np.full(batch.height, CODE_MISSING)
    if task and task.true_column in batch.columns:
        group = batch[task.true_column].to_numpy()
    error = (batch[AGE_PRED] - batch[AGE_TRUE]).to_numpy()
    known = ~np.isnan(error)
    error, cells = error[known], cells[known]
    group = np.where(group < 0, groups, group)[known]
    place = np.ravel_multi_index((cells, group), shape)
    powers = (error, np.abs(error), error**2, error**4)
    sums = [np.bincount(place, weights=power, minlength=count * (groups + 1)) for power in powers]
    return YearErrors(
        _histogram([cells, group, error_bin(error)], (*shape, ERROR_BINS)),
        np.stack(sums, axis=-1).reshape(*shape, POWERS).astype(np.float64),
    )


# --- subgroups of a tally ---------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """The subgroups of one grouping, as sums of cells."""

    by: tuple[str, ...]
    subgroups: tuple[Mapping[str, str], ...]
    members: NDArray[np.bool_]  # (subgroups, C)

    def of(self, counts: Any) -> Any:
        """Counts per subgroup, from counts per cell."""
        return np.stack([counts[chosen].sum(axis=0) for chosen in self.members])


def cut(counted: Tally, by: Sequence[str], *, missing: str | None = None) -> Cut:
    """The subgroups of a grouping; no feature at all is everybody.

    Args:
        counted: The tally.
        by: Names of features.
        missing: Name for unknown values; None leaves faces with an unknown value out.
    """
    names = [feature.name for feature in counted.features]
    at = [names.index(name) for name in by]
    keys = [tuple(cell[index] for index in at) for cell in counted.cells]
    chosen = [counted.features[index] for index in at]
    found = _sorted_cells({key for key in keys if missing or None not in key}, chosen)
    if not found:
        return Cut(tuple(by), (), np.zeros((0, len(keys)), np.bool_))
    members = np.array([[key == subgroup for key in keys] for subgroup in found])
    subgroups = tuple(
        {
            name: str(missing if value is None else value)
            for name, value in zip(by, key, strict=True)
        }
        for key in found
    )
    return Cut(tuple(by), subgroups, members)
