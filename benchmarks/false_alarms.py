"""How often equal subgroups are called different: ``python -m benchmarks.false_alarms [--quick]``.

Tables of subgroups that are truly equal are simulated (``equal_subgroups``) and put through the
very code of the audit: a false alarm is a table in which any pair, or any subgroup and the rest, is
shown to differ. Then the permutation test, and faces that belong to units. A part alone is printed
by its name: ``metrics``, ``permutation``, ``years``, ``units`` or ``many``. ``--quick`` takes a
twentieth of the simulations, and ``--tables`` so many.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.equal_subgroups import Errors, Faces, chunks
from benchmarks.known_tables import LEANS, cells
from faceaudit.audit.age import AGE_METRICS
from faceaudit.audit.bounds import bounds_of, figures
from faceaudit.audit.clusters import degrees_for, spread_over_blocks, told_by_units
from faceaudit.audit.metrics import METRICS, Metric
from faceaudit.audit.permutation import (
    bins_of,
    deal,
    furthest_test,
    joined,
    means_of_bins,
    of_years,
)
from faceaudit.audit.simultaneous import (
    Figures,
    Pairs,
    critical_of,
    critical_of_pairs,
    every_pair,
    with_rests,
)
from faceaudit.audit.tally import BLOCKS, YearErrors

SIMULATIONS = 5_000
DRAWS = 199
"""Of each permutation test; the audit takes 2,000."""
CONFIDENCE = 0.95
GROUPS = 7
"""Age groups, where errors lean to one side."""
UNIT, ALIKE = 4, 0.3
"""Faces of a unit, and how alike they err."""
SIMULATED = {metric.name: metric for metric in (*METRICS, *AGE_METRICS)}
COMPARED = {name: metric for name, metric in SIMULATED.items() if metric.incomparable is None}
"""Metrics of which differences are claimed."""
ON_FACES = ("classes", "groups", "losses", "scores", "calibration")
SAME = {"macro_recall": "balanced_accuracy"}
"""Metrics that are another by name."""
ON_MIX = {"f1", "macro_f1", "precision", "macro_precision", "selection_rate"}
ON_MIX |= {"average_precision", "macro_average_precision"}
"""Metrics that truly differ between subgroups with other mixes of classes."""
OTHER_SPREADS = {
    "gamma(0.8)": Errors.gamma(0.8),
    "gamma(4)": Errors.gamma(4),
    "lognormal(0.8)": Errors.lognormal(0.8),
}
"""Errors in years of other shapes than the usual gamma(1.3): wider, narrower and longer-tailed."""
Counts = NDArray[np.int64]
Values = NDArray[np.float64]
Alarms = NDArray[np.bool_]


@dataclass(frozen=True)
class Setting:
    """Subgroups: their sizes and mixes of classes, and how well all of them are recognized."""

    sizes: tuple[int, ...]
    rate: float = 0.8
    classes: int = 2
    mixed: bool = False
    """Whether the share of the first class goes from .2 to .8 over the subgroups."""

    def __str__(self) -> str:
        faces = " ".join(f"{n:,}" for n in self.sizes)
        mixed = ", mixes .2 to .8" if self.mixed else ""
        return f"{faces}; {self.classes} classes, rate {self.rate:g}{mixed}"

    @property
    def mixes(self) -> Values:
        """Shares of the classes, (S, K)."""
        size, classes = len(self.sizes), self.classes
        first = np.linspace(0.2, 0.8, size) if self.mixed else np.full(size, 1 / classes)
        others = np.repeat((1 - first)[:, None] / (classes - 1), classes - 1, axis=1)
        return np.concatenate([first[:, None], others], axis=1)


SPREAD = (30, 95, 300, 949, 3000)
SETTINGS = [
    Setting((30, 3000)),
    Setting((300, 300), 0.95),
    Setting((300, 300, 300), 0.5),
    Setting((30, 30, 300, 3000), 0.95, mixed=True),
    Setting((3000, 30, 30, 30, 30)),
    Setting((30, 3000, 3000, 3000, 3000), 0.99),
    Setting(SPREAD, mixed=True),
    Setting((300, 300, 300, 300, 300), 0.95),
    Setting((300, 300, 300, 300, 300), 0.8, 5),
    Setting(SPREAD, 0.95, 5),
    Setting((100,) * 9, 0.9),
]


@dataclass(frozen=True)
class Row:
    """Shares of false alarms of one metric in one setting; None is not simulated."""

    metric: str
    setting: str
    pairs: float
    rests: float | None = None


def figures_of(metric: Metric, counts: Any, told: Values | None = None) -> Figures:
    """Figures of a metric with the intervals of the audit; of the first class where per class."""
    values, faces = figures(metric.function, counts), figures(metric.faces, counts)
    low, high = bounds_of(metric, counts, np.ones(values.shape) if told is None else told, 0.95)
    if metric.per_class:
        values, low, high, faces = (part[..., 0] for part in (values, low, high, faces))
    # As in the audit: a point is no interval.
    low, high = (np.where(high > low, bound, np.nan) for bound in (low, high))
    degrees = np.maximum(faces - 1.0, 1)
    return Figures.of_bounds(metric, values, low, high, 0.95, degrees)


def together(own: Figures, others: Figures) -> Figures:
    """Figures of subgroups, and after them those of their rests."""
    parts = ("values", "told", "below", "above", "degrees")
    both = {name: np.concatenate([getattr(own, name), getattr(others, name)]) for name in parts}
    return replace(own, **both)


def pair_alarms(found: Figures, size: int, confidence: float = CONFIDENCE) -> Alarms:
    """In which tables any pair is shown to differ; the figures are those of many tables."""
    first, second = every_pair(size)
    start = (np.arange(len(found.values) // size) * size)[:, None]
    pairs = Pairs(found, (start + first).ravel(), (start + second).ravel())
    return any_shown(pairs, critical_of_pairs(size, confidence), len(first))


def rest_alarms(own: Figures, others: Figures, size: int) -> Alarms:
    """In which tables any subgroup is shown to differ from all others."""
    every = np.arange(len(own.values))
    pairs = Pairs(together(own, others), every, every + len(every))
    return any_shown(pairs, critical_of(size, CONFIDENCE), size)


def any_shown(pairs: Pairs, critical: float, family: int) -> Alarms:
    """In which tables any of as many differences each leaves out zero."""
    low, high = pairs.bounds(critical)
    return np.asarray(((low > 0) | (high < 0)).reshape(-1, family).any(axis=1))


def face_alarms(
    generator: np.random.Generator, setting: Setting, simulations: int
) -> Iterator[Row]:
    """Every metric of classes, groups, losses and scores in one setting."""
    pool, size = Faces.of(setting.classes, setting.rate), len(setting.sizes)
    found: dict[str, list[tuple[Alarms, Alarms]]] = {}
    for tables in chunks(simulations):
        drawn = pool.draw(generator, tables, np.array(setting.sizes), setting.mixes)
        others = (drawn.sum(axis=1, keepdims=True) - drawn).reshape(-1, drawn.shape[-1])
        drawn = drawn.reshape(others.shape)
        for needs in ON_FACES:
            if needs == "groups" and setting.classes == 2:
                continue  # two groups are always neighbors
            own, rest = pool.counts(needs, drawn), pool.counts(needs, others)
            for metric in SIMULATED.values():
                if (
                    metric.needs != needs
                    or metric.name in SAME
                    or (setting.mixed and metric.name in ON_MIX)
                ):
                    continue
                kept = alarms_of(metric, own, rest, size)
                found.setdefault(metric.name, []).append(kept)
    yield from (_row(name, setting, kept) for name, kept in found.items())


def alarms_of(metric: Metric, own: Any, rest: Any, size: int) -> tuple[Alarms, Alarms]:
    """Of the pairs and, where the audit compares with it, of the rest."""
    mine = figures_of(metric, own)
    pairs = pair_alarms(mine, size)
    if metric.per_class or size < 3:
        return pairs, np.zeros(0, np.bool_)
    return pairs, rest_alarms(mine, figures_of(metric, rest), size)


def _row(name: str, setting: object, kept: Sequence[tuple[Alarms, Alarms]]) -> Row:
    pairs, rests = (np.concatenate(part) for part in zip(*kept, strict=True))
    return Row(name, str(setting), float(pairs.mean()), float(rests.mean()) if len(rests) else None)


def year_alarms(
    generator: np.random.Generator, setting: Setting, simulations: int
) -> Iterator[Row]:
    """Every metric of errors in years, which are skewed."""
    pool, size = Errors.gamma(), len(setting.sizes)
    found: dict[str, list[tuple[Alarms, Alarms]]] = {}
    for tables in chunks(simulations):
        drawn = pool.draw(generator, tables, np.array(setting.sizes))
        others = (drawn.sum(axis=1, keepdims=True) - drawn).reshape(-1, drawn.shape[-1])
        own, rest = pool.counts(drawn.reshape(others.shape)), pool.counts(others)
        for metric in COMPARED.values():
            if metric.needs == "years":
                found.setdefault(metric.name, []).append(alarms_of(metric, own, rest, size))
    yield from (_row(name, setting, kept) for name, kept in found.items())


def share_alarms(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """Shares, such as accuracy: more rates and sizes."""
    for size in (2, 5, 9):
        for faces in (
            np.full(size, 30),
            np.full(size, 300),
            np.geomspace(30, 3000, size).astype(np.int64),
            np.array([3000] + [30] * (size - 1)),
        ):
            for rate in (0.5, 0.8, 0.95, 0.99):
                right = generator.binomial(faces, rate, (simulations, size))
                sums = [part.sum(axis=1, keepdims=True) for part in (right, faces[None])]
                own = confusions(right, faces)
                rest = confusions(sums[0] - right, sums[1] - faces)
                kept = alarms_of(COMPARED["accuracy"], own, rest, size)
                yield _row("a share", Setting(tuple(faces.tolist()), rate), [kept])


def step_alarms(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """Mean signed distances in age groups, whether errors lean to one side or not."""
    metric = COMPARED["mean_signed_step"]
    for sizes in (*dict.fromkeys(one.sizes for one in SETTINGS), (50,) * 5):
        for rate, lean in product((0.8, 0.9, 0.95), (1.0, *LEANS)):
            shares = cells(GROUPS, rate, lean).ravel()
            drawn = np.stack(
                [generator.multinomial(faces, shares, simulations) for faces in sizes], axis=1
            )
            others = drawn.sum(axis=1, keepdims=True) - drawn
            own, rest = (part.reshape(-1, GROUPS, GROUPS) for part in (drawn, others))
            kept = alarms_of(metric, own, rest, len(sizes))
            setting = f"{Setting(sizes, rate, GROUPS)}, errors {lean:g} to 1"
            yield _row(metric.name, setting, [kept])


def confusions(right: Counts, faces: Counts) -> Counts:
    """Confusions of one class, (tables x subgroups, 2, 2)."""
    found = np.zeros((right.size, 2, 2), np.int64)
    found[:, 0, 0] = right.ravel()
    found[:, 0, 1] = (np.broadcast_to(faces, right.shape) - right).ravel()
    return found


# --- the permutation test ---------------------------------------------------------------------


def dealt_alarms(
    generator: np.random.Generator, metrics: Sequence[Metric], tables: Counts, at: float = 0.05
) -> Alarms:
    """In which tables the test of any gap gives at most this p value, (metrics, tables).

    Many tables are dealt at once, each as classes of its own.

    Args:
        generator: Random numbers.
        metrics: Metrics of confusions.
        tables: Confusions of subgroups, (tables, S, K, K).
        at: The level.
    """
    count, size, classes, outcomes = tables.shape
    side = np.moveaxis(tables, 0, 1).reshape(size, -1, outcomes)  # (S, tables x K, K)
    dealt = np.concatenate([side[None], deal(side, DRAWS, generator)])
    dealt = dealt.reshape(DRAWS + 1, size, count, classes, outcomes)
    found = []
    for metric in metrics:
        values = np.asarray(metric.function(dealt))
        tests = (furthest_test(values[:, :, number], "") for number in range(count))
        found.append([test.p_value <= at for test in tests])
    return np.array(found)


def permutation_alarms(
    generator: np.random.Generator, setting: Setting, simulations: int
) -> Iterator[Row]:
    """Metrics of classes by the permutation test; also those that depend on the mix."""
    pool = Faces.of(setting.classes, setting.rate)
    names = ("accuracy", "balanced_accuracy", "macro_f1", "macro_precision")
    found = []
    for tables in chunks(simulations):
        drawn = pool.draw(generator, tables, np.array(setting.sizes), setting.mixes)
        counts = pool.counts("classes", drawn.reshape(-1, drawn.shape[-1]))
        counts = counts.reshape(tables, len(setting.sizes), *counts.shape[1:])
        found.append(dealt_alarms(generator, [COMPARED[name] for name in names], counts))
    for name, kept in zip(names, np.concatenate(found, axis=1), strict=True):
        yield Row(name, str(setting), float(kept.mean()))


def permuted_years(
    generator: np.random.Generator, sizes: Sequence[int], pools: Sequence[Errors], simulations: int
) -> Iterator[Row]:
    """Metrics of years by the permutation test, each subgroup with errors of its own pool."""
    names = ("mae", "rmse", "mean_signed_error", "cs_at_5")
    names = names if pools[0] is pools[-1] else ("mae",)
    found: dict[str, list[bool]] = {name: [] for name in names}
    whole = sum(
        n * pool.counts(np.ones((1, len(pool.years)), np.int64)).errors[0]
        for n, pool in zip(sizes, pools, strict=True)
    )
    place = bins_of(whole)
    means = means_of_bins(whole, place)
    for tables in chunks(simulations):
        drawn = [
            pool.counts(pool.draw(generator, tables, np.array([n]))[:, 0]).errors
            for n, pool in zip(sizes, pools, strict=True)
        ]
        side = joined(np.stack(drawn), place)  # (S, tables, bins)
        dealt = np.concatenate([side[None], deal(side, DRAWS, generator)])
        for number, name in [(k, name) for k in range(tables) for name in names]:
            told = of_years(COMPARED[name], dealt[:, :, number], means)
            assert told is not None  # The bins hold these figures.
            found[name].append(furthest_test(told[0], "", told[1]).p_value <= 0.05)
    for name, kept in found.items():
        yield Row(name, " ".join(f"{n:,}" for n in sizes), float(np.mean(kept)))


def all_permuted(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """The permutation test of classes in every setting that is simulated."""
    for setting in (
        Setting(SPREAD, 0.95, mixed=True),
        Setting((300, 300, 300), mixed=True),
        Setting((3000, 30, 30, 30, 30), 0.9, 5, mixed=True),
    ):
        yield from permutation_alarms(generator, setting, simulations)


def all_permuted_years(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """The permutation test of years in every setting that is simulated."""
    usual = Errors.gamma()
    yield from permuted_years(generator, SPREAD, [usual] * 5, simulations)
    for title, errors in OTHER_SPREADS.items():
        other = errors.with_mean(usual.mean)
        for sizes in ((30, 3000), (3000, 30), (3000, 3000), (30, 300, 300)):
            pools = [other, *[usual] * (len(sizes) - 1)]
            for row in permuted_years(generator, sizes, pools, simulations):
                yield replace(row, setting=f"{row.setting}; the first {title}, equal means")


# --- units ------------------------------------------------------------------------------------


def clustered_alarms(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """Units of four faces that err together, respected by ``--unit`` and not."""
    for units, rate in (((100, 100), 0.9), ((50,) * 5, 0.8), ((25, 50, 100, 250, 750), 0.95)):
        setting = Setting(tuple(UNIT * n for n in units), rate)
        kept: dict[str, list[Alarms]] = {}
        for tables in chunks(simulations):
            blocks, years = clustered(generator, tables, units, rate)
            for name in ("accuracy", "balanced_accuracy", "macro_f1"):
                found = block_figures(COMPARED[name], blocks)
                kept.setdefault(f"{name} --unit", []).append(pair_alarms(found, len(units)))
            found = block_figures(COMPARED["mae"], years)
            kept.setdefault("mae --unit", []).append(pair_alarms(found, len(units)))
            plain = figures_of(COMPARED["accuracy"], blocks.sum(axis=0))
            kept.setdefault("accuracy as if independent", []).append(pair_alarms(plain, len(units)))
        for name, alarms in kept.items():
            yield Row(name, str(setting), float(np.concatenate(alarms).mean()))


def clustered(
    generator: np.random.Generator, tables: int, units: Sequence[int], rate: float
) -> tuple[Counts, YearErrors]:
    """Confusions (BLOCKS, tables x S, 2, 2) and errors in years by block of units."""
    size, spread = len(units), 1 / ALIKE - 1
    confusion = np.zeros((BLOCKS, tables, size, 2, 2), np.int64)
    sums = np.zeros((BLOCKS, tables, size, 4))
    at = np.arange(tables)[:, None]
    for k, count in enumerate(units):
        block = generator.integers(0, BLOCKS, (tables, count))
        true = generator.integers(0, 2, (tables, count))
        alike = generator.beta(rate * spread, (1 - rate) * spread, (tables, count))
        right = generator.binomial(UNIT, alike)
        np.add.at(confusion, (block, at, k, true, true), right)
        np.add.at(confusion, (block, at, k, true, 1 - true), UNIT - right)
        # Gamma errors whose part that a unit shares makes them as alike.
        shared = generator.gamma(ALIKE * 1.3, 4.5, (tables, count, 1))
        errors = shared + generator.gamma((1 - ALIKE) * 1.3, 4.5, (tables, count, UNIT))
        for power, place in ((1, 1), (2, 2)):
            np.add.at(sums, (block, at, k, place), (errors**power).sum(axis=-1))
    faces = confusion.sum(axis=(-2, -1), keepdims=True)[..., 0].reshape(BLOCKS, -1, 1)
    return confusion.reshape(BLOCKS, -1, 2, 2), YearErrors(faces, sums.reshape(BLOCKS, -1, 4))


def block_figures(metric: Metric, blocks: Any) -> Figures:
    """Figures from counts by block; the second axis is that of tables and subgroups."""
    total = blocks.map(lambda part: part.sum(axis=0)) if metric.name == "mae" else blocks.sum(0)
    values, faces = figures(metric.function, total), figures(metric.faces, total)
    spread = spread_over_blocks(metric, blocks)
    plain = bounds_of(metric, total, np.ones(len(values)), 0.95)
    told = told_by_units(metric, values, faces, plain, spread, 0.95)
    low, high = bounds_of(metric, total, told, 0.95)
    degrees = degrees_for(metric, spread.blocks - 1, faces / spread.blocks)
    used = np.maximum(np.minimum(degrees, faces - 1), 1)
    return Figures.of_bounds(metric, values, low, high, 0.95, used)


# --- very many subgroups ----------------------------------------------------------------------


def many_alarms(generator: np.random.Generator, simulations: int) -> Iterator[Row]:
    """Sixty subgroups, each against the mean of the others by their faces."""
    size, pool = 60, Errors.gamma()
    for faces in (np.geomspace(30, 3000, size).astype(np.int64), np.full(size, 30)):
        title = f"{size} subgroups of {faces[0]:,} to {faces[-1]:,} faces"
        for rate in (0.8, 0.99):
            kept = []
            for tables in chunks(simulations):
                right = generator.binomial(faces, rate, (tables, size))
                found = figures_of(COMPARED["accuracy"], confusions(right, faces))
                kept.append(mean_alarms(found, faces))
            yield Row("accuracy", f"{title}, rate {rate:g}", float(np.concatenate(kept).mean()))
        kept = []
        for tables in chunks(simulations):
            drawn = pool.draw(generator, tables, np.minimum(faces, 300))
            found = figures_of(COMPARED["mae"], pool.counts(drawn.reshape(-1, drawn.shape[-1])))
            kept.append(mean_alarms(found, np.minimum(faces, 300)))
        yield Row("mae", f"{title}, at most 300", float(np.concatenate(kept).mean()))


def mean_alarms(found: Figures, faces: Counts) -> Alarms:
    """In which tables any subgroup is shown to differ from the mean of the others."""
    size = len(faces)
    alarms = []
    for start in range(0, len(found.values), size):
        both = with_rests(found.at(np.arange(start, start + size)), faces.astype(np.float64))
        pairs = Pairs(both, np.arange(size), np.arange(size, 2 * size))
        alarms.append(any_shown(pairs, critical_of(size, CONFIDENCE), size)[0])
    return np.array(alarms)


# --- printing ---------------------------------------------------------------------------------


def shown(share: float | None) -> str:
    """A share in percent, empty where there is none."""
    return f"{'':>6}" if share is None or np.isnan(share) else f"{100 * share:5.1f}%"


def print_metrics(rows: Sequence[Row], *, rests: bool = True) -> None:
    """Of every metric the mean and the highest share over settings, and which setting that is."""
    heads = f"{'pairs':>13} {'versus rest':>13}" if rests else f"{'mean, highest':>13}"
    print(f"{'metric':<24} {heads}  highest in")
    for name in dict.fromkeys(row.metric for row in rows):
        mine = [row for row in rows if row.metric == name]
        against = [row.rests for row in mine if row.rests is not None]
        worst = max(mine, key=lambda row: max(row.pairs, row.rests or 0))
        pairs = [row.pairs for row in mine]
        shares = [_both(pairs), *([_both(against) if against else " " * 13] if rests else [])]
        told = name if name in COMPARED or name not in SIMULATED else f"({name})"
        print(f"{told:<24} {' '.join(shares)}  {worst.setting}", flush=True)


def _both(shares: Sequence[float]) -> str:
    return f"{shown(float(np.mean(shares)))} {shown(max(shares))}"


def print_settings(title: str, rows: Iterable[Row]) -> None:
    """Every row."""
    print(f"\n{title}")
    for row in rows:
        print(f"{row.metric:<26} {shown(row.pairs)}  {row.setting}", flush=True)


def metrics(simulations: int) -> None:
    """Pairs and rests of every metric."""
    generator = np.random.default_rng(0)
    print("mean and highest over settings; the setting: faces of the subgroups, and their classes;")
    print("in brackets what is not compared, as it would be")
    rows = list(share_alarms(generator, simulations))
    for setting in SETTINGS:
        rows += face_alarms(generator, setting, simulations)
        if setting.rate == 0.8 or not setting.mixed:
            rows += year_alarms(generator, setting, simulations)
    rows += step_alarms(generator, simulations)
    print_metrics(rows)


def permutation(simulations: int) -> None:
    """The permutation test."""
    rows = all_permuted(np.random.default_rng(1), simulations)
    print_settings("The permutation test of any gap", rows)


def years(simulations: int) -> None:
    """The permutation test of errors in years."""
    rows = all_permuted_years(np.random.default_rng(4), simulations)
    print_settings("The permutation test of any gap in years", rows)


def units(simulations: int) -> None:
    """Faces of units."""
    rows = clustered_alarms(np.random.default_rng(2), simulations)
    print_settings("Units of four faces", rows)


def many(simulations: int) -> None:
    """Very many subgroups."""
    rows = many_alarms(np.random.default_rng(3), simulations)
    print_settings("More than 40 subgroups: each against the mean of the others", rows)


PARTS = {part.__name__: part for part in (metrics, permutation, years, units, many)}


def main() -> None:
    """Print the parts that are asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=PARTS, help="default: all")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the simulations")
    parser.add_argument(
        "--tables", type=int, help=f"simulations a setting; default: {SIMULATIONS:,}"
    )
    given = parser.parse_args()
    simulations = given.tables or (SIMULATIONS // 20 if given.quick else SIMULATIONS)
    print(f"False alarms in {simulations:,} tables of equal subgroups a setting, nominal 5 %")
    for name in [given.part] if given.part else PARTS:
        PARTS[name](simulations)


if __name__ == "__main__":
    main()
