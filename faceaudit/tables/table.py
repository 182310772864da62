"""What a table of predictions is, and what it is while it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from faceaudit.errors import InputError, SchemaError, UnknownNameError
from faceaudit.schema import AGE, AGE_GROUP, GENDER, RACE, TableMetadata, Task

IMAGE, STATUS, FACE = "image", "status", "face"
NOT_SCORED = "not_scored"
"""Status of an image without a prediction in a table that gives no reasons."""
DECIMAL_COMMA = (r"^(-?\d+),(\d+)$", "$1.$2")
"""How spreadsheets of many countries write a number, and what a point makes of it."""


@dataclass(frozen=True)
class PredictionTable:
    """A table of predictions in canonical columns (see the module)."""

    path: Path
    sha256: str
    rows: int
    images: int
    frame: pl.LazyFrame
    tasks: tuple[Task, ...]
    """Tasks that are predicted, with the classes that the columns are in."""
    annotated: frozenset[str]
    """Names of the tasks that have an annotated value in any row; ``age`` stands for years."""
    scored: frozenset[str]
    """Names of the tasks with a probability per class."""
    features: tuple[str, ...]
    """Columns that subgroups can be formed by."""
    metadata: TableMetadata | None = None
    notes: tuple[str, ...] = ()
    named: bool = True
    """Whether the table names its images; otherwise every row is an image of its own."""
    sliceable: bool = False
    """Whether rows in the middle are read without those before them."""

    def task(self, name: str) -> Task:
        """The task of this name."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise UnknownNameError("task", name, [task.name for task in self.tasks])


def score_column(task: Task, label: str) -> str:
    """Canonical column of the probability of one class."""
    return f"{task.name}_prob_{label}"


def score_columns(task: Task) -> list[str]:
    """Canonical columns of the probabilities of a task, in class order."""
    return [score_column(task, label) for label in task.classes]


@dataclass(frozen=True)
class Draft:
    """A table on its way to canonical columns."""

    path: Path
    frame: pl.LazyFrame
    metadata: TableMetadata | None
    labels_joined: bool = False
    tasks: tuple[Task, ...] = ()
    scored: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    dtypes: Mapping[str, pl.DataType] = field(default_factory=dict)
    named: bool = True
    sliceable: bool = False

    def having(self, frame: pl.LazyFrame, *notes: str) -> Draft:
        """The same draft with other rows or columns, and more notes."""
        dtypes = dict(frame.collect_schema())
        return replace(self, frame=frame, dtypes=dtypes, notes=(*self.notes, *notes))


def task_names(draft: Draft) -> list[str]:
    """Tasks with predictions or scores: the usual ones first, then as the columns come."""
    found = []
    for column in draft.dtypes:
        name, separator, _ = column.partition("_prob_")
        if not separator:
            suffix = next((end for end in ("_pred", "_probs") if column.endswith(end)), None)
            name = column.removesuffix(suffix) if suffix else ""
        if name and name != AGE and name not in found:
            found.append(name)
    usual = [name for name in (GENDER, RACE, AGE_GROUP) if name in found]
    return usual + [name for name in found if name not in usual]


def values_of(draft: Draft, column: str) -> dict[str, int]:
    """Values of a text column with their counts, null left out; empty where there is none."""
    if column not in draft.dtypes:
        return {}
    counts = draft.frame.group_by(column).len().drop_nulls(column).sort(column)
    return dict(counts.collect(engine="streaming").rows())


def face_number(frame: pl.LazyFrame) -> pl.Expr:
    """The number of each row's face in its image; 0 where it has none."""
    dtype, number = frame.collect_schema().get(FACE, pl.Null()), pl.col(FACE)
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        text = number.cast(pl.String).str.strip_chars()
        number = text.cast(pl.Float64, strict=False)  # also "1.0"
    elif not dtype.is_numeric():
        return pl.lit(0, pl.Int64)
    return number.cast(pl.Int64, strict=False).fill_null(0)


def hashes_of(frame: pl.LazyFrame, key: pl.Expr) -> pl.Series:
    """Hashes of what names each row: the names of millions of images would fill the memory."""
    return frame.select(key.hash()).collect(engine="streaming").to_series()


def as_number(draft: Draft, column: str, value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Numbers, also where they are text; text that is none becomes NaN, so that it is counted.

    Raises:
        SchemaError: If the column holds dates, truth values or anything nested.
    """
    if dtype.is_numeric() or dtype == pl.Null:
        return value.cast(pl.Float64)
    if not isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        raise SchemaError(f"{draft.path}: {column} is of type {dtype}; give numbers")
    text = value.cast(pl.String).str.strip_chars()
    number = text.str.replace(*DECIMAL_COMMA).cast(pl.Float64, strict=False)
    return pl.when(text != "").then(number.fill_null(float("nan")))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Tell of a file that turns out to be damaged while it is read.

    Raises:
        InputError: If polars cannot read on.
    """
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from error


def some_of(values: Iterable[str]) -> str:
    """A few values, quoted."""
    return ", ".join(repr(value) for value in list(values)[:5])


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its kind where it has none."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
