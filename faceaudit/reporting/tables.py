"""Tables as the page shows them: values with intervals, small plots, shades and footnotes.

Sections build these; one template macro renders all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from faceaudit.audit.results import Estimate
from faceaudit.reporting.glossary import MetricFacts, Unit

MOST_ROWS, SEEN = 20, 12
"""Of a group with more rows than the first, so many as the second are seen, the others folded."""
SHADES = 9
"""The darkest shade of a heat map; 0 is the page's own background."""


@dataclass(frozen=True)
class Scale:
    """The axis that the small plots of one column share, with the value that a line marks.

    A ``bar`` reaches from the axis' lower end to the value; otherwise a dot stands there.
    """

    low: float
    high: float
    mark: float | None = None
    bar: bool = False

    def position(self, value: float) -> float:
        """Where a value lies on the axis, in percent of its length, cut at both ends."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 1)


@dataclass(frozen=True)
class Column:
    """One column: its title, a hint beneath it, and the scale of its plots, if it has any."""

    title: str
    hint: str = ""
    scale: Scale | None = None
    unit: Unit = "share"


@dataclass(frozen=True)
class Cell:
    """One figure: its value and unit, its interval, and what must be said of it.

    ``note`` is the number of the footnote that holds ``reason``. ``shade`` colors the cell, 0 to
    ``SHADES``; ``small`` hatches it.
    """

    value: float | None = None
    unit: Unit = "share"
    low: float | None = None
    high: float | None = None
    n: int | None = None
    reason: str | None = None
    note: int | None = None
    shade: int | None = None
    small: bool = False


@dataclass(frozen=True)
class Row:
    """One row: its header, its cells, and whether its subgroup is too small to be ranked."""

    header: str
    cells: tuple[Cell, ...]
    small: bool = False


@dataclass(frozen=True)
class RowGroup:
    """Rows under one heading; an empty title has no heading."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A table with its caption and footnotes; ``kind`` is its CSS class: plain or heat."""

    caption: str
    corner: str
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    footnotes: tuple[str, ...] = ()
    kind: str = "plain"
    min_n: int | None = None
    whole: bool = False
    """Whether every row is seen, however many there are."""

    @property
    def seen(self) -> tuple[RowGroup, ...]:
        """The groups with the rows that are seen at once."""
        return tuple(replace(group, rows=group.rows[: self._ends(group)]) for group in self.groups)

    @property
    def folded(self) -> Table | None:
        """The rows that are folded away, None where all are seen."""
        rest = [replace(group, rows=group.rows[self._ends(group) :]) for group in self.groups]
        groups = tuple(group for group in rest if group.rows)
        return replace(self, groups=groups, whole=True) if groups else None

    @property
    def size(self) -> int:
        """How many rows it has."""
        return sum(len(group.rows) for group in self.groups)

    def _ends(self, group: RowGroup) -> int:
        """How many rows of a group are seen."""
        return len(group.rows) if self.whole or len(group.rows) <= MOST_ROWS else SEEN

    @property
    def has_small(self) -> bool:
        """Whether any row or cell is marked as small."""
        rows = [row for group in self.groups for row in group.rows]
        return any(row.small or any(cell.small for cell in row.cells) for row in rows)


class Footnotes:
    """Numbers the distinct reasons of one table, in order of first use."""

    def __init__(self) -> None:
        self._reasons: dict[str, int] = {}

    def number(self, reason: str | None) -> int | None:
        """The number of a reason, None for no reason."""
        return None if reason is None else self._reasons.setdefault(reason, len(self._reasons) + 1)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._reasons)


def estimate_cell(
    estimate: Estimate | None, unit: Unit, footnotes: Footnotes, *, small: bool = False
) -> Cell:
    """The cell of an estimate; one that the audit does not have is n/a with that reason."""
    if estimate is None:
        reason = "not computed for this subgroup"
        return Cell(unit=unit, reason=reason, note=footnotes.number(reason), small=small)
    return Cell(
        estimate.value,
        unit,
        estimate.low,
        estimate.high,
        estimate.n,
        estimate.reason,
        footnotes.number(estimate.reason),
        small=small,
    )


def scale_over(estimates: Iterable[Estimate], facts: MetricFacts, mark: float | None) -> Scale:
    """An axis with round ends that holds all intervals, within the metric's own range."""
    bounds = [v for e in estimates for v in (e.low, e.value, e.high) if v is not None]
    if mark is not None:
        bounds.append(mark)
    if facts.better == "zero":
        bounds.append(0.0)
    low, high = (min(bounds), max(bounds)) if bounds else (0.0, 1.0)
    narrowest = 0.02 if facts.unit in ("share", "index") or facts.unit.endswith("points") else 0.2
    step = _round_step(max(high - low, narrowest))
    start, end = math.floor(low / step) * step, math.ceil(high / step) * step
    if end <= start:
        start, end = start - step, end + step
    if facts.unit in ("share", "index"):
        start, end = max(start, 0.0), min(end, 1.0)
    shown = 0.0 if facts.better == "zero" else mark
    return Scale(round(start, 6), round(end, 6), shown)


def shade(value: float | None, darkest: float) -> int | None:
    """The shade of a value on a heat map that starts at 0."""
    if value is None:
        return None
    return 0 if darkest <= 0 else min(SHADES, round(SHADES * max(value, 0.0) / darkest))


def count_cell(value: int) -> Cell:
    """The cell of a number of faces or images."""
    return Cell(float(value), "count")


def fold_undefined(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows, or one row for all where none has a value and all have the same reasons."""
    notes = {tuple(cell.note for cell in row.cells) for row in rows}
    defined = any(cell.value is not None for row in rows for cell in row.cells)
    if len(rows) < 2 or defined or len(notes) > 1:
        return tuple(rows)
    return (Row(f"All {len(rows)} subgroups", rows[0].cells),)


def _round_step(span: float) -> float:
    """A step of 1, 2 or 5 times a power of ten, about a tenth of the span."""
    power = 10.0 ** math.floor(math.log10(span / 10))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span / 10)
