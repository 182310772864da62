"""References to images, and their bytes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from faceaudit.errors import RefusedError

MAX_FILE_BYTES = 2 << 30
"""A larger file is no photograph; reading it whole would endanger the run."""

STAMPS = 16
"""Images whose stamps are asked for at a time."""
MISSING = "missing"
"""The stamp of an image that cannot be seen."""


class Holder(Protocol):
    """Something that holds images and is not a local file of theirs."""

    def read(self, ref: ImageRef) -> bytes:
        """The bytes of one image.

        Raises:
            OSError: If they cannot be read.
        """

    def stamp(self, path: str) -> str:
        """What tells whether a file is the same as last time; ``missing`` where it is not seen."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image: its name in the table, and where its bytes lie."""

    name: str
    path: str
    offset: int | None = None
    """Where the bytes begin in a tar or pixel file, or the row in a Parquet file; None where the
    file is the image."""
    size: int | None = None
    grey_values: bool = False
    """Whether the bytes are gray values written out, as in a pixel file."""
    holder: Holder | None = None
    """What reads the bytes; None where they lie in a local file as they are."""
    version: str | None = None
    """What its file is known by, where a listing has told; see ``stamp``."""

    def stamp(self) -> str:
        """What tells whether the image is the same as last time, without reading it.

        Size in bytes, time of the last change in nanoseconds (of a file on an object store its
        tag), and the place within the file; ``missing`` where the file cannot be seen.
        """
        seen = self.version
        if seen is None:
            seen = stamp_of(self.path) if self.holder is None else self.holder.stamp(self.path)
        return seen if self.offset is None or seen == MISSING else f"{seen} {self.offset}"


def stamp_of(path: str) -> str:
    """Size and time of a file of this machine; ``missing`` where it cannot be seen."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return MISSING
    return f"{found.st_size} {found.st_mtime_ns}"


def read_bytes(ref: ImageRef) -> bytes:
    """The bytes of one image.

    Raises:
        OSError: If they cannot be read. A pipe or a device never blocks; it is refused.
    """
    data = _read_file(ref) if ref.holder is None else ref.holder.read(ref)
    if ref.grey_values:
        from faceaudit.images.pixels import as_image

        return as_image(data)
    return data


def stamps_of(refs: Sequence[ImageRef]) -> list[str]:
    """The stamps of images; those that are asked of a store are asked for side by side."""
    if all(ref.holder is None or ref.version is not None for ref in refs):
        return [ref.stamp() for ref in refs]
    with ThreadPoolExecutor(STAMPS) as pool:
        return list(pool.map(ImageRef.stamp, refs))


def refusal_of(ref: ImageRef) -> RefusedError | None:
    """Why a store refuses an image; None where it gives it, or has no such file.

    Raises:
        TemporaryError: If the store cannot be reached.
    """
    try:
        read_bytes(ref)
    except RefusedError as error:
        return error
    except OSError:
        return None
    return None


def _read_file(ref: ImageRef) -> bytes:
    """The bytes of an image in a file of this machine."""
    if "\0" in ref.path:
        raise OSError(errno.EINVAL, "a path cannot hold a null character")
    # O_NONBLOCK: opening a pipe must not wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(ref.path, flags)
    # Few calls of the system: each lets other threads go on, and waits for them to come back.
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        size = facts.st_size if ref.size is None else ref.size
        if size > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"larger than {MAX_FILE_BYTES >> 30} GiB")
        if ref.offset:
            os.lseek(handle, ref.offset, os.SEEK_SET)
        data = os.read(handle, size)
        while len(data) < size and (more := os.read(handle, size - len(data))):
            data += more
    finally:
        os.close(handle)
    if len(data) < size:
        raise OSError(errno.EIO, "the file ends before the image does")
    return data
