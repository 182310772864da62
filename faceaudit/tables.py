"""A table of predictions in one canonical, lazy form, whoever wrote it.

``read_table`` opens what ``faceaudit predict`` wrote (a Parquet file, or a folder of
``part-*.parquet``) and any other Parquet or CSV table. The canonical columns are:

* ``image`` and ``status`` (text, never null),
* ``<task>_true`` and ``<task>_pred`` (text; null where unknown or not among the classes),
* ``<task>_prob_<class>`` (numbers; null for all classes of a face or for none),
* ``age_true`` and ``age_pred`` (years),
* every other column as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from faceaudit.errors import InputError, LabelError, SchemaError, UnknownNameError
from faceaudit.schema import (
    AGE,
    AGE_BINS,
    AGE_GROUP,
    AGE_PRED,
    AGE_TRUE,
    DEFAULT_AGE_SCHEME,
    GENDER,
    METADATA_KEY,
    OK,
    RACE,
    STATUSES,
    TableMetadata,
    Task,
    age_bins_of,
    age_group_task,
    task_of_scheme,
)
from faceaudit.schemes import (
    Agreement,
    Coarsening,
    agree,
    named_task,
    schemes_with,
    task_of_values,
)
from faceaudit.storage import sha256_of_file

IMAGE, STATUS, FACE = "image", "status", "face"
NOT_SCORED = "not_scored"
"""Status of an image without a prediction in a table that gives no reasons."""
SUM_TOLERANCE = 1e-3
"""How far the probabilities of one face may sum from 1."""
MAX_CLASSES = 100
"""A column with more different values is a measurement, not a class."""
MAX_YEARS = 130
"""An annotated age above this is a year of birth or a mistake."""
SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv"}


@dataclass(frozen=True)
class PredictionTable:
    """A table of predictions in canonical columns (see the module)."""

    path: Path
    sha256: str
    rows: int
    images: int
    frame: pl.LazyFrame
    tasks: tuple[Task, ...]
    """Tasks that are predicted, with the classes that the columns are in."""
    annotated: frozenset[str]
    """Names of the tasks that have an annotated value in any row; ``age`` stands for years."""
    scored: frozenset[str]
    """Names of the tasks with a probability per class."""
    features: tuple[str, ...]
    """Columns that subgroups can be formed by."""
    metadata: TableMetadata | None = None
    notes: tuple[str, ...] = ()

    def task(self, name: str) -> Task:
        """The task of this name."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise UnknownNameError("task", name, [task.name for task in self.tasks])


def score_column(task: Task, label: str) -> str:
    """Canonical column of the probability of one class."""
    return f"{task.name}_prob_{label}"


def score_columns(task: Task) -> list[str]:
    """Canonical columns of the probabilities of a task, in class order."""
    return [score_column(task, label) for label in task.classes]


def read_table(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
    age_bins: Sequence[int] | None = None,
    scheme_map: Mapping[str, str] | None = None,
    labels: pl.DataFrame | None = None,
) -> PredictionTable:
    """Open a table of predictions.

    Args:
        path: A Parquet or CSV file, or a folder of ``part-*.parquet``.
        columns: Canonical name -> name in the table, where they differ.
        classes: Task -> its classes in the order of a bare list of scores.
        age_bins: Lower bounds of the age groups to audit in.
        scheme_map: Task -> the scheme to coarsen it to.
        labels: Annotations to join: ``image`` and ``<task>_true`` columns, one row per image.

    Raises:
        InputError: If the file cannot be read.
        SchemaError: If columns, classes or schemes do not fit.
        LabelError: If ``labels`` cannot be joined.
    """
    _check_classes(classes or {})
    parts = find_parts(path)
    try:
        draft = _open(path, parts)
        draft = _with_columns_named(draft, columns or {})
        draft = _with_labels(draft, labels)
        draft = _with_image(draft)
        draft = _with_years(draft)
        draft, classes = _with_groups_of_predicted_years(draft, classes or {}, age_bins)
        draft = _with_tasks(draft, classes, scheme_map or {}, age_bins)
        draft = _with_groups_of_annotated_years(draft)
        draft = _with_status(draft)
        return _finished(draft, parts)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: cannot be read ({_first_line(error)})") from error


