"""Names of classes, columns and files, which change nothing of what stands beside them."""

from __future__ import annotations

import re
import unicodedata

CONTROLS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
"""Control characters but blanks, and those that turn the direction of the text after them."""
MARK = "\N{REPLACEMENT CHARACTER}"
ISOLATE, END = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"


def visible(given: str) -> str:
    r"""The text with a visible mark for each character that controls and does not show.

    Example:
        >>> visible("a\u202eb") == f"a{MARK}b"
        True
    """
    return CONTROLS.sub(MARK, given)


def isolated(given: str) -> str:
    """A name as a sentence can hold it: one with letters read from the right stands by itself."""
    name = visible(given)
    if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in name):
        return f"{ISOLATE}{name}{END}"
    return name
