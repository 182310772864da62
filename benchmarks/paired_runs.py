"""Trainings compared in pairs on the same images: several ways, each with the same seeds.

A way is a recipe, or recipes that each learn and test a part of the faces. Each image counts as
right or wrong; a difference is the mean over images and seeds. Its standard error has two parts.
The spread over images, where copies of one picture count as one, is that of the images' means over
seeds, less what of it is the seeds'. The spread over seeds is taken from all ways of a task
together, as what is left of the accuracies, (ways, seeds), once the mean of each way and of each
seed is taken out, (ways - 1) (seeds - 1) degrees of freedom: two or three seeds of one pair alone
would say next to nothing of it. That assumes that luck is as large for one way as for another; ways
of which every seed is right on the very same images, which learned nothing, are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import t as student

from faceaudit.training.splits import SPLITS

TASKS = ("gender", "race", "age_group")

Way = tuple[str, ...]
"""Names of the recipes whose predictions together are of all images."""


@dataclass(frozen=True)
class Question:
    """Two ways of one task that are set against each other."""

    text: str
    task: str
    first: Way
    second: Way


@dataclass(frozen=True)
class Comparison:
    """The accuracy of one way less that of another, on the same images."""

    question: str
    task: str
    first: Way
    second: Way
    images: int
    seeds: int
    accuracy_first: float
    accuracy_second: float
    difference: float
    low: float
    high: float
    p_value: float
    p_adjusted: float = 1.0

    @property
    def told_apart(self) -> bool:
        """Whether the adjusted p value is below .05 and the chance of seeds is in it."""
        return self.seeds > 1 and self.p_adjusted < 0.05


@dataclass(frozen=True)
class Luck:
    """The variance of one run's accuracy over seeds, and its degrees of freedom."""

    variance: float
    degrees: int


def training_folder(work: Path, name: str, seed: int) -> Path:
    """Where a run keeps its split and the table of what it got right."""
    return work / f"{name}-{seed}.training"


def right_of(work: Path, name: str, seed: int) -> pl.DataFrame | None:
    """Image, its group of copies, and per task whether it is right; None where there is no run.

    The name of an image leaves out that of the folder of crops, which may differ by machine.
    """
    folder = training_folder(work, name, seed)
    path = folder / "validation.parquet"
    if not path.is_file():
        return None
    table = pl.read_parquet(path)
    groups = pl.read_parquet(folder / SPLITS, columns=["sha256", "group"]).unique("sha256")
    tasks = [task for task in TASKS if f"{task}_pred" in table.columns]
    right = [(pl.col(f"{task}_true") == pl.col(f"{task}_pred")).alias(task) for task in tasks]
    image = pl.col("image").str.replace(r"^[^/]*/", "")
    return table.join(groups, on="sha256", how="left").select(image, "group", *right)


def collect(work: Path, runs: Iterable[tuple[str, int]], split: str, results: Path) -> pl.DataFrame:
    """Add what runs got right to a file of results, where they take the place of their elder ones.

    Args:
        work: Folder of the runs.
        runs: Recipe and seed of each.
        split: Digest of the split that they have.
        results: Parquet file of the columns ``split``, ``recipe``, ``seed``, ``image``, ``group``,
            and per task whether its prediction is right.
    """
    tables = []
    for name, seed in runs:
        right = right_of(work, name, seed)
        if right is not None:
            facts = {"split": split, "recipe": name, "seed": seed}
            told = [pl.lit(value).alias(key) for key, value in facts.items()]
            tables.append(right.sort("image").select(*told, pl.all()))
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


def answer(right: pl.DataFrame, questions: Sequence[Question]) -> list[Comparison]:
    """Every question, with p values adjusted for all of them."""
    found = []
    for task in dict.fromkeys(one.task for one in questions):
        own = [one for one in questions if one.task == task]
        ways = dict.fromkeys(way for one in own for way in (one.first, one.second))
        tables = {way: outcomes(right, way, task) for way in ways}
        groups = groups_of(right, task)
        luck = luck_of([table.drop("image").to_numpy() for table in tables.values()])
        _check_same(tables, groups)
        for one in own:
            pair = (tables[way].drop("image").to_numpy() for way in (one.first, one.second))
            found.append(compare(one, *pair, groups["group"].to_numpy(), luck))
    return holm(sorted(found, key=lambda one: _place(one, questions)))


def _place(one: Comparison, questions: Sequence[Question]) -> int:
    return questions.index(Question(one.question, one.task, one.first, one.second))


def outcomes(right: pl.DataFrame, way: Way, task: str) -> pl.DataFrame:
    """Image and, per seed in order, whether it is right, sorted by image."""
    rows = right.filter(pl.col("recipe").is_in(way)).select("image", "seed", task).drop_nulls()
    wide = rows.sort("seed").pivot("seed", index="image", values=task).sort("image")
    names = [str(seed) for seed in right["seed"].unique().sort()]
    whole = set(wide.columns) == {"image", *names} and not wide.null_count().sum_horizontal().item()
    if not whole:
        seeds = ", ".join(names)
        raise SystemExit(f"{', '.join(way)}: seeds {seeds} are not all there, of the same images")
    return wide.select("image", *names)


