"""Runs whose predictions are known, for benchmarks that compare runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from benchmarks.paired_runs import training_folder
from faceaudit.training.splits import SPLITS


def finish(
    work: Path, name: str, seed: int, right: dict[str, list[int]],
    groups: Sequence[int] | None = None, folder: str = "crops",
) -> None:  # fmt: skip
    """Write the table of a run that says which of its images are right."""
    hashes = [f"{index:064}" for index in range(len(next(iter(right.values()))))]
    columns = {f"{task}_true": [1] * len(hashes) for task in right}
    columns |= {f"{task}_pred": own for task, own in right.items()}
    images = [f"{folder}/0000/{index}.jpg" for index in range(len(hashes))]
    path = training_folder(work, name, seed)
    path.mkdir(exist_ok=True, parents=True)
    table = pl.DataFrame({"image": images, "sha256": hashes, **columns})
    table.write_parquet(path / "validation.parquet")
    split = {"sha256": hashes, "group": groups or list(range(len(hashes))), "part": "test"}
    pl.DataFrame(split).write_parquet(path / SPLITS)
