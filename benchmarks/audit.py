"""How long an audit takes: ``python -m benchmarks.audit [ROWS ...]`` (default: 100k 1M 10M).

Each size is a generated table of gender, race and age group with 18 class scores, and ages in
years, written in parts. Two programs read the same table, each in a process of its own so that its
peak memory is its own:

* faceaudit: opening the table, its tally, every metric of every subgroup (annotated gender, race
  and both) with intervals from 2,000 replicates;
* fairlearn: MetricFrame with accuracy and macro F1 of the three tasks by gender and race. Its
  bootstrap (``n_boot``) takes too long to run: its time is extrapolated from a few replicates.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from faceaudit.schema import AGE_BINS, SCHEMES, age_group_names

SIZES = ("100k", "1M", "10M")
PART_ROWS = 500_000
REPLICATES = 2000
FAIRLEARN_ROWS = 1_000_000
"""fairlearn is not run on more rows than this: it holds the table in memory as Python objects."""
FAIRLEARN_REPLICATES = 3
BY = ("gender", "race")
CLASSES = {
    "gender": SCHEMES["gender2"],
    "race": SCHEMES["fairface7"],
    "age_group": age_group_names(AGE_BINS["fairface9"]),
}


def write_table(folder: Path, rows: int) -> None:
    """A table as `faceaudit predict` writes it, in parts."""
    for part, start in enumerate(range(0, rows, PART_ROWS)):
        count = min(PART_ROWS, rows - start)
        generated(start, count).write_parquet(folder / f"part-{part:05}.parquet")


def generated(start: int, rows: int) -> pl.DataFrame:
    """Faces whose scores lean to the annotated class."""
    generator = np.random.default_rng(start)
    age = np.minimum(generator.gamma(3, 12, rows), 100).astype(np.float32)
    columns = {
        "image": pl.int_range(start, start + rows, eager=True).cast(pl.String).str.zfill(9)
        + ".jpg",
        "status": ["ok"] * rows,
        "age_true": np.floor(age),
        "age_pred": np.clip(age + generator.normal(1, 6, rows), 0, 100).astype(np.float32),
    }
    for name, classes in CLASSES.items():
        names = np.array(classes)
        true = (
            np.searchsorted(AGE_BINS["fairface9"], np.floor(age), side="right") - 1
            if name == "age_group"
            else generator.integers(0, len(classes), rows)
        )
        logits = generator.normal(size=(rows, len(classes))) + 3 * np.eye(len(classes))[true]
        probs = np.exp(logits)
        probs /= probs.sum(axis=1, keepdims=True)
        columns[f"{name}_true"] = names[true]
        columns[f"{name}_pred"] = names[probs.argmax(axis=1)]
        columns[f"{name}_probs"] = pl.DataFrame(
            dict(zip(classes, probs.T.astype(np.float32), strict=True))
        ).to_struct()
    return pl.DataFrame(columns)


def run_faceaudit(folder: Path) -> dict[str, float]:
    """Seconds of each step, and the number of figures."""
    from faceaudit.audit.run import audit
    from faceaudit.audit.subgroups import find_features
    from faceaudit.audit.tally import tally
    from faceaudit.tables import read_table

    start = time.perf_counter()
    table = read_table(folder)
    opened = time.perf_counter()
    counted = tally(table, find_features(table, BY))
    tallied = time.perf_counter()
    found = audit(counted, replicates=REPLICATES)
    return {
        "open": opened - start,
        "tally": tallied - opened,
        "metrics": time.perf_counter() - tallied,
        "figures": len(found.metrics),
    }


def run_fairlearn(folder: Path) -> dict[str, float]:
    """Seconds of point values, and of all replicates as extrapolated from a few."""
    import pandas as pd
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score, f1_score

    start = time.perf_counter()
    names = [f"{name}_{kind}" for name in CLASSES for kind in ("true", "pred")]
    frame = pd.read_parquet(folder, columns=names)

    def macro_f1(true: object, pred: object) -> float:
        return float(f1_score(true, pred, average="macro"))

    def measure(replicates: int | None) -> float:
        begin = time.perf_counter()
        for name in CLASSES:
            MetricFrame(
                metrics={"accuracy": accuracy_score, "macro_f1": macro_f1},
                y_true=frame[f"{name}_true"],
                y_pred=frame[f"{name}_pred"],
                sensitive_features=frame[[f"{by}_true" for by in BY]],
                n_boot=replicates,
                ci_quantiles=None if replicates is None else [0.025, 0.975],
                random_state=0,
            )
        return time.perf_counter() - begin

    opened = time.perf_counter() - start
    point = measure(None)
    few = measure(FAIRLEARN_REPLICATES) - point
    return {
        "open": opened,
        "point": point,
        "replicates": few / FAIRLEARN_REPLICATES * REPLICATES,
    }


RUNS = {"faceaudit": run_faceaudit, "fairlearn": run_fairlearn}


def measured(program: str, folder: Path) -> dict[str, float]:
    """One program on one table, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.audit", "--one", program, str(folder)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def one(program: str, folder: Path) -> None:
    """Print what one program took, as JSON."""
    found = RUNS[program](folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(json.dumps({**found, "peak_gb": peak}))


def parse_rows(given: str) -> int:
    """``100k`` and the like."""
    factors = {"k": 1_000, "M": 1_000_000}
    return int(float(given.rstrip("kM")) * factors.get(given[-1], 1))


def compare(rows: int) -> None:
    """Both programs on a table of so many rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder, rows)
        size = sum(part.stat().st_size for part in folder.iterdir()) / 1e9
        ours = measured("faceaudit", folder)
        total = ours["open"] + ours["tally"] + ours["metrics"]
        print(f"\n{rows:,} rows, {size:.2f} GB of Parquet, {os.cpu_count()} cores")
        print(
            f"  faceaudit  {total:7.1f} s  (open {ours['open']:.1f}, tally {ours['tally']:.1f}, "
            f"{ours['figures']:,.0f} figures with {REPLICATES:,} replicates "
            f"{ours['metrics']:.1f}), peak {ours['peak_gb']:.2f} GB"
        )
        if rows > FAIRLEARN_ROWS:
            print(f"  fairlearn  not run on more than {FAIRLEARN_ROWS:,} rows")
            return
        theirs = measured("fairlearn", folder)
        points, every = theirs["point"], theirs["point"] + theirs["replicates"]
        print(
            f"  fairlearn  {points:7.1f} s  for accuracy and macro F1 of three tasks (point values "
            f"alone, without {theirs['open']:.1f} s of reading), peak {theirs['peak_gb']:.2f} GB"
        )
        print(
            f"             {every:7.0f} s  with {REPLICATES:,} replicates, extrapolated from "
            f"{FAIRLEARN_REPLICATES}: {every / total:,.0f} times faceaudit's"
        )


def main() -> None:
    """Every size."""
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], Path(sys.argv[3]))
        return
    for given in sys.argv[1:] or SIZES:
        compare(parse_rows(given))


if __name__ == "__main__":
    main()
