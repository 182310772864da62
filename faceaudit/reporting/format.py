"""Numbers and names as text, in one place: filters of the templates, words of the findings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from markupsafe import Markup, escape

from faceaudit.reporting.glossary import Unit, feature_origin, feature_title
from faceaudit.reporting.names import isolated, visible

NOT_AVAILABLE = "n/a"
MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
MORE_DECIMALS = 4
"""How many more decimals than usual a figure is given so that it does not read as none or all."""
NEGLIGIBLE = 1e-7
"""What is so near to 0, or to all, differs from it by rounding alone: of shares in percent."""


def count(value: int) -> str:
    """A number of things, with a comma between thousands."""
    return f"{value:,}"


def counted(value: int, what: str) -> str:
    """A number of things with their name.

    Example:
        >>> counted(1, "image"), counted(2410, "image")
        ('1 image', '2,410 images')
    """
    return f"{count(value)} {what}{'' if value == 1 else 's'}"


def code(words: str) -> Markup:
    """Words whose parts in backticks are code.

    Example:
        >>> print(code("see `faceaudit sample` & label"))
        see <code>faceaudit sample</code> &amp; label
    """
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(words))))


def number(value: float | None, unit: Unit) -> str:
    """A value in its unit, as a table shows it; None is ``n/a``.

    A value that is not 0 never reads as 0, and a share that is not all never as all: it has as many
    decimals as tell it from them.

    Example:
        >>> number(0.9344, "share"), number(None, "share"), number(0.1, "signed_points")
        ('93.4%', 'n/a', '+10.0')
        >>> number(0.99984, "share"), number(1.0, "share"), number(0.00004, "share")
        ('99.98%', '100.0%', '0.004%')
    """
    if value is None:
        return NOT_AVAILABLE
    if unit == "count":
        return count(int(value))
    if unit == "share":
        return f"{_plain(100 * value, 1, end=100.0)}%"
    if unit == "index":
        return _plain(value, 3, end=1.0)
    if unit == "nats":
        return _plain(value, 3)
    if unit.endswith("points"):
        text = _plain(100 * value, 1)
    else:
        text = _plain(value, 3 if unit in ("signed_index", "signed_nats") else 2)
    positive = unit.startswith("signed") and not text.startswith(MINUS) and float(text) != 0
    return f"+{text}" if positive else text


def tick(value: float, unit: Unit) -> str:
    """The end of an axis, with no more digits than it needs.

    Example:
        >>> tick(0.8, "share"), tick(2.0, "years")
        ('80%', '2')
    """
    text = f"{100 * value if unit == 'share' or unit.endswith('points') else value:.6g}".replace(
        "-", MINUS
    )
    return f"{text}%" if unit == "share" else text


def quantity(value: float | None, unit: Unit) -> str:
    """A value with its unit, as a sentence says it.

    Example:
        >>> quantity(0.9344, "share"), quantity(4.126, "years"), quantity(0.62, "groups")
        ('93.4%', '4.13 years', '0.62 age groups')
    """
    text = number(value, unit)
    if value is None or unit in ("share", "index", "signed_index", "count"):
        return text
    if unit.endswith("points"):
        return f"{text} points"
    if unit.endswith("nats"):
        return f"{text} nats"
    return f"{text} {'years' if unit.endswith('years') else 'age groups'}"


def difference(value: float | None, unit: Unit) -> str:
    """A difference between two values of a unit; shares differ in percentage points.

    Example:
        >>> difference(0.138, "share"), difference(1.5, "years")
        ('13.8 points', '1.50 years')
    """
    if value is None:
        return NOT_AVAILABLE
    if unit == "share":
        return f"{_plain(100 * value, 1)} points"
    plain: dict[Unit, Unit] = {"signed_years": "years", "signed_groups": "groups"}
    return quantity(value, plain.get(unit, unit))


def prints_as_zero(difference_of_two: float | None, unit: Unit) -> bool:
    """Whether there is no difference but of rounding, so that neither of two is the larger one."""
    return difference(difference_of_two, unit) == difference(0.0, unit)


def interval(low: float | None, high: float | None, unit: Unit, between: str = DASH) -> str:
    """Bounds of an interval, empty where there is none.

    Example:
        >>> interval(0.923, 0.944, "share", " to "), interval(-1.2, 0.4, "signed_years", " to ")
        ('92.3 to 94.4%', '\N{MINUS SIGN}1.20 to +0.40')
    """
    if low is None or high is None:
        return ""
    if low < 0 or unit.startswith("signed"):
        between = " to "  # A dash before a sign cannot be read.
    return f"{number(low, unit).removesuffix('%')}{between}{number(high, unit)}"


def difference_interval(low: float, high: float, unit: Unit) -> str:
    """Bounds of a difference, in the unit that ``difference`` uses.

    Example:
        >>> difference_interval(0.02, 0.138, "share")
        '2.0 to 13.8 points'
    """
    return f"{difference(low, unit).split(' ')[0]} to {difference(high, unit)}"


def ratio(value: float | None) -> str:
    """A ratio with two decimals, and more where it would read as 0 or 1; None is ``n/a``."""
    return NOT_AVAILABLE if value is None else _plain(value, 2, end=1.0)


def probability(value: float) -> str:
    """A p value as a sentence says it.

    Example:
        >>> probability(0.0321), probability(0.4), probability(1e-9)
        ('p = 0.032', 'p = 0.40', 'p < 0.001')
    """
    if value < 0.001:
        return "p < 0.001"
    return f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def tiny(value: float) -> str:
    """A very small number, such as the largest difference of a verification."""
    return "0" if value == 0 else f"{value:.1e}".replace("-", MINUS)


def class_name(name: str) -> str:
    """A class name as the page writes it: underscores are spaces."""
    return isolated(name.replace("_", " "))


def subgroup_name(subgroup: Mapping[str, str]) -> str:
    """A subgroup as a row header writes it.

    Example:
        >>> subgroup_name({"gender": "Female", "race": "Black"}), subgroup_name({})
        ('Female, Black', 'All faces')
    """
    return ", ".join(class_name(value) for value in subgroup.values()) or "All faces"


def described(subgroup: Mapping[str, str], word: str) -> str:
    """A subgroup as a sentence names it after "faces" or "images".

    Args:
        subgroup: The subgroup.
        word: What the labels are called, such as annotated or self-reported.

    Example:
        >>> described({"gender": "Female", "race": "Black", "site": "north"}, "annotated")
        'annotated Female and Black with site north'
    """
    classes: dict[str, list[str]] = {}
    for feature, value in subgroup.items():
        origin = feature_origin(feature, word)
        name = (
            class_name(value) if origin else f"{feature_title(feature, word)} {class_name(value)}"
        )
        classes.setdefault(origin, []).append(name)
    plain = [f"with {' and '.join(names)}" for names in [classes.pop("", [])] if names]
    told = [f"{origin} {' and '.join(names)}" for origin, names in classes.items()]
    return " ".join([" and ".join(told), *plain]).strip()


def file_name(path: str) -> str:
    """The last part of a path."""
    return isolated(PurePath(path).name)


def short_hash(digest: str) -> str:
    """The first 16 characters of a hash, which identify a file to a reader's eye."""
    return digest[:16]


