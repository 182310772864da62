"""Files that a table consists of, opened, with columns under their canonical names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from faceaudit.errors import InputError, SchemaError, TemporaryError
from faceaudit.schema import MANIFEST_FILE, METADATA_KEY, TableMetadata, with_notes
from faceaudit.storage import arrow_file, list_parts, local_copies, parquet_schema, sha256_of_file
from faceaudit.tables.csv_file import scan_csv
from faceaudit.tables.purges import purge_notes
from faceaudit.tables.table import IMAGE, Draft, first_line

ENDINGS = ("pred", "true", "probs")
"""Of the columns that a task is read from, as ``gender_pred``."""
SUFFIXES = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv"}


def find_parts(path: Path) -> list[Path]:
    """Files on this machine that a table consists of, in order.

    Of a table on an object store they are copies, which are kept as long as ``path`` is.

    Raises:
        InputError: If there is no table at this path.
    """
    if path.is_dir():
        manifest = _manifest(path)
        _check_complete(path, manifest)
        parts = list_parts(path)
        _check_parts(path, manifest, {part.name for part in parts})
        if not parts:
            raise InputError(
                f"{path}: this folder holds no part-*.parquet; give a table that "
                "`faceaudit predict` wrote, or a .parquet or .csv file"
            )
        return local_copies(parts, path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file; give a table of predictions")
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: not a table; give a file that ends in {', '.join(SUFFIXES)}")
    return local_copies([path], path)


def _check_complete(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a folder that a run is still adding to: its figures would be of some images only.

    Raises:
        TemporaryError: If its manifest says so.
    """
    if manifest.get("complete") is False:
        raise TemporaryError(
            f"{folder}: the run that writes it has not ended; wait for it, or run the same "
            "`faceaudit predict` again, which goes on where it stopped"
        )


def _check_parts(folder: Path, manifest: Mapping[str, Any], found: Collection[str]) -> None:
    """Refuse a folder whose parts are not those that its manifest names, as half a copy's are.

    Raises:
        InputError: If a part is missing, or another one is there.
    """
    named = manifest.get("parts")
    if not isinstance(named, list):
        return
    files = {str(part.get("file")) for part in named if isinstance(part, Mapping)}
    for missing in sorted(files.difference(found)):
        raise InputError(
            f"{folder / missing}: is missing, and {MANIFEST_FILE} names it; copy the folder again, "
            "or make the table anew with `faceaudit predict --restart`"
        )
    for other in sorted(set(found) - files):
        raise InputError(f"{folder / other}: is no part that {MANIFEST_FILE} names; move it away")


