"""Whether corrected shares hold on real faces.

    python -m benchmarks.composition_of_utkface [--draws 50] [--json FILE]

The annotations of the table of UTKFace's validation images that ships are put aside. Its shares are
corrected as a user would: by the validation of the model alone; by labeled samples as ``faceaudit
sample`` draws them; and by other images of UTKFace, for sets of another composition, where label
shift holds because the images are dealt so. Then the annotations say whether intervals held.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from benchmarks.predict_tables import Table, printed
from faceaudit.audit.composition import DOUBTFUL, Choices, correct
from faceaudit.audit.coverage import find_composition
from faceaudit.audit.face_sets import Calibration
from faceaudit.audit.results import Composition, Correction, Estimate
from faceaudit.audit.tally import tally
from faceaudit.reporting import report, sample
from faceaudit.reporting.calibration import read_calibration
from faceaudit.schema import Task
from faceaudit.showcase.run import PREDICTIONS
from faceaudit.tables import PredictionTable, read_table

CONFIDENCE = 0.95
SIZES = (200, 500)
DRAWS = 50
LEAST_KEPT = 0.25
"""Of the class that is thinned most, where sets of another composition are dealt."""
OTHERS = "other images, other shares"
RACES = {"race": "utkface5"}
Shares = Mapping[tuple[str, str], float]
"""Task and class -> share."""


@dataclass
class Count:
    """How often intervals of one task held the annotated share."""

    held: dict[str, list[bool]] = field(default_factory=dict)
    widths: list[float] = field(default_factory=list)
    cautions: list[bool] = field(default_factory=list)
    unknown: int = 0

    def add(self, found: list[Composition], how: Correction, truth: Shares) -> None:
        """Count one set or sample."""
        self.unknown += how.method is None
        if how.fit is not None and how.fit.p_value is not None:
            self.cautions.append(how.fit.p_value < DOUBTFUL)
        for one in found:
            share = truth[one.task, one.label]
            kinds = {"predicted": one.share, "corrected": one.corrected, "by scores": one.em}
            for name, estimate in kinds.items():
                if estimate is not None and estimate.low is not None:
                    self.held.setdefault(name, []).append(holds(estimate, share))
            if one.corrected is not None and one.corrected.low is not None:
                self.widths.append((one.corrected.high or 0.0) - one.corrected.low)

    def facts(self) -> dict[str, Any]:
        """What was counted, as JSON holds it."""
        return {
            "held": {name: [sum(held), len(held)] for name, held in self.held.items()},
            "half_width": float(np.mean(self.widths)) / 2 if self.widths else None,
            "cautions": [sum(self.cautions), len(self.cautions)],
            "null": self.unknown,
        }


def holds(found: Estimate, share: float) -> bool:
    """Whether an interval holds a share."""
    if found.low is None or found.high is None:
        return False
    return found.low <= share <= found.high


def table_of_shares(found: Mapping[str, Any]) -> Table:
    """Shares by the validation of the model alone, and whether intervals hold the annotated."""
    head = ("task, class", "annotated", "predicted", "corrected", "by scores", "held")
    rows = [
        (
            f"{one['task']}, {one['label']}",
            f"{one['annotated']:.1%}",
            *(told(one[kind]) for kind in ("predicted", "corrected", "em")),
            {None: "null", True: "true", False: "false"}[held(one)],
        )
        for one in found["shares"]
    ]
    return head, rows


def held(one: Mapping[str, Any]) -> bool | None:
    """Whether the interval of a corrected share holds the annotated one; None without one."""
    low, high = one["corrected"]["low"], one["corrected"]["high"]
    return None if low is None else bool(low <= one["annotated"] <= high)


def told(found: Mapping[str, float | None]) -> str:
    """A share with its interval, in percent."""
    if found["value"] is None:
        return "null"
    bounds = "" if found["low"] is None else f" ({found['low']:.1%} to {found['high']:.1%})"
    return f"{found['value']:.1%}{bounds}"


def table_of_counts(found: Mapping[str, Any]) -> Table:
    """How often intervals held the annotated share, where labels correct."""
    kinds = ("predicted", "corrected", "by scores")
    head = ("labeled", "task", *kinds, "half-width, points", "caution", "null")
    rows = []
    for one in found["with_labels"]:
        cells = []
        for kind in kinds:
            right, of = one["held"].get(kind, (0, 0))
            cells.append(f"{right / of:.1%} of {of:,}" if of else "none")
        half = "none" if one["half_width"] is None else f"±{100 * one['half_width']:.1f}"
        warned, tested = one["cautions"]
        caution = f"{warned / tested:.0%}" if tested else "not tested"
        rows.append((one["labeled"], one["task"], *cells, half, caution, str(one["null"])))
    return head, rows


def true_shares(table: PredictionTable) -> Shares:
    """Annotated shares of the faces that have a prediction."""
    found = {}
    for task in table.tasks:
        rows = table.frame.filter(pl.col(task.pred_column).is_not_null())
        counts = rows.select(pl.col(task.true_column).value_counts(normalize=True)).unnest(
            task.true_column
        )
        shares = dict(counts.collect().rows())
        found |= {(task.name, label): shares.get(label, 0.0) for label in task.classes}
    return found


def without_labels(table: PredictionTable, path: Path) -> PredictionTable:
    """The same rows without annotations, written to a file."""
    table.frame.drop(
        *(task.true_column for task in table.tasks), "age_true"
    ).collect().write_parquet(path)
    return read_table(path)


def corrected(
    bare: PredictionTable, calibrations: Mapping[str, Calibration]
) -> Iterator[tuple[Task, list[Composition], Correction]]:
    """Corrected shares of a table, task by task."""
    shares = find_composition(tally(bare), [], CONFIDENCE)
    found, how = correct(bare, shares, Choices(calibrations, confidence=CONFIDENCE))
    for task in bare.tasks:
        own = next(one for one in how if one.task == task.name)
        yield task, [one for one in found if one.task == task.name], own


def by_validation(folder: Path) -> dict[str, Any]:
    """Shares corrected by what the card knows of confusions, beside the annotated ones."""
    whole = pq.read_table(PREDICTIONS)
    labels = [name for name in whole.column_names if name.endswith("_true")]
    pq.write_table(whole.drop_columns(labels), folder / "bare.parquet")
    audit = report(folder / "bare.parquet", formats=("json",)).audit
    truth = true_shares(read_table(PREDICTIONS, scheme_map=RACES))
    shares = [
        {
            "task": one.task,
            "label": one.label,
            "annotated": truth[one.task, one.label],
            "predicted": facts(one.share),
            "corrected": facts(one.corrected),
            "em": facts(one.em),
        }
        for one in audit.composition
        # UTKFace has other races, too.
        if not one.subgroup and (one.task, one.label) in truth
    ]
    tests = [
        {
            "task": how.task,
            "labeled": how.labelled,
            "where": how.where,
            "p_value": None if how.fit is None else how.fit.p_value,
        }
        for how in audit.corrections
    ]
    return {"shares": shares, "tests": tests}


def facts(found: Estimate | None) -> dict[str, float | None]:
    """An estimate as JSON holds it."""
    if found is None:
        return {"value": None, "low": None, "high": None}
    return {"value": found.value, "low": found.low, "high": found.high}


def by_samples(folder: Path, table: PredictionTable, n: int, draws: int) -> dict[str, Count]:
    """Samples of the set itself, labelled by what is known."""
    bare, truth = without_labels(table, folder / f"set{n}.parquet"), true_shares(table)
    names = ["image", *(task.true_column for task in table.tasks)]
    known = table.frame.select(names).collect()
    counts = {task.name: Count() for task in table.tasks}
    for seed in range(draws):
        path = folder / f"sample{n}-{seed}.csv"
        drawn = sample(bare.path, n=n, seed=seed, output=path)
        empty = pl.read_csv(drawn.path, schema_overrides={"image": pl.String}).drop(names[1:])
        empty.join(known, on="image", how="left").write_csv(path)
        for task, found, how in corrected(bare, read_calibration(path, bare)):
            counts[task.name].add(found, how, truth)
    return counts


def by_others(folder: Path, table: PredictionTable, draws: int) -> dict[str, Count]:
    """Half of the images correct the other half, of which classes were thinned."""
    rows, counts = table.frame.collect(), {task.name: Count() for task in table.tasks}
    for seed in range(draws):
        generator = np.random.default_rng(seed)
        order = generator.permutation(rows.height)
        labels = folder / "labels.parquet"
        rows[order[: rows.height // 2]].write_parquet(labels)
        others = rows[order[rows.height // 2 :]]
        for task in table.tasks:
            kept = np.linspace(LEAST_KEPT, 1, len(task.classes))
            kept = dict(zip(task.classes, generator.permutation(kept), strict=True))
            rate = others[task.true_column].replace_strict(kept, default=0.0).to_numpy()
            path = folder / "others.parquet"
            others.filter(generator.random(others.height) < rate).write_parquet(path)
            dealt = read_table(path)
            bare = without_labels(dealt, folder / "bare_others.parquet")
            calibration = {task.name: read_calibration(labels, bare)[task.name]}
            for own, found, how in corrected(bare, calibration):
                if own.name == task.name:
                    counts[task.name].add(found, how, true_shares(dealt))
    return counts


def counted(title: str, counts: Mapping[str, Count]) -> list[dict[str, Any]]:
    """What was counted, a line per task."""
    return [{"labeled": title, "task": name, **count.facts()} for name, count in counts.items()]


def measure(draws: int) -> dict[str, Any]:
    """Everything, as JSON holds it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        found = by_validation(folder)
        table = read_table(PREDICTIONS, scheme_map=RACES)
        coarse = folder / "coarse.parquet"
        table.frame.collect().write_parquet(coarse)
        table = read_table(coarse)
        lines = []
        for n in SIZES:
            lines += counted(f"a sample of {n}", by_samples(folder, table, n, draws))
        lines += counted(OTHERS, by_others(folder, table, draws))
        faces = table.frame.select(pl.len()).collect().item()
    digest = hashlib.sha256(PREDICTIONS.read_bytes()).hexdigest()
    return {"sha256": digest, "faces": faces, "draws": draws, **found, "with_labels": lines}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=DRAWS, help="samples of either size")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    found = measure(arguments.draws)
    print(printed([table_of_shares(found), table_of_counts(found)]))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
