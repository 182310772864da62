"""What a run would have to do, found without doing or writing anything."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from faceaudit.images.find import find_images
from faceaudit.pipeline.known import Known
from faceaudit.pipeline.purged import read_purged
from faceaudit.pipeline.target import known_images
from faceaudit.storage import as_path, followed


@dataclass(frozen=True)
class Pending:
    """Images of a source, and how many of them a table lacks."""

    images: int
    new: int
    purged: int = 0
    """Images that were purged from the table, and are not scored again."""


def find_pending(
    images: str | Path, out: str | Path, limit: int | None = None, *, restart: bool = False
) -> Pending:
    """How many images of a source a table lacks, by their names.

    Args:
        images: As ``predict`` takes it.
        out: The table, which need not exist.
        limit: Take only the first so many images.
        restart: Whether what the table has is discarded.

    Raises:
        FaceauditError: If the images cannot be listed, or something else than a table is there.
    """
    table = followed(as_path(out))
    known, purged = Known([]) if restart else known_images(table), read_purged(table)
    count = new = passed_over = 0
    for ref in islice(find_images(images), limit):
        count += 1
        if purged.has(ref.name):
            passed_over += 1
        elif known.group_of(ref.name) is None:
            new += 1
    return Pending(count, new, passed_over)