def _plain(value: float, digits: int, end: float = 0.0) -> str:
    """Fixed decimals, a real minus sign, and no minus before a zero.

    Args:
        value: The value.
        digits: Decimals, more where the value would read as 0 or as ``end`` and is neither, but at
            most ``MORE_DECIMALS``; a value that is nearer than those tell is a bound.
        end: The other value that it must not be taken for.
    """
    text = f"{value:.{digits}f}"
    most = digits + MORE_DECIMALS
    while float(text) in (0.0, end) and abs(value - float(text)) > NEGLIGIBLE:
        if digits == most:
            step = 10.0**-most
            away = step if value > float(text) else -step
            side = "<" if away > 0 else ">"
            return f"{side} {float(text) + away:.{digits}f}".replace("-", MINUS)
        digits += 1
        text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


FILTERS: dict[str, Callable[..., Any]] = {
    "count": count,
    "counted": counted,
    "code": code,
    "number": number,
    "tick": tick,
    "quantity": quantity,
    "difference": difference,
    "difference_interval": difference_interval,
    "interval": interval,
    "ratio": ratio,
    "tiny": tiny,
    "class_name": class_name,
    "subgroup_name": subgroup_name,
    "file_name": file_name,
    "short_hash": short_hash,
    "visible": visible,
}
"""Template filters by name."""
