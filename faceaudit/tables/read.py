"""``read_table``: the steps of reading, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from faceaudit.errors import InputError, SchemaError
from faceaudit.schema import AGE_PRED, AGE_TRUE, OK, STATUSES
from faceaudit.tables.files import (
    find_parts,
    open_parts,
    sha256_of_parts,
    with_columns_named,
    with_image,
    with_labels,
)
from faceaudit.tables.table import (
    IMAGE,
    NOT_SCORED,
    STATUS,
    Draft,
    PredictionTable,
    first_line,
    score_columns,
)
from faceaudit.tables.tasks import with_tasks
from faceaudit.tables.years import (
    with_groups_of_annotated_years,
    with_groups_of_predicted_years,
    with_years,
)


def read_table(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
    age_bins: Sequence[int] | None = None,
    scheme_map: Mapping[str, str] | None = None,
    labels: pl.DataFrame | None = None,
) -> PredictionTable:
    """Open a table of predictions.

    Args:
        path: A Parquet or CSV file, or a folder of ``part-*.parquet``.
        columns: Canonical name -> name in the table, where they differ.
        classes: Task -> its classes in the order of a bare list of scores.
        age_bins: Lower bounds of the age groups to audit in.
        scheme_map: Task -> the scheme to coarsen it to.
        labels: Annotations to join: ``image`` and ``<task>_true`` columns, one row per image.

    Raises:
        InputError: If the file cannot be read.
        SchemaError: If columns, classes or schemes do not fit.
        LabelError: If ``labels`` cannot be joined.
    """
    _check_classes(classes or {})
    parts = find_parts(path)
    try:
        draft = open_parts(path, parts)
        draft = with_columns_named(draft, columns or {})
        draft = with_labels(draft, labels)
        draft = with_image(draft)
        draft = with_years(draft)
        draft, classes = with_groups_of_predicted_years(draft, classes or {}, age_bins)
        draft = with_tasks(draft, classes, scheme_map or {}, age_bins)
        draft = with_groups_of_annotated_years(draft)
        draft = _with_status(draft)
        return _finished(draft, parts)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from error


def _check_classes(classes: Mapping[str, Sequence[str]]) -> None:
    for name, labels in classes.items():
        if len(set(labels)) < max(len(labels), 2):
            raise SchemaError(
                f"--classes {name}={','.join(labels)}: give two classes or more, each once"
            )


def _with_status(draft: Draft) -> Draft:
    """A status for every row: as written, else whether the row has any prediction."""
    if not draft.tasks and AGE_PRED not in draft.dtypes:
        raise SchemaError(
            f"{draft.path}: no predictions found: no column ends in _pred or _probs; map yours "
            f"with --columns, such as race_pred=yhat; there are: {', '.join(draft.dtypes)}"
        )
    if set(_status_values(draft)) - {None} and set(_status_values(draft)) <= set(STATUSES):
        return draft
    preds = [task.pred_column for task in draft.tasks] + [AGE_PRED]
    predicted = pl.any_horizontal(
        pl.col(name).is_not_null() for name in preds if name in draft.dtypes
    )
    status = pl.when(predicted).then(pl.lit(OK)).otherwise(pl.lit(NOT_SCORED)).alias(STATUS)
    return draft.having(draft.frame.with_columns(status))


def _status_values(draft: Draft) -> set[str | None]:
    if draft.dtypes.get(STATUS) != pl.String:
        return {None}
    found = draft.frame.select(pl.col(STATUS).unique()).collect(engine="streaming")
    return set(found[STATUS])


def _finished(draft: Draft, parts: Sequence[Path]) -> PredictionTable:
    truths = [name for name in _true_columns(draft) if name in draft.dtypes]
    facts = draft.frame.select(
        pl.len().alias("rows"),
        # Hashed, because the names of millions of images fill the memory.
        pl.col(IMAGE).hash().n_unique().alias("images"),
        *(pl.col(name).is_not_null().any() for name in truths),
    )
    found = facts.collect(engine="streaming").row(0, named=True)
    if not found["rows"]:
        raise SchemaError(f"{draft.path}: the table has no rows; predict some images first")
    scores = {name for task in draft.tasks for name in score_columns(task)}
    return PredictionTable(
        path=draft.path,
        sha256=sha256_of_parts(parts),
        rows=found["rows"],
        images=found["images"],
        frame=draft.frame,
        tasks=draft.tasks,
        annotated=frozenset(name.removesuffix("_true") for name in truths if found[name]),
        scored=draft.scored,
        features=tuple(
            name
            for name, dtype in draft.dtypes.items()
            if name not in scores and not dtype.is_nested() and dtype != pl.Binary
        ),
        metadata=draft.metadata,
        notes=draft.notes,
    )


def _true_columns(draft: Draft) -> list[str]:
    years = [AGE_TRUE] if AGE_PRED in draft.dtypes else []
    return [task.true_column for task in draft.tasks] + years
