"""Does sharing help? ``python -m benchmarks.study run --data CROPS --work FOLDER``.

Trains the recipes ``study/*`` (a small network on UTKFace at 64 pixels; the same split, epochs and
budget, and but for the models of one annotated gender or race the same images in the same order)
with several seeds, and compares them in pairs on the same test images:
one network for all tasks against one per task, the gender embedding and its variants against plain
sharing, and age models trained per annotated gender or race against one trained on all. A run that
was interrupted goes on. ``python -m benchmarks.study write --work FOLDER`` adds what every finished
seed got right to docs/results/study.parquet (seeds can so be trained at different times and on
different machines; all must have the same split) and what follows to docs/results/study.json, from
which ``scripts/reference_results.py`` makes the document.

Each image counts as right or wrong. A difference is the mean over images of the difference of the
shares of seeds that are right; its standard error holds the spread over images and that over seeds.
P values are adjusted for all comparisons together (Holm).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import t as student

from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.splits import SPLITS, divide

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "study.json"
RIGHT = RESULTS.with_suffix(".parquet")
SHARED = ("mtl", "ge", "gm", "am")
BY_GENDER = ("age_male", "age_female")
BY_RACE = ("age_white", "age_black", "age_asian", "age_indian", "age_others")
ALONE = {"gender": "stl_gender", "race": "stl_race", "age_group": "stl_age"}
RECIPES = (*SHARED, *ALONE.values(), *BY_GENDER, *BY_RACE)


@dataclass(frozen=True)
class Comparison:
    """The accuracy of one way less that of another, on the same images."""

    question: str
    task: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    images: int
    seeds: int
    accuracy_first: float
    accuracy_second: float
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float = 1.0


QUESTIONS: list[tuple[str, str, tuple[str, ...], tuple[str, ...]]] = [
    *(
        ("Does one network for three tasks beat one per task?", task, ("mtl",), (alone,))
        for task, alone in ALONE.items()
    ),
    *(
        (f"Does {name} help?", task, (variant,), ("mtl",))
        for variant, name in (
            ("ge", "a gender embedding"),
            ("gm", "a gender embedding with gating"),
            ("am", "a gender embedding with attention"),
        )
        for task in ALONE
    ),
    ("Do age models per annotated gender help?", "age_group", BY_GENDER, ("stl_age",)),
    ("Do age models per annotated race help?", "age_group", BY_RACE, ("stl_age",)),
]
"""Question, task, and the recipes whose predictions are set against each other."""


def run(
    data: Path, work: Path, seeds: Iterable[int], only: Sequence[str], changes: dict[str, object]
) -> None:
    """Train recipes with every seed; what is finished is left alone."""
    from faceaudit.training.train import train

    split = make_split(data, work)
    for seed in seeds:
        for name in only or RECIPES:
            output = work / f"{name}-{seed}"
            if not ((output / "bundle.json").is_file() and right_of(work, name, seed) is not None):
                own: dict[str, object] = {"seed": seed, "data.split": str(split), **changes}
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


def split_of(work: Path, name: str, seed: int) -> Path:
    """The part of every crop in a run."""
    return work / f"{name}-{seed}.training" / SPLITS


def check_splits(work: Path, seeds: Iterable[int]) -> str:
    """Check that all runs learned from the same images, or from some of them; its digest."""
    whole = work / "split" / SPLITS
    known = _parts(whole)
    for seed in seeds:
        for name in RECIPES:
            own = _parts(split_of(work, name, seed))
            some = name in {*BY_GENDER, *BY_RACE}
            if not (own <= known if some else own == known):
                raise SystemExit(f"{name}-{seed} has another split than {whole}")
    return digest_of(whole)


def digest_of(split: Path) -> str:
    """A short name of a split."""
    return hashlib.sha256("\n".join(map(" ".join, sorted(_parts(split)))).encode()).hexdigest()[:16]


def _parts(path: Path) -> set[tuple[str, str]]:
    """The hash and the part of every crop."""
    return set(pl.read_parquet(path, columns=["sha256", "part"]).iter_rows())


def right_of(work: Path, name: str, seed: int) -> pl.DataFrame | None:
    """Image and, per task, whether its prediction is right; None where there is no run."""
    path = work / f"{name}-{seed}.training" / "validation.parquet"
    if not path.is_file():
        return None
    table = pl.read_parquet(path)
    tasks = [task for task in ALONE if f"{task}_pred" in table.columns]
    right = [(pl.col(f"{task}_true") == pl.col(f"{task}_pred")).alias(task) for task in tasks]
    return table.select("image", *right)


def finished(work: Path) -> list[int]:
    """The seeds that all recipes are trained with."""
    runs = [path.name.removesuffix(".training") for path in work.glob("*-*.training")]
    return [
        seed
        for seed in sorted({int(name.rpartition("-")[2]) for name in runs})
        if all(right_of(work, name, seed) is not None for name in RECIPES)
    ]


def collect(work: Path, runs: Iterable[tuple[str, int]], split: str, results: Path) -> pl.DataFrame:
    """Add what runs got right to a file of results, where they take the place of their elder ones.

    Args:
        work: Folder of the runs.
        runs: Recipe and seed of each.
        split: Digest of the split that they have.
        results: Parquet file of the columns ``split``, ``recipe``, ``seed``, ``image``, and per
            task whether its prediction is right.
    """
    tables = []
    for name, seed in runs:
        right = right_of(work, name, seed)
        if right is not None:
            facts = {"split": split, "recipe": name, "seed": seed}
            told = [pl.lit(value).alias(key) for key, value in facts.items()]
            tables.append(right.sort("image").select(*told, "image", pl.exclude("image")))
    if not tables:
        raise SystemExit(f"{work}: nothing is finished; begin with `run`")
    table = pl.concat(tables, how="diagonal_relaxed")
    if results.is_file():
        elder = pl.read_parquet(results).join(table, on=["recipe", "seed"], how="anti")
        table = pl.concat([elder, table], how="diagonal_relaxed").sort("seed", maintain_order=True)
    if table["split"].n_unique() > 1:
        raise SystemExit(f"{work}: its split is not that of the runs in {results}")
    results.parent.mkdir(parents=True, exist_ok=True)
    table.write_parquet(results, compression="zstd", compression_level=19)
    return table


def shares(right: pl.DataFrame, names: Sequence[str], task: str) -> pl.DataFrame:
    """Image and, per seed, whether it is right; the recipes have different images."""
    rows = right.filter(pl.col("recipe").is_in(names)).select("image", "seed", task).drop_nulls()
    return rows.unique(["image", "seed"]).pivot("seed", index="image", values=task).drop_nulls()


def compare(
    question: str, task: str, first: NDArray[np.bool_], second: NDArray[np.bool_],
    names: tuple[tuple[str, ...], tuple[str, ...]], confidence: float = 0.95,
) -> Comparison:  # fmt: skip
    """Compare what is right, (images, seeds), of two ways.

    The degrees of freedom of the sum of both spreads are Satterthwaite's; with one seed the spread
    over seeds is unknown and left out.
    """
    moves = first.astype(float) - second
    images, seeds = moves.shape
    over_images = moves.mean(axis=1).var(ddof=1) / images
    over_seeds = moves.mean(axis=0).var(ddof=1) / seeds if seeds > 1 else 0.0
    variance = over_images + over_seeds
    weight = over_images**2 / (images - 1) + (over_seeds**2 / (seeds - 1) if seeds > 1 else 0.0)
    degrees = variance**2 / weight if weight else 1.0
    difference, error = float(moves.mean()), float(np.sqrt(variance))
    half = float(student.ppf((1 + confidence) / 2, degrees)) * error
    p_value = float(2 * student.sf(abs(difference) / error, degrees)) if error else 1.0
    return Comparison(
        question,
        task,
        *names,
        images,
        seeds,
        float(first.mean()),
        float(second.mean()),
        difference,
        difference - half,
        difference + half,
        p_value,
    )


def holm(found: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with adjusted p values."""
    order = np.argsort([one.p_value for one in found], kind="stable")
    adjusted, highest = [1.0] * len(found), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, (len(found) - rank) * found[index].p_value)
        adjusted[index] = min(highest, 1.0)
    return [
        Comparison(**{**asdict(one), "p_adjusted": p})
        for one, p in zip(found, adjusted, strict=True)
    ]