def _check_classes(classes: Mapping[str, Sequence[str]]) -> None:
    for name, labels in classes.items():
        if len(set(labels)) < max(len(labels), 2):
            raise SchemaError(
                f"--classes {name}={','.join(labels)}: give two classes or more, each once"
            )


def find_parts(path: Path) -> list[Path]:
    """Files that a table consists of, in order.

    Raises:
        InputError: If there is no table at this path.
    """
    if path.is_dir():
        parts = sorted(path.glob("part-*.parquet"))
        if not parts:
            raise InputError(
                f"{path}: this folder holds no part-*.parquet; give a table that "
                "`faceaudit predict` wrote, or a .parquet or .csv file"
            )
        return parts
    if not path.exists():
        raise InputError(f"{path}: there is no such file; give a table of predictions")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: not a table; give a file that ends in {', '.join(SUFFIXES)}")
    return [path]


# --- the steps of reading ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Draft:
    """A table on its way to canonical columns."""

    path: Path
    frame: pl.LazyFrame
    metadata: TableMetadata | None
    labels_joined: bool = False
    tasks: tuple[Task, ...] = ()
    scored: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    dtypes: Mapping[str, pl.DataType] = field(default_factory=dict)

    def having(self, frame: pl.LazyFrame, *notes: str) -> _Draft:
        """The same draft with other rows or columns, and more notes."""
        dtypes = dict(frame.collect_schema())
        return replace(self, frame=frame, dtypes=dtypes, notes=(*self.notes, *notes))


def _open(path: Path, parts: Sequence[Path]) -> _Draft:
    if SUFFIXES[parts[0].suffix.lower()] == "csv":
        frame = pl.scan_csv(path, separator=_separator(path), infer_schema_length=None)
        _check_header(path, frame.collect_schema().names())
        return _Draft(path, frame, None).having(frame)
    metadata = _metadata(path, parts)
    _check_columns(path, parts)
    frame = pl.scan_parquet(list(parts))
    return _Draft(path, frame, metadata).having(frame)


def _separator(path: Path) -> str:
    """The mark that the first line of a CSV file has most of: comma, semicolon or tab."""
    with path.open("rb") as file:
        first = file.readline()
    try:
        text = first.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; save it as CSV UTF-8") from error
    return max(",;\t", key=text.count)


def _check_header(path: Path, names: Sequence[str]) -> None:
    """No column twice: polars would number the second, and its values would be overlooked."""
    for name in names:
        first, mark, number = name.rpartition("_duplicated_")
        if mark and number.isdecimal() and first in names:
            raise SchemaError(f"{path}: the column {first!r} occurs more than once; keep one")


def _check_columns(path: Path, parts: Sequence[Path]) -> None:
    """The same columns of the same types in every part."""
    first = dict(pl.read_parquet_schema(parts[0]))
    for part in parts[1:]:
        columns = dict(pl.read_parquet_schema(part))
        differing = [name for name in {**first, **columns} if first.get(name) != columns.get(name)]
        if differing:
            name = differing[0]
            types = [str(found.get(name, "missing")) for found in (columns, first)]
            raise SchemaError(
                f"{path}: the column {name!r} is {types[0]} in {part.name} but {types[1]} in "
                f"{parts[0].name}; write every part with the same columns and types"
            )


def _metadata(path: Path, parts: Sequence[Path]) -> TableMetadata | None:
    """What the table says of itself; None where faceaudit did not write it."""
    found = [_metadata_of_part(part) for part in parts]
    for part, metadata in zip(parts, found, strict=True):
        if (metadata and metadata.tasks) != (found[0] and found[0].tasks):
            raise SchemaError(
                f"{path}: {part.name} and {parts[0].name} were written for different tasks or "
                "classes; keep the tables of different models in different folders"
            )
    return found[0]


def _metadata_of_part(part: Path) -> TableMetadata | None:
    try:
        text = (pq.read_schema(part).metadata or {}).get(METADATA_KEY)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{part}: not a readable Parquet file ({_first_line(error)}); write it again"
        ) from error
    return None if text is None else TableMetadata.from_json(text, str(part))


