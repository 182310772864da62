"""Whether corrected shares hold the truth: ``python -m benchmarks.composition [--sets 2000]``.

Sets of faces are simulated whose composition is known. Shares are estimated as predicted, corrected
by labeled faces of another set (adjusted count, and EM over the scores), and estimated from a
stratified sample of the set itself. Once the assumption of label shift holds; once the set's faces
are harder to tell apart than the labeled ones (as if blurred), where the page's caution must
appear. With units, four images of a person share the class and part of the noise. A subgroup has
another composition than the rest; where it is corrected by the sample, the model errs more in it.
Each line says how often 95 % intervals held the true share, averaged over the classes, and in
brackets of the class that they held least often.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.composition import DOUBTFUL
from faceaudit.audit.corrected import (
    CorrectedShares,
    CountedShares,
    Unknown,
    correct_shares,
    shares_by_scores,
)
from faceaudit.audit.distances import TwoSamples
from faceaudit.audit.face_sets import BY, UNIT, Calibration, FaceSet, calibrate
from faceaudit.audit.intervals import difference_interval
from faceaudit.audit.sampling import draw
from faceaudit.audit.tally import BLOCKS, block_of
from faceaudit.schema import Task
from faceaudit.tables import score_columns

Values = NDArray[np.float64]
SETS = 400
CONFIDENCE = 0.95
ALIKE = 0.3
"""Intra-class correlation of the noise of one person's images."""
KINDS = ("predicted", "corrected", "by scores", "own sample")


@dataclass(frozen=True)
class World:
    """A task, how well its classes can be told apart, and who was labeled."""

    shares: tuple[float, ...]
    """True shares in the set; among the labeled faces the classes are equally frequent."""
    labelled: int
    faces: int
    signal: float = 2.4
    blur: float = 1.0
    """Factor on the signal in the set alone; below 1 label shift does not hold."""
    unit: int = 1
    """Images of a person."""
    told: bool = True
    """Whether the audit is told which images are of one person."""

    @property
    def task(self) -> Task:
        """The task whose shares are asked for."""
        names = tuple(f"class {k + 1}" for k in range(len(self.shares)))
        return Task("task", "custom", names)

    @property
    def name(self) -> str:
        """The line's name."""
        parts = [
            f"{len(self.shares)} classes, {max(self.shares):g} to {min(self.shares):g}",
            f"{self.labelled:,} of {self.faces:,}",
            *(["good model"] if self.signal > 3 else []),
            *(["blurred"] if self.blur < 1 else []),
            *([f"units of {self.unit}"] if self.unit > 1 else []),
            *([] if self.told else ["not told"]),
        ]
        return ", ".join(parts)


EVEN, SKEWED = (0.5, 0.2, 0.15, 0.1, 0.05), (0.9, 0.04, 0.03, 0.02, 0.01)
SEVEN = (0.4, 0.2, 0.15, 0.1, 0.05, 0.05, 0.05)
WORLDS = (
    World((0.8, 0.2), 300, 2000),
    World((0.97, 0.03), 300, 2000),
    World((0.97, 0.03), 100, 500),
    World(EVEN, 500, 2000),
    World(EVEN, 150, 1000),
    World(SKEWED, 500, 2000),
    World(SKEWED, 150, 1000),
    World(SKEWED, 500, 2000, signal=3.5),
    World(SEVEN, 4000, 10_000),
    World(SEVEN, 350, 1000, signal=3.5),
    World((0.8, 0.2), 300, 2000, unit=4),
    World((0.8, 0.2), 300, 2000, unit=4, told=False),
    World(EVEN, 800, 2000, unit=4),
    World(EVEN, 800, 2000, unit=4, told=False),
    World(EVEN, 500, 2000, blur=0.75),
    World(SEVEN, 4000, 10_000, blur=0.75),
)


