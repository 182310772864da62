"""What each choice of a recipe gives: ``python -m benchmarks.ablations run`` (and ``--help``).

Trains the recipe ``fairface_lite0`` on a short budget (one cycle at 64 pixels), and again with one
choice changed at a time, with several seeds; all on the same crops, split and order, but where
labels that conflict are kept, which adds crops.
``write`` adds what each finished one got right to docs/results/ablations.parquet, compares
each with the whole recipe in pairs on the same held-out images (``benchmarks/paired_runs.py``), and
writes docs/results/ablations.json, from which ``scripts/reference_results.py`` makes a table;
without ``--work`` it computes that file anew from what is known. A run that was interrupted goes
on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.paired_runs import (
    TASKS,
    Comparison,
    Question,
    answer,
    collect,
    interval,
    is_constant,
    outcomes,
    right_of,
    training_folder,
    write,
)
from benchmarks.study import check_recipe, digest_of, parts_of
from faceaudit.models.bundle import FACTS
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.splits import SPLITS

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "ablations.json"
RIGHT = RESULTS.with_suffix(".parquet")
RECIPE, WHOLE, CONFLICTS = "fairface_lite0", "whole", "conflicting labels kept"
SHORT = {"stages": [{"epochs": 2, "size": 64}]}
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    WHOLE: {},
    "random weights": {"weights": "none"},
    "batch norms folded": {"norms": "folded"},
    "no augmentation": {"augmentation": "none"},
    "no loose crops": {"augmentation.loose_share": 0.0},
    "no damage": {
        f"augmentation.{name}_share": 0.0 for name in ("gray", "blur", "resample", "jpeg", "erase")
    },
    "mixup": {"augmentation.mixup_share": 0.5},
    "no label smoothing": {"tasks.gender.label_smoothing": 0.0, "tasks.race.label_smoothing": 0.0},
    "no moving average": {"ema": 0.0},
    "one learning rate": {"trunk_learning_rate": 2e-3},
    CONFLICTS: {"data.conflicts": "keep"},
    "age as nine groups": {"tasks.age.scheme": "fairface9", "tasks.age.smoothness": 0.0},
}
"""Name -> what is changed in the short recipe."""


def run(data: Path, work: Path, seeds: Sequence[int], only: Sequence[str]) -> None:
    """Train every variant with every seed; what is finished, and of today's recipe, is left alone.

    Raises:
        SystemExit: If a finished run is of another recipe.
    """
    from faceaudit.training.train import train

    for seed in seeds:
        for name in only or ABLATIONS:
            output = work / f"{file_name(name)}-{seed}"
            if is_finished(work, name, seed):
                check_recipe(output, load_recipe(RECIPE, changes_of(name, seed)))
            else:
                train(RECIPE, data=[data], output=output, changes=changes_of(name, seed))


def changes_of(name: str, seed: int) -> dict[str, Any]:
    """What a variant's run changes of the recipe."""
    return {**SHORT, **ABLATIONS[name], "name": file_name(name), "seed": seed}


def file_name(variant: str) -> str:
    """A variant's name as a name of files."""
    return variant.replace(" ", "_")


def is_finished(work: Path, name: str, seed: int) -> bool:
    """Whether a variant is trained and tested."""
    bundle = work / f"{file_name(name)}-{seed}" / FACTS
    return bundle.is_file() and right_of(work, file_name(name), seed) is not None


def finished(work: Path) -> tuple[list[str], list[int]]:
    """The variants that are finished with each of the seeds that the whole recipe is."""
    seeds = [seed for seed in range(10) if is_finished(work, WHOLE, seed)]
    names = [name for name in ABLATIONS if all(is_finished(work, name, seed) for seed in seeds)]
    if not seeds or len(names) < 2:
        raise SystemExit(f"{work}: the whole recipe and another must be finished; begin with `run`")
    return names, seeds


def check_splits(work: Path, names: Sequence[str], seeds: Sequence[int]) -> str:
    """Check that all learned from the same images by today's recipe; the digest of their split."""
    whole = training_folder(work, WHOLE, seeds[0]) / SPLITS
    known = parts_of(whole)
    for seed in seeds:
        for name in names:
            own = parts_of(training_folder(work, file_name(name), seed) / SPLITS)
            if own != known and name != CONFLICTS:
                raise SystemExit(f"{name} with seed {seed} has another split than {whole}")
            run = work / f"{file_name(name)}-{seed}"
            check_recipe(run, load_recipe(RECIPE, changes_of(name, seed)))
    return digest_of(whole)


def questions(names: Sequence[str]) -> list[Question]:
    """Every variant against the whole recipe, per task."""
    return [
        Question(name, task, (file_name(name),), (WHOLE,))
        for name in names
        if name != WHOLE
        for task in TASKS
    ]


def same_images(right: pl.DataFrame) -> pl.DataFrame:
    """Leave out held-out images that only a variant has, as their labels conflict."""
    images = right.filter(pl.col("recipe") == WHOLE).select("image").unique()
    return right.join(images, on="image", how="semi")


def constant(right: pl.DataFrame) -> list[str]:
    """The variants of which all seeds are right on the same images in every task."""
    return [
        name
        for name in ABLATIONS
        if file_name(name) in right["recipe"]
        and all(
            is_constant(outcomes(right, (file_name(name),), task).drop("image").to_numpy())
            for task in TASKS
        )
    ]


def table_of(found: list[Comparison], learned_nothing: Collection[str] = ()) -> str:
    """The comparisons as a Markdown table, one row per variant."""
    lines = [f"| | {' | '.join(TASKS)} |", "| --- |" + " ---: |" * len(TASKS)]
    whole = {one.task: one for one in found}
    lines.append(
        "| the whole recipe | "
        + " | ".join(f"{whole[task].accuracy_second:.3f}" for task in TASKS)
        + " |"
    )
    for name in dict.fromkeys(one.question for one in found):
        own = {one.task: one for one in found if one.question == name}
        told = f"{name}: learned nothing" if name in learned_nothing else name
        lines.append(f"| {told} | {' | '.join(_cell(own[task]) for task in TASKS)} |")
    return "\n".join(lines)


def _cell(one: Comparison) -> str:
    return interval(one) + (" *" if one.told_apart else "")


def main() -> None:
    """``run``, or ``write``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("run", "write"))
    parser.add_argument("--work", type=Path, help="folder of the runs")
    parser.add_argument("--data", type=Path, help="prepared FairFace crops")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="*", default=[], choices=tuple(ABLATIONS))
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.action == "run":
        if given.data is None or given.work is None:
            parser.error("run needs --data and --work")
        given.work.mkdir(parents=True, exist_ok=True)
        run(given.data, given.work, given.seeds, given.only)
        return
    if given.work is None:
        right = pl.read_parquet(RIGHT)
        known = set(right["recipe"])
        names = [name for name in ABLATIONS if file_name(name) in known]
    else:
        names, seeds = finished(given.work)
        split = check_splits(given.work, names, seeds)
        runs = [(file_name(name), seed) for seed in seeds for name in names]
        right = collect(given.work, runs, split, RIGHT)
    found = answer(same_images(right), questions(names))
    write(found, RESULTS, learned_nothing=constant(right))
    print(table_of(found))


if __name__ == "__main__":
    main()
