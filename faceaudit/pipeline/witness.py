"""Whether images can still be seen: one that cannot be read is a row, all of them end the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from faceaudit.errors import InputError, TemporaryError
from faceaudit.images.refs import MISSING, ImageRef, refusal_of
from faceaudit.pipeline.inputs import Inputs
from faceaudit.pipeline.table import is_never_read
from faceaudit.storage import identity

GONE = (
    "the images are gone since the run began; what was scored is kept: bring them back and run the "
    "same command"
)
REFUSED = (
    "the storage refuses images that it gave before; what was scored is kept: renew the "
    "credentials and run the same command"
)


class Watch:
    """What a run keeps in mind of its images, to tell when none can be read any more."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._read: ImageRef | None = None
        """One that was read."""

    def check(self, images: Sequence[ImageRef], table: pa.Table) -> None:
        """Look at the rows of some images.

        Raises:
            TemporaryError: If the images are gone, such as with the volume they lay on, or their
                store refuses one that it gave before.
            InputError: If the store refuses them from the beginning.
        """
        if self._read is None:
            self._read = _first_read(images, table)
        unread = is_never_read(table)
        if not pc.any(unread).as_py():
            return
        source = self._inputs.source.source
        if self._inputs.are_gone():
            raise TemporaryError(f"{source}: {GONE}")
        if self._read is not None:
            if refusal_of(self._read) is not None:
                raise TemporaryError(f"{source}: {REFUSED}")
        elif pc.all(unread).as_py() and (refusal := refusal_of(images[0])) is not None:
            raise InputError(f"{source}: {refusal}") from refusal


def _first_read(images: Sequence[ImageRef], table: pa.Table) -> ImageRef | None:
    """The first image whose bytes were read."""
    read = table["image"].filter(pc.is_valid(table["sha256"]))
    name = read[0].as_py() if len(read) else None
    return next((image for image in images if image.name == name), None)


@dataclass(frozen=True)
class Witness:
    """An image that tells whether a machine sees the images."""

    image: ImageRef
    seen: str
    """What the machine of the run sees of it."""

    @classmethod
    def of(cls, images: Sequence[ImageRef]) -> Witness | None:
        """The first image that is seen here; None where none is."""
        for image in images:
            path = image.path if _is_address(image) else str(Path(image.path).absolute())
            found = replace(image, path=path)
            if (seen := _seen(found)) != MISSING:
                return cls(found, seen)
        return None

    def is_seen(self) -> bool:
        """Whether the same is seen of it from here."""
        return _seen(self.image) == self.seen

    def folder(self) -> tuple[int, int] | None:
        """What tells its folder from another of this name here; None for an address."""
        return None if _is_address(self.image) else identity(Path(self.image.path).parent)

    def lost(self, folder: tuple[int, int] | None) -> str | None:
        """What is said where the images can be seen no more; None where they can.

        Args:
            folder: What ``folder`` gave when the images were seen.
        """
        if _is_address(self.image):
            return None if refusal_of(self.image) is None else REFUSED
        return None if self.folder() == folder else GONE


def _is_address(image: ImageRef) -> bool:
    return "://" in image.path


def _seen(image: ImageRef) -> str:
    """The size of the file that holds an image, and on a store its version."""
    stamp = replace(image, version=None, offset=None).stamp()
    return stamp if _is_address(image) else stamp.split(" ")[0]