def simulate(
    world: World, shares: Sequence[float], rows: int, signal: float, generator: np.random.Generator
) -> pl.DataFrame:
    """Faces with annotated and predicted class, scores and person, a row each."""
    size, people = len(shares), -(-rows // world.unit)
    person = np.repeat(np.arange(people), world.unit)[:rows]
    true = generator.choice(size, people, p=shares)[person]
    own, common = generator.normal(size=(rows, size)), generator.normal(size=(people, size))
    alike = ALIKE if world.unit > 1 else 0.0
    noise = np.sqrt(1 - alike) * own + np.sqrt(alike) * common[person]
    logits = 1.5 * (signal * np.eye(size)[true] + noise)
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    task, names = world.task, np.array(world.task.classes)
    persons = {UNIT: [f"person {n}" for n in person]} if world.unit > 1 and world.told else {}
    return pl.DataFrame(
        {
            task.true_column: names[true],
            task.pred_column: names[probs.argmax(axis=1)],
            "confidence": probs.max(axis=1),
            **dict(zip(score_columns(task), probs.T, strict=True)),
            **persons,
        }
    )


def as_set(world: World, faces: pl.DataFrame, edges: Values) -> FaceSet:
    """The set as an audit sees it: without annotations."""
    pred = faces[world.task.pred_column].cast(pl.Enum(world.task.classes)).to_physical().to_numpy()
    bins = np.searchsorted(edges, faces["confidence"].to_numpy(), side="left")
    block = block_of(faces[UNIT]) if UNIT in faces.columns else None
    counts = np.zeros((1 if block is None else BLOCKS, len(world.shares), len(edges) + 1))
    np.add.at(counts, (np.zeros(len(pred), int) if block is None else block, pred, bins), 1)
    return FaceSet(counts, faces.select(score_columns(world.task)).to_numpy(), block)


@dataclass(frozen=True)
class Trial:
    """What one simulated set showed: bounds by kind of estimate, and whether a caution came."""

    bounds: Mapping[str, tuple[Values, Values]]
    caution: bool | None
    """None where shares could not be corrected."""


def trial(world: World, seed: int) -> Trial:
    """Simulate one set, and its labeled faces, and estimate its shares."""
    generator = np.random.default_rng([seed, len(world.shares), world.faces, world.labelled])
    equal = np.full(len(world.shares), 1 / len(world.shares))
    signal = world.signal
    faces = simulate(world, world.shares, world.faces, signal * world.blur, generator)
    others = simulate(world, equal.tolist(), world.labelled, signal, generator)
    calibration = calibrate(world.task, others, "others", "labels")
    seen = as_set(world, faces, calibration.edges)
    bounds = {"predicted": CountedShares(seen).bounds(CONFIDENCE)}
    found, caution = correct_shares(seen, calibration), None
    if isinstance(found, CorrectedShares):
        bounds["corrected"] = found.bounds(CONFIDENCE)
        p_value = None if found.shift is None else found.shift.p_value
        caution = p_value is not None and p_value < DOUBTFUL
        by_scores = shares_by_scores(seen, calibration, CONFIDENCE) or []
        low, high = np.array([(one.low, one.high) for one in by_scores], float).T
        bounds["by scores"] = low, high
    own = correct_shares(seen, sample_of(world, faces, seed, min(world.labelled, 500)))
    if not isinstance(own, Unknown):
        bounds["own sample"] = own.bounds(CONFIDENCE)
    return Trial(bounds, caution)


def sample_of(
    world: World, faces: pl.DataFrame, seed: int, n: int, features: Sequence[str] = ()
) -> Calibration:
    """A labeled sample of the set, as ``faceaudit sample`` draws it."""
    drawn = draw(faces, [world.task], ["confidence"], n, seed)
    rows = faces[drawn.place].with_columns(
        pl.Series("weight", drawn.weight), pl.Series("stratum", drawn.stratum)
    )
    return calibrate(world.task, rows, "sample", "sample", features)


@dataclass
class Coverage:
    """How often intervals of one kind held the true shares, and how wide they were."""

    held: list[NDArray[np.bool_]] = field(default_factory=list)
    width: list[float] = field(default_factory=list)

    def add(self, low: Values, high: Values, truth: Values) -> None:
        """Count one set."""
        self.held.append((low <= truth) & (truth <= high))
        self.width.append(float((high - low).mean()))

    @property
    def by_class(self) -> Values:
        """Share of the sets whose interval held the true share, (K,)."""
        return np.asarray(np.mean(self.held, axis=0))

    def __str__(self) -> str:
        if not self.held:
            return "none"
        held, half = 100 * self.by_class, 50 * float(np.mean(self.width))
        return f"{held.mean():.1f}% ({held.min():.1f}%) ±{half:.1f}"


@dataclass(frozen=True)
class Line:
    """One world: coverage by kind of estimate, and how often what happened."""

    world: World
    kinds: Mapping[str, Coverage]
    cautions: float
    unknown: float
    """Share of the sets whose shares could not be corrected."""


def run(world: World, sets: int) -> Line:
    """Simulate a world's sets."""
    truth, kinds = np.array(world.shares), {name: Coverage() for name in KINDS}
    cautions = []
    for seed in range(sets):
        found = trial(world, seed)
        for name, (low, high) in found.bounds.items():
            kinds[name].add(low, high, truth)
        if found.caution is not None:
            cautions.append(found.caution)
    shown = float(np.mean(cautions)) if cautions else 0.0
    return Line(world, kinds, shown, 1 - len(cautions) / sets)


SUBGROUPS = (0.1, 0.3)
"""Share of the faces that are of the subgroup."""


def of_subgroup(share: float, seed: int) -> Trial:
    """Simulate one set with a subgroup, and correct the subgroup's shares in both ways."""
    generator = np.random.default_rng([seed, round(100 * share)])
    rest, bounds = World(EVEN, 500, 2000), {}
    n, shares = round(share * rest.faces), EVEN[::-1]
    others = simulate(rest, [0.2] * 5, rest.labelled, rest.signal, generator)
    calibration = calibrate(rest.task, others, "others", "labels")
    whole = simulate(rest, EVEN, rest.faces - n, rest.signal, generator)
    for name, blur in (("corrected", 1.0), ("own sample", 0.75)):
        own = simulate(rest, shares, n, rest.signal * blur, generator)
        if name == "own sample":
            faces = pl.concat(
                [
                    part.with_columns(pl.lit(site).alias(BY + "site"))
                    for part, site in ((own, "a"), (whole, "b"))
                ]
            )
            calibration = sample_of(rest, faces, seed, rest.labelled, ("site",))
        found = correct_shares(as_set(rest, own, calibration.edges), calibration, {"site": "a"})
        if not isinstance(found, Unknown):
            bounds[name] = found.bounds(CONFIDENCE)
    return Trial(bounds, None)


def run_subgroup(share: float, sets: int) -> Mapping[str, Coverage]:
    """How often intervals of a subgroup's shares held the truth."""
    kinds = {name: Coverage() for name in KINDS}
    for seed in range(sets):
        for name, (low, high) in of_subgroup(share, seed).bounds.items():
            kinds[name].add(low, high, np.array(EVEN[::-1]))
    return kinds


# --- images of persons --------------------------------------------------------------------------


TARGETS = (
    World((0.6, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05), 700, 5000),
    World((0.9, 0.02, 0.02, 0.02, 0.02, 0.01, 0.01), 700, 5000),
    World((0.9, 0.02, 0.02, 0.02, 0.02, 0.01, 0.01), 700, 5000, signal=3.5),
    World(SKEWED, 150, 1000),
    World((0.97, 0.03), 100, 500),
    World((0.99, 0.01), 60, 5000, signal=3.5),
    World(EVEN, 800, 2000, unit=4),
)
"""Sets whose target shares are true, of which few labeled faces tell."""


def rejected(world: World, sets: int) -> dict[str, float]:
    """How often the true shares are rejected at 5 %, by kind of correction."""
    found: dict[str, list[bool]] = {"corrected": [], "own sample": []}
    truth, equal = np.array(world.shares), [1 / len(world.shares)] * len(world.shares)
    for seed in range(sets):
        generator = _generator(seed)
        faces = simulate(world, world.shares, world.faces, world.signal, generator)
        others = simulate(world, equal, world.labelled, world.signal, generator)
        calibration = calibrate(world.task, others, "others", "labels")
        seen = as_set(world, faces, calibration.edges)
        own = sample_of(world, faces, seed, min(world.labelled, 500))
        for name, by in (("corrected", calibration), ("own sample", own)):
            shares = correct_shares(seen, by)
            if not isinstance(shares, Unknown):
                p_value = shares.fit(truth).p_value
                found[name].append(p_value is not None and p_value < 1 - CONFIDENCE)
    return {name: float(np.mean(one)) for name, one in found.items()}


def print_targets(sets: int) -> None:
    """Print how often true target shares are rejected."""
    print("| true shares are rejected at 5 % | corrected | own sample |")
    print("| --- " * 3 + "|")
    for world in TARGETS:
        cells = " | ".join(f"{rate:.1%}" for rate in rejected(world, sets).values())
        print(f"| {world.name} | {cells} |", flush=True)


@dataclass(frozen=True)
class Persons:
    """What is claimed of two sets of one source whose images are of persons, four of each."""

    held: bool
    """Whether the interval of the first predicted share held that expected."""
    off_target: Mapping[str, bool]
    """Whether true target shares were rejected at 5 %, by predicted and by corrected shares."""
    drifted: Mapping[str, bool]
    """Whether two sets alike were told apart, by the first share and by the test of all."""


def expected_shares(world: World) -> Values:
    """Shares of the predicted classes, of a million faces."""
    faces = simulate(replace(world, unit=1), world.shares, 10**6, world.signal, _generator(0))
    counts = faces[world.task.pred_column].value_counts().sort(world.task.pred_column)
    return np.asarray(counts["count"].to_numpy() / faces.height)


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, 3])


