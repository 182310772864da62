"""A bundle's own audit: held-out crops predicted with the finished bundle, and what they show.

The bundle is run by ONNX Runtime as users run it, on the central views of crops that it was not
trained on; table and page are those that ``predict`` and ``report`` write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

import faceaudit
from faceaudit.audit.face_sets import calibrate
from faceaudit.audit.results import Audit, MetricValue
from faceaudit.audit.run import audit
from faceaudit.faces import Face
from faceaudit.labels.tables import recorded_tasks
from faceaudit.models.bundle import Bundle
from faceaudit.ordered import available_cores, in_chunks, in_order
from faceaudit.pipeline.crops import CroppedImage
from faceaudit.pipeline.scores import predicted_tasks, scores_of
from faceaudit.pipeline.table import column_lists, in_row_groups, open_table, to_arrow
from faceaudit.reporting.run import report
from faceaudit.runtimes import Runtime, open_runtime
from faceaudit.schema import (
    AGE,
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
from faceaudit.tables import read_table, score_columns
from faceaudit.training.data import METADATA_FILE, CropSet, central_view, read_crop

TABLE = "validation.parquet"
BATCH = 64
MIN_FACES = 100
"""A subgroup is called weakest only with so many annotated faces."""
CALIBRATION_BINS = 15
TEXTS = tuple(f"{name}_true" for name in (GENDER, RACE, AGE_GROUP))


@dataclass(frozen=True)
class HeldOut:
    """What a bundle's own audit found, for its card."""

    table: Path
    page: Path
    audit: Audit
    metrics: dict[str, dict[str, Any]]
    """Task -> accuracy (``age``: ``mae`` in years) with its 95 % interval, n and what it is on.
    Where there are several folders, those of each stand under ``sets``."""
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
    annotations = annotations_of(crops, folders)
    tasks = recorded_tasks([folder / METADATA_FILE for folder in folders])
    table = write_table(bundle, crops, annotations, work / TABLE, annotated=tasks)
    files = report(table, title=f"Audit of {bundle.name} on its {part} crops")
    metrics = card_metrics(files.audit, f"{part} crops")
    for name, error in calibration_errors(table, files.audit).items():
        metrics[name]["calibration_error"] = error
    for name, sets in figures_by_set(bundle, crops, folders, work, part).items():
        metrics[name]["sets"] = sets
    confusion = card_confusions(table, f"{part} crops")
    return HeldOut(table, files.paths[0], files.audit, metrics, weakest(files.audit), confusion)


