"""Images in the rows of Parquet files, as Hugging Face Datasets and others write them.

Source:
    Hugging Face Datasets, "Image" feature: a struct of ``bytes`` and ``path``; classes of a
    ``ClassLabel`` are numbers whose names stand in the file's metadata under ``huggingface``.
"""

from __future__ import annotations

import errno
import json
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from faceaudit.errors import FaceauditError, InputError
from faceaudit.images.refs import ImageRef
from faceaudit.images.remote import stamp_of_file
from faceaudit.images.source import Batch, ImageSource, unique_names, with_plain_types
from faceaudit.schema import BASE_FIELDS
from faceaudit.storage import is_remote

IMAGE_COLUMNS = ("image", "bytes", "img")
"""Names of the column that holds the bytes; the first that does is taken."""
NAME_COLUMNS = ("path", "file_name", "filename", "file", "image")
"""Names of the column that names the images, where they do not bring their path."""
BYTES, PATH = "bytes", "path"

READ_BYTES = 1 << 20
"""Bytes of a column that are fetched at once."""
BLOCK_BYTES, HELD_BYTES = 8 << 20, 256 << 20
"""Bytes of images that make a block, about, and of all blocks that are held."""
CURSORS = 16
"""Places in files that threads have come to, which are read on from."""

_OWN = frozenset(field.name for field in BASE_FIELDS)
_BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def image_column(schema: pa.Schema) -> str | None:
    """The column with the bytes of images, as a path within the schema; None where there is none.

    Example:
        >>> one = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        >>> image_column(pa.schema({"image": one}))
        'image.bytes'
    """
    for name in IMAGE_COLUMNS:
        if name not in schema.names:
            continue
        field = schema.field(schema.names.index(name))
        if _is(field, _BINARY):
            return name
        if pa.types.is_struct(field.type) and field.type.get_field_index(BYTES) >= 0:
            return f"{name}.{BYTES}" if _is(field.type.field(BYTES), _BINARY) else None
    return None


def parquet_file(path: Path) -> pq.ParquetFile:
    """A Parquet file that is read bit by bit."""
    source = path.open("rb") if is_remote(path) else path
    return pq.ParquetFile(source, pre_buffer=False, buffer_size=READ_BYTES)


def has_images(path: Path) -> bool:
    """Whether a Parquet file has a column of images; False where it is no Parquet file."""
    try:
        with parquet_file(path) as file:
            return image_column(file.schema_arrow) is not None
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FaceauditError):
            raise
        return False


class ParquetImages(ImageSource):
    """The images of Parquet files, row by row; their other columns are carried.

    An image is named by the path that it brings or a column of ``NAME_COLUMNS``, else by its row;
    in several files also by the file. A name that stands twice in a file gets its row too. Columns
    with bytes, and with facts that faceaudit establishes anew, are left out.
    """

    def __init__(
        self,
        source: str,
        folder: Path | None,
        files: Sequence[tuple[str, Path]],
        missed: tuple[str, ...] = (),
    ) -> None:
        """Read the schemas.

        Args:
            source: As it was given.
            folder: What the names are relative to.
            files: Beginning of the names, and path, of each file; at least one.
            missed: Notes on places where others may lie.

        Raises:
            InputError: If a file is no Parquet, has no images, or other columns than the first.
        """
        super().__init__(source, folder, missed)
        self._files = files
        self._reader = RowReader({str(path): path for _, path in files})
        self._count = 0
        layouts = []
        for _, path in files:
            with _opened(path) as file:
                layouts.append(_layout(path, file.schema_arrow))
                self._count += file.metadata.num_rows
            if layouts[-1] != layouts[0]:
                raise InputError(
                    f"{path}: has other columns than {files[0][1]}; give files of one kind"
                )
        self._layout = layouts[0]

    @property
    def carried_schema(self) -> pl.DataFrame | None:
        kept = self._layout.kept
        if not kept.names:
            return None
        return self._layout.carried(self._files[0][1], kept.empty_table())

    @property
    def notes(self) -> tuple[str, ...]:
        names = ", ".join(map(repr, self._layout.left_out))
        said = (f"{self.source}: columns that are not carried: {names}",) if names else ()
        return (*self._missed, *said)

    def _walk(self) -> Iterator[ImageRef]:
        for prefix, path in self._files:
            with _opened(path) as file:
                names = self._layout.names(path, file)
            for row, name in enumerate(names):
                yield ImageRef(prefix + name, str(path), row, holder=self._reader)

    def batches(self, size: int) -> Iterator[Batch]:
        if not self._layout.kept.names:
            yield from super().batches(size)
            return
        for prefix, path in self._files:
            with _opened(path) as file:
                names, start = self._layout.names(path, file), 0
                for rows in file.iter_batches(size, columns=self._layout.kept.names):
                    stop = start + len(rows)
                    refs = [
                        ImageRef(prefix + name, str(path), row, holder=self._reader)
                        for row, name in enumerate(names[start:stop], start)
                    ]
                    start = stop
                    carried = self._layout.carried(path, pa.Table.from_batches([rows]))
                    yield Batch(refs, carried)

    def count(self) -> int:
        return self._count


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """A file that is read bit by bit.

    Raises:
        InputError: If it is no Parquet file, is damaged, or is not there.
    """
    try:
        with parquet_file(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FaceauditError):
            raise
        if _is_damage(error):
            raise InputError(f"{path}: is no Parquet file, or is damaged") from error
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _is_damage(error: Exception) -> bool:
    """Whether an error of pyarrow is about what a file holds, and not about reading it."""
    return not isinstance(error, OSError) or error.errno is None


