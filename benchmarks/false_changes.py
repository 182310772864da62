"""How often equal tables are said to differ: ``python -m benchmarks.false_changes [--quick]``.

Two tables of the same faces whose models are equally good, and two tables of other faces of one
kind, are simulated (``equal_subgroups``) and put through the code of ``faceaudit compare``: a false
alarm is a family (one metric over all subgroups) in which any change is claimed. ``--quick`` takes
a twentieth of the simulations.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.equal_subgroups import CHUNK, Errors, Faces, chunks
from benchmarks.false_alarms import (
    COMPARED,
    CONFIDENCE,
    ON_FACES,
    SIMULATED,
    SIMULATIONS,
    SPREAD,
    Alarms,
    Row,
    Setting,
    confusions,
    figures_of,
    print_metrics,
    print_settings,
    rest_alarms,
)
from faceaudit.audit.changes import Family, judge
from faceaudit.audit.distances import TwoSamples
from faceaudit.audit.metrics import Metric
from faceaudit.audit.paired_shares import mcnemar, tango_interval
from faceaudit.audit.paired_spread import PairedSpread, spread_of_difference
from faceaudit.audit.simultaneous import holm
from faceaudit.audit.tally import BLOCKS, CONFIDENCE_BINS, YearErrors
from faceaudit.audit.tally.bins import COARSE_BINS, score_bin

ALIKE = 0.8
"""Share of a unit's faces that are of the unit's own class, where there are units."""
MIN_N = 30
DRAWS = 199
"""Of permutations of a distribution's classes; the audit takes 2,000."""
ON_BLOCKS = ("balanced_accuracy", "macro_f1", "macro_precision", "log_loss", "brier", "auc")
IN_YEARS = ("mae", "rmse", "mean_signed_error")
STATUSES = (0.96, 0.03, 0.01)
Counts = NDArray[np.int64]
Values = NDArray[np.float64]
PAIRED = [
    Setting(SPREAD, 0.8),
    Setting((100, 100, 100), 0.95),
    Setting((30, 30, 300, 3000), 0.9, 5),
]
DRIFT = [
    Setting(SPREAD, 0.8),
    Setting((30, 3000), 0.95),
    Setting((300, 300, 300, 300, 300), 0.95),
    Setting((30, 30, 300, 3000), 0.9, 5),
]


@dataclass(frozen=True)
class BothModels:
    """Typical faces as two equally good models see them: pools of faces in the same order."""

    sides: tuple[Faces, Faces]

    @classmethod
    def of(cls, classes: int, rate: float) -> BothModels:
        """Faces that either model recognizes at this rate, not the same ones.

        Every pair of scores occurs both ways round, so that no figure differs in truth.
        """
        one = Faces.of(classes, rate)
        # The other model has the scores of another face of the class, or of the same one.
        each = len(one.true) // classes
        turned = np.arange(len(one.true)).reshape(classes, each)
        turned = np.roll(turned, 1, axis=1)
        turned[:, ::2] = np.arange(len(one.true)).reshape(classes, each)[:, ::2]
        other = one.scores[turned.ravel()]
        true = np.concatenate([one.true, one.true])
        return cls(
            (
                Faces(true, np.concatenate([one.scores, other])),
                Faces(true, np.concatenate([other, one.scores])),
            )
        )


def paired_alarms(
    generator: np.random.Generator, setting: Setting, simulations: int
) -> Iterator[Row]:
    """The same faces in both tables: metrics whose spread is found by leaving blocks out."""
    pool = BothModels.of(setting.classes, setting.rate)
    usual = Errors.gamma().years
    years = np.stack([usual, np.roll(usual, 7)])
    years = np.concatenate([years, years[::-1]], axis=1)  # both ways round
    found: dict[str, list[Alarms]] = {name: [] for name in (*ON_BLOCKS, *IN_YEARS)}
    for tables in chunks(simulations, 20):
        faces = np.broadcast_to(setting.sizes, (tables, len(setting.sizes))).ravel()
        table = np.repeat(np.arange(len(faces)), faces)
        block = generator.integers(0, BLOCKS, len(table))
        kind = generator.integers(0, len(pool.sides[0].true), len(table))
        error = years[:, generator.integers(0, years.shape[1], len(table))]
        place = block * len(faces) + table
        shape = (BLOCKS, len(faces))
        for name in ON_BLOCKS:
            sides = [_by_block(name, side, kind, place, shape) for side in pool.sides]
            found[name].append(_claims(COMPARED[name], sides, setting))
        sides = [_years_by_block(one, place, shape) for one in error]
        for name in IN_YEARS:
            found[name].append(_claims(COMPARED[name], sides, setting))
    for name, kept in found.items():
        yield Row(name, str(setting), float(np.concatenate(kept).mean()))