def compared(right: pl.DataFrame) -> list[Comparison]:
    """Every question that the runs can answer."""
    seeds = right["seed"].n_unique()
    found = []
    for question, task, first, second in QUESTIONS:
        one, other = (shares(right, names, task) for names in (first, second))
        both = one.join(other, on="image", suffix="_other").drop("image").to_numpy().astype(bool)
        found.append(compare(question, task, both[:, :seeds], both[:, seeds:], (first, second)))
    return holm(found)


def write(found: Sequence[Comparison], path: Path) -> None:
    """Write comparisons, and print them as a table."""
    path.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    print(table(found))


def table(found: Sequence[Comparison]) -> str:
    """The comparisons as a Markdown table."""
    lines = [
        "| question | task | with | without | difference (95 %) | p, adjusted |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.question} | {one.task} | {one.accuracy_first:.3f} | {one.accuracy_second:.3f} | "
        f"{100 * one.difference:+.1f} points ({100 * one.low:+.1f} to {100 * one.high:+.1f}) | "
        f"{one.p_adjusted:.3f} |"
        for one in found
    ]
    return "\n".join(lines)


def main() -> None:
    """``run``, or ``write``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("run", "write"))
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--data", type=Path, help="prepared UTKFace crops")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--only", nargs="*", default=[], choices=RECIPES, help="after mtl, two at once go faster"
    )
    parser.add_argument("--epochs", type=int, help="fewer or more than the recipe's")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.action == "run":
        if given.data is None:
            parser.error("run needs --data")
        stages = [{"epochs": given.epochs, "size": 64}]
        changes: dict[str, object] = {"stages": stages} if given.epochs else {}
        run(given.data, given.work, given.seeds, given.only, changes)
        return
    seeds = finished(given.work)
    runs = [(name, seed) for seed in seeds for name in RECIPES]
    split = check_splits(given.work, seeds)
    write(compared(collect(given.work, runs, split, RIGHT)), RESULTS)


if __name__ == "__main__":
    main()
