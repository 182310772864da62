"""`faceaudit predict`: images to one table. The whole flow is on this screen."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from faceaudit.faces import ALIGNMENTS, FACE_POLICIES, open_detector
from faceaudit.images.find import find_images
from faceaudit.images.refs import ImageRef
from faceaudit.labels import Labels, open_labels
from faceaudit.models.bundle import DEFAULT_BUNDLE, Output
from faceaudit.models.load import load_model
from faceaudit.ordered import available_cores, in_chunks, in_order
from faceaudit.pipeline.checks import (
    DEFAULT_BATCH,
    DEFAULT_MAX_PIXELS,
    check_margin,
    check_output,
    checked,
    choose_outputs,
)
from faceaudit.pipeline.crops import CropSettings, crop_images
from faceaudit.pipeline.custody import describe, is_complete
from faceaudit.pipeline.extra import join_extra, make_schema, say_labels
from faceaudit.pipeline.scores import predicted_tasks, scores_of
from faceaudit.pipeline.table import column_lists, in_row_groups, open_table, to_arrow
from faceaudit.progress import progress
from faceaudit.runtimes import Runtime, open_runtime
from faceaudit.schema import AGE_BINS, DEFAULT_AGE_SCHEME, OK, TASK_OPTIONS, Task
from faceaudit.storage import exclusive

log = logging.getLogger(__name__)

FIRST_ROW = pc.field("face").is_null() | (pc.field("face") == 0)
"""One row of every image: its first face, or its only row."""


@dataclass(frozen=True)
class Prediction:
    """What a run did."""

    table: Path
    images: int
    faces: int
    statuses: Mapping[str, int]
    """Images by status."""
    seconds: float
    labels: str | None
    """The label format that was taken, or None."""
    already_complete: bool = False

    @property
    def failed(self) -> int:
        """Images without a scored face."""
        return self.images - self.statuses.get(OK, 0)


@dataclass(frozen=True)
class Plan:
    """Everything a worker needs to score a chunk of images."""

    crops: CropSettings
    runtime: Runtime
    outputs: tuple[Output, ...]
    age_bins: tuple[int, ...]
    schema: pa.Schema
    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Chunk:
    """Consecutive images with their labels and carried columns."""

    images: Sequence[ImageRef]
    extra: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def predict(
    images: str | Path,
    out: str | Path,
    *,
    model: str = DEFAULT_BUNDLE,
    detector: str = "retinaface",
    faces: str = "largest",
    align: str | None = None,
    margin: float | None = None,
    labels: str = "auto",
    provenance: str = "annotated",
    tasks: Sequence[str] = TASK_OPTIONS,
    age_bins: Sequence[int] = AGE_BINS[DEFAULT_AGE_SCHEME],
    limit: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    runtime: str | None = None,
    restart: bool = False,
    quiet: bool = True,
) -> Prediction:
    """Predict age, gender and race of every face in images, into one Parquet table.

    Every image gets at least one row; what became of it stands in ``status``.

    Args:
        images: A folder, an image, a glob, a list of paths or a tar.
        out: The table to write, ``name.parquet``; it appears when it is complete.
        model: A bundle that ships, a bundle's folder, an ``.onnx`` file with a sidecar, or
            ``package.module:factory``, a function that returns a torch network and its facts.
        detector: A name in ``faces.DETECTORS``.
        faces: A name in ``faces.FACE_POLICIES``.
        align: How crops are aligned; by default as the model was trained.
        margin: Widening of crops; by default as the model was trained.
        labels: ``auto``, ``none``, or a label format with an optional ``:PATH``.
        provenance: Where labels come from: ``annotated``, ``self-reported`` or ``predicted``.
        tasks: What to predict, of ``gender``, ``race`` and ``age``.
        age_bins: Lower bounds of the age groups, in years.
        limit: Take only the first so many images.
        max_pixels: Larger images are not decoded.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        batch_size: Images per chunk of work.
        workers: Threads that each read, detect and infer; by default one per core.
        runtime: A name in ``runtimes.RUNTIMES``; by default what fits the device.
        restart: Replace a table that was made with other inputs or options.
        quiet: Show no progress.

    Raises:
        FaceauditError: With what was given, where, and what would work.
    """
    begun = time.monotonic()
    out = check_output(Path(out), Path(images))
    bundle = load_model(model)
    outputs = choose_outputs(bundle, tasks)
    source = find_images(str(images))
    found = open_labels(labels, source, provenance=provenance)
    batches = list(source.batches(DEFAULT_BATCH))
    for note in source.notes:
        log.warning("images: %s", note)
    refs = [ref for batch in batches for ref in batch.refs][:limit]
    carried = None
    if source.carried_schema is not None:
        carried = pl.concat([batch.carried for batch in batches if batch.carried is not None])[
            :limit
        ]
    labelled = None if found is None else found.of([ref.name for ref in refs])
    say_labels(found, labels)
    extra = join_extra(labelled, carried, outputs, tuple(age_bins))
    settings = CropSettings(
        detector=open_detector(detector, device=device, threads=1),
        faces=checked("choice of faces", faces, FACE_POLICIES),
        size=bundle.input.size,
        align=checked("alignment", align or bundle.align, ALIGNMENTS),
        margin=bundle.margin if margin is None else check_margin(margin),
        offset=bundle.offset,
        max_pixels=max_pixels,
    )
    runner = open_runtime(
        bundle,
        outputs=[output.tensor for output in outputs],
        device=device,
        precision=precision,
        runtime=runtime,
    )
    metadata = describe(
        bundle, runner, settings, found, outputs, tuple(age_bins), refs, extra, limit
    )
    plan = Plan(
        crops=settings,
        runtime=runner,
        outputs=outputs,
        age_bins=tuple(age_bins),
        schema=make_schema(outputs, tuple(age_bins), extra, metadata),
        tasks=predicted_tasks(outputs, age_bins),
    )
    if bundle.notice:
        log.warning("model %s: %s", bundle.name, bundle.notice)
    with exclusive(out):
        if out.exists() and not restart and is_complete(out, metadata):
            return replace(summarise(out, begun, found), already_complete=True)
        threads = workers or available_cores()
        cv2.setNumThreads(1)  # parallel over images, not within one
        with (
            open_table(out, plan.schema) as writer,
            progress("predict", len(refs), quiet=quiet) as advance,
            closing(
                in_order(
                    partial(score, plan), chunks(refs, extra, batch_size or DEFAULT_BATCH), threads
                )
            ) as tables,
        ):
            for table in in_row_groups(counted(tables, advance), plan.schema):
                writer.write_table(table)
    return summarise(out, begun, found)


def score(plan: Plan, chunk: Chunk) -> pa.Table:
    """Rows of a chunk of images."""
    images = list(crop_images(chunk.images, plan.crops))
    crops = [crop for image in images for crop in image.crops]
    scores = None
    if crops:
        raw = plan.runtime.infer(np.stack(crops))
        scores = scores_of(raw, plan.outputs, plan.age_bins)
    return to_arrow(images, scores, plan.tasks, chunk.extra, plan.schema)


def chunks(refs: Sequence[ImageRef], extra: pl.DataFrame, size: int) -> Iterator[Chunk]:
    """Consecutive images with their share of the extra columns."""
    start = 0
    for part in in_chunks(refs, size):
        yield Chunk(part, column_lists(extra.slice(start, len(part))))
        start += len(part)


def counted(tables: Iterator[pa.Table], advance: Any) -> Iterator[pa.Table]:
    """The same tables; says how many images each one finished."""
    for table in tables:
        advance(len(table.filter(FIRST_ROW)))
        yield table


def summarise(out: Path, begun: float, labels: Labels | None) -> Prediction:
    """What a finished table holds."""
    rows = pq.read_table(out, columns=["status", "face"])
    per_image = rows.filter(FIRST_ROW)
    return Prediction(
        table=out,
        images=len(per_image),
        faces=len(rows) - rows["face"].null_count,
        statuses=dict(sorted(Counter(per_image["status"].to_pylist()).items())),
        seconds=time.monotonic() - begun,
        labels=None if labels is None else labels.format,
    )