def of_persons(world: World, expected: Values, seed: int) -> Persons:
    """Simulate two sets and labeled faces of one source, and what is claimed of them."""
    generator, equal = _generator(seed + 1), [1 / len(world.shares)] * len(world.shares)
    others = simulate(world, equal, world.labelled, world.signal, generator)
    calibration = calibrate(world.task, others, "others", "labels")
    sets = [
        as_set(
            world,
            simulate(world, world.shares, world.faces, world.signal, generator),
            calibration.edges,
        )
        for _ in range(2)
    ]
    first, second = (CountedShares(one) for one in sets)
    bounds = [(one.point, *one.bounds(CONFIDENCE)) for one in (first, second)]
    low, high = bounds[0][1:]
    apart = difference_interval(*bounds)
    corrected = correct_shares(sets[0], calibration)
    if isinstance(corrected, Unknown):
        raise TypeError(corrected.reason)
    blocks = [one.blocks.sum(axis=-1).astype(np.int64) for one in sets]
    test = TwoSamples(blocks[0], blocks[1], 199, generator)
    tests = {
        "predicted": first.fit(expected),
        "corrected": corrected.fit(np.array(world.shares)),
    }
    return Persons(
        bool(low[0] <= expected[0] <= high[0]),
        {name: (one.p_value or 0.0) < 0.05 for name, one in tests.items()},
        {"first": bool((apart[0][0] > 0) | (apart[1][0] < 0)), "test": test.p_value < 0.05},
    )


