"""Some rows of a table."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from faceaudit.schema import AGE, AGE_PRED, AGE_TRUE
from faceaudit.tables.table import IMAGE, PredictionTable, hashes_of


def rows_where(table: PredictionTable, keep: pl.Expr) -> PredictionTable:
    """The rows for which an expression is true; path and hash stay those of the whole table."""
    frame = table.frame.filter(keep)
    columns = {task.name: task.true_column for task in table.tasks} | {AGE: AGE_TRUE}
    present = set(frame.collect_schema().names())
    truths = {
        name: column
        for name, column in columns.items()
        if column in present and (name != AGE or AGE_PRED in present)
    }
    facts = frame.select(
        pl.len().alias("rows"),
        *(pl.col(column).is_not_null().any() for column in truths.values()),
    )
    found = facts.collect(engine="streaming").row(0, named=True)
    return replace(
        table,
        frame=frame,
        rows=found["rows"],
        images=hashes_of(frame, pl.col(IMAGE)).n_unique(),
        annotated=frozenset(name for name, column in truths.items() if found[column]),
        sliceable=False,
    )
