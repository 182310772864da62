"""UTKFace: labels in file names, ``[age]_[gender]_[race]_[date].jpg``.

Source:
    UTKFace data set page, "Labels": gender 0 is male, 1 is female; race 0 is White, 1 Black,
    2 Asian, 3 Indian, 4 Others; age 0 to 116.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from faceaudit.errors import UsageError
from faceaudit.labels.annotations import Annotations, Names, Tallied, counted, have
from faceaudit.labels.parse import MAX_YEARS
from faceaudit.schema import AGE_TRUE, GENDER, RACE, task_of_scheme

SOURCE = "file names"
TAKEN_FROM = 0.9
"""Share of names that must parse before they are taken for labels unasked."""

_GENDER = task_of_scheme(GENDER, "gender2")
_RACE = task_of_scheme(RACE, "utkface5")
_AGE, _DATE = "age", "date"


_COLUMNS = {"gender": _GENDER.true_column, "race": _RACE.true_column, "age": AGE_TRUE}


class FileNames(Annotations):
    """The labels in the names of images; what a name does not say is null."""

    source = SOURCE
    tasks = (_GENDER, _RACE)

    def __init__(self) -> None:
        self._total = 0
        self._lacking = {what: Tallied() for what in ("label", *_COLUMNS)}

    def of(self, images: Sequence[str]) -> pl.DataFrame:
        frame = _fields(images).select(
            _class(GENDER, _GENDER.classes).alias(_GENDER.true_column),
            _class(RACE, _RACE.classes).alias(_RACE.true_column),
            _years().alias(AGE_TRUE),
        )
        self._total += len(images)
        foreign = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
        self._lack("label", images, foreign)
        for what, column in _COLUMNS.items():
            self._lack(what, images, frame[column].is_null() & ~foreign)
        return frame

    def _lack(self, what: str, images: Sequence[str], where: pl.Series) -> None:
        self._lacking[what].add([images[place] for place in where.arg_true()])

    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"{lacking.count:,} of {counted(self._total, 'file name')} {have(lacking.count)} no "
            f"{what} (for example {lacking.first!r})"
            for what, lacking in self._lacking.items()
            if lacking.count
        )


def read(path: Path | None, names: Names, folder: Path | None) -> Annotations:
    """The labels in the names of images.

    Raises:
        UsageError: If a file is given: there is none to read.
    """
    if path is not None:
        raise UsageError(f"labels utkface:{path}: the labels are the file names; give no file")
    return FileNames()


def find(names: Names, folder: Path | None) -> Annotations | None:
    """The same, where at least nine in ten names are of this form; else None."""
    whole = pl.all_horizontal(
        _class(GENDER, _GENDER.classes).is_not_null(),
        _class(RACE, _RACE.classes).is_not_null(),
        _years().is_not_null(),
        pl.col(_DATE).str.contains("^[0-9]{8}"),
    )
    share = _fields(names.first).select(whole.fill_null(value=False).mean()).item()
    return FileNames() if share is not None and share >= TAKEN_FROM else None


def _fields(images: Sequence[str]) -> pl.DataFrame:
    """What stands between the underscores of file names, as text."""
    names = pl.Series("name", images, dtype=pl.String).str.split("/").list.last()
    stems = names.str.splitn(".", 2).struct.field("field_0")
    return (
        stems.str.splitn("_", 4).struct.rename_fields([_AGE, GENDER, RACE, _DATE]).struct.unnest()
    )


def _class(field: str, classes: Sequence[str]) -> pl.Expr:
    codes = [str(code) for code in range(len(classes))]
    return pl.col(field).replace_strict(codes, list(classes), default=None, return_dtype=pl.String)


def _years() -> pl.Expr:
    digits = pl.col(_AGE).str.extract("^([0-9]{1,3})$").cast(pl.Float32)
    return pl.when(digits <= MAX_YEARS).then(digits)
