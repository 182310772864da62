"""Rows of the table: cropped images, their scores and their labels to Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from faceaudit.pipeline.crops import CroppedImage
from faceaudit.pipeline.scores import Floats, Scores
from faceaudit.schema import AGE_PRED, METADATA_KEY, TableMetadata, Task
from faceaudit.storage import atomic_write

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
    rows = [
        (position, number)
        for position, image in enumerate(images)
        for number in (range(len(image.faces)) or [None])
    ]
    columns: dict[str, Any] = {name: [] for name in schema.names}
    for position, number in rows:
        image = images[position]
        face = None if number is None else image.faces[number]
        values = (
            image.name, image.sha256, number, image.status, image.error, image.width, image.height,
            *((None,) * 4 if face is None else (face.x0, face.y0, face.x1, face.y1)),
            None if face is None else face.score,
        )  # fmt: skip
        for name, value in zip(schema.names, values, strict=False):
            columns[name].append(value)
    scored = np.asarray([number is not None for _, number in rows], bool)
    for task in tasks:
        probs = None if scores is None else scores.probs[task.name]
        columns[task.pred_column] = _classes(probs, task, scored)
        columns[task.probs_column] = _struct(probs, task, scored)
    if AGE_PRED in columns:
        age = None if scores is None else scores.age
        columns[AGE_PRED] = _spread(age, scored)
    for name, per_image in extra.items():
        further = name.endswith("_true")  # an image's label belongs to its first face
        columns[name] = [
            None if further and number else per_image[position] for position, number in rows
        ]
    arrays = [
        values if isinstance(values, pa.Array) else pa.array(values, field.type)
        for field, values in zip(schema, columns.values(), strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _spread(values: Floats | None, scored: np.ndarray[Any, np.dtype[np.bool_]]) -> pa.Array:
    """One value per row; null in the rows without a face."""
    full = np.zeros(len(scored), np.float32)
    if values is not None:
        full[scored] = values
    return pa.array(full, pa.float32(), mask=~scored)


def _classes(
    probs: Floats | None, task: Task, scored: np.ndarray[Any, np.dtype[np.bool_]]
) -> pa.Array:
    names = iter([] if probs is None else [task.classes[k] for k in probs.argmax(axis=1)])
    return pa.array([next(names) if face else None for face in scored], pa.string())


def _struct(
    probs: Floats | None, task: Task, scored: np.ndarray[Any, np.dtype[np.bool_]]
) -> pa.Array:
    arrays = [
        _spread(None if probs is None else probs[:, k], scored) for k in range(len(task.classes))
    ]
    fields = [pa.field(name, pa.float32()) for name in task.classes]
    return pa.StructArray.from_arrays(arrays, fields=fields, mask=pa.array(~scored))


@contextmanager
def open_table(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A Parquet writer whose file appears only when the block has ended without an error."""
    with (
        atomic_write(path) as file,
        pq.ParquetWriter(file, schema, compression="zstd", compression_level=3) as writer,
    ):
        yield writer


def in_row_groups(tables: Iterator[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """The same rows in tables of ``ROW_GROUP`` rows, whatever the sizes that come in."""
    held = schema.empty_table()
    for table in tables:
        held = pa.concat_tables([held, table])
        while len(held) >= ROW_GROUP:
            yield held.slice(0, ROW_GROUP)
            held = held.slice(ROW_GROUP)
    if len(held):
        yield held.combine_chunks()


def read_metadata(path: Path) -> TableMetadata | None:
    """What a Parquet file says of itself; None where faceaudit did not write it."""
    found = (pq.read_schema(path).metadata or {}).get(METADATA_KEY)
    return None if found is None else TableMetadata.from_json(found, str(path))


def column_lists(frame: pl.DataFrame) -> dict[str, list[Any]]:
    """Columns of a frame as lists."""
    return {name: frame[name].to_list() for name in frame.columns}
