"""`faceaudit prepare`: images to a folder of crops with their labels, which training reads.

The folder is itself a labeled image folder: ``metadata.parquet`` names every crop with its labels,
and ``faceaudit predict FOLDER out.parquet --detector whole`` reads it. ``faces.parquet`` has a row
for every image, also for those without a crop. Both record which classes the labels were chosen
from, so that nobody has to guess it from the labels that occur. ``view`` says of every crop what
it rests on: its width in terms of the face, and so what training sees of it, depends on that.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import polars as pl
import polars.selectors as cs
import pyarrow.parquet as pq
import simplejpeg
from pyarrow import ArrowInvalid

import faceaudit
from faceaudit.errors import UsageError
from faceaudit.faces import ALIGNMENTS, FACE_POLICIES, open_detector, view_kind
from faceaudit.images.find import find_images
from faceaudit.labels.annotations import counted
from faceaudit.labels.carried import TRUE
from faceaudit.ordered import available_cores, in_order
from faceaudit.pipeline.checks import (
    DEFAULT_BATCH,
    DEFAULT_MAX_PIXELS,
    check_margin,
    checked,
)
from faceaudit.pipeline.crops import CroppedImage, CropSettings, crop_images
from faceaudit.pipeline.extra import labels_of, warn_of
from faceaudit.pipeline.inputs import Chunk, Inputs
from faceaudit.progress import progress
from faceaudit.schema import METADATA_KEY, OK, TableMetadata
from faceaudit.storage import atomic_write, exclusive, make_folder, remove_unfinished

log = logging.getLogger(__name__)

CROPS, METADATA_FILE, FACES_FILE = "crops", "metadata.parquet", "faces.parquet"
CROP_FILES = "[0-9]*_[0-9]*.jpg"
JPEG_QUALITY = 95
FILES_PER_FOLDER = 4096


@dataclass(frozen=True)
class Preparation:
    """What a run did."""

    folder: Path
    images: int
    crops: int
    statuses: Mapping[str, int]
    seconds: float


def prepare(
    images: str | Path,
    folder: str | Path,
    *,
    detector: str = "retinaface",
    faces: str = "largest",
    align: str = "similarity",
    margin: float = 0.4,
    offset: float = 0.15,
    size: int = 192,
    labels: str = "auto",
    provenance: str = "annotated",
    limit: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    workers: int | None = None,
    quiet: bool = True,
) -> Preparation:
    """Detect, align and crop faces to a folder of JPEG files with a table of labels.

    The defaults leave room around the view that the shipped recipe trains on, so that training can
    move, turn and scale it.

    Args:
        images: What ``predict`` takes.
        folder: Created where it does not exist; its tables are written last.
        detector: A name in ``faces.DETECTORS``.
        faces: A name in ``faces.FACE_POLICIES``.
        align: A name in ``faces.ALIGNMENTS``.
        margin: Widening of the view.
        offset: Downward shift of an aligned view's center, in template sides.
        size: Height and width of the crops, pixels.
        labels: ``auto``, ``none``, or a label format with an optional ``:PATH``.
        provenance: Where labels come from.
        limit: Take only the first so many images.
        max_pixels: Larger images are not decoded.
        workers: Threads; by default one per core.
        quiet: Show no progress.

    Raises:
        FaceauditError: With what was given, where, and what would work.
    """
    begun = time.monotonic()
    folder = Path(folder)
    source = find_images(images)
    chosen = labels_of(source, labels, provenance)
    inputs = Inputs(source, chosen.labels, (), (), limit, chosen.notes)
    chunks = list(inputs.chunks(DEFAULT_BATCH))
    annotated = _annotated(inputs, chunks)
    warn_of(source.notes, inputs.notes())
    settings = CropSettings(
        detector=open_detector(detector, threads=1),
        faces=checked("choice of faces", faces, FACE_POLICIES),
        size=size,
        align=checked("alignment", align, ALIGNMENTS),
        margin=check_margin(margin),
        offset=offset,
        max_pixels=max_pixels,
    )
    check_apart(Path(images), folder)
    _check_ours(folder)
    make_folder(folder)
    cv2.setNumThreads(1)
    rows: list[dict[str, Any]] = []
    work = partial(_write_crops, settings, folder)
    with (
        exclusive(folder / METADATA_FILE),
        progress("prepare", sum(map(len, chunks)), quiet=quiet) as advance,
        closing(
            in_order(
                work,
                enumerate(chunk.images for chunk in chunks),
                workers or available_cores(),
            )
        ) as results,
    ):
        for name in (FACES_FILE, METADATA_FILE):  # of an earlier run, whose crops are replaced
            (folder / name).unlink(missing_ok=True)
        for done in results:
            rows += done
            advance(sum(row["face"] in (None, 0) for row in done))
        table = pl.DataFrame(rows, infer_schema_length=None)
        if annotated.width > 1:
            table = table.join(annotated, on="image", how="left", maintain_order="left")
            first_face = pl.col("face").fill_null(0) == 0  # whose the label of an image is
            table = table.with_columns(pl.when(first_face).then(cs.ends_with("_true")))
        metadata = TableMetadata(
            tasks=(),
            labels={} if chosen.labels is None else chosen.labels.facts(),
            version=faceaudit.__version__,
        )
        faces_table = table.drop("file_name", "align", "margin", "offset", "view")
        _write(folder / FACES_FILE, faces_table, metadata)
        crops = table.filter(pl.col("file_name").is_not_null())
        if others := _remove_others(folder, set(crops["file_name"])):
            log.warning("%s: %s of an earlier run removed", folder, counted(others, "crop"))
        _write(folder / METADATA_FILE, crops.drop("status", "error", "face"), metadata)
    first = [row for row in rows if row["face"] in (None, 0)]
    return Preparation(
        folder=folder,
        images=len(first),
        crops=len(crops),
        statuses=dict(sorted(Counter(row["status"] for row in first).items())),
        seconds=time.monotonic() - begun,
    )


def _annotated(inputs: Inputs, chunks: Sequence[Chunk]) -> pl.DataFrame:
    """The name and what is annotated of every image; of two of one name the first's."""
    columns = [name for name in inputs.columns if name.endswith(TRUE)]
    names = [ref.name for chunk in chunks for ref in chunk.images]
    values = {name: [value for chunk in chunks for value in chunk.extra[name]] for name in columns}
    kinds = inputs.extra.select(columns).insert_column(0, pl.Series("image", [], pl.String)).schema
    return pl.DataFrame({"image": names, **values}, kinds).unique("image", keep="first")


