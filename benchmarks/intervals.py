"""How often intervals hold the true value: ``python -m benchmarks.intervals [--full]``.

Tables of faces are drawn from models whose true figures are known (``known_tables``) and given to
the audit's own ``estimate``, many at a time. Printed per metric and number of faces (of figures of
one class: of that class, on average): the share of 95 % intervals that hold the true value, on
average over the models and in the worst of them, and the mean width. With units, "naive" are the
intervals that ignore them. Models whose true figure is a share nearer to 0 or 1 than the rates are
left out: there nearly every interval holds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.known_tables import (
    ALIKE,
    DRAWS,
    OF_ONE_CLASS,
    RATES,
    REGISTERED,
    UNIT,
    Array,
    Drawn,
    Draws,
)
from faceaudit.audit.clusters import UNSEEN
from faceaudit.audit.estimates import Options, estimate

SIZES = (50, 100, 300, 1000, 2000)
CONFIDENCE = 0.95
FULL, QUICK = 2000, 500
FEWER = 4
"""With units, which take longest, so many times fewer tables are drawn."""
NUMBERS = 4_000_000
"""So many faces, or blocks of units, times classes are held in memory at a time, about."""
MOST_CLASSES = 9
SEED = 20
"""Tables of other seeds served to choose constants of the intervals."""


@dataclass
class Held:
    """How the intervals of one metric did in one model."""

    held: list[Array] = field(default_factory=list)
    widths: list[Array] = field(default_factory=list)
    defined: int = 0

    def add(self, found: Drawn, *, naive: bool = False) -> None:
        """Estimate a metric of many tables and note whether the intervals hold the true values."""
        blocks = None if naive else found.blocks
        options = Options(confidence=CONFIDENCE)
        estimates = estimate(found.metric, found.counts, options, blocks=blocks)
        shape = (-1, found.true.shape[-1]) if found.metric.per_class else (-1,)
        values, low, high = (
            np.array([np.nan if one is None else one for one in side], np.float64).reshape(shape)
            for side in zip(*((e.value, e.low, e.high) for e in estimates), strict=True)
        )
        inside = (low <= found.true + 1e-12) & (found.true - 1e-12 <= high)
        given = ~np.isnan(low) & within_rates(found)
        self.held.append(inside[given])
        self.widths.append((high - low)[given])
        self.defined += int((~np.isnan(values) & within_rates(found)).sum())

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


def within_rates(found: Drawn) -> Array:
    """Whether true figures are within the rates where they are shares, or round to the highest."""
    if found.metric.interval not in UNSEEN:
        return np.ones_like(found.true, bool)
    return np.asarray(np.minimum(found.true, 1 - found.true) >= (1 - max(RATES)) / 2)


Results = dict[str, dict[tuple[str, float], Held]]
"""Metric -> model and rate -> how its intervals did."""


def simulate(
    wanted: Set[str], tables: int, faces: int, *, units: bool = False, naive: bool = False
) -> Results:
    """Draw tables of every model and estimate the metrics that are wanted."""
    found: Results = {}
    kinds = dict.fromkeys((DRAWS[REGISTERED[name].needs], name in OF_ONE_CLASS) for name in wanted)
    for draws, each in kinds:
        for rate in RATES:
            for drawn in draw(draws, tables, faces, rate, units, each):
                if drawn.metric.name not in wanted or not within_rates(drawn).any():
                    continue
                source = f" ({drawn.source})" if drawn.source else ""
                models = found.setdefault(drawn.metric.name + source, {})
                models.setdefault((drawn.model, rate), Held()).add(drawn, naive=naive)
    order = list(REGISTERED)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0].split()[0])))


def draw(
    draws: Draws, tables: int, faces: int, rate: float, units: bool, each: bool
) -> Iterable[Drawn]:
    """Tables of one rate, as many at a time as fit in memory."""
    generator = np.random.default_rng([SEED, faces, int(rate * 100), units])
    faces = faces // UNIT * UNIT if units else faces
    most = faces * (MOST_CLASSES if each else 1)
    room = NUMBERS // (MOST_CLASSES * max(most, 12_000 if units else 2_000))
    chunk = max(min(room, tables), 1)
    for start in range(0, tables, chunk):
        yield from draws(generator, min(chunk, tables - start), faces, rate, units, each)


def show(title: str, sizes: Sequence[int], every: Sequence[Results]) -> None:
    """One table: metrics down, sizes across."""
    print(f"\n{title}\n")
    heads = " | ".join(f"n = {size:,}" for size in sizes)
    print(f"| metric | {heads} |\n| --- |{' --- |' * len(sizes)}")
    for name in every[0]:
        print(f"| {name} | {' | '.join(cell(found[name].values()) for found in every)} |")


def cell(models: Iterable[Held]) -> str:
    """Mean coverage over models, the lowest, mean width, and how many had no interval."""
    held = [one for one in models if one.given]
    if not held:
        return "no interval"
    covered = [one.coverage for one in held]
    text = f"{np.mean(covered):.1%} ({min(covered):.1%}) {np.mean([one.width for one in held]):.3g}"
    without = 1 - sum(one.given for one in held) / sum(one.defined for one in held)
    return f"{text}; {without:.0%} without" if without >= 0.005 else text


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("metrics", nargs="*", metavar="METRIC", help="names; default: all")
    parser.add_argument("--full", action="store_true", help=f"{FULL:,} tables per model")
    parser.add_argument("--tables", type=int, help=f"tables per model; default: {QUICK}")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--units", choices=("no", "yes", "naive"), help="only this; default: all")
    given = parser.parse_args()
    tables = given.tables or (FULL if given.full else QUICK)
    wanted = frozenset(given.metrics or REGISTERED)
    start = time.process_time()
    for units, title in (
        ("no", "Independent faces"),
        ("yes", f"Units of {UNIT} faces, intra-class correlation {ALIKE}, with --unit"),
        ("naive", "The same units, taken as independent faces"),
    ):
        if given.units in (None, units):
            kinds: dict[str, Any] = {"units": units != "no", "naive": units == "naive"}
            drawn = tables if units == "no" else tables // FEWER
            every = [simulate(wanted, drawn, size, **kinds) for size in given.sizes]
            cells_of = "mean coverage over models (lowest), mean width"
            show(f"{title}: {cells_of}; {drawn:,} tables per model", given.sizes, every)
    print(f"\n{time.process_time() - start:.0f} s of processor time")


if __name__ == "__main__":
    main()
