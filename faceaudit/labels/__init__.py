"""Annotations of images: from file names and label tables to one row per image.

To add a format, write a module with ``read(path, images, folder)`` and, if its labels can be
recognized without being named, ``find(images, folder)``; then add a line to ``LABEL_FORMATS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from faceaudit.errors import UnknownNameError
from faceaudit.labels.annotations import (
    ANNOTATED,
    PROVENANCES,
    Annotations,
    Labels,
    UnmatchedError,
)


@dataclass(frozen=True)
class LabelFormat:
    """A way to write labels."""

    summary: str
    found: bool
    """Whether ``auto`` looks for it: its module has ``find``."""


LABEL_FORMATS: dict[str, LabelFormat] = {
    "imagefolder": LabelFormat(
        "metadata.csv, .jsonl or .parquet with a column file_name", found=True
    ),
    "fairface": LabelFormat("a CSV with the columns file, age, gender, race", found=True),
    "utkface": LabelFormat("file names [age]_[gender]_[race]_[date].jpg", found=True),
    "pixels": LabelFormat(
        "a CSV of gray values with age, gender, ethnicity, as pixels:FILE", found=True
    ),
    "table": LabelFormat("any CSV, JSON-lines or Parquet file, as table:FILE", found=False),
}
"""Formats by the name of their module, which is imported when it is used; ``auto`` tries them in
this order."""

AUTO, NONE = "auto", "none"

__all__ = ["ANNOTATED", "AUTO", "LABEL_FORMATS", "NONE", "PROVENANCES", "Labels", "read_labels"]


def read_labels(
    spec: str, images: Sequence[str], folder: Path | None, *, provenance: str = ANNOTATED
) -> Labels | None:
    """The annotations of these images, one row each in their order; None where there are none.

    Args:
        spec: ``auto``, ``none``, a name of ``LABEL_FORMATS``, or ``NAME:FILE``; a file is relative
            to the current folder or, where it is not found there, to the folder of the images.
        images: Names of the images, as in the table.
        folder: What the names are relative to; None where they lie in a tar file, and a pixel file
            itself where they are its rows.
        provenance: A name of ``PROVENANCES``.

    Raises:
        UnknownNameError: If there is no such format or provenance.
        LabelError: If labels are named that cannot be read, or are of none of the images.
    """
    if provenance not in PROVENANCES:
        raise UnknownNameError("provenance of labels", provenance, PROVENANCES)
    if spec == NONE:
        return None
    if spec == AUTO:
        return _find(images, folder, provenance)
    name, separator, given = spec.partition(":")
    if name not in LABEL_FORMATS:
        raise UnknownNameError("label format", name, [AUTO, NONE, *LABEL_FORMATS])
    path = _located(given, folder) if separator and given else None
    return _labels(name, provenance, _reader(name).read(path, images, folder))


class _Reader(Protocol):
    """What the module of a format offers."""

    def read(
        self, path: Path | None, images: Sequence[str], folder: Path | None
    ) -> Annotations: ...

    def find(self, images: Sequence[str], folder: Path | None) -> Annotations | None: ...


def _reader(name: str) -> _Reader:
    return cast(_Reader, import_module(f"{__name__}.{name}"))


def _find(images: Sequence[str], folder: Path | None, provenance: str) -> Labels | None:
    """The annotations of the first format that recognizes its own."""
    if not images:
        return None
    for name, known in LABEL_FORMATS.items():
        try:
            found = _reader(name).find(images, folder) if known.found else None
        except UnmatchedError:  # labels of other images, such as another split
            continue
        if found is not None:
            return _labels(name, provenance, found)
    return None


def _located(given: str, folder: Path | None) -> Path:
    path = Path(given)
    if folder is not None and not path.exists() and (folder / path).exists():
        return folder / path
    return path


def _labels(name: str, provenance: str, found: Annotations) -> Labels:
    return Labels(name, provenance, found.source, found.frame, found.tasks, found.notes)
