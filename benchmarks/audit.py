"""How long an audit takes, beside others: ``python -m benchmarks.audit [ROWS ...]``.

Each size is a generated table of gender, race and age group with 18 class scores, and ages in
years, written in parts. Every program reads the same table, each in a process of its own so that
its peak memory is its own:

* faceaudit: opening the table, its tally, every metric of every subgroup (annotated gender, race
  and both) with intervals, all comparisons, and permutation tests of 2,000 draws;
* faceaudit, the same point values as fairlearn: counting the file, and the two metrics;
* fairlearn: MetricFrame with accuracy and macro F1 of the three tasks by gender and race, without
  reading. Its bootstrap (``n_boot``) takes too long to run: its time is extrapolated from a few
  replicates;
* Aequitas: its counts and rates of a binary classification (gender) by gender and race, without
  reading. It needs older libraries than faceaudit: name a Python that has aequitas, pyarrow and
  polars in ``AEQUITAS_PYTHON``.

``python -m benchmarks.audit --stream 100M`` generates that many rows part by part, counts each
part, deletes it, and audits the sum.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.processes import output_of, peak_mb
from faceaudit.schema import AGE_BINS, SCHEMES, age_group_names

SIZES = ("100k", "1M", "10M")
STREAMED = "100M"
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


def run_points(folder: Path) -> dict[str, float]:
    """Seconds of accuracy and macro F1 of three tasks by gender and race, and of opening."""
    from faceaudit.audit.metrics import accuracy, macro_f1
    from faceaudit.audit.subgroups import find_features
    from faceaudit.audit.tally import cut, tally
    from faceaudit.tables import read_table

    names = [f"{name}_{kind}" for name in CLASSES for kind in ("true", "pred")]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "classes.parquet"
        pl.scan_parquet(folder).select(names).sink_parquet(path)
        start = time.perf_counter()
        table = read_table(path)
        features = find_features(table, BY)
        opened = time.perf_counter()
        counted = tally(table, features)
        cells = cut(counted, BY)
        for confusions in map(cells.of, counted.confusion.values()):
            accuracy(confusions)
            macro_f1(confusions)
        return {"open": opened - start, "point": time.perf_counter() - opened}


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


def run_aequitas(folder: Path) -> dict[str, float]:
    """Seconds of Aequitas' counts and rates of one binary task by two attributes."""
    import pandas as pd
    from aequitas.group import Group

    names = ["gender_true", "gender_pred", "race_true"]
    frame = pd.read_parquet(folder, columns=names)
    positive = CLASSES["gender"][0]
    rows = pd.DataFrame(
        {
            "score": (frame["gender_pred"] == positive).astype(int),
            "label_value": (frame["gender_true"] == positive).astype(int),
            "gender": frame["gender_true"].astype(str),
            "race": frame["race_true"].astype(str),
        }
    )
    start = time.perf_counter()
    Group().get_crosstabs(rows, attr_cols=list(BY))
    return {"point": time.perf_counter() - start}


def run_stream(folder: Path) -> dict[str, float]:
    """Seconds of counting and auditing rows that are generated part by part and deleted."""
    from faceaudit.audit.run import audit
    from faceaudit.audit.subgroups import find_features
    from faceaudit.audit.tally import Tally, add_up, tally
    from faceaudit.tables import read_table

    rows = int((folder / "rows").read_text())
    spent = {"generate": 0.0}

    def counted() -> Iterator[Tally]:
        path = folder / "part.parquet"
        for start in range(0, rows, PART_ROWS):
            begin = time.perf_counter()
            generated(start, min(PART_ROWS, rows - start)).write_parquet(path)
            spent["generate"] += time.perf_counter() - begin
            table = read_table(path)
            yield tally(table, find_features(table, BY))
            path.unlink()

    begin = time.perf_counter()
    found = audit(add_up(counted()), replicates=REPLICATES)
    whole = time.perf_counter() - begin
    return {**spent, "audit": whole - spent["generate"], "figures": len(found.metrics)}


RUNS = {
    "faceaudit": run_faceaudit,
    "points": run_points,
    "fairlearn": run_fairlearn,
    "aequitas": run_aequitas,
    "stream": run_stream,
}


