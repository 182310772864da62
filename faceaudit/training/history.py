"""The course of a training as a picture: losses, validation accuracies, errors in years."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from faceaudit.reporting.figures import PALETTE
from faceaudit.storage import atomic_write

PICTURE = "history.png"
COURSE = ("epoch", "size", "learning_rate", "seconds")
"""Columns of a history that are no results."""
STYLE: Any = {"font.family": "DejaVu Sans", "font.size": 8.5}
MARKERS = "osv^DPX*"
"""A line is told apart by its marker as well as by its color."""


def draw_history(history: Path, picture: Path | None = None) -> Path:
    """Draw a history, epoch by epoch.

    Args:
        history: ``history.csv`` as a training writes it: ``epoch``, ``loss`` (of the training),
            ``<task>_loss`` (of the validation), ``age_mae`` in years, and accuracies by task.
        picture: Where it goes; by default ``history.png`` beside the history.

    Returns:
        The picture's path.
    """
    table = pl.read_csv(history, infer_schema_length=None)
    picture = picture or history.with_name(PICTURE)
    panels = {title: names for title, names in _panels(table.columns).items() if names}
    with rc_context(STYLE):
        figure = Figure(figsize=(3.8 * max(len(panels), 1), 3.0), layout="constrained", dpi=120)
        axes = figure.subplots(1, max(len(panels), 1), squeeze=False)[0]
        for axis, (title, names) in zip(axes, panels.items(), strict=False):
            _draw(axis, title, table["epoch"].to_list(), {n: table[n].to_list() for n in names})
        with atomic_write(picture) as file:
            figure.savefig(file, format="png", metadata={"Software": None})
    return picture


def _panels(columns: Sequence[str]) -> Mapping[str, list[str]]:
    """Title -> columns that share a scale."""
    results = [name for name in columns if name not in COURSE]
    losses = [name for name in results if name == "loss" or name.endswith("_loss")]
    years = [name for name in results if name.endswith("_mae")]
    return {
        "Loss": losses,
        "Accuracy on validation crops": [n for n in results if n not in (*losses, *years)],
        "Error on validation crops, years": years,
    }


def _draw(
    axis: Axes, title: str, epochs: Sequence[int], lines: Mapping[str, Sequence[float | None]]
) -> None:
    for number, (name, values) in enumerate(lines.items()):
        label = "training (sum of tasks)" if name == "loss" else name.replace("_", " ")
        axis.plot(
            epochs,
            [math.nan if value is None else value for value in values],
            color="#1f2933" if name == "loss" else PALETTE[number % len(PALETTE)],
            linestyle="--" if name == "loss" else "-",
            marker=MARKERS[number % len(MARKERS)],
            markersize=3,
            linewidth=1.2,
            label=label,
        )
    axis.set_title(title, loc="left", fontweight="bold")
    axis.set_xlabel("Epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.grid(visible=True, linewidth=0.5, color="#dde3ea")
    axis.legend(frameon=False, fontsize=7.5)
