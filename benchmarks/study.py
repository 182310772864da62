"""Does sharing help? ``python -m benchmarks.study run --data CROPS --work FOLDER``.

Trains the recipes ``study/*`` (a small network on UTKFace at 64 pixels; the same split and epochs,
and but for the models of one annotated gender or race the same images in the same order) with
several seeds, and compares them in pairs on the same test images: one network for all tasks against
one per task, the gender embedding and its variants against plain sharing, and age models trained
per annotated gender or race against one trained on all. A run that was interrupted goes on.
``python -m benchmarks.study write --work FOLDER`` adds what every finished seed got right to
docs/results/study.parquet (seeds can so be trained at different times and on different machines;
all must have the same split) and what follows to docs/results/study.json, from which
``scripts/reference_results.py`` makes the document; without ``--work`` it computes that file anew
from what is known. How differences are judged:
``benchmarks/paired_runs.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import polars as pl

from benchmarks.paired_runs import (
    Comparison,
    Question,
    answer,
    collect,
    holm,
    interval,
    points,
    right_of,
    training_folder,
    write,
)
from faceaudit.models.bundle import FACTS
from faceaudit.training.recipe import Recipe
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.splits import SPLITS, divide

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "study.json"
RIGHT = RESULTS.with_suffix(".parquet")
SHARED = ("mtl", "mtl_equal", "ge", "gm", "am")
BY_GENDER = ("age_male", "age_female")
BY_RACE = ("age_white", "age_black", "age_asian", "age_indian", "age_others")
ALONE = {"gender": "stl_gender", "race": "stl_race", "age_group": "stl_age"}
RECIPES = (*SHARED, *ALONE.values(), *BY_GENDER, *BY_RACE)
QUESTIONS = (
    *(
        Question(text, task, (shared,), (alone,))
        for text, shared in (
            ("Does one network for three tasks beat one per task?", "mtl"),
            ("Does it with tasks that weigh the same?", "mtl_equal"),
        )
        for task, alone in ALONE.items()
    ),
    *(
        Question(f"Does {name} help?", task, (variant,), ("mtl",))
        for variant, name in (
            ("ge", "a gender embedding"),
            ("gm", "a gender embedding with gating"),
            ("am", "a gender embedding with attention"),
        )
        for task in ALONE
    ),
    Question("Do age models per annotated gender help?", "age_group", BY_GENDER, ("stl_age",)),
    Question("Do age models per annotated race help?", "age_group", BY_RACE, ("stl_age",)),
)

OWN_GROUP = {
    **{name: f"gender {name.removeprefix('age_').capitalize()}" for name in BY_GENDER},
    **{name: f"race {name.removeprefix('age_').capitalize()}" for name in BY_RACE},
}
"""Model of a part of the faces -> how they are annotated."""

FREE = {"seed", "card", "reference"}
"""Keys of a recipe in which runs that are compared may differ from it."""


def run(
    data: Path, work: Path, seeds: Iterable[int], only: Sequence[str], changes: dict[str, object]
) -> None:
    """Train recipes with every seed; what is finished is left alone."""
    from faceaudit.training.train import train

    split = make_split(data, work)
    for seed in seeds:
        for name in only or RECIPES:
            output = work / f"{name}-{seed}"
            own: dict[str, object] = {"seed": seed, "data.split": str(split), **changes}
            if (output / FACTS).is_file() and right_of(work, name, seed) is not None:
                check_recipe(output, load_recipe(f"study/{name}", own))
            else:
                train(f"study/{name}", data=[data], output=output, changes=own)


def make_split(data: Path, work: Path) -> Path:
    """The split that all runs take: alone, each would leave out contradictions of its own tasks."""
    from faceaudit.training.data import read_crops

    folder = work / "split"
    path = folder / SPLITS
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        recipe = load_recipe(f"study/{SHARED[0]}")
        divide(read_crops(data, recipe), recipe, [data], folder)
    return path


def check_splits(work: Path, seeds: Iterable[int]) -> str:
    """Check that all runs learned from the same images, or from some of them; its digest."""
    whole = work / "split" / SPLITS
    known = parts_of(whole)
    for seed in seeds:
        for name in RECIPES:
            own = parts_of(training_folder(work, name, seed) / SPLITS)
            some = name in {*BY_GENDER, *BY_RACE}
            if not (own <= known if some else own == known):
                raise SystemExit(f"{name}-{seed} has another split than {whole}")
            check_recipe(work / f"{name}-{seed}", load_recipe(f"study/{name}"))
    return digest_of(whole)


def check_recipe(run: Path, recipe: Recipe, free: Collection[str] = ()) -> None:
    """Check that a run's recipe is today's, but for its seed and how its split was given.

    Args:
        run: The bundle of the run.
        recipe: Today's.
        free: Keys that may differ, too.

    Raises:
        SystemExit: If another key differs; names it.
    """
    known = json.loads((run / FACTS).read_text())["recipe"]
    today = json.loads(json.dumps(asdict(recipe)))
    for facts in (known, today):
        facts["data"] = {**facts["data"], "split": ""}
    changed = {key for key in known if key in today and known[key] != today[key]}
    if changed := changed - FREE - set(free):
        raise SystemExit(
            f"{run} was trained with another {', '.join(sorted(changed))}; remove it and "
            f"{run.name}.training to train it again"
        )


def steps_of(work: Path, name: str, seed: int) -> int:
    """Steps of the optimizer in a run."""
    facts = json.loads((work / f"{name}-{seed}" / FACTS).read_text())
    recipe = load_recipe(f"study/{name}")
    return recipe.epochs * math.ceil(facts["split"]["training"] / recipe.batch)


def digest_of(split: Path) -> str:
    """A short name of a split."""
    return hashlib.sha256("\n".join(map(" ".join, sorted(parts_of(split)))).encode()).hexdigest()[
        :16
    ]


def parts_of(path: Path) -> set[tuple[str, str]]:
    """The hash and the part of every crop."""
    return set(pl.read_parquet(path, columns=["sha256", "part"]).iter_rows())


def finished(work: Path) -> list[int]:
    """The seeds that all recipes are trained with."""
    runs = (path.name.removesuffix(".training") for path in work.glob("*-*.training"))
    ends = {name.rpartition("-")[2] for name in runs}
    return [
        seed
        for seed in sorted({int(end) for end in ends if end.isdecimal()})
        if all(right_of(work, name, seed) is not None for name in RECIPES)
    ]


def by_group(right: pl.DataFrame) -> list[Comparison]:
    """Each model of a part of the faces against the one of all, on the test images of that part.

    The spread over seeds is taken from all ways of age groups on the same images, and p values are
    adjusted for these comparisons.

    Args:
        right: As ``collect`` returns it.
    """
    found = []
    for name, group in OWN_GROUP.items():
        images = right.filter(pl.col("recipe") == name).select("image").unique()
        own = right.join(images, on="image", how="semi")
        one = Question(group, "age_group", (name,), (ALONE["age_group"],))
        others = [Question("", "age_group", (shared,), one.second) for shared in SHARED]
        found += [told for told in answer(own, [one, *others]) if told.question == group]
    return holm(found)


def table(found: Sequence[Comparison]) -> str:
    """The comparisons as a Markdown table."""
    lines = [
        "| question | task | with | without | difference, points (95 %) | p, adjusted |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.question} | {one.task} | {one.accuracy_first:.3f} | {one.accuracy_second:.3f} | "
        f"{interval(one)} | {p_value(one.p_adjusted)} |"
        for one in found
    ]
    return "\n".join(lines)


def group_table(found: Sequence[Comparison]) -> str:
    """The comparisons by annotated group as a Markdown table."""
    lines = [
        "| annotated | test images | own model | model of all | difference, points (95 %) | "
        "p, adjusted |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.question} | {one.images:,} | {one.accuracy_first:.3f} | "
        f"{one.accuracy_second:.3f} | {interval(one)} | {p_value(one.p_adjusted)} |"
        for one in found
    ]
    return "\n".join(lines)


def p_value(p: float) -> str:
    """A p value in three digits."""
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


def answers(found: Sequence[Comparison]) -> list[str]:
    """One sentence per question: what is told apart, and what the intervals leave possible."""
    sentences = []
    for question in dict.fromkeys(one.question for one in found):
        own = [one for one in found if one.question == question]
        told = [one for one in own if one.told_apart]
        rest = [one for one in own if not one.told_apart]
        parts = [
            f"{one.task.replace('_', ' ')} is {'better' if one.difference > 0 else 'worse'} by "
            f"{interval(one)} points"
            for one in told
        ]
        alone = [one for one in rest if one.seeds > 1 and not one.low <= 0 <= one.high]
        parts += [
            f"{one.task.replace('_', ' ')} differs by {interval(one)} points, which is not "
            f"significant once all {len(found)} comparisons are allowed for "
            f"(p = {p_value(one.p_adjusted)})"
            for one in alone
        ]
        if rest := [one for one in rest if one not in alone]:
            tasks = ", ".join(one.task.replace("_", " ") for one in rest)
            low, high = min(one.low for one in rest), max(one.high for one in rest)
            parts.append(
                f"{tasks}: no difference is shown; one between {points(low)} and {points(high)} "
                "points remains possible"
            )
        sentences.append(f"**{question}** {'; '.join(parts)}.")
    return sentences


def main() -> None:
    """``run``, or ``write``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("run", "write"))
    parser.add_argument("--work", type=Path, help="folder of the runs")
    parser.add_argument("--data", type=Path, help="prepared UTKFace crops")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--only", nargs="*", default=[], choices=RECIPES, help="after mtl, two at once go faster"
    )
    parser.add_argument("--epochs", type=int, help="fewer or more than the recipe's")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.action == "run":
        if given.data is None or given.work is None:
            parser.error("run needs --data and --work")
        stages = [{"epochs": given.epochs, "size": 64}]
        changes: dict[str, object] = {"stages": stages} if given.epochs else {}
        run(given.data, given.work, given.seeds, given.only, changes)
        return
    if given.work is None:
        right, steps = pl.read_parquet(RIGHT), json.loads(RESULTS.read_text())["steps"]
    else:
        seeds = finished(given.work)
        split = check_splits(given.work, seeds)
        runs = [(name, seed) for seed in seeds for name in RECIPES]
        right = collect(given.work, runs, split, RIGHT)
        steps = {name: steps_of(given.work, name, seeds[0]) for name in RECIPES}
    found = answer(right, QUESTIONS)
    write(found, RESULTS, steps=steps)
    print(table(found), group_table(by_group(right)), sep="\n\n")


if __name__ == "__main__":
    main()
