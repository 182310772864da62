"""What is typed, as the library takes it: text of options to names, pairs, numbers and bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faceaudit.errors import UnknownNameError, UsageError

MAX_COUNT = 10**15


def split_names(given: str | Sequence[str] | None) -> list[str]:
    """Names separated by commas, of an option that was given once or several times."""
    every = [given] if isinstance(given, str) else given or []
    return [name.strip() for one in every for name in one.split(",") if name.strip()]


def shown_path(given: Path | None) -> str:
    """A path as it was typed: ``Path`` takes a slash from an address."""
    from faceaudit.storage import as_path

    return "" if given is None else str(as_path(given))


def one_of(option: str, given: str, known: Sequence[str]) -> Any:
    """A value that is one of a few.

    Raises:
        UnknownNameError: If it is not.
    """
    if given not in known:
        raise UnknownNameError(f"value of {option}", given, known)
    return given


def parse_reading(
    columns: Sequence[str] | None,
    classes: Sequence[str] | None,
    age_bins: str | None,
    map_: Sequence[str] | None,
) -> dict[str, Any]:
    """How a table is to be read, as the library's functions take it."""
    return {
        "columns": parse_pairs("--columns", split_names(columns)),
        "classes": parse_classes(classes),
        "age_bins": parse_bins(age_bins),
        "scheme_map": parse_map(map_),
    }


def parse_pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """``key=value`` pairs.

    Raises:
        UsageError: If one has no ``=``, or a key has two values.
    """
    pairs: dict[str, str] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UsageError(f"{option} {pair}: give NAME=VALUE")
        if pairs.get(key.strip(), value.strip()) != value.strip():
            raise UsageError(f"{option} {pair}: {key.strip()} is given twice; give one of them")
        pairs[key.strip()] = value.strip()
    return pairs


def parse_classes(given: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Classes of tasks, ``race=White,Black``."""
    pairs = parse_pairs("--classes", given or [])
    return {task: tuple(split_names(names)) for task, names in pairs.items()}


def parse_map(given: Sequence[str] | None) -> dict[str, str]:
    """Schemes of tasks, ``race=utkface5,gender=gender2``."""
    return parse_pairs("--map", split_names(given))


def parse_bins(given: str | None) -> tuple[int, ...] | None:
    """Lower bounds of age groups."""
    if given is None:
        return None
    from faceaudit.schema import age_group_names

    try:
        bins = tuple(int(bound) for bound in split_names(given))
    except ValueError as error:
        raise UsageError(f"--age-bins {given}: give whole years, such as 0,18,65") from error
    age_group_names(bins)
    return bins


def parse_changes(given: Sequence[str] | None) -> dict[str, Any]:
    """Dotted keys of a recipe with their values, written as in TOML; plain words are text."""
    import tomllib

    changes: dict[str, Any] = {}
    for key, text in ((key, value) for one in given or [] for key, value in [_halves(one)]):
        try:
            changes[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError as error:
            if text.startswith(("[", "{", '"', "'")):
                raise UsageError(f"--set {key}={text}: is not valid TOML: {error}") from error
            changes[key] = text
    return changes


def _halves(given: str) -> tuple[str, str]:
    key, separator, value = given.partition("=")
    if not (key.strip() and separator):
        raise UsageError(f"--set {given}: give KEY=VALUE, such as batch=32")
    return key.strip(), value.strip()


def parse_count(option: str, given: str) -> int:
    """A count such as ``100M``, ``2.5k`` or ``1000000``; at least 1."""
    factors = {"k": 1e3, "m": 1e6, "g": 1e9}
    text = given.strip().lower()
    factor = factors.get(text[-1:], 1)
    try:
        number = float(text.rstrip("kmg")) * factor
        count = round(number)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{option} {given}: give a count, such as 100M or 5000000") from error
    if not math.isclose(count, number):
        raise UsageError(f"{option} {given}: give a whole number")
    if not 1 <= count <= MAX_COUNT:
        raise UsageError(f"{option} {given}: must be at least 1 and at most {MAX_COUNT}")
    return count


def parse_auto(option: str, given: str) -> int | None:
    """A count, or None for ``auto``."""
    return None if given == "auto" else parse_count(option, given)
