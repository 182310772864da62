"""Fill the tables of docs/zoo.md: ``python -m scripts.zoo [--check]``.

They are made of what `faceaudit zoo` lists, and of what a benchmark wrote at a time when nothing
else ran on the machine:

    python -m benchmarks.zoo --json docs/results/zoo.json
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import from_scratch, reference_rows, study
from benchmarks.predict_tables import as_markdown
from benchmarks.zoo import Speed, spread
from faceaudit.audit.intervals import wilson
from faceaudit.schema import AGE
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.zoo import MEASURED, Entry, millions, zoo
from scripts.readme import fill, rewrite, table

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "zoo.md"
RESULTS = ROOT / "docs" / "results" / "zoo.json"
UNTIMED = Speed("", "", ())


class Speeds:
    """What was timed, by kind and name; nothing where the benchmark has not run."""

    def __init__(self) -> None:
        found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else None
        self.machine: str | None = found and found["machine"]
        rows = [Speed(**facts) for facts in found["speeds"]] if found else []
        self._by_name = {(row.kind, row.name): row for row in rows}

    def of(self, entry: Entry) -> Speed:
        """The speed of a row."""
        return self._by_name.get((entry.kind, entry.name), UNTIMED)


def machine(entries: Sequence[Entry], speeds: Speeds) -> str:
    """What images/s were timed on."""
    command = "`python -m benchmarks.zoo --json docs/results/zoo.json`"
    if speeds.machine is None:
        return f"Images/s are not measured yet: {command} measures them."
    return (
        f"Images/s by {command}: {speeds.machine}; the median, with the lowest and highest round."
    )


def bundles(entries: Sequence[Entry], speeds: Speeds) -> str:
    """What ships: cost, then what is known of each."""
    own = _of_kind(entries, "bundle")
    facts = [
        f"**{entry.name}**: {entry.licence}. Made from {entry.training_data}.\n\n"
        + table(("task", "held out"), sorted(entry.held_out.items()))
        for entry in own
    ]
    return "\n\n".join([_costs(own, speeds, ("trunk", "tasks")), *facts])


def sharing(entries: Sequence[Entry], speeds: Speeds) -> str:
    """One network for all tasks beside one network for each, every design once."""
    designs = {
        (one.backbone, one.heads, one.input, one.parameters): one
        for one in reversed(_of_kind(entries, "recipe"))
        if one.saved is not None
    }
    head = (
        "recipe", "trunk", "heads", "tasks", "parameters: one network", "one per task",
        "GFLOPs: one network", "one per task", "saved", "images/s: one network", "one per task",
    )  # fmt: skip
    rows = [
        (
            f"`{one.name}`",
            f"`{one.backbone}`",
            one.heads,
            str(len(one.tasks)),
            millions(one.parameters),
            millions(one.separate_parameters or 0),
            f"{one.gflops:.3g}",
            f"{one.separate_gflops:.3g}",
            f"{one.saved:.0%}",
            spread(speeds.of(one).shared),
            spread(speeds.of(one).separate),
        )
        for one in sorted(designs.values(), key=lambda one: one.name)
    ]
    return as_markdown(head, rows, texts=3)


def measured() -> dict[str, dict[str, dict[str, Any]]]:
    """Recipe -> task -> the figure of its trainings, in the form of a card's.

    Recipes of the study were trained whole; of them it is the mean of the seeds, with Wilson's
    interval for as many images. Those of the references were trained shortly: as they are where
    their weights are at hand, from random weights otherwise.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    right = pl.read_parquet(study.RIGHT)
    for (name,), part in right.group_by("recipe", maintain_order=True):
        seeds = part["seed"].n_unique()
        epochs = load_recipe(f"study/{name}").epochs
        of = f", annotated {study.OWN_GROUP[name]}" if name in study.OWN_GROUP else ""
        on = f"test crops of UTKFace{of}; {epochs} epochs, mean of {seeds} seeds"
        for task in study.ALONE:
            known = part.select("image", task).drop_nulls()
            if n := known["image"].n_unique():
                share = float(known[task].mean())
                low, high = wilson(share, n, 0.95)
                facts = {"accuracy": share, "low": float(low), "high": float(high)}
                figure = {key: round(value, 4) for key, value in facts.items()} | {"n": n, "on": on}
                found.setdefault(f"study/{name}", {})[task] = figure
    size, steps = from_scratch.SHORT["stages"][0]["size"], from_scratch.EPOCHS * from_scratch.STEPS
    scratch = f"validation crops of UTKFace; {steps} steps at {size} pixels from random weights"
    rows: list[tuple[from_scratch.Learned | reference_rows.Row, str]] = [
        (from_scratch.Learned(**one), scratch)
        for one in json.loads(from_scratch.RESULTS.read_text(encoding="utf-8"))
    ]
    rows += [
        (row, f"held-out crops of UTKFace; {row.epochs} epochs of at most {row.steps} steps")
        for row in reference_rows.read().values()
    ]
    for row, on in rows:
        for task, (value, low, high) in row.figures.items():
            name = "mae" if task == AGE else "accuracy"
            figure = {name: value, "low": low, "high": high, "n": row.held_out, "on": on}
            found.setdefault(f"reference/{row.recipe}", {})[task] = figure
    return found