def measured(program: str, folder: Path, python: str = sys.executable) -> dict[str, float]:
    """One program on one table, in a process of its own."""
    command = [python, "-m", "benchmarks.audit", "--one", program, str(folder)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    found: dict[str, float] = json.loads(output_of(command, env).splitlines()[-1])
    return found


def one(program: str, folder: Path) -> None:
    """Print what one program took, as JSON."""
    found = RUNS[program](folder)
    print(json.dumps({**found, "peak_gb": peak_mb() / 1024}))


def aequitas_python() -> str | None:
    """A Python that has Aequitas, None where there is none."""
    python = os.environ.get("AEQUITAS_PYTHON", sys.executable)
    found = subprocess.run([python, "-c", "import aequitas"], check=False, capture_output=True)
    return python if found.returncode == 0 else None


def parse_rows(given: str) -> int:
    """``100k`` and the like."""
    factors = {"k": 1_000, "M": 1_000_000}
    number, factor = (given[:-1], factors[given[-1]]) if given[-1:] in factors else (given, 1)
    try:
        return int(float(number) * factor)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{given!r} is no number such as 20k or 1M") from None


def compare(rows: int) -> float:
    """Every program on a table of so many rows; seconds of faceaudit's whole audit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(folder, rows)
        size = sum(part.stat().st_size for part in folder.iterdir()) / 1e9
        ours = measured("faceaudit", folder)
        total = ours["open"] + ours["tally"] + ours["metrics"]
        print(f"\n{rows:,} rows, {size:.2f} GB of Parquet, {os.cpu_count()} cores")
        print(
            f"  faceaudit  {total:8.2f} s  (open {ours['open']:.1f}, tally {ours['tally']:.1f}, "
            f"{ours['figures']:,.0f} figures with intervals and tests of {REPLICATES:,} draws "
            f"{ours['metrics']:.1f}), peak {ours['peak_gb']:.2f} GB"
        )
        if rows > FAIRLEARN_ROWS:
            print(f"  fairlearn, Aequitas: not run on more than {FAIRLEARN_ROWS:,} rows")
            return total
        points = measured("points", folder)
        print(
            f"             {points['point']:8.2f} s  for accuracy and macro F1 of three tasks "
            f"alone, without {points['open']:.2f} s of opening, peak {points['peak_gb']:.2f} GB"
        )
        _print_fairlearn(measured("fairlearn", folder), points["point"], total)
        _print_aequitas(folder)
        return total


def _print_fairlearn(theirs: dict[str, float], points: float, total: float) -> None:
    every = theirs["point"] + theirs["replicates"]
    print(
        f"  fairlearn  {theirs['point']:8.2f} s  for the same point values, without "
        f"{theirs['open']:.1f} s of reading: {theirs['point'] / points:,.0f} times faceaudit's, "
        f"peak {theirs['peak_gb']:.2f} GB"
    )
    print(
        f"             {every:8.0f} s  with {REPLICATES:,} replicates, extrapolated from "
        f"{FAIRLEARN_REPLICATES}: {every / total:,.0f} times faceaudit's whole audit"
    )


def _print_aequitas(folder: Path) -> None:
    python = aequitas_python()
    if python is None:
        print("  Aequitas   not installed")
        return
    found = measured("aequitas", folder, python)
    print(
        f"  Aequitas   {found['point']:8.2f} s  for counts and rates of gender alone by two "
        f"attributes, without reading, peak {found['peak_gb']:.2f} GB"
    )


def stream(rows: int) -> None:
    """Rows that are never all there at once."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "rows").write_text(str(rows))
        found = measured("stream", Path(name))
    print(
        f"\n{rows:,} rows streamed in parts of {PART_ROWS:,}: counted and audited in "
        f"{found['audit']:.1f} s, beside {found['generate']:.1f} s of generating them, peak "
        f"{found['peak_gb']:.2f} GB"
    )


def main() -> None:
    """Every size, or one stream."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "rows", nargs="*", type=parse_rows, help=f"such as 20k or 1M; default: {' '.join(SIZES)}"
    )
    parser.add_argument(
        "--stream",
        nargs="?",
        type=parse_rows,
        const=parse_rows(STREAMED),
        metavar="ROWS",
        help=f"only count and audit rows that are generated part by part; default: {STREAMED}",
    )
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(given.one[0], Path(given.one[1]))
        return
    if given.stream:
        stream(given.stream)
        return
    sizes = given.rows or [parse_rows(size) for size in SIZES]
    seconds = [compare(rows) for rows in sizes]
    for (few, fast), (many, slow) in pairwise(zip(sizes, seconds, strict=True)):
        print(f"\n{many / few:g} times the rows took {slow / fast:.1f} times as long")


if __name__ == "__main__":
    main()
