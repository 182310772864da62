"""The history of a job: a line of JSON for each run, appended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from faceaudit.errors import InputError
from faceaudit.storage import atomic_write, never_lost


def read(path: Path) -> bytes:
    """The lines of earlier runs; what follows the last whole one is left out.

    Raises:
        InputError: If they cannot be read.
        TemporaryError: If a store cannot be reached.
    """
    try:
        before = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(
            f"{path}: the history cannot be read ({error.strerror}); give another name"
        ) from error
    whole, end, rest = before.rpartition(b"\n")
    try:
        json.loads(rest or b"{}")
    except ValueError:
        if rest.startswith(b"{"):
            return whole + end  # half a line, as a copy that was cut off has it
    return before + b"\n" if rest else before


def append(
    path: Path, facts: Mapping[str, Any], still_mine: Callable[[], None] = never_lost
) -> None:
    """Add a line; the file appears whole or stays as it was. Its lock must be held.

    Args:
        path: The file, on a disk or an object store; made where it does not exist.
        facts: Plain values.
        still_mine: Raises ``LockedError`` where the lock was lost.

    Raises:
        InputError: If it cannot be read or written.
        TemporaryError: If the disk is full, the lock was lost, or a store cannot be reached.
    """
    line = json.dumps(facts, ensure_ascii=False).encode("utf-8", errors="replace") + b"\n"
    before = read(path)
    still_mine()
    with atomic_write(path) as file:
        file.write(before + line)
