"""The history of a job: a line of JSON for each run, appended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faceaudit.errors import InputError
from faceaudit.storage import atomic_write


def append(path: Path, facts: Mapping[str, Any]) -> None:
    """Add a line; the file appears whole or stays as it was. Its lock must be held.

    Args:
        path: The file, on a disk or an object store; made where it does not exist.
        facts: Plain values.

    Raises:
        InputError: If it cannot be read or written.
        TemporaryError: If the disk is full, or a store cannot be reached.
    """
    try:
        before = path.read_bytes()
    except FileNotFoundError:
        before = b""
    except OSError as error:
        raise InputError(
            f"{path}: the history cannot be read ({error.strerror}); give another name"
        ) from error
    if before and not before.endswith(b"\n"):
        before += b"\n"
    with atomic_write(path) as file:
        file.write(before + json.dumps(facts, ensure_ascii=False).encode() + b"\n")
