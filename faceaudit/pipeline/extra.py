"""Columns that come with the images: annotations, and what a list or a tar carries."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

import polars as pl
import pyarrow as pa

from faceaudit.errors import InputError
from faceaudit.images.source import ImageSource
from faceaudit.labels import AUTO, none_found, open_labels
from faceaudit.labels.annotations import SAMPLE
from faceaudit.labels.carried import TRUE, Chosen, choose_labels
from faceaudit.models.bundle import Output
from faceaudit.pipeline.scores import predicted_tasks
from faceaudit.schema import (
    AGE_GROUP,
    AGE_PRED,
    AGE_TRUE,
    age_group_task,
    table_schema,
)

log = logging.getLogger(__name__)

_PREDICTED, _PROBABILITY = ("_pred", "_probs"), "_prob_"


def labels_of(source: ImageSource, spec: str, provenance: str) -> Chosen:
    """The annotations of images: labels, and columns of the source; says which were taken.

    Args:
        source: The images.
        spec: As ``labels.open_labels`` takes it.
        provenance: Where the labels come from.

    Raises:
        LabelError: If labels are named that cannot be read, or are of none of the images.
    """
    found = open_labels(spec, source, provenance=provenance)
    chosen = choose_labels(found, spec, source.carried_schema, source.source)
    if chosen.own:
        log.info("labels: %s, from %s itself", ", ".join(chosen.own), source.source)
    if taken := chosen.labels:
        log.info("labels: %s, from %s (%s)", taken.format, taken.source, taken.provenance)
    elif spec == AUTO and not chosen.own:
        log.info("labels: %s", none_found([ref.name for ref in source.first(SAMPLE)]))
    return chosen


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


def check_names(carried: Sequence[str], written: Collection[str], tasks: Iterable[str]) -> None:
    """Refuse names that would be read as something else in the table than what they are.

    Args:
        carried: Names of columns that come with the images.
        written: Names that ``predict`` writes itself.
        tasks: What is predicted.

    Raises:
        InputError: If a name is one of ``predict``, or of a prediction, or is another but for case.
    """
    known = {*carried, *written, AGE_TRUE, *(f"{task}{TRUE}" for task in tasks)}
    for name in carried:
        if problem := _problem(name, written, known):
            raise InputError(f"column {name!r} beside the images: {problem}; rename it")


def _problem(name: str, written: Collection[str], known: Collection[str]) -> str | None:
    """Why a column cannot have this name; None where it can."""
    plain = name.strip()
    lower = plain.casefold()
    if name in written:
        return "predict writes one of that name"
    if lower.endswith(_PREDICTED) or _PROBABILITY in lower:
        return "names with _pred or _probs at their end, or _prob_, are of predictions"
    if plain != name and plain in known:
        return f"it is {plain!r} but for blanks"
    overlooked = lower in known or not plain.endswith(TRUE)
    if lower.endswith(TRUE) and lower != plain and overlooked:
        return f"it is not read as {lower!r}, because case counts"
    return None
