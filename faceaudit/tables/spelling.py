"""Spellings: what names the same class in other letters, and what is written for a missing one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from faceaudit.schema import AGE_GROUP, SCHEMES
from faceaudit.tables.table import some_of
from faceaudit.tables.wording import SPELLINGS, age_group, age_group_or_date, plain

MISSING = frozenset({"#n/a", "<na>", "n/a", "na", "nan", "null"})
"""What programs write, in any case, where a value is missing."""
STRAY_SHARE = 0.05
"""Where more values than this would still be of no class, ``M`` need not be ``Male``."""
_KNOWN = {label for classes in SCHEMES.values() for label in classes}


def spellings(
    name: str, predicted: Mapping[str, int], annotated: Mapping[str, int], classes: Sequence[str]
) -> dict[str, str | None]:
    """Values that are to be replaced: by another spelling of theirs, or by nothing.

    Case, marks between words and invisible characters do not make another class, nor do ``M`` and
    ``Male``. A declared class is spelled as declared, an age group by its bounds, another as in a
    named scheme, else as most of the predictions are.

    Args:
        name: The task.
        predicted: Predicted values with their counts.
        annotated: Annotated values with their counts.
        classes: Declared classes.

    Example:
        >>> spellings("gender", {"Male": 3}, {"male": 2, "M": 1, "NA": 1}, ())
        {'male': 'Male', 'M': 'Male', 'NA': None}
        >>> spellings("age_group", {"70+": 3}, {"more than 70": 2}, ())
        {'more than 70': '70+'}
    """
    values = [*dict.fromkeys([*predicted, *annotated])]
    alike: dict[str, list[str]] = {}
    for value, key in _keys(name, predicted, annotated, classes).items():
        alike.setdefault(key, []).append(value)
    chosen = {}
    for key, same in alike.items():
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
        if name == AGE_GROUP and not declared and age_group(key):
            best = key
        chosen.update(dict.fromkeys(same, best))
    return {
        value: None if _is_missing(value, classes) else chosen.get(value, value)
        for value in values
        if _is_missing(value, classes) or chosen.get(value, value) != value
    }


def _keys(
    name: str, predicted: Mapping[str, int], annotated: Mapping[str, int], classes: Sequence[str]
) -> dict[str, str]:
    """Declared classes and values, each with what all spellings of its class have in common."""
    values = dict.fromkeys([*classes, *predicted, *annotated])
    if name == AGE_GROUP:
        return {value: age_group_or_date(folded(value)) or _plain(value) for value in values}
    keys = {value: _plain(value) for value in values}
    for counts, others in ((predicted, annotated), (annotated, predicted)):
        given = {value: count for value, count in counts.items() if not _is_missing(value, classes)}
        further = {value: _further(value) for value in given}
        known = {key for value in classes or others for key in (_plain(value), _further(value))}
        outside = sum(given[value] for value, key in further.items() if key not in known)
        if outside <= STRAY_SHARE * sum(given.values()):
            keys |= further
    return keys


def _plain(value: str) -> str:
    return plain(folded(value))


def _further(value: str) -> str:
    """What all spellings of a class have in common, such as those of ``M`` and ``man``."""
    key = _plain(value)
    return plain(SPELLINGS[key]) if key in SPELLINGS else key


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
