"""Crops in batches, made a few ahead of the network that learns from them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from faceaudit.ordered import available_cores, in_order
from faceaudit.training.data import DECODING_ERRORS, CropSet, Pixels, read_crop, training_view
from faceaudit.training.distillation import NO_TEACHERS, Teachers
from faceaudit.training.recipe import Augmentation

ASKING = 2
"""Threads that ask the teachers about views that processes made."""


@dataclass(frozen=True)
class Batch:
    """Pixels as they are, before normalization, and labels of one step."""

    images: Pixels  # (N, S, S, 3) RGB
    labels: dict[str, NDArray[np.int64]]  # (N,) each
    skipped: tuple[Path, ...] = ()
    """Crops that could not be decoded: they are not in the batch, which is smaller for it."""
    taught: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Teachers' logits of the images by output, (N, K) each; empty without teachers."""


def batches(
    crops: CropSet,
    order: Sequence[int],
    size: int,
    batch: int,
    augmentation: Augmentation | None,
    seed: tuple[int, ...],
    first: int = 0,
    teachers: Teachers = NO_TEACHERS,
    device: str = "cpu",
) -> Iterator[Batch]:
    """Batches in a given order, made a few ahead on all cores, which ask the teachers too.

    What a crop looks like depends on the seed and its position in the order alone, so a run that
    goes on at batch ``first`` sees what the uninterrupted run would have seen. Views are made by
    threads; for a GPU by processes, as it learns faster than threads that hold Python's lock in
    turn can make them.
    """
    views = _Views(crops, order, size, batch, augmentation, seed)
    starts = range(first * batch, len(order), batch)
    ask = partial(_taught, crops, teachers)
    if not device.startswith("cuda"):
        yield from in_order(lambda start: ask(views[start]), starts, _own_cores())
        return
    made: DataLoader[_Made] = DataLoader(
        views,
        sampler=starts,
        batch_size=None,
        num_workers=min(_own_cores(), max(1, len(starts))),
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_one_thread,
    )
    yield from in_order(ask, made, ASKING)


def _own_cores() -> int:
    """Cores for this process, of those that it shares with others of ``torchrun``."""
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


_Made = tuple[Tensor, list[int], list[int]]
"""Views (N, S, S, 3) uint8, which crops they are of, and which crops could not be decoded."""


@dataclass(frozen=True)
class _Views(Dataset[_Made]):
    """The views of the batch that begins at each position of an order."""

    crops: CropSet
    order: Sequence[int]
    size: int
    batch: int
    augmentation: Augmentation | None
    seed: tuple[int, ...]

    def __getitem__(self, start: int) -> _Made:
        found, rows, skipped = [], [], []
        for k, row in enumerate(self.order[start : start + self.batch]):
            try:
                crop = read_crop(self.crops.files[row])
            except DECODING_ERRORS:
                skipped.append(row)
                continue
            view, seed = float(self.crops.views[row]), (*self.seed, start + k)
            found.append(training_view(crop, self.size, view, self.augmentation, seed))
            rows.append(row)
        images = np.stack(found) if found else np.empty((0, self.size, self.size, 3), np.uint8)
        return torch.from_numpy(images), rows, skipped


def _taught(crops: CropSet, teachers: Teachers, made: _Made) -> Batch:
    """A batch of views with their labels and what teachers say of them."""
    views, rows, skipped = made
    images: Pixels = views.numpy()
    labels = {name: values[rows] for name, values in crops.labels.items()}
    files = tuple(crops.files[row] for row in skipped)
    return Batch(images, labels, files, teachers.logits(images))


def _as_it_is(made: Any) -> Any:
    """What a loader would otherwise turn into tensors."""
    return made


def _one_thread(worker: int) -> None:
    """Keep a process that makes views to one core: there is one for each."""
    cv2.setNumThreads(1)
