"""Whether corrected shares hold on real faces: ``python -m benchmarks.composition_of_utkface``.

The annotations of the table of UTKFace's validation images that ships are put aside. Its shares are
corrected as a user would: by the validation of the model alone; by labeled samples as ``faceaudit
sample`` draws them; and by other images of UTKFace, for sets of another composition, where label
shift holds because the images are dealt so. Then the annotations say whether intervals held.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow.parquet as pq

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

    def __str__(self) -> str:
        cells = []
        for name in ("predicted", "corrected", "by scores"):
            held = self.held.get(name, [])
            cells.append(f"{np.mean(held):.1%} of {len(held):,}" if held else "none")
        half = f"±{50 * float(np.mean(self.widths)):.1f}" if self.widths else "none"
        caution = f"{np.mean(self.cautions):.0%}" if self.cautions else "not tested"
        return " | ".join([*cells, half, caution, f"{self.unknown}"])


def holds(found: Estimate, share: float) -> bool:
    """Whether an interval holds a share."""
    if found.low is None or found.high is None:
        return False
    return found.low <= share <= found.high


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


def by_validation(folder: Path) -> None:
    """Print shares corrected by what the model's card knows of its confusion."""
    whole = pq.read_table(PREDICTIONS)
    labels = [name for name in whole.column_names if name.endswith("_true")]
    pq.write_table(whole.drop_columns(labels), folder / "bare.parquet")
    audit = report(folder / "bare.parquet", formats=("json",)).audit
    truth = true_shares(read_table(PREDICTIONS, scheme_map=RACES))
    print("\nCorrected by the validation of the model:\n")
    print("| task, class | annotated | predicted | corrected | by scores | held |")
    print("| --- | --- | --- | --- | --- | --- |")
    for one in audit.composition:
        if one.subgroup or (one.task, one.label) not in truth:  # UTKFace has other races, too.
            continue
        share, found = truth[one.task, one.label], one.corrected
        held = "null" if found is None or found.low is None else str(holds(found, share)).lower()
        cells = " | ".join(told(part) for part in (one.share, found, one.em))
        print(f"| {one.task}, {one.label} | {share:.1%} | {cells} | {held} |")
    for how in audit.corrections:
        said = (
            "no test"
            if how.fit is None or how.fit.p_value is None
            else f"p = {how.fit.p_value:.1g}"
        )
        print(f"\n{how.task}: {how.labelled:,} labeled faces of {how.where}; label shift: {said}")


def told(found: Estimate | None) -> str:
    """A share with its interval, in percent."""
    if found is None or found.value is None:
        return "null"
    bounds = "" if found.low is None else f" ({found.low:.1%} to {found.high:.1%})"
    return f"{found.value:.1%}{bounds}"


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


def print_counts(title: str, counts: Mapping[str, Count]) -> None:
    """Print one line per task."""
    for name, count in counts.items():
        print(f"| {title} | {name} | {count} |", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help="samples of either size")
    draws = parser.parse_args().draws
    with TemporaryDirectory() as name:
        folder = Path(name)
        by_validation(folder)
        table = read_table(PREDICTIONS, scheme_map=RACES)
        coarse = folder / "coarse.parquet"
        table.frame.collect().write_parquet(coarse)
        table = read_table(coarse)
        print(f"\n95 % intervals that held the annotated share, over {draws} draws a line:\n")
        print(
            "| labeled | task | predicted | corrected | by scores | half-width | caution | null |"
        )
        print("| --- " * 8 + "|")
        for n in SIZES:
            print_counts(f"a sample of {n}", by_samples(folder, table, n, draws))
        print_counts("other images, other shares", by_others(folder, table, draws))


if __name__ == "__main__":
    main()
