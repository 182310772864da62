"""Does sharing help? ``python -m benchmarks.study run --data CROPS --work FOLDER``.

Trains the recipes ``study/*`` (a small network on UTKFace at 64 pixels; the same split, epochs and
budget, and but for the models of one annotated gender or race the same images in the same order)
with several seeds, and compares them in pairs on the same test images:
one network for all tasks against one per task, the gender embedding and its variants against plain
sharing, and age models trained per annotated gender or race against one trained on all. A run that
was interrupted goes on. ``python -m benchmarks.study write --work FOLDER`` writes what it found to
docs/results/study.json, from which ``scripts/reference_results.py`` makes the document.

Each image counts as right or wrong. A difference is the mean over images of the difference of the
shares of seeds that are right; its standard error holds the spread over images and that over seeds.
P values are adjusted for all comparisons together (Holm).
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import t as student

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "study.json"
SHARED = ("mtl", "ge", "gm", "am")
BY_GENDER = ("age_male", "age_female")
BY_RACE = ("age_white", "age_black", "age_asian", "age_indian", "age_others")
ALONE = {"gender": "stl_gender", "race": "stl_race", "age_group": "stl_age"}
FIRST = (SHARED[0], 0)
"""The run, by recipe and seed, whose split the others take."""
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
    data: Path, work: Path, seeds: int, only: Sequence[str], changes: dict[str, object]
) -> None:
    """Train recipes with every seed; what is finished is left alone."""
    from faceaudit.training.train import train

    work.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for name in only or RECIPES:
            output = work / f"{name}-{seed}"
            if (output / "bundle.json").is_file() and right_of(work, name, seed) is not None:
                continue
            own: dict[str, object] = {"seed": seed, **changes}
            if (name, seed) != FIRST:  # each would leave out contradictions of its own tasks alone
                own["data.split"] = str(split_of(work, *FIRST))
            train(f"study/{name}", data=[data], output=output, changes=own)


def split_of(work: Path, name: str, seed: int) -> Path:
    """The part of every crop in a run."""
    return work / f"{name}-{seed}.training" / "splits.parquet"


def check_splits(work: Path, seeds: int) -> None:
    """Check that all runs learned from the images of the first, or from some of them."""
    known = _files_by_part(split_of(work, *FIRST))
    for seed in range(seeds):
        for name in RECIPES:
            own = _files_by_part(split_of(work, name, seed))
            some = name in {*BY_GENDER, *BY_RACE}
            if not (own <= known if some else own == known):
                raise SystemExit(
                    f"{name}-{seed} has another split than {'-'.join(map(str, FIRST))}"
                )


def _files_by_part(path: Path) -> set[tuple[str, str]]:
    return set(pl.read_parquet(path, columns=["file", "part"]).iter_rows())


def right_of(work: Path, name: str, seed: int) -> pl.DataFrame | None:
    """Image and, per task, whether its prediction is right; None where there is no run."""
    path = work / f"{name}-{seed}.training" / "validation.parquet"
    if not path.is_file():
        return None
    table = pl.read_parquet(path)
    tasks = [task for task in ALONE if f"{task}_pred" in table.columns]
    right = [(pl.col(f"{task}_true") == pl.col(f"{task}_pred")).alias(task) for task in tasks]
    return table.select("image", *right)


def shares(work: Path, names: Sequence[str], task: str, seeds: int) -> pl.DataFrame:
    """Image and, per seed, whether it is right; several recipes stand one below the other."""
    found: pl.DataFrame | None = None
    for seed in range(seeds):
        parts = [right_of(work, name, seed) for name in names]
        rows = pl.concat([part.select("image", task) for part in parts if part is not None])
        rows = rows.drop_nulls().unique("image").rename({task: f"seed_{seed}"})
        found = rows if found is None else found.join(rows, on="image")
    if found is None:
        raise SystemExit("no run to compare; begin with `run`")
    return found


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


def compared(work: Path, seeds: int) -> list[Comparison]:
    """Every question that the runs can answer."""
    check_splits(work, seeds)
    found = []
    for question, task, first, second in QUESTIONS:
        one, other = (shares(work, names, task, seeds) for names in (first, second))
        both = one.join(other, on="image", suffix="_other").drop("image")
        right = both.to_numpy().astype(bool)
        found.append(compare(question, task, right[:, :seeds], right[:, seeds:], (first, second)))
    return holm(found)


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
    parser.add_argument("--seeds", type=int, default=3)
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
    found = compared(given.work, given.seeds)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