def _manifest(folder: Path) -> dict[str, Any]:
    """What a folder of parts says of itself; nothing where faceaudit did not write it."""
    try:
        found = json.loads((folder / MANIFEST_FILE).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def open_parts(path: Path, parts: Sequence[Path], image: str = IMAGE) -> Draft:
    """A table as it is written, its parts one after the other.

    Args:
        path: The table.
        parts: Its files.
        image: The column of a CSV file that names images, which is text whatever it holds.

    Raises:
        InputError: If it cannot be read.
        SchemaError: If its parts do not fit together.
    """
    if SUFFIXES[parts[0].suffix.lower()] == "csv":
        frame, notes = scan_csv(path, parts[0], image)
        return _with_trimmed_names(Draft(path, frame, None, notes=notes))
    metadata = _metadata(path, parts)
    schemas = [parquet_schema(part) for part in parts]
    same = all(schema == schemas[0] for schema in schemas)
    frame = pl.scan_parquet(list(parts), glob=False) if same else _scan_unlike(path, parts, schemas)
    draft = Draft(path, frame, metadata, notes=purge_notes(path), sliceable=same)
    return _with_trimmed_names(draft)


def _with_trimmed_names(draft: Draft) -> Draft:
    """Columns by their names without the blanks around them."""
    names = draft.frame.collect_schema().names()
    trimmed = {name: name.strip() for name in names}
    if len(set(trimmed.values())) < len(names):
        raise SchemaError(
            f"{draft.path}: two columns have one name but for blanks: {', '.join(map(repr, names))}"
        )
    changed = {name: new for name, new in trimmed.items() if name != new}
    return draft.having(draft.frame.rename(changed) if changed else draft.frame)


# --- Parquet ----------------------------------------------------------------------------------


def _scan_unlike(
    path: Path, parts: Sequence[Path], schemas: Sequence[Mapping[str, pl.DataType]]
) -> pl.LazyFrame:
    """The parts one after the other; a column that they encode differently in a common type."""
    columns = dict.fromkeys(name for schema in schemas for name in schema)
    wanted = {}
    for name in columns:
        types = [schema.get(name) for schema in schemas]
        common = _common_type([dtype for dtype in types if dtype is not None])
        if common is None or None in types:
            _refuse_types(path, parts, name, types)
        else:
            wanted[name] = common
    frames = [
        pl.scan_parquet(part, glob=False).select(
            _as_type(pl.col(name), schema[name], dtype).alias(name)
            for name, dtype in wanted.items()
        )
        for part, schema in zip(parts, schemas, strict=True)
    ]
    return pl.concat(frames)


def _common_type(types: Sequence[pl.DataType]) -> pl.DataType | None:
    """A type that holds the values of all of them, None where there is none."""
    different = list(dict.fromkeys(dtype for dtype in types if dtype != pl.Null))
    if len(different) < 2:
        return different[0] if different else pl.Null()
    if all(isinstance(dtype, pl.String | pl.Categorical | pl.Enum) for dtype in different):
        return pl.String()
    if all(dtype.is_integer() for dtype in different):
        return pl.Int64()
    if all(dtype.is_numeric() for dtype in different):
        return pl.Float64()
    structs = [_fields(dtype) for dtype in different if isinstance(dtype, pl.Struct)]
    if len(structs) < len(different) or any(set(one) != set(structs[0]) for one in structs):
        return None
    fields = {name: _common_type([one[name] for one in structs]) for name in structs[0]}
    known = {name: dtype for name, dtype in fields.items() if dtype is not None}
    return pl.Struct(known) if len(known) == len(fields) else None


def _fields(dtype: pl.Struct) -> dict[str, pl.DataType]:
    return {
        name: of if isinstance(of, pl.DataType) else of() for name, of in dtype.to_schema().items()
    }


def _as_type(value: pl.Expr, given: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    if not isinstance(wanted, pl.Struct) or given == pl.Null:
        return value.cast(wanted)
    # By name: a cast would go by the order of the fields.
    return pl.struct(
        value.struct.field(name).cast(dtype).alias(name) for name, dtype in _fields(wanted).items()
    )


def _refuse_types(
    path: Path, parts: Sequence[Path], name: str, types: Sequence[pl.DataType | None]
) -> NoReturn:
    other = next(index for index, dtype in enumerate(types) if dtype != types[0])
    first, found = (str(types[index] or "missing") for index in (0, other))
    raise SchemaError(
        f"{path}: the column {name!r} is {found} in {parts[other].name} but {first} in "
        f"{parts[0].name}; write every part with the same columns and types"
    )


def _metadata(path: Path, parts: Sequence[Path]) -> TableMetadata | None:
    """What the table says of itself; None where faceaudit did not write it."""
    found = [_metadata_of_part(_named(path, part), part) for part in parts]
    for part, metadata in zip(parts, found, strict=True):
        if (metadata and metadata.tasks) != (found[0] and found[0].tasks):
            raise SchemaError(
                f"{path}: {part.name} and {parts[0].name} were written for different tasks or "
                "classes; keep the tables of different models in different folders"
            )
    notes = _manifest(path).get("notes")
    if found[0] is None or not notes or not found[0].labels:
        return found[0]
    return replace(found[0], labels=with_notes(found[0].labels, notes))


def _named(path: Path, part: Path) -> str:
    """A part as the user knows it, which may be another file than the copy that is read."""
    return str(path if part.name == path.name else path / part.name)


def _metadata_of_part(name: str, part: Path) -> TableMetadata | None:
    try:
        return read_metadata(part, name)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name}: not a readable Parquet file ({first_line(error)}); write it again"
        ) from error


def read_metadata(path: Path, name: str = "") -> TableMetadata | None:
    """What a Parquet file says of itself; None where faceaudit did not write it.

    Args:
        path: The file.
        name: As the user knows it; by default the path.
    """
    text = (pq.read_schema(arrow_file(path)).metadata or {}).get(METADATA_KEY)
    return None if text is None else TableMetadata.from_json(text, name or str(path))


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
    for name, given in columns.items():
        stem, _, ending = name.rpartition("_")
        meant = get_close_matches(ending, ENDINGS, n=1, cutoff=0.65)
        if stem and ending not in ENDINGS and meant:
            raise SchemaError(
                f"{draft.path}: --columns {name}={given}: no task is read from a column that ends "
                f"in _{ending}; {stem}_{meant[0]}={given} would be"
            )
    replaced = [name for name in columns if name in draft.dtypes and name not in names]
    return draft.having(draft.frame.drop(replaced).rename(names))


def sha256_of_parts(parts: Sequence[Path]) -> str:
    """Of one file its hash; of several the hash of their names and hashes."""
    if len(parts) == 1:
        return sha256_of_file(parts[0])
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.name} {sha256_of_file(part)}\n".encode())
    return digest.hexdigest()
