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
from faceaudit.labels.parse import MAX_YEARS
from faceaudit.pixel_file import pixel_rows
from faceaudit.schema import AGE_TRUE, GENDER, RACE, task_of_scheme
from faceaudit.storage import local_copy

GENDER_COLUMN, RACE_COLUMNS, AGE_COLUMN = "gender", ("ethnicity", "race"), "age"
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
    table = _table(source).with_columns(pl.Series(KEY, keys, dtype=pl.String))
    tasks = tuple(task for task in (_GENDER, _RACE) if task.true_column in table.columns)
    return Joined(str(source), table, names, None, tasks=tasks)


def find(names: Names, folder: Path | None) -> Annotations | None:
    """The same, where the images are those of a pixel file with labels."""
    if folder is None or not folder.is_file():
        return None
    try:
        return read(None, names, folder)
    except LabelError:
        return None


def _table(path: Path) -> pl.DataFrame:
    """Annotated columns, one row per row of the file; a code that is none is null."""
    try:
        rows = pl.scan_csv(local_copy(path), infer_schema=False, glob=False)
        columns = {name.strip(): name for name in rows.collect_schema().names()}
        chosen = {}
        if GENDER_COLUMN in columns:
            chosen[_GENDER.true_column] = _class(columns[GENDER_COLUMN], _GENDER.classes)
        race = next((columns[name] for name in RACE_COLUMNS if name in columns), None)
        if race is not None:
            chosen[_RACE.true_column] = _class(race, _RACE.classes)
        if AGE_COLUMN in columns:
            years = pl.col(columns[AGE_COLUMN]).str.strip_chars().cast(pl.Float32, strict=False)
            chosen[AGE_TRUE] = pl.when(years.is_between(0, MAX_YEARS)).then(years)
        if not chosen:
            raise LabelError(f"{path}: has none of the columns age, gender and ethnicity")
        return rows.select(**chosen).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise LabelError(f"{path}: cannot be read as a CSV with labels") from error


def _class(column: str, classes: Sequence[str]) -> pl.Expr:
    codes = [str(code) for code in range(len(classes))]
    text = pl.col(column).str.strip_chars()
    return text.replace_strict(codes, list(classes), default=None, return_dtype=pl.String)
