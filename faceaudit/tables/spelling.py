"""Spellings: what names the same class in other letters, and what is written for a missing one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from faceaudit.schema import SCHEMES
from faceaudit.tables.table import some_of

MISSING = frozenset({"#n/a", "<na>", "n/a", "na", "nan", "null"})
"""What programs write, in any case, where a value is missing."""
_KNOWN = {label for classes in SCHEMES.values() for label in classes}


def spellings(
    predicted: Mapping[str, int], annotated: Mapping[str, int], classes: Sequence[str]
) -> dict[str, str | None]:
    """Values that are to be replaced: by another spelling of theirs, or by nothing.

    Case, blanks and invisible characters do not make another class. A declared class is spelled as
    declared, another as in a named scheme, else as most of the predictions are.

    Args:
        predicted: Predicted values with their counts.
        annotated: Annotated values with their counts.
        classes: Declared classes.

    Example:
        >>> spellings({"Male": 3}, {"male": 2, "NA": 1}, ())
        {'male': 'Male', 'NA': None}
    """
    values = [*dict.fromkeys([*predicted, *annotated])]
    alike: dict[str, list[str]] = {}
    for value in dict.fromkeys([*classes, *values]):
        alike.setdefault(folded(value), []).append(value)
    chosen = {}
    for same in alike.values():
        declared = [value for value in same if value in classes]
        if len(declared) > 1:
            continue
        best = max(
            same,
            key=lambda value: (
                value in classes,
                value in _KNOWN,
                predicted.get(value, 0),
                annotated.get(value, 0),
            ),
        )
        chosen.update(dict.fromkeys(same, best))
    return {
        value: None if _is_missing(value, classes) else chosen.get(value, value)
        for value in values
        if _is_missing(value, classes) or chosen.get(value, value) != value
    }


def folded(value: str) -> str:
    """A value without what the eye does not tell apart, and without case."""
    plain = unicodedata.normalize("NFKC", value)
    visible = "".join(mark for mark in plain if unicodedata.category(mark) != "Cf")
    return " ".join(visible.split()).casefold()


def _is_missing(value: str, classes: Sequence[str]) -> bool:
    return value.casefold() in MISSING and value not in classes


def respelled(values: Mapping[str, int], changes: Mapping[str, str | None]) -> dict[str, int]:
    """Counts of values under the spellings that replace them."""
    counts: dict[str, int] = {}
    for value, count in values.items():
        new = changes.get(value, value)
        if new is not None:
            counts[new] = counts.get(new, 0) + count
    return counts


def spelling_notes(
    name: str, values: Iterable[Mapping[str, int]], changes: Mapping[str, str | None]
) -> list[str]:
    """What was replaced, in a sentence each."""
    notes = []
    for kind, counts in zip(("pred", "true"), values, strict=True):
        missing = {value: counts[value] for value in counts if changes.get(value, "") is None}
        if missing:
            notes.append(
                f"{sum(missing.values()):,} of {sum(counts.values()):,} values of {name}_{kind} "
                f"({some_of(missing)}) were taken as missing."
            )
    targets = dict.fromkeys(new for new in changes.values() if new is not None)
    for target in targets:
        others = [old for old, new in changes.items() if new == target]
        notes.append(f"{name}: {some_of(others)} was read as {target!r}.")
    return notes
