"""How often a policy's verdicts are wrong, and whether the faces that they ask for decide.

``python -m benchmarks.verdicts [--trials N]`` simulates tables whose true rates lie exactly at the
limits of every rule, so that whichever verdict counts as wrong is as likely as it can be, and
judges them with the code that ``faceaudit check`` uses. Beside it: the same rules decided by their
values alone, and by intervals that take no account of how many there are.
"""

from __future__ import annotations

import argparse
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.estimates import Options
from faceaudit.audit.evidence import Evidence
from faceaudit.audit.metrics import balanced_accuracy, macro_f1
from faceaudit.audit.policy import Policy, parse_rules
from faceaudit.audit.results import Outcome, Verdict
from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally import BLOCKS, CellCounts, Tally
from faceaudit.audit.tally.tally import KINDS
from faceaudit.audit.verdict import judge
from faceaudit.schema import task_of_scheme

Counts = NDArray[np.int64]
SIDES: tuple[Outcome, ...] = ("pass", "fail")
UNIT = 4
ICC = 0.3
"""Faces of a unit and how alike they are, where faces are clustered."""
SEEN = 200
"""Faces of each subgroup from which the number that is needed follows."""
BASE = {"task": "gender", "metric": "accuracy", "by": ["site"], "owner": "-", "reason": "-"}


@dataclass(frozen=True)
class Scenario:
    """True rates and sizes of subgroups."""

    name: str
    rates: tuple[float, ...]
    sizes: tuple[int, ...]
    clustered: bool = False

    def policy(self) -> Policy:
        """Six rules, each with its limit exactly where the truth lies."""
        low, high = min(self.rates), max(self.rates)
        overall = float(np.average(self.rates, weights=self.sizes))
        everybody = {key: value for key, value in BASE.items() if key != "by"}
        rules = [
            {**BASE, "measure": "worst", "at_least": low},
            {**BASE, "measure": "each", "at_most": high},
            {**BASE, "measure": "difference", "at_most": high - low},
            {**BASE, "measure": "equivalent", "at_most": high - low},
            {**BASE, "measure": "ratio", "at_least": low / high},
            {**everybody, "measure": "overall", "at_least": overall},
        ]
        return Policy("benchmark", "0" * 64, parse_rules({"rule": rules}, "benchmark"))

    def tables(self, trials: int, generator: np.random.Generator) -> Iterator[Tally]:
        for _ in range(trials):
            yield table_of(self.sizes, self.rates, self.clustered, generator)


SCENARIOS: list[Scenario] = [
    Scenario("two subgroups, 85 and 90 %", (0.85, 0.9), (300, 300)),
    Scenario("five, one worse", (0.85, 0.9, 0.9, 0.9, 0.9), (150, 400, 80, 250, 1000)),
    Scenario("fourteen, one worse", (0.85, *[0.9] * 13), (150, *[60, 200, 500] * 4, 90)),
    Scenario("five near 1", (0.96, 0.99, 0.99, 0.99, 0.99), (150, 400, 80, 250, 1000)),
    Scenario("28 small ones near 1", (*[0.98] * 27, 0.99), (30,) * 28),
    Scenario("five, ties for the worst", (0.8, 0.8, 0.8, 0.95, 0.95), (200, 300, 100, 200, 300)),
    Scenario("five, units of four", (0.85, 0.9, 0.9, 0.9, 0.9), (600, 800, 400, 600, 1000), True),
]


def table_of(
    sizes: Sequence[int], rates: Sequence[float], clustered: bool, generator: np.random.Generator
) -> Tally:
    """A tally of faces of several sites, drawn at their true rates."""
    if not clustered:
        faces = np.array(sizes)[:, None]
        return tally_of(faces, generator.binomial(faces, np.array(rates)[:, None]))
    right, faces = np.zeros((2, len(sizes), BLOCKS), np.int64)
    for k, (size, rate) in enumerate(zip(sizes, rates, strict=True)):
        units, spread = size // UNIT, 1 / ICC - 1
        at = generator.integers(0, BLOCKS, units)
        alike = generator.beta(rate * spread, (1 - rate) * spread, units)
        np.add.at(right[k], at, generator.binomial(UNIT, alike))
        np.add.at(faces[k], at, UNIT)
    return tally_of(faces, right, unit="person")


def tally_of(faces: Counts, right: Counts, unit: str | None = None) -> Tally:
    """A tally of faces, and of those with the right gender, by site and block (C, B)."""
    row = np.stack([right, faces - right], axis=-1)
    confusion = np.stack([row, np.zeros_like(row)], axis=-2)
    return Tally(
        tasks=(task_of_scheme("gender", "gender2"),),
        features=(Feature("site", "site"),),
        cells=tuple((f"S{k}",) for k in range(len(faces))),
        statuses=("ok",),
        unit=unit,
        tables=(),
        numbers={
            **{kind: {} for kind in KINDS},
            "confusion": {"gender": counts_of(confusion)},
            "images": {"": counts_of(faces[..., None])},
        },
    )


def counts_of(numbers: Counts) -> CellCounts:
    """Numbers of cells and blocks, (C, B, ...), sparse."""
    codes = np.flatnonzero(numbers)
    return CellCounts(codes, numbers.ravel()[codes], numbers.shape)


def judged(policy: Policy, table: Tally, confidence: float = 0.95) -> tuple[Verdict, ...]:
    """The verdicts, with few draws: no verdict rests on any."""
    options = Options(replicates=2, confidence=confidence)
    return judge(policy, Evidence(table, options, dt.date.today()))


