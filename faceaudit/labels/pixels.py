"""Labels of a pixel file, the Kaggle form of UTKFace: age, gender and ethnicity beside the pixels.

Source:
    Kaggle, nipunarora8/age-gender-and-ethnicity-face-data-csv; the codes are UTKFace's: gender 0 is
    male, 1 is female; ethnicity 0 is White, 1 Black, 2 Asian, 3 Indian, 4 Others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from faceaudit.errors import LabelError
from faceaudit.labels.annotations import Annotations, Names
from faceaudit.labels.join import KEY, Joined
from faceaudit.labels.parse import Column, categories, years
from faceaudit.pixel_file import pixel_rows
from faceaudit.schema import AGE_TRUE, GENDER, RACE, task_of_scheme
from faceaudit.storage import local_copy

GENDER_COLUMNS, RACE_COLUMNS, AGE_COLUMN = ("gender",), ("ethnicity", "race"), "age"
_GENDER = task_of_scheme(GENDER, "gender2")
_RACE = task_of_scheme(RACE, "utkface5")


def read(path: Path | None, names: Names, folder: Path | None) -> Annotations:
    """The labels of these images, which are the rows of a pixel file.

    Raises:
        LabelError: If no file is given or it has no labels.
    """
    source = path or folder
    if source is None or not source.is_file():
        raise LabelError("labels pixels: give the file, as pixels:FILE.csv")
    keys = [name for name, _, _ in pixel_rows(source)]
    columns = _columns(source)
    table = pl.DataFrame([pl.Series(KEY, keys, dtype=pl.String), *(c.values for c in columns)])
    return Joined(
        str(source),
        table,
        names,
        None,
        tasks=tuple(column.task for column in columns if column.task is not None),
        said=tuple(note for column in columns for note in column.notes),
    )


def find(names: Names, folder: Path | None) -> Annotations | None:
    """The same, where the images are those of a pixel file with labels."""
    if folder is None or not folder.is_file():
        return None
    try:
        return read(None, names, folder)
    except LabelError:
        return None


def _columns(path: Path) -> list[Column]:
    """Annotated columns, one value per row of the file; a code that is none is null and counted."""
    try:
        rows = pl.scan_csv(local_copy(path), infer_schema=False, glob=False)
        given = {name.strip(): name for name in rows.collect_schema().names()}
        named = [
            (task.true_column, next((given[name] for name in names if name in given), None))
            for task, names in ((_GENDER, GENDER_COLUMNS), (_RACE, RACE_COLUMNS))
        ]
        named.append((AGE_TRUE, given.get(AGE_COLUMN)))
        chosen = {name: pl.col(source) for name, source in named if source is not None}
        if not chosen:
            raise LabelError(f"{path}: has none of the columns age, gender and ethnicity")
        raw = rows.select(**chosen).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LabelError(f"{path}: cannot be read as a CSV with labels") from error
    found = [
        categories(task.name, _decoded(raw[task.true_column], task.classes), (task.scheme,))
        for task in (_GENDER, _RACE)
        if task.true_column in raw.columns
    ]
    return [*found, years(raw[AGE_TRUE])] if AGE_TRUE in raw.columns else found


def _decoded(codes: pl.Series, classes: Sequence[str]) -> pl.Series:
    """Classes in the place of their codes; other text as it is.

    A code is a whole number, also ``1.0``, as pandas writes it beside a missing value.
    """
    known = {float(code): name for code, name in enumerate(classes)}
    numbers = codes.str.strip_chars().cast(pl.Float64, strict=False)
    names = numbers.replace_strict(known, default=None, return_dtype=pl.String)
    return names.fill_null(codes).alias(codes.name)
