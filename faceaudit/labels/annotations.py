"""What annotators said of images: the facts that every label format gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceaudit.errors import LabelError
from faceaudit.ordered import in_chunks

if TYPE_CHECKING:
    import polars as pl

    from faceaudit.schema import Task

ANNOTATED, SELF_REPORTED, PREDICTED = "annotated", "self-reported", "predicted"
PROVENANCES = {
    ANNOTATED: "annotators judged by looking at the image",
    SELF_REPORTED: "the persons shown said it of themselves",
    PREDICTED: "another model predicted it",
}


SAMPLE = 10_000
"""So many names decide what a source's labels are and how they find their images."""


class Names:
    """Names of the images of a source: the first of them, and all by walking it."""

    def __init__(self, first: Sequence[str], walk: Callable[[], Iterator[str]]) -> None:
        """Keep some names.

        Args:
            first: One more than ``SAMPLE``, or all.
            walk: Gives all names in their order.
        """
        self.first = list(first[:SAMPLE])
        self.are_all = len(first) <= SAMPLE
        """Whether the source has no others."""
        self._walk = walk

    def blocks(self) -> Iterator[list[str]]:
        """All names in their order; each call walks anew."""
        return in_chunks(self._walk(), SAMPLE)


class Annotations(ABC):
    """What one source says of images, which are asked for batch by batch."""

    source: str
    """The label file, or ``file names``."""
    tasks: tuple[Task, ...]
    """The classes of the annotated columns; years are no task."""

    @abstractmethod
    def of(self, images: Sequence[str]) -> pl.DataFrame:
        """What is said of these images, one row each in their order.

        The columns are always the same: what the source has of ``gender_true``, ``race_true``,
        ``age_group_true`` (text) and ``age_true`` (float32, years); null where unknown.
        """

    def notes(self) -> tuple[str, ...]:
        """Sentences about what is missing, damaged or ambiguous in what was asked for so far."""
        return ()


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a source of images."""

    format: str
    provenance: str
    annotations: Annotations

    @property
    def source(self) -> str:
        return self.annotations.source

    @property
    def tasks(self) -> tuple[Task, ...]:
        return self.annotations.tasks

    def facts(self) -> dict[str, Any]:
        """What a table says of its labels."""
        return {
            "format": self.format,
            "source": Path(self.source).name,
            "provenance": self.provenance,
            "tasks": [vars(task) for task in self.tasks],
        }

    @property
    def columns(self) -> pl.DataFrame:
        """The label columns without rows."""
        return self.annotations.of([])

    def of(self, images: Sequence[str]) -> pl.DataFrame:
        """The label columns of these images, one row each in their order."""
        return self.annotations.of(images)

    def notes(self) -> tuple[str, ...]:
        """What is missing, damaged or ambiguous among the labels of the images so far."""
        return self.annotations.notes()


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels of images that are known all at once, one row each in their order."""

    format: str
    provenance: str
    source: str
    frame: pl.DataFrame
    """``image`` and the label columns."""
    tasks: tuple[Task, ...]
    notes: tuple[str, ...]


class Tallied:
    """How many images something is true of, and which was the first."""

    def __init__(self) -> None:
        self.count = 0
        self.first = ""

    def add(self, images: Sequence[str]) -> None:
        if images and not self.count:
            self.first = images[0]
        self.count += len(images)


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