def recipes(entries: Sequence[Entry], speeds: Speeds) -> str:
    """Every recipe, by what its bundle may be used for."""
    own = _of_kind(entries, "recipe")
    terms = dict.fromkeys((one.licence, one.training_data) for one in own)
    return "\n\n".join(
        f"License: {licence}. Trained on {data}.\n\n"
        + _costs(
            [one for one in own if (one.licence, one.training_data) == (licence, data)],
            speeds,
            ("trunk", "weights", "tasks", "heads"),
        )
        for licence, data in terms
    )


def architectures(entries: Sequence[Entry], speeds: Speeds) -> str:
    """Every trunk, and the weights that it can start from."""
    return _costs(_of_kind(entries, "architecture"), speeds, ("weights with their license",))


FACTS = {
    "trunk": lambda entry: f"`{entry.backbone}`",
    "tasks": lambda entry: ", ".join(entry.tasks),
    "heads": lambda entry: entry.heads,
    "weights": lambda entry: ", ".join(entry.weights),
    "weights with their license": lambda entry: "; ".join(
        f"`{name}` ({source['training_data']}): {source['licence']}"
        for name, source in entry.weight_sources.items()
    ),
}
"""Columns that not every kind has."""


def _costs(entries: Iterable[Entry], speeds: Speeds, facts: Sequence[str]) -> str:
    head = ("name", *facts, "input", "parameters", "trained", "GFLOPs", "images/s")
    rows = [
        (
            f"`{entry.name}`",
            *(FACTS[fact](entry) for fact in facts),
            str(entry.input),
            millions(entry.parameters),
            millions(entry.trainable),
            f"{entry.gflops:.3g}",
            spread(speeds.of(entry).shared),
        )
        for entry in entries
    ]
    return as_markdown(head, rows, texts=1 + len(facts))


def _of_kind(entries: Sequence[Entry], kind: str) -> list[Entry]:
    return [entry for entry in entries if entry.kind == kind]


PARTS = (machine, bundles, sharing, recipes, architectures)


def filled(text: str, entries: Sequence[Entry] | None = None) -> str:
    """The text with every table made anew; the zoo is listed where it is not given."""
    rows = zoo() if entries is None else entries
    made = {part.__name__: partial(part, rows, Speeds()) for part in PARTS}
    return fill(text, made, DOCUMENT.name)


def main() -> None:
    """Write the document, or say that it is stale."""
    figures = json.dumps(measured(), indent=1) + "\n"
    rewrite(MEASURED, lambda before: figures, "scripts.zoo")
    rewrite(DOCUMENT, filled, "scripts.zoo")


if __name__ == "__main__":
    main()
