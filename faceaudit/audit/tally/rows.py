"""The rows of a table as numbers, in batches: cells, blocks and classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally.bins import BLOCKS, block_of
from faceaudit.audit.tally.cells import Codes
from faceaudit.audit.tally.tally import Cell, sorted_cells
from faceaudit.errors import InputError
from faceaudit.schema import AGE, AGE_PRED, AGE_TRUE, Task
from faceaudit.tables import STATUS, PredictionTable, score_columns

BATCH_ROWS = 131_072
"""Rows that are counted together."""
RANGE_VALUES = 2**24
"""Values, rows times columns, that are read ahead of counting."""
MISSING = -1
ROWS = "_rows"
"""Column of how many equal rows one stands for."""


@dataclass(frozen=True)
class CellCoder:
    """Numbers the cells of a table."""

    features: tuple[Feature, ...]
    values: tuple[tuple[str, ...], ...]
    """Values of each feature, in the order to show them."""
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, table: PredictionTable, features: Sequence[Feature]) -> CellCoder:
        """The cells that occur in a table's rows."""
        features = tuple(features)
        if not features:
            return cls((), (), ((),))
        texts = [
            feature.values(table.frame).alias(f"_feature_{index}")
            for index, feature in enumerate(features)
        ]
        found = set(table.frame.select(texts).unique().collect(engine="streaming").rows())
        values = tuple(
            tuple(sorted({cell[index] for cell in found} - {None}, key=feature.rank))
            for index, feature in enumerate(features)
        )
        return cls(features, values, sorted_cells(found, features))

    @property
    def codes(self) -> list[str]:
        """Names of the columns with the number of each feature's value."""
        return [f"_feature_{index}" for index in range(len(self.features))]

    def feature_codes(self, frame: pl.LazyFrame) -> list[pl.Expr]:
        """Number of each feature's value, 0 where it is missing."""
        return [
            feature.values(frame)
            .replace_strict([None, *values], list(range(len(values) + 1)), return_dtype=pl.Int64)
            .alias(name)
            for name, feature, values in zip(self.codes, self.features, self.values, strict=True)
        ]

    def cell_numbers(self, codes: pl.DataFrame) -> Codes:
        """Number of each row's cell, from its feature codes.

        Raises:
            InputError: If there is no such cell, as where a file changes while it is read.
        """
        given = np.zeros(codes.height, np.int64)
        known = np.zeros(len(self.cells), np.int64)
        # One feature after the other, so that no product of their sizes can overflow.
        for index, values in enumerate(self.values):
            place: dict[str | None, int] = {value: n for n, value in enumerate(values, 1)}
            own = np.array([place.get(cell[index], 0) for cell in self.cells], np.int64)
            size = len(values) + 1
            numbers, known = np.unique(known * size + own, return_inverse=True)
            wanted = given * size + codes[f"_feature_{index}"].to_numpy()
            given = np.searchsorted(numbers, wanted)
            if not np.array_equal(numbers.take(given, mode="clip"), wanted):
                names = ", ".join(feature.name for feature in self.features)
                raise InputError(
                    f"values of {names} occur together that did not when the table was first "
                    "read; do not change a table while it is counted"
                )
        order = np.argsort(known)
        return np.asarray(order[given], np.int64)


def order_of_faces(row: pl.Expr, face: pl.Expr, known: Iterable[pl.Expr]) -> pl.Expr:
    """A number for every row, the lowest for the face whose subgroup its image belongs to.

    Of the faces with the most known annotations it is the first: that with the lowest number, else
    in the first row. No two rows have the same, so that whatever is taken by it is of one row.

    Args:
        row: Number of each row.
        face: Number of each row's face, as ``tables.face_number`` gives it.
        known: Whether each annotation that forms subgroups is known.
    """
    unknown = sum((~one for one in known), start=pl.lit(0, pl.UInt64))
    parts = (unknown.clip(0, 2**8 - 1), 56), (face.clip(0, 2**16 - 1), 40), (row, 0)
    return pl.sum_horizontal(part.cast(pl.UInt64) * 2**shift for part, shift in parts)


