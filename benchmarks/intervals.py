"""How often intervals hold the true value: ``python -m benchmarks.intervals [--full]``.

Tables of faces are drawn from models whose true figures are known, counted as a tally counts them
and given to the audit's own ``estimate``, many at a time. Printed per metric and number of faces:
the share of 95 % intervals that hold the true value, on average over the models and in the worst of
them, and the mean width.

Models differ in the true rate (of right predictions, or of ages within five years; RATES) and, with
classes, in their number (CLASSES). Classes are 1 to 3 times as common as the rarest, some are
recognized better than others, and confused with their neighbors most. A class that is in no table
counts for nothing: means over classes are those of the classes that a table has. Errors in years
have the tails of Student's distribution with 6 degrees of freedom, as real ones do. Scores are
those of a model that is too sure of itself.

With units, four faces share a person: right predictions, scores and errors have an intra-class
correlation of .3, and blocks of persons are what the tally keeps. "naive" are the intervals that
ignore this.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from faceaudit.audit.age import AGE_METRICS, CHALLENGE_YEARS, LEGAL_YEARS
from faceaudit.audit.bounds import ScoreCounts
from faceaudit.audit.estimates import Options, estimate
from faceaudit.audit.metrics import METRICS, Metric, ece, present_classes
from faceaudit.audit.scores import rank_correlations, rank_counts
from faceaudit.audit.tally import YearErrors
from faceaudit.audit.tally.bins import (
    AGE_YEARS,
    BLOCKS,
    CALIBRATION_BINS,
    COARSE,
    COARSE_BINS,
    ERROR_BINS,
    calibration_bin,
    error_bin,
    score_bin,
)

RATES = (0.5, 0.8, 0.9, 0.95, 0.99)
CLASSES = (2, 7, 9)
SIZES = (50, 100, 300, 1000, 2000)
UNIT, ALIKE = 4, 0.3
CONFIDENCE = 0.95
TAILS = 6
"""Degrees of freedom: the excess kurtosis 3 is that of the errors in the showcase's table."""
SURE = 1.5
"""Scores are computed from log odds that are so many times too large."""
LEAST = 0.5
"""Scores that know nothing still differ."""
TRUTH_FACES = 400_000
REGISTERED = {metric.name: metric for metric in (*METRICS, *AGE_METRICS)}
Array = NDArray[Any]
Drawn = tuple[str, Metric, Any, Array, Any]
"""Model, metric, counts of many tables, true values, and counts by block of units."""
Draw = tuple[Any, Any]
"""What a metric needs of many tables, and the same by block of units."""


@dataclass
class Held:
    """How the intervals of one metric did in one model."""

    held: list[Array] = field(default_factory=list)
    widths: list[Array] = field(default_factory=list)
    missing: int = 0

    def add(self, low: Array, high: Array, true: Array) -> None:
        defined = ~np.isnan(low)
        self.missing += int((~defined).sum())
        self.held.append(((low <= true + 1e-12) & (true - 1e-12 <= high))[defined])
        self.widths.append((high - low)[defined])

    @property
    def coverage(self) -> float:
        return float(np.concatenate(self.held).mean())

    @property
    def width(self) -> float:
        return float(np.concatenate(self.widths).mean())