def _summed(place: Counts, weights: Values, shape: tuple[int, int]) -> Values:
    """Sums by block and table, (BLOCKS, N, V), of the faces' weights, (F, V)."""
    size = shape[0] * shape[1]
    columns = [np.bincount(place, column, size) for column in weights.T]
    return np.stack(columns, axis=-1).reshape(*shape, -1)


def _by_block(
    name: str, side: Faces, kind: Counts, place: Counts, shape: tuple[int, int]
) -> tuple[Any, Any]:
    """What a metric needs of many tables, whole and by block."""
    needs, classes = COMPARED[name].needs, side.scores.shape[1]
    if needs == "losses":
        blocks = _summed(place, side.losses[kind], shape)
        return blocks.sum(axis=0), blocks
    if needs == "classes":
        inner = (classes, classes)
        code = side.true * classes + side.scores.argmax(axis=1)
    else:
        inner = (2, COARSE_BINS)
        bins = score_bin(side.scores[:, 0]) // (1024 // COARSE_BINS)
        code = (side.true == 0) * COARSE_BINS + bins
    size = inner[0] * inner[1]
    found = np.bincount(place * size + code[kind], minlength=shape[0] * shape[1] * size)
    blocks = found.reshape(*shape, *inner)
    return blocks.sum(axis=0), blocks


def _years_by_block(error: Values, place: Counts, shape: tuple[int, int]) -> tuple[Any, Any]:
    powers = np.stack([error, np.abs(error), error**2, error**4], axis=-1)
    blocks = YearErrors(
        np.bincount(place, minlength=shape[0] * shape[1]).reshape(*shape, 1),
        _summed(place, powers, shape),
    )
    return blocks.map(lambda part: part.sum(axis=0)), blocks


def _claims(metric: Metric, sides: Sequence[tuple[Any, Any]], setting: Setting) -> Alarms:
    """In which tables any change is claimed."""
    size, several = len(setting.sizes), replace(metric, per_class=True)
    count = len(np.ravel(metric.function(sides[0][0])))
    spread = spread_of_difference(several, sides, count)
    return np.array(
        [_claimed(metric, spread.at(slice(start, start + size))) for start in range(0, count, size)]
    )


def _claimed(metric: Metric, spread: PairedSpread) -> bool:
    family = Family(
        "",
        metric.name,
        ("site",),
        metric.better,
        [({"site": str(k)}, None) for k in range(len(spread.n))],
        spread.n,
        spread.first,
        spread.second,
        spread.p_values,
        spread.bounds,
        "",
    )
    return any(change.claimed for change in judge(family, MIN_N, CONFIDENCE))


