"""Seconds and memory of comparing generated tables: ``python -m benchmarks.compare [ROWS ...]``.

Each size runs in a process of its own: the peak of memory is that of the comparison alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.audit import parse_rows
from benchmarks.processes import output_of, peak_mb
from faceaudit.schema import AGE_BINS, SCHEMES, age_group_names

SIZES = ("100k", "1M")
TASKS = {
    "gender": SCHEMES["gender2"],
    "race": SCHEMES["fairface7"],
    "age_group": age_group_names(AGE_BINS["fairface9"]),
}


def write_table(path: Path, rows: int, seed: int, *, start: int = 0) -> None:
    """A table of the contract, 18 scores a face; equal labels for equal ``rows``."""
    truth, noise = np.random.default_rng(rows), np.random.default_rng(seed)
    ages = np.minimum(truth.gamma(3, 12, rows), 100).astype(np.float32)
    group = np.searchsorted(AGE_BINS["fairface9"], ages, side="right") - 1
    columns = {
        "image": pl.Series([f"folder/{start + k:09}.jpg" for k in range(rows)]),
        "status": pl.Series(np.where(noise.random(rows) < 0.02, "no_face", "ok")),
        "age_true": pl.Series(ages),
        "age_pred": pl.Series(ages + noise.normal(0, 6, rows).astype(np.float32)),
    }
    for name, classes in TASKS.items():
        true = group if name == "age_group" else truth.integers(0, len(classes), rows)
        logits = noise.normal(size=(rows, len(classes))).astype(np.float32)
        logits[np.arange(rows), true] += 2
        probs = np.exp(logits)
        probs /= probs.sum(axis=1, keepdims=True)
        names = np.array(classes)
        columns[f"{name}_true"] = pl.Series(names[true])
        columns[f"{name}_pred"] = pl.Series(names[probs.argmax(axis=1)])
        for k, label in enumerate(classes):
            columns[f"{name}_prob_{label}"] = pl.Series(probs[:, k])
    pl.DataFrame(columns).write_parquet(path)


def measure(first: Path, second: Path, mode: str) -> None:
    """Compare and print the seconds and the peak of memory of this process."""
    import faceaudit

    before, computed = time.perf_counter(), time.process_time()
    found = faceaudit.compare(first, second, mode=mode, formats=["json"]).changes
    seconds, computed = time.perf_counter() - before, time.process_time() - computed
    memory = peak_mb() / 1024
    print(
        f"{mode:>8} {seconds:8.1f} s, {computed:6.1f} s of processor time, {memory:5.2f} GB, "
        f"{len(found.changes):,} differences"
    )


def main() -> None:
    """Generate, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "rows", nargs="*", type=parse_rows, help=f"such as 20k or 1M; default: {' '.join(SIZES)}"
    )
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        measure(Path(given.one[0]), Path(given.one[1]), given.one[2])
        return
    for rows in given.rows or map(parse_rows, SIZES):
        with tempfile.TemporaryDirectory() as folder:
            first, second = Path(folder) / "first.parquet", Path(folder) / "second.parquet"
            write_table(first, rows, 1)
            write_table(second, rows, 2)
            print(f"{rows:,} rows, 18 scores, {sum(map(len, TASKS.values()))} classes", flush=True)
            for mode in ("paired", "drift"):
                command = [sys.executable, "-m", "benchmarks.compare", "--one"]
                print(output_of([*command, str(first), str(second), mode]).rstrip(), flush=True)


if __name__ == "__main__":
    main()
