"""References to images, and their bytes."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

MAX_FILE_BYTES = 2 << 30
"""A larger file is no photograph; reading it whole would endanger the run."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image: its name in the table, and where its bytes lie."""

    name: str
    path: Path
    offset: int | None = None
    """Where the bytes begin in a tar or pixel file; None where the file is the image."""
    size: int | None = None
    grey_values: bool = False
    """Whether the bytes are gray values written out, as in a pixel file."""


@dataclass(frozen=True, eq=False)
class ImageSource:
    """Images in the order of their rows, and what came with them."""

    source: str
    folder: Path | None
    """What the names are relative to; None for a tar file, and a pixel file itself."""
    images: tuple[ImageRef, ...]
    carried: pl.DataFrame | None = None
    """Further columns of a list or of a tar's JSON members, one row per image."""
    notes: tuple[str, ...] = ()
    """Sentences that a reader must see, such as what a list names without effect."""


def read_bytes(ref: ImageRef) -> bytes:
    """The bytes of one image.

    Raises:
        OSError: If they cannot be read. A pipe or a device never blocks; it is refused.
    """
    if "\0" in os.fspath(ref.path):
        raise OSError(errno.EINVAL, "a path cannot hold a null character")
    # O_NONBLOCK: opening a pipe must not wait for a writer.
    handle = os.open(ref.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        size = facts.st_size if ref.size is None else ref.size
        if size > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"larger than {MAX_FILE_BYTES >> 30} GiB")
        file.seek(ref.offset or 0)
        data = file.read(-1 if ref.size is None else size)
    if len(data) < size:
        raise OSError(errno.EIO, "the file ends before the image does")
    if ref.grey_values:
        from faceaudit.images.pixels import as_image

        return as_image(data)
    return data