def _with_columns_named(draft: _Draft, columns: Mapping[str, str]) -> _Draft:
    """Columns under their canonical names, as ``--columns`` maps them."""
    for given in columns.values():
        if given not in draft.dtypes:
            raise SchemaError(
                f"{draft.path}: --columns names {given!r}, which is no column; "
                f"there are: {', '.join(draft.dtypes)}"
            )
    names = {given: name for name, given in columns.items()}
    if len(names) < len(columns):
        raise SchemaError(f"{draft.path}: --columns names one column twice; name each once")
    if not columns:
        return draft
    replaced = [name for name in columns if name in draft.dtypes and name not in names]
    return draft.having(draft.frame.drop(replaced).rename(names))


def _with_labels(draft: _Draft, labels: pl.DataFrame | None) -> _Draft:
    """Annotations joined by image; an image's label belongs to its face 0."""
    if labels is None:
        return draft
    if IMAGE not in draft.dtypes:
        raise LabelError(f"{draft.path}: labels are joined by the column image, which is missing")
    duplicates = labels.height - labels[IMAGE].n_unique()
    if duplicates:
        raise LabelError(f"the labels name {duplicates} images more than once; give one row each")
    matched = draft.frame.select(pl.col(IMAGE).is_in(labels[IMAGE].implode()).sum())
    if not matched.collect().item():
        raise LabelError(
            f"{draft.path}: no image of the table is among the {labels.height} labelled images; "
            f"the labels name images like {labels[IMAGE].head(1).to_list()}"
        )
    replaced = [name for name in labels.columns if name != IMAGE and name in draft.dtypes]
    frame = draft.frame.drop(replaced).join(
        labels.lazy(), on=IMAGE, how="left", maintain_order="left"
    )
    if FACE in draft.dtypes:
        first = pl.col(FACE).fill_null(0) == 0
        trues = [name for name in labels.columns if name.endswith("_true")]
        frame = frame.with_columns(pl.when(first).then(pl.col(name)).alias(name) for name in trues)
    return replace(draft, labels_joined=True).having(frame)


def _with_image(draft: _Draft) -> _Draft:
    """An image name in every row; without names every row is an image of its own."""
    if IMAGE in draft.dtypes:
        return draft.having(draft.frame.with_columns(pl.col(IMAGE).cast(pl.String).fill_null("")))
    frame = draft.frame.with_row_index(IMAGE).with_columns(pl.col(IMAGE).cast(pl.String))
    return draft.having(frame)


def _with_years(draft: _Draft) -> _Draft:
    """Ages as numbers; what is no age is null and counted."""
    for name in (AGE_TRUE, AGE_PRED):
        if name in draft.dtypes:
            draft = _with_years_in(draft, name)
    return draft


def _with_years_in(draft: _Draft, name: str) -> _Draft:
    years = _as_number(draft, name)
    usable = years.is_finite()
    if name == AGE_TRUE:  # A predicted age may be wrong without bound, an annotated one may not.
        usable &= years.is_between(0, MAX_YEARS)
    given = pl.col(name).is_not_null()
    counts = draft.frame.select(given.sum().alias("given"), (usable & given).sum().alias("usable"))
    given_rows, usable_rows = counts.collect().row(0)
    if given_rows and not usable_rows:
        raise SchemaError(f"{draft.path}: no value of {name} is an age in years")
    if given_rows == usable_rows:
        return draft.having(draft.frame.with_columns(years.alias(name)))
    note = (
        f"{given_rows - usable_rows:,} of {given_rows:,} values of {name} are no age in years and "
        "were left out."
    )
    return draft.having(draft.frame.with_columns(pl.when(usable).then(years).alias(name)), note)


def _as_number(draft: _Draft, name: str) -> pl.Expr:
    """Numbers, also where they are text; of dates and truth values none is made."""
    dtype, value = draft.dtypes[name], pl.col(name)
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        value = value.cast(pl.String).str.strip_chars()
    elif not dtype.is_numeric() and dtype != pl.Null:
        raise SchemaError(f"{draft.path}: {name} is of type {dtype}; give years as numbers")
    return value.cast(pl.Float64, strict=False)


