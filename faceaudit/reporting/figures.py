"""Charts: values in, drawings out.

Shape, dash or position always says what color says: the page is read by color-blind people and in
print.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from faceaudit.audit.results import Reliability, RocCurve
from faceaudit.reporting.format import class_name, subgroup_name, tick
from faceaudit.reporting.svg import GRID, INK, MUTED, TITLE, Drawing, Frame, ticks, width_of
from faceaudit.reporting.tables import Scale

ACCENT, WORST = "#1f5f8b", "#b4500f"
PALETTE = ("#0b5fa5", "#d1661c", "#17806d", "#a63d6f", "#8a6d00", "#4b4ba8", "#3a8fc1", "#5a5a5a")
"""Dark enough on white for thin lines; told apart with color-blind vision up to seven."""
LineStyle = tuple[str, str]
"""A color, and lengths of dashes and gaps."""
DASHES = ("", "6 2.5", "7 2.5 1.2 2.5")
DOTTED, REFERENCE = "1.3 1.8", "3 2"
CURVE_POINTS = 40
PANELS_PER_ROW = 4
INCH = 96.0
"""Pixels; layouts are in inches."""
MOST_LINES = 24
"""Lines of subgroups in a panel; each has its own color and dash."""
WIDEST = 3.2
"""Of labels, in inches; longer ones are shortened."""
_Items = tuple[tuple[str, str], ...]
"""A subgroup's features and values: two subgroups may have one name."""


@dataclass(frozen=True)
class Chart:
    """A drawn figure: its markup, its text alternative and its natural width."""

    svg: Markup
    alt: str
    width: int
    """In pixels; the page shows it no larger, and scrolls where it has less room."""


@dataclass(frozen=True)
class DotPanel:
    """Values with intervals, one per row, on one axis; ``worst`` is the row to point out."""

    title: str
    scale: Scale
    unit_label: str
    percent: bool
    values: tuple[float | None, ...]
    lows: tuple[float | None, ...]
    highs: tuple[float | None, ...]
    small: tuple[bool, ...]
    worst: int | None


def draw_dots(
    rows: Sequence[str], breaks: Sequence[int], panels: Sequence[DotPanel], alt: str
) -> Chart:
    """Panels of dots with intervals beside each other; the rows are the same in all.

    Args:
        rows: Row labels, top to bottom.
        breaks: Rows before which a little space stands.
        panels: One per metric.
        alt: Text alternative.
    """
    positions = _row_positions(len(rows), breaks)
    widest = min(WIDEST, max(map(width_of, rows)) / INCH)
    labels = widest + 0.15
    width, height = labels + 1.95 * len(panels), 0.75 + 0.23 * (positions[-1] + 1)
    drawing = Drawing(INCH * width, INCH * height)
    step = (width - 0.15 + 0.3 - labels) / len(panels)
    for number, panel in enumerate(panels):
        margin = 0.03 * (panel.scale.high - panel.scale.low)
        frame = Frame(
            INCH * (labels + number * step),
            INCH * 0.32,
            INCH * (step - 0.3),
            INCH * (height - 0.74),
            (panel.scale.low - margin, panel.scale.high + margin),
            (positions[-1] + 0.6, -0.6),
        )
        _draw_panel(drawing, frame, panel, positions)
        if number == 0:
            for name, place in zip(rows, positions, strict=True):
                x, y = frame.left - 6, frame.down(place)
                drawing.text(x, y, name, anchor="end", room=INCH * widest + 1)
    return Chart(drawing.markup(), alt, round(drawing.width))