# --- columns ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """What the columns of a file are."""

    image: str
    name: str | None
    """Where names stand, as a path within the schema."""
    kept: pa.Schema
    left_out: tuple[str, ...]
    classes: tuple[tuple[str, tuple[str, ...]], ...]
    """Columns of numbers that stand for classes, and the names of these."""

    def names(self, path: Path, file: pq.ParquetFile) -> pl.Series:
        """Names of all rows of a file, each once."""
        numbers = pl.int_range(1, file.metadata.num_rows + 1, eager=True).cast(pl.String)
        by_row = "row-" + numbers.str.zfill(6)
        if self.name is None:
            return by_row
        column = file.read(columns=[self.name]).column(0)
        if pa.types.is_struct(column.type):
            column = pc.struct_field(column, PATH)
        given = _series(path, self.name, column.cast(pa.string()))
        given = given.set(given.str.len_bytes().fill_null(0) == 0, None).fill_null(by_row)
        return unique_names(given)

    def carried(self, path: Path, rows: pa.Table) -> pl.DataFrame:
        """Carried columns; numbers of classes as their names, null where there is no such class."""
        columns = zip(rows.schema.names, rows.columns, strict=True)
        frame = with_plain_types(pl.DataFrame([_series(path, *column) for column in columns]))
        return frame.with_columns(
            pl.col(name)
            .cast(pl.Int64, strict=False)
            .replace_strict(range(len(names)), names, default=None, return_dtype=pl.String)
            for name, names in self.classes
        )


