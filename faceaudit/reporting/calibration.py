"""What shares are corrected by and compared with: labeled faces, a model's card, target shares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs

from faceaudit.audit.composition import NO_CONFUSION, Choices, Reference, correct
from faceaudit.audit.face_sets import BY, UNIT, Calibration, LabelledFaces, calibrate
from faceaudit.audit.results import Audit
from faceaudit.audit.subgroups import Feature, chosen_features, find_features, unit_feature
from faceaudit.audit.tally import Tally
from faceaudit.errors import InputError, LabelError, SchemaError
from faceaudit.models.bundle import BUNDLES, FACTS
from faceaudit.reporting.source import Source
from faceaudit.schema import AGE_GROUP, Task, age_bins_of
from faceaudit.schemes import Coarsening, coarsening, merge_note, schemes_with
from faceaudit.storage import as_path, local_copy, parquet_schema, read_csv
from faceaudit.tables import (
    FACE,
    IMAGE,
    SUFFIXES,
    PredictionTable,
    face_number,
    read_table,
    score_columns,
)

WEIGHT, STRATUM = "weight", "stratum"
WHOLE = 0.005
"""Weights of a sample of the whole set sum to its faces, up to this share."""
SUM_TOLERANCE = 0.01
"""Reference shares of a task sum to 1, up to this."""
SUCH = 3
"""How many examples a message names."""


def with_composition(
    found: Audit, source: Source, calibration: Path | None, reference: Path | None
) -> Audit:
    """The audit with shares corrected for the model's confusion and set against target shares.

    Without labeled faces the validation of the table's own model is used, where its bundle has it.

    Raises:
        FaceauditError: If a file cannot be read, or does not fit the table.
    """
    table, options = source.table, found.options
    unit, features = options["unit"], _features(found, table)
    annotated = _annotated(found)
    labelled = {}
    if calibration is not None:
        labelled = read_calibration(calibration, table, features, unit)
    calibrations, reasons = dict(labelled), {}
    for task in found.tasks:
        if task.name not in calibrations and task.name not in annotated:
            card = _of_bundle(task, source)
            if isinstance(card, Calibration):
                calibrations[task.name] = card
            else:
                reasons[task.name] = card
    choices = Choices(
        calibrations=calibrations,
        references={} if reference is None else read_reference(reference, found.tasks),
        reasons=reasons,
        annotated=annotated,
        features=features,
        unit=unit,
        min_n=int(options["min_n"]),
        confidence=float(options["confidence"]),
    )
    composition, corrections = correct(table, found.composition, choices)
    return replace(
        found,
        notes=(*found.notes, *(one.merged for one in labelled.values() if one.merged)),
        composition=composition,
        corrections=corrections,
        options={
            **options,
            "calibration": None if calibration is None else str(calibration),
            "reference": None if reference is None else str(reference),
        },
    )


def _features(found: Audit, table: PredictionTable | Tally) -> tuple[Feature, ...]:
    """The sensitive features of the audit."""
    names = found.options["by"]
    if isinstance(table, Tally):
        return chosen_features(table.features, names)
    return find_features(table, names)


def _annotated(found: Audit) -> frozenset[str]:
    """Tasks in which every predicted face is annotated."""
    labelled = {c.task.name: int(c.counts.sum()) for c in found.confusions if not c.subgroup}
    faces = {c.task: c.share.n for c in found.composition if not c.subgroup}
    return frozenset(name for name, n in labelled.items() if n and n == faces.get(name))


# --- labeled faces ---------------------------------------------------------------------------


def read_calibration(
    path: Path,
    table: PredictionTable | Tally,
    features: Sequence[Feature] = (),
    unit: str | None = None,
) -> dict[str, Calibration]:
    """Labeled faces by task: a sample of the table, or another table that is labeled.

    Args:
        path: A CSV or Parquet file. With columns ``<task>_pred`` or ``<task>_prob_<class>`` it is a
            table of its own; otherwise its rows are found in ``table`` by ``image`` and ``face``.
        table: The table whose composition is asked for, or its tally.
        features: What subgroups are formed by.
        unit: Column of the table whose values name rows that are not independent; of a table of its
            own too, where it has that column.

    Raises:
        InputError: If the file cannot be read.
        SchemaError: If its columns or classes do not fit.
        LabelError: If its rows are none of the table's.
    """
    path = as_path(path)
    if not path.exists():
        raise InputError(f"--calibration {path}: there is no such file")
    if path.is_dir() or _has_predictions(path):
        return _labelled_table(path, table.tasks, unit)
    if isinstance(table, Tally):
        raise LabelError(
            f"--calibration {path}: a tally has no images to find its rows by; give the table, or "
            "labels that have the predictions (<task>_pred) beside them"
        )
    return _labelled_sample(path, table, features, unit)


def _read_frame(path: Path, option: str) -> pl.DataFrame:
    """A small table with every column as text, those that cannot be left out."""
    kind = SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{option} {path}: give a file that ends in {', '.join(SUFFIXES)}")
    if kind == "csv":
        return read_csv(path)
    try:
        frame = pl.read_parquet(local_copy(path), glob=False)
        no_text = cs.nested() | cs.binary() | cs.object()
        return frame.select((~no_text).cast(pl.String))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{option} {path}: cannot be read as Parquet") from error


def _has_predictions(path: Path) -> bool:
    if SUFFIXES.get(path.suffix.lower()) == "parquet":
        try:
            names = list(parquet_schema(path))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InputError(f"--calibration {path}: cannot be read as Parquet") from error
    else:
        names = _read_frame(path, "--calibration").columns
    return any(n.endswith(("_pred", "_probs")) or "_prob_" in n for n in names)


def _labelled_table(path: Path, tasks: Sequence[Task], unit: str | None) -> dict[str, Calibration]:
    """Calibration from another table of predictions, in the classes of the tasks."""
    given, where = read_table(path), f"--calibration {path}"
    ages = next((task for task in tasks if task.name == AGE_GROUP), None)
    bins = age_bins_of(ages.classes) if ages else None
    schemes = {
        task.name: task.scheme
        for task in tasks
        if task.name != AGE_GROUP
        and any(t.name == task.name and t.scheme != task.scheme for t in given.tasks)
    }
    given = read_table(path, age_bins=bins, scheme_map=schemes)
    # A weight without a stratum is not one of a sample: it may be that of a body.
    drawn = [WEIGHT, STRATUM] if {WEIGHT, STRATUM} <= set(given.features) else []
    found = {}
    for task in tasks:
        own = next((one for one in given.tasks if one.name == task.name), None)
        if own is None or task.name not in given.annotated:
            continue
        if own.classes != task.classes:
            raise SchemaError(
                f"{where}: {task.name} has the classes {', '.join(own.classes)} but "
                f"the table has {', '.join(task.classes)}; coarsen the table with --map"
            )
        columns = [task.true_column, task.pred_column]
        columns += score_columns(task) if task.name in given.scored else []
        known = [UNIT] if unit in given.features else []
        frame = given.frame
        if unit is not None and known:
            frame = frame.with_columns(unit_feature(given, unit).values(frame).alias(UNIT))
        needed = task.pred_column if drawn else [task.true_column, task.pred_column]
        rows = frame.select(*columns, *drawn, *known).drop_nulls(needed).collect()
        rows = _with_numbers(rows.with_columns(pl.col(drawn).cast(pl.String)), where)
        found[task.name] = calibrate(task, rows, path.name, "labels")
    if not found:
        raise LabelError(f"{where}: no task of the table is annotated in it")
    return found


def _labelled_sample(
    path: Path, table: PredictionTable, features: Sequence[Feature], unit: str | None
) -> dict[str, Calibration]:
    """Calibration from labels of faces of the table."""
    labels, ways = _checked_labels(_read_frame(path, "--calibration"), path, table)
    keys = [IMAGE, FACE] if FACE in labels.columns else [IMAGE]
    given = labels.lazy()
    frame = table.frame
    if FACE in keys:
        frame = frame.with_columns(face_number(frame).alias(FACE))
    tasks = [task for task in table.tasks if task.true_column in labels.columns]
    scored = [name for task in tasks if task.name in table.scored for name in score_columns(task)]
    columns = [*keys, *(task.pred_column for task in tasks), *scored]
    known = [feature.values(frame).alias(BY + feature.name) for feature in features]
    known += [unit_feature(table, unit).values(frame).alias(UNIT)] if unit else []
    rows = (
        frame.select(*columns, *known).join(given, on=keys, how="inner").collect(engine="streaming")
    )
    if rows.height == 0:
        some = ", ".join(map(repr, labels[IMAGE].head(SUCH)))
        raise LabelError(
            f"--calibration {path}: none of its images ({some}, ...) is in {table.path}; "
            "label a sample of this table (`faceaudit sample`), or give labels "
            "that have the predictions (<task>_pred) beside them"
        )
    if rows.height > rows.select(keys).n_unique():
        twice = rows.filter(pl.struct(keys).is_duplicated())[IMAGE][0]
        raise LabelError(
            f"--calibration {path}: {table.path} has more than one row of {twice!r}, so whose "
            f"label it is cannot be told; give the column {FACE} as well, or names that differ"
        )
    found = {}
    for task in tasks:
        faces = table.frame.select(pl.col(task.pred_column).is_not_null().sum()).collect().item()
        whole = _is_whole(labels, rows, faces)
        names = [feature.name for feature in features]
        own = calibrate(task, rows, path.name, "sample" if whole else "labels", names)
        merged = merge_note(f"labels of {path.name}", ways[task]) if task in ways else ""
        found[task.name] = replace(own, merged=merged)
    return found


def _is_whole(labels: pl.DataFrame, rows: pl.DataFrame, faces: int) -> bool:
    """Whether labels are a random sample of this set and of no other.

    They are where they have weights, every row is in the set, and the weights sum to its faces.
    """
    if WEIGHT not in labels.columns or rows.height != labels.height:
        return False
    stood_for = float(labels[WEIGHT].to_numpy().sum())
    return abs(stood_for - faces) <= max(WHOLE * faces, 1)


def _checked_labels(
    frame: pl.DataFrame, path: Path, table: PredictionTable
) -> tuple[pl.DataFrame, dict[Task, Coarsening]]:
    """Labels with usable keys, weights and classes, and how finer classes were merged."""
    where = f"--calibration {path}"
    if IMAGE not in frame.columns:
        raise SchemaError(f"{where}: missing the column image; write it with `faceaudit sample`")
    if frame.is_empty():
        raise SchemaError(f"{where}: has no rows; write it with `faceaudit sample`")
    tasks = [task for task in table.tasks if task.true_column in frame.columns]
    if not tasks:
        wanted = ", ".join(task.true_column for task in table.tasks)
        raise SchemaError(f"{where}: no column of labels; name one of {wanted}")
    frame = frame.with_columns(pl.col(t.true_column).str.strip_chars() for t in tasks)
    columns = [task.true_column for task in tasks]
    if not frame.select(pl.any_horizontal(pl.col(columns).fill_null("") != "").any()).item():
        raise LabelError(f"{where}: no face is labeled yet; fill in {', '.join(columns)}")
    ways = {}
    for task in tasks:
        column = task.true_column
        frame = frame.with_columns(pl.when(pl.col(column) != "").then(pl.col(column)))
        given = set(frame[column].drop_nulls())
        stray = sorted(given - set(task.classes))
        if not stray:
            continue
        way = _way_from(task, given, table)
        if way is None:
            raise SchemaError(
                f"{where}: {column} has {', '.join(map(repr, stray[:SUCH]))}; the classes are "
                f"{', '.join(task.classes)}; {_remedy(task, given)}"
            )
        frame = frame.with_columns(pl.col(column).replace(way.classes))
        ways[task] = way
    frame = _with_numbers(frame, where)
    keep = [IMAGE, *(n for n in (FACE, WEIGHT, STRATUM) if n in frame.columns)]
    frame = frame.select(*keep, *(task.true_column for task in tasks))
    if FACE not in table.frame.collect_schema().names() and FACE in frame.columns:
        frame = frame.drop(FACE)
    keys = [IMAGE, FACE] if FACE in frame.columns else [IMAGE]
    twice = frame.filter(pl.struct(keys).is_duplicated())
    if twice.height:
        raise LabelError(f"{where}: {twice[IMAGE][0]!r} occurs more than once; give one row each")
    return frame, ways


def _way_from(task: Task, labels: set[str], table: PredictionTable) -> Coarsening | None:
    """How labels of a finer scheme, the table's own or a named one, become the task's classes."""
    declared = table.metadata.tasks if table.metadata else ()
    own = [one for one in declared if one.name == task.name and labels <= set(one.classes)]
    ways = [coarsening(one, task) for one in [*own, *schemes_with(task.name, labels)]]
    return next((way for way in ways if way is not None and not way.left_out), None)


def _remedy(task: Task, labels: set[str]) -> str:
    """What to do about labels that are of other classes than the task."""
    schemes = schemes_with(task.name, labels)
    names = [one.scheme for one in schemes if coarsening(task, one) is not None]
    if names:
        return f"coarsen with --map {task.name}={names[0]}"
    if schemes:
        return f"the labels are of {schemes[0].scheme}, so report in its classes"
    return "leave empty what cannot be told"


def _with_numbers(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """Faces, weights and strata as numbers."""
    if WEIGHT in frame.columns:
        weight = frame[WEIGHT].cast(pl.Float64, strict=False)
        if not (weight.is_finite() & (weight > 0)).fill_null(False).all():
            raise SchemaError(f"{where}: every weight must be a number above 0, as it was drawn")
        frame = frame.with_columns(weight)
    if FACE in frame.columns:
        number = frame[FACE].fill_null("0").cast(pl.Float64, strict=False)
        face = number.cast(pl.Int64, strict=False)
        if face.null_count() or (face != number).any():
            raise SchemaError(f"{where}: face must be a whole number, as it was drawn")
        frame = frame.with_columns(face)
    if STRATUM in frame.columns:
        frame = frame.with_columns(pl.col(STRATUM).fill_null("").rank("dense").cast(pl.Int64) - 1)
    return frame


# --- the model's own validation ---------------------------------------------------------------


@dataclass(frozen=True)
class CardConfusion:
    """How a model confuses the classes of one task on its validation images, as its card says."""

    classes: tuple[str, ...]
    edges: tuple[float, ...]
    counts: Any  # (K, K, B)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> CardConfusion:
        """Raises KeyError, TypeError or ValueError where a fact is off."""
        classes = tuple(map(str, facts["classes"]))
        edges = tuple(map(float, facts["edges"]))
        counts = np.array(facts["counts"], np.float64)
        if counts.shape != (len(classes), len(classes), len(edges) + 1) or (counts < 0).any():
            raise ValueError(f"confusion of shape {counts.shape} for {len(classes)} classes")
        return cls(classes, edges, counts)


def _of_bundle(task: Task, source: Source) -> Calibration | str:
    """Validation confusion of the table's model, or why there is none."""
    metadata = source.facts.metadata
    model = metadata.model if metadata else {}
    name = str(model.get("name", ""))
    card = _card(name, str(model.get("sha256", "")))
    if card is None or task.name not in card:
        return NO_CONFUSION
    try:
        known = CardConfusion.from_json(card[task.name])
    except (KeyError, TypeError, ValueError):
        return NO_CONFUSION
    if known.classes != task.classes:
        return (
            f"the validation of {name} is known for other classes ({', '.join(known.classes)}); "
            "label a sample (`faceaudit sample`) and give it as --calibration"
        )
    faces = LabelledFaces.of_counts(known.counts)
    return Calibration(task, "bundle", name, faces, np.array(known.edges))


