"""A bundle's own audit: held-out crops predicted with the finished bundle, and what they show.

The bundle is run by ONNX Runtime as users run it, on the central views of crops that it was not
trained on; table and page are those that ``predict`` and ``report`` write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

import faceaudit
from faceaudit.audit.results import Audit
from faceaudit.audit.run import audit
from faceaudit.faces import Face
from faceaudit.labels.tables import recorded_tasks
from faceaudit.models.bundle import Bundle
from faceaudit.ordered import available_cores, in_chunks, in_order
from faceaudit.pipeline.crops import CroppedImage
from faceaudit.pipeline.scores import predicted_tasks, scores_of
from faceaudit.pipeline.table import column_lists, in_row_groups, open_table, to_arrow
from faceaudit.progress import counted
from faceaudit.reporting.run import report
from faceaudit.runtimes import Runtime, open_runtime
from faceaudit.schema import (
    AGE_BINS,
    AGE_GROUP,
    AGE_TRUE,
    DEFAULT_AGE_SCHEME,
    GENDER,
    OK,
    RACE,
    UNREADABLE,
    TableMetadata,
    Task,
    age_bins_of,
    age_group_names,
    table_schema,
)
from faceaudit.schemes import Coarsening, coarsening, coarsening_of_annotations
from faceaudit.tables import read_table
from faceaudit.training.card_figures import (
    calibration_errors,
    card_confusions,
    card_metrics,
    left_out_classes,
    too_small,
    weakest,
    weakest_ages,
    with_left_out,
)
from faceaudit.training.data import METADATA_FILE, CropSet, central_view, read_crop
from faceaudit.training.folders import folders_of, names_of

TABLE = "validation.parquet"
BATCH = 64
TEXTS = tuple(f"{name}_true" for name in (GENDER, RACE, AGE_GROUP))


@dataclass(frozen=True)
class HeldOut:
    """What a bundle's own audit found, for its card."""

    table: Path
    page: Path
    audit: Audit
    metrics: dict[str, dict[str, Any]]
    """Task -> accuracy (``age``: ``mae`` in years) with its 95 % interval, n and what it is on.
    Where there are several folders, those of each stand under ``sets``. ``left_out`` counts faces
    by annotated classes that the figure does not have."""
    weakest: list[str]
    """Where the bundle is worst, in sentences."""
    confusion: dict[str, dict[str, Any]]
    """Task -> how its classes are confused (``card_confusions``)."""


def audit_held_out(
    bundle: Bundle, crops: CropSet, folders: Sequence[Path], work: Path, part: str
) -> HeldOut:
    """Predict held-out crops with a finished bundle, and audit them.

    Args:
        bundle: As ``write_bundle`` or ``load_bundle`` returns it.
        crops: That the network was not trained on.
        folders: Where they and their annotations come from.
        work: Folder that ``validation.parquet``, ``.html`` and ``.json`` are written to.
        part: What the crops are, such as ``validation`` or ``test``.

    Raises:
        FaceauditError: If the table cannot be written or audited.
    """
    annotations, tasks = annotations_of(bundle, crops, folders)
    table = write_table(bundle, crops, annotations, work / TABLE, annotated=tasks)
    files = report(table, title=f"Audit of {bundle.name} on its {part} crops")
    left_out = left_out_classes(table)
    metrics = with_left_out(card_metrics(files.audit, f"{part} crops"), left_out)
    for name, error in calibration_errors(table, files.audit).items():
        metrics[name]["calibration_error"] = error
    confusion = card_confusions(table, f"{part} crops")
    sets, sentences = figures_by_set(bundle, crops, folders, work, part)
    for name, own in sets.items():
        metrics[name]["sets"] = own
    if not sentences:
        sentences = _weaknesses(table, files.audit, left_out)
    return HeldOut(table, files.paths[0], files.audit, metrics, sentences, confusion)


def _weaknesses(table: Path, found: Audit, left_out: Collection[str]) -> list[str]:
    """Where a bundle is worst in a table, in sentences.

    Args:
        table: Predictions with annotations.
        found: Its audit.
        left_out: Tasks whose figures leave out annotated classes.
    """
    columns = pl.read_parquet_schema(table)
    by_age = None
    if f"{AGE_GROUP}_true" in columns:
        by_age = audit(read_table(table), by=[AGE_GROUP], verify="never")
    sentences = weakest(found, partial=left_out)
    return [*sentences, *(weakest_ages(by_age) if by_age else ()), *too_small(found, by_age)]