def by_value(found: Verdict) -> Outcome:
    """What a gate says that looks at the value alone."""
    value = found.value or 0.0
    keeps = (found.at_least is None or value >= found.at_least) and (
        found.at_most is None or value <= found.at_most
    )
    return "pass" if keeps else "fail"


def error_rates(scenario: Scenario, trials: int, generator: np.random.Generator) -> list[str]:
    """Shares of tables with a pass, and with a failure, of any rule; three ways of deciding."""
    policy = scenario.policy()
    shown = np.zeros((3, len(SIDES)))
    for table in scenario.tables(trials, generator):
        ours = judged(policy, table)
        alone = [judged(replace(policy, rules=(rule,)), table)[0] for rule in policy.rules]
        ways = (
            {one.outcome for one in ours},
            {one.outcome for one in alone},
            {by_value(one) for one in ours},
        )
        shown += [[side in way for side in SIDES] for way in ways]
    return [f"{100 * share:5.1f}" for share in (shown / trials).ravel()]


def decided_with_enough(trials: int, generator: np.random.Generator) -> Iterator[list[str]]:
    """Of rules that ask for more faces: how often new tables of that size decide them."""
    for name, rates, rule in (
        ("worst, 88 % for 85 %", (0.88, 0.93), {"measure": "worst", "at_least": 0.85}),
        ("worst, 80 % for 85 %", (0.80, 0.93), {"measure": "worst", "at_least": 0.85}),
        ("difference, 2 for 5 points", (0.9, 0.92), {"measure": "difference", "at_most": 0.05}),
        ("difference, 9 for 5 points", (0.83, 0.92), {"measure": "difference", "at_most": 0.05}),
        ("equivalent, 2 for 5 points", (0.9, 0.92), {"measure": "equivalent", "at_most": 0.05}),
        ("ratio, .95 for .9", (0.855, 0.9), {"measure": "ratio", "at_least": 0.9}),
    ):
        policy = Policy("n", "0" * 64, parse_rules({"rule": [{**BASE, **rule}]}, "n"))
        seen = np.full((2, 1), SEEN)
        right = np.rint(seen * np.array(rates)[:, None]).astype(np.int64)
        needed = judged(policy, tally_of(seen, right))[0].n_needed
        assert needed is not None, name
        found = [
            judged(policy, table_of((needed, needed), rates, False, generator))[0].outcome
            for _ in range(trials)
        ]
        shares = [100 * found.count(side) / trials for side in SIDES]
        yield [name, f"{needed:,}", *(f"{share:5.1f}" for share in shares)]


def of_several_classes(trials: int, generator: np.random.Generator) -> Iterator[list[str]]:
    """Rules on figures made of seven classes, exactly at their limits, alone and among ten."""
    shares = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.1, 0.05])
    alike = np.full((7, 7), 0.05 / 6) + (0.95 - 0.05 / 6) * np.eye(7)
    joint = shares[:, None] * alike
    task = task_of_scheme("race", "fairface7")
    for metric, function in (("macro_f1", macro_f1), ("balanced_accuracy", balanced_accuracy)):
        limit = {"metric": metric, "measure": "overall", "at_least": float(function(joint))}
        rule = {"task": "race", **limit, "owner": "-", "reason": "-"}
        policies = [  # Among ten rules at .95, one has the share of a rule alone at .995.
            Policy(
                "classes", "0" * 64, parse_rules({"rule": [{**rule, "confidence": c}]}, "classes")
            )
            for c in (0.95, 0.995)
        ]
        for n in (100, 400, 2000):
            shown = np.zeros((2, len(SIDES)))
            for confusion in generator.multinomial(n, joint.ravel(), trials).reshape(
                -1, 1, 1, 7, 7
            ):
                numbers = {"confusion": {"race": counts_of(confusion)}}
                images = counts_of(np.full((1, 1, 1), n))
                table = Tally(
                    tasks=(task,),
                    features=(),
                    cells=((),),
                    statuses=("ok",),
                    unit=None,
                    tables=(),
                    numbers={**{kind: {} for kind in KINDS}, **numbers, "images": {"": images}},
                )
                ways = ({one.outcome for one in judged(policy, table)} for policy in policies)
                shown += [[side in way for side in SIDES] for way in ways]
            yield [f"{metric}, {n:,} faces", *(f"{100 * x:5.1f}" for x in (shown / trials).ravel())]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="simulated tables per line")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generator = np.random.default_rng(given.seed)
    print("Tables in which any of six rules, each exactly at its limit, passes or fails (%)")
    print(f"{'':28}{'check':>14}{'rule by rule':>16}{'by the value':>16}")
    for scenario in SCENARIOS:
        cells = error_rates(scenario, given.trials, generator)
        pairs = [f"{a} {b}" for a, b in zip(cells[::2], cells[1::2], strict=True)]
        print(f"{scenario.name:28}{pairs[0]:>14}{pairs[1]:>16}{pairs[2]:>16}", flush=True)
    print(f"\nNew tables of the size that {SEEN} faces a subgroup ask for (%)")
    print(f"{'':28}{'n needed':>10}{'pass':>8}{'fail':>8}")
    for name, needed, passed, failed in decided_with_enough(given.trials, generator):
        print(f"{name:28}{needed:>10}{passed:>8}{failed:>8}")
    print(
        "\nTables in which rules on figures of seven classes, exactly at the limit, are shown (%)"
    )
    print(f"{'':28}{'one rule':>14}{'among ten':>14}")
    for name, *cells in of_several_classes(given.trials, np.random.default_rng([given.seed, 1])):
        print(
            f"{name:28}{cells[0] + ' ' + cells[1]:>14}{cells[2] + ' ' + cells[3]:>14}", flush=True
        )


if __name__ == "__main__":
    main()
