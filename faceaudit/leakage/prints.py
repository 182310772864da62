"""What is kept of each image to find it again: a hash of its bytes, and a small gray picture."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from faceaudit.errors import TemporaryError
from faceaudit.images.decode import decode_gray
from faceaudit.images.refs import ImageRef, read_bytes
from faceaudit.leakage.duplicates import Hashes, picture_hashes
from faceaudit.ordered import in_chunks, in_order

Picture = NDArray[np.uint8]
"""Gray, (H, W)."""

SIDE = 64
"""Height and width of the picture that is kept, pixels."""
DECODED_SIDE = 96
"""JPEGs are decoded at this size or a little more."""
CHUNK = 256
"""Images that one thread reads at a time."""

IN_MEMORY = 1 << 14
"""Small pictures of more images than this lie in a temporary file."""

EVEN = 4
"""Gray values that a line of border spans at most, and is away from the outermost line's."""
MOST_BORDER = 4
"""At most one in so many lines is taken for border at each end."""
BLANK = 4.0
"""A picture whose gray values deviate less has nothing to be known by."""

EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Prints:
    """What is kept of N images."""

    sha256: NDArray[np.object_]
    """Hexadecimal, of the bytes, (N,); None where there are none. Of a crop whose image is known
    those of that image."""
    file_sha256: NDArray[np.object_]
    """The same, of a crop's own bytes."""
    error: NDArray[np.object_]
    """One line, why there is no picture, (N,); None where there is one."""
    blank: NDArray[np.bool_]
    """Whether the picture shows one even tone, (N,)."""
    hashes: Hashes
    """Difference hashes, (N, 32)."""
    mirrored: Hashes
    """Of the mirror images, (N, 32)."""
    pictures: NDArray[np.uint8]
    """Gray, (N, SIDE, SIDE)."""

    @property
    def comparable(self) -> NDArray[np.bool_]:
        """Whether an image can be compared by its pixels, (N,)."""
        return _missing(self.error) & ~self.blank

    @property
    def unread(self) -> NDArray[np.bool_]:
        """Whether there are no bytes of an image, (N,)."""
        return _missing(self.sha256)

    def take_recorded(self, sha256: Sequence[str | None]) -> int:
        """Take hashes that are recorded for images that cannot be opened; how many it took."""
        taken = [
            row
            for row in np.flatnonzero(self.unread).tolist()
            if sha256[row] not in (None, EMPTY) and self.error[row] is not None
        ]
        self.sha256[taken] = self.file_sha256[taken] = [sha256[row] for row in taken]
        return len(taken)


def take_prints(
    images: Sequence[ImageRef],
    view: float,
    *,
    max_pixels: int,
    workers: int,
    advance: Callable[[int], None] = lambda done: None,
) -> Prints:
    """Read every image once; none that cannot be read stops the others.

    The pictures are kept in a temporary file, 4 KiB an image, so that memory holds little more than
    the names and hashes.

    Args:
        images: Where they lie.
        view: Share of an image's sides that counts, around its center; prepared crops show
            repeated border around it.
        max_pixels: An image with more is not decoded.
        workers: Threads.
        advance: Is told how many more images are done.
    """
    prints = _room(len(images))
    work = partial(_take, view, max_pixels)
    start = 0
    with closing(in_order(work, in_chunks(images, CHUNK), workers)) as chunks:
        for found in chunks:
            end = start + len(found.sha256)
            for name, values in vars(prints).items():
                values[start:end] = getattr(found, name)
            advance(end - start)
            start = end
    return prints


def by_bytes_alone(sha256: Sequence[str | None]) -> Prints:
    """Prints of images that are known by the hashes of their bytes alone."""
    prints = _room(len(sha256))
    known = [None if digest == EMPTY else digest for digest in sha256]
    prints.sha256[:] = prints.file_sha256[:] = known
    reasons = {None: "sha256 is no hash of 64 hexadecimal digits", EMPTY: "no bytes"}
    prints.error[:] = [reasons.get(digest, "only its hash is known") for digest in sha256]
    return prints


