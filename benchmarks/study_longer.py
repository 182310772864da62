"""Had the study converged? ``python -m benchmarks.study_longer run --data CROPS --work FOLDER``.

Trains some recipes of the study (``benchmarks/study.py``) with one of its seeds for twice its
epochs and compares each with the run of the study on the same test images: what changes is what
more training would have given. ``write --work FOLDER`` puts what is finished in
docs/results/study_longer.json, from which ``scripts/reference_results.py`` makes a table. The split
must be that of the study. A run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from benchmarks import study
from benchmarks.paired_runs import Comparison, Question, answer, interval, right_of, write
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.splits import SPLITS

RESULTS = study.RESULTS.with_name("study_longer.json")
RECIPES = ("mtl", *study.ALONE.values(), "age_others")
"""What is trained longer: all tasks together, each alone, and the model of the fewest faces."""
SEED, TIMES = 0, 2
LONGER = " longer"


def changes_of(name: str) -> dict[str, object]:
    """What is changed in a recipe of the study."""
    recipe = load_recipe(f"study/{name}")
    return {"stages": [{"epochs": TIMES * recipe.epochs, "size": recipe.size}]}


def run(data: Path, work: Path, only: Sequence[str]) -> None:
    """Train every recipe; what is finished is left alone."""
    for name in only or RECIPES:
        study.run(data, work, [SEED], [name], changes_of(name))


def compared(work: Path) -> list[Comparison]:
    """Every finished run against that of the study, per task.

    Raises:
        SystemExit: If a run is of another recipe, or the split is not the study's.
    """
    known = pl.read_parquet(study.RIGHT).filter(pl.col("seed") == SEED)
    found = []
    for name in RECIPES:
        right = right_of(work, name, SEED)
        if right is None:
            continue
        study.check_recipe(work / f"{name}-{SEED}", load_recipe(f"study/{name}", changes_of(name)))
        if study.digest_of(work / "split" / SPLITS) != known["split"][0]:
            raise SystemExit(f"{work}: its split is not that of the runs in {study.RIGHT}")
        own = right.with_columns(pl.lit(name + LONGER).alias("recipe"), seed=SEED)
        both = pl.concat([known.filter(pl.col("recipe") == name), own], how="diagonal_relaxed")
        tasks = [task for task in study.ALONE if task in right.columns]
        found += answer(both, [Question(name, task, (name + LONGER,), (name,)) for task in tasks])
    return found


def table(found: Sequence[Comparison]) -> str:
    """The comparisons as a Markdown table."""
    lines = [
        "| recipe | task | test images | as in the study | longer | difference, points (95 %) |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| `study/{one.question}` | {one.task} | {one.images:,} | {one.accuracy_second:.3f} | "
        f"{one.accuracy_first:.3f} | {interval(one)} |"
        for one in found
    ]
    return "\n".join(lines)


def main() -> None:
    """``run``, or ``write``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("run", "write"))
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--data", type=Path, help="prepared UTKFace crops")
    parser.add_argument("--only", nargs="*", default=[], choices=RECIPES)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.action == "run":
        if given.data is None:
            parser.error("run needs --data")
        run(given.data, given.work, given.only)
        return
    found = compared(given.work)
    if not found:
        raise SystemExit(f"{given.work}: no finished run; begin with `run`")
    write(found, RESULTS)
    print(table(found))


if __name__ == "__main__":
    main()
