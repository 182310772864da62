"""Columns that come with the images: annotations, and what a list or a tar carries."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import polars as pl
import pyarrow as pa

from faceaudit.images.source import ImageSource
from faceaudit.labels import AUTO, Labels, none_found
from faceaudit.labels.annotations import SAMPLE
from faceaudit.models.bundle import Output
from faceaudit.pipeline.carried import TRUE, check_names
from faceaudit.pipeline.scores import predicted_tasks
from faceaudit.schema import (
    AGE_GROUP,
    AGE_PRED,
    AGE_TRUE,
    age_group_task,
    table_schema,
)

log = logging.getLogger(__name__)


def say_labels(
    found: Labels | None, spec: str, source: ImageSource, own: Sequence[str] = ()
) -> None:
    """Log which labels were taken.

    Args:
        found: The labels.
        spec: How they were asked for.
        source: The images.
        own: Annotated columns that are taken from the source itself.
    """
    if own:
        log.info("labels: %s, from %s itself", ", ".join(own), source.source)
    if found is None:
        if spec == AUTO and not own:
            log.info("labels: %s", none_found([ref.name for ref in source.first(SAMPLE)]))
        return
    log.info("labels: %s, from %s (%s)", found.format, found.source, found.provenance)


def warn_of(images: Iterable[str], labels: Iterable[str]) -> None:
    """Log what was wrong with the images and their labels."""
    for note in images:
        log.warning("images: %s", note)
    for note in labels:
        log.warning("labels: %s", note)


def join_extra(
    labels: pl.DataFrame | None,
    carried: pl.DataFrame | None,
    outputs: Sequence[Output],
    age_bins: tuple[int, ...],
) -> pl.DataFrame:
    """Label columns and carried columns of the same images, one row each."""
    frames = []
    if labels is not None:
        frame = labels
        years = any(output.is_age for output in outputs)
        if AGE_TRUE in frame.columns and f"{AGE_GROUP}{TRUE}" not in frame.columns and years:
            task = age_group_task(age_bins)
            known = pl.col(AGE_TRUE).fill_null(0)  # a null would be sorted before the first bound
            position = pl.lit(pl.Series(age_bins)).search_sorted(known, side="right") - 1
            groups = pl.lit(pl.Series(task.classes)).gather(position)
            group = pl.when(pl.col(AGE_TRUE).is_not_null()).then(groups)
            frame = frame.with_columns(group.alias(task.true_column))
        frames.append(frame)
    if carried is not None:
        frames.append(carried)
    return annotations_first(pl.concat(frames, how="horizontal")) if frames else pl.DataFrame()


def annotations_first(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns that end in ``_true`` before others; classes as text, as the table has them."""
    named = [name for name in frame.columns if name.endswith(TRUE)]
    texts = [name for name in named if name != AGE_TRUE]
    return frame.select(*named, pl.exclude(named)).with_columns(pl.col(texts).cast(pl.String))


def make_schema(
    outputs: Sequence[Output],
    age_bins: tuple[int, ...],
    extra: pl.DataFrame,
) -> pa.Schema:
    """The table's schema, known before the first image is read.

    Raises:
        InputError: If a column beside the images has a name that the table needs.
    """
    labels = [name for name in extra.columns if name.endswith(TRUE)]
    carried = [field for field in extra.head(0).to_arrow().schema if field.name not in labels]
    tasks = predicted_tasks(outputs, age_bins)
    with_age = any(output.is_age for output in outputs)
    written = {*table_schema(tasks, with_age=with_age).names, AGE_PRED}
    check_names(extra.columns, written, [task.name for task in tasks])
    return table_schema(tasks, with_age=with_age, labels=labels, carried=carried)
