"""How often intervals hold the true value: ``python -m benchmarks.intervals [--full]``.

Tables of faces are drawn from models whose true figures are known (``known_tables``) and given to
the audit's own ``estimate``, many at a time. Printed per metric and number of faces behind a figure
(those of one class, on average, where it has no others): the share of 95 % intervals that hold the
true value, averaged over rates and in the worst model, and the mean width. The rate of a share is
that of the figure itself; shares nearer to 0 or 1 than the rates are left out, as there nearly
every interval holds. With units, "naive" are the intervals that ignore them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.known_tables import (
    ALIKE,
    BEHIND,
    DRAWS,
    RATES,
    REGISTERED,
    UNIT,
    Array,
    Behind,
    Drawn,
    Draws,
    Wanted,
)
from faceaudit.audit.clusters import UNSEEN
from faceaudit.audit.estimates import Options, estimate

SIZES = (50, 100, 300, 1000, 2000)
CONFIDENCE = 0.95
FULL, QUICK = 1000, 500
FEWER = 2
"""With units, which take longest, so many times fewer tables are drawn."""
NUMBERS = 4_000_000
"""So many faces, or blocks of units, times classes are held in memory at a time, about."""
MOST_CLASSES = 9
SEED = 50
"""Tables of other seeds served to choose constants of the intervals."""


@dataclass
class Held:
    """How the intervals of one metric did in one model at one rate."""

    held: list[Array] = field(default_factory=list)
    widths: list[Array] = field(default_factory=list)
    defined: int = 0

    @property
    def given(self) -> int:
        """How many intervals there are."""
        return sum(map(len, self.held))

    @property
    def coverage(self) -> float:
        return float(np.concatenate(self.held).mean())

    @property
    def width(self) -> float:
        return float(np.concatenate(self.widths).mean())


def held_by_rate(found: Drawn, rate: float, *, naive: bool = False) -> dict[float, Held]:
    """Estimate a metric of many tables; whether intervals hold the true values, by rate.

    Args:
        found: The tables.
        rate: That they were drawn with, for figures that are no shares.
        naive: Whether the intervals ignore units.
    """
    blocks = None if naive else found.blocks
    estimates = estimate(found.metric, found.counts, Options(confidence=CONFIDENCE), blocks=blocks)
    shape = (-1, found.true.shape[-1]) if found.metric.per_class else (-1,)
    values, low, high = (
        np.array([np.nan if one is None else one for one in side], np.float64).reshape(shape)
        for side in zip(*((e.value, e.low, e.high) for e in estimates), strict=True)
    )
    inside = (low <= found.true + 1e-12) & (found.true - 1e-12 <= high)
    rates = np.broadcast_to(own_rates(found, rate), values.shape)
    every = {}
    for one in np.unique(rates[~np.isnan(rates)]):
        given = (rates == one) & ~np.isnan(low)
        defined = int(((rates == one) & ~np.isnan(values)).sum())
        every[float(one)] = Held([inside[given]], [(high - low)[given]], defined)
    return every


def own_rates(found: Drawn, rate: float) -> Array:
    """Of shares the nearest of the rates to the true figure or its complement; NaN beyond them."""
    if found.metric.interval not in UNSEEN:
        return np.full(found.true.shape, rate)
    true = found.true.mean(axis=0, keepdims=True)  # of macro figures it differs by table
    true = np.maximum(true, 1 - true)
    nearest = np.abs(_log_odds(true)[..., None] - _log_odds(np.array(RATES))).argmin(axis=-1)
    return np.where(true <= (1 + max(RATES)) / 2, np.array(RATES)[nearest], np.nan)


def _log_odds(shares: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(shares) - np.log1p(-shares))


Results = dict[str, dict[tuple[str, float], Held]]
"""Metric -> model and rate -> how its intervals did."""


def simulate(
    wanted: Set[str],
    tables: int,
    faces: int,
    *,
    alike: float | None = None,
    naive: bool = False,
) -> Results:
    """Draw tables of every model and estimate the metrics that are wanted.

    Args:
        wanted: Names of metrics.
        tables: How many are drawn of every model.
        faces: In each.
        alike: Intra-class correlation of units; None without units.
        naive: Whether the intervals ignore the units.
    """
    found: Results = {}
    kinds = {(DRAWS[REGISTERED[name].needs], BEHIND.get(name, "all")): None for name in wanted}
    for draws, behind in kinds:
        for rate in RATES:
            for drawn in draw(draws, tables, faces, rate, alike, behind):
                if drawn.metric.name not in wanted or np.isnan(own_rates(drawn, rate)).all():
                    continue
                source = f" ({drawn.source})" if drawn.source else ""
                models = found.setdefault(drawn.metric.name + source, {})
                for one, more in held_by_rate(drawn, rate, naive=naive).items():
                    held = models.setdefault((drawn.model, one), Held())
                    held.held += more.held
                    held.widths += more.widths
                    held.defined += more.defined
    order = list(REGISTERED)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0].split()[0])))


def draw(
    draws: Draws, tables: int, faces: int, rate: float, alike: float | None, behind: Behind
) -> Iterable[Drawn]:
    """Tables of one rate, as many at a time as fit in memory."""
    units = alike is not None
    generator = np.random.default_rng([SEED, faces, int(rate * 100), units])
    faces = faces // UNIT * UNIT if units else faces
    most = faces * (MOST_CLASSES if behind == "class" else 1)
    room = NUMBERS // (MOST_CLASSES * max(most, 12_000 if units else 2_000))
    chunk = max(min(room, tables), 1)
    for start in range(0, tables, chunk):
        wanted = Wanted(min(chunk, tables - start), faces, rate, alike, behind)
        yield from draws(generator, wanted)


def show(title: str, sizes: Sequence[int], every: Sequence[Results]) -> None:
    """One table: metrics down, sizes across."""
    print(f"\n{title}\n")
    heads = " | ".join(f"n = {size:,}" for size in sizes)
    print(f"| metric | {heads} |\n| --- |{' --- |' * len(sizes)}")
    for name in every[0]:
        print(f"| {name} | {' | '.join(cell(found[name]) for found in every)} |")


def cell(models: Mapping[tuple[str, float], Held]) -> str:
    """Mean coverage over rates, the lowest of a model, mean width, and how many had no interval."""
    held = [one for one in models.values() if one.given]
    if not held:
        return "no interval"
    lowest = min(one.coverage for one in held)
    width = np.mean([one.width for one in held])
    text = f"{mean_coverage(models):.1%} ({lowest:.1%}) {width:.3g}"
    without = 1 - sum(one.given for one in held) / sum(one.defined for one in held)
    return f"{text}; {without:.0%} without" if without >= 0.005 else text


def mean_coverage(models: Mapping[tuple[str, float], Held]) -> float:
    """Coverage averaged over rates, of each the mean over models that give intervals."""
    each: dict[float, list[float]] = {}
    for (_, rate), held in models.items():
        if held.given:
            each.setdefault(rate, []).append(held.coverage)
    return float(np.mean([np.mean(one) for one in each.values()]))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("metrics", nargs="*", metavar="METRIC", help="names; default: all")
    parser.add_argument("--full", action="store_true", help=f"{FULL:,} tables per model")
    parser.add_argument("--tables", type=int, help=f"tables per model; default: {QUICK}")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--units", choices=("no", "yes", "naive"), help="only this; default: all")
    parser.add_argument("--alike", type=float, default=ALIKE, help="intra-class correlation")
    given = parser.parse_args()
    tables = given.tables or (FULL if given.full else QUICK)
    wanted = frozenset(given.metrics or REGISTERED)
    start = time.process_time()
    for units, title in (
        ("no", "Independent faces"),
        ("yes", f"Units of {UNIT} faces, intra-class correlation {given.alike:g}, with --unit"),
        ("naive", "The same units, taken as independent faces"),
    ):
        if given.units in (None, units):
            alike = None if units == "no" else given.alike
            kinds: dict[str, Any] = {"alike": alike, "naive": units == "naive"}
            drawn = tables if units == "no" else tables // FEWER
            every = [simulate(wanted, drawn, size, **kinds) for size in given.sizes]
            cells_of = "mean coverage over models (lowest), mean width"
            show(f"{title}: {cells_of}; {drawn:,} tables per model", given.sizes, every)
    print(f"\n{time.process_time() - start:.0f} s of processor time")


if __name__ == "__main__":
    main()