def joined(parts: Sequence[Prints]) -> Prints:
    """The prints of several sets, one after the other."""
    prints = _room(sum(len(part.sha256) for part in parts))
    start = 0
    for part in parts:
        end = start + len(part.sha256)
        for name, values in vars(prints).items():
            values[start:end] = getattr(part, name)
        start = end
    return prints


def _room(count: int) -> Prints:
    """Prints to be filled; the pictures lie in a file that vanishes with them."""
    shape = (count, SIDE, SIDE)
    return Prints(
        sha256=np.full(count, None, object),
        file_sha256=np.full(count, None, object),
        error=np.full(count, None, object),
        blank=np.zeros(count, bool),
        hashes=np.zeros((count, 32), np.uint8),
        mirrored=np.zeros((count, 32), np.uint8),
        pictures=np.zeros(shape, np.uint8) if count <= IN_MEMORY else _on_disk(shape),
    )


def _on_disk(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An array in a temporary file, whose room is taken at once.

    Raises:
        TemporaryError: If there is not enough.
    """
    size = int(np.prod(shape))
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # writing to a file without room ends the process
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, np.uint8, "w+", shape=shape)
    except OSError as error:
        raise TemporaryError(
            f"{tempfile.gettempdir()}: no room for {size >> 20:,} MiB of small pictures "
            f"({error.strerror}); free some, or name another folder in TMPDIR"
        ) from error


def _missing(values: NDArray[np.object_]) -> NDArray[np.bool_]:
    return np.asarray([value is None for value in values.tolist()], bool)


def _take(view: float, max_pixels: int, images: Sequence[ImageRef]) -> Prints:
    prints = _room(len(images))
    for row, image in enumerate(images):
        try:
            data = read_bytes(image)
        except OSError as error:
            prints.error[row] = f"cannot be read: {error.strerror or type(error).__name__}"
            continue
        digest = hashlib.sha256(data).hexdigest() if data else None
        prints.sha256[row] = prints.file_sha256[row] = digest
        try:
            found = decode_gray(data, DECODED_SIDE, max_pixels=max_pixels)
        except MemoryError as error:
            raise TemporaryError(
                f"{image.name}: the memory does not suffice for this image; use fewer --workers, "
                "or free some memory, and run again"
            ) from error
        prints.error[row] = found.error
        if found.image is not None:
            picture = small_picture(found.image, view)
            prints.pictures[row] = picture
            prints.blank[row] = picture.std() < BLANK
            prints.hashes[row], prints.mirrored[row] = picture_hashes(picture)
    return prints


def small_picture(gray: Picture, view: float = 1.0) -> Picture:
    """The central view of an image without even border, (SIDE, SIDE).

    Args:
        gray: An image, (H, W).
        view: Share of its height and width that counts.
    """
    inset = [round(side * (1 - view) / 2) for side in gray.shape]
    central = gray[inset[0] : gray.shape[0] - inset[0], inset[1] : gray.shape[1] - inset[1]]
    inner = without_border(central)
    shrinks = inner.shape[0] >= SIDE and inner.shape[1] >= SIDE
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(inner, (SIDE, SIDE), interpolation=method), np.uint8)


def without_border(gray: Picture) -> Picture:
    """An image without lines of one even tone at its edges; at most a quarter of each side."""
    top, bottom = _inner(gray)
    rows = gray[top:bottom]
    left, right = _inner(rows.T)
    return rows[:, left:right]


def _inner(lines: Picture) -> tuple[int, int]:
    """First line, and the one after the last, that are not border."""
    most = len(lines) // MOST_BORDER
    return _border(lines[:most]), len(lines) - _border(lines[::-1][:most])


def _border(lines: Picture) -> int:
    """How many lines from the first on are border."""
    if not len(lines):
        return 0
    low, high = lines.min(axis=1).astype(int), lines.max(axis=1).astype(int)
    tone = (low[0] + high[0]) // 2
    even = (high - low <= EVEN) & (np.abs((low + high) // 2 - tone) <= EVEN)
    return len(lines) if even.all() else int(np.argmin(even))