def check_apart(images: Path, folder: Path) -> None:
    """Check that no crop lies among the images, and no image among the crops.

    Raises:
        UsageError: If one does: the next run would take crops for images, or write over images.
    """
    source, target = images.resolve(), folder.resolve()
    within = target.is_relative_to(source) or source.is_relative_to(target / CROPS)
    if str(images) and images.is_dir() and within:
        raise UsageError(
            f"{folder}: images and crops would lie in one folder, where the next run takes crops "
            f"for images; give a folder outside of {images}"
        )


def _check_ours(folder: Path) -> None:
    """Refuse to replace a table that ``prepare`` did not write, such as labels of the user's own.

    Raises:
        UsageError: If the folder has one.
    """
    for path in (folder / FACES_FILE, folder / METADATA_FILE):
        if path.exists():
            try:
                known = pq.read_schema(path).metadata or {}
            except (OSError, ArrowInvalid):
                known = {}
            if METADATA_KEY not in known:
                raise UsageError(
                    f"{path}: was not written by `faceaudit prepare`; give another folder"
                )


def _remove_others(folder: Path, written: set[str]) -> int:
    """Remove crops that an earlier run wrote and this one did not; how many whole ones."""
    removed = 0
    for inner in folder.glob(f"{CROPS}/[0-9][0-9][0-9][0-9]"):
        remove_unfinished(inner, CROP_FILES)
        for path in inner.glob(CROP_FILES):
            if path.relative_to(folder).as_posix() not in written:
                path.unlink()
                removed += 1
    return removed


def _write_crops(
    settings: CropSettings, folder: Path, numbered: tuple[int, Sequence[Any]]
) -> list[dict[str, Any]]:
    """Write the crops of a chunk of images; one row per face, or per image without one."""
    number, refs = numbered
    rows = []
    for position, image in enumerate(crop_images(refs, settings)):
        index = number * DEFAULT_BATCH + position
        for row in _rows_of(image, settings):
            if row["face"] is not None:
                part = f"{index // FILES_PER_FOLDER:04d}"
                row["file_name"] = f"{CROPS}/{part}/{index:08d}_{row['face']}.jpg"
                path = folder / row["file_name"]
                make_folder(path.parent)
                data = simplejpeg.encode_jpeg(
                    image.crops[row["face"]],
                    JPEG_QUALITY,
                    colorspace="RGB",
                    colorsubsampling="444",
                )
                with atomic_write(path, durable=False) as file:
                    file.write(data)
            rows.append(row)
    return rows


def _rows_of(image: CroppedImage, settings: CropSettings) -> Iterator[dict[str, Any]]:
    for face in range(len(image.crops)) if image.status == OK else [None]:
        yield {
            "file_name": None,
            "image": image.name,
            "sha256": image.sha256,
            "face": face,
            "status": image.status,
            "error": image.error,
            "align": settings.align,
            "margin": settings.margin,
            "offset": settings.offset,
            "view": None if face is None else view_kind(image.faces[face], settings.align),
        }


def _write(path: Path, table: pl.DataFrame, metadata: TableMetadata) -> None:
    """Write a table that says of itself which schemes its labels are of."""
    found = table.to_arrow().replace_schema_metadata({METADATA_KEY: metadata.to_json()})
    with atomic_write(path) as file:
        pq.write_table(found, file, compression="zstd")