def print_persons(sets: int) -> None:
    """Print what is claimed of images of persons, told or not."""
    print(
        "| units of 4 | share held | off target, predicted | corrected | drift of a share ", end=""
    )
    print("| of all shares |")
    print("| --- " * 6 + "|")
    world = World((0.7, 0.2, 0.1), 400, 2000, unit=4)
    expected = expected_shares(world)
    for told in (True, False):
        found = [of_persons(replace(world, told=told), expected, seed) for seed in range(sets)]
        rates = [
            np.mean([one.held for one in found]),
            *(np.mean([one.off_target[name] for one in found]) for name in KINDS[:2]),
            *(np.mean([one.drifted[name] for one in found]) for name in ("first", "test")),
        ]
        cells = " | ".join(f"{rate:.1%}" for rate in rates)
        print(f"| {'told' if told else 'not told'} | {cells} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=SETS, help="simulated sets a line")
    parser.add_argument("--quick", action="store_true", help="40 sets a line")
    parser.add_argument("--targets", action="store_true", help="the test of target shares alone")
    given = parser.parse_args()
    sets = 40 if given.quick else given.sets
    started = time.process_time()
    if given.targets:
        print_targets(sets)
        return
    print(f"{sets:,} simulated sets a line; half-widths in points")
    print("| classes, shares; labeled of faces | " + " | ".join(KINDS[:3]), end=" | ")
    print("caution | own sample | no correction |")
    print("| --- " * 7 + "|")
    for world in WORLDS:
        line = run(world, sets)
        predicted, corrected, scored, sampled = (str(line.kinds[name]) for name in KINDS)
        print(
            f"| {world.name} | {predicted} | {corrected} | {scored} | {line.cautions:.1%} | "
            f"{sampled} | {line.unknown:.1%} |",
            flush=True,
        )
    for share in SUBGROUPS:
        kinds = run_subgroup(share, sets)
        name = f"a subgroup of {share:.0%}, 500 of 2,000"
        print(f"| {name} | | {kinds['corrected']} | | | {kinds['own sample']} | |", flush=True)
    print()
    print_persons(sets)
    print()
    print_targets(sets)
    print(f"{time.process_time() - started:.0f} s of processor time")


if __name__ == "__main__":
    main()
