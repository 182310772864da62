"""Annotations that a list, a tar or a Parquet file has of its images, beside those of labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from faceaudit.errors import InputError
from faceaudit.labels import AUTO, Labels
from faceaudit.labels.annotations import Annotations, Tallied, counted, were
from faceaudit.labels.parse import MISSING, years
from faceaudit.schema import AGE_GROUP, AGE_TRUE

TRUE = "_true"
"""What names of annotated columns end in."""
_AGES = frozenset({AGE_TRUE, f"{AGE_GROUP}{TRUE}"})


@dataclass(frozen=True)
class Chosen:
    """Which annotations of the images are taken."""

    labels: Labels | None
    own: list[str]
    """Annotated columns that are taken from the source itself."""
    notes: tuple[str, ...] = ()


def choose_labels(
    found: Labels | None, spec: str, carried: pl.DataFrame | None, source: str
) -> Chosen:
    """Which annotations are taken where labels and the source itself say something of the images.

    Labels that were named go before those of the source; labels that were only found do not.

    Args:
        found: The labels.
        spec: How they were asked for, as ``labels.open_labels`` takes it.
        carried: Columns of the source without rows; None where it has none.
        source: What holds the images.
    """
    own = [] if carried is None else [name for name in carried.columns if name.endswith(TRUE)]
    if found is None or not (both := also_in(own, found.columns.columns)):
        return Chosen(found, own)
    theirs = f"those of {found.format} ({found.source})"
    if spec != AUTO:
        note = f"{source}: its {', '.join(both)} made way for {theirs}"
        return Chosen(found, [name for name in own if name not in both], (note,))
    kept = _Without(found.annotations, also_in(found.columns.columns, own))
    labels = Labels(found.format, found.provenance, kept) if kept.of([]).columns else None
    note = f"{source}: its {', '.join(both)} were taken, and not {theirs}"
    return Chosen(labels, own, (note,))


def without_tasks(labels: Labels | None, left_out: Sequence[str]) -> Labels | None:
    """The labels without these annotated columns; None where nothing is left."""
    if labels is None or not set(left_out) & set(labels.columns.columns):
        return labels
    mine = [name for name in labels.columns.columns if name in left_out]
    kept = _Without(labels.annotations, mine)
    return Labels(labels.format, labels.provenance, kept) if kept.of([]).columns else None


def also_in(columns: Iterable[str], others: Collection[str]) -> list[str]:
    """Columns that are among the others, too; years and age groups stand for each other."""
    ages = _AGES if _AGES & set(others) else frozenset()
    return [name for name in columns if name in others or name in ages]


class _Without(Annotations):
    """Labels without some of their columns."""

    def __init__(self, whole: Annotations, left_out: Sequence[str]) -> None:
        self.source = whole.source
        self.tasks = tuple(task for task in whole.tasks if task.true_column not in left_out)
        self._whole, self._left_out = whole, left_out

    def of(self, images: Sequence[str]) -> pl.DataFrame:
        return self._whole.of(images).drop(self._left_out)

    def notes(self) -> tuple[str, ...]:
        return self._whole.notes()


class Carried:
    """Columns that a source brings, without those that labels replace, and with years as numbers.

    What is no age is null and counted.
    """

    def __init__(
        self,
        columns: pl.DataFrame | None,
        source: str,
        labels: Labels | None,
        left_out: Sequence[str] = (),
    ) -> None:
        """Check the types of what is annotated.

        Args:
            columns: Columns of the source without rows; None where it has none.
            source: What holds the images.
            labels: Labels that replace what they have, too.
            left_out: Columns that are not taken.

        Raises:
            InputError: If an annotated column holds lists, structs or bytes.
        """
        self._replaced: list[str] = []
        self._strange = Tallied()
        if columns is None:
            return
        replaced = () if labels is None else also_in(columns.columns, labels.columns.columns)
        self._replaced = [one for one in columns.columns if one in replaced or one in left_out]
        for name, dtype in columns.drop(self._replaced).schema.items():
            if name.endswith(TRUE) and (dtype.is_nested() or dtype == pl.Binary):
                what = "years" if name == AGE_TRUE else "class names"
                raise InputError(f"{source}: {name} is of type {dtype}; give {what}")

    def of(self, rows: pl.DataFrame | None) -> pl.DataFrame | None:
        """What is carried of some images."""
        kept = None if rows is None else rows.drop(self._replaced)
        if kept is None or AGE_TRUE not in kept.columns:
            return kept
        text = kept[AGE_TRUE].cast(pl.String).str.strip_chars()
        # Spreadsheets of many countries write a comma for the point.
        ages = years(text.str.replace(r"^(\d+),(\d+)$", "$1.$2")).values
        said = text.filter(ages.is_null() & text.is_not_null())
        self._strange.add([one for one in said if one.casefold() not in MISSING])
        return kept.with_columns(ages.alias(AGE_TRUE))

    def notes(self) -> tuple[str, ...]:
        """What was no age among what was asked for so far."""
        if not (number := self._strange.count):
            return ()
        return (
            f"{counted(number, 'value')} of {AGE_TRUE} beside the images {were(number)} no age "
            f"and left empty (such as {self._strange.first!r})",
        )