def figures_by_set(
    bundle: Bundle, crops: CropSet, folders: Sequence[Path], work: Path, part: str
) -> dict[str, dict[str, Any]]:
    """Task -> name of a folder -> its own figure, where there are several folders.

    Together they can mislead: a set whose classes are coarser than the network's counts only with
    the classes that both have; by itself it counts with all, by the map between the schemes.

    Args:
        bundle: What predicts.
        crops: That the network was not trained on.
        folders: Where they and their annotations come from.
        work: Folder that ``validation.FOLDER.parquet`` is written to.
        part: What the crops are.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in folders if len(folders) > 1 else ():
        own = crops.take(np.flatnonzero([folder in file.parents for file in crops.files]))
        if not len(own):
            continue
        labels = annotations_of(own, [folder])
        tasks = recorded_tasks([folder / METADATA_FILE])
        path = work / f"validation.{folder.name}.parquet"
        table = read_table(write_table(bundle, own, labels, path, annotated=tasks))
        for name, figure in card_metrics(audit(table, verify="never"), f"{part} crops").items():
            found.setdefault(name, {})[folder.name] = figure
    return found


def annotations_of(crops: CropSet, folders: Sequence[Path]) -> pl.DataFrame:
    """Annotated columns of crops as their folders have them, one row per crop in their order."""
    columns = [*TEXTS, AGE_TRUE]
    tables = []
    for folder in folders:
        table = pl.read_parquet(folder / METADATA_FILE)
        given = table.select("file_name", *(name for name in columns if name in table.columns))
        names = (str(folder / name) for name in given["file_name"])
        tables.append(
            given.with_columns(
                pl.Series("file_name", list(names)),
                *(pl.col(name).cast(pl.String) for name in TEXTS if name in given.columns),
                *(pl.col(name).cast(pl.Float32) for name in (AGE_TRUE,) if name in given.columns),
            )
        )
    known = pl.concat(tables, how="diagonal").unique("file_name")
    order = pl.DataFrame({"file_name": [str(file) for file in crops.files]})
    found = order.join(known, on="file_name", how="left", maintain_order="left")
    return found.select(name for name in columns if name in found.columns)


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

    def score(rows: Sequence[int]) -> pa.Table:
        images = [_read(crops, row, bundle.input.size) for row in rows]
        views = [view for image in images for view in image.crops]
        scores = scores_of(runner.infer(np.stack(views)), bundle.tasks, bins) if views else None
        extra = column_lists(labels.slice(rows[0], len(rows)))
        return to_arrow(images, scores, tasks, extra, schema)

    chunks = in_chunks(range(len(crops)), BATCH)
    tables: Iterator[pa.Table] = in_order(score, chunks, available_cores())
    with open_table(path, schema) as writer:
        for table in in_row_groups(tables, schema):
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


def _read(crops: CropSet, row: int, size: int) -> CroppedImage:
    """A crop as an image of one face; one that cannot be decoded keeps its row."""
    file = crops.files[row]
    name = f"{file.parent.parent.parent.name}/{file.parent.name}/{file.name}"
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


# --- what the card says -------------------------------------------------------------------------


def card_metrics(found: Audit, on: str) -> dict[str, dict[str, Any]]:
    """Accuracy of every task and the mean absolute error of ages, with 95 % intervals.

    Shares have Wilson intervals.
    """
    wanted = {"accuracy": None, "mae": AGE}
    metrics = {}
    for value in found.metrics:
        estimate = value.estimate
        if value.subgroup or value.metric not in wanted or estimate.value is None:
            continue
        facts: dict[str, Any] = {value.metric: round(estimate.value, 4)}
        if estimate.low is not None and estimate.high is not None:
            facts |= {"low": round(estimate.low, 4), "high": round(estimate.high, 4)}
        metrics[wanted[value.metric] or value.task] = facts | {"n": estimate.n, "on": on}
    return metrics


def weakest(found: Audit, min_faces: int = MIN_FACES) -> list[str]:
    """For every task, the subgroup by gender and race with the lowest accuracy, as a sentence.

    Nothing is said of a task in which all subgroups are equal.

    Args:
        found: The audit.
        min_faces: Smaller subgroups are not named.
    """
    features = max(found.by, key=len, default=())
    accuracies = [value for value in found.metrics if value.metric == "accuracy"]
    sentences = []
    for task in found.tasks:
        own = [value for value in accuracies if value.task == task.name]
        overall = next((value for value in own if not value.subgroup), None)
        groups = [
            value
            for value in own
            if tuple(value.subgroup) == features
            and features
            and value.estimate.value is not None
            and value.estimate.n >= min_faces
        ]
        if overall is None or overall.estimate.value is None:
            continue
        if len({value.estimate.value for value in groups}) < 2:
            continue
        worst = min(groups, key=lambda value: (value.estimate.value, str(value.subgroup)))
        sentences.append(_sentence(worst, overall))
    return sentences


def _sentence(worst: MetricValue, overall: MetricValue) -> str:
    estimate = worst.estimate
    who = ", ".join(f"{name} {value}" for name, value in worst.subgroup.items())
    interval = (
        f"{estimate.low:.1%} to {estimate.high:.1%}, "
        if estimate.low is not None and estimate.high is not None
        else ""
    )
    return (
        f"{worst.task.replace('_', ' ').capitalize()} is least often right for faces annotated "
        f"{who}: {estimate.value:.1%} ({interval}{estimate.n:,} faces), against "
        f"{overall.estimate.value:.1%} of all faces."
    )


def card_confusions(table: Path, on: str) -> dict[str, dict[str, Any]]:
    """How a bundle confuses the classes of each annotated task, to correct shares by.

    Args:
        table: Predictions of held-out crops with annotations.
        on: What the crops are.

    Returns:
        Task -> ``classes``, upper ``edges`` of bins of confidence, and ``counts`` of faces by
        annotated class, predicted class and bin.
    """
    opened = read_table(table)
    found = {}
    for task in opened.tasks:
        if task.name not in opened.annotated:
            continue
        columns = [task.true_column, task.pred_column]
        columns += score_columns(task) if task.name in opened.scored else []
        known = calibrate(task, opened.frame.select(columns).collect(), on, "bundle")
        found[task.name] = {
            "on": on,
            "classes": list(task.classes),
            "edges": known.edges.tolist(),
            "counts": known.joint.round().astype(int).tolist(),
        }
    return found


def calibration_errors(table: Path, found: Audit) -> Mapping[str, float]:
    """Calibration error of every scored task of a table (see ``calibration_error``)."""
    frame = pl.read_parquet(table)
    errors = {}
    for task in found.tasks:
        true, probs = f"{task.name}_true", f"{task.name}_probs"
        if true not in frame.columns or probs not in frame.columns:
            continue
        own = frame.filter(pl.col(true).is_in(task.classes) & pl.col(probs).is_not_null())
        fields = own[probs].struct.unnest()
        if fields.columns != list(task.classes) or len(own) < 2 * CALIBRATION_BINS:
            continue
        right = (own[true] == own[f"{task.name}_pred"]).to_numpy()
        errors[task.name] = round(calibration_error(fields.to_numpy().max(axis=1), right), 4)
    return errors


def calibration_error(
    confidence: NDArray[np.floating[Any]],
    right: NDArray[np.bool_],
    bins: int = CALIBRATION_BINS,
) -> float:
    """Root mean squared difference of confidence and accuracy, less what chance alone adds.

    Faces are sorted into bins of equal size; from each bin's squared difference the variance of its
    accuracy is subtracted, so that the error of a calibrated model is near 0 for any number of
    faces.

    Args:
        confidence: Probability of the predicted class, (N,), 0 to 1.
        right: Whether the prediction is right, (N,).
        bins: Number of bins; at least two faces are needed in each.

    Source:
        Kumar, Liang, Ma: Verified Uncertainty Calibration, NeurIPS 2019 (the debiased estimator).
    """
    order = np.argsort(confidence, kind="stable")
    total = 0.0
    for rows in np.array_split(order, bins):
        share = right[rows].mean()
        squared = (confidence[rows].mean() - share) ** 2
        total += len(rows) * (squared - share * (1 - share) / (len(rows) - 1))
    return float(np.sqrt(max(total / len(order), 0.0)))