def _with_tasks(
    draft: _Draft,
    classes: Mapping[str, Sequence[str]],
    scheme_map: Mapping[str, str],
    age_bins: Sequence[int] | None,
) -> _Draft:
    names = _task_names(draft)
    for option, given in (("--classes", classes), ("--map", scheme_map)):
        for name in given:
            if name not in names:
                known = ", ".join(names) or "none"
                raise SchemaError(
                    f"{draft.path}: {option} names the task {name!r}, which is not predicted; "
                    f"predicted: {known}"
                )
    for name in names:
        wanted = task_of_scheme(name, scheme_map[name]) if name in scheme_map else None
        if name == AGE_GROUP and age_bins is not None:
            wanted = age_group_task(age_bins)
            draft = _without_groups_of_years(draft)
        draft = _with_task(draft, name, classes.get(name), wanted)
    return draft


def _without_groups_of_years(draft: _Draft) -> _Draft:
    """Annotated years alone, where there are years and groups: years fit any age bins."""
    column = f"{AGE_GROUP}_true"
    if AGE_TRUE not in draft.dtypes or column not in draft.dtypes:
        return draft
    return draft.having(draft.frame.drop(column), f"{column} was formed anew from {AGE_TRUE}.")


def _task_names(draft: _Draft) -> list[str]:
    """Tasks with predictions or scores: the usual ones first, then as the columns come."""
    found = []
    for column in draft.dtypes:
        name, separator, _ = column.partition("_prob_")
        if not separator:
            suffix = next((end for end in ("_pred", "_probs") if column.endswith(end)), None)
            name = column.removesuffix(suffix) if suffix else ""
        if name and name != AGE and name not in found:
            found.append(name)
    usual = [name for name in (GENDER, RACE, AGE_GROUP) if name in found]
    return usual + [name for name in found if name not in usual]


def _with_task(
    draft: _Draft, name: str, given: Sequence[str] | None, wanted: Task | None
) -> _Draft:
    """One task in canonical columns, its scores checked and its schemes brought together."""
    draft, score_classes = _with_scores(draft, name, given)
    draft = _with_text(draft, name, score_classes)
    predicted, annotated = (_values(draft, f"{name}_{kind}") for kind in ("pred", "true"))
    if len(predicted) > MAX_CLASSES:
        note = (
            f"{name}_pred has {len(predicted):,} different values, too many for classes; "
            "it was not audited."
        )
        return draft.having(draft.frame, note)
    task = _declared_task(draft, name, score_classes or given)
    if task is None:
        _check_values_meet(draft, name, predicted, annotated)
        task = task_of_values(name, predicted, annotated)
    if score_classes:
        draft = _with_checked_scores(draft, task)
    agreement = agree(
        task,
        annotated,
        declared=_declared_annotation(draft, name),
        wanted=wanted,
        where=str(draft.path),
    )
    draft = _with_agreement(draft, agreement, predicted, annotated, scored=bool(score_classes))
    scored = draft.scored | ({name} if score_classes else set())
    return replace(draft, tasks=(*draft.tasks, agreement.task), scored=scored)


def _check_values_meet(
    draft: _Draft, name: str, predicted: Collection[str], annotated: Collection[str]
) -> None:
    """Refuse two codings of one thing, such as M and Male, in which nothing would be right."""
    known = any(schemes_with(name, values) for values in ({*predicted, *annotated}, predicted))
    if known or not predicted or not annotated or set(predicted) & set(annotated):
        return
    raise SchemaError(
        f"{draft.path}: no value of {name}_pred ({_some(predicted)}) occurs in {name}_true "
        f"({_some(annotated)}); write both in the same classes, or, where they are, name all: "
        f"--classes {name}=first,second,..."
    )


def _some(values: Iterable[str]) -> str:
    """A few values, quoted."""
    return ", ".join(repr(value) for value in list(values)[:5])


