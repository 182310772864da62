"""Images whose rows were deleted, known by hashes of their names: no run brings them back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from faceaudit.errors import InputError
from faceaudit.pipeline.digest import BYTES, hash_of
from faceaudit.storage import arrow_file, atomic_write
from faceaudit.tables.purges import beside

COLUMN = "name_hash"


class Purged:
    """Names that a table has no rows of any more, and must not have again."""

    def __init__(self, hashes: Iterable[bytes] = ()) -> None:
        self._hashes = frozenset(hashes)

    def __len__(self) -> int:
        return len(self._hashes)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._hashes)

    def has(self, name: str) -> bool:
        """Whether the image of this name was purged."""
        return bool(self._hashes) and _bytes_of(name) in self._hashes

    def among(self, table: pa.Table) -> pa.Array:
        """Whether each row is of such an image."""
        return pa.array([self.has(name) for name in table["image"].to_pylist()], pa.bool_())

    def with_names(self, names: Iterable[str]) -> Purged:
        """These names too."""
        return Purged(self._hashes.union(map(_bytes_of, names)))


def _bytes_of(name: str) -> bytes:
    return hash_of(name).to_bytes(BYTES, "little")


def purged_file(out: Path) -> Path:
    """Where the names that were purged of a table are kept."""
    return beside(out, "purged.parquet")


def begun_file(out: Path) -> Path:
    """What says of a table that is one file that a purge of it has not ended."""
    return beside(out, "purging.json")


def read_purged(out: Path) -> Purged:
    """The names that were purged of a table.

    Raises:
        InputError: If the file that holds them is damaged or cannot be read; without it a run would
            score again what was purged.
    """
    path = purged_file(out)
    try:
        if not path.exists():
            return Purged()
        table = pq.read_table(arrow_file(path), columns=[COLUMN])
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path}: cannot be read, and says which images must not be scored again "
            f"({type(error).__name__}); bring it back, or delete it to score them again"
        ) from error
    return Purged(table[COLUMN].to_pylist())


def write_purged(out: Path, purged: Purged) -> None:
    """Keep the names that were purged of a table."""
    hashes = np.frombuffer(b"".join(sorted(purged)), np.uint8)
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(BYTES), len(purged), [None, pa.py_buffer(hashes)]
    )
    with atomic_write(purged_file(out)) as file:
        pq.write_table(pa.table({COLUMN: column}), file)
