"""Engines: chunks of images to tables of their rows, in order.

To add one: a class like ``LocalEngine``, and an entry in ``ENGINES``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from functools import partial
from importlib.util import find_spec
from typing import Protocol

import cv2
import numpy as np
import pyarrow as pa

from faceaudit.errors import MissingExtraError, TemporaryError
from faceaudit.models.bundle import Bundle
from faceaudit.ordered import available_cores, in_order
from faceaudit.pipeline.crops import crop_images
from faceaudit.pipeline.inputs import Chunk
from faceaudit.pipeline.plan import Facts, Plan, Settings
from faceaudit.pipeline.scores import scores_of
from faceaudit.pipeline.table import to_arrow

_ONE_AT_A_TIME = threading.RLock()


class Engine(Protocol):
    """Who does the work."""

    facts: Facts
    """Of what is done."""

    def tables(self, chunks: Iterable[Chunk]) -> Generator[pa.Table, None, None]:
        """Rows of each chunk, in the order of the chunks; closing it ends the work."""

    def close(self) -> None:
        """Let go of what was started."""


class LocalEngine:
    """Threads of this process, each of which takes a chunk through every step."""

    def __init__(self, settings: Settings, bundle: Bundle, workers: int | None) -> None:
        """Open detector and model.

        Args:
            settings: What the rows are made by.
            bundle: The model.
            workers: Threads; by default one per core.
        """
        self._plan = settings.open(bundle)
        self._workers = workers or available_cores()
        self.facts = self._plan.facts()

    def tables(self, chunks: Iterable[Chunk]) -> Generator[pa.Table, None, None]:
        quiet_threads()
        return in_order(partial(score, self._plan), chunks, self._workers)

    def close(self) -> None:
        pass


def _open_ray(settings: Settings, bundle: Bundle, workers: int | None) -> Engine:
    if find_spec("ray") is None:
        raise MissingExtraError("--engine ray", "ray")
    from faceaudit.pipeline.ray_engine import RayEngine

    return RayEngine(settings, bundle, workers)


ENGINES: dict[str, Callable[[Settings, Bundle, int | None], Engine]] = {
    "local": LocalEngine,
    "ray": _open_ray,
}


def quiet_threads() -> None:
    """Let OpenCV work in the thread that calls it: parallel over images, not within one."""
    cv2.setNumThreads(1)


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