def _with_scores(
    draft: _Draft, name: str, given: Sequence[str] | None
) -> tuple[_Draft, tuple[str, ...]]:
    """Scores as one column per class, and the classes; no classes where there are no scores."""
    column = f"{name}_probs"
    dtype = draft.dtypes.get(column)
    if dtype is None:
        return _with_score_columns(draft, name, given)
    if isinstance(dtype, pl.Struct):
        classes = tuple(part.name for part in dtype.fields)
        values = [pl.col(column).struct.field(label) for label in classes]
    elif isinstance(dtype, pl.List | pl.Array):
        classes = tuple(given or ())
        _check_list(draft, column, classes)
        listed = pl.col(column).cast(pl.List(pl.Float64))
        values = [listed.list.get(k, null_on_oob=True) for k in range(len(classes))]
    else:
        raise SchemaError(
            f"{draft.path}: {column} is of type {dtype}; give a struct with one field per class, "
            f"or columns {name}_prob_<class>"
        )
    scores = [
        value.cast(pl.Float64, strict=False).alias(f"{name}_prob_{label}")
        for value, label in zip(values, classes, strict=True)
    ]
    return draft.having(draft.frame.with_columns(scores).drop(column)), classes


def _check_list(draft: _Draft, column: str, classes: Sequence[str]) -> None:
    name = column.removesuffix("_probs")
    if not classes:
        raise SchemaError(
            f"{draft.path}: {column} is a bare list, which does not say which score is whose; "
            f"name its classes in order: --classes {name}=first,second,..."
        )
    lengths = draft.frame.select(pl.col(column).cast(pl.List(pl.Float64)).list.len().unique())
    found = sorted(length for length in lengths.collect().to_series().drop_nulls())
    if found not in ([], [len(classes)]):
        raise SchemaError(
            f"{draft.path}: --classes {name} names {len(classes)} classes but {column} holds "
            f"{', '.join(map(str, found))} scores; name every class once"
        )


def _with_score_columns(
    draft: _Draft, name: str, given: Sequence[str] | None
) -> tuple[_Draft, tuple[str, ...]]:
    prefix = f"{name}_prob_"
    classes = tuple(
        column.removeprefix(prefix) for column in draft.dtypes if column.startswith(prefix)
    )
    if not classes:
        return draft, ()
    if len(classes) == 1 or (given and set(given) != set(classes)):
        raise SchemaError(
            f"{draft.path}: {name} has scores for {', '.join(classes)} only; "
            f"give one column {prefix}<class> for every class"
        )
    scores = [pl.col(prefix + label).cast(pl.Float64, strict=False) for label in classes]
    return draft.having(draft.frame.with_columns(scores)), classes


def _with_text(draft: _Draft, name: str, score_classes: Sequence[str]) -> _Draft:
    """The predicted and annotated column as text; predictions from scores where there are none."""
    pred, true = f"{name}_pred", f"{name}_true"
    frame = draft.frame.with_columns(
        _as_text(draft, column).alias(column) for column in (pred, true) if column in draft.dtypes
    )
    if pred not in draft.dtypes and score_classes:
        frame = frame.with_columns(_argmax(name, score_classes).alias(pred))
    return draft.having(frame)


def _as_text(draft: _Draft, column: str) -> pl.Expr:
    """Values as text: trimmed, empty is null, whole numbers without a fraction."""
    dtype, value = draft.dtypes[column], pl.col(column)
    if draft.metadata is not None and not draft.labels_joined and dtype == pl.String:
        return value
    if dtype.is_float():
        value = value.fill_nan(None)
        whole = value.cast(pl.Int64, strict=False)
        return pl.when(value == whole).then(whole.cast(pl.String)).otherwise(value.cast(pl.String))
    if dtype.is_nested() or dtype == pl.Binary:
        raise SchemaError(f"{draft.path}: {column} is of type {dtype}; give class names")
    text = value.cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _argmax(name: str, classes: Sequence[str]) -> pl.Expr:
    """The class of the highest score, the first of equal ones; null where a score is."""
    columns = [pl.col(f"{name}_prob_{label}") for label in classes]
    complete = pl.all_horizontal(column.is_not_null() for column in columns)
    top = pl.max_horizontal(columns)
    found = pl.lit(classes[-1])
    for column, label in reversed(list(zip(columns, classes, strict=True))):
        found = pl.when(column == top).then(pl.lit(label)).otherwise(found)
    return pl.when(complete).then(found)


