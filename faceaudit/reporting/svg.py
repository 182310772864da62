"""Inline SVG: shapes in, markup out; the same shapes give the same bytes.

Text stays text, so that a reader can search it and it takes the page's font. Lengths are pixels at
the size at which the page shows a drawing at most.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup, escape

from faceaudit.reporting.names import END, ISOLATE

INK, MUTED, GRID = "#1f2933", "#5f6b7a", "#dde3ea"
SMALL, TITLE = 11.0, 12.0
"""Sizes of text."""
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Distances of ticks, by powers of ten."""
LETTER, WIDE = 0.63, 1.05
"""Widths of a letter and of a Chinese, Japanese or Korean one, about, by the size of the text."""
Segment = tuple[float, float, float, float]
"""From x, y to x, y."""
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Frame:
    """A rectangle of a drawing, and the values at its left and right, and at its foot and top."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    @property
    def foot(self) -> float:
        return self.top + self.height

    @property
    def middle(self) -> tuple[float, float]:
        return self.left + self.width / 2, self.top + self.height / 2

    def across(self, value: float) -> float:
        """Where a value of the horizontal axis lies."""
        low, high = self.x
        return self.left + self.width * (value - low) / (high - low)

    def down(self, value: float) -> float:
        """Where a value of the vertical axis lies."""
        low, high = self.y
        return self.foot - self.height * (value - low) / (high - low)


@dataclass
class Drawing:
    """Shapes of one drawing in the order in which they lie on each other."""

    width: float
    height: float
    _parts: list[str] = field(default_factory=list)

    def lines(
        self, segments: Iterable[Segment], color: str, width: float = 1.0, dash: str = ""
    ) -> None:
        """Straight lines of one style.

        Args:
            segments: Their ends.
            color: Of the lines.
            width: Of the lines.
            dash: Lengths of dashes and gaps; solid where empty.
        """
        path = "".join(f"M{_n(a)} {_n(b)}L{_n(c)} {_n(d)}" for a, b, c, d in segments)
        self._path(path, color, width, dash)

    def curve(
        self, xs: Sequence[float], ys: Sequence[float], color: str, width: float, dash: str = ""
    ) -> None:
        """A line through points."""
        points = "L".join(f"{_n(x)} {_n(y)}" for x, y in zip(xs, ys, strict=True))
        self._path(f"M{points}", color, width, dash)

    def dot(
        self, x: float, y: float, color: str, *, hollow: bool, diamond: bool, size: float
    ) -> None:
        """A dot, or a diamond, that is as wide as ``size``."""
        half, fill = size / 2, "#fff" if hollow else color
        style = f'fill="{fill}" stroke="{color}"'
        if diamond:
            corners = f"M{_n(x)} {_n(y - half)}l{_n(half)} {_n(half)}l{_n(-half)} {_n(half)}"
            self._parts.append(f'<path d="{corners}l{_n(-half)} {_n(-half)}z" {style}/>')
            return
        self._parts.append(f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(half)}" {style}/>')

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        anchor: Anchor = "start",
        color: str = MUTED,
        size: float = SMALL,
        bold: bool = False,
        upright: bool = False,
        room: float = math.inf,
    ) -> None:
        """Words whose middle is at a height; ``upright`` ones are read from below.

        Words that are wider than ``room`` are shortened, and their title has all of them.
        """
        foot = y if upright else y + 0.35 * size
        style = f' fill="{color}" font-size="{_n(size)}"'
        style += f' text-anchor="{anchor}"' if anchor != "start" else ""
        style += ' font-weight="bold"' if bold else ""
        style += f' transform="rotate(-90 {_n(x)} {_n(foot)})"' if upright else ""
        short = shortened(words, room, size)
        title = f"<title>{escape(words)}</title>" if short != words else ""
        self._parts.append(f'<text x="{_n(x)}" y="{_n(foot)}"{style}>{title}{escape(short)}</text>')

    def markup(self) -> Markup:
        """The ``svg`` element, to stand in a page beside others."""
        head = f'<svg viewBox="0 0 {_n(self.width)} {_n(self.height)}" version="1.1"'
        return Markup("\n".join([f"{head}>", *self._parts, "</svg>"]))

    def _path(self, path: str, color: str, width: float, dash: str) -> None:
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self._parts.append(
            f'<path d="{path}" fill="none" stroke="{color}" stroke-width="{_n(width)}"{dashes}/>'
        )


def width_of(words: str, size: float = SMALL) -> float:
    """How wide words are, about."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in words)
    return size * (WIDE * wide + LETTER * (len(words) - wide))


def shortened(words: str, room: float, size: float = SMALL) -> str:
    """The words, or as many letters of them as there is room for, and an ellipsis.

    Example:
        >>> shortened("American Indian", 70.0), shortened("White", 70.0)
        ('American…', 'White')
    """
    if width_of(words, size) <= room:
        return words
    short = words
    while short and width_of(f"{short}…", size) > room:
        short = short[:-1]
    short = short.rstrip(" ,")
    unclosed = short.count(ISOLATE) - short.count(END)
    return f"{short}{END * unclosed}…"


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers between two values, in at most so many steps.

    Example:
        >>> ticks(0.52, 0.97)
        [0.6, 0.8]
    """
    length = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(one * length for one in STEPS if one * length * most >= (high - low) * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _n(value: float) -> str:
    """A length with one digit after the point, if it needs one."""
    return f"{value:.1f}".removesuffix(".0")