def draw_roc(classes: Sequence[str], curves: Sequence[RocCurve], alt: str) -> Chart:
    """One-vs-rest ROC curves: a panel per class, a line per subgroup, all faces dotted.

    Args:
        classes: Classes that have a panel.
        curves: Curves of all classes, of at most ``MOST_LINES`` subgroups.
        alt: Text alternative.
    """
    styles = _line_styles(curves)
    panels = [[c for c in curves if c.label == label] for label in classes]
    side = 1.95 if len(classes) > 2 else 3.1
    width = 0.65 + side * min(len(classes), PANELS_PER_ROW)
    names = [subgroup_name(dict(items)) for items in styles]
    entry = min(max(map(width_of, names)) / INCH + 0.55, width - 0.5)
    per_row = max(1, int((width - 0.5) / entry))
    legend = 0.2 * -(-len(styles) // per_row)
    drawing, frames = _squares(
        [class_name(label) for label in classes],
        side,
        legend,
        ("False positive rate", "True positive rate"),
        lambda value: f"{value:g}",
    )
    for frame, own in zip(frames, panels, strict=True):
        _draw_roc_panel(drawing, frame, own, styles)
    top = drawing.height / INCH - legend
    for number, (name, (color, dash)) in enumerate(zip(names, styles.values(), strict=True)):
        row, column = divmod(number, per_row)
        x, y = INCH * (0.5 + column * entry), INCH * (top + 0.2 * row + 0.08)
        drawing.lines([(x, y, x + 26, y)], color, 1.8, dash)
        drawing.text(x + 32, y, name, color=INK, room=INCH * (entry - 0.4))
    return Chart(drawing.markup(), alt, round(drawing.width))


def draw_reliability(panels: Sequence[Reliability], min_n: int, alt: str) -> Chart:
    """Share right over confidence, a panel per subgroup: a dot with its interval per bin.

    Args:
        panels: What is drawn, in order.
        min_n: Bins of fewer faces are hollow.
        alt: Text alternative.
    """
    drawing, frames = _squares(
        [subgroup_name(panel.subgroup) for panel in panels],
        1.95,
        0.0,
        ("Confidence", "Share right"),
        lambda value: f"{value:.0%}",
    )
    for frame, panel in zip(frames, panels, strict=True):
        _draw_reliability_panel(drawing, frame, panel, min_n)
    return Chart(drawing.markup(), alt, round(drawing.width))


def _draw_panel(
    drawing: Drawing, frame: Frame, panel: DotPanel, positions: Sequence[float]
) -> None:
    round_numbers = ticks(*frame.x)
    places = [frame.across(value) for value in round_numbers]
    drawing.lines([(x, frame.top, x, frame.foot) for x in places], GRID)
    drawing.lines([(frame.left, frame.foot, frame.left + frame.width, frame.foot)], GRID)
    for x, value in zip(places, round_numbers, strict=True):
        written = tick(value, "share" if panel.percent else "years")
        drawing.text(x, frame.foot + 11, written, anchor="middle")
    room = frame.width + 0.25 * INCH
    drawing.text(
        frame.left, frame.top - 12, panel.title, color=INK, size=TITLE, bold=True, room=room
    )
    drawing.text(frame.middle[0], frame.foot + 27, panel.unit_label, anchor="middle")
    if panel.scale.mark is not None:
        x = frame.across(panel.scale.mark)
        drawing.lines([(x, frame.top, x, frame.foot)], MUTED, 1.3, "4 2.7")
    for row, place in enumerate(positions):
        _draw_dot(drawing, frame, panel, row, place)


def _draw_dot(drawing: Drawing, frame: Frame, panel: DotPanel, row: int, place: float) -> None:
    value, low, high = panel.values[row], panel.lows[row], panel.highs[row]
    y, worst = frame.down(place), row == panel.worst
    if value is None:
        drawing.text(frame.across(panel.scale.low) + 3, y, "n/a", size=10)
        return
    color = WORST if worst else ACCENT
    if low is not None and high is not None:
        drawing.lines([(frame.across(low), y, frame.across(high), y)], color, 1.7)
    drawing.dot(frame.across(value), y, color, hollow=panel.small[row], diamond=worst, size=6.5)


def _squares(
    titles: Sequence[str],
    side: float,
    legend: float,
    names: tuple[str, str],
    written: Callable[[float], str],
) -> tuple[Drawing, list[Frame]]:
    """A drawing of square panels with axes from 0 to 1, and where the panels are.

    Args:
        titles: Of the panels.
        side: From one panel to the next, in inches.
        legend: Room left at the foot, in inches.
        names: Of both axes, said once for all panels.
        written: What stands at a tick.
    """
    columns = min(len(titles), PANELS_PER_ROW)
    lines = -(-len(titles) // columns)
    width, height = 0.65 + side * columns, (side + 0.1) * lines + 0.55 + legend
    drawing, frames = Drawing(INCH * width, INCH * height), []
    for number, title in enumerate(titles):
        row, column = divmod(number, columns)
        size = INCH * (side - 0.25)
        left, top = INCH * (0.55 + column * side), INCH * (0.28 + row * (side + 0.1))
        frame = Frame(left, top, size, size, (-0.02, 1.02), (-0.02, 1.02))
        frames.append(frame)
        xs, ys = ([where(at) for at in (0.0, 0.5, 1.0)] for where in (frame.across, frame.down))
        drawing.lines([(x, top, x, frame.foot) for x in (*xs, left)], GRID)
        drawing.lines([(left, y, left + size, y) for y in (*ys, frame.foot)], GRID)
        drawing.text(left, top - 11, title, color=INK, size=TITLE, bold=True, room=size)
        for value, x, y in zip((0.0, 0.5, 1.0), xs, ys, strict=True):
            if column == 0:
                drawing.text(left - 5, y, written(value), anchor="end")
            if number + columns >= len(titles):
                drawing.text(x, frame.foot + 11, written(value), anchor="middle")
    middle = INCH * (0.28 + lines * (side + 0.1) / 2 - 0.17)
    drawing.text(INCH * 0.1, middle, names[1], anchor="middle", upright=True)
    foot = INCH * (height - legend - 0.2)
    drawing.text(INCH * (0.3 + width) / 2, foot, names[0], anchor="middle")
    return drawing, frames


def _draw_roc_panel(
    drawing: Drawing, frame: Frame, curves: Sequence[RocCurve], styles: Mapping[_Items, LineStyle]
) -> None:
    _diagonal(drawing, frame, GRID, "")
    for curve in curves:
        color, dash = styles[tuple(curve.subgroup.items())]
        x, y = thin_curve(curve.false_positive_rate, curve.true_positive_rate)
        across, down = [*map(frame.across, x.tolist())], [*map(frame.down, y.tolist())]
        drawing.curve(across, down, color, 1.5, dash)
    if not curves:
        drawing.text(*frame.middle, "n/a", anchor="middle")


def _draw_reliability_panel(drawing: Drawing, frame: Frame, panel: Reliability, min_n: int) -> None:
    _diagonal(drawing, frame, MUTED, REFERENCE)
    for one in panel.bins:
        if one.confidence is None or one.right.value is None:
            continue
        x, few = frame.across(one.confidence), one.right.n < min_n
        if one.right.low is not None and one.right.high is not None:
            ends = frame.down(one.right.low), frame.down(one.right.high)
            drawing.lines([(x, ends[0], x, ends[1])], ACCENT, 1.3)
        y = frame.down(one.right.value)
        drawing.dot(x, y, ACCENT, hollow=few, diamond=False, size=4.8)
    if not panel.bins:
        drawing.text(*frame.middle, "n/a", anchor="middle")


def _diagonal(drawing: Drawing, frame: Frame, color: str, dash: str) -> None:
    ends = (frame.across(0), frame.down(0), frame.across(1), frame.down(1))
    drawing.lines([ends], color, 1.2, dash)


def thin_curve(
    x: NDArray[np.float64], y: NDArray[np.float64], points: int = CURVE_POINTS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most ``points`` points of a curve, evenly spaced along it, its ends included."""
    if len(x) <= points:
        return x, y
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    keep = np.unique(np.searchsorted(along, np.linspace(0.0, along[-1], points)))
    keep = np.unique(np.concatenate([[0], keep[keep < len(x)], [len(x) - 1]]))
    return x[keep], y[keep]


def _line_styles(curves: Sequence[RocCurve]) -> dict[_Items, LineStyle]:
    """Color and dash of every subgroup; neighbors differ in both."""
    subgroups = dict.fromkeys(tuple(c.subgroup.items()) for c in curves if c.subgroup)
    styles: dict[_Items, LineStyle] = {(): (INK, DOTTED)}
    for position, items in enumerate(subgroups):
        styles[items] = (PALETTE[position % len(PALETTE)], DASHES[position % len(DASHES)])
    return styles


def _row_positions(rows: int, breaks: Sequence[int]) -> list[float]:
    """Where each row lies, with some space before every break."""
    places = [0.0]
    for row in range(1, rows):
        places.append(places[-1] + (1.55 if row in breaks else 1.0))
    return places
