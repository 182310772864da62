"""What a user asks for, checked before any work is done."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from faceaudit.errors import InputError, UnknownNameError, UsageError, check_names
from faceaudit.models.bundle import Bundle, Output
from faceaudit.schema import AGE_GROUP, AGE_TRUE, TASK_OPTIONS
from faceaudit.storage import as_path, has_folder
from faceaudit.storage.paths import same_file

DEFAULT_MAX_PIXELS = 100_000_000
DEFAULT_BATCH = 64
MARGINS = (-0.4, 2.0)
"""Widening of crops that leaves a view, and one that fits in memory."""
_OTHER_FILES = ".csv .tsv .json .jsonl .html .md .txt .pq .feather .arrow .tar .onnx .xlsx .db"
OTHER_FILES = frozenset(_OTHER_FILES.split())
"""Names of files that a table is not written to."""


def check_margin(margin: float) -> float:
    """The widening of crops.

    Raises:
        UsageError: If no crop can be cut with it.
    """
    if not MARGINS[0] <= margin <= MARGINS[1]:
        raise UsageError(f"--margin {margin:g}: give a number from {MARGINS[0]} to {MARGINS[1]}")
    return margin


def check_output(out: Path, images: str | os.PathLike[str], part_rows: int | None = None) -> Path:
    """The output path.

    Raises:
        UsageError: If it has the name of another kind of file, is the list of images itself, or is
            one file where rows of parts are given, or these are less than 1.
        InputError: If its folder does not exist.
    """
    if out.suffix.lower() in OTHER_FILES or out.name in ("", ".parquet"):
        named = f"{out.stem.lstrip('.').removesuffix('parquet') or 'out'}.parquet"
        raise UsageError(
            f"{out}: the table is a Parquet file, or a folder of them; name it {named}"
        )
    if part_rows is not None and part_rows < 1:
        raise UsageError(f"--part-rows {part_rows}: a part has at least 1 row")
    is_file = out.suffix == ".parquet"
    if is_file and part_rows is not None:
        raise UsageError(
            f"--part-rows {part_rows}: {out} is one file; give a folder for parts, such as "
            f"{out.with_suffix('')}"
        )
    try:
        is_folder, exists = out.is_dir(), out.exists()
        if not has_folder(out):
            raise InputError(
                f"{out}: there is no folder {out.parent}; give a path in an existing folder"
            )
        if exists and same_file(out, as_path(images)):
            raise UsageError(f"{out}: is what holds the images; give the table another name")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); choose another") from error
    if exists and is_file == is_folder:
        is_now, would_be = ("a folder", "a file") if is_folder else ("a file", "a folder of parts")
        raise InputError(f"{out}: is {is_now}; the table would be {would_be}, give another name")
    return out


def check_count(option: str, number: int | None) -> None:
    """Raise a ``UsageError`` where a count is less than 1."""
    if number is not None and number < 1:
        raise UsageError(f"--{option} {number}: must be at least 1")


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
    if not tasks:
        raise UsageError(f"--tasks: none is given; choose among {', '.join(TASK_OPTIONS)}")
    check_names("task", tasks, TASK_OPTIONS)
    chosen = tuple(output for output in bundle.tasks if task_option(output.name) in tasks)
    if not chosen:
        has = ", ".join(output.name for output in bundle.tasks)
        raise UsageError(f"--tasks {','.join(tasks)}: model {bundle.name} predicts only {has}")
    return chosen


def annotations_of(options: Collection[str]) -> list[str]:
    """Annotated columns of what ``--tasks`` calls so."""
    names = {AGE_TRUE: "age", f"{AGE_GROUP}_true": "age"}
    names |= {f"{name}_true": name for name in TASK_OPTIONS if name not in names.values()}
    return [column for column, option in names.items() if option in options]


def task_option(name: str) -> str:
    """What ``--tasks`` calls an output."""
    return "age" if name == AGE_GROUP else name


def allowed_failures(given: str | int | None) -> Callable[[int], float]:
    """A function from the number of images to the number that may fail: a count, or a share.

    Raises:
        UsageError: If it is neither.

    Example:
        >>> allowed_failures("2%")(300), allowed_failures(10)(300), allowed_failures(None)(300)
        (6.0, 10.0, inf)
    """
    if given is None:
        return lambda images: math.inf
    text = str(given)
    try:
        number = float(text.removesuffix("%"))
    except ValueError as error:
        raise UsageError(f"--max-failures {given}: give a count or a share, 10 or 2%") from error
    if not 0 <= number < math.inf:
        raise UsageError(f"--max-failures {given}: cannot be negative or infinite")
    if text.endswith("%"):
        if number > 100:
            raise UsageError(f"--max-failures {given}: a share is at most 100%, which is all")
        return lambda images: number / 100 * images
    return lambda images: number
