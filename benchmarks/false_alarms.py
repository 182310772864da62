"""How often equal subgroups are called different: ``python -m benchmarks.false_alarms [--quick]``.

Tables of subgroups that are truly equal are simulated and put through the very code of the audit: a
false alarm is a table in which any pair is shown to differ. Then the power for true gaps, and
fairlearn's bootstrap interval of ``difference()`` on tables of the same kind. ``--quick`` takes a
tenth of the simulations.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.age import AGE_METRICS
from faceaudit.audit.bounds import bounds_of
from faceaudit.audit.clusters import spread_over_blocks, told_by_units
from faceaudit.audit.metrics import METRICS, Metric, accuracy
from faceaudit.audit.permutation import deal, furthest_test
from faceaudit.audit.simultaneous import Figures, Pairs, critical_of_pairs, every_pair
from faceaudit.audit.tally import ERROR_BINS, YearErrors

SIMULATIONS = 5_000
DRAWS = 199
"""Of each permutation test; the audit takes 2,000."""
BLOCKS = 256
ACCURACY = next(metric for metric in METRICS if metric.name == "accuracy")
MAE = next(metric for metric in AGE_METRICS if metric.name == "mae")
Counts = NDArray[np.int64]
Values = NDArray[np.float64]

SIZES = {
    "30 each": lambda size: np.full(size, 30),
    "300 each": lambda size: np.full(size, 300),
    "30 to 3,000": lambda size: np.geomspace(30, 3000, size).astype(np.int64),
    "one of 3,000, others 30": lambda size: np.array([3000] + [30] * (size - 1)),
}


@dataclass(frozen=True)
class Row:
    """Shares of false alarms in one setting; None is not simulated."""

    setting: str
    pairs: float
    permutation: float | None
    either: float | None


def alarms(figures: Figures, size: int, confidence: float = 0.95) -> NDArray[np.bool_]:
    """In which tables any pair is shown to differ; the figures are those of many tables."""
    tables = len(figures.values) // size
    first, second = every_pair(size)
    start = (np.arange(tables) * size)[:, None]
    pairs = Pairs(figures, (start + first).ravel(), (start + second).ravel())
    low, high = pairs.bounds(critical_of_pairs(size, confidence))
    return np.asarray(((low > 0) | (high < 0)).reshape(tables, -1).any(axis=1))


def shares(right: Counts, faces: Counts) -> Figures:
    """Figures of accuracies, (tables, subgroups) flattened."""
    confusion = np.zeros((right.size, 2, 2), np.int64)
    confusion[:, 0, 0] = right.ravel()
    confusion[:, 0, 1] = (np.broadcast_to(faces, right.shape) - right).ravel()
    degrees = np.broadcast_to(faces, right.shape).ravel() - 1.0
    return figures_of(ACCURACY, confusion, np.ones(right.size), degrees)


def figures_of(
    metric: Metric, counts: object, told: Values, degrees: Values | None = None
) -> Figures:
    """Figures of a metric with the intervals of the audit."""
    low, high = bounds_of(metric, counts, told, 0.95)
    return Figures.of_bounds(metric, metric.function(counts), low, high, 0.95, degrees)


def tables_of(generator: np.random.Generator, tables: int, faces: Counts, rates: Values) -> Counts:
    """Right and wrong faces by table, subgroup and class, (tables, S, C, 2).

    Args:
        generator: Random numbers.
        tables: How many.
        faces: Faces by subgroup and class, (S, C).
        rates: Shares that are right, by class, (C,).
    """
    right = generator.binomial(faces, rates, (tables, *faces.shape))
    return np.stack([right, faces - right], axis=-1)


def permutation_alarms(
    generator: np.random.Generator, tables: Counts, at: float = 0.05
) -> NDArray[np.bool_]:
    """In which tables the permutation test of any gap gives at most this p value.

    Many tables are dealt at once, each as classes of its own.
    """
    count, size, classes = tables.shape[:3]
    found = np.zeros(count, np.bool_)
    for start in range(0, count, 100):
        part = tables[start : start + 100]
        side = np.moveaxis(part, 0, 1).reshape(size, -1, 2)  # (S, tables x C, 2)
        dealt = np.concatenate([side[None], deal(side, DRAWS, generator)])
        right = dealt[..., 0].reshape(DRAWS + 1, size, -1, classes).sum(axis=-1)
        faces = part.sum(axis=(2, 3)).T  # (S, tables)
        for number in range(len(part)):
            values = right[:, :, number] / faces[:, number]
            found[start + number] = furthest_test(values, "").p_value <= at
    return found


def false_alarms(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """Independent faces: rates, numbers of subgroups, sizes and mixes of classes."""
    for size in (2, 5, 9):
        for name, sizes in SIZES.items():
            for rate in (0.5, 0.8, 0.95, 0.99):
                tables = tables_of(generator, simulations, sizes(size)[:, None], np.array([rate]))
                yield row_of(generator, f"{size} subgroups, {name}, rate {rate}", tables)
    for rates, title in (((0.9, 0.9), "equal"), ((0.98, 0.75), ".98 and .75")):
        for name in ("300 each", "30 to 3,000"):
            sizes = SIZES[name](6)
            own = (sizes * np.array([0.2, 0.8, 0.3, 0.7, 0.4, 0.6])).astype(np.int64)
            faces = np.stack([own, sizes - own], axis=1)
            tables = tables_of(generator, simulations, faces, np.array(rates))
            setting = f"6 subgroups, {name}, mixes of two classes .2 to .8, rates {title}"
            yield row_of(generator, setting, tables, equal=rates[0] == rates[1])


def row_of(
    generator: np.random.Generator, setting: str, tables: Counts, *, equal: bool = True
) -> Row:
    """Alarms of both tests; pairs only where the subgroups' accuracies are truly equal."""
    permuted = permutation_alarms(generator, tables)
    if not equal:
        return Row(setting, np.nan, permuted.mean(), None)
    right, faces = tables[..., 0].sum(axis=-1), tables[0].sum(axis=(1, 2))
    shown = alarms(shares(right, faces), tables.shape[1])
    return Row(setting, shown.mean(), permuted.mean(), (shown | permuted).mean())