def figures_by_set(
    bundle: Bundle, crops: CropSet, folders: Sequence[Path], work: Path, part: str
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What each of several folders gives by itself; nothing of one alone.

    Together they can mislead: a set whose classes are coarser than the network's counts only with
    the classes that both have; by itself it counts with all, by the map between the schemes. And a
    group that one set alone has is worse or better than the rest of that set, not of both.

    Args:
        bundle: What predicts.
        crops: That the network was not trained on.
        folders: Where they and their annotations come from.
        work: Folder that ``validation.FOLDER.parquet`` is written to.
        part: What the crops are.

    Returns:
        Task -> name of a folder -> its own figure, which names its scheme where that is not the
        bundle's; and where the bundle is worst in each, in sentences.
    """
    found: dict[str, dict[str, Any]] = {}
    sentences: list[str] = []
    places = np.asarray(folders_of(crops.files, folders))
    for number, (folder, title) in enumerate(zip(folders, names_of(folders), strict=True)):
        own = crops.take(np.flatnonzero(places == number))
        if len(folders) == 1 or not len(own):
            continue
        labels, tasks = annotations_of(bundle, own, [folder])
        path = work / f"validation.{title}.parquet"
        table = write_table(bundle, own, labels, path, annotated=tasks)
        opened = read_table(table)
        audited = audit(opened, verify="never")
        left_out = left_out_classes(table)
        figures = card_metrics(audited, f"{part} crops")
        for name, error in calibration_errors(table, audited).items():
            figures[name]["calibration_error"] = error
        schemes = {task.name: task.scheme for task in opened.tasks}
        usual = {output.name: output.scheme for output in bundle.tasks}
        for name, figure in with_left_out(figures, left_out).items():
            if name in usual and schemes.get(name, usual[name]) != usual[name]:
                figure["scheme"] = schemes[name]
            found.setdefault(name, {})[title] = figure
        sentences += [f"{title}: {one}" for one in _weaknesses(table, audited, left_out)]
    return found, sentences


def annotations_of(
    bundle: Bundle, crops: CropSet, folders: Sequence[Path]
) -> tuple[pl.DataFrame, dict[str, Task]]:
    """Annotations of crops as their folders have them, in the order of the crops.

    Finer annotations than a task of the bundle become its classes, as in training.

    Args:
        bundle: Whose predictions they are compared with.
        crops: Prepared crops.
        folders: Where they come from.

    Returns:
        Annotated columns, and by task the classes that annotations were chosen from, where all
        folders have the same.
    """
    columns = [*TEXTS, AGE_TRUE]
    tables, recorded = [], []
    for folder in folders:
        table = pl.read_parquet(folder / METADATA_FILE)
        given = table.select("file_name", *(name for name in columns if name in table.columns))
        names = (str(folder / name) for name in given["file_name"])
        tasks = dict(recorded_tasks([folder / METADATA_FILE]))
        merged = [way for head in bundle.tasks if (way := _merging(tasks, head.task))]
        tables.append(
            given.with_columns(
                pl.Series("file_name", list(names)),
                *(pl.col(name).cast(pl.String) for name in TEXTS if name in given.columns),
                *(pl.col(name).cast(pl.Float32) for name in (AGE_TRUE,) if name in given.columns),
            ).with_columns(
                pl.col(way.source.true_column).replace_strict(way.classes, default=None)
                for way in merged
            )
        )
        recorded.append(tasks | {way.target.name: way.target for way in merged})
    known = pl.concat(tables, how="diagonal").unique("file_name")
    order = pl.DataFrame({"file_name": [str(file) for file in crops.files]})
    found = order.join(known, on="file_name", how="left", maintain_order="left")
    first, *others = recorded
    same = {name: one for name, one in first.items() if all(o.get(name) == one for o in others)}
    return found.select(name for name in columns if name in found.columns), same


def _merging(annotated: Mapping[str, Task], head: Task) -> Coarsening | None:
    """How finer annotations become a head's classes; None where they need not, or cannot."""
    given = annotated.get(head.name)
    if given is None or head.name == AGE_GROUP or coarsening(head, given):
        return None
    return coarsening_of_annotations(given, head)


def write_table(
    bundle: Bundle,
    crops: CropSet,
    annotations: pl.DataFrame,
    path: Path,
    runner: Runtime | None = None,
    *,
    annotated: Mapping[str, Task] = MappingProxyType({}),
) -> Path:
    """Write predictions of the central views of crops, as ``predict`` writes those of images.

    Args:
        bundle: What predicts.
        crops: Prepared crops.
        annotations: As ``annotations_of`` returns them.
        path: The table.
        runner: What runs the bundle; by default what runs it on a CPU in float32.
        annotated: Task -> the classes that annotations were chosen from, where known.
    """
    runner = runner or open_runtime(bundle, device="cpu")
    bins = age_bins_for(bundle)
    labels = with_age_groups(annotations, bins)
    tasks = predicted_tasks(bundle.tasks, bins)
    schema = table_schema(
        tasks,
        with_age=any(output.activation in ("years", "value") for output in bundle.tasks),
        labels=labels.columns,
        metadata=_metadata(bundle, runner, crops, bins, _label_facts(labels, annotated)),
    )

    places = {file: file.parent.parent.parent for file in crops.files}
    prepared = list(dict.fromkeys(places.values()))
    titles = dict(zip(prepared, names_of(prepared), strict=True))

    def score(rows: Sequence[int]) -> pa.Table:
        titled = ((row, titles[places[crops.files[row]]]) for row in rows)
        images = [_read(crops, row, bundle.input.size, title) for row, title in titled]
        views = [view for image in images for view in image.crops]
        scores = scores_of(runner.infer(np.stack(views)), bundle.tasks, bins) if views else None
        extra = column_lists(labels.slice(rows[0], len(rows)))
        return to_arrow(images, scores, tasks, extra, schema)

    chunks = in_chunks(range(len(crops)), BATCH)
    tables: Iterator[pa.Table] = in_order(score, chunks, available_cores())
    with open_table(path, schema) as writer:
        scored = counted("score", tables, len(crops), len)
        for table in in_row_groups(scored, schema):
            writer.write_table(table)
    return path


def age_bins_for(bundle: Bundle) -> tuple[int, ...]:
    """Lower bounds of a bundle's own age groups, else of the default scheme."""
    for output in bundle.tasks:
        if output.name == AGE_GROUP and (bins := age_bins_of(output.classes)):
            return bins
    return AGE_BINS[DEFAULT_AGE_SCHEME]


def with_age_groups(annotations: pl.DataFrame, bins: Sequence[int]) -> pl.DataFrame:
    """Annotations with an age group wherever years are known."""
    if AGE_TRUE not in annotations.columns:
        return annotations
    names = age_group_names(bins)
    known = pl.col(AGE_TRUE).is_not_null() & pl.col(AGE_TRUE).is_not_nan()
    years = pl.when(known).then(pl.col(AGE_TRUE)).otherwise(0)
    place = pl.lit(pl.Series(bins, dtype=pl.Float32)).search_sorted(years, side="right") - 1
    group: pl.Expr = pl.when(known).then(pl.lit(pl.Series(names)).gather(place))
    column = f"{AGE_GROUP}_true"
    if column in annotations.columns:
        group = pl.coalesce(group, column)
    return annotations.with_columns(group.alias(column))


def _read(crops: CropSet, row: int, size: int, title: str) -> CroppedImage:
    """A crop as an image of one face; one that cannot be decoded keeps its row."""
    file = crops.files[row]
    name = f"{title}/{file.parent.name}/{file.name}"
    facts = (name, crops.sha256[row])
    try:
        crop = read_crop(file)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return CroppedImage(*facts, UNREADABLE, reason, None, None, (), ())
    height, width = crop.shape[:2]
    face = Face(0.0, 0.0, float(width), float(height))
    view = central_view(crop, size, float(crops.views[row]))
    return CroppedImage(*facts, OK, None, width, height, (face,), (view,))


def _label_facts(labels: pl.DataFrame, annotated: Mapping[str, Task]) -> dict[str, Any]:
    if not labels.width:
        return {}
    # Age groups are formed anew, by ``with_age_groups``.
    tasks = [vars(task) for name, task in annotated.items() if name != AGE_GROUP]
    return {"format": "prepared crops", "provenance": "annotated", "tasks": tasks}


def _metadata(
    bundle: Bundle,
    runner: Runtime,
    crops: CropSet,
    bins: tuple[int, ...],
    labels: Mapping[str, Any],
) -> TableMetadata:
    facts = runner.facts()
    return TableMetadata(
        tasks=predicted_tasks(bundle.tasks, bins),
        model={
            "name": bundle.name,
            "sha256": bundle.sha256,
            "licence": bundle.licence,
            "training_data": bundle.training_data,
        },
        detector={"name": "none: prepared crops"},
        preprocessing={
            "align": bundle.align,
            "margin": bundle.margin,
            "offset": bundle.offset,
            "size": bundle.input.size,
            "runtime": facts,
        },
        precision=facts["precision"],
        labels=labels,
        version=faceaudit.__version__,
        options={
            "age_bins": list(bins),
            "images": len(crops),
            "inputs": hashlib.sha256("".join(crops.sha256).encode()).hexdigest(),
        },
    )