def coded_rows(table: PredictionTable, coder: CellCoder, owner: Feature | None) -> pl.LazyFrame:
    """The columns that are counted: class numbers, scores, years and units.

    Args:
        table: The table of predictions.
        coder: Of its cells.
        owner: The feature that says which rows belong together.
    """
    names = table.frame.collect_schema().names()
    rows = table.frame
    columns = [pl.col(STATUS), *coder.feature_codes(rows)]
    if not (table.scored or AGE in table.annotated or owner):
        # Rows that differ in nothing that is counted are counted together: a million of them are
        # a few thousand different ones.
        kept = [STATUS, *(feature.column for feature in coder.features)]
        kept += [name for task in table.tasks for name in (task.pred_column, task.true_column)]
        used = [name for name in dict.fromkeys(kept) if name in names]
        rows = rows.group_by(used).len(ROWS)
        columns.append(pl.col(ROWS).cast(pl.Int64))
    for task in table.tasks:
        columns.append(_class_number(task, task.pred_column))
        if task.true_column in names:
            columns.append(_class_number(task, task.true_column))
        if task.name in table.scored:
            columns.append(pl.max_horizontal(score_columns(task)).alias(confidence_column(task)))
        if task.name in table.scored and task.name in table.annotated:
            columns += [pl.col(name) for name in score_columns(task)]
    if AGE in table.annotated:
        columns += [pl.col(name) for name in (AGE_TRUE, AGE_PRED)]
    if owner:
        columns.append(owner.values(table.frame).alias("_unit"))
    return rows.select(columns)


def batches_of(table: PredictionTable, coded: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Rows in their order, some at a time.

    Polars decodes Parquet without waiting for what it decoded to be taken, so that a table would
    fill the memory while it is counted (https://github.com/pola-rs/polars/issues/28569). Where rows
    in the middle can be read without those before them, they are therefore asked for in ranges, and
    one range is read while the one before it is counted.
    """
    names = coded.collect_schema().names()
    ranges = [coded]
    if table.sliceable and ROWS not in names:
        size = max(RANGE_VALUES // len(names), BATCH_ROWS)
        ranges = [coded.slice(start, size) for start in range(0, table.rows, size)]
    started: Iterator[Iterator[pl.DataFrame]] = (
        one.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True) for one in ranges
    )
    for batches, _ in pairwise(chain(started, [iter(())])):
        yield from batches


def confidence_column(task: Task) -> str:
    """Column of the highest score of each row."""
    return f"_confidence_{task.name}"


def _class_number(task: Task, column: str) -> pl.Expr:
    number = pl.col(column).cast(pl.Enum(task.classes), strict=False).to_physical()
    return number.cast(pl.Int64).fill_null(MISSING)


@dataclass(frozen=True)
class Batch:
    """Some rows, with the number of each row's cell and block."""

    rows: pl.DataFrame
    cells: Codes
    blocks: Codes | None

    @classmethod
    def of(cls, rows: pl.DataFrame, coder: CellCoder) -> Batch:
        blocks = block_of(rows["_unit"]) if "_unit" in rows.columns else None
        return cls(rows, coder.cell_numbers(rows), blocks)

    def places(self, kept: NDArray[np.bool_]) -> Codes:
        """The cell and block of the rows that are kept, as one number."""
        if self.blocks is None:
            return self.cells[kept]
        return np.asarray(self.cells[kept] * BLOCKS + self.blocks[kept])

    def column(self, name: str) -> Codes:
        return self.rows[name].to_numpy()

    def weights(self, kept: NDArray[np.bool_]) -> Codes | None:
        """How many equal rows each row that is kept stands for; None for one each."""
        return self.rows[ROWS].to_numpy()[kept] if ROWS in self.rows.columns else None
