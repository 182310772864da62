"""Images in an uncompressed tar file, as webdataset writes them."""

from __future__ import annotations

import json
import posixpath
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from faceaudit.errors import InputError
from faceaudit.images.refs import ImageRef, ImageSource
from faceaudit.schema import BASE_FIELDS

_BESIDE = ".txt .json .cls .cls2 .index .csv .npy .npz .pth .pyd .id .meta"
_NO_IMAGES = frozenset(_BESIDE.split())
"""Members that stand beside an image under the same key."""


def read_shard(path: Path) -> ImageSource:
    """The images of a tar file in its own order; fields of JSON members are carried.

    Members of one sample share their key: the path up to the first dot of the file name.

    Raises:
        InputError: If the file is not an uncompressed tar, or is damaged.
    """
    refs: list[ImageRef] = []
    fields: dict[str, dict[str, Any]] = {}
    damaged: list[str] = []
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isfile() or posixpath.basename(member.name).startswith("."):
                    continue
                suffix = PurePosixPath(member.name).suffix.lower()
                if suffix == ".json":
                    _add_fields(tar, member, fields, damaged)
                elif suffix not in _NO_IMAGES:
                    name = _readable(member.name)
                    refs.append(ImageRef(name, path, member.offset_data, member.size))
    except tarfile.TarError as error:
        raise InputError(
            f"{path}: cannot be read as a tar that is not compressed ({error}); write it again"
        ) from error
    notes = (f"{path}: the JSON members {_some(damaged)} hold no fields",) if damaged else ()
    carried = _table([fields.get(_key(ref.name), {}) for ref in refs])
    return ImageSource(str(path), None, tuple(refs), carried, notes)


def _add_fields(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    fields: dict[str, dict[str, Any]],
    damaged: list[str],
) -> None:
    """Read one JSON member into ``fields``, or note it as damaged."""
    file = tar.extractfile(member)
    try:
        found = json.loads(file.read()) if file else None
    except (ValueError, RecursionError):  # bad JSON, bad UTF-8, brackets without end
        found = None
    if isinstance(found, dict):
        fields[_key(_readable(member.name))] = found
    else:
        damaged.append(_readable(member.name))


def _key(name: str) -> str:
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.split(".", 1)[0])


def _readable(name: str) -> str:
    """A name that can be written as UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3:,} more" * (len(names) > 3))


def _table(rows: list[dict[str, Any]]) -> pl.DataFrame | None:
    """Fields as columns, by order of appearance; fields that faceaudit writes itself are left out.

    Such fields (``width``, ``sha256``, ``status``) are facts that faceaudit establishes anew.
    """
    own = {field.name for field in BASE_FIELDS}
    names = list(dict.fromkeys(name for row in rows for name in row if name not in own))
    if not names:
        return None
    return pl.DataFrame([_column(name, [row.get(name) for row in rows]) for name in names])


def _column(name: str, values: list[Any]) -> pl.Series:
    """Values of one field in the narrowest type that holds them all; others as JSON text."""
    given = [value for value in values if value is not None]
    kinds = {type(value) for value in given}
    if kinds <= {bool}:
        return pl.Series(name, values, pl.Boolean)
    if kinds <= {int, float} and all(abs(value) < 1 << 63 for value in given):
        return pl.Series(name, values, pl.Float64 if float in kinds else pl.Int64, strict=False)
    return pl.Series(name, [_text(value) for value in values], pl.String)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