def _card(name: str, sha256: str) -> Mapping[str, Any] | None:
    """Confusions on the card of a bundle that ships, None where it has none or is another one."""
    path = BUNDLES / name / FACTS
    if not name or "/" in name or not path.is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    if facts.get("sha256") != sha256:
        return None
    found = facts.get("confusion")
    return found if isinstance(found, dict) else None


# --- target shares ----------------------------------------------------------------------------


def read_reference(path: Path, tasks: Sequence[Task]) -> dict[str, Reference]:
    """Target shares by task, from a file with the columns task (or feature), class and share.

    Raises:
        InputError: If the file cannot be read.
        SchemaError: If its columns, classes or shares do not fit.
    """
    path = as_path(path)
    where = f"--reference {path}"
    if not path.exists():
        raise InputError(f"{where}: there is no such file")
    frame = _read_frame(path, "--reference")
    if "task" not in frame.columns and "feature" in frame.columns:
        frame = frame.rename({"feature": "task"})
    if frame.is_empty():
        raise SchemaError(f"{where}: has no rows; give each class of a task one share")
    missing = [name for name in ("task", "class", "share") if name not in frame.columns]
    if missing:
        raise SchemaError(
            f"{where}: missing the column {missing[0]}; give the columns task, class and share"
        )
    frame = frame.with_columns(pl.col("task", "class").str.strip_chars())
    known = {task.name: task for task in tasks}
    strange = [name for name in frame["task"].unique(maintain_order=True) if name not in known]
    if strange:
        raise SchemaError(
            f"{where}: {strange[0]!r} is no task of the table; there are: {', '.join(known)}"
        )
    return {
        name: Reference(
            _target(frame.filter(pl.col("task") == name), known[name], where), path.name
        )
        for name in frame["task"].unique(maintain_order=True)
    }


