"""Images named by a list of paths: one a line, or a column of a table."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePath

import polars as pl

from faceaudit.errors import InputError, UsageError
from faceaudit.images.folders import path_of
from faceaudit.images.refs import ImageRef
from faceaudit.images.remote import Store, as_remote_path
from faceaudit.images.source import Batch, ImageSource, with_plain_types
from faceaudit.schema import BASE_FIELDS
from faceaudit.storage import as_path, is_remote, local_copy, read_csv
from faceaudit.storage.numerals import typed

LIST_SUFFIXES = (".txt", ".csv", ".parquet")
PATH_COLUMNS = ("image", "path", "file", "file_name", "filename")
"""Names of the column that holds the paths; the first that is there is taken."""

TRIED = 5
"""So many images of a store, all over the list, are asked for before any is read."""
_UNTIDY = r"//|(^|/)\.(/|$)|/$"
"""Paths that have ``./``, doubled slashes or a slash at their end."""


class ImageList(ImageSource):
    """The images that a list names, in its order; its other columns are carried.

    The list is read once and held as a table.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        table: pl.DataFrame,
        *,
        blank: int = 0,
        repeated: int = 0,
        backslashes: int = 0,
    ) -> None:
        """Keep the list.

        Args:
            path: The list.
            folder: What its paths are relative to.
            table: The paths, and the columns that are carried.
            blank: Rows that name no image.
            repeated: Rows that are equal to one before, which the table lacks.
            backslashes: Paths that were written with backslashes, which the table has with slashes.
        """
        super().__init__(str(path), folder)
        self._names = table[:, 0]
        self._carried = table[:, 1:] if table.width > 1 else None
        self._blank, self._repeated, self._backslashes = blank, repeated, backslashes
        self._roots = _roots(path, self._names)
        self._base = str(folder).rstrip("/") if is_remote(folder) else str(folder)
        self._own = Store(as_remote_path(folder)) if is_remote(folder) else None

    @property
    def carried_schema(self) -> pl.DataFrame | None:
        return None if self._carried is None else self._carried.clear()

    @property
    def notes(self) -> tuple[str, ...]:
        rows = "1 row names" if self._blank == 1 else f"{self._blank:,} rows name"
        again = "1 row repeats" if self._repeated == 1 else f"{self._repeated:,} rows repeat"
        counts = "counts" if self._repeated == 1 else "count"
        paths = "1 path" if self._backslashes == 1 else f"{self._backslashes:,} paths"
        return tuple(
            f"{self.source}: {what}"
            for what, count in (
                (f"{rows} no image", self._blank),
                (f"{again} one before, and {counts} as one with it", self._repeated),
                (f"backslashes in {paths} were read as slashes", self._backslashes),
            )
            if count
        )

    def _walk(self) -> Iterator[ImageRef]:
        for batch in self.batches(1024):
            yield from batch.refs

    def batches(self, size: int) -> Iterator[Batch]:
        for start in range(0, len(self._names), size):
            names = self._names[start : start + size]
            refs = [self._ref(name) for name in names]
            carried = None if self._carried is None else self._carried[start : start + size]
            yield Batch(refs, carried)

    def count(self) -> int:
        return len(self._names)

    def _ref(self, name: str) -> ImageRef:
        scheme, separator, rest = name.partition("://")
        if separator and rest:
            bucket, _, key = rest.partition("/")
            store = self._roots.get(f"{scheme}://{bucket}")
            if store is None:
                return ImageRef(name, str(as_path(name)))
            return ImageRef(name, f"{scheme.lower()}://{bucket}/{key}", holder=store)
        if self._own is None or name.startswith("/"):
            return ImageRef(name, path_of(self._base, name))
        return ImageRef(name, _address_in(self._base, name), holder=self._own)

    def check_stores(self) -> None:
        """Refuse a list of images that a store gives none of: every row would be unreadable.

        Of a few images some may be refused: there are stores that refuse what is not there.

        Raises:
            InputError: If a store refuses all of a few images from all over the list.
        """
        for root, store in self._roots.items():
            own = self._names.filter(self._names.str.starts_with(f"{root}/"))
            asked = own.gather(sorted({len(own) * part // TRIED for part in range(TRIED)}))
            refusals = [store.refusal(self._ref(name).path) for name in asked if store]
            if refusals and refusals[0] and all(refusals):
                raise InputError(f"{self.source}: {refusals[0]}") from refusals[0]


def _address_in(folder: str, name: str) -> str:
    """The address of a name in a folder of a store, where ``..`` means nothing."""
    if ".." not in name.split("/"):
        return f"{folder}/{name}"
    scheme, _, place = folder.partition("://")
    bucket, _, inside = place.partition("/")
    return f"{scheme}://{bucket}{posixpath.normpath(f'/{inside}/{name}')}"


def images_in(folder: Path, names: Sequence[str]) -> ImageList:
    """The images of a folder that are known by name, or by address."""
    return ImageList(folder, folder, pl.DataFrame({PATH_COLUMNS[0]: names}))


def _roots(path: Path, names: pl.Series) -> dict[str, Store | None]:
    """What reads images from the buckets that are named; None for folders of this machine.

    Raises:
        InputError: If an address is of a kind that is not read.
    """
    roots = names.str.extract(r"^([^/]+://[^/]*)").drop_nulls().unique(maintain_order=True)
    try:
        places = [(root, as_path(f"{root}/")) for root in roots]
    except UsageError as error:
        raise InputError(f"{path}: {error}") from error
    return {
        root: Store(as_remote_path(place)) if is_remote(place) else None for root, place in places
    }


def read_list(path: Path) -> ImageList:
    """The images that a list names.

    Paths are relative to the folder of the list or, where the first is not found there, to the
    current folder. Backslashes are slashes where the first path is there only with slashes. A file
    that is not there still gets a row.

    Raises:
        InputError: If the list cannot be read, has no column of paths, has two columns of one name,
            names one image twice with different values in other columns, or a store gives none of
            its images.
    """
    frame = _read(path)
    column = _path_column(path, frame)
    filled = frame.with_columns(pl.col(column).str.strip_chars()).filter(pl.col(column) != "")
    paths = _with_slashes(path, filled[column])
    backslashes = int((paths != filled[column]).sum())
    named = filled.with_columns(_tidy(paths)).unique(maintain_order=True)
    _check(path, named, column)
    images = ImageList(
        path,
        _base(path, named[column]),
        named.select(column, pl.exclude(column)),
        blank=frame.height - filled.height,
        repeated=filled.height - named.height,
        backslashes=backslashes,
    )
    images.check_stores()
    return images


def _read(path: Path) -> pl.DataFrame:
    """The list as a table whose column of paths is text."""
    if path.suffix.lower() == ".txt":
        return pl.DataFrame({PATH_COLUMNS[0]: _lines(path)}, schema={PATH_COLUMNS[0]: pl.String})
    if path.suffix.lower() == ".csv":
        frame = _with_trimmed_names(path, read_csv(path))
        column = _path_column(path, frame)
        return frame.select(
            frame[name] if name == column else typed(frame[name]) for name in frame.columns
        )
    try:
        frame = with_plain_types(pl.read_parquet(local_copy(path), glob=False))
        frame = _with_trimmed_names(path, frame)
        return frame.with_columns(pl.col(_path_column(path, frame)).cast(pl.String))
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: is not a Parquet file with a column of paths") from error


def _with_trimmed_names(path: Path, frame: pl.DataFrame) -> pl.DataFrame:
    """Columns by their names without the blanks around them, each of which stands once."""
    trimmed = {name: name.strip() for name in frame.columns}
    names = sorted(trimmed.values())
    twice = [first for first, second in pairwise(names) if first == second]
    # Of two columns of one name polars calls the second `site_duplicated_0`; some have no name.
    twice += [name for name in names if name and f"{name}_duplicated_0" in names]
    if twice:
        raise InputError(f"{path}: the column {twice[0]!r} occurs more than once; keep one")
    return frame.rename(trimmed)


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; save the list as UTF-8") from error
    return [line for line in text.split("\n") if line.strip()]


def _path_column(path: Path, frame: pl.DataFrame) -> str:
    for name in PATH_COLUMNS:
        if name in frame.columns:
            return name
    raise InputError(
        f"{path}: no column of paths among {', '.join(map(repr, frame.columns))}; "
        f"call it one of: {', '.join(PATH_COLUMNS)}"
    )


def _tidy(paths: pl.Series) -> pl.Series:
    """Paths without ``./`` and doubled slashes; URIs as they are."""
    untidy = paths.str.contains(_UNTIDY) & ~paths.str.contains("://", literal=True)
    places = untidy.arg_true()
    return paths.scatter(places, [PurePath(path).as_posix() for path in paths.gather(places)])


def _check(path: Path, named: pl.DataFrame, column: str) -> None:
    """Refuse what would make two rows of one image, or overwrite a column of the table."""
    names = named[column]
    if twice := names.filter(names.is_duplicated()).unique(maintain_order=True).to_list():
        raise InputError(
            f"{path}: {len(twice):,} images are named more than once with different values beside "
            f"them, such as {twice[0]!r}; keep one row per image"
        )
    taken = {field.name for field in BASE_FIELDS} & set(named.columns) - {column}
    if taken:
        raise InputError(
            f"{path}: faceaudit writes columns of these names itself, rename them in the list: "
            f"{', '.join(sorted(taken))}"
        )


def _base(path: Path, names: pl.Series) -> Path:
    """The folder that the paths of a list are relative to."""
    beside = path.parent
    if is_remote(path):
        return beside
    if len(names) and not _is_there(beside, names[0]) and _is_there(Path(), names[0]):
        return Path()
    return beside


def _with_slashes(path: Path, names: pl.Series) -> pl.Series:
    """Paths of Windows with slashes; as they are where the first is there with its backslashes."""
    if is_remote(path) or not len(names) or "\\" not in names[0]:
        return names
    slashed = names.str.replace_all("\\", "/", literal=True)
    folders = (path.parent, Path())
    if any(_is_there(folder, names[0]) for folder in folders):
        return names
    if not any(_is_there(folder, slashed[0]) for folder in folders):
        return names
    return names.zip_with(names.str.contains("://", literal=True), slashed)


def _is_there(folder: Path, name: str) -> bool:
    """Whether a folder has a file of this name; a name that no file can have is not there."""
    try:
        return (folder / name).exists()
    except OSError:  # the name is too long
        return False
