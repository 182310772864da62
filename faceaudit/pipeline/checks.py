"""What a user asks for, checked before any work is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faceaudit.errors import InputError, UnknownNameError, UsageError
from faceaudit.models.bundle import Bundle, Output
from faceaudit.schema import AGE_GROUP, TASK_OPTIONS

DEFAULT_MAX_PIXELS = 100_000_000
DEFAULT_BATCH = 64
MARGINS = (-0.4, 2.0)
"""Widening of crops that leaves a view, and one that fits in memory."""


def check_margin(margin: float) -> float:
    """The widening of crops.

    Raises:
        UsageError: If no crop can be cut with it.
    """
    if not MARGINS[0] <= margin <= MARGINS[1]:
        raise UsageError(f"--margin {margin:g}: give a number from {MARGINS[0]} to {MARGINS[1]}")
    return margin


def check_output(out: Path, images: Path) -> Path:
    """The output path.

    Raises:
        UsageError: If it does not end in ``.parquet``, or is the list of images itself.
        InputError: If its folder does not exist.
    """
    if out.suffix != ".parquet":
        raise UsageError(f"{out}: the table is a Parquet file; name it {out.name}.parquet")
    try:
        is_folder, has_folder, exists = out.is_dir(), out.parent.is_dir(), out.exists()
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); choose another") from error
    if is_folder or not has_folder:
        what = "is a folder" if is_folder else f"there is no folder {out.parent}"
        raise InputError(f"{out}: {what}; give the path of a file in an existing folder")
    if exists and out.resolve() == images.resolve():
        raise UsageError(f"{out}: is the list of images; give the table another name")
    return out


def checked(kind: str, given: str, known: Mapping[str, Any]) -> str:
    """A name that is in a registry."""
    if given not in known:
        raise UnknownNameError(kind, given, known)
    return given


def choose_outputs(bundle: Bundle, tasks: Sequence[str]) -> tuple[Output, ...]:
    """The outputs of a bundle for the tasks asked for.

    Raises:
        UnknownNameError: If there is no such task.
        UsageError: If the bundle predicts none of them.
    """
    for name in tasks:
        if name not in TASK_OPTIONS:
            raise UnknownNameError("task", name, TASK_OPTIONS)
    chosen = tuple(output for output in bundle.tasks if task_option(output.name) in tasks)
    if not chosen:
        has = ", ".join(output.name for output in bundle.tasks)
        raise UsageError(f"--tasks {','.join(tasks)}: model {bundle.name} predicts only {has}")
    return chosen


def task_option(name: str) -> str:
    """What ``--tasks`` calls an output."""
    return "age" if name == AGE_GROUP else name