def _target(rows: pl.DataFrame, task: Task, where: str) -> Any:
    """The shares of one task in class order; they are made to sum to exactly 1."""
    given = rows["class"].to_list()
    strange = [label for label in given if label not in task.classes]
    lacking = [label for label in task.classes if label not in given]
    if strange or lacking or len(given) != len(task.classes):
        what = f"{strange[0]!r} is no class" if strange else "a class is missing or named twice"
        raise SchemaError(
            f"{where}: {task.name}: {what}; give each of {', '.join(task.classes)} one share"
        )
    text = rows["share"].str.strip_chars()
    percent = text.str.ends_with("%")
    number = text.str.strip_suffix("%").str.strip_chars().cast(pl.Float64, strict=False)
    shares = pl.select(pl.when(percent).then(number / 100).otherwise(number)).to_series()
    if not (shares.is_finite() & (shares >= 0)).fill_null(False).all():
        raise SchemaError(f"{where}: {task.name}: shares must be numbers from 0, such as 0.25")
    total = float(shares.sum())
    if abs(total - 1) > SUM_TOLERANCE + 1e-9:
        raise SchemaError(
            f"{where}: the shares of {task.name} sum to {total:g}; they must sum to 1"
        )
    by_class = dict(zip(given, shares.to_list(), strict=True))
    found = np.array([by_class[label] for label in task.classes])
    return found if np.isclose(total, 1, rtol=0, atol=1e-9) else found / total
