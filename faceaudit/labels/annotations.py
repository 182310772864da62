"""What annotators said of images: the facts that every label format gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from faceaudit.errors import LabelError

if TYPE_CHECKING:
    import polars as pl

    from faceaudit.schema import Task

ANNOTATED = "annotated"
PROVENANCES = {
    ANNOTATED: "annotators judged by looking at the image",
    "self-reported": "the persons shown said it of themselves",
    "predicted": "another model predicted it",
}


@dataclass(frozen=True, eq=False)
class Labels:
    """Annotations of a sequence of images, one row each, in its order."""

    format: str
    provenance: str
    source: str
    """The label file, or ``file names``."""
    frame: pl.DataFrame
    """``image``, and what the format has of ``gender_true``, ``race_true``, ``age_group_true``
    (text) and ``age_true`` (float32, years); null where unknown."""
    tasks: tuple[Task, ...]
    """The classes of the annotated columns; years are no task."""
    notes: tuple[str, ...]
    """Sentences about what is missing, damaged or ambiguous."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """What one source says: a table, the schemes of its columns, and what is wrong with it."""

    source: str
    frame: pl.DataFrame
    tasks: tuple[Task, ...]
    notes: tuple[str, ...] = ()


class UnmatchedError(LabelError):
    """Labels of which none is of any image."""


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "label"), counted(2413, "image")
        ('1 label', '2,413 images')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def have(number: int) -> str:
    """The verb that goes with a number."""
    return "has" if number == 1 else "have"


def were(number: int) -> str:
    """The verb that goes with a number."""
    return "was" if number == 1 else "were"
