"""Fill the tables of docs/performance.md: ``python -m scripts.performance [--check]``.

They are those that the benchmarks wrote, at a time when nothing else ran on the machine:

    python -m benchmarks.predict --json docs/results/predict.json
    python -m benchmarks.predict_gains --json docs/results/predict_gains.json
    python -m benchmarks.precision --settings --json docs/results/precision.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.predict_tables import printed
from faceaudit.models.bundle import load_bundle
from faceaudit.models.int8 import INT8
from scripts.readme import fill, rewrite

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "docs" / "results"
BUNDLES = ("fairface", "research")
ALL, AGE = "all held-out faces", "age"
LOSS_TITLES = {
    "gender": "gender, points",
    "race": "race, points",
    "age_group": "age group, points",
    "age": "age, mean error in years",
}
COMPARED = (
    ("int8, ONNX Runtime", "float32, ONNX Runtime"),
    ("float32, ONNX Runtime", "float32, torch"),
    ("bfloat16, torch", "float32, torch"),
    ("bfloat16, torch", "float32, ONNX Runtime"),
    ("float32, OpenVINO", "float32, ONNX Runtime"),
    ("int8, OpenVINO", "int8, ONNX Runtime"),
    ("bfloat16, OpenVINO", "float32, ONNX Runtime"),
)


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


def losses() -> str:
    """What int8 loses, as the cards of the bundles have it."""
    cells: dict[str, list[str]] = {}
    for name in BUNDLES:
        for one in load_bundle(name).card[INT8]["compared"]:
            if one["on"] == ALL:
                of, digits = (1, 3) if one["task"] == AGE else (100, 2)
                shown = [f"{of * one[key]:.{digits}f}" for key in ("difference", "low", "high")]
                row = cells.setdefault(one["task"], [])
                row += [f"{one['n']:,}", f"{shown[0]} ({shown[1]} to {shown[2]})"]
    rows = [(LOSS_TITLES[task], *row) for task, row in cells.items()]
    head = ("", *(cell for name in BUNDLES for cell in ("faces", f"`{name}`")))
    return printed([(head, rows)], markdown=True)


def precision() -> str:
    """What each precision costs, and how they compare."""
    found = _precisions()
    costs = {model: facts["cost"] for model, facts in found["models"].items()}
    ways = list(dict.fromkeys(way for cost in costs.values() for way in cost))
    rows = [
        (way, *(f"{cost[way]:.2f} ms" if way in cost else "" for cost in costs.values()))
        for way in ways
    ]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        f"- {one} takes {_spans(costs, one, other)} of the time of {other}."
        for one, other in COMPARED
        if one in ways and other in ways
    ]
    parts = [
        f"{found['machine']}; {versions}.",
        printed([(("", *(f"`{model}`" for model in costs)), rows)], markdown=True),
        "\n".join(lines),
    ]
    return "\n\n".join(parts)


def settings() -> str:
    """What settings of ONNX Runtime change."""
    models = {m: facts["settings"] for m, facts in _precisions()["models"].items()}
    models = {model: found for model, found in models.items() if found}
    ways = list(dict.fromkeys(way for found in models.values() for way in found))
    rows = [(way, *(f"{found[way]:.3g} ms" for found in models.values())) for way in ways]
    return printed([(("float32", *(f"`{model}`" for model in models)), rows)], markdown=True)


def _precisions() -> dict[str, Any]:
    return dict(json.loads((RESULTS / "precision.json").read_text(encoding="utf-8")))


def _spans(costs: Mapping[str, Mapping[str, float]], one: str, other: str) -> str:
    """How much of the other's time one takes, bundle by bundle."""
    return " and ".join(
        f"{cost[one] / cost[other]:.0%} (`{model}`)"
        for model, cost in costs.items()
        if one in cost and other in cost
    )


PARTS = {part.__name__: part for part in (speed, gains, growth, losses, precision, settings)}


def filled(text: str) -> str:
    """The text with every table made anew."""
    return fill(text, PARTS, DOCUMENT.name)


def main() -> None:
    """Write the document, or say that it is stale."""
    rewrite(DOCUMENT, filled, "scripts.performance")


if __name__ == "__main__":
    main()
