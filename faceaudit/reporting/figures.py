"""Charts as inline SVG: values in, markup out; the same values give the same bytes.

Text stays text, so that a reader can search it and it takes the page's font. Shape, dash or
position always says what color says: the page is read by color-blind people and in print.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from faceaudit.audit.results import Reliability, RocCurve
from faceaudit.reporting.format import class_name, subgroup_name
from faceaudit.reporting.tables import Scale

INK, MUTED, GRID = "#1f2933", "#5f6b7a", "#dde3ea"
ACCENT, WORST = "#1f5f8b", "#b4500f"
PALETTE = ("#0b5fa5", "#d1661c", "#17806d", "#a63d6f", "#8a6d00", "#4b4ba8", "#3a8fc1", "#5a5a5a")
"""Dark enough on white for thin lines; told apart with color-blind vision up to seven."""
LineStyle = tuple[str, Any]
"""A color, and a dash as matplotlib takes it."""
DASHES = ("-", (0, (5, 2)), (0, (6, 2, 1, 2)))
DOTTED = (0, (1, 1.4))
CURVE_POINTS = 40
PANELS_PER_ROW = 4

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "faceaudit",
    # matplotlib brings this font along, so the layout is the same on every machine.
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.parse_math": False,  # A class name may hold a dollar sign.
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@dataclass(frozen=True)
class Chart:
    """A drawn figure: its markup, its text alternative and its natural width."""

    name: str
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
    name: str, rows: Sequence[str], breaks: Sequence[int], panels: Sequence[DotPanel], alt: str
) -> Chart:
    """Panels of dots with intervals beside each other; the rows are the same in all.

    Args:
        name: Unique on the page.
        rows: Row labels, top to bottom.
        breaks: Rows before which a little space stands.
        panels: One per metric.
        alt: Text alternative.
    """
    positions = _row_positions(len(rows), breaks)
    labels = 0.072 * max(len(row) for row in rows) + 0.15
    width, height = labels + 1.95 * len(panels), 0.75 + 0.23 * (positions[-1] + 1)
    with _figure(width, height) as figure:
        axes = figure.subplots(
            1,
            len(panels),
            sharey=True,
            squeeze=False,
            gridspec_kw=_margins(width, height, labels, 0.15, 0.32, 0.42) | {"wspace": 0.2},
        )[0]
        for axis, panel in zip(axes, panels, strict=True):
            _draw_panel(axis, panel, positions)
        axes[0].set_yticks(positions, rows)
        axes[0].set_ylim(positions[-1] + 0.6, -0.6)
        return Chart(name, _svg(figure, name), alt, _pixels(width))


def draw_roc(name: str, classes: Sequence[str], curves: Sequence[RocCurve], alt: str) -> Chart:
    """One-vs-rest ROC curves: a panel per class, a line per subgroup, all faces dotted.

    Args:
        name: Unique on the page.
        classes: Classes that have a panel.
        curves: Curves of all classes.
        alt: Text alternative.
    """
    columns = min(len(classes), PANELS_PER_ROW)
    lines = -(-len(classes) // columns)
    styles = _line_styles(curves)
    per_row = max(2, columns)
    legend = 0.2 * -(-len(styles) // per_row)
    side = 1.95 if columns > 2 else 3.1
    width, height = 0.65 + side * columns, (side + 0.1) * lines + 0.55 + legend
    with _figure(width, height) as figure:
        grid = figure.subplots(
            lines,
            columns,
            sharex=True,
            sharey=True,
            squeeze=False,
            gridspec_kw=_margins(width, height, 0.55, 0.1, 0.28, 0.52 + legend)
            | {"wspace": 0.15, "hspace": 0.26},
        ).ravel()
        for axis, label in zip(grid, classes, strict=False):
            _draw_roc_panel(axis, label, [c for c in curves if c.label == label], styles)
        for axis in grid[len(classes) :]:
            axis.set_axis_off()
        # The panels share their axes.
        grid[0].set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        grid[0].set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        _name_axes(figure, width, height, legend, "False positive rate", "True positive rate")
        handles = [_legend_line(grid[0], text, *style) for text, style in styles.items()]
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0.5 / width, 0.02 / height),
            ncols=per_row,
            frameon=False,
            borderaxespad=0.0,
            labelspacing=0.3,
        )
        return Chart(name, _svg(figure, name), alt, _pixels(width))


def draw_reliability(name: str, panels: Sequence[Reliability], min_n: int, alt: str) -> Chart:
    """Share right over confidence, a panel per subgroup: a dot with its interval per bin.

    Args:
        name: Unique on the page.
        panels: What is drawn, in order.
        min_n: Bins of fewer faces are hollow.
        alt: Text alternative.
    """
    columns = min(len(panels), PANELS_PER_ROW)
    lines = -(-len(panels) // columns)
    width, height = 0.65 + 1.95 * columns, 2.05 * lines + 0.55
    with _figure(width, height) as figure:
        grid = figure.subplots(
            lines,
            columns,
            sharex=True,
            sharey=True,
            squeeze=False,
            gridspec_kw=_margins(width, height, 0.55, 0.1, 0.28, 0.52)
            | {"wspace": 0.15, "hspace": 0.26},
        ).ravel()
        for axis, panel in zip(grid, panels, strict=False):
            _draw_reliability_panel(axis, panel, min_n)
        for axis in grid[len(panels) :]:
            axis.set_axis_off()
        # The panels share their axes.
        grid[0].set_xticks([0, 0.5, 1], ["0%", "50%", "100%"])
        grid[0].set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
        _name_axes(figure, width, height, 0.0, "Confidence", "Share right")
        return Chart(name, _svg(figure, name), alt, _pixels(width))


def _draw_panel(axis: Axes, panel: DotPanel, positions: Sequence[float]) -> None:
    axis.grid(visible=True, axis="x")
    axis.set_axisbelow(True)
    if panel.scale.mark is not None:
        axis.axvline(panel.scale.mark, color=MUTED, linewidth=1, linestyle=(0, (3, 2)))
    for row, place in enumerate(positions):
        value, low, high = panel.values[row], panel.lows[row], panel.highs[row]
        if value is None:
            axis.text(panel.scale.low, place, " n/a", va="center", color=MUTED, fontsize=7.5)
            continue
        color = WORST if row == panel.worst else ACCENT
        marker = "D" if row == panel.worst else "o"
        if low is not None and high is not None:
            axis.plot(
                [low, high], [place, place], color=color, linewidth=1.3, solid_capstyle="butt"
            )
        fill = "white" if panel.small[row] else color
        axis.plot([value], [place], marker, color=color, markerfacecolor=fill, markersize=4.6)
    margin = 0.03 * (panel.scale.high - panel.scale.low)
    axis.set_xlim(panel.scale.low - margin, panel.scale.high + margin)
    axis.set_title(panel.title)
    axis.set_xlabel(panel.unit_label, fontsize=8)
    axis.tick_params(length=0)
    axis.spines["left"].set_visible(False)
    if panel.percent:
        axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    axis.locator_params(axis="x", nbins=3)


def _draw_roc_panel(
    axis: Axes, label: str, curves: Sequence[RocCurve], styles: Mapping[str, LineStyle]
) -> None:
    axis.grid(visible=True)
    axis.set_axisbelow(True)
    axis.plot([0, 1], [0, 1], color=GRID, linewidth=1)
    for curve in curves:
        color, dash = styles[subgroup_name(curve.subgroup)]
        x, y = thin_curve(curve.false_positive_rate, curve.true_positive_rate)
        axis.plot(x, y, color=color, linestyle=dash, linewidth=1.1)
    if not curves:
        axis.text(0.5, 0.5, "n/a", ha="center", va="center", color=MUTED)
    axis.set_title(class_name(label))
    axis.set_aspect("equal")
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)
    axis.tick_params(length=0)


def _draw_reliability_panel(axis: Axes, panel: Reliability, min_n: int) -> None:
    axis.grid(visible=True)
    axis.set_axisbelow(True)
    axis.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
    for one in panel.bins:
        if one.confidence is None or one.right.value is None:
            continue
        if one.right.low is not None and one.right.high is not None:
            axis.plot(
                [one.confidence] * 2, [one.right.low, one.right.high], color=ACCENT, linewidth=1
            )
        fill = "white" if one.right.n < min_n else ACCENT
        at = ([one.confidence], [one.right.value])
        axis.plot(*at, "o", color=ACCENT, markerfacecolor=fill, markersize=3.4)
    if not panel.bins:
        axis.text(0.5, 0.5, "n/a", ha="center", va="center", color=MUTED)
    axis.set_title(subgroup_name(panel.subgroup))
    axis.set_aspect("equal")
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)
    axis.tick_params(length=0)


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


def _line_styles(curves: Sequence[RocCurve]) -> dict[str, LineStyle]:
    """Color and dash of every subgroup, by its name; neighbors differ in both."""
    names = dict.fromkeys(subgroup_name(c.subgroup) for c in curves if c.subgroup)
    styles: dict[str, LineStyle] = {"All faces": (INK, DOTTED)}
    for position, name in enumerate(names):
        styles[name] = (PALETTE[position % len(PALETTE)], DASHES[position % len(DASHES)])
    return styles


def _name_axes(
    figure: Figure, width: float, height: float, legend: float, x_name: str, y_name: str
) -> None:
    """Names of both axes, said once for all panels."""
    words: dict[str, Any] = {"color": MUTED, "fontsize": 8.5, "va": "center"}
    figure.text((0.55 + width) / 2 / width, (0.2 + legend) / height, x_name, ha="center", **words)
    middle = (0.52 + legend + height) / 2 / height
    figure.text(0.12 / width, middle, y_name, ha="center", rotation=90, **words)


def _legend_line(axis: Axes, text: str, color: str, dash: Any) -> Line2D:
    return axis.plot([], [], color=color, linestyle=dash, linewidth=1.4, label=text)[0]


def _margins(
    width: float, height: float, left: float, right: float, top: float, bottom: float
) -> dict[str, float]:
    """Margins in inches as the shares that matplotlib takes."""
    return {
        "left": left / width,
        "right": 1 - right / width,
        "top": 1 - top / height,
        "bottom": bottom / height,
    }


def _pixels(width: float) -> int:
    """The width in pixels at which 8.5 point text is as large as the page's small print."""
    return round(96 * width)


def _row_positions(rows: int, breaks: Sequence[int]) -> list[float]:
    """Where each row lies, with some space before every break."""
    places = [0.0]
    for row in range(1, rows):
        places.append(places[-1] + (1.55 if row in breaks else 1.0))
    return places


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of this many inches, drawn and saved in the house style."""
    with rc_context(STYLE), warnings.catch_warnings():
        # The browser's font draws what the layout font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield Figure(figsize=(width, height))


def _svg(figure: Figure, name: str) -> Markup:
    """A figure as an SVG element that can stand in the page beside others."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    return Markup(_inline(buffer.getvalue(), name))


def _inline(svg: str, name: str) -> str:
    """The ``svg`` element alone, with its own ids, short numbers and the page's font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg, count=3).replace("xlink:href", "href")
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace("'DejaVu Sans'", "system-ui, sans-serif")
    svg = re.sub(r"(?<=[\s\"(,ML])-?\d+\.\d{2,}", lambda m: f"{float(m.group()):.1f}", svg)
    return re.sub(r"\n\s*", "\n", svg).strip()