def paired_share_alarms(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """Shares of the same faces, by McNemar's test and Tango's interval."""
    for sizes in (SPREAD, (100,) * 5, (30, 3000)):
        faces = np.array(sizes)
        wanted = CONFIDENCE ** (1 / len(sizes))
        for differing in (0.01, 0.05, 0.2):
            rates = [differing / 2, differing / 2, 1 - differing]
            only = generator.multinomial(faces, rates, (simulations, len(faces)))[..., :2]
            first, second = np.moveaxis(only, -1, 0).astype(np.float64)
            low, high = tango_interval(first, second, faces, wanted)
            adjusted = np.array([holm(one) for one in mcnemar(first, second)])
            claimed = (adjusted < 1 - CONFIDENCE) & ((low > 0) | (high < 0))
            setting = f"{Setting(sizes)}; {differing:g} of the faces differ"
            yield Row("a share", setting, float(claimed.any(axis=1).mean()))


def drift_alarms(
    generator: np.random.Generator, setting: Setting, simulations: int
) -> Iterator[Row]:
    """Other faces of the same kind: every metric, the second table with as many faces as the first.

    Holm's adjustment, which a claim must pass as well, is a hair stricter than the limits here.
    """
    pool, errors, size = Faces.of(setting.classes, setting.rate), Errors.gamma(), len(setting.sizes)
    found: dict[str, list[Alarms]] = {}
    sizes = np.array(setting.sizes)
    for tables in chunks(simulations, CHUNK):
        drawn = [pool.draw(generator, tables, sizes, setting.mixes) for _ in range(2)]
        drawn = [side.reshape(-1, side.shape[-1]) for side in drawn]
        years = [errors.draw(generator, tables, sizes) for _ in range(2)]
        years = [side.reshape(-1, side.shape[-1]) for side in years]
        counts = {needs: [pool.counts(needs, side) for side in drawn] for needs in ON_FACES}
        counts["years"] = [errors.counts(side) for side in years]
        for metric in SIMULATED.values():
            if metric.needs in counts and (metric.needs != "groups" or setting.classes > 2):
                first, second = (figures_of(metric, one) for one in counts[metric.needs])
                found.setdefault(metric.name, []).append(rest_alarms(second, first, size))
    for name, kept in found.items():
        yield Row(name, str(setting), float(np.concatenate(kept).mean()))


def drift_of_shares(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """Shares of other faces, also such as failures are, of which there are few."""
    for sizes in (SPREAD, (100,) * 5, (30, 3000)):
        faces = np.array(sizes)
        for rate in (0.5, 0.9, 0.98):
            first, second = (
                figures_of(
                    COMPARED["accuracy"],
                    confusions(generator.binomial(faces, rate, (simulations, len(sizes))), faces),
                )
                for _ in range(2)
            )
            alarms = rest_alarms(second, first, len(sizes))
            yield Row("a share", str(Setting(sizes, rate)), float(alarms.mean()))


def distance_alarms(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """Distributions of statuses and of confidence, over the subgroups of one grouping."""
    pool = Faces.of(2, 0.9)
    place = (pool.scores.max(axis=1) * CONFIDENCE_BINS).astype(np.int64)
    sure = np.bincount(np.minimum(place, CONFIDENCE_BINS - 1), minlength=CONFIDENCE_BINS)
    for name, rates, ordered in (
        ("statuses", np.array(STATUSES), False),
        ("confidence", sure / sure.sum(), True),
    ):
        for sizes in (SPREAD, (100,) * 5):
            sides = generator.multinomial(sizes, rates, (2, simulations, len(sizes)))
            alarms = 0
            for first, second in zip(*sides, strict=True):
                p_values = [
                    TwoSamples(one[None], other[None], DRAWS, generator, ordered).p_value
                    for one, other in zip(first, second, strict=True)
                ]
                alarms += bool((holm(np.array(p_values)) < 1 - CONFIDENCE).any())
            faces = " ".join(f"{n:,}" for n in sizes)
            yield Row(name, faces, alarms / simulations)


UNITS = (
    ((3000, 300), (3000, 300)),
    ((10_000, 1000), (2000, 200)),
    ((2000, 1000), (2000, 20)),
    ((1000, 1000), (20, 20)),
    ((600, 300), (10, 60)),
)
"""Faces of two tables, and how many units they are of; those of a unit are mostly of one class."""


def unit_alarms(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """Distributions of two tables of units of unlike numbers and sizes."""
    for faces, units in UNITS:
        for classes, ordered in ((2, False), (5, False), (50, True)):
            alarms = 0
            for _ in range(simulations):
                sides = [
                    faces_of_units(n, number, classes, generator)
                    for n, number in zip(faces, units, strict=True)
                ]
                test = TwoSamples(sides[0], sides[1], DRAWS, generator, ordered)
                alarms += test.p_value < 1 - CONFIDENCE
            setting = " / ".join(
                f"{n:,} of {number:,}" for n, number in zip(faces, units, strict=True)
            )
            kind = f"{classes} {'bins' if ordered else 'classes'}"
            yield Row(kind, setting, alarms / simulations)


def faces_of_units(
    faces: int, units: int, classes: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Counts by block of units and class, (blocks, classes)."""
    unit = np.arange(faces) % units
    own = generator.integers(0, classes, units)[unit]
    alike = generator.random(faces) < (ALIKE if units < faces else 0)
    values = np.where(alike, own, generator.integers(0, classes, faces))
    counts = np.zeros((BLOCKS, classes), np.int64)
    np.add.at(counts, (generator.integers(0, BLOCKS, units)[unit], values), 1)
    return counts


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the simulations")
    quick = parser.parse_args().quick
    simulations = SIMULATIONS // 20 if quick else SIMULATIONS
    print(f"False alarms in {simulations:,} comparisons a setting, nominal 5 %: any change claimed")
    print("\nThe same faces, two models that are equally good")
    generator = np.random.default_rng(1)
    rows = list(paired_share_alarms(generator, simulations))
    for setting in PAIRED:
        rows += paired_alarms(generator, setting, simulations)
    print_metrics(rows, rests=False)
    print("\nOther faces of the same kind", flush=True)
    generator = np.random.default_rng(2)
    rows = [*drift_of_shares(generator, simulations), *distance_alarms(generator, simulations)]
    for setting in DRIFT:
        rows += drift_alarms(generator, setting, simulations)
    print_metrics(rows, rests=False)
    rows = list(unit_alarms(np.random.default_rng(3), simulations // 5))
    print_settings("Other images of units, faces of how many units on either side", rows)


if __name__ == "__main__":
    main()
