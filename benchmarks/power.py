"""How often true gaps are shown: ``python -m benchmarks.power [PART] [--quick]``.

One subgroup of five differs; counted are the tables in which it is told apart from any other, by
the simultaneous intervals and by the permutation test; then fairlearn's bootstrap interval of
``difference()`` on equal subgroups. At last, how often a gap is shown with the faces that it is
said to need for a chance of 80 %, and the smallest gap with as many faces as there are. A part
alone is printed by its name: ``gaps`` or ``planned``. ``--quick`` takes a twentieth of the
simulations.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.equal_subgroups import Errors
from benchmarks.false_alarms import (
    COMPARED,
    CONFIDENCE,
    SIMULATIONS,
    Alarms,
    any_shown,
    confusions,
    dealt_alarms,
    figures_of,
    pair_alarms,
    shown,
)
from faceaudit.audit.metrics import Metric
from faceaudit.audit.power import GAPS, n_needed, smallest_detectable
from faceaudit.audit.simultaneous import Figures, Pairs, critical_of_pairs
from faceaudit.audit.tally import YearErrors

Planned = list[tuple[str, str, float]]
"""What is asked, what is said of it, and the share of tables in which the gap is shown."""


def power(generator: np.random.Generator, simulations: int) -> Iterator[tuple[str, float, float]]:
    """How often one subgroup of five that is worse by a gap is told apart from any other."""
    for faces in (100, 300, 1000, 3000):
        for gap in (0.02, 0.05, 0.1):
            rates = np.array([0.9 - gap, 0.9, 0.9, 0.9, 0.9])
            right = generator.binomial(faces, rates, (simulations, 5))
            found = figures_of(COMPARED["accuracy"], confusions(right, np.full(5, faces)))
            few = right[: max(simulations // 5, 100)]
            counts = confusions(few, np.full(5, faces)).reshape(-1, 5, 2, 2)
            permuted = dealt_alarms(generator, [COMPARED["accuracy"]], counts)
            yield (
                f"accuracy of {faces:,} faces each, one {0.9 - gap:.2f}, four 0.90",
                first_shown(found, 5).mean(),
                permuted.mean(),
            )


def power_of_years(
    generator: np.random.Generator, simulations: int
) -> Iterator[tuple[str, float, float]]:
    """The same of mean absolute errors, of equal sizes and of a small subgroup among large ones."""
    usual = Errors.gamma()
    for sizes in ((100,) * 5, (1000,) * 5, (30, 3000, 3000, 3000, 3000)):
        for gap in (1.0, 2.0, 4.0):
            worse = Errors(usual.years * (1 + gap / usual.mean))
            drawn = (
                (pool, pool.draw(generator, simulations, np.array(part)))
                for pool, part in ((worse, sizes[:1]), (usual, sizes[1:]))
            )
            sums = [
                pool.counts(one.reshape(-1, one.shape[-1])).sums.reshape(simulations, -1, 4)
                for pool, one in drawn
            ]
            faces = np.tile(sizes, simulations)[:, None]
            years = YearErrors(faces, np.concatenate(sums, axis=1).reshape(-1, 4))
            told = first_shown(figures_of(COMPARED["mae"], years), 5).mean()
            named = " ".join(f"{n:,}" for n in sizes)
            yield (
                f"error in years of {named}, the first worse by {gap:g} of {usual.mean:.1f}",
                told,
                np.nan,
            )


def planned(generator: np.random.Generator, simulations: int) -> Iterator[tuple[str, Planned]]:
    """How often accuracies are told apart of the faces needed, and at the smallest gap.

    Both follow from figures that are as they truly are: the faces needed from those of 1,000.
    """
    metric = COMPARED["accuracy"]

    def shown_of(rate: float, other: float, faces: int) -> float:
        right = generator.binomial(faces, [[rate], [other]], (2, simulations))
        return _pair_shown(figures_of(metric, confusions(right, np.array(faces))), critical)

    for size in (2, 9):
        critical = critical_of_pairs(size, CONFIDENCE)
        for rate in (0.5, 0.7, 0.9, 0.95, 0.99, 1.0):
            told = []
            seen, faces = _alike(metric, rate, 1000), np.full(2, 1000.0)
            gaps = GAPS["share"]
            for gap, n in zip(gaps, n_needed(metric, seen, faces, critical, gaps, 30), strict=True):
                told.append((f"{100 * gap:.0f} points", f"{n:,}", shown_of(rate, rate - gap, n)))
            for n in (100, 1000):
                seen, faces = _alike(metric, rate, n), np.full(2, float(n))
                smallest = smallest_detectable(metric, seen, faces, critical)
                assert smallest is not None  # A hundred faces show some gap.
                other = rate - smallest if rate > 0.5 else rate + smallest
                told.append((f"{n:,} faces", f"{100 * smallest:.1f}", shown_of(rate, other, n)))
            yield f"accuracy {rate:.2f}, {size} subgroups", told


def planned_years(
    generator: np.random.Generator, simulations: int
) -> Iterator[tuple[str, Planned]]:
    """The same of mean absolute errors; in the worse subgroup all errors are longer by a factor."""
    metric, usual = COMPARED["mae"], Errors.gamma()
    once = usual.counts(np.ones((2, len(usual.years)), np.int64))
    seen, faces = figures_of(metric, once), np.full(2, float(len(usual.years)))
    for size in (2, 9):
        critical, gaps, told = critical_of_pairs(size, CONFIDENCE), GAPS["years"], []
        for gap, n in zip(gaps, n_needed(metric, seen, faces, critical, gaps, 30), strict=True):
            pools = usual, usual.with_mean(usual.mean + gap)
            drawn = [
                one.counts(one.draw(generator, simulations, np.array([n]))[:, 0]) for one in pools
            ]
            errors, sums = (
                np.concatenate([getattr(one, name) for one in drawn]) for name in ("errors", "sums")
            )
            found = figures_of(metric, YearErrors(errors, sums))
            told.append((f"{gap:g} years", f"{n:,}", _pair_shown(found, critical)))
        yield f"error of {usual.mean:.1f} years, {size} subgroups", told


def _alike(metric: Metric, rate: float, faces: int) -> Figures:
    """Two subgroups at the same rate."""
    return figures_of(metric, confusions(np.full(2, round(rate * faces)), np.full(2, faces)))


def _pair_shown(found: Figures, critical: float) -> float:
    """In which share of tables two are told apart: the ones of all tables, then the others."""
    first, second = np.arange(len(found.values)).reshape(2, -1)
    return float(any_shown(Pairs(found, first, second), critical, 1).mean())


def first_shown(found: Figures, size: int) -> Alarms:
    """In which tables the first subgroup is shown to differ from any other."""
    start = (np.arange(len(found.values) // size) * size)[:, None]
    pairs = Pairs(
        found,
        np.broadcast_to(start, (len(start), size - 1)).ravel(),
        (start + np.arange(1, size)).ravel(),
    )
    return any_shown(pairs, critical_of_pairs(size, CONFIDENCE), size - 1)


def beside_fairlearn(generator: np.random.Generator, trials: int) -> str:
    """Bootstrap interval of ``difference()`` of fairlearn and ours, on ten equal subgroups."""
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score

    faces = np.linspace(90, 560, 10).astype(np.int64)
    groups = np.repeat(np.arange(10), faces)
    theirs = ours = 0
    start = time.process_time()
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
        found = figures_of(COMPARED["accuracy"], confusions(counted[None], faces))
        ours += bool(pair_alarms(found, 10)[0])
    return (
        f"fairlearn's interval of difference() left out zero in {theirs} of {trials} tables of ten "
        f"equal subgroups, ours showed a pair in {ours} ({time.process_time() - start:.0f} s)"
    )


def main() -> None:
    """Print the shares of tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["gaps", "planned"], help="this part alone")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the simulations")
    given = parser.parse_args()
    simulations = SIMULATIONS // 20 if given.quick else SIMULATIONS
    generator = np.random.default_rng(0)
    if given.part != "planned":
        print(f"Power in {simulations:,} tables: told apart; permutation test of any gap")
        for found in (power, power_of_years):
            for setting, told, permuted in found(generator, simulations):
                print(f"{setting:<72} {shown(told)} {shown(permuted)}", flush=True)
        print("\n" + beside_fairlearn(generator, 5 if given.quick else 20) + "\n")
    if given.part != "gaps":
        print(f"Two told apart in {simulations:,} tables, of 80 %: faces for a gap, smallest gap")
        for planning in (planned, planned_years):
            for number, (setting, parts) in enumerate(planning(generator, simulations)):
                if number == 0:
                    print(" " * 28 + "".join(f"{asked:>16}" for asked, _, _ in parts))
                row = "".join(f"{told:>10}{shown(share)}" for _, told, share in parts)
                print(f"{setting:<28}{row}", flush=True)


if __name__ == "__main__":
    main()
