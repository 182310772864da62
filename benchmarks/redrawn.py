"""What a leaking split shows: ``python -m benchmarks.redrawn --data CROPS --work FOLDER``.

The reference with the highest figures drew its training and test parts anew from the same files, so
that four of five test images had been learned (docs/reference-results.md). This trains a small
network (recipe ``study/mtl``) on prepared UTKFace crops as that reference trained its own, without
augmentation until it knows them nearly by heart, and tests the same weights twice: on test crops of
which no picture was learned, and on a tenth of all files, drawn again whatever was learned. The
result goes to docs/results/redrawn.json, from which ``scripts/reference_results.py`` makes a table.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.intervals import wilson

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "redrawn.json"
RECIPE, NAME = "study/mtl", "redrawn"
TEST_SHARE = 0.1
BY_HEART: Mapping[str, Any] = {
    "name": NAME,
    "augmentation": "none",
    "heads": {"kind": "dense", "units": [128], "dropout": 0.0},
    "stages": [{"epochs": 30, "size": 64}],
    "schedule": {"kind": "constant"},
    "weight_decay": 0.0,
    "ema": 0.0,
    "data": {"validation_share": 0.1, "test_share": TEST_SHARE},
}
"""What is changed in the recipe: as the reference trained, on a network that a CPU can train."""
TASKS = ("age_group", "gender", "race")


@dataclass(frozen=True)
class Shown:
    """Accuracy of one task on one choice of test images, with its 95 % interval."""

    task: str
    split: str
    images: int
    learned: int
    """How many of the images the network was trained on."""
    accuracy: float
    low: float
    high: float


def train(data: Path, work: Path, epochs: int | None) -> Path:
    """Train the network where that is not done yet; its bundle's folder."""
    from faceaudit.training.train import train as run

    output = work / NAME
    if not (output / "bundle.json").is_file():
        stages = {"stages": [{"epochs": epochs, "size": 64}]} if epochs else {}
        run(RECIPE, data=[data], output=output, changes={**BY_HEART, **stages})
    return output


def right(data: Path, work: Path, bundle: Path) -> pl.DataFrame:
    """Part of every crop (``training``, ``test``, ...), and per task whether it is right.

    Null where it has no label.
    """
    from faceaudit.models.bundle import load_bundle
    from faceaudit.training.data import read_crops
    from faceaudit.training.recipe_files import load_recipe
    from faceaudit.training.splits import find_groups
    from faceaudit.training.validation_page import audit_held_out

    recipe = load_recipe(RECIPE, dict(BY_HEART))
    crops = read_crops(data, recipe)
    folder = work / f"{NAME}.every"
    folder.mkdir(exist_ok=True)
    found = audit_held_out(load_bundle(str(bundle)), crops, [data], folder, "all crops")
    table = pl.read_parquet(found.table)
    split = pl.read_parquet(work / f"{NAME}.training" / "splits.parquet")
    if table.height != split.height:
        raise SystemExit(f"{table.height} predictions of {split.height} crops")
    groups, _ = find_groups(crops, folder / "hashes.npz")
    part = split["part"].to_numpy()
    learned = np.isin(groups, groups[part == "training"])
    part = np.where(learned & (part == "test"), "test, learned", part)
    return table.select(
        pl.Series("part", part),
        *((pl.col(f"{task}_true") == pl.col(f"{task}_pred")).alias(task) for task in TASKS),
    )


def shown(table: pl.DataFrame, seed: int = 0) -> list[Shown]:
    """Accuracies on the clean test part and on files drawn again, by task."""
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(table.height)[: round(TEST_SHARE * table.height)]
    found = []
    for name, rows in (
        ("clean", np.flatnonzero((table["part"] == "test").to_numpy())),
        ("drawn again", drawn),
    ):
        found += [_accuracy(task, name, table[rows]) for task in TASKS]
    return found


def _accuracy(task: str, split: str, rows: pl.DataFrame) -> Shown:
    known = rows.drop_nulls(task)
    hits: NDArray[np.bool_] = known[task].to_numpy()
    learned = int((known["part"] == "training").sum())
    low, high = (float(end) for end in wilson(hits.mean(), hits.size, 0.95))
    return Shown(task, split, hits.size, learned, float(hits.mean()), low, high)


def table_of(found: list[Shown]) -> str:
    """The accuracies as a Markdown table."""
    lines = [
        "| task | test images | of them learned | accuracy (95 %) |",
        "| --- | --- | ---: | ---: |",
    ]
    lines += [
        f"| {one.task} | {one.split}, {one.images:,} | {one.learned / one.images:.0%} | "
        f"{one.accuracy:.3f} ({one.low:.3f} to {one.high:.3f}) |"
        for one in found
    ]
    return "\n".join(lines)


def main() -> None:
    """Train, test twice, write and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="prepared UTKFace crops")
    parser.add_argument("--work", type=Path, required=True, help="folder of the run")
    parser.add_argument("--epochs", type=int, help="fewer or more than 30")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    given.work.mkdir(parents=True, exist_ok=True)
    bundle = train(given.data, given.work, given.epochs)
    found = shown(right(given.data, given.work, bundle))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    print(table_of(found))


if __name__ == "__main__":
    main()
