"""Whether corrected shares hold the truth: ``python -m benchmarks.composition [--quick]``.

Sets of faces are simulated whose composition is known. Shares are estimated as predicted, corrected
by labeled faces of another set (adjusted count, and EM over the scores), and estimated from a
stratified sample of the set itself. Once the assumption of label shift holds; once the set's faces
are harder to tell apart than the labeled ones (as if blurred), where the page's caution must
appear. Each line says how often 95 % intervals held the true share, averaged over the classes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from faceaudit.audit.composition import (
    DOUBTFUL,
    Calibration,
    FaceSet,
    calibrate,
    correct_shares,
    shares_by_scores,
)
from faceaudit.audit.intervals import wilson
from faceaudit.audit.sampling import draw
from faceaudit.schema import Task
from faceaudit.tables import score_columns

Values = NDArray[np.float64]
REPLICATES = 1000


@dataclass(frozen=True)
class World:
    """A task and how well its classes can be told apart."""

    classes: int
    shares: tuple[float, ...]
    """True shares in the set; among the labeled faces the classes are equally frequent."""
    labelled: int
    faces: int
    signal: float = 2.4
    blur: float = 1.0
    """Factor on the signal in the set alone; below 1 label shift does not hold."""

    @property
    def task(self) -> Task:
        return Task("task", "custom", tuple(f"class {k + 1}" for k in range(self.classes)))


WORLDS = (
    World(2, (0.8, 0.2), 300, 2000),
    World(2, (0.97, 0.03), 300, 2000),
    World(5, (0.5, 0.2, 0.15, 0.1, 0.05), 500, 2000),
    World(5, (0.9, 0.04, 0.03, 0.02, 0.01), 500, 2000),
    World(7, (0.4, 0.2, 0.15, 0.1, 0.05, 0.05, 0.05), 4000, 10_000),
    World(5, (0.5, 0.2, 0.15, 0.1, 0.05), 500, 2000, blur=0.75),
    World(7, (0.4, 0.2, 0.15, 0.1, 0.05, 0.05, 0.05), 4000, 10_000, blur=0.75),
)


def simulate(
    world: World, shares: Sequence[float], rows: int, signal: float, generator: np.random.Generator
) -> pl.DataFrame:
    """Faces with annotated and predicted class and scores, a row each."""
    true = generator.choice(world.classes, rows, p=shares)
    logits = signal * np.eye(world.classes)[true] + generator.normal(size=(rows, world.classes))
    probs = np.exp(1.5 * logits)
    probs /= probs.sum(axis=1, keepdims=True)
    task, names = world.task, np.array(world.task.classes)
    scores = dict(zip(score_columns(task), probs.T, strict=True))
    return pl.DataFrame(
        {
            task.true_column: names[true],
            task.pred_column: names[probs.argmax(axis=1)],
            "confidence": probs.max(axis=1),
            **scores,
        }
    )


def as_set(world: World, faces: pl.DataFrame, edges: Values) -> FaceSet:
    """The set as an audit sees it: without annotations."""
    pred = faces[world.task.pred_column].cast(pl.Enum(world.task.classes)).to_physical().to_numpy()
    bins = np.searchsorted(edges, faces["confidence"].to_numpy(), side="left")
    counts = np.zeros((world.classes, len(edges) + 1))
    np.add.at(counts, (pred, bins), 1)
    return FaceSet(counts, faces.select(score_columns(world.task)).to_numpy())


@dataclass
class Tally:
    """How often intervals of one estimate held the truth, and how wide they were."""

    held: float = 0.0
    width: float = 0.0
    trials: int = 0

    def add(self, low: Values, high: Values, truth: Values) -> None:
        self.held += float(((low <= truth) & (truth <= high)).mean())
        self.width += float((high - low).mean())
        self.trials += 1

    def __str__(self) -> str:
        if not self.trials:
            return "none"
        return f"{100 * self.held / self.trials:5.1f} % ±{50 * self.width / self.trials:4.1f}"


def run(world: World, trials: int) -> None:
    """Print one line: how often each kind of interval held the truth, and how often a caution."""
    truth = np.array(world.shares)
    predicted, corrected, scored, sampled = Tally(), Tally(), Tally(), Tally()
    cautions = undefined = 0
    equal = np.full(world.classes, 1 / world.classes)
    for trial in range(trials):
        generator = np.random.default_rng([trial, world.classes, world.faces])
        faces = simulate(world, truth, world.faces, world.signal * world.blur, generator)
        others = simulate(world, equal, world.labelled, world.signal, generator)
        calibration = calibrate(world.task, others, "others", "labels")
        seen = as_set(world, faces, calibration.edges)
        predicted.add(*wilson(seen.shares, seen.faces, 0.95), truth)
        found = correct_shares(seen, calibration, REPLICATES, generator)
        if found.point is None:
            undefined += 1
        else:
            corrected.add(*found.bounds(0.95), truth)
            fit = None if found.fit is None else found.fit.p_value
            cautions += fit is not None and fit < DOUBTFUL
            by_scores = shares_by_scores(seen, calibration, 0.95) or []
            bounds = np.array([(one.low, one.high) for one in by_scores], float)
            scored.add(bounds[:, 0], bounds[:, 1], truth)
        own = correct_shares(
            seen, sample_of(world, faces, trial, min(world.labelled, 500)), REPLICATES, generator
        )
        if own.point is not None:
            sampled.add(*own.bounds(0.95), truth)
    name = f"{world.classes} classes, largest {world.shares[0]:g}" + (
        ", faces blurred" if world.blur < 1 else ""
    )
    caution = f"{100 * cautions / max(trials - undefined, 1):5.1f} %"
    print(
        f"{name:<38}{predicted!s:>16}{corrected!s:>16}{scored!s:>16}{caution:>9}{sampled!s:>16}"
        + (f"   ({undefined} not identified)" if undefined else ""),
        flush=True,
    )


def sample_of(world: World, faces: pl.DataFrame, seed: int, n: int) -> Calibration:
    """A labeled sample of the set, as ``faceaudit sample`` draws it."""
    drawn = draw(faces, [world.task], ["confidence"], n, seed)
    rows = faces[drawn.place].with_columns(
        pl.Series("weight", drawn.weight), pl.Series("stratum", drawn.stratum)
    )
    return calibrate(world.task, rows, "sample", "sample")


def main() -> None:
    """Print the table."""
    trials = 40 if "--quick" in sys.argv else 400
    started = time.perf_counter()
    print(
        f"{trials} simulated sets a line; 95 % intervals: how often they hold, half-width in points"
    )
    print(
        f"{'':<38}{'predicted':>16}{'corrected':>16}{'by scores':>16}{'caution':>9}"
        f"{'own sample':>16}"
    )
    for world in WORLDS:
        run(world, trials)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
