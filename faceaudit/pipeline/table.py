"""Rows of the table: cropped images, their scores and their labels to Arrow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from faceaudit.pipeline.crops import CANNOT_BE_READ, CroppedImage
from faceaudit.pipeline.scores import Scores
from faceaudit.schema import AGE_PRED, Task
from faceaudit.storage import atomic_write

OF_IMAGES = {
    "image": "name", "sha256": "sha256", "status": "status", "error": "error",
    "width": "width", "height": "height",
}  # fmt: skip
OF_FACES = {
    "box_x0": "x0", "box_y0": "y0", "box_x1": "x1", "box_y1": "y1", "detection_score": "score"
}  # fmt: skip
"""Columns of the table, and the facts of an image or a face that they hold."""

ROW_GROUP = 16_384
"""Rows that are written at once: few enough to hold, enough to compress well."""


def to_arrow(
    images: Sequence[CroppedImage],
    scores: Scores | None,
    tasks: Sequence[Task],
    extra: Mapping[str, Sequence[Any]],
    schema: pa.Schema,
) -> pa.Table:
    """Rows of a chunk of images: one per face, one for an image without a usable face.

    Args:
        images: In order.
        scores: Of all their faces, in order; None where there is no face among them.
        tasks: Those with columns in the table.
        extra: Labels and carried columns, one value per image.
        schema: Of the table.
    """
    count = np.asarray([len(image.faces) for image in images], np.int64)
    rows = np.maximum(count, 1)
    image_of = np.repeat(np.arange(len(images)), rows)
    number = np.arange(len(image_of)) - np.repeat(np.cumsum(rows) - rows, rows)
    scored = count[image_of] > 0
    face_of = pa.array(np.cumsum(scored) - 1, mask=~scored)  # null where there is no face
    types = dict(zip(schema.names, schema.types, strict=True))
    per_image = {
        name: pa.array([getattr(image, fact) for image in images], types[name])
        for name, fact in OF_IMAGES.items()
    } | {name: pa.array(values, types[name]) for name, values in extra.items()}
    faces = [face for image in images for face in image.faces]
    per_face = {
        name: pa.array([getattr(face, fact) for face in faces], types[name])
        for name, fact in OF_FACES.items()
    } | _scored(scores, tasks, types)
    columns = per_image | per_face
    if not (count == 1).all():
        columns = _taken(per_image, image_of) | _taken(per_face, face_of)
    columns["face"] = pa.array(number, types["face"], mask=~scored)
    if silence := _silence(scores, tasks):
        of_row = pa.array(silence, pa.string()).take(face_of)
        columns["error"] = pc.coalesce(columns["error"], of_row)
    for name in extra:
        if name.endswith("_true"):  # an image's label belongs to its first face
            columns[name] = pc.if_else(pa.array(number == 0), columns[name], None)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _scored(
    scores: Scores | None, tasks: Sequence[Task], types: Mapping[str, pa.DataType]
) -> dict[str, pa.Array]:
    """Columns of classes, probabilities and ages, one value per face."""
    columns: dict[str, pa.Array] = {}
    for task in tasks:
        probs = np.empty((0, len(task.classes))) if scores is None else scores.probs[task.name]
        unknown = np.isnan(probs[:, 0])
        best = pa.array(probs.argmax(axis=1), mask=unknown)
        columns[task.pred_column] = pa.array(task.classes, pa.string()).take(best)
        parts = [pa.array(column, pa.float32(), mask=unknown) for column in probs.T]
        columns[task.probs_column] = pa.StructArray.from_arrays(
            parts, names=task.classes, mask=pa.array(unknown)
        )
    if AGE_PRED in types:
        age = np.empty(0, np.float32) if scores is None or scores.age is None else scores.age
        columns[AGE_PRED] = pa.array(age, types[AGE_PRED], mask=np.isnan(age))
    return columns


def _silence(scores: Scores | None, tasks: Sequence[Task]) -> list[str | None]:
    """What is said of each face that the network gave no number for; empty where there is none."""
    if scores is None:
        return []
    missing = {task.name: np.isnan(scores.probs[task.name][:, 0]) for task in tasks}
    if not any(of_task.any() for of_task in missing.values()):
        return []
    found: list[str | None] = []
    for row in zip(*missing.values(), strict=True):
        names = ", ".join(name for name, lacks in zip(missing, row, strict=True) if lacks)
        found.append(f"the model's output for {names} is no finite number" if names else None)
    return found


def _taken(columns: Mapping[str, pa.Array], places: Any) -> dict[str, pa.Array]:
    """The values of all columns at these places."""
    taken = pa.RecordBatch.from_pydict(columns).take(pa.array(places))
    return dict(zip(columns, taken.columns, strict=True))


@contextmanager
def open_table(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet writer whose file appears only when the block has ended without an error."""
    with (
        atomic_write(path) as file,
        pq.ParquetWriter(file, schema, compression="zstd", compression_level=3) as writer,
    ):
        yield writer


def in_row_groups(tables: Iterator[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The same rows in tables of ``ROW_GROUP`` rows, whatever the sizes that come in.

    Each is in one piece: what Parquet writes depends on how a table is cut.
    """
    held = schema.empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        while len(held) >= ROW_GROUP:
            yield held.slice(0, ROW_GROUP).combine_chunks()
            held = held.slice(ROW_GROUP)
    if len(held):
        yield held.combine_chunks()


def is_first_row(table: pa.Table) -> pa.ChunkedArray:
    """Whether each row is the first of its image: its first face, or its only row."""
    face = table["face"]
    return pc.or_kleene(pc.is_null(face), pc.fill_null(pc.equal(face, 0), False))


def is_never_read(table: pa.Table) -> pa.ChunkedArray:
    """Whether each row is of a file whose bytes could not be read, as one that was away."""
    reason = pc.fill_null(pc.starts_with(table["error"], CANNOT_BE_READ), False)
    return pc.and_(pc.is_null(table["sha256"]), reason)


def without_replaced(open_tables: Callable[[], Iterable[pa.Table]]) -> Iterator[pa.Table]:
    """Rows without those of files that could not be read and have a later row.

    Args:
        open_tables: Gives the rows, again at each call.
    """
    unread = {
        name
        for table in open_tables()
        for name in table.filter(is_never_read(table))["image"].to_pylist()
    }
    rows = Counter(
        name
        for table in open_tables()
        for name in table.filter(is_first_row(table))["image"].to_pylist()
        if name in unread
    )
    left = rows - Counter(rows.keys())
    for table in open_tables():
        keep = np.ones(len(table), bool)
        for row in np.flatnonzero(is_never_read(table).to_numpy()):
            name = table["image"][int(row)].as_py()
            if left[name] > 0:
                left[name] -= 1
                keep[row] = False
        yield table.filter(pa.array(keep))


def column_lists(frame: pl.DataFrame) -> dict[str, list[Any]]:
    """Columns of a frame as lists."""
    return {name: frame[name].to_list() for name in frame.columns}
