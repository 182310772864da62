"""Annotations of images: from file names and label tables to one row per image.

To add a format, write a module with ``read(path, names, folder)`` and, if its labels can be
recognized without being named, ``find(names, folder)``, which give ``Annotations``; then add a line
to ``LABEL_FORMATS``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from faceaudit.errors import UnknownNameError
from faceaudit.labels.annotations import (
    ANNOTATED,
    PROVENANCES,
    SAMPLE,
    Annotations,
    Labels,
    LabelTable,
    Names,
    UnmatchedError,
    counted,
)
from faceaudit.ordered import in_chunks
from faceaudit.storage import as_path, is_remote


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

__all__ = [
    "ANNOTATED",
    "AUTO",
    "LABEL_FORMATS",
    "NONE",
    "PROVENANCES",
    "LabelTable",
    "Labels",
    "none_found",
    "open_labels",
    "read_labels",
]


def open_labels(spec: str, source: _Source, *, provenance: str = ANNOTATED) -> Labels | None:
    """The labels of a source of images; None where there are none.

    A label file is read once. What the labels are is decided on the first ``SAMPLE`` names; the
    source is walked to its end only where labels are brought to images by parts of their paths,
    which other images could have too.

    Args:
        spec: ``auto``, ``none``, a name of ``LABEL_FORMATS``, or ``NAME:FILE``; a file is relative
            to the current folder or, where it is not found there, to the folder of the images.
        source: The images.
        provenance: A name of ``PROVENANCES``.

    Raises:
        UnknownNameError: If there is no such format or provenance.
        LabelError: If labels are named that cannot be read, or are of none of the images.
    """
    if spec == NONE:
        return None
    first = [ref.name for ref in source.first(SAMPLE + 1)]
    names = Names(first, lambda: (ref.name for ref in source))
    return _open(spec, names, source.folder, provenance)


def read_labels(
    spec: str, images: Sequence[str], folder: Path | None, *, provenance: str = ANNOTATED
) -> LabelTable | None:
    """The labels of these images, one row each in their order; None where there are none.

    Args:
        spec: As ``open_labels`` takes it.
        images: Names of the images, as in the table.
        folder: What the names are relative to; None where they lie in a tar file, and a pixel file
            itself where they are its rows.
        provenance: A name of ``PROVENANCES``.

    Raises:
        UnknownNameError: If there is no such format or provenance.
        LabelError: If labels are named that cannot be read, or are of none of the images.
    """
    names = Names(images, lambda: iter(images))
    found = _open(spec, names, folder, provenance)
    if found is None:
        return None
    import polars as pl

    parts = [found.of(part) for part in in_chunks(images, SAMPLE)]
    column = pl.Series("image", images, dtype=pl.String)
    frame = pl.concat([found.columns, *parts]).insert_column(0, column)
    return LabelTable(found.format, provenance, found.source, frame, found.tasks, found.notes())


def none_found(images: Sequence[str]) -> str:
    """That ``auto`` found no labels, and what would take those in some names."""
    from faceaudit.labels.utkface import named

    count = named(images[:SAMPLE])
    of = counted(min(len(images), SAMPLE), "file name")
    is_ = "is" if count == 1 else "are"
    hint = f"; {count:,} of {of} {is_} UTKFace's, name --labels utkface" if count else ""
    return f"none found{hint}"


class _Source(Protocol):
    """What a source of images offers."""

    folder: Path | None

    def __iter__(self) -> Iterator[_Named]: ...

    def first(self, number: int) -> Sequence[_Named]: ...


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class _Reader(Protocol):
    """What the module of a format offers."""

    def read(self, path: Path | None, names: Names, folder: Path | None) -> Annotations: ...

    def find(self, names: Names, folder: Path | None) -> Annotations | None: ...


def _open(spec: str, names: Names, folder: Path | None, provenance: str) -> Labels | None:
    if provenance not in PROVENANCES:
        raise UnknownNameError("provenance of labels", provenance, PROVENANCES)
    if spec == NONE:
        return None
    if spec == AUTO:
        return _find(names, folder, provenance)
    name, separator, given = spec.partition(":")
    if name not in LABEL_FORMATS:
        raise UnknownNameError("label format", name, [AUTO, NONE, *LABEL_FORMATS])
    path = _located(given, folder) if separator and given else None
    return Labels(name, provenance, _reader(name).read(path, names, folder))


def _reader(name: str) -> _Reader:
    return cast(_Reader, import_module(f"{__name__}.{name}"))


def _find(names: Names, folder: Path | None, provenance: str) -> Labels | None:
    """The labels of the first format that recognizes its own."""
    if not names.first:
        return None
    for name, known in LABEL_FORMATS.items():
        try:
            found = _reader(name).find(names, folder) if known.found else None
        except UnmatchedError:  # labels of other images, such as another split
            continue
        if found is not None:
            return Labels(name, provenance, found)
    return None


def _located(given: str, folder: Path | None) -> Path:
    path = as_path(given)
    if folder is None or is_remote(path) or path.exists() or not (folder / given).exists():
        return path
    return folder / given
