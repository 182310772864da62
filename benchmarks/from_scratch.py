"""What the reference networks learn from nothing: ``python -m benchmarks.from_scratch run``.

Most rows of the reference works begin with weights that are not at hand. Here each network of such
rows is trained by its own recipe from random weights, with everything trained, on a small stated
budget (``EPOCHS``, ``STEPS``, ``SHORT``): it shows that the recipe learns, and nothing of how good
the row can be. The others are trained as they are: ``benchmarks/reference_rows.py``.
``--data`` are UTKFace crops (``faceaudit prepare UTKFACE crops``). ``write`` adds every
finished run to docs/results/from_scratch.json, from which ``scripts/reference_results.py`` makes
the table. A run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.study import check_recipe
from faceaudit.models.bundle import FACTS
from faceaudit.schema import AGE, AGE_GROUP
from faceaudit.training.recipe_files import load_recipe

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "from_scratch.json"
EPOCHS, STEPS = 3, 200
"""Epochs, and steps of each at most."""
SHORT: dict[str, Any] = {
    "weights": "none",
    "frozen": "none",
    "stages": [{"epochs": EPOCHS, "size": 64}],
    # What follows pretrained weights is too small for so few steps; at that rate the ReLUs of heads
    # die, as all features of an untrained trunk are of one sign.
    "learning_rate": 5e-5,
    "trunk_learning_rate": 5e-4,
    "schedule": {"kind": "cosine", "warmup": 0.05},
    "selection": {"keep": "last"},
    "data": {"validation_share": 0.1, "test_share": 0.0},
    "align": "similarity",
    "margin": -0.05,
    "offset": 0.15,
}
"""What is changed in every recipe."""
OTHER_RATES = {
    "dj_vgg16_full": 1e-4,
    "dj_vgg19_full": 1e-4,
    "sabat_efficientnet_b1": 2e-3,
    "sabat_efficientnet_b3": 2e-3,
}
"""Of trunks that at the others' rate learned nothing, or little but gender."""
SAME = ("precision",)
"""Keys of older recipes whose value is another and does the same: ``auto`` is float32 on a CPU."""
ROWS = (
    "dj_resnet50_full",
    "dj_densenet121_full",
    "sabat_efficientnet_b1",
    "sabat_efficientnet_b3",
    "sabat_mobilenet_v3",
    "olcay_vgg16",
    "dj_vgg16_full",
    "dj_vgg19_full",
)


@dataclass(frozen=True)
class Learned:
    """What one network knows of held-out faces after a small training."""

    recipe: str
    row: str
    rate: float
    """The highest of the trunk."""
    images: int
    """Training images seen, all epochs together."""
    held_out: int
    figures: dict[str, tuple[float, float, float]]
    """Task -> accuracy (age in years: mean absolute error) and its interval."""
    guessed: dict[str, float]
    """The same of who always says the commonest class, or the median age."""


def run(data: Path, work: Path, only: Sequence[str]) -> None:
    """Train every row; what is finished, and of today's recipe, is left alone.

    Raises:
        SystemExit: If a finished run is of another recipe.
    """
    from faceaudit.training.train import train

    for name in only or ROWS:
        output = work / name
        if is_finished(work, name):
            check_recipe(output, load_recipe(f"reference/{name}", changes_of(name)), SAME)
        else:
            train(
                f"reference/{name}",
                data=[data],
                output=output,
                changes=changes_of(name),
                max_steps=STEPS,
            )


def changes_of(name: str) -> dict[str, Any]:
    """What is changed in a row's recipe."""
    rate = OTHER_RATES.get(name, SHORT["trunk_learning_rate"])
    return {**SHORT, "trunk_learning_rate": rate}


def is_finished(work: Path, name: str) -> bool:
    """Whether a row is trained and tested."""
    path = work / name / FACTS
    return path.is_file() and "metrics" in json.loads(path.read_text())


def learned(work: Path) -> list[Learned]:
    """What the finished runs give.

    Raises:
        SystemExit: If one is of another recipe than today's.
    """
    found = []
    for name in ROWS:
        if not is_finished(work, name):
            continue
        recipe = load_recipe(f"reference/{name}", changes_of(name))
        check_recipe(work / name, recipe, SAME)
        facts = json.loads((work / name / FACTS).read_text())
        table = pl.read_parquet(work / f"{name}.training" / "validation.parquet")
        images = recipe.stages[0].epochs * min(
            STEPS * recipe.batch, int(facts["split"]["training"])
        )
        figures = figures_of(facts["metrics"])
        guessed = {task: _guessed(table[f"{task}_true"].drop_nulls()) for task in figures}
        row = recipe.reference.row if recipe.reference else name
        rate = recipe.trunk_learning_rate or recipe.learning_rate
        found.append(Learned(name, row, rate, images, table.height, figures, guessed))
    return found


def figures_of(metrics: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Task -> a card's accuracy (of ages in years the mean absolute error) and its interval.

    Groups of ages in years are left out: they are others than the classifications'.
    """
    return {
        task: (one["accuracy"] if "accuracy" in one else one["mae"], one["low"], one["high"])
        for task, one in metrics.items()
        if task != AGE_GROUP or AGE not in metrics
    }


def _guessed(true: pl.Series) -> float:
    """How right it is to say the same of every face."""
    if true.dtype.is_numeric():
        return float((true - true.median()).abs().mean())  # type: ignore[arg-type, operator]
    return float(true.value_counts()["count"].max()) / true.len()  # type: ignore[arg-type]


def table_of(found: Sequence[Learned]) -> str:
    """A Markdown table, one row per network."""
    tasks = list(dict.fromkeys(task for one in found for task in one.figures))
    titles = [f"{task}, years off" if task == "age" else task for task in tasks]
    lines = [
        f"| network | recipe | images seen | held out | {' | '.join(titles)} |",
        "| --- | --- | ---: | ---: |" + " ---: |" * len(tasks),
    ]
    for one in found:
        cells = [_cell(one.figures.get(task), years=task == "age") for task in tasks]
        lines.append(
            f"| {one.row} | `reference/{one.recipe}` | {one.images:,} | {one.held_out:,} | "
            f"{' | '.join(cells)} |"
        )
    every = {task: value for one in found for task, value in one.guessed.items()}
    guesses = [f"{every[task]:.2f}" if task == "age" else f"{every[task]:.3f}" for task in tasks]
    held_out = f"{found[-1].held_out:,}"
    lines.append(
        f"| the commonest class, the median age | | 0 | {held_out} | {' | '.join(guesses)} |"
    )
    return "\n".join(lines)


def _cell(figure: Sequence[float] | None, *, years: bool) -> str:
    if figure is None:
        return ""
    value, low, high = figure
    digits = 2 if years else 3
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    """``run``, or ``write``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("run", "write"))
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--data", type=Path, help="prepared UTKFace crops")
    parser.add_argument("--only", nargs="*", default=[], choices=ROWS)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.action == "run":
        if given.data is None:
            parser.error("run needs --data")
        given.work.mkdir(parents=True, exist_ok=True)
        run(given.data, given.work, given.only)
        return
    fresh = learned(given.work)
    if not fresh:
        raise SystemExit(f"{given.work}: no finished run; begin with `run`")
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    rows = {one["recipe"]: one for one in (*known, *(asdict(one) for one in fresh))}
    found = [Learned(**rows[name]) for name in ROWS if name in rows]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    print(table_of(found))


if __name__ == "__main__":
    main()
