"""What every source of images offers: its images, walked anew each time that they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

from faceaudit.images.refs import ImageRef
from faceaudit.ordered import in_chunks

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive images, and what the source carries of them."""

    refs: list[ImageRef]
    carried: pl.DataFrame | None = None
    """Further columns of a list or of a tar's JSON members, one row per image; None where the
    source has none. Its schema is the source's ``carried_schema``."""


def unique_names(given: pl.Series) -> pl.Series:
    """Names of which each stands once: one that came before gets its number, counted from 1.

    Example:
        >>> import polars as pl
        >>> unique_names(pl.Series(["a", "a", "b", "a"])).to_list()
        ['a', 'a#2', 'b', 'a#4']
    """
    import polars as pl

    number = "#" + pl.int_range(1, len(given) + 1, eager=True).cast(pl.String)
    names, again = given, ~given.is_first_distinct()
    while again.any():  # once, unless the name with its number is given too
        names = names.zip_with(~again, names + number)
        again &= names.is_in(given.implode())
    return names


def with_plain_types(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns in types that read back from a table as they were written: categories are text.

    So are integers of 128 bits, which a table cannot hold.
    """
    return frame.cast({name: _plain(kind) for name, kind in frame.schema.items()})


def _plain(kind: pl.DataType) -> pl.DataType:
    import polars as pl

    if kind in (pl.Categorical, pl.Enum, pl.Int128):
        return pl.String()
    if isinstance(kind, pl.List):
        return pl.List(_plain(cast("pl.DataType", kind.inner)))
    if isinstance(kind, pl.Array):
        return pl.Array(_plain(cast("pl.DataType", kind.inner)), kind.size)
    if isinstance(kind, pl.Struct):
        fields = {field.name: _plain(cast("pl.DataType", field.dtype)) for field in kind.fields}
        return pl.Struct(fields)
    return kind


class ImageSource(ABC):
    """Images in the order of their rows; iterating over it gives their references.

    Nothing is held of a folder but the names in the one that is being listed, so a source may be
    larger than memory.
    """

    def __init__(self, source: str, folder: Path | None, missed: tuple[str, ...] = ()) -> None:
        self.source = source
        self.folder = folder
        """What the names are relative to; None for a tar file, and a pixel file itself."""
        self._missed = missed
        """What a reader must see of places that could not be looked into."""
        self._begun: Iterator[ImageRef] | None = None

    @property
    def carried_schema(self) -> pl.DataFrame | None:
        """The further columns without rows; None where there are none."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that a reader must see; what a walk comes upon is added when it has ended."""
        return self._missed

    @abstractmethod
    def _walk(self) -> Iterator[ImageRef]:
        """All images in their order, looked for anew."""

    def __iter__(self) -> Iterator[ImageRef]:
        begun, self._begun = self._begun, None
        return self._walk() if begun is None else begun

    def first(self, number: int) -> list[ImageRef]:
        """The first images; the next walk goes on from there, so that no folder is listed twice."""
        walk = iter(self)
        found = list(islice(walk, number))
        self._begun = chain(found, walk)
        return found

    def batches(self, size: int) -> Iterator[Batch]:
        """All images in their order, up to ``size`` at a time; each call walks anew."""
        for refs in in_chunks(self, size):
            yield Batch(refs)

    def count(self) -> int:
        """Number of images; a folder and a pixel file are walked for it."""
        return sum(1 for _ in self._walk())


class NamedImages(ImageSource):
    """Images whose references are known: one file, or the files that a glob names."""

    def __init__(
        self,
        source: str,
        folder: Path | None,
        refs: list[ImageRef],
        missed: tuple[str, ...] = (),
    ) -> None:
        super().__init__(source, folder, missed)
        self._refs = refs

    def _walk(self) -> Iterator[ImageRef]:
        return iter(self._refs)

    def count(self) -> int:
        return len(self._refs)
