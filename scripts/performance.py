"""Fill the tables of docs/performance.md: ``python -m scripts.performance [--check]``.

They are those that the benchmarks wrote, at a time when nothing else ran on the machine:

    python -m benchmarks.predict --json docs/results/predict.json
    python -m benchmarks.predict_gains --json docs/results/predict_gains.json
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.predict_tables import printed
from scripts.readme import fill, rewrite

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "docs" / "results"


def speed() -> str:
    """Steps, rates, runs and targets of crops and photographs."""
    path = RESULTS / "predict.json"
    if not path.exists():
        return "`python -m benchmarks.predict` prints it."
    found = json.loads(path.read_text())
    parts = [found["machine"] + "."]
    for heading, tables in found["groups"]:
        parts += [f"### {heading}", printed(tables, markdown=True)]
    return "\n\n".join(parts)


def gains() -> str:
    """What each way gains over the plain one."""
    return printed([json.loads((RESULTS / "predict_gains.json").read_text())[0]], markdown=True)


def growth() -> str:
    """What more pixels, faces and larger batches cost."""
    return printed([json.loads((RESULTS / "predict_gains.json").read_text())[1]], markdown=True)


PARTS = {part.__name__: part for part in (speed, gains, growth)}


def filled(text: str) -> str:
    """The text with every table made anew."""
    return fill(text, PARTS, DOCUMENT.name)


def main() -> None:
    """Write the document, or say that it is stale."""
    rewrite(DOCUMENT, filled, "scripts.performance")


if __name__ == "__main__":
    main()