def groups_of(right: pl.DataFrame, task: str) -> pl.DataFrame:
    """Image and its group of copies, sorted by image."""
    return right.drop_nulls(task).select("image", "group").unique("image").sort("image")


def _check_same(tables: Mapping[Way, pl.DataFrame], groups: pl.DataFrame) -> None:
    for way, table in tables.items():
        if not table["image"].equals(groups["image"]):
            raise SystemExit(f"{', '.join(way)}: its images are not those of all others")


def luck_of(outcomes: Sequence[NDArray[np.bool_]]) -> Luck | None:
    """The spread over seeds of ways of one task, each (images, seeds); None with one seed."""
    moving = [one for one in outcomes if not is_constant(one)]
    used = moving if len(moving) > 1 else outcomes
    accuracies = np.array([one.mean(axis=0) for one in used])  # (ways, seeds)
    ways, seeds = accuracies.shape
    if seeds < 2:
        return None
    rest = accuracies - accuracies.mean(axis=1, keepdims=True)
    rest = rest - rest.mean(axis=0)
    degrees = (ways - 1) * (seeds - 1)
    return Luck(float((rest**2).sum() / degrees), degrees)


def is_constant(right: NDArray[np.bool_]) -> bool:
    """Whether several seeds, (images, seeds), are right on the very same images."""
    return right.shape[1] > 1 and bool((right == right[:, :1]).all())


def compare(
    question: Question,
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    groups: NDArray[np.int64],
    luck: Luck | None,
    confidence: float = 0.95,
) -> Comparison:
    """Compare what is right, (images, seeds), of two ways.

    The degrees of freedom of the sum of both spreads are Satterthwaite's; with one seed the spread
    over seeds is unknown and left out.

    Args:
        question: What is compared.
        first: What the first way got right.
        second: What the second got right, of the same images.
        groups: The group of copies of each image, (images,).
        luck: The variance of a run over seeds.
        confidence: Of the interval.
    """
    moves = first.astype(float) - second
    images, seeds = moves.shape
    difference = float(moves.mean())
    rest = moves.mean(axis=1) - difference
    names, members = np.unique(groups, return_inverse=True)
    sums, count = np.bincount(members, weights=rest), len(names)
    over_images = float((sums**2).sum()) / images**2 * count / (count - 1)
    over_seeds = degrees = 0.0
    if luck is not None:
        left = moves - moves.mean(axis=1, keepdims=True) - moves.mean(axis=0) + difference
        left_variance = float((left**2).sum()) / ((images - 1) * (seeds - 1))
        over_images = max(over_images - left_variance / (images * seeds), 0.0)
        over_seeds = 2 * luck.variance / seeds
        degrees = over_seeds**2 / luck.degrees
    variance = over_images + over_seeds
    degrees += over_images**2 / (count - 1)
    degrees = variance**2 / degrees if degrees else 1.0
    error = float(np.sqrt(variance))
    half = float(student.ppf((1 + confidence) / 2, degrees)) * error
    p_value = float(2 * student.sf(abs(difference) / error, degrees)) if error else 1.0
    return Comparison(
        question=question.text,
        task=question.task,
        first=question.first,
        second=question.second,
        images=images,
        seeds=seeds,
        accuracy_first=float(first.mean()),
        accuracy_second=float(second.mean()),
        difference=difference,
        low=difference - half,
        high=difference + half,
        p_value=p_value,
    )


def holm(found: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with adjusted p values."""
    order = np.argsort([one.p_value for one in found], kind="stable")
    adjusted, highest = [1.0] * len(found), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, (len(found) - rank) * found[index].p_value)
        adjusted[index] = min(highest, 1.0)
    return [replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True)]


def write(found: Sequence[Comparison], path: Path, **facts: object) -> None:
    """Write comparisons and what else is known of the runs."""
    comparisons = [asdict(one) for one in found]
    path.write_text(json.dumps({**facts, "comparisons": comparisons}, indent=1) + "\n")


def read(path: Path) -> list[Comparison]:
    """Read comparisons."""
    return [
        Comparison(**{**one, "first": tuple(one["first"]), "second": tuple(one["second"])})
        for one in json.loads(path.read_text())["comparisons"]
    ]


def points(share: float) -> str:
    """A difference of shares in points, with a sign but where it is rounded to none."""
    return f"{100 * share:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0")


def interval(one: Comparison) -> str:
    """A difference with its interval, in points."""
    return f"{points(one.difference)} ({points(one.low)} to {points(one.high)})"
