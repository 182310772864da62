"""Rows of the reference works by their own recipes: ``python -m benchmarks.reference_rows run``.

Of the rows whose weights are at hand (ImageNet's of MobileNetV2, or none at all) nothing is changed
but how much is learned: epochs, and steps of each at most (``BUDGETS``). ``--data`` are UTKFace
crops as the recipes of one source read them (``reference.prepare`` of each), so that rows of two
sources are two runs. ``write`` adds every finished run to docs/results/reference_rows.json, from
which ``scripts/reference_results.py`` fills its tables. A run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.from_scratch import figures_of, is_finished
from benchmarks.study import check_recipe
from faceaudit.models.bundle import FACTS
from faceaudit.schema import AGE
from faceaudit.training.recipe import Recipe
from faceaudit.training.recipe_files import load_recipe

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "reference_rows.json"


@dataclass(frozen=True)
class Budget:
    """How much of a row is trained: of the recipe's epochs so many, each of so many steps."""

    steps: int
    epochs: int | None = None
    """None: as many as the recipe has."""


BUDGETS = {
    "dj_custom_cnn": Budget(100),
    "dj_custom_cnn_ge": Budget(100),
    "dj_custom_cnn_gm": Budget(100),
    "dj_custom_cnn_am": Budget(100),
    "sabat_custom_cnn": Budget(50, epochs=8),
    "sabat_mobilenet_v2": Budget(50, epochs=8),
}
"""Recipe -> what two cores were given for it; the order of the table."""


@dataclass(frozen=True)
class Row:
    """What one row reaches on held-out faces."""

    recipe: str
    epochs: int
    steps: int
    """Of each epoch, at most."""
    images: int
    """Training images seen, all epochs together."""
    whole: int
    """Training images that the recipe would have seen."""
    held_out: int
    figures: dict[str, tuple[float, float, float]]
    """Task -> accuracy (age in years: mean absolute error) and its interval."""
    others: tuple[int, int]
    """Faces annotated Others that are found, and all: what the sources' networks found least."""


def recipe_of(name: str) -> Recipe:
    """A row's recipe, in the epochs that are trained here."""
    recipe = load_recipe(f"reference/{name}")
    epochs = BUDGETS[name].epochs
    if epochs is None:
        return recipe
    return load_recipe(f"reference/{name}", {"stages": [{"epochs": epochs, "size": recipe.size}]})


def run(data: Path, work: Path, only: Sequence[str]) -> None:
    """Train rows; what is finished, and of today's recipe, is left alone.

    Raises:
        SystemExit: If a finished run is of another recipe.
    """
    from faceaudit.training.train import train

    for name in only:
        output = work / name
        if is_finished(work, name):
            check_recipe(output, recipe_of(name))
        else:
            train(recipe_of(name), data=[data], output=output, max_steps=BUDGETS[name].steps)


def finished(work: Path) -> list[Row]:
    """What the finished runs give.

    Raises:
        SystemExit: If one is of another recipe than today's.
    """
    found = []
    for name in BUDGETS:
        if not is_finished(work, name):
            continue
        recipe, steps = recipe_of(name), BUDGETS[name].steps
        check_recipe(work / name, recipe)
        facts: dict[str, Any] = json.loads((work / name / FACTS).read_text())
        training = int(facts["split"]["training"])
        figures = figures_of(facts["metrics"])
        found.append(
            Row(
                recipe=name,
                epochs=recipe.epochs,
                steps=steps,
                images=recipe.epochs * min(steps * recipe.batch, training),
                whole=load_recipe(f"reference/{name}").epochs * training,
                held_out=int(facts["split"]["test"] or facts["split"]["validation"]),
                figures=figures,
                others=_others(facts["confusion"]["race"]),
            )
        )
    return found


def _others(confusion: Mapping[str, Any]) -> tuple[int, int]:
    """Right and all of the class, of counts (annotated, predicted, by confidence)."""
    place = confusion["classes"].index("Others")
    annotated = [sum(cell) for cell in confusion["counts"][place]]
    return annotated[place], sum(annotated)


def read() -> dict[str, Row]:
    """Recipe -> what was measured; empty before the first run."""
    if not RESULTS.is_file():
        return {}
    return {one["recipe"]: Row(**one) for one in json.loads(RESULTS.read_text())}


def text_of(row: Row) -> str:
    """A row's figures and what they were given, for a table."""
    figures = ", ".join(_told(row.recipe, task, *figure) for task, figure in row.figures.items())
    found, annotated = row.others
    return (
        f"{figures}; of {annotated:,} faces annotated Others, {found:,} "
        f"{'is' if found == 1 else 'are'} found; on {row.held_out:,} held-out images, after "
        f"{row.epochs} epochs of at most {row.steps} steps: {row.images:,} images, of "
        f"{row.whole:,} that the recipe learns from"
    )


def _told(recipe: str, task: str, value: float, low: float, high: float) -> str:
    if task != AGE:
        return f"{task} {value:.3f} ({low:.3f} to {high:.3f})"
    scale = load_recipe(f"reference/{recipe}").tasks[AGE].scale
    years = f"{value:.2f} years off ({low:.2f} to {high:.2f})"
    return f"{task} {years}, age_mae_scaled {value / scale:.4f}"


def main() -> None:
    """``run``, or ``write``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("run", "write"))
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--data", type=Path, help="UTKFace crops as the rows' recipes read them")
    parser.add_argument("--only", nargs="*", default=[], choices=BUDGETS)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.action == "run":
        if given.data is None or not given.only:
            parser.error("run needs --data, and --only with the rows that read such crops")
        given.work.mkdir(parents=True, exist_ok=True)
        run(given.data, given.work, given.only)
        return
    fresh = finished(given.work)
    if not fresh:
        raise SystemExit(f"{given.work}: no finished run; begin with `run`")
    rows = read() | {one.recipe: one for one in fresh}
    found = [rows[name] for name in BUDGETS if name in rows]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    for one in found:
        print(f"{one.recipe}: {text_of(one)}")


if __name__ == "__main__":
    main()
