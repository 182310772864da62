"""The sets of images that are searched: folders, lists, tars, prepared crops, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from faceaudit.errors import InputError, LabelError, UsageError
from faceaudit.images.find import find_images
from faceaudit.images.lists import images_in
from faceaudit.images.refs import ImageRef
from faceaudit.images.source import Batch
from faceaudit.labels import AUTO, Labels, open_labels
from faceaudit.labels.carried import Carried, Chosen, choose_labels
from faceaudit.leakage.annotated import TASKS, annotated_columns, with_annotations
from faceaudit.ordered import in_chunks
from faceaudit.schema import Task
from faceaudit.schemes import task_of_values
from faceaudit.storage import as_path, local_copy, parquet_schema
from faceaudit.storage.paths import same_file
from faceaudit.tables.annotations import with_image
from faceaudit.tables.files import SUFFIXES, find_parts, open_parts
from faceaudit.tables.table import IMAGE, Draft, readable

SHA256, FILE_NAME = "sha256", "file_name"
PREPARED = "metadata.parquet"
AT_ONCE = 4096
"""Images whose labels are read at a time."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One set, usually a split of a data set."""

    name: str
    """As the user gave it."""
    images: tuple[str, ...]
    """Names of the images in it, each once."""
    refs: tuple[ImageRef, ...] | None
    """Where they lie; None where only hashes of their bytes are known."""
    sha256: tuple[str | None, ...] | None = None
    """Hashes that are known already, such as those of the images that crops were cut from."""
    recorded: tuple[str | None, ...] | None = None
    """Hashes that a table recorded; they count where the image cannot be opened any more."""
    view: float = 1.0
    """Share of the images' sides that counts, around the center."""
    annotations: pl.DataFrame = field(default_factory=pl.DataFrame)
    """Annotated columns, one row per image; without columns where there are none."""
    tasks: Mapping[str, Task] = field(default_factory=dict)
    labels: str | None = None
    """The label format, if there are labels."""
    notes: tuple[str, ...] = ()


def read_sets(
    sources: Sequence[str], *, images: Sequence[str] = (), labels: str = AUTO
) -> list[ImageSet]:
    """The sets, in the order given.

    Args:
        sources: Folders, lists, tars, prepared folders, or tables with ``image`` and ``sha256``.
        images: Folders that the names in tables are relative to, one for all or one per table.
        labels: As ``read_labels`` takes them; tables bring their own.

    Raises:
        FaceauditError: If a set or its labels cannot be read, or one is given twice.
    """
    if not sources:
        raise UsageError("no images: give a folder, a list, a tar or a table")
    places = [as_path(source) for source in sources]
    for number, source in enumerate(sources):
        own = places[number]
        if any(own == other or same_file(own, other) for other in places[:number]):
            raise UsageError(f"{source}: is given twice; give each set once")
    drafts = [_as_table(source) for source in sources]
    tables = sum(draft is not None for draft in drafts)
    if images and not tables:
        raise UsageError(f"--images {images[0]}: no set is a table, whose images it would hold")
    if len(images) not in (0, 1, tables):
        raise UsageError(
            f"--images: {len(images)} folders for {tables} tables; give one, or one for each"
        )
    folders = iter(images if len(images) == tables else list(images) * tables)
    return [
        _of_images(source, labels)
        if draft is None
        else _of_table(source, draft, next(folders, None))
        for source, draft in zip(sources, drafts, strict=True)
    ]


# --- tables -----------------------------------------------------------------------------------


def _as_table(source: str) -> Draft | None:
    """A table that names images with the hashes of their bytes; None where it is none."""
    path = as_path(source)
    is_file = path.suffix.lower() in SUFFIXES and path.is_file()
    if not is_file and not any(path.glob("part-*.parquet")):
        return None
    parts = find_parts(path)
    with readable(path):
        draft = open_parts(path, parts)
    return draft if {IMAGE, SHA256} <= set(draft.dtypes) else None


def _of_table(source: str, draft: Draft, folder: str | None) -> ImageSet:
    schemes = draft.metadata.annotated_tasks if draft.metadata else {}
    present = annotated_columns(draft)
    with readable(draft.path):
        draft = with_annotations(with_image(draft), schemes)
        rows = draft.frame.select(IMAGE, hashes(SHA256), *present)
        # Rows without a name are an image each: nothing says that two of them are one.
        distinct = pl.col(IMAGE).is_null() | pl.col(IMAGE).is_first_distinct()
        frame = rows.filter(distinct).collect()
    if frame.is_empty():
        raise InputError(f"{source}: the table has no rows; predict some images first")
    names = tuple(frame[IMAGE].fill_null("").to_list())
    digests = tuple(frame[SHA256].to_list())
    place = None if folder is None else _folder(folder)
    annotated = [name for name in present if frame[name].null_count() < len(frame)]
    return ImageSet(
        name=source,
        images=names,
        refs=None if place is None else tuple(images_in(place, names)),
        sha256=digests if place is None else None,
        recorded=None if place is None else digests,
        annotations=frame.select(annotated),
        tasks=_tasks(frame.select(annotated), schemes),
        labels="table" if annotated else None,
        notes=tuple(f"{source}: {note}" for note in draft.notes),
    )