def check(
    results: dict[str, Held], name: str, metric: Metric, counts: Any, true: Array, blocks: Any
) -> None:
    """Estimate a metric of many tables and note whether the intervals hold the true values."""
    found = estimate(metric, counts, Options(confidence=CONFIDENCE), blocks=blocks)
    bounds = [
        np.array([np.nan if bound is None else bound for bound in side])
        for side in ([one.low for one in found], [one.high for one in found])
    ]
    defined = np.array([one.value is not None for one in found])
    every = np.broadcast_to(true, (len(found) // np.size(true[0]), *np.shape(true)[1:])).ravel()
    held = results.setdefault(name, Held())
    held.add(bounds[0][defined], bounds[1][defined], every[defined])


def grouped(codes: Array, size: int) -> Array:
    """Counts of codes below ``size`` in every table, (S, size), from (S, N)."""
    tables = len(codes)
    flat = (codes + np.arange(tables)[:, None] * size).ravel()
    return np.bincount(flat, minlength=tables * size).reshape(tables, size)


def in_blocks(generator: Generator, tables: int, faces: int) -> Array:
    """Block of every face, whose units have ``UNIT`` faces each, (S, N)."""
    return np.repeat(generator.integers(0, BLOCKS, (tables, faces // UNIT)), UNIT, axis=1)


# --- classes and groups -----------------------------------------------------------------------

ON_CLASSES = [metric for metric in REGISTERED.values() if metric.needs in {"classes", "groups"}]


@cache
def cells(classes: int, rate: float) -> Array:
    """True shares of annotated (rows) and predicted (columns) classes, (K, K)."""
    common = np.linspace(1, 3, classes)[np.argsort(np.arange(classes) * 5 % classes)]
    odds = rate / (1 - rate) * np.exp(np.linspace(-0.5, 0.5, classes))
    recalls = odds / (1 + odds)
    apart = np.abs(np.arange(classes)[:, None] - np.arange(classes))
    wrong = np.where(apart > 0, 0.5**apart, 0)
    wrong *= ((1 - recalls) / wrong.sum(axis=1))[:, None]
    return (common / common.sum())[:, None] * (wrong + np.diag(recalls))


def confusions(generator: Generator, tables: int, faces: int, shares: Array, units: bool) -> Draw:
    """Confusions of many tables, (S, K, K), and by block."""
    classes = len(shares)
    if not units:
        return generator.multinomial(faces, shares.ravel(), tables).reshape(
            -1, classes, classes
        ), None
    persons = faces // UNIT
    true = generator.choice(classes, (tables, persons), p=shares.sum(axis=1))
    rate = (np.diagonal(shares) / shares.sum(axis=1))[true] * (1 / ALIKE - 1)
    chance = generator.beta(rate, 1 / ALIKE - 1 - rate)
    true, chance = (np.repeat(part, UNIT, axis=1) for part in (true, chance))
    wrong = shares * (1 - np.eye(classes))
    upto = (wrong / wrong.sum(axis=1, keepdims=True)).cumsum(axis=1)
    other = (generator.random(true.shape)[..., None] > upto[true]).sum(axis=-1)
    pred = np.where(generator.random(true.shape) < chance, true, np.minimum(other, classes - 1))
    code = true * classes + pred
    block = in_blocks(generator, tables, faces)
    blocks = grouped(block * classes**2 + code, BLOCKS * classes**2)
    blocks = blocks.reshape(tables, BLOCKS, classes, classes)
    return blocks.sum(axis=1), blocks


def class_truth(metric: Metric, shares: Array, counts: Array) -> Array:
    """True values, one per table and class; means over classes as each table has them."""
    if not metric.mean_of:
        return np.asarray(metric.function(shares))[None]
    single = np.asarray(REGISTERED[metric.mean_of].function(shares))
    present = counts.sum(axis=-1) > 0 if metric.mean_of == "recall" else present_classes(counts)
    return np.asarray((single * present).sum(axis=-1) / present.sum(axis=-1))


def simulate_classes(
    wanted: Set[str],
    generator: Generator,
    tables: int,
    faces: int,
    rate: float,
    units: bool,
) -> Iterator[Drawn]:
    """Figures of classes and age groups: model, metric, counts, true values, blocks."""
    for classes in CLASSES:
        shares = cells(classes, rate)
        counts, blocks = confusions(generator, tables, faces, shares, units)
        for metric in ON_CLASSES:
            if classes == 2 and metric.needs == "groups":
                continue  # two groups are always neighbors
            yield f"{classes}", metric, counts, class_truth(metric, shares, counts), blocks


# --- scores -----------------------------------------------------------------------------------

ON_SCORES = [metric for metric in REGISTERED.values() if metric.needs == "scores"]
ON_LOSSES = [metric for metric in REGISTERED.values() if metric.needs == "losses"]


def scored(
    generator: Generator, tables: int, faces: int, classes: int, lead: float, units: bool
) -> tuple[Array, Array]:
    """Annotated classes (S, N) and scores (S, N, K)."""
    common = cells(classes, 0.5).sum(axis=1)
    size = UNIT if units else 1
    true = np.repeat(generator.choice(classes, (tables, faces // size), p=common), size, axis=1)
    noise = generator.normal(size=(tables, faces, classes))
    if units:
        shared = generator.normal(size=(tables, faces // size, classes))
        noise = np.sqrt(1 - ALIKE) * noise + np.sqrt(ALIKE) * np.repeat(shared, size, axis=1)
    odds = SURE * max(lead, LEAST) * (noise + lead * np.eye(classes)[true])
    odds -= odds.max(axis=-1, keepdims=True)
    scores = np.exp(odds)
    return true, scores / scores.sum(axis=-1, keepdims=True)


@cache
def lead_for(classes: int, rate: float) -> float:
    """How far the annotated class leads, so that it scores highest with the given rate."""
    noise = np.random.default_rng(0).normal(size=(100_000, classes))
    ahead = np.sort(noise[:, 1:].max(axis=1) - noise[:, 0])
    return float(np.quantile(ahead, rate))


@cache
def score_truth(classes: int, rate: float) -> dict[str, Array]:
    """True figures, from a very large table."""
    generator = np.random.default_rng(classes)
    lead = lead_for(classes, rate)
    true, scores = scored(generator, 1, TRUTH_FACES, classes, lead, False)
    counts = ScoreCounts([rank_counts(true[0], scores[0])])
    found = {metric.name: np.asarray(counts.apply(metric.function)) for metric in ON_SCORES}
    losses = losses_of(true, scores).sum(axis=1)
    found |= {metric.name: np.asarray(metric.function(losses)) for metric in ON_LOSSES}
    found["ece"] = np.asarray(ece(calibration_of(true, scores, None)[0]))
    return found


def losses_of(true: Array, scores: Array) -> Array:
    """What is summed up of every face, (S, N, 5)."""
    own = np.take_along_axis(scores, true[..., None], axis=-1)[..., 0]
    loss = -np.log(np.maximum(own, np.finfo(float).tiny))
    squared = (np.square(scores).sum(axis=-1) - own**2 + (1 - own) ** 2) / 2
    return np.stack([np.ones_like(own), loss, loss**2, squared, squared**2], axis=-1)


def calibration_of(true: Array, scores: Array, block: Array | None) -> Draw:
    """Faces, confidence and right predictions by bin, (S, bins, 3), and by block."""
    sure = scores.max(axis=-1)
    right = scores.argmax(axis=-1) == true
    sums = np.stack([np.ones_like(sure), sure, right], axis=-1)
    place = calibration_bin(sure)
    if block is None:
        return added(sums, place, CALIBRATION_BINS), None
    blocks = added(sums, block * CALIBRATION_BINS + place, BLOCKS * CALIBRATION_BINS)
    blocks = blocks.reshape(len(true), BLOCKS, CALIBRATION_BINS, 3)
    return blocks.sum(axis=1), blocks


def added(values: Array, places: Array, size: int) -> Array:
    """Sums of values by place in every table, (S, size, V), from (S, N, V) and (S, N)."""
    tables, _, width = values.shape
    flat = (places + np.arange(tables)[:, None] * size).ravel()
    columns = [
        np.bincount(flat, values[..., at].ravel(), minlength=tables * size) for at in range(width)
    ]
    return np.stack(columns, axis=-1).reshape(tables, size, width)


def coarse_scores(true: Array, scores: Array, block: Array) -> Array:
    """Histograms of one table by block, (BLOCKS, K, 2, COARSE_BINS)."""
    classes = scores.shape[-1]
    per_class = []
    for k in range(classes):
        code = (block * 2 + (true == k)) * COARSE_BINS + score_bin(scores[:, k]) // COARSE
        found = np.bincount(code, minlength=BLOCKS * 2 * COARSE_BINS)
        per_class.append(found.reshape(BLOCKS, 2, COARSE_BINS))
    return np.stack(per_class, axis=1)


def simulate_scores(
    wanted: Set[str],
    generator: Generator,
    tables: int,
    faces: int,
    rate: float,
    units: bool,
) -> Iterator[Drawn]:
    """Figures of scores, from rows and, where they differ, as from a tally without rows."""
    for classes in CLASSES:
        lead, truth = lead_for(classes, rate), score_truth(classes, rate)
        true, scores = scored(generator, tables, faces, classes, lead, units)
        block = in_blocks(generator, tables, faces) if units else None
        losses = losses_of(true, scores)
        blocks = None if block is None else added(losses, block, BLOCKS)
        for metric in ON_LOSSES:
            yield f"{classes}", metric, losses.sum(axis=1), truth[metric.name], blocks
        counts, blocks = calibration_of(true, scores, block)
        yield f"{classes}", REGISTERED["ece"], counts, truth["ece"][None], blocks
        if wanted.isdisjoint(metric.name for metric in ON_SCORES):
            continue
        each = [rank_counts(*table) for table in zip(true, scores, strict=True)]
        together = [rank_correlations(*table) for table in zip(true, scores, strict=True)]
        rows = ScoreCounts(
            each, {name: np.stack([one[name] for one in together]) for name in together[0]}
        )
        coarse = None
        if block is not None:
            coarse = [coarse_scores(*table) for table in zip(true, scores, block, strict=True)]
        for metric in ON_SCORES:
            # Means over classes as each table has them; the classes rank alike but for prevalence.
            if metric.mean_of and any(not (one[:, 1].sum(axis=-1) > 0).all() for one in each):
                single = truth[metric.mean_of][0]
                has = np.array([one[:, 1].sum(axis=-1) > 0 for one in each])
                expected = (single * has).sum(axis=-1) / has.sum(axis=-1)
            else:
                expected = truth[metric.name]
            yield f"{classes}", metric, rows, expected, coarse
            if metric.mean_of:
                yield f"{classes} tally", metric, ScoreCounts(each), expected, coarse


# --- years ------------------------------------------------------------------------------------

ON_YEARS = [metric for metric in REGISTERED.values() if metric.needs == "years"]
ON_AGES = [metric for metric in REGISTERED.values() if metric.needs == "ages"]
BIAS = 0.1
"""Mean error in standard deviations."""


def raw_errors(generator: Generator, tables: int, faces: int, units: bool) -> Array:
    """Errors in standard deviations, (S, N)."""
    scale = np.sqrt((TAILS - 2) / TAILS)
    errors = generator.standard_t(TAILS, (tables, faces)) * scale
    if units:
        shared = generator.standard_t(TAILS, (tables, faces // UNIT)) * scale
        shared = np.repeat(shared, UNIT, axis=1)
        errors = np.sqrt(1 - ALIKE) * errors + np.sqrt(ALIKE) * shared
    return errors + BIAS


@cache
def years_for(rate: float, units: bool) -> tuple[float, dict[str, Array]]:
    """Years of a standard deviation, and the true figures, from a very large table."""
    errors = raw_errors(np.random.default_rng(1), 1, 8 * TRUTH_FACES, units)
    years = float(5 / np.quantile(np.abs(errors), rate))
    counts = year_errors(errors * years)
    return years, {metric.name: np.asarray(metric.function(counts)) for metric in ON_YEARS}


def year_errors(errors: Array) -> YearErrors:
    """Errors of many tables, as the tally keeps them."""
    powers = [errors, np.abs(errors), errors**2, errors**4]
    return YearErrors(
        grouped(error_bin(errors), ERROR_BINS),
        np.stack([power.sum(axis=1) for power in powers], axis=-1),
    )


def simulate_years(
    wanted: Set[str],
    generator: Generator,
    tables: int,
    faces: int,
    rate: float,
    units: bool,
) -> Iterator[Drawn]:
    """Figures of years, and of age checks."""
    years, truth = years_for(rate, units)
    errors = raw_errors(generator, tables, faces, units) * years
    counts, blocks = year_errors(errors), None
    if units:
        block = in_blocks(generator, tables, faces)
        apart = grouped(block * ERROR_BINS + error_bin(errors), BLOCKS * ERROR_BINS)
        powers = np.stack([errors, np.abs(errors), errors**2, errors**4], axis=-1)
        blocks = [
            YearErrors(one, sums)
            for one, sums in zip(
                apart.reshape(tables, BLOCKS, ERROR_BINS),
                added(powers, block, BLOCKS),
                strict=True,
            )
        ]
    for metric in ON_YEARS:
        yield "", metric, counts, truth[metric.name], blocks
    if units:
        return  # shares as CS@5 is one; their counts by block are large
    right = generator.binomial(faces, rate, (2, tables))
    ages = np.zeros((tables, AGE_YEARS, AGE_YEARS), np.int32)
    minor, adult = LEGAL_YEARS - 1, LEGAL_YEARS
    old = CHALLENGE_YEARS
    ages[:, minor, old - 1], ages[:, minor, old] = right[0], faces - right[0]
    ages[:, adult, old], ages[:, adult, old - 1] = right[1], faces - right[1]
    for metric in ON_AGES:
        yield "", metric, ages, np.array([1 - rate]), None


# --- runs and tables --------------------------------------------------------------------------

Simulation = Callable[
    [Set[str], Generator, int, int, float, bool],
    Iterator[Drawn],
]
SIMULATIONS: dict[str, tuple[Simulation, int]] = {
    "classes": (simulate_classes, 1),
    "years": (simulate_years, 1),
    "scores": (simulate_scores, 5),
}
"""What is simulated, and how many times fewer tables than elsewhere: scores take longest."""
CHUNK = 100


def simulate(
    wanted: Set[str], tables: int, faces: int, units: bool, naive: bool
) -> dict[str, dict[tuple[str, float], Held]]:
    """Metric -> model -> how its intervals did."""
    found: dict[str, dict[tuple[str, float], Held]] = {}
    for simulation, fewer in SIMULATIONS.values():
        for rate in RATES:
            drawn = faces // UNIT * UNIT if units else faces
            generator = np.random.default_rng([faces, int(rate * 100), units])
            results: dict[str, dict[str, Held]] = {}
            for _ in range(max(tables // fewer // CHUNK, 1)):
                every = simulation(wanted, generator, CHUNK, drawn, rate, units)
                for model, metric, counts, true, blocks in every:
                    if metric.name not in wanted:
                        continue
                    name = f"{metric.name} ({model.split()[1]})" if " " in model else metric.name
                    one = results.setdefault(name, {})
                    check(one, model, metric, counts, true, None if naive else blocks)
            for name, models in results.items():
                for model, held in models.items():
                    found.setdefault(name, {})[model, rate] = held
    return found


def show(title: str, sizes: Sequence[int], every: Sequence[dict[str, Any]]) -> None:
    """One table: metrics down, sizes across."""
    print(f"\n{title}\n")
    heads = " | ".join(f"n = {size:,}" for size in sizes)
    print(f"| metric | {heads} |\n| --- |{' --- |' * len(sizes)}")
    for name in dict.fromkeys(name for found in every for name in found):
        parts = []
        for found in every:
            held = [one for one in found[name].values() if any(map(len, one.held))]
            if not held:
                parts.append("no interval")
                continue
            covered = [one.coverage for one in held]
            width = np.mean([one.width for one in held])
            parts.append(f"{np.mean(covered):.1%} ({min(covered):.1%}) {width:.3g}")
        print(f"| {name} | {' | '.join(parts)} |")


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("metrics", nargs="*", metavar="METRIC", help="names; default: all")
    parser.add_argument("--full", action="store_true", help="2,000 tables per model, not 500")
    parser.add_argument("--tables", type=int, help="tables per model")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--units", choices=("no", "yes", "naive"), help="only this; default: all")
    given = parser.parse_args()
    tables = given.tables or (2000 if given.full else 500)
    wanted = frozenset(given.metrics or REGISTERED)
    start = time.perf_counter()
    for units, title in (
        ("no", "Independent faces"),
        ("yes", f"Units of {UNIT} faces, intra-class correlation {ALIKE}, with --unit"),
        ("naive", "The same units, taken as independent faces"),
    ):
        if given.units in (None, units):
            every = [
                simulate(wanted, tables, size, units != "no", units == "naive")
                for size in given.sizes
            ]
            cells_of = "mean coverage over models (lowest), mean width"
            show(f"{title}: {cells_of}; {tables:,} tables per model", given.sizes, every)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
