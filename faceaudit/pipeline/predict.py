"""`faceaudit predict`: images to one table. The whole flow is on this screen."""

from __future__ import annotations

import hashlib
import json
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

import faceaudit
from faceaudit.errors import InputError, UnknownNameError, UsageError
from faceaudit.faces import ALIGNMENTS, FACE_POLICIES, open_detector
from faceaudit.images.find import find_images
from faceaudit.images.refs import ImageRef, ImageSource
from faceaudit.labels import Labels, read_labels
from faceaudit.models.bundle import DEFAULT_BUNDLE, Bundle, Output, load_bundle
from faceaudit.pipeline.crops import CropSettings, crop_images
from faceaudit.pipeline.ordered import available_cores, in_chunks, in_order
from faceaudit.pipeline.progress import progress
from faceaudit.pipeline.scores import predicted_tasks, scores_of
from faceaudit.pipeline.table import (
    column_lists,
    in_row_groups,
    open_table,
    read_metadata,
    to_arrow,
)
from faceaudit.runtimes import Runtime, open_runtime
from faceaudit.schema import (
    AGE_BINS,
    AGE_GROUP,
    AGE_PRED,
    AGE_TRUE,
    DEFAULT_AGE_SCHEME,
    OK,
    TASK_OPTIONS,
    TableMetadata,
    Task,
    age_group_task,
    table_schema,
)
from faceaudit.storage import exclusive

log = logging.getLogger(__name__)

DEFAULT_MAX_PIXELS = 100_000_000
DEFAULT_BATCH = 64
MARGINS = (-0.4, 2.0)
"""Widening of crops that leaves a view, and one that fits in memory."""

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
        model: A bundle that ships, a bundle's folder, or an ``.onnx`` file with a sidecar.
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
    bundle = load_bundle(model)
    outputs = choose_outputs(bundle, tasks)
    source = find_images(str(images))
    for note in source.notes:
        log.warning("images: %s", note)
    refs = source.images[:limit]
    found = read_labels(labels, [ref.name for ref in refs], source.folder, provenance=provenance)
    say_labels(found, labels)
    extra = join_extra(source, found, outputs, tuple(age_bins), len(refs))
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
        outputs=[output.output for output in outputs],
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
    if notice := bundle.card.get("notice"):
        log.warning("model %s: %s", bundle.name, notice)
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


def check_margin(margin: float) -> float:
    """The widening of crops.

    Raises:
        UsageError: If no crop can be cut with it.
    """
    if not MARGINS[0] <= margin <= MARGINS[1]:
        raise UsageError(f"--margin {margin:g}: give a number from {MARGINS[0]} to {MARGINS[1]}")
    return margin


def check_output(out: Path, images: Path) -> Path:
    """The output path.

    Raises:
        UsageError: If it does not end in ``.parquet``, or is the list of images itself.
        InputError: If its folder does not exist.
    """
    if out.suffix != ".parquet":
        raise UsageError(f"{out}: the table is a Parquet file; name it {out.name}.parquet")
    try:
        is_folder, has_folder, exists = out.is_dir(), out.parent.is_dir(), out.exists()
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); choose another") from error
    if is_folder or not has_folder:
        what = "is a folder" if is_folder else f"there is no folder {out.parent}"
        raise InputError(f"{out}: {what}; give the path of a file in an existing folder")
    if exists and out.resolve() == images.resolve():
        raise UsageError(f"{out}: is the list of images; give the table another name")
    return out


def checked(kind: str, given: str, known: Mapping[str, Any]) -> str:
    """A name that is in a registry."""
    if given not in known:
        raise UnknownNameError(kind, given, known)
    return given


def choose_outputs(bundle: Bundle, tasks: Sequence[str]) -> tuple[Output, ...]:
    """The outputs of a bundle for the tasks asked for.

    Raises:
        UnknownNameError: If there is no such task.
        UsageError: If the bundle predicts none of them.
    """
    for name in tasks:
        if name not in TASK_OPTIONS:
            raise UnknownNameError("task", name, TASK_OPTIONS)
    chosen = tuple(output for output in bundle.tasks if task_option(output.name) in tasks)
    if not chosen:
        has = ", ".join(output.name for output in bundle.tasks)
        raise UsageError(f"--tasks {','.join(tasks)}: model {bundle.name} predicts only {has}")
    return chosen


def task_option(name: str) -> str:
    """What ``--tasks`` calls an output."""
    return "age" if name == AGE_GROUP else name


def say_labels(found: Labels | None, spec: str) -> None:
    """Log which labels were taken and what was wrong with them."""
    if found is None:
        if spec == "auto":
            log.info("labels: none found")
        return
    log.info("labels: %s, from %s (%s)", found.format, found.source, found.provenance)
    for note in found.notes:
        log.warning("labels: %s", note)


