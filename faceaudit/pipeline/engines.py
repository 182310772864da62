"""Engines: chunks of images to tables of their rows, in order.

To add one: a function with this signature, and an entry in ``ENGINES``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from functools import partial

import cv2
import numpy as np
import pyarrow as pa

from faceaudit.errors import TemporaryError
from faceaudit.ordered import in_order
from faceaudit.pipeline.crops import crop_images
from faceaudit.pipeline.inputs import Chunk
from faceaudit.pipeline.plan import Plan
from faceaudit.pipeline.scores import scores_of
from faceaudit.pipeline.table import to_arrow

Engine = Callable[[Plan, Iterable[Chunk], int], Generator[pa.Table, None, None]]
"""Rows of each chunk, in the order of the chunks, by so many workers; closing it ends the work."""

_ONE_AT_A_TIME = threading.RLock()


def run_local(plan: Plan, chunks: Iterable[Chunk], workers: int) -> Generator[pa.Table, None, None]:
    """Threads of this process, each of which takes a chunk through every step."""
    cv2.setNumThreads(1)  # parallel over images, not within one
    return in_order(partial(score, plan), chunks, workers)


ENGINES: dict[str, Engine] = {"local": run_local}


def score(plan: Plan, chunk: Chunk) -> pa.Table:
    """Rows of a chunk of images; halves of it where the memory does not suffice.

    No row depends on its neighbors, so the rows are the same.

    Raises:
        TemporaryError: If the memory does not suffice for one image.
    """
    try:
        return rows_of(plan, chunk)
    except (MemoryError, cv2.error) as error:
        if isinstance(error, cv2.error) and error.code != cv2.Error.StsNoMem:
            raise
        if len(chunk) == 1:
            raise TemporaryError(
                f"{chunk.images[0].name}: the memory does not suffice for this image; "
                "use fewer --workers, or free some memory, and run again"
            ) from error
    with _ONE_AT_A_TIME:  # what others hold is freed meanwhile
        return pa.concat_tables([score(plan, half) for half in chunk.halves()])


def rows_of(plan: Plan, chunk: Chunk) -> pa.Table:
    """Rows of a chunk of images, all at once."""
    images = list(crop_images(chunk.images, plan.crops))
    crops = [crop for image in images for crop in image.crops]
    scores = None
    if crops:
        raw = plan.runtime.infer(np.stack(crops))
        scores = scores_of(raw, plan.outputs, plan.age_bins)
    return to_arrow(images, scores, plan.tasks, chunk.extra, plan.schema)
