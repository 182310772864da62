"""What each choice of a recipe gives: ``python -m benchmarks.ablations run`` (and ``--help``).

Trains the recipe ``fairface`` on a short budget (one cycle at 64 pixels), and again with one choice
undone at a time; all on the same crops, split, order and seed. ``write`` adds what each finished
one got right to docs/results/ablations.parquet, compares each with the whole recipe in pairs on the
same held-out images (as ``benchmarks.study`` does), and writes docs/results/ablations.json, from
which ``scripts/reference_results.py`` makes a table. A run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.study import Comparison, collect, compare, digest_of, holm, shares, split_of

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "ablations.json"
RIGHT = RESULTS.with_suffix(".parquet")
RECIPE, WHOLE = "fairface", "whole"
SHORT = {"stages": [{"epochs": 2, "size": 64}], "norms": "folded"}
TASKS = ("gender", "race", "age_group")
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    WHOLE: {},
    "random weights": {"weights": "none", "norms": "batch"},
    "batch norms kept": {"norms": "batch"},
    "no augmentation": {"augmentation": "none"},
    "no loose crops": {"augmentation.loose_share": 0.0},
    "no damage": {
        f"augmentation.{name}_share": 0.0 for name in ("gray", "blur", "resample", "jpeg", "erase")
    },
    "mixup": {"augmentation.mixup_share": 0.5},
    "no label smoothing": {"tasks.gender.label_smoothing": 0.0, "tasks.race.label_smoothing": 0.0},
    "no moving average": {"ema": 0.0},
    "one learning rate": {"trunk_learning_rate": 2e-3},
    "conflicting labels kept": {"data.conflicts": "keep"},
    "age as nine groups": {"tasks.age.scheme": "fairface9", "tasks.age.smoothness": 0.0},
}
"""Name -> what is changed in the short recipe."""


def run(data: Path, work: Path, only: list[str]) -> None:
    """Train every variant; what is finished is left alone."""
    from faceaudit.training.train import train

    for name in only or ABLATIONS:
        output = work / f"{file_name(name)}-0"
        if not (output / "bundle.json").is_file():
            changes = {**SHORT, **ABLATIONS[name], "name": file_name(name)}
            train(RECIPE, data=[data], output=output, changes=changes)


def file_name(variant: str) -> str:
    """A variant's name as a name of files."""
    return variant.replace(" ", "_")


def compared(right: pl.DataFrame) -> list[Comparison]:
    """Every finished variant against the whole recipe, per task."""
    known = set(right["recipe"])
    found = []
    for name in ABLATIONS:
        if name == WHOLE or file_name(name) not in known:
            continue
        for task in TASKS:
            one, other = (shares(right, [file_name(way)], task) for way in (name, WHOLE))
            both = one.join(other, on="image", suffix="_other").drop("image")
            moves = both.to_numpy().astype(bool)
            found.append(compare(name, task, moves[:, :1], moves[:, 1:], ((name,), (WHOLE,))))
    return holm(found)


def table_of(found: list[Comparison]) -> str:
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
        lines.append(f"| {name} | {' | '.join(_cell(own[task]) for task in TASKS)} |")
    return "\n".join(lines)


def _cell(one: Comparison) -> str:
    mark = " *" if one.p_adjusted < 0.05 else ""
    low, high = 100 * one.low, 100 * one.high
    return f"{100 * one.difference:+.1f} ({low:+.1f} to {high:+.1f}){mark}"


def main() -> None:
    """``run``, or ``write``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=("run", "write"))
    parser.add_argument("--work", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--data", type=Path, help="prepared FairFace crops")
    parser.add_argument("--only", nargs="*", default=[], choices=tuple(ABLATIONS))
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.action == "run":
        if given.data is None:
            parser.error("run needs --data")
        given.work.mkdir(parents=True, exist_ok=True)
        run(given.data, given.work, given.only)
        return
    runs = [(file_name(name), 0) for name in ABLATIONS]
    finished = [run for run in runs if (given.work / f"{run[0]}-0" / "bundle.json").is_file()]
    digest = digest_of(split_of(given.work, *finished[0])) if finished else ""
    found = compared(collect(given.work, finished, digest, RIGHT))
    RESULTS.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    print(table_of(found))


if __name__ == "__main__":
    main()
