"""Copies on this machine of what lies on an object store."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faceaudit.storage.paths import as_remote

AT_A_TIME = 8
"""Files that are fetched at once."""


def local_copy(path: Path, kept_by: Path | None = None) -> Path:
    """A file as a local one: itself, or a copy of what an object store holds.

    An audit hashes a table and reads it several times over; a copy is fetched once, and what
    somebody writes in its place meanwhile is not mixed in. It lies in the temporary folder and
    takes as much room as the file.

    Args:
        path: A file.
        kept_by: The copy is deleted when this object is; ``path`` itself unless given. Its copies
            are fetched once.

    Raises:
        FileNotFoundError: If there is no such file.
        TemporaryError: If the storage cannot be reached, or the temporary folder is full.
    """
    remote = as_remote(path)
    if remote is None:
        return path
    return (as_remote(kept_by) or remote).copy_of(remote)


def local_copies(paths: Sequence[Path], kept_by: Path) -> list[Path]:
    """Files as local ones (see ``local_copy``), kept as long as the object they belong to."""
    if as_remote(kept_by) is None:
        return list(paths)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(lambda path: local_copy(path, kept_by), paths))
