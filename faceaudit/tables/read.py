"""``read_table``: the steps of reading, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from faceaudit.errors import SchemaError
from faceaudit.schema import AGE_PRED, AGE_TRUE, OK, STATUSES
from faceaudit.tables.annotations import check_named, with_image, with_labels
from faceaudit.tables.files import find_parts, open_parts, sha256_of_parts, with_columns_named
from faceaudit.tables.table import (
    FACE,
    IMAGE,
    NOT_SCORED,
    STATUS,
    Draft,
    PredictionTable,
    hashes_of,
    readable,
    score_columns,
    some_of,
)
from faceaudit.tables.tasks import with_tasks
from faceaudit.tables.years import (
    with_groups_of_annotated_years,
    with_groups_of_predicted_years,
    with_years,
)

KNOWN_STATUSES = {*STATUSES, NOT_SCORED}
ONLY_SCORED = (
    "The table has no column status and a prediction in every row: images without one may have "
    "been left out of it, and are in no figure here."
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
    with readable(path):
        draft = with_labels(_opened(path, parts, columns or {}), labels)
        draft = with_years(draft)
        draft, classes = with_groups_of_predicted_years(draft, classes or {}, age_bins)
        told = len(draft.notes)
        draft = with_tasks(draft, classes, scheme_map or {}, age_bins)
        reasons = draft.notes[told:]
        draft = with_groups_of_annotated_years(draft)
        draft = _with_status(draft, reasons)
        return _finished(draft, parts)


def _opened(path: Path, parts: Sequence[Path], columns: Mapping[str, str]) -> Draft:
    """A table as it is written, under the names of ``--columns``, with images named by text."""
    draft = open_parts(path, parts, columns.get(IMAGE, IMAGE))
    return with_image(with_columns_named(draft, columns))


def image_names(path: Path, columns: Mapping[str, str] | None = None) -> list[str]:
    """Each image that a table names once, in order; nothing else of it is looked at.

    Raises:
        InputError: If the file cannot be read.
        SchemaError: If ``columns`` do not fit.
        LabelError: If the table names no images.
    """
    parts = find_parts(path)
    with readable(path):
        draft = _opened(path, parts, columns or {})
        check_named(draft)
        names = draft.frame.select(pl.col(IMAGE).drop_nulls().unique(maintain_order=True))
        return names.collect()[IMAGE].to_list()


def column_names(path: Path) -> list[str]:
    """Columns of a table as its file names them.

    Raises:
        InputError: If the file cannot be read.
    """
    parts = find_parts(path)
    with readable(path):
        return list(open_parts(path, parts).dtypes)


def _check_classes(classes: Mapping[str, Sequence[str]]) -> None:
    for name, labels in classes.items():
        if len(set(labels)) < max(len(labels), 2):
            raise SchemaError(
                f"--classes {name}={','.join(labels)}: give two classes or more, each once"
            )


def _with_status(draft: Draft, reasons: Sequence[str]) -> Draft:
    """A status for every row: as written, else whether the row has any prediction.

    Args:
        draft: The table.
        reasons: Why tasks are not audited.

    Raises:
        SchemaError: If nothing is predicted.
    """
    names = [task.pred_column for task in draft.tasks] + [AGE_PRED]
    preds = [name for name in names if name in draft.dtypes]
    if not preds:
        raise SchemaError(_no_predictions(draft, reasons))
    predicted = pl.any_horizontal(pl.col(name).is_not_null() for name in preds)
    given = _status_values(draft, predicted)
    if given and set(given) <= KNOWN_STATUSES:
        return _without_failed_predictions(draft, preds, sum(n for _, n in given.values()))
    status = pl.when(predicted).then(pl.lit(OK)).otherwise(pl.lit(NOT_SCORED)).alias(STATUS)
    notes = []
    if (
        not given
        and not draft.frame.select(predicted.not_().any()).collect(engine="streaming").item()
    ):
        notes.append(ONLY_SCORED)
    if strange := [value or "" for value in given if value not in KNOWN_STATUSES]:
        notes.append(
            f"The column status holds {some_of(strange)}, none of {', '.join(STATUSES)}; "
            "a row with a prediction was taken as scored and every other as not."
        )
    return draft.having(draft.frame.with_columns(status), *notes)


def _no_predictions(draft: Draft, reasons: Sequence[str]) -> str:
    """Why a table cannot be audited, in one line."""
    if reasons:
        return f"{draft.path}: no predictions that can be audited: {reasons[0]}"
    return (
        f"{draft.path}: no predictions found: no column ends in _pred or _probs; map yours with "
        f"--columns, such as race_pred=yhat; there are: {', '.join(draft.dtypes)}"
    )


def _status_values(draft: Draft, predicted: pl.Expr) -> dict[str | None, tuple[int, int]]:
    """Statuses as they are written, each with its rows and those of them that are predicted.

    Of rows that are scored the second number is 0.
    """
    if STATUS not in draft.dtypes or draft.dtypes[STATUS].is_nested():
        return {}
    status = pl.col(STATUS).cast(pl.String)
    failed = (predicted & (status != OK)).sum()
    counts = draft.frame.group_by(status.alias(STATUS)).agg(pl.len(), failed.alias("predicted"))
    rows = counts.collect(engine="streaming").rows()
    return {value: (rows, failed) for value, rows, failed in rows}


def _without_failed_predictions(draft: Draft, preds: Sequence[str], count: int) -> Draft:
    """No prediction where a row says that there was no face to predict from."""
    status = pl.col(STATUS).cast(pl.String)
    if not count:
        return draft.having(draft.frame.with_columns(status))
    scores = [name for task in draft.tasks for name in score_columns(task) if name in draft.dtypes]
    kept = [pl.when(status == OK).then(pl.col(name)).alias(name) for name in [*preds, *scores]]
    note = (
        f"{count:,} rows have a prediction although their status is not ok; these predictions "
        "were left out."
    )
    return draft.having(draft.frame.with_columns(kept).with_columns(status), note)


def _finished(draft: Draft, parts: Sequence[Path]) -> PredictionTable:
    truths = [name for name in _true_columns(draft) if name in draft.dtypes]
    facts = draft.frame.select(
        pl.len().alias("rows"),
        *(pl.col(name).is_not_null().any() for name in truths),
    )
    found = facts.collect(engine="streaming").row(0, named=True)
    if not found["rows"]:
        raise SchemaError(f"{draft.path}: the table has no rows; predict some images first")
    nameless, images = found["rows"], 0
    if draft.named:
        names = hashes_of(draft.frame, pl.col(IMAGE).drop_nulls())
        nameless, images = nameless - len(names), names.n_unique()
    images += nameless
    if nameless and draft.named:
        draft = _with_every_image_named(draft)
    if images < found["rows"]:
        draft = _with_repeated_rows_told(draft, found["rows"])
    scores = {name for task in draft.tasks for name in score_columns(task)}
    return PredictionTable(
        path=draft.path,
        sha256=sha256_of_parts(parts),
        rows=found["rows"],
        images=images,
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
        named=draft.named,
        sliceable=draft.sliceable,
    )


def _with_every_image_named(draft: Draft) -> Draft:
    """Rows without the name of an image are images of their own."""
    row = "row "  # with a blank, which columns have not around their names
    number = pl.format("row {}", pl.col(row))
    frame = draft.frame.with_row_index(row).with_columns(pl.col(IMAGE).fill_null(number))
    return draft.having(frame.drop(row))


def _with_repeated_rows_told(draft: Draft, rows: int) -> Draft:
    """A note on rows that occur twice, of which each counts."""
    names = [name for name, dtype in draft.dtypes.items() if not dtype.is_nested()]
    key = [IMAGE, FACE] if FACE in draft.dtypes else names
    repeated = rows - hashes_of(draft.frame, pl.struct(key)).n_unique()
    if not repeated:
        return draft
    same = "the image and face" if FACE in draft.dtypes else "every value"
    note = (
        f"{repeated:,} of {rows:,} rows repeat {same} of another row. Each was counted, which "
        "makes intervals narrower than they should be; leave out the copies."
    )
    return draft.having(draft.frame, note)


def _true_columns(draft: Draft) -> list[str]:
    years = [AGE_TRUE] if AGE_PRED in draft.dtypes else []
    return [task.true_column for task in draft.tasks] + years
