"""Values of a TOML file as the types that a dataclass or a function declares for them."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from faceaudit.errors import UnknownNameError, UsageError


def as_type(kind: Any, value: Any, where: str, key: str, word: str = "key") -> Any:
    """A value as a declared type: tables become dataclasses, lists tuples, texts paths.

    Args:
        kind: The type; of a union the first that fits.
        value: As read from the file.
        where: The file's name, for messages.
        key: The dotted key of the value; empty for all of the file.
        word: What a key of a dataclass is called, for messages.

    Raises:
        UsageError: If a key is unknown or missing, or a value is of another type.

    Example:
        >>> as_type(tuple[int, ...], [0, 18, 65], "job.toml", "report.age_bins")
        (0, 18, 65)
    """
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _as_dataclass(kind, value, where, key, word)
    if origin is Literal:
        if value not in inner:
            raise UsageError(f"{where}: {UnknownNameError(key, str(value), inner)}")
        return value
    if origin in (Union, types.UnionType):
        return _as_first_that_fits(inner, value, where, key, word)
    if origin is tuple or origin is Sequence:
        return _as_tuple(inner, value, where, key, word, many=origin is Sequence)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise UsageError(f"{where}: {key} must be a table")
        return {k: as_type(inner[1], v, where, dotted(key, k), word) for k, v in value.items()}
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is Any or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    name = "str" if kind is Path else kind.__name__
    raise UsageError(f"{where}: {key} is {value!r}; it must be of type {name}")


def dotted(path: str, key: str) -> str:
    """A key below others."""
    return f"{path}.{key}" if path else key


def _as_first_that_fits(kinds: tuple[Any, ...], value: Any, where: str, key: str, word: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    errors = []
    for kind in kinds:
        if kind is not type(None):
            try:
                return as_type(kind, value, where, key, word)
            except UsageError as error:
                errors.append(error)
    raise errors[0]


def _as_dataclass(kind: Any, value: Any, where: str, key: str, word: str) -> Any:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: {key} must be a table")
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}
    for name in value:
        if name not in known:
            place = ".".join(filter(None, (Path(where).name, key)))
            raise UnknownNameError(f"{word} ({place})", str(name), sorted(known))
    for name, item in known.items():
        if item.default is MISSING and item.default_factory is MISSING and name not in value:
            raise UsageError(f"{where}: {dotted(key, name)} is missing")
    return kind(
        **{
            name: as_type(hints[name], entry, where, dotted(key, name), word)
            for name, entry in value.items()
        }
    )


def _as_tuple(
    inner: tuple[Any, ...], value: Any, where: str, key: str, word: str, *, many: bool
) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise UsageError(f"{where}: {key} must be a list")
    many = many or inner[-1] is Ellipsis
    if not many and len(value) != len(inner):
        raise UsageError(f"{where}: {key} must have {len(inner)} values")
    kinds = [inner[0]] * len(value) if many else inner
    return tuple(as_type(k, v, where, key, word) for k, v in zip(kinds, value, strict=True))
