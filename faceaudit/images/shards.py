"""Images in uncompressed tar files, as webdataset writes them."""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from faceaudit.errors import FaceauditError, InputError
from faceaudit.images.folders import readable, suffix_of
from faceaudit.images.refs import ImageRef
from faceaudit.images.remote import file_ref, part_of
from faceaudit.images.source import Batch, ImageSource
from faceaudit.schema import BASE_FIELDS

_BESIDE = ".txt .json .cls .cls2 .index .csv .npy .npz .pth .pyd .id .meta"
_NO_IMAGES = frozenset(_BESIDE.split())
"""Members that stand beside an image under the same key."""

NAME, OFFSET, SIZE = "name", "offset", "size"
_PLACES = {NAME: pl.String, OFFSET: pl.Int64, SIZE: pl.Int64}
_OWN = frozenset(field.name for field in BASE_FIELDS)
"""Facts that faceaudit establishes anew, such as ``width``; such fields are not carried."""


class Shards(ImageSource):
    """The images of tar files, each in its own order; fields of their JSON members are carried.

    Members of one sample share their key: the path up to the first dot of the file name. The
    headers of all files are read once, to know all fields; then one file's places are held at a
    time. In several files an image is named by its file and its member.
    """

    def __init__(
        self, source: str, folder: Path | None, shards: Sequence[tuple[str, Path]]
    ) -> None:
        """Read the headers.

        Args:
            source: As it was given.
            folder: What the names are relative to.
            shards: Beginning of the names, and path, of each file.

        Raises:
            InputError: If a file is not an uncompressed tar, or is damaged.
        """
        super().__init__(source, folder)
        self._shards = shards
        self._last: tuple[Path, _Index] | None = None
        self._count = 0
        damaged: list[str] = []
        kinds: dict[str, pl.DataType] = {}
        for _, path in shards:
            index = self._index(path)
            self._count += index.places.height
            damaged += index.damaged
            for name, kind in index.fields.schema.items():
                kinds[name] = _common(kinds.get(name, kind), kind)
        # A field that is null everywhere needs a type that a table can hold.
        self._kinds = {
            name: pl.Boolean() if kind == pl.Null else kind for name, kind in kinds.items()
        }
        self._notes = (
            (f"{source}: the JSON members {_some(damaged)} hold no fields",) if damaged else ()
        )

    @property
    def carried_schema(self) -> pl.DataFrame | None:
        return pl.DataFrame(schema=self._kinds) if self._kinds else None

    @property
    def notes(self) -> tuple[str, ...]:
        return self._notes

    def _walk(self) -> Iterator[ImageRef]:
        for batch in self.batches(1024):
            yield from batch.refs

    def batches(self, size: int) -> Iterator[Batch]:
        for prefix, path in self._shards:
            index = self._index(path)
            fields = _in_kinds(index.fields, self._kinds, index.places.height)
            for start in range(0, index.places.height, size):
                refs = [
                    part_of(index.file, prefix + name, offset, length)
                    for name, offset, length in index.places[start : start + size].iter_rows()
                ]
                yield Batch(refs, fields[start : start + size] if self._kinds else None)

    def count(self) -> int:
        return self._count

    def _index(self, path: Path) -> _Index:
        """What is in a file; the last one asked for is remembered."""
        if self._last is None or self._last[0] is not path:
            self._last = (path, _Index(path))
        return self._last[1]


class _Index:
    """Where the images of one tar file lie, and what its JSON members say of them."""

    def __init__(self, path: Path) -> None:
        self.file = file_ref(path.name, path)
        places: list[tuple[str, int, int]] = []
        said = _Fields()
        self.damaged: list[str] = []
        try:
            with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for member in _members(tar):
                    name = readable(member.name)
                    suffix = suffix_of(name)
                    if suffix == ".json":
                        found = _read_fields(tar, member)
                        if found is None:
                            self.damaged.append(name)
                        else:
                            said.add(_key(name), found)
                    elif suffix not in _NO_IMAGES:
                        places.append((name, member.offset_data, member.size))
        except tarfile.TarError as error:
            raise InputError(
                f"{path}: cannot be read as a tar that is not compressed ({error}); write it again"
            ) from error
        except OSError as error:
            if isinstance(error, FaceauditError):
                raise
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        self.places = pl.DataFrame(places, schema=_PLACES, orient="row")
        self.fields = said.of(_key(name) for name, _, _ in places)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Files in a tar that are not hidden; the tar forgets those that are behind."""
    while member := tar.next():
        if member.isfile() and not posixpath.basename(member.name).startswith("."):
            yield member
        tar.members = []  # type: ignore[attr-defined]


def _read_fields(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any] | None:
    """The fields of one JSON member; None where it is damaged."""
    file = tar.extractfile(member)
    try:
        found = json.loads(file.read()) if file else None
    except (ValueError, RecursionError):  # bad JSON, bad UTF-8, brackets without end
        return None
    return found if isinstance(found, dict) else None


def _key(name: str) -> str:
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.split(".", 1)[0])


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3:,} more" * (len(names) > 3))


# --- fields as columns ------------------------------------------------------------------------


class _Fields:
    """Fields of JSON members as columns, by order of appearance."""

    def __init__(self) -> None:
        self._row_of: dict[str, int] = {}
        self._columns: dict[str, list[Any]] = {}

    def add(self, key: str, fields: dict[str, Any]) -> None:
        row = len(self._row_of)
        if self._row_of.setdefault(key, row) != row:
            return
        for name, value in fields.items():
            if name not in _OWN:
                column = self._columns.setdefault(name, [])
                column += [None] * (row - len(column))
                column.append(value)

    def of(self, keys: Iterable[str]) -> pl.DataFrame:
        """One row per key; null where no member of this key has the field."""
        rows = pl.Series([self._row_of.get(key) for key in keys], dtype=pl.Int64)
        count = len(self._row_of)
        columns = [
            _column(name, values + [None] * (count - len(values)))
            for name, values in self._columns.items()
        ]
        return pl.DataFrame(columns).select(pl.all().gather(rows))


def _column(name: str, values: list[Any]) -> pl.Series:
    """Values of one field in the narrowest type that holds them all; others as JSON text."""
    given = [value for value in values if value is not None]
    kinds = {type(value) for value in given}
    if not given:
        return pl.Series(name, values, pl.Null)
    if kinds <= {bool}:
        return pl.Series(name, values, pl.Boolean)
    if kinds <= {int, float} and all(abs(value) < 1 << 63 for value in given):
        return pl.Series(name, values, pl.Float64 if float in kinds else pl.Int64, strict=False)
    return pl.Series(name, [_text(value) for value in values], pl.String)


def _common(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    """The type that holds the values of both."""
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    return pl.Float64() if {one, other} == {pl.Int64(), pl.Float64()} else pl.String()


def _in_kinds(fields: pl.DataFrame, kinds: dict[str, pl.DataType], height: int) -> pl.DataFrame:
    """Columns of these types, null where a file does not have the field."""
    absent = pl.Series([None] * height, dtype=pl.Null)
    return pl.DataFrame(
        [
            (fields[name] if name in fields.columns else absent).cast(kind).alias(name)
            for name, kind in kinds.items()
        ]
    )


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
