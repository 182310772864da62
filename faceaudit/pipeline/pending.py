"""What a run would have to do, found without doing or writing anything."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from faceaudit.images.find import find_images
from faceaudit.pipeline.target import known_images
from faceaudit.storage import as_path, followed


@dataclass(frozen=True)
class Pending:
    """Images of a source, and how many of them a table lacks."""

    images: int
    new: int


def find_pending(images: str | Path, out: str | Path, limit: int | None = None) -> Pending:
    """How many images of a source a table lacks, by their names.

    Args:
        images: As ``predict`` takes it.
        out: The table, which need not exist.
        limit: Take only the first so many images.

    Raises:
        FaceauditError: If the images cannot be listed, or something else than a table is there.
    """
    known = known_images(followed(as_path(out)))
    count = new = 0
    for ref in islice(find_images(images), limit):
        count += 1
        new += known.group_of(ref.name) is None
    return Pending(count, new)
