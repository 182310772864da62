"""Images in uncompressed tar files, as webdataset writes them."""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import polars as pl

from faceaudit.errors import FaceauditError, InputError
from faceaudit.images.folders import readable, suffix_of
from faceaudit.images.refs import ImageRef
from faceaudit.images.remote import file_ref, part_of
from faceaudit.images.source import Batch, ImageSource, unique_names
from faceaudit.schema import BASE_FIELDS

_BESIDE = ".txt .json .cls .cls2 .index .csv .npy .npz .pth .pyd .id .meta"
_NO_IMAGES = frozenset(_BESIDE.split())
"""Members that stand beside an image under the same key."""

NAME, OFFSET, SIZE = "name", "offset", "size"
_PLACES = {NAME: pl.String, OFFSET: pl.Int64, SIZE: pl.Int64}
_OWN = frozenset(field.name for field in BASE_FIELDS)
"""Facts that faceaudit establishes anew, such as ``width``; such fields are not carried."""

_LINKS_IN_A_ROW = 40
_AT_ONCE = 1 << 20
_EXACT = 1 << 53
"""A float holds every integer up to here."""
_Place = tuple[str, int, int]


class Shards(ImageSource):
    """The images of tar files, each in its own order; fields of their JSON members are carried.

    Members of one sample share their key: the path up to the first dot of the file name. The
    headers of all files are read once, to know all fields; then one file's places are held at a
    time. In several files an image is named by its file and its member.
    """

    def __init__(
        self,
        source: str,
        folder: Path | None,
        shards: Sequence[tuple[str, Path]],
        missed: tuple[str, ...] = (),
    ) -> None:
        """Read the headers.

        Args:
            source: As it was given.
            folder: What the names are relative to.
            shards: Beginning of the names, and path, of each file.
            missed: Notes on places where others may lie.

        Raises:
            InputError: If a file is not an uncompressed tar, or is damaged.
        """
        super().__init__(source, folder, missed)
        self._shards = shards
        self._last: tuple[Path, _Index] | None = None
        self._count = 0
        damaged: list[str] = []
        lost: list[str] = []
        special: list[str] = []
        endless: list[str] = []
        kinds: dict[str, pl.DataType] = {}
        wide: set[str] = set()
        for _, path in shards:
            index = self._index(path)
            self._count += index.places.height
            damaged += index.damaged
            lost += index.lost
            special += index.special
            endless += [] if index.ended else [path.name]
            for name, kind in index.fields.schema.items():
                kinds[name] = _common(kinds.get(name, kind), kind)
                if kind == pl.Int64 and not index.fields[name].is_between(-_EXACT, _EXACT).all():
                    wide.add(name)
        # A field that is null everywhere needs a type that a table can hold.
        self._kinds = {
            name: pl.Boolean() if kind == pl.Null else kind for name, kind in kinds.items()
        }
        beside_floats = {name for name in wide if kinds[name] == pl.Float64}
        self._kinds |= dict.fromkeys(beside_floats, pl.String())
        ones = "1 member is" if len(special) == 1 else f"{len(special):,} members are"
        links = "1 link leads" if len(lost) == 1 else f"{len(lost):,} links lead"
        self._notes = tuple(
            f"{source}: {what}"
            for what, names in (
                (f"the JSON members {_some(damaged)} hold no fields", damaged),
                (f"{links} to no image of the same tar and are left out: {_some(lost)}", lost),
                (f"{ones} no file but a pipe or device, and left out: {_some(special)}", special),
                (f"no end is marked in {_some(endless)}; compare the number of images", endless),
            )
            if names
        )

    @property
    def carried_schema(self) -> pl.DataFrame | None:
        return pl.DataFrame(schema=self._kinds) if self._kinds else None

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._missed, *self._notes)

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
    """Where the images of one tar file lie, and what its JSON members say of them.

    A link among the members is the image that it leads to, under its own name. A name that stands
    twice gets its number in the tar too.
    """

    def __init__(self, path: Path) -> None:
        self.file = file_ref(path.name, path)
        self.damaged: list[str] = []
        """JSON members that hold no fields."""
        self.special: list[str] = []
        """Pipes and devices that are images by their names."""
        self._found = _Found()
        said = _Fields()
        try:
            with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for member in _members(tar):
                    name = readable(member.name)
                    if member.isdev():
                        if suffix_of(name) not in _NO_IMAGES and not _is_hidden(name):
                            self.special.append(name)
                    elif suffix_of(name) == ".json" and not _is_hidden(name):
                        fields = _read_fields(tar, member)
                        if fields is None:
                            self.damaged.append(name)
                        else:
                            said.add(_key(name), fields)
                    elif member.issparse() and suffix_of(name) not in _NO_IMAGES:
                        raise InputError(
                            f"{path}: stores {name!r} without its zeros, as a sparse file; write "
                            "the tar without --sparse"
                        )
                    else:
                        self._found.add(name, member)
                self.ended = _is_ended(file, tar.offset)
        except tarfile.TarError as error:
            raise InputError(
                f"{path}: cannot be read as a tar that is not compressed ({error}); write it again"
            ) from error
        except OSError as error:
            if isinstance(error, FaceauditError):
                raise
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        places, self.lost = self._found.resolved()
        self.fields = said.of(_key(name) for name, _, _ in places)
        frame = pl.DataFrame(places, schema=_PLACES, orient="row")
        self.places = frame.with_columns(unique_names(frame[NAME]))


