"""How often true gaps are shown: ``python -m benchmarks.power [--quick]``.

One subgroup of five differs; counted are the tables in which it is told apart from any other, by
the simultaneous intervals and by the permutation test. Then fairlearn's bootstrap interval of
``difference()`` on equal subgroups. ``--quick`` takes a twentieth of the simulations.
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
from faceaudit.audit.simultaneous import Figures, Pairs, critical_of_pairs
from faceaudit.audit.tally import YearErrors


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
    parser.add_argument("--quick", action="store_true", help="a twentieth of the simulations")
    quick = parser.parse_args().quick
    simulations = SIMULATIONS // 20 if quick else SIMULATIONS
    generator = np.random.default_rng(0)
    print(f"Power in {simulations:,} tables: told apart; permutation test of any gap")
    for found in (power, power_of_years):
        for setting, told, permuted in found(generator, simulations):
            print(f"{setting:<72} {shown(told)} {shown(permuted)}", flush=True)
    print("\n" + beside_fairlearn(generator, 5 if quick else 20))


if __name__ == "__main__":
    main()
