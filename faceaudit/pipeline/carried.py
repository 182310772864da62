"""What a list, a tar or a Parquet file says of its images: annotations, and names that mislead."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from faceaudit.errors import InputError
from faceaudit.images.source import ImageSource
from faceaudit.labels import AUTO, Labels
from faceaudit.labels.annotations import Annotations, Tallied, counted, were
from faceaudit.labels.parse import MISSING, years
from faceaudit.schema import AGE_GROUP, AGE_TRUE

TRUE = "_true"
"""What names of annotated columns end in."""
_PREDICTED, _PROBABILITY = ("_pred", "_probs"), "_prob_"
_AGES = frozenset({AGE_TRUE, f"{AGE_GROUP}{TRUE}"})


@dataclass(frozen=True)
class Chosen:
    """Which annotations of the images are taken."""

    labels: Labels | None
    own: list[str]
    """Annotated columns that are taken from the source itself."""
    notes: tuple[str, ...] = ()


def choose_labels(found: Labels | None, spec: str, source: ImageSource) -> Chosen:
    """Which annotations are taken where labels and the source itself say something of the images.

    Labels that were named go before those of the source; labels that were only found do not.

    Args:
        found: The labels.
        spec: How they were asked for, as ``labels.open_labels`` takes it.
        source: The images.
    """
    carried = source.carried_schema
    own = [] if carried is None else [name for name in carried.columns if name.endswith(TRUE)]
    if found is None or not (both := also_in(own, found.columns.columns)):
        return Chosen(found, own)
    theirs = f"those of {found.format} ({found.source})"
    if spec != AUTO:
        note = f"{source.source}: its {', '.join(both)} made way for {theirs}"
        return Chosen(found, [name for name in own if name not in both], (note,))
    kept = _Without(found.annotations, also_in(found.columns.columns, own))
    labels = Labels(found.format, found.provenance, kept) if kept.of([]).columns else None
    note = f"{source.source}: its {', '.join(both)} were taken, and not {theirs}"
    return Chosen(labels, own, (note,))


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

    def __init__(self, source: ImageSource, labels: Labels | None) -> None:
        """Check the types of what is annotated.

        Raises:
            InputError: If an annotated column holds lists, structs or bytes.
        """
        columns = source.carried_schema
        self._replaced: list[str] = []
        self._strange = Tallied()
        if columns is None:
            return
        if labels is not None:
            self._replaced = also_in(columns.columns, labels.columns.columns)
        for name, dtype in columns.drop(self._replaced).schema.items():
            if name.endswith(TRUE) and (dtype.is_nested() or dtype == pl.Binary):
                what = "years" if name == AGE_TRUE else "class names"
                raise InputError(f"{source.source}: {name} is of type {dtype}; give {what}")

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
            f"and left empty (for example {self._strange.first!r})",
        )


def check_names(carried: Sequence[str], written: Collection[str], tasks: Iterable[str]) -> None:
    """Refuse names that would be read as something else in the table than what they are.

    Args:
        carried: Names of columns that come with the images.
        written: Names that ``predict`` writes itself.
        tasks: What is predicted.

    Raises:
        InputError: If a name is one of ``predict``, or of a prediction, or is another but for case.
    """
    known = {*carried, *written, AGE_TRUE, *(f"{task}{TRUE}" for task in tasks)}
    for name in carried:
        if problem := _problem(name, written, known):
            raise InputError(f"column {name!r} beside the images: {problem}; rename it")


def _problem(name: str, written: Collection[str], known: Collection[str]) -> str | None:
    """Why a column cannot have this name; None where it can."""
    plain = name.strip()
    lower = plain.casefold()
    if name in written:
        return "predict writes one of that name"
    if lower.endswith(_PREDICTED) or _PROBABILITY in lower:
        return "names with _pred or _probs at their end, or _prob_, are of predictions"
    if plain != name and plain in known:
        return f"it is {plain!r} but for blanks"
    overlooked = lower in known or not plain.endswith(TRUE)
    if lower.endswith(TRUE) and lower != plain and overlooked:
        return f"it is not read as {lower!r}, because case counts"
    return None
