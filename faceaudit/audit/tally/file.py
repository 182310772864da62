"""A tally as a file: arrays of numbers and a header, compressed, without pickles."""

from __future__ import annotations

import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally.cells import CellCounts
from faceaudit.audit.tally.tally import KINDS, TableFacts, Tally
from faceaudit.errors import InputError, SchemaError
from faceaudit.schema import TableMetadata, Task
from faceaudit.storage import atomic_write

TALLY_SUFFIX = ".tally"
TALLY_VERSION = 1
HEADER = "header"
DAMAGES = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged archive of arrays may raise."""


def save_tally(counted: Tally, path: Path) -> None:
    """Write a tally; equal tallies give equal bytes.

    Raises:
        InputError: If the folder does not exist or cannot be written to.
    """
    with atomic_write(path) as file:
        file.write(_packed(counted))


def save_archive(parts: Mapping[str, Tally], facts: Mapping[str, Any], path: Path) -> None:
    """Write several tallies that belong together, and facts, as one file; see ``load_archive``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        # Without the time of day, so that equal archives give equal bytes.
        archive.writestr(zipfile.ZipInfo(HEADER), json.dumps(facts, sort_keys=True))
        for name, counted in parts.items():
            archive.writestr(zipfile.ZipInfo(name), _packed(counted))
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def _packed(counted: Tally) -> bytes:
    arrays: dict[str, Any] = {}
    placed = []
    for kind, found in counted.numbers.items():
        for name, counts in found.items():
            placed.append({"kind": kind, "task": name, "shape": counts.shape})
            number = len(placed) - 1
            # Steps between places are small and compress well.
            arrays[f"places_{number}"] = np.diff(counts.codes, prepend=0)
            arrays[f"values_{number}"] = counts.values
    header = json.dumps({**_header(counted), "numbers": placed}, sort_keys=True)
    arrays[HEADER] = np.frombuffer(header.encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def load_tally(path: Path) -> Tally:
    """Read a tally that ``save_tally`` wrote.

    Raises:
        InputError: If the file cannot be read or is no tally.
        SchemaError: If it was written by a later faceaudit.
    """
    try:
        with path.open("rb") as file:
            return _unpacked(file, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except DAMAGES as error:
        raise InputError(f"{path}: not a tally; write it again with `faceaudit tally`") from error


def load_archive(path: Path, names: Sequence[str]) -> tuple[dict[str, Tally], dict[str, Any]]:
    """Read tallies and facts that ``save_archive`` wrote.

    Raises:
        InputError: If the file cannot be read or lacks any of the tallies.
        SchemaError: If it was written by a later faceaudit.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            facts = json.loads(archive.read(HEADER))
            parts = {name: _unpacked(io.BytesIO(archive.read(name)), path) for name in names}
            return parts, facts
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except DAMAGES as error:
        raise InputError(f"{path}: not a paired tally; write it again") from error


def _unpacked(file: IO[bytes], path: Path) -> Tally:
    with np.load(file, allow_pickle=False) as arrays:
        header = json.loads(arrays[HEADER].tobytes())
        if header["version"] > TALLY_VERSION:
            raise SchemaError(
                f"{path}: a tally of version {header['version']}, this faceaudit reads up to "
                f"{TALLY_VERSION}; upgrade faceaudit"
            )
        return _tally(header, arrays, path)


def _header(counted: Tally) -> dict[str, Any]:
    return {
        "version": TALLY_VERSION,
        "tasks": [asdict(task) for task in counted.tasks],
        "features": [asdict(feature) for feature in counted.features],
        "cells": counted.cells,
        "statuses": counted.statuses,
        "unit": counted.unit,
        "tables": [
            {
                "path": table.path,
                "sha256": table.sha256,
                "rows": table.rows,
                "images": table.images,
                "notes": table.notes,
                "metadata": table.metadata.to_json() if table.metadata else None,
                "labels_format": table.labels_format,
                "labels_provenance": table.labels_provenance,
            }
            for table in counted.tables
        ],
    }


def _tally(header: dict[str, Any], arrays: Any, path: Path) -> Tally:
    if not isinstance(header["unit"], str | None):
        raise ValueError("the unit is no name of a column")
    numbers: dict[str, dict[str, CellCounts]] = {kind: {} for kind in KINDS}
    for number, placed in enumerate(header["numbers"]):
        codes = np.cumsum(arrays[f"places_{number}"])
        shape = tuple(placed["shape"])
        found = CellCounts(codes, arrays[f"values_{number}"], shape)
        _check_counts(found, len(header["cells"]))
        numbers.setdefault(placed["kind"], {})[placed["task"]] = found
    return Tally(
        tasks=tuple(
            Task(one["name"], one["scheme"], tuple(one["classes"])) for one in header["tasks"]
        ),
        features=tuple(
            Feature(one["name"], one["column"], tuple(one["order"])) for one in header["features"]
        ),
        cells=tuple(tuple(cell) for cell in header["cells"]),
        statuses=tuple(header["statuses"]),
        unit=header["unit"],
        tables=tuple(_facts(one, path) for one in header["tables"]),
        numbers=numbers,
    )


def _check_counts(counts: CellCounts, cells: int) -> None:
    codes, values = counts.codes, counts.values
    if codes.shape != values.shape or codes.ndim != 1 or values.dtype.kind not in "iuf":
        raise ValueError("places and values do not belong together")
    if len(codes) and (codes[0] < 0 or codes[-1] >= np.prod(counts.shape)):
        raise ValueError("places lie outside the shape")
    if (np.diff(codes) <= 0).any() or not np.isfinite(values).all():
        raise ValueError("places do not ascend, or values are not finite")
    if values.dtype.kind == "i" and (values < 0).any():
        raise ValueError("counts are negative")
    if counts.shape[0] != cells:
        raise ValueError("the shape is not that of the cells")


def _facts(facts: dict[str, Any], path: Path) -> TableFacts:
    metadata = facts["metadata"]
    return TableFacts(
        facts["path"],
        facts["sha256"],
        facts["rows"],
        facts["images"],
        tuple(facts["notes"]),
        TableMetadata.from_json(metadata, str(path)) if metadata else None,
        facts["labels_format"],
        facts["labels_provenance"],
    )