def clustered_alarms(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """Units of four faces that err together, respected by ``--unit`` and not."""
    for size, units, rate in ((2, 100, 0.9), (5, 50, 0.8), (5, 250, 0.95), (9, 100, 0.9)):
        alike = 0.3
        first, second = rate * (1 / alike - 1), (1 - rate) * (1 / alike - 1)
        kept, plain = [], []
        for start in range(0, simulations, 50):
            count = min(50, simulations - start) * size
            chance = generator.beta(first, second, (count, units))
            right = generator.binomial(4, chance)
            block = (
                generator.integers(0, BLOCKS, (count, units)) + BLOCKS * np.arange(count)[:, None]
            )
            sums = [
                np.bincount(block.ravel(), part.ravel(), BLOCKS * count).reshape(count, BLOCKS)
                for part in (right, 4 - right)
            ]
            blocks = np.zeros((BLOCKS, count, 2, 2), np.int64)
            blocks[:, :, 0, 0], blocks[:, :, 0, 1] = sums[0].T, sums[1].T
            kept.append(alarms(block_figures(blocks), size))
            total = blocks.sum(axis=0)
            plain.append(alarms(shares(total[:, 0, 0], total.sum(axis=(1, 2))), size))
        name = f"{size} subgroups of {units} units of 4 faces, rate {rate}"
        yield Row(f"{name}, --unit", np.concatenate(kept).mean(), None, None)
        yield Row(f"{name}, taken as independent", np.concatenate(plain).mean(), None, None)


def block_figures(blocks: Counts) -> Figures:
    """Figures of accuracies from counts by block, (BLOCKS, tables x subgroups, 2, 2)."""
    total = blocks.sum(axis=0)
    values, faces = np.asarray(accuracy(total)), total.sum(axis=(1, 2)).astype(np.float64)
    spread = spread_over_blocks(ACCURACY, blocks)
    plain = bounds_of(ACCURACY, total, np.ones(len(total)), 0.95)
    told = told_by_units(ACCURACY, values, faces, plain, spread, 0.95)
    degrees = np.maximum(np.minimum(spread.blocks, faces) - 1, 1)
    return figures_of(ACCURACY, total, told, degrees)


def years_alarms(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """Mean absolute errors in years, which are skewed."""
    for size in (2, 5, 9):
        for name in ("30 each", "300 each", "30 to 3,000"):
            faces = SIZES[name](size)
            sums = np.zeros((simulations, size, 4))
            for number, n in enumerate(faces):
                for start in range(0, simulations, 500):
                    rows = slice(start, min(start + 500, simulations))
                    errors = generator.gamma(1.3, 4.5, (rows.stop - rows.start, n))
                    sums[rows, number, 1] = errors.sum(axis=1)
                    sums[rows, number, 2] = np.square(errors).sum(axis=1)
            counted = np.zeros((simulations * size, ERROR_BINS), np.int64)
            counted[:, 0] = np.tile(faces, simulations)
            years = YearErrors(counted, sums.reshape(-1, 4))
            degrees = np.tile(faces - 1.0, simulations)
            figures = figures_of(MAE, years, np.ones(len(counted)), degrees)
            setting = f"{size} subgroups, {name}, mean absolute error"
            yield Row(setting, alarms(figures, size).mean(), None, None)


def power(generator: np.random.Generator, simulations: int) -> Iterator[tuple[str, float, float]]:
    """How often one subgroup of five that is worse by a gap is told apart from any other."""
    for faces in (100, 300, 1000, 3000):
        for gap in (0.02, 0.05, 0.1):
            rates = np.array([0.9 - gap, 0.9, 0.9, 0.9, 0.9])
            right = generator.binomial(faces, rates, (simulations, 5))
            tables = np.stack([right, faces - right], axis=-1)[:, :, None]
            figures = shares(right, np.full(5, faces))
            pairs = Pairs(figures, *(np.ravel(one) for one in with_first(simulations, 5)))
            low, high = pairs.bounds(critical_of_pairs(5, 0.95))
            shown = ((low > 0) | (high < 0)).reshape(simulations, -1).any(axis=1)
            yield (
                f"5 subgroups of {faces:,}, one at {0.9 - gap:.2f}, others at 0.90",
                shown.mean(),
                permutation_alarms(generator, tables[: max(simulations // 5, 100)]).mean(),
            )


def with_first(tables: int, size: int) -> tuple[Counts, Counts]:
    """Numbers of the first subgroup of every table and of each other one."""
    start = (np.arange(tables) * size)[:, None]
    return np.broadcast_to(start, (tables, size - 1)), start + np.arange(1, size)


def beside_fairlearn(generator: np.random.Generator, trials: int) -> str:
    """Bootstrap interval of ``difference()`` of fairlearn and ours, on ten equal subgroups."""
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score

    faces = np.linspace(90, 560, 10).astype(np.int64)
    groups = np.repeat(np.arange(10), faces)
    theirs = ours = 0
    start = time.perf_counter()
    for trial in range(trials):
        right = generator.random(len(groups)) < 0.8
        frame = MetricFrame(
            metrics=accuracy_score,
            y_true=np.ones(len(groups), np.int64),
            y_pred=right.astype(np.int64),
            sensitive_features=groups,
            n_boot=60,
            ci_quantiles=[0.025, 0.975],
            random_state=trial,
        )
        theirs += frame.difference_ci()[0] > 0
        counted = np.bincount(groups, right, 10).astype(np.int64)
        ours += bool(alarms(shares(counted[None], faces), 10)[0])
    spent = time.perf_counter() - start
    return (
        f"fairlearn's interval of difference() left out zero in {theirs} of {trials} tables of ten "
        f"equal subgroups, ours showed a pair in {ours} ({spent:.0f} s)"
    )


def main() -> None:
    """Print every table."""
    quick = "--quick" in sys.argv
    simulations = SIMULATIONS // 10 if quick else SIMULATIONS
    generator = np.random.default_rng(0)
    print(f"False alarms in {simulations:,} tables of equal subgroups, nominal 5 %")
    print(f"{'setting':<92} {'pairs':>6} {'permuted':>8} {'either':>6}")
    kept: list[Row] = []
    for simulate in (false_alarms, clustered_alarms, years_alarms):
        for row in simulate(generator, simulations):
            kept.append(row)
            figures = f"{shown(row.pairs)} {shown(row.permutation):>8} {shown(row.either)}"
            print(f"{row.setting:<92} {figures}")
    held = [row for row in kept if "as independent" not in row.setting]
    print(
        f"highest: pairs {shown(max(r.pairs for r in held if not np.isnan(r.pairs)))}, permutation "
        f"{shown(max(r.permutation for r in held if r.permutation is not None))}, either "
        f"{shown(max(r.either for r in held if r.either is not None))}"
    )
    print(f"\nPower in {simulations:,} tables: told apart; permutation test of any gap")
    for setting, told, permuted in power(generator, simulations):
        print(f"{setting:<60} {shown(told)} {shown(permuted)}")
    print("\n" + beside_fairlearn(generator, 5 if quick else 20))


def shown(share: float | None) -> str:
    """A share in percent, empty where there is none."""
    return f"{'':>6}" if share is None or np.isnan(share) else f"{100 * share:5.1f}%"


if __name__ == "__main__":
    main()