def _values(draft: _Draft, column: str) -> dict[str, int]:
    """Values of a text column with their counts, null left out; empty where there is none."""
    if column not in draft.dtypes:
        return {}
    counts = draft.frame.group_by(column).len().drop_nulls(column).sort(column)
    return dict(counts.collect(engine="streaming").rows())


def _declared_task(draft: _Draft, name: str, classes: Sequence[str] | None) -> Task | None:
    """The predicted task where the table, its score columns or the user name the classes."""
    written = draft.metadata.tasks if draft.metadata else ()
    for task in written:
        if task.name == name:
            if classes and set(classes) != set(task.classes):
                raise SchemaError(
                    f"{draft.path}: {name} is declared with the classes "
                    f"{', '.join(task.classes)} but scored in {', '.join(classes)}"
                )
            return task
    return named_task(name, classes) if classes else None


def _declared_annotation(draft: _Draft, name: str) -> Task | None:
    """The annotations' scheme, where the table names it."""
    if draft.metadata is None or draft.labels_joined:
        return None
    for fact in draft.metadata.labels.get("tasks", ()):
        if fact["name"] == name and fact.get("classes"):
            return Task(name, fact["scheme"], tuple(fact["classes"]))
    return None


def _with_checked_scores(draft: _Draft, task: Task) -> _Draft:
    """Scores that are probabilities; those of a face that are not are null and counted."""
    columns = [pl.col(name) for name in score_columns(task)]
    given = pl.any_horizontal(column.is_not_null() for column in columns)
    finite = pl.all_horizontal(
        column.is_not_null() & column.is_finite() & (column >= 0) for column in columns
    )
    sums = (pl.sum_horizontal(columns) - 1).abs() <= SUM_TOLERANCE
    usable = (given & finite & sums).fill_null(False)
    top, pred = pl.max_horizontal(columns), pl.col(task.pred_column)
    beaten = pl.any_horizontal(
        (pred == label) & (column < top)
        for label, column in zip(task.classes, columns, strict=True)
    )
    differs = usable & beaten
    counts = draft.frame.select(
        given.sum().alias("given"),
        usable.sum().alias("usable"),
        (given & ~finite).sum().alias("broken"),
        differs.fill_null(False).sum().alias("differs"),
        pl.sum_horizontal(columns).filter(given & finite).first().alias("example"),
    )
    found = counts.collect(engine="streaming").row(0, named=True)
    if found["given"] and not found["usable"]:
        example = f", such as {found['example']:g}" if found["example"] is not None else ""
        raise SchemaError(
            f"{draft.path}: no face's {task.name} scores are probabilities that sum to 1"
            f"{example}; give softmax outputs from 0 to 1, or leave the columns out"
        )
    notes = _score_notes(task, found)
    if found["given"] == found["usable"]:
        return replace(draft, notes=(*draft.notes, *notes))
    frame = draft.frame.with_columns(pl.when(usable).then(column) for column in columns)
    return draft.having(frame, *notes)


def _score_notes(task: Task, found: Mapping[str, int]) -> list[str]:
    notes = []
    off = found["given"] - found["usable"] - found["broken"]
    for count, why in (
        (found["broken"], "missing, negative or not finite"),
        (off, "not sum to 1"),
    ):
        if count:
            verb = "are" if why.startswith("missing") else "do"
            notes.append(
                f"{task.name}: the scores of {count:,} of {found['given']:,} faces {verb} {why}; "
                "they were left out of every figure that needs scores."
            )
    if found["differs"]:
        share = found["differs"] / found["usable"]
        notes.append(
            f"{task.name}: for {found['differs']:,} of {found['usable']:,} faces ({share:.1%}) the "
            f"highest score belongs to another class than {task.pred_column} names."
        )
    return notes


