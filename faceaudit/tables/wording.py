"""Classes and age groups as people and spreadsheets write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from faceaudit.schema import AGE_BINS, age_group_names

SPELLINGS = {
    "m": "Male",
    "man": "Male",
    "f": "Female",
    "woman": "Female",
    "other": "Others",
}
"""Further spellings of classes; case, spaces, ``_`` and ``-`` never matter."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def plain(text: str) -> str:
    """A class name without case and marks between its words."""
    return " ".join(re.split(r"[\s_/-]+", text.strip().casefold()))


def spelled(values: Iterable[str], classes: Sequence[str]) -> dict[str, str]:
    """Value as written -> class, for the values that name one."""
    known = {plain(name): name for name in classes}
    known |= {text: name for text, name in SPELLINGS.items() if name in classes}
    return {value: known[plain(value)] for value in values if plain(value) in known}


def age_group(text: str) -> str | None:
    """The name of an age group, or None where the text is none.

    Between the bounds is a dash, or a comma in parentheses or before a blank: ``3,5`` is a number.

    Example:
        >>> age_group("03 - 9"), age_group("more than 70"), age_group("(0, 2)"), age_group("adult")
        ('3-9', '70+', '0-2', None)
    """
    dashed = re.sub("[\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}]", "-", text.strip().casefold())
    if re.fullmatch(r"[0-9]+ *,[0-9]+", dashed):
        return None
    if found := re.fullmatch(r"\(?([0-9]{1,3}) *[-,] *([0-9]{1,3})\)?", dashed):
        low, high = int(found[1]), int(found[2])
        return f"{low}-{high}" if low <= high else None
    # FairFace writes "more than 70" for the group from 70 on.
    if found := re.fullmatch(r"more than ([0-9]{1,3})|([0-9]{1,3}) *\+", dashed):
        return f"{int(found[1] or found[2])}+"
    return None


DATE_LIKE = frozenset(
    name
    for bins in AGE_BINS.values()
    for name in age_group_names(bins)
    if "-" in name and 1 <= int(name.split("-")[0]) <= 12
)
"""Age groups that a spreadsheet takes for a date: ``3-9`` and ``10-19``."""


def repaired_age_group(text: str) -> str | None:
    """The age group that a spreadsheet has turned into a date, or None where the text is no date.

    Example:
        >>> repaired_age_group("09-Mar"), repaired_age_group("3-Sep"), repaired_age_group("Oct-19")
        ('3-9', '3-9', '10-19')
        >>> repaired_age_group("2019-10-01 00:00:00"), repaired_age_group("3-9")
        ('10-19', None)
    """
    parts = _date_parts(text)
    if len(parts) == 3:
        year = next((part for part in (parts[0], parts[2]) if part > 31), parts[2])
        parts.remove(year)
        # "10-19" may have become the first of October 2019.
        pairs = [parts] + [[part, year % 100] for part in parts if sorted(parts)[0] == 1]
    else:
        pairs = [parts] if len(parts) == 2 and re.search("[a-z]", text.casefold()) else []
    names = ("-".join(map(str, sorted(pair))) for pair in pairs)
    return next((name for name in names if name in DATE_LIKE), None)


def age_group_or_date(text: str) -> str | None:
    """The name of an age group, also where a spreadsheet has turned it into a date."""
    return age_group(text) or repaired_age_group(text)


def _date_parts(text: str) -> list[int]:
    """The numbers of a date, months by name as numbers; empty where there is another word."""
    date = re.sub(r"[ t][0-9]{1,2}:[0-9:.]+$", "", text.strip().casefold())
    words = re.findall(r"[0-9]+|[^\W\d_]+", date)
    numbers = [int(word) if word.isdecimal() else _month(word) for word in words]
    return [number for number in numbers if number] if None not in numbers else []


def _month(word: str) -> int | None:
    is_month = len(word) >= 3 and word[:3] in _MONTHS
    return 1 + _MONTHS.index(word[:3]) if is_month else None
