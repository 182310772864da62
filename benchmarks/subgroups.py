"""How an audit grows with its subgroups: ``python -m benchmarks.subgroups [SUBGROUPS ...]``.

Each size (default: 70 335 1000 5000) is a generated table of gender, race, age group and ages with
18 class scores, ``FACES`` faces per subgroup of ``country`` and ``site``, cut by either and both.
Each audit runs in a process of its own: CPU seconds of its stages, which hold on a busy machine
too, peak memory, and the sizes of page and JSON. With ``--unit`` faces come in clusters, with
``--within`` there is a control feature of as many values and one sensitive feature:

    python -m benchmarks.subgroups --unit 200
    python -m benchmarks.subgroups --within 200
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.audit import generated
from benchmarks.processes import output_of, peak_mb

SIZES = (70, 335, 1000, 5000)
FACES = 60
FEWEST_ROWS = 20_000
COUNTRIES, SITES = 5, 200
"""At least so many of the first, and at most so many of the second, as a feature may have."""
PER_PERSON = 4
KINDS = {
    "unit": "faces in clusters",
    "within": "a control feature of as many values, and one sensitive feature",
}
STAGES = {
    "imports": "",
    "tally": "audit.run:tally",
    "scores": "audit.run:_score_rows",
    "metrics": "audit.run:measure",
    "comparisons": "audit.run:compare_grouping",
    "permutation": "audit.permutation:Permutations._deal",
    "conditioned": "audit.run:condition_age",
    "within": "audit.run:condition_within",
    "verification": "audit.run:verify_audit",
    "page": "reporting.run:render",
    "JSON": "reporting.run:to_json",
}
"""What is printed, and the function whose time it is; a stage within another is its own."""


def write_table(path: Path, subgroups: int) -> None:
    """A table of so many combinations of country and site, with a person for every few faces."""
    rows = max(FEWEST_ROWS, FACES * subgroups)
    generator = np.random.default_rng(subgroups)
    countries = max(COUNTRIES, -(-subgroups // SITES))
    features = {
        "country": [f"c{k}" for k in generator.integers(0, countries, rows)],
        "site": [f"s{k:04}" for k in generator.integers(0, subgroups // countries, rows)],
        "control": [f"v{k:04}" for k in generator.integers(0, subgroups, rows)],
        "person": [f"p{k}" for k in generator.integers(0, rows // PER_PERSON, rows)],
    }
    generated(0, rows).with_columns(pl.DataFrame(features)).write_parquet(path)


def one(path: Path, choices: dict[str, Any]) -> None:
    """Print the CPU seconds of every stage of one report, and its sizes, as JSON."""
    start = time.process_time()
    from faceaudit.reporting import run

    spent = dict.fromkeys(STAGES, 0.0)
    spent["imports"] = time.process_time() - start
    running: list[str] = []
    for stage, place in STAGES.items():
        if place:
            _clock(stage, place, spent, running)
    files = run.report(path, **choices)
    peak = peak_mb() / 1024
    sizes = {file.suffix[1:]: file.stat().st_size / 1e6 for file in files.paths}
    whole = time.process_time()
    found = {"CPU": whole, **spent, "rest": whole - sum(spent.values()), "GB": peak, **sizes}
    print(json.dumps(found))


def _clock(stage: str, place: str, spent: dict[str, float], running: list[str]) -> None:
    """Count the CPU seconds of a function, less those of stages within it."""
    module, _, name = place.partition(":")
    holder: Any = importlib.import_module(f"faceaudit.{module}")
    *outer, last = name.split(".")
    for part in outer:
        holder = getattr(holder, part)
    function: Callable[..., Any] = getattr(holder, last)

    def timed(*given: Any, **named: Any) -> Any:
        start = time.process_time()
        running.append(stage)
        try:
            return function(*given, **named)
        finally:
            running.pop()
            seconds = time.process_time() - start
            spent[stage] += seconds
            if running:
                spent[running[-1]] -= seconds

    setattr(holder, last, timed)
    formats = getattr(holder, "FORMATS", {})
    for key, known in list(formats.items()):
        if known is function:
            formats[key] = timed


def measured(subgroups: int, kind: str) -> dict[str, float]:
    """One report of a table of so many subgroups, in a process of its own."""
    choices: dict[str, Any] = {"by": ["country", "site"]}
    if kind == "within":
        choices = {"by": ["country"], "within": "control"}
    if kind == "unit":
        choices["unit"] = "person"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        write_table(path, subgroups)
        command = [sys.executable, "-m", "benchmarks.subgroups", "--one", str(path)]
        output = output_of([*command, json.dumps(choices)])
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def main() -> None:
    """Every size, and how CPU seconds grow from one to the next."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "subgroups", nargs="*", type=int, help=f"default: {' '.join(map(str, SIZES))}"
    )
    kinds = parser.add_mutually_exclusive_group()
    for name, effect in KINDS.items():
        kinds.add_argument(
            f"--{name}", dest="kind", action="store_const", const=name, default="", help=effect
        )
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        one(Path(given.one[0]), json.loads(given.one[1]))
        return
    sizes, kind = given.subgroups or SIZES, given.kind
    heads = ["CPU", *STAGES, "rest", "GB", "html", "json"]
    print(f"CPU seconds of faceaudit report{f' --{kind}' if kind else ''}; sizes in MB")
    print("subgroups " + "".join(f"{head:>13}" for head in heads), flush=True)
    totals = []
    for size in sizes:
        found = measured(size, kind)
        totals.append(found["CPU"])
        print(f"{size:9,} " + "".join(f"{found[head]:13.2f}" for head in heads), flush=True)
    for (few, fast), (many, slow) in pairwise(zip(sizes, totals, strict=True)):
        print(f"{many / few:.1f} times the subgroups took {slow / fast:.1f} times the CPU time")


if __name__ == "__main__":
    main()