def _with_agreement(
    draft: _Draft,
    agreement: Agreement,
    predicted: Mapping[str, int],
    annotated: Mapping[str, int],
    *,
    scored: bool,
) -> _Draft:
    """Both columns, and the scores, in the classes that were agreed on."""
    task, way = agreement.task, agreement.predicted
    notes = []
    frame = draft.frame
    if way.changes and scored:
        frame = _with_summed_scores(frame, way)
    if task.pred_column in draft.dtypes:
        frame = _mapped(frame, task.pred_column, way.classes, predicted)
        notes += _stray_note(task.pred_column, predicted, way.classes)
    if way.changes and scored:
        # The most probable merged class need not hold the most probable single class.
        best = _argmax(task.name, task.classes)
        frame = frame.with_columns(pl.coalesce(best, task.pred_column).alias(task.pred_column))
    if way.changes:
        notes.append(_merge_note("predicted", way, scored=scored))
    if task.true_column in draft.dtypes:
        known = agreement.annotated.classes if agreement.annotated else _identity(task)
        frame = _mapped(frame, task.true_column, known, annotated)
        notes += _stray_note(task.true_column, annotated, known)
        if agreement.annotated and agreement.annotated.changes:
            notes.append(_merge_note("annotated", agreement.annotated, scored=False))
    return draft.having(frame, *notes)


def _identity(task: Task) -> dict[str, str]:
    return {label: label for label in task.classes}


def _with_summed_scores(frame: pl.LazyFrame, way: Coarsening) -> pl.LazyFrame:
    """Scores of merged classes: the sums of the scores of their parts."""
    merged = []
    for label in way.target.classes:
        parts = [old for old, new in way.classes.items() if new == label]
        columns = [pl.col(score_column(way.source, old)) for old in parts]
        total = pl.sum_horizontal(columns, ignore_nulls=False) if columns else pl.lit(0.0)
        merged.append(total.alias(f"_merged_{label}"))
    first = pl.col(score_columns(way.source)[0])
    names = {f"_merged_{label}": score_column(way.target, label) for label in way.target.classes}
    complete = [pl.when(first.is_not_null()).then(pl.col(name)).alias(name) for name in names]
    return (
        frame.with_columns(merged)
        .with_columns(complete)
        .drop(score_columns(way.source))
        .rename(names)
    )


def _mapped(
    frame: pl.LazyFrame, column: str, classes: Mapping[str, str], values: Iterable[str]
) -> pl.LazyFrame:
    """A text column in other classes; values without one are null."""
    if all(classes.get(value) == value for value in values):
        return frame
    return frame.with_columns(
        pl.col(column).replace_strict(
            list(classes), list(classes.values()), default=None, return_dtype=pl.String
        )
    )


def _merge_note(kind: str, way: Coarsening, *, scored: bool) -> str:
    summed = " Probabilities were summed and the highest sum taken." if scored else ""
    return (
        f"{way.source.name}: {kind} classes were merged from {way.source.scheme} to "
        f"{way.target.scheme}: {way.sentence}.{summed}"
    )


def _stray_note(column: str, values: Mapping[str, int], known: Iterable[str]) -> list[str]:
    stray = {value: count for value, count in values.items() if value not in set(known)}
    if not stray:
        return []
    return [
        f"{sum(stray.values()):,} of {sum(values.values()):,} values of {column} are not among its "
        f"classes ({_some(stray)}) and were left out."
    ]


def _with_groups_of_predicted_years(
    draft: _Draft, classes: Mapping[str, Sequence[str]], age_bins: Sequence[int] | None
) -> tuple[_Draft, Mapping[str, Sequence[str]]]:
    """Predicted age groups from years, where only years are predicted; and their classes."""
    if AGE_PRED not in draft.dtypes or AGE_GROUP in _task_names(draft):
        return draft, classes
    task = age_group_task(age_bins or _annotated_bins(draft) or AGE_BINS[DEFAULT_AGE_SCHEME])
    frame = draft.frame.with_columns(_group_of(AGE_PRED, task, task.pred_column))
    return draft.having(frame), {**classes, AGE_GROUP: task.classes}


