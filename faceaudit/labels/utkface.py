"""UTKFace: labels in file names, ``[age]_[gender]_[race]_[date].jpg``.

Source:
    UTKFace data set page, "Labels": gender 0 is male, 1 is female; race 0 is White, 1 Black,
    2 Asian, 3 Indian, 4 Others; age 0 to 116.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from faceaudit.errors import UsageError
from faceaudit.labels.annotations import Annotations, Names, Tallied, counted, have
from faceaudit.labels.parse import MAX_YEARS
from faceaudit.schema import AGE, AGE_TRUE, GENDER, RACE, task_of_scheme

SOURCE = "file names"
TAKEN_FROM = 0.9
"""Share of names that must parse before they are taken for labels unasked."""

_GENDER = task_of_scheme(GENDER, "gender2")
_RACE = task_of_scheme(RACE, "utkface5")


_COLUMNS = {_GENDER.true_column: pl.String, _RACE.true_column: pl.String, AGE_TRUE: pl.Float32}
_CLASSES = [
    {str(code): name for code, name in enumerate(task.classes)} for task in (_GENDER, _RACE)
]
_WHOLE = re.compile(r"[0-9]{1,3}_[01]_[0-4]_[0-9]{8}")

Row = tuple[str | None, str | None, float | None]


class FileNames(Annotations):
    """The labels in the names of images; what a name does not say is null."""

    source = SOURCE
    tasks = (_GENDER, _RACE)

    def __init__(self) -> None:
        self._total = 0
        self._lacking = {what: Tallied() for what in ("label", GENDER, RACE, AGE)}

    def of(self, images: Sequence[str]) -> pl.DataFrame:
        rows = [_row(image) for image in images]
        self._total += len(rows)
        lacking: dict[str, list[str]] = {what: [] for what in self._lacking}
        for image, row in zip(images, rows, strict=True):
            if row == (None, None, None):
                lacking["label"].append(image)
            elif None in row:
                for what, value in zip((GENDER, RACE, AGE), row, strict=True):
                    if value is None:
                        lacking[what].append(image)
        for what, names in lacking.items():
            self._lacking[what].add(names)
        return pl.DataFrame(rows, schema=_COLUMNS, orient="row")

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
    return FileNames() if named(names.first) >= TAKEN_FROM * len(names.first) else None


def named(images: Sequence[str]) -> int:
    """How many names are of this form."""
    return sum(
        _WHOLE.match(_file_name(image)) is not None and None not in _row(image) for image in images
    )


def _file_name(image: str) -> str:
    return image.rpartition("/")[2]


def _row(image: str) -> Row:
    """Gender, race and age in years, as far as they stand between the underscores of a name.

    A number with neither gender nor race behind it is no age: ``12_holiday.jpg``.
    """
    age, gender, race, *_ = *_file_name(image).partition(".")[0].split("_", 3), "", "", ""
    classes = _CLASSES[0].get(gender), _CLASSES[1].get(race)
    years = float(age) if len(age) <= 3 and age.isascii() and age.isdecimal() else None
    known = years is not None and years <= MAX_YEARS and classes != (None, None)
    return *classes, years if known else None
