"""Files that a table consists of: opened, named, and joined with labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from faceaudit.errors import InputError, LabelError, SchemaError
from faceaudit.schema import METADATA_KEY, TableMetadata
from faceaudit.storage import sha256_of_file
from faceaudit.tables.table import FACE, IMAGE, Draft, first_line

SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv"}


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


def open_parts(path: Path, parts: Sequence[Path]) -> Draft:
    """A table as it is written, its parts one after the other.

    Raises:
        InputError: If it cannot be read.
        SchemaError: If its parts do not fit together.
    """
    if SUFFIXES[parts[0].suffix.lower()] == "csv":
        frame = pl.scan_csv(path, separator=_separator(path), infer_schema_length=None)
        _check_header(path, frame.collect_schema().names())
        return Draft(path, frame, None).having(frame)
    metadata = _metadata(path, parts)
    _check_columns(path, parts)
    frame = pl.scan_parquet(list(parts))
    return Draft(path, frame, metadata).having(frame)


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
            f"{part}: not a readable Parquet file ({first_line(error)}); write it again"
        ) from error
    return None if text is None else TableMetadata.from_json(text, str(part))


def with_columns_named(draft: Draft, columns: Mapping[str, str]) -> Draft:
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


def with_labels(draft: Draft, labels: pl.DataFrame | None) -> Draft:
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


def with_image(draft: Draft) -> Draft:
    """An image name in every row; without names every row is an image of its own."""
    if IMAGE in draft.dtypes:
        return draft.having(draft.frame.with_columns(pl.col(IMAGE).cast(pl.String).fill_null("")))
    frame = draft.frame.with_row_index(IMAGE).with_columns(pl.col(IMAGE).cast(pl.String))
    return draft.having(frame)


def sha256_of_parts(parts: Sequence[Path]) -> str:
    """Of one file its hash; of several the hash of their names and hashes."""
    if len(parts) == 1:
        return sha256_of_file(parts[0])
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.name} {sha256_of_file(part)}\n".encode())
    return digest.hexdigest()
