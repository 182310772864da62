"""How often intervals of gaps, their parts and standardized figures hold the true value.

Run ``python -m benchmarks.gaps``; each line is one pair of simulated groups of faces in nine age
groups, with true accuracies and ages drawn anew.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.decomposition import Pair, Strata, decompose, standardised
from faceaudit.audit.metrics import METRICS
from faceaudit.audit.results import Estimate

ACCURACY = next(metric for metric in METRICS if metric.name == "accuracy")
AGES = tuple(f"age {k}" for k in range(9))
CASES = (
    (50, 400, 0.5, 0.9),
    (100, 1000, 0.5, 0.9),
    (100, 1000, 0.85, 0.99),
    (300, 2000, 0.5, 0.9),
    (300, 2000, 0.9, 0.995),
    (1000, 4000, 0.7, 0.95),
)
"""Faces of both groups, and the lowest and highest accuracy of an age group."""
BLOCKS, COPIES = 256, 4
Values = NDArray[np.float64]


def drawn(
    random: np.random.Generator, faces: int, shares: Values, rates: Values, clustered: bool
) -> Strata:
    """One group of faces; clustered ones come four of a unit that are right or wrong together."""
    units = faces // COPIES if clustered else faces
    age = random.choice(len(AGES), units, p=shares)
    right = random.random(units) < rates[age]
    each = np.zeros((BLOCKS, len(AGES), 3))
    weight = COPIES if clustered else 1
    place = random.integers(0, BLOCKS, units), age
    for k, value in enumerate((np.ones(units), right, right)):
        np.add.at(each[..., k], place, value * weight)
    return Strata(each.sum(axis=0), each if clustered else None)


def true_strata(shares: Values, rates: Values) -> Strata:
    """What as many faces as there are would be counted as."""
    return Strata(np.stack([shares, shares * rates, shares * rates], axis=-1) * 1e9)


def held(found: Estimate, truth: float) -> float:
    """Whether an interval holds the truth, NaN where there is none."""
    if found.low is None or found.high is None:
        return np.nan
    return float(found.low <= truth <= found.high)


def simulate(case: tuple[int, int, float, float], seed: int, runs: int, clustered: bool) -> Values:
    """Shares of intervals that hold: gap, mix, rate, contributions, standardized figure."""
    random = np.random.default_rng(seed)
    first, second, lowest, highest = case
    shares = random.dirichlet(np.full(len(AGES), 2.0), 2)
    rates = random.uniform(lowest, highest, (2, len(AGES)))
    true = [true_strata(*side) for side in zip(shares, rates, strict=True)]
    parts = decompose(ACCURACY, Pair({}, None, *true), sum(t.sums for t in true), AGES, 0.95)
    values = [part.value or 0.0 for part in parts[:3]]
    by_age = {one.value: one.estimate.value or 0.0 for one in parts[4]}
    weights = shares.mean(axis=0)
    results = []
    for _ in range(runs):
        pair = [
            drawn(random, n, *side, clustered)
            for n, *side in zip((first, second), shares, rates, strict=True)
        ]
        everybody = pair[0].sums + pair[1].sums
        found = decompose(ACCURACY, Pair({}, None, *pair), everybody, AGES, 0.95)
        alike = standardised(ACCURACY, pair[0], everybody, weights, AGES, 0.95)
        ages = [held(one.estimate, by_age[one.value]) for one in found[4]]
        results.append(
            [
                *(held(part, value) for part, value in zip(found[:3], values, strict=True)),
                float(np.nanmean(ages)),
                held(alike, float((weights * rates[0]).sum())),
            ]
        )
    return np.asarray(np.nanmean(results, axis=0))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="simulated tables per line")
    parser.add_argument("--pairs", type=int, default=2, help="pairs of groups per case")
    given = parser.parse_args()
    print("faces        accuracies   units   gap   mix  rate  ages  standardized")
    for clustered in (False, True):
        for case in CASES:
            for seed in range(given.pairs):
                shares = simulate(case, seed, given.runs, clustered)
                first, second, lowest, highest = case
                unit = COPIES if clustered else 1
                line = "  ".join(f"{share:.3f}" for share in shares)
                print(f"{first:>4} / {second:<5} {lowest:.3f}-{highest:.3f}  {unit:>4}   {line}")


if __name__ == "__main__":
    main()