def _series(path: Path, name: str, values: pa.ChunkedArray) -> pl.Series:
    """A column of a file.

    Raises:
        InputError: If its values are damaged, such as text that is no UTF-8, or of a type that
            a table cannot have.
    """
    try:
        values.validate(full=True)
        return pl.Series(name, values)
    except (pa.ArrowException, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: the column {name!r} cannot be read ({reason})") from error


def _layout(path: Path, schema: pa.Schema) -> _Layout:
    twice = [name for name, number in Counter(schema.names).items() if number > 1]
    if twice:
        raise InputError(
            f"{path}: has several columns of the name {', '.join(map(repr, twice))}; give each a "
            "name of its own"
        )
    image = image_column(schema)
    if image is None:
        raise InputError(
            f"{path}: has no column of images: binary, or a struct with {BYTES!r}, by one of the "
            f"names {', '.join(IMAGE_COLUMNS)}"
        )
    top = image.partition(".")[0]
    name = next(
        (n for n in NAME_COLUMNS if n in schema.names and _is(schema.field(n), _TEXT)), None
    )
    if top != image and schema.field(top).type.get_field_index(PATH) >= 0:
        name = f"{top}.{PATH}"
    known = {top, name}
    others = [field for field in schema if field.name not in known]
    kept = [field for field in others if field.name not in _OWN and not _has_bytes(field.type)]
    left_out = tuple(field.name for field in others if field not in kept)
    numbers = {field.name for field in kept if pa.types.is_integer(field.type)}
    classes = {n: c for n, c in _class_labels(schema).items() if n in numbers}
    return _Layout(image, name, pa.schema(kept), left_out, tuple(classes.items()))


def _is(field: pa.Field, tests: Sequence[Callable[[pa.DataType], bool]]) -> bool:
    return any(test(field.type) for test in tests)


def _has_bytes(kind: pa.DataType) -> bool:
    """Whether a type is binary, or has binary values within."""
    if any(test(kind) for test in _BINARY):
        return True
    return any(_has_bytes(kind.field(place).type) for place in range(kind.num_fields))


def _class_labels(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Names of the classes of columns that are a ``ClassLabel``."""
    try:
        facts = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = facts.get("info", {}).get("features", {})
        return {
            name: tuple(map(str, feature["names"]))
            for name, feature in features.items()
            if isinstance(feature, dict)
            and feature.get("_type") == "ClassLabel"
            and feature["names"]
        }
    except (ValueError, AttributeError, KeyError, TypeError):  # metadata of another kind
        return {}


# --- bytes ------------------------------------------------------------------------------------


class RowReader:
    """The bytes of images in Parquet files, read in blocks of rows as they are asked for.

    Threads that work on images near each other find them in the blocks that are held. What lies
    behind these is read from the nearest place that another thread has come to, at worst from the
    beginning of its row group.
    """

    def __init__(self, files: dict[str, Path]) -> None:
        """Read from these files, by how references name them."""
        self._files = files
        self._lock = Lock()
        self._blocks: deque[_Block] = deque()
        self._cursors: deque[_Cursor] = deque(maxlen=CURSORS)

    def __reduce__(self) -> tuple[Callable[..., RowReader], tuple[tuple[str, Path], ...]]:
        # Another process reads for itself, and may have another current folder.
        return _reader_here, tuple((name, path.absolute()) for name, path in self._files.items())

    def stamp(self, path: str) -> str:
        return stamp_of_file(self._files[path])

    def read(self, ref: ImageRef) -> bytes:
        """The bytes of an image.

        Raises:
            OSError: If they cannot be read, or the row has none.
        """
        row = ref.offset or 0
        with self._lock:
            block = next((block for block in self._blocks if block.has(ref.path, row)), None)
            if block is None:
                block = self._block(ref.path, row)
                while self._blocks and block.size + sum(b.size for b in self._blocks) > HELD_BYTES:
                    self._blocks.pop()
            else:
                self._blocks.remove(block)
            self._blocks.appendleft(block)  # the one that was used last
        value = block.values[row - block.start]
        if not value.is_valid:
            raise OSError(errno.ENODATA, "the row holds no image")
        data: bytes = value.as_py()
        return data

    def _block(self, path: str, row: int) -> _Block:
        """The block with a row, from the nearest cursor before it."""
        before = [cursor for cursor in self._cursors if cursor.comes_to(path, row)]
        try:
            cursor = (
                max(before, key=lambda one: one.place)
                if before
                else _Cursor(path, self._files[path], row)
            )
            block = next(cursor.blocks)
            while not block.has(path, row):
                block = next(cursor.blocks)
        except (pa.ArrowException, OSError, StopIteration) as error:
            self._cursors.clear()
            if isinstance(error, FaceauditError) or not _is_damage(error):
                raise
            raise OSError(
                errno.EIO, "damaged Parquet file, or changed since it was read"
            ) from error
        if not before:
            self._cursors.append(cursor)
        return block


@lru_cache(maxsize=1)
def _reader_here(*files: tuple[str, Path]) -> RowReader:
    """The reader of all references that come to this process, which keeps what it has read."""
    return RowReader(dict(files))


@dataclass(frozen=True, eq=False)
class _Block:
    """The images of consecutive rows."""

    path: str
    start: int
    values: pa.Array
    size: int

    def has(self, path: str, row: int) -> bool:
        return self.path == path and self.start <= row < self.start + len(self.values)


class _Cursor:
    """A place in a file, from which it is read on block by block."""

    def __init__(self, name: str, path: Path, row: int) -> None:
        self._path = name
        self._file = parquet_file(path)
        self._image = str(image_column(self._file.schema_arrow))
        groups = map(self._file.metadata.row_group, range(self._file.num_row_groups))
        self._ends = list(accumulate(group.num_rows for group in groups))
        group = bisect_right(self._ends, row)
        self.place = self._ends[group - 1] if group else 0
        self.blocks = self._read(group)

    def comes_to(self, path: str, row: int) -> bool:
        """Whether a row comes in what is left of the row group."""
        if path != self._path or row < self.place:
            return False
        return bisect_right(self._ends, row) == bisect_right(self._ends, self.place)

    def _read(self, first: int) -> Iterator[_Block]:
        for group in range(first, len(self._ends)):
            size = self._rows_at_once(group)
            for rows in self._file.iter_batches(size, row_groups=[group], columns=[self._image]):
                values = rows.column(0)
                if pa.types.is_struct(values.type):
                    values = pc.struct_field(values, BYTES)
                block = _Block(self._path, self.place, values, rows.nbytes)
                self.place += len(rows)
                yield block

    def _rows_at_once(self, group: int) -> int:
        facts = self._file.metadata.row_group(group)
        columns = map(facts.column, range(facts.num_columns))
        size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema == self._image)
        return max(1, int(BLOCK_BYTES * facts.num_rows / max(size, 1)))