def hashes(column: str) -> pl.Expr:
    """A column of SHA-256 in hexadecimal, in lower case; what is none is null."""
    text = pl.col(column).cast(pl.String, strict=False).str.strip_chars().str.to_lowercase()
    return pl.when(text.str.contains("^[0-9a-f]{64}$")).then(text).alias(column)


def _folder(given: str) -> Path:
    path = as_path(given)
    if not path.is_dir():
        raise InputError(f"--images {given}: is no folder; give the one that predict read")
    return path


def _tasks(annotations: pl.DataFrame, declared: Mapping[str, Task]) -> dict[str, Task]:
    """The scheme of every annotated column: as declared, else the smallest that fits."""
    found = {}
    for name in TASKS:
        column = f"{name}_true"
        if column in annotations.columns:
            values = annotations[column].drop_nulls().cast(pl.String).unique().to_list()
            found[name] = declared.get(name) or task_of_values(name, values, values)
    return found


# --- images -----------------------------------------------------------------------------------


def _of_images(source: str, labels: str) -> ImageSet:
    found = find_images(source)
    batches = list(found.batches(AT_ONCE))
    refs = tuple(ref for batch in batches for ref in batch.refs)
    names = tuple(ref.name for ref in refs)
    notes = list(found.notes)
    try:
        given = open_labels(labels, found)
    except LabelError as error:
        if labels != AUTO:
            raise
        given = None
        notes.append(f"{source}: its labels were left out: {error}")
    chosen = choose_labels(given, labels, found.carried_schema, source)
    annotations, of_labels = _labeled(chosen.labels, names)
    own, of_own = _own(source, chosen, found.carried_schema, batches)
    digests, view = _prepared(found.folder, names)
    return ImageSet(
        name=source,
        images=names,
        refs=refs,
        sha256=digests,
        view=view,
        annotations=pl.concat([annotations, own], how="horizontal"),
        tasks={**_tasks(own, {}), **_tasks_of(chosen.labels)},
        labels=chosen.labels.format if chosen.labels else "table" if own.width else None,
        notes=(*notes, *chosen.notes, *of_labels, *of_own),
    )


def _labeled(labels: Labels | None, names: Sequence[str]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Label columns of the images, one row each, and notes on them."""
    if labels is None:
        return pl.DataFrame(), ()
    parts = [labels.of(part) for part in in_chunks(names, AT_ONCE)]
    return pl.concat([labels.columns, *parts]), labels.notes()


def _tasks_of(labels: Labels | None) -> dict[str, Task]:
    return {} if labels is None else {task.name: task for task in labels.tasks}


def _own(
    source: str, chosen: Chosen, columns: pl.DataFrame | None, batches: Sequence[Batch]
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Annotated columns of the source itself, one row per image, and notes on them."""
    if not chosen.own or columns is None:
        return pl.DataFrame(), ()
    carried = Carried(columns, source, chosen.labels)
    rows = [carried.of(batch.carried) for batch in batches]
    frame = pl.concat([one for one in (carried.of(columns), *rows) if one is not None])
    draft = Draft(as_path(source), frame.lazy(), None, dtypes=frame.schema)
    draft = with_annotations(draft, {})
    kept = draft.frame.select(name for name in annotated_columns(draft) if name in chosen.own)
    return kept.collect(), (*carried.notes(), *(f"{source}: {note}" for note in draft.notes))


def _prepared(
    folder: Path | None, names: Sequence[str]
) -> tuple[tuple[str | None, ...] | None, float]:
    """Hashes of the images that prepared crops were cut from, and the share that is no border."""
    path = None if folder is None else folder / PREPARED
    if path is None or not path.is_file():
        return None, 1.0
    try:
        columns = parquet_schema(path)
        if not {FILE_NAME, SHA256, "align", "margin"} <= set(columns):
            return None, 1.0
        table = pl.read_parquet(
            local_copy(path), columns=[FILE_NAME, SHA256, "align", "margin"], glob=False
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read; run `faceaudit prepare` again") from error
    if table.is_empty():
        return None, 1.0
    of_crop = dict(table.select(FILE_NAME, hashes(SHA256)).iter_rows())
    align, margin = table.row(0)[2:]
    side = 1 + margin if align == "similarity" else 1 + 2 * margin
    return tuple(of_crop.get(name) for name in names), 1 / max(side, 1.0)