def join_extra(
    source: ImageSource,
    labels: Labels | None,
    outputs: Sequence[Output],
    age_bins: tuple[int, ...],
    count: int,
) -> pl.DataFrame:
    """Label columns and carried columns, one row per image in order."""
    frames = []
    if labels is not None:
        frame = labels.frame.drop("image")
        years = any(output.activation == "years" for output in outputs)
        if AGE_TRUE in frame.columns and f"{AGE_GROUP}_true" not in frame.columns and years:
            task = age_group_task(age_bins)
            known = pl.col(AGE_TRUE).fill_null(0)  # a null would be sorted before the first bound
            position = pl.lit(pl.Series(age_bins)).search_sorted(known, side="right") - 1
            groups = pl.lit(pl.Series(task.classes)).gather(position)
            group = pl.when(pl.col(AGE_TRUE).is_not_null()).then(groups)
            frame = frame.with_columns(group.alias(task.true_column))
        frames.append(frame)
    if source.carried is not None:
        taken = set(frames[0].columns) if frames else set()
        frames.append(source.carried.head(count).drop(taken, strict=False))
    return annotations_first(pl.concat(frames, how="horizontal")) if frames else pl.DataFrame()


def annotations_first(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns that end in ``_true`` before others, as the table has them: text, years as numbers.

    What is no number among the years is null.
    """
    named = [name for name in frame.columns if name.endswith("_true")]
    texts = [name for name in named if name != AGE_TRUE]
    years = [name for name in named if name == AGE_TRUE]
    return frame.select(*named, pl.exclude(named)).with_columns(
        pl.col(texts).cast(pl.String), pl.col(years).cast(pl.Float32, strict=False)
    )


def make_schema(
    outputs: Sequence[Output],
    age_bins: tuple[int, ...],
    extra: pl.DataFrame,
    metadata: TableMetadata,
) -> pa.Schema:
    """The table's schema, known before the first image is read."""
    labels = [name for name in extra.columns if name.endswith("_true")]
    carried = [field for field in extra.head(0).to_arrow().schema if field.name not in labels]
    tasks = predicted_tasks(outputs, age_bins)
    with_age = any(output.activation == "years" for output in outputs)
    taken = {*table_schema(tasks, with_age=with_age).names, AGE_PRED}
    for field_ in carried:
        if field_.name in taken:
            raise InputError(f"column {field_.name!r} of the list of images: the table has one too")
    return table_schema(tasks, with_age=with_age, labels=labels, carried=carried, metadata=metadata)


def describe(
    bundle: Bundle,
    runner: Runtime,
    settings: CropSettings,
    labels: Labels | None,
    outputs: Sequence[Output],
    age_bins: tuple[int, ...],
    refs: Sequence[ImageRef],
    extra: pl.DataFrame,
    limit: int | None,
) -> TableMetadata:
    """What the table says of itself: the chain of custody."""
    facts = runner.facts()
    return TableMetadata(
        tasks=predicted_tasks(outputs, age_bins),
        model={
            "name": bundle.name,
            "sha256": bundle.sha256,
            "licence": bundle.licence,
            "training_data": bundle.training_data,
            "card": dict(bundle.card),
        },
        detector=settings.detector.facts(),
        preprocessing={
            "faces": settings.faces,
            "align": settings.align,
            "margin": settings.margin,
            "offset": settings.offset,
            "size": settings.size,
            "max_pixels": settings.max_pixels,
            "runtime": facts,
        },
        precision=facts["precision"],
        labels={}
        if labels is None
        else {
            "format": labels.format,
            "source": Path(labels.source).name,
            "provenance": labels.provenance,
            "tasks": [vars(task) for task in labels.tasks],
            "notes": list(labels.notes),
        },
        version=faceaudit.__version__,
        options={
            "age_bins": list(age_bins),
            "images": len(refs),
            "limit": limit,
            "inputs": fingerprint(refs),
            "labels": hashlib.sha256(extra.rechunk().write_ipc(None).getvalue()).hexdigest(),
        },
    )


def fingerprint(refs: Sequence[ImageRef]) -> str:
    """Hash of the names, sizes and times of input files: whether they are the same as last time."""
    digest = hashlib.sha256()
    for ref in refs:
        try:
            found = ref.path.stat()
            facts = f"{found.st_size} {found.st_mtime_ns}"
        except OSError:
            facts = "missing"
        digest.update(f"{ref.name}\0{ref.offset}\0{facts}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def is_complete(out: Path, metadata: TableMetadata) -> bool:
    """Whether a table is what this run would write.

    Raises:
        UsageError: If it was made with other inputs, options or another model.
    """
    try:
        found = read_metadata(out)
    except (pa.ArrowInvalid, OSError):
        found = None
    if found is None:
        raise UsageError(f"{out}: exists and is not a faceaudit table; --restart replaces it")
    old, new = json.loads(found.to_json()), json.loads(metadata.to_json())
    differing = [name for name in new if old[name] != new[name] and name != "options"]
    made = old["options"]
    differing += [name for name, given in new["options"].items() if made.get(name) != given]
    if not differing:
        return True
    raise UsageError(
        f"{out}: exists and was made with another {' and '.join(differing)}; "
        "--restart replaces it, or give another name"
    )


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