def _annotated_bins(draft: _Draft) -> tuple[int, ...] | None:
    """Lower bounds of the annotated age groups, where they are groups with bounds."""
    values = _values(draft, f"{AGE_GROUP}_true")
    return age_bins_of(task_of_values(AGE_GROUP, values, []).classes) if values else None


def _with_groups_of_annotated_years(draft: _Draft) -> _Draft:
    """Annotated age groups from years, where only years are annotated."""
    task = next((task for task in draft.tasks if task.name == AGE_GROUP), None)
    if task is None or AGE_TRUE not in draft.dtypes or age_bins_of(task.classes) is None:
        return draft
    group = _group_of(AGE_TRUE, task, task.true_column)
    if task.true_column in draft.dtypes:
        group = pl.coalesce(task.true_column, group).alias(task.true_column)
    return draft.having(draft.frame.with_columns(group))


def _group_of(years: str, task: Task, name: str) -> pl.Expr:
    """The age group of a column of years; below the first bound counts as the first group."""
    found = pl.lit(task.classes[0])
    bins = age_bins_of(task.classes) or ()
    for low, label in list(zip(bins, task.classes, strict=True))[1:]:
        found = pl.when(pl.col(years) >= low).then(pl.lit(label)).otherwise(found)
    return pl.when(pl.col(years).is_not_null()).then(found).alias(name)


def _with_status(draft: _Draft) -> _Draft:
    """A status for every row: as written, else whether the row has any prediction."""
    if not draft.tasks and AGE_PRED not in draft.dtypes:
        raise SchemaError(
            f"{draft.path}: no predictions found: no column ends in _pred or _probs; map yours "
            f"with --columns, such as race_pred=yhat; there are: {', '.join(draft.dtypes)}"
        )
    if set(_status_values(draft)) - {None} and set(_status_values(draft)) <= set(STATUSES):
        return draft
    preds = [task.pred_column for task in draft.tasks] + [AGE_PRED]
    predicted = pl.any_horizontal(
        pl.col(name).is_not_null() for name in preds if name in draft.dtypes
    )
    status = pl.when(predicted).then(pl.lit(OK)).otherwise(pl.lit(NOT_SCORED)).alias(STATUS)
    return draft.having(draft.frame.with_columns(status))


def _status_values(draft: _Draft) -> set[str | None]:
    if draft.dtypes.get(STATUS) != pl.String:
        return {None}
    found = draft.frame.select(pl.col(STATUS).unique()).collect(engine="streaming")
    return set(found[STATUS])


def _finished(draft: _Draft, parts: Sequence[Path]) -> PredictionTable:
    truths = [name for name in _true_columns(draft) if name in draft.dtypes]
    facts = draft.frame.select(
        pl.len().alias("rows"),
        pl.col(IMAGE).n_unique().alias("images"),
        *(pl.col(name).is_not_null().any() for name in truths),
    )
    found = facts.collect(engine="streaming").row(0, named=True)
    if not found["rows"]:
        raise SchemaError(f"{draft.path}: the table has no rows; predict some images first")
    scores = {name for task in draft.tasks for name in score_columns(task)}
    return PredictionTable(
        path=draft.path,
        sha256=_sha256(parts),
        rows=found["rows"],
        images=found["images"],
        frame=draft.frame,
        tasks=draft.tasks,
        annotated=frozenset(name.removesuffix("_true") for name in truths if found[name]),
        scored=draft.scored,
        features=tuple(
            name
            for name, dtype in draft.dtypes.items()
            if name not in scores and not dtype.is_nested() and dtype != pl.Binary
        ),
        metadata=draft.metadata,
        notes=draft.notes,
    )


def _true_columns(draft: _Draft) -> list[str]:
    years = [AGE_TRUE] if AGE_PRED in draft.dtypes else []
    return [task.true_column for task in draft.tasks] + years


def _sha256(parts: Sequence[Path]) -> str:
    """Of one file its hash; of several the hash of their names and hashes."""
    if len(parts) == 1:
        return sha256_of_file(parts[0])
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.name} {sha256_of_file(part)}\n".encode())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
