"""A sample of a table's faces to label by hand, which corrects the shares of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from faceaudit.audit.sampling import Drawn, draw
from faceaudit.errors import SchemaError, UsageError, check_names
from faceaudit.reporting.calibration import STRATUM, WEIGHT
from faceaudit.storage import as_path, atomic_write, check_outputs, read_csv
from faceaudit.tables import FACE, IMAGE, PredictionTable, face_number, read_table, score_columns

SMALLEST = 20
_ROW = "row "
"""With a blank, which columns of a table have not around their names."""


@dataclass(frozen=True)
class Sample:
    """The file that was written, and what was drawn of how many faces."""

    path: Path
    faces: int
    drawn: Drawn


def sample(
    table: Path,
    *,
    n: int = 500,
    output: Path | None = None,
    tasks: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
    age_bins: Sequence[int] | None = None,
    scheme_map: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Sample:
    """Draw faces of a table to label by hand, and write their names with empty columns of labels.

    Faces are drawn by predicted class and confidence at known rates. The file has the columns
    ``image``, ``face``, ``stratum``, ``weight`` (how many faces a drawn one stands for) and an
    empty ``<task>_true`` per task, in random order and without predictions, so that whoever labels
    is not led by them. It goes back as ``report --calibration FILE``.

    Args:
        table: A Parquet or CSV file, or a folder of ``part-*.parquet``.
        n: How many faces to draw; all, where there are fewer.
        output: The CSV to write; None is beside the table, ``NAME.sample.csv``.
        tasks: What is to be labeled; None is every predicted task. The first ones also form the
            strata, as long as those stay large enough.
        columns: Canonical name -> name in the table, where they differ.
        classes: Task -> its classes in the order of a bare list of scores.
        age_bins: Lower bounds of the age groups, in years.
        scheme_map: Task -> the scheme to coarsen it to.
        seed: Equal seeds draw equal faces of equal tables.

    Raises:
        FaceauditError: If an option cannot work, or the table cannot be read.
    """
    table = as_path(table)
    if n < SMALLEST:
        raise UsageError(f"--n {n}: give at least {SMALLEST}; 500 is the default")
    if seed < 0:
        raise UsageError(f"--seed {seed}: give 0 or more; 0 is the default")
    path = as_path(output) if output else table.with_name(f"{table.stem}.sample.csv")
    if path.suffix.lower() != ".csv":
        raise UsageError(
            f"--output {path}: the sample is written as CSV; give a name ending in .csv"
        )
    check_outputs([path], [table])
    _check_unlabelled(path)
    opened = read_table(
        table, columns=columns, classes=classes, age_bins=age_bins, scheme_map=scheme_map
    )
    wanted = _wanted(opened, tasks)
    keys, drawn, faces = _drawn(opened, wanted, n, seed)
    rows = keys.with_columns(
        pl.Series(STRATUM, drawn.stratum + 1),
        pl.Series(WEIGHT, drawn.weight.round(6)),
        *(pl.lit(None, pl.String).alias(f"{name}_true") for name in wanted),
    )
    with atomic_write(path) as file:
        rows.write_csv(file)
    return Sample(path, faces, drawn)


def _check_unlabelled(path: Path) -> None:
    """Refuse to write over labels, which are work that no command can do again.

    Raises:
        UsageError: If the file has a label, or is no sample.
    """
    if not path.exists():
        return
    frame = read_csv(path)
    if not {STRATUM, WEIGHT} <= set(frame.columns):
        raise UsageError(
            f"--output {path}: was not written by `faceaudit sample`; give another name, or move "
            "it away"
        )
    labels = [name for name in frame.columns if name.endswith("_true")]
    filled = frame.select(pl.any_horizontal(pl.col(labels).is_not_null()).sum()) if labels else None
    if labels and filled is not None and filled.item():
        raise UsageError(
            f"--output {path}: exists, and {filled.item():,} of its faces are labeled; give "
            "another name, or move it away"
        )


def _wanted(table: PredictionTable, tasks: Sequence[str] | None) -> list[str]:
    """Names of the tasks to label.

    Raises:
        UnknownNameError: If one is not predicted.
    """
    known = [task.name for task in table.tasks]
    check_names("predicted task", tasks or (), known)
    if not known:
        raise SchemaError(f"{table.path}: only years are predicted; there are no classes to sample")
    return list(dict.fromkeys(tasks or known))


def _drawn(
    table: PredictionTable, wanted: Sequence[str], n: int, seed: int
) -> tuple[pl.DataFrame, Drawn, int]:
    """Names of the faces that were drawn, in their order, and how they were drawn."""
    tasks = [table.task(name) for name in wanted]
    scored = [task for task in tasks if task.name in table.scored]
    confidence = [f"_confidence_{task.name}" for task in scored]
    predicted = [pl.col(task.pred_column).is_not_null() for task in tasks]
    frame = table.frame.with_row_index(_ROW).filter(pl.all_horizontal(predicted))
    faces = frame.select(
        _ROW,
        *(task.pred_column for task in tasks),
        *(
            pl.max_horizontal(score_columns(task)).alias(name)
            for task, name in zip(scored, confidence, strict=True)
        ),
    ).collect(engine="streaming")
    if not faces.height:
        raise SchemaError(f"{table.path}: no face has a predicted class; there is none to label")
    drawn = draw(faces, tasks, confidence, n, seed)
    if len(drawn.place) > n:
        raise UsageError(
            f"--n {n}: by predicted {drawn.split_by[0]} and confidence there are "
            f"{len(drawn.sizes):,} strata, and one face is drawn of each at least; give --n "
            f"{len(drawn.sizes)} or more, or merge classes (--map, of ages --age-bins)"
        )
    chosen = pl.DataFrame({_ROW: faces[_ROW].gather(drawn.place)}).with_row_index("_order")
    keys = [pl.col(IMAGE)]
    if FACE in frame.collect_schema().names():
        keys.append(face_number(frame).alias(FACE))
    found = (
        frame.select(_ROW, *keys)
        .join(chosen.lazy(), on=_ROW, how="inner")
        .sort("_order")
        .drop(_ROW, "_order")
        .collect(engine="streaming")
    )
    _check_named(table, table.frame.select(keys), found)
    return found, drawn, faces.height


def _check_named(table: PredictionTable, every: pl.LazyFrame, drawn: pl.DataFrame) -> None:
    """Refuse names of faces that are those of other rows, too: a label would not find its face.

    Raises:
        SchemaError: If an image (and face) that was drawn is that of several rows.
    """
    keys = drawn.columns
    found = every.join(drawn.lazy(), on=keys, how="semi").collect(engine="streaming")
    twice = found.filter(pl.struct(keys).is_duplicated())
    if twice.height:
        remedy = "leave out the copies" if FACE in keys else f"give the column {FACE} as well"
        raise SchemaError(
            f"{table.path}: has more than one row of {twice[IMAGE][0]!r}, so whose label it is "
            f"could not be told; {remedy}, or names that differ"
        )