class _Found:
    """Files and links of a tar that are images by their names."""

    def __init__(self) -> None:
        self._places: list[_Place] = []
        self._links: dict[int, str] = {}
        """By place in the list: the normalized name that a link leads to."""
        self._hidden: dict[str, _Place] = {}

    def add(self, name: str, member: tarfile.TarInfo) -> None:
        place = name, member.offset_data, member.size
        if _is_hidden(name):
            if member.isfile():
                self._hidden[posixpath.normpath(name)] = place
        elif suffix_of(name) not in _NO_IMAGES:
            if not member.isfile():
                folder = posixpath.dirname(member.name) if member.issym() else ""
                target = readable(posixpath.join(folder, member.linkname))
                self._links[len(self._places)] = posixpath.normpath(target)
            self._places.append(place)

    def resolved(self) -> tuple[list[_Place], list[str]]:
        """Places of all images in their order, and names of the links that lead to none."""
        if not self._links:
            return self._places, []
        places, lost = [], []
        at = {posixpath.normpath(name): place for place, (name, *_) in enumerate(self._places)}
        folders = {str(folder) for name in at for folder in PurePosixPath(name).parents}
        for number, place in enumerate(self._places):
            name, target = place[0], self._links.get(number)
            found = place if target is None else self._followed(target, at)
            if found:
                places.append((name, *found[1:]))
            elif target not in folders:  # its images stand under their own names
                lost.append(name)
        return places, lost

    def _followed(self, target: str, at: dict[str, int]) -> _Place | None:
        for _ in range(_LINKS_IN_A_ROW):
            number = at.get(target)
            if number is None:
                return self._hidden.get(target)
            if number not in self._links:
                return self._places[number]
            target = self._links[number]
        return None


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All members of a tar but its folders; the tar forgets those that are behind."""
    last = ""
    try:
        while member := tar.next():
            if not member.isdir():
                yield member
            last = f" after the beginning of {member.name!r}"
            tar.members = []  # type: ignore[attr-defined]
    except tarfile.ReadError as error:
        raise tarfile.ReadError(f"{error}{last}") from error


def _is_ended(file: BinaryIO, offset: int) -> bool:
    """Whether the end of a tar is marked where its members end; nothing may follow.

    Raises:
        ReadError: If there is a header that is damaged or cut off, or anything after the end.
    """
    file.seek(offset)
    mark = file.read(tarfile.BLOCKSIZE)
    if any(mark):
        how = "damaged" if len(mark) == tarfile.BLOCKSIZE else "cut off"
        raise tarfile.ReadError(f"the header at byte {offset:,} is {how}")
    while rest := file.read(_AT_ONCE):
        if rest.count(0) < len(rest):
            raise tarfile.ReadError(
                f"its end is marked at byte {offset:,}, but more follows: it is damaged there, or "
                "tars were joined other than by tar --concatenate"
            )
    return bool(mark)


def _read_fields(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any] | None:
    """The fields of one JSON member; None where it is damaged, or a link."""
    if not member.isfile():
        return None
    file = tar.extractfile(member)
    try:
        found = json.loads(file.read()) if file else None
        return _in_unicode(found) if isinstance(found, dict) else None
    except (ValueError, RecursionError):  # bad JSON, bad UTF-8, brackets without end
        return None


def _in_unicode(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields whose names and texts are Unicode: the half of a character becomes U+FFFD.

    JSON writes a character beyond 16 bits as two halves, between which a caption may be cut.
    """
    text = json.dumps(fields, ensure_ascii=False)
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    found: dict[str, Any] = fields if whole == text else json.loads(whole)
    return found


def _is_hidden(name: str) -> bool:
    return posixpath.basename(name).startswith(".")


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
    most = _EXACT if float in kinds else (1 << 63) - 1
    if kinds <= {int, float} and all(abs(v) <= most for v in given if isinstance(v, int)):
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
