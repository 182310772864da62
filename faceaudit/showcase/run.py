"""`faceaudit demo`: predict on specimens, then audit a table of real predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from faceaudit.pipeline.predict import Prediction, predict
from faceaudit.reporting import report
from faceaudit.showcase.images import write_specimens
from faceaudit.storage import atomic_write

PREDICTIONS = Path(__file__).parent / "utkface_val.parquet"
"""Predictions of the shipped bundle on 2,413 annotated UTKFace images; no images, no file names."""
TITLE = "Demo: the bundle that ships, on 2,413 held-out UTKFace images"


@dataclass(frozen=True)
class Demonstration:
    """What the demo made."""

    prediction: Prediction
    page: Path
    numbers: Path


def demo(folder: str | Path = "demo", *, say: Callable[[str], None] = print) -> Demonstration:
    """Run the main job on inputs that come with the package.

    Args:
        folder: Where everything goes; created where it does not exist.
        say: Takes a line of what is done.
    """
    folder = Path(folder)
    images, table = folder / "images", folder / "out.parquet"
    write_specimens(images)
    say(f"$ faceaudit predict '{images}' '{table}'")
    prediction = predict(images, table, restart=True)
    say(rows_message(table))
    audited = folder / PREDICTIONS.name
    with atomic_write(audited) as file:
        file.write(PREDICTIONS.read_bytes())
    say(f"$ faceaudit report '{audited}' --title '{TITLE}'")
    files = report(audited, title=TITLE)
    return Demonstration(prediction, *files.paths[:2])


def rows_message(table: Path) -> str:
    """The rows of a small table, a line each."""
    rows = pl.read_parquet(table)
    lines = []
    for row in rows.iter_rows(named=True):
        if row["status"] == "ok":
            found = (
                f"{row['gender_pred']}, {row['race_pred']}, {row['age_group_pred']} "
                f"({row['age_pred']:.0f} years)"
            )
        else:
            found = row["error"] or ""
        lines.append(f"  {row['image']:<26} {row['status']:<12} {found}")
    return "\n".join(lines)
