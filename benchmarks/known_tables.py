"""Tables of faces whose true figures are known, drawn many at a time and counted as a tally counts.

Models differ in the true rate (of right predictions, or of ages within five years; ``RATES``) and,
with classes, in their number (``CLASSES``). Classes are 1 to 3 times as common as the rarest, some
are recognized better than others, and confused with their neighbors most; figures that tell too old
from too young also come from models whose errors lean to one side (``LEANS``). A class that is in
no table counts for nothing: means over classes are those of the classes that a table has. Figures
of one class come from tables with as many faces of it, or of the others, on average. Errors in
years have the tails of Student's distribution with 6 degrees of freedom, as real ones do. Scores
are those of a model that is too sure of itself.

With units, four faces share a person, and blocks of persons are what the tally keeps. A face has
the outcome of its person (predicted class, scores, error) with the chance whose square is the
intra-class correlation, and its own otherwise: whatever is counted or averaged over faces of one
class has exactly that correlation (persons have a class, too, so that predicted classes have more),
and true figures are those of independent faces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from faceaudit.audit.age import AGE_METRICS, CHALLENGE_YEARS, LEGAL_YEARS, signed_steps
from faceaudit.audit.bounds import ScoreCounts
from faceaudit.audit.metrics import (
    METRICS,
    Metric,
    ece,
    present_classes,
)
from faceaudit.audit.scores import INFLUENCES, told_correlations
from faceaudit.audit.tally import YearErrors
from faceaudit.audit.tally.bins import (
    AGE_YEARS,
    BLOCKS,
    CALIBRATION_BINS,
    COARSE,
    COARSE_BINS,
    ERROR_BINS,
    SCORE_BINS,
    calibration_bin,
    error_bin,
    score_bin,
)

RATES = (0.5, 0.8, 0.9, 0.95, 0.99)
CLASSES = (2, 7, 9)
LEANS = (3.0, 30.0)
"""How many times as likely errors to a later class are as to an earlier one, in further models:
faces of the youngest age group can be judged too old alone."""
UNIT, ALIKE = 4, 0.3
TAILS = 6
"""Degrees of freedom: the excess kurtosis 3 is that of the errors in the showcase's table."""
BIAS = 0.1
"""Mean error in standard deviations."""
SURE = 1.5
"""Scores are computed from log odds that are so many times too large."""
LEAST = 0.5
"""Scores that know nothing still differ."""
TRUTH_FACES = 400_000
Behind = Literal["all", "class", "others"]
BEHIND: dict[str, Behind] = {
    **dict.fromkeys(("f1", "recall", "precision", "auc", "average_precision"), "class"),
    "false_positive_rate": "others",
}
"""Whose faces are behind a figure per class: those of the class, or of the others; else all."""
REGISTERED = {metric.name: metric for metric in (*METRICS, *AGE_METRICS)}
Array = NDArray[Any]
Draw = tuple[Any, Any]
"""What a metric needs of many tables, and the same by block of units (or None)."""


class Wanted(NamedTuple):
    """What tables to draw."""

    tables: int
    faces: int
    """In each, or behind a figure of it."""
    rate: float
    alike: float | None
    """Intra-class correlation of units; None without units."""
    behind: Behind
    """Whose faces are behind the figures."""


@dataclass(frozen=True)
class Drawn:
    """What one metric needs of many tables, S of them, and its true values."""

    model: str
    metric: Metric
    counts: Any
    true: Array
    """(1 or S, classes), or (1 or S,) of a figure that is one for all classes."""
    blocks: Any = None
    """The same counts by block of units, of every table."""
    source: str = ""
    """What the counts come from, where a metric has several sources."""


def grouped(codes: Array, size: int) -> Array:
    """Counts of codes below ``size`` in every table, (S, size), from (S, N)."""
    tables = len(codes)
    flat = (codes + np.arange(tables)[:, None] * size).ravel()
    return np.bincount(flat, minlength=tables * size).reshape(tables, size)


def added(values: Array, places: Array, size: int) -> Array:
    """Sums of values by place in every table, (S, size, V), from (S, N, V) and (S, N)."""
    tables, _, width = values.shape
    flat = (places + np.arange(tables)[:, None] * size).ravel()
    columns = [
        np.bincount(flat, values[..., at].ravel(), minlength=tables * size) for at in range(width)
    ]
    return np.stack(columns, axis=-1).reshape(tables, size, width)


def of_persons(generator: Generator, own: Array, shared: Array, alike: float) -> Array:
    """What faces have, (S, N, ...): their own or, of units, what they share, (S, N / UNIT, ...)."""
    repeats = generator.random(own.shape[:2]) < np.sqrt(alike)
    repeats = repeats.reshape(*repeats.shape, *[1] * (own.ndim - 2))
    return np.where(repeats, np.repeat(shared, UNIT, axis=1), own)


def in_blocks(generator: Generator, tables: int, faces: int) -> Array:
    """Block of every face, whose units have ``UNIT`` faces each, (S, N)."""
    return np.repeat(generator.integers(0, BLOCKS, (tables, faces // UNIT)), UNIT, axis=1)


def chosen(metrics: list[Metric], behind: Behind) -> list[Metric]:
    """Those that such faces are behind."""
    return [metric for metric in metrics if BEHIND.get(metric.name, "all") == behind]


def in_table(faces: int, classes: int, behind: Behind) -> int:
    """How many faces a table has, so that as many are behind a figure, on average."""
    if behind == "others":
        return round(faces * classes / (classes - 1) / UNIT) * UNIT
    return faces * classes if behind == "class" else faces


# --- classes and groups -----------------------------------------------------------------------

ON_CLASSES = [metric for metric in REGISTERED.values() if metric.needs in {"classes", "groups"}]


@cache
def cells(classes: int, rate: float, lean: float = 1.0) -> Array:
    """True shares of annotated (rows) and predicted (columns) classes, (K, K).

    Args:
        classes: K.
        rate: Of faces that are right.
        lean: How many times as likely errors to a later class are as to an earlier one.
    """
    common = np.linspace(1, 3, classes)[np.argsort(np.arange(classes) * 5 % classes)]
    odds = rate / (1 - rate) * np.exp(np.linspace(-0.5, 0.5, classes))
    recalls = odds / (1 + odds)
    steps = signed_steps(classes)
    wrong = np.where(steps != 0, 0.5 ** np.abs(steps), 0) * np.where(steps > 0, lean, 1)
    wrong *= ((1 - recalls) / wrong.sum(axis=1))[:, None]
    return (common / common.sum())[:, None] * (wrong + np.diag(recalls))


def confusions(
    generator: Generator, tables: int, faces: int, shares: Array, alike: float | None
) -> Draw:
    """Confusions of many tables, (S, K, K), and by block."""
    classes = len(shares)
    if alike is None:
        counts = generator.multinomial(faces, shares.ravel(), tables)
        return counts.reshape(-1, classes, classes), None
    persons = faces // UNIT
    true = generator.choice(classes, (tables, persons), p=shares.sum(axis=1))
    upto = (shares / shares.sum(axis=1, keepdims=True)).cumsum(axis=1)

    def predicted(true: Array) -> Array:
        above = generator.random(true.shape)[..., None] > upto[true]
        return np.minimum(above.sum(axis=-1), classes - 1)

    shared, true = predicted(true), np.repeat(true, UNIT, axis=1)
    pred = of_persons(generator, predicted(true), shared, alike)
    code = true * classes + pred
    block = in_blocks(generator, tables, faces)
    blocks = grouped(block * classes**2 + code, BLOCKS * classes**2)
    blocks = blocks.reshape(tables, BLOCKS, classes, classes)
    return blocks.sum(axis=1), blocks


def class_truth(metric: Metric, shares: Array, counts: Array) -> Array:
    """True values, one per table and class; means over classes as each table has them."""
    if not metric.mean_of:
        return np.asarray(metric.function(shares))[None]
    single = np.asarray(REGISTERED[metric.mean_of].function(shares))
    present = counts.sum(axis=-1) > 0 if metric.mean_of == "recall" else present_classes(counts)
    return np.asarray((single * present).sum(axis=-1) / present.sum(axis=-1))


def draw_classes(generator: Generator, wanted: Wanted) -> Iterator[Drawn]:
    """Figures of classes and age groups."""
    tables, faces, rate, alike, behind = wanted
    for lean, classes in product((1.0, *LEANS), CLASSES):
        metrics = chosen(ON_CLASSES, behind)
        if classes == 2:  # two groups are always neighbors
            metrics = [metric for metric in metrics if metric.needs != "groups"]
        if lean != 1:
            metrics = [metric for metric in metrics if metric.better == "zero"]
        if not metrics:
            continue
        shares = cells(classes, rate, lean)
        size = in_table(faces, classes, behind)
        counts, blocks = confusions(generator, tables, size, shares, alike)
        for metric in metrics:
            true = class_truth(metric, shares, counts)
            yield Drawn(f"{classes}, {lean:g} to 1", metric, counts, true, blocks)


# --- scores -----------------------------------------------------------------------------------

ON_SCORES = [metric for metric in REGISTERED.values() if metric.needs == "scores"]
ON_LOSSES = [metric for metric in REGISTERED.values() if metric.needs == "losses"]


def scored(
    generator: Generator,
    tables: int,
    faces: int,
    classes: int,
    lead: float,
    alike: float | None = None,
) -> tuple[Array, Array]:
    """Annotated classes (S, N) and scores (S, N, K)."""
    common = cells(classes, 0.5).sum(axis=1)
    size = 1 if alike is None else UNIT
    true = np.repeat(generator.choice(classes, (tables, faces // size), p=common), size, axis=1)
    noise = generator.normal(size=(tables, faces, classes))
    if alike is not None:
        shared = generator.normal(size=(tables, faces // size, classes))
        noise = of_persons(generator, noise, shared, alike)
    odds = SURE * max(lead, LEAST) * (noise + lead * np.eye(classes)[true])
    odds -= odds.max(axis=-1, keepdims=True)
    scores = np.exp(odds)
    return true, scores / scores.sum(axis=-1, keepdims=True)


@cache
def lead_for(classes: int, rate: float) -> float:
    """How far the annotated class leads, so that it scores highest with the given rate."""
    noise = np.random.default_rng(0).normal(size=(100_000, classes))
    ahead = np.sort(noise[:, 1:].max(axis=1) - noise[:, 0])
    return float(np.quantile(ahead, rate))


@cache
def score_truth(classes: int, rate: float) -> dict[str, Array]:
    """True figures, from a very large table."""
    generator = np.random.default_rng(classes)
    lead = lead_for(classes, rate)
    true, scores = scored(generator, 1, TRUTH_FACES, classes, lead)
    counts = ranked(true, scores)[0]
    found = {metric.name: np.asarray(metric.function(counts)) for metric in ON_SCORES}
    losses = losses_of(true, scores).sum(axis=1)
    found |= {metric.name: np.asarray(metric.function(losses)) for metric in ON_LOSSES}
    return {**found, "ece": np.asarray(ece(calibration_of(true, scores, None)[0]))}


def ranked(true: Array, scores: Array) -> tuple[Array, Array]:
    """Faces by every different score of each class, (S, K, 2, B), and each face's place there."""
    columns = np.moveaxis(scores, -1, 1)
    order = columns.argsort(axis=-1)
    ascending = np.take_along_axis(columns, order, -1)
    differs = np.diff(ascending, axis=-1, prepend=ascending[..., :1]) > 0
    places = np.empty_like(order)
    np.put_along_axis(places, order, differs.cumsum(axis=-1), -1)
    return by_place(true, places, int(places.max()) + 1)


def by_place(true: Array, places: Array, size: int) -> tuple[Array, Array]:
    """Faces by place of their score, (S, K, 2, size), and each face's among 2 * size, (S, K, N)."""
    tables, classes, _ = places.shape
    own = true[:, None] == np.arange(classes)[:, None]
    codes = own * size + places
    counts = grouped(codes.reshape(tables * classes, -1), 2 * size)
    return counts.reshape(tables, classes, 2, size), codes


def correlations(counts: Array, codes: Array) -> dict[str, Array]:
    """Correlation of the classes' figures in every table, each (S, K, K), as ``scores`` has it."""
    found = {}
    for name, influence in INFLUENCES.items():
        flat = influence(counts).reshape(*counts.shape[:2], -1)
        moves = np.take_along_axis(flat, codes, -1)
        shared = moves @ np.swapaxes(moves, -1, -2)
        length = np.sqrt(np.diagonal(shared, axis1=-2, axis2=-1))
        both = length[..., :, None] * length[..., None, :]
        known = np.divide(shared, both, out=np.ones_like(shared), where=both > 0)
        found[name] = np.clip(known, -1, 1)
    return found


def without_rows(true: Array, scores: Array) -> ScoreCounts:
    """Scores of all tables as a tally without rows has them."""
    tables, _, classes = scores.shape
    counts = by_place(true, np.moveaxis(score_bin(scores), -1, 1), SCORE_BINS)[0]
    cells = grouped(true * classes + scores.argmax(axis=-1), classes**2)
    cells = cells.reshape(tables, classes, classes)
    each = [told_correlations(*one) for one in zip(counts, cells, strict=True)]
    return ScoreCounts(
        [counts], {name: np.stack([one[name] for one in each]) for name in INFLUENCES}
    )


def losses_of(true: Array, scores: Array) -> Array:
    """What is summed up of every face, (S, N, 5)."""
    own = np.take_along_axis(scores, true[..., None], axis=-1)[..., 0]
    loss = -np.log(np.maximum(own, np.finfo(float).eps))
    squared = (np.square(scores).sum(axis=-1) - own**2 + (1 - own) ** 2) / 2
    return np.stack([np.ones_like(own), loss, loss**2, squared, squared**2], axis=-1)


def calibration_of(true: Array, scores: Array, block: Array | None) -> Draw:
    """Faces, confidence and right predictions by bin, (S, bins, 3), and by block."""
    sure = scores.max(axis=-1)
    right = scores.argmax(axis=-1) == true
    sums = np.stack([np.ones_like(sure), sure, right], axis=-1)
    place = calibration_bin(sure)
    if block is None:
        return added(sums, place, CALIBRATION_BINS), None
    blocks = added(sums, block * CALIBRATION_BINS + place, BLOCKS * CALIBRATION_BINS)
    blocks = blocks.reshape(len(true), BLOCKS, CALIBRATION_BINS, 3)
    return blocks.sum(axis=1), blocks


def draw_losses(generator: Generator, wanted: Wanted) -> Iterator[Drawn]:
    """Losses and calibration errors."""
    tables, faces, rate, alike, _ = wanted
    for classes in CLASSES:
        truth = score_truth(classes, rate)
        true, scores = scored(generator, tables, faces, classes, lead_for(classes, rate), alike)
        block = None if alike is None else in_blocks(generator, tables, faces)
        losses = losses_of(true, scores)
        blocks = None if block is None else added(losses, block, BLOCKS)
        for metric in ON_LOSSES:
            true_loss = truth[metric.name]
            yield Drawn(f"{classes}", metric, losses.sum(axis=1), true_loss, blocks)
        counts, blocks = calibration_of(true, scores, block)
        yield Drawn(f"{classes}", REGISTERED["ece"], counts, truth["ece"], blocks)


def draw_scores(generator: Generator, wanted: Wanted) -> Iterator[Drawn]:
    """Figures of scores, from rows and, where they differ, as from a tally without rows."""
    tables, faces, rate, alike, behind = wanted
    for classes in CLASSES:
        truth = score_truth(classes, rate)
        size = in_table(faces, classes, behind)
        true, scores = scored(generator, tables, size, classes, lead_for(classes, rate), alike)
        counts, codes = ranked(true, scores)
        # All tables are one array with a further axis: figures are then found for all at once.
        rows = ScoreCounts([counts], correlations(counts, codes))
        binned = without_rows(true, scores)
        blocks = None
        if alike is not None:
            bins = np.moveaxis(score_bin(scores), -1, 1) // COARSE
            block = in_blocks(generator, tables, size)[:, None] * COARSE_BINS + bins
            apart = by_place(true, block, BLOCKS * COARSE_BINS)[0]
            apart = apart.reshape(tables, classes, 2, BLOCKS, COARSE_BINS)
            blocks = list(np.moveaxis(apart, 3, 1))
        has = counts[..., 1, :].sum(axis=-1) > 0
        for metric in chosen(ON_SCORES, behind):
            expected = truth[metric.name]
            if metric.mean_of:
                # Means over classes as each table has them.
                single = truth[metric.mean_of]
                expected = (single * has).sum(axis=-1) / has.sum(axis=-1)
            yield Drawn(f"{classes}", metric, rows, expected, blocks)
            if metric.mean_of:
                yield Drawn(f"{classes}", metric, binned, expected, blocks, "tally")


# --- years ------------------------------------------------------------------------------------

ON_YEARS = [metric for metric in REGISTERED.values() if metric.needs == "years"]
ON_AGES = [metric for metric in REGISTERED.values() if metric.needs == "ages"]


def raw_errors(generator: Generator, tables: int, faces: int, alike: float | None = None) -> Array:
    """Errors in standard deviations, (S, N)."""
    scale = np.sqrt((TAILS - 2) / TAILS)
    errors = generator.standard_t(TAILS, (tables, faces))
    if alike is not None:
        shared = generator.standard_t(TAILS, (tables, faces // UNIT))
        errors = of_persons(generator, errors, shared, alike)
    return np.asarray(errors * scale + BIAS)


@cache
def many_errors() -> Array:
    """Errors in standard deviations, of one very large table."""
    return raw_errors(np.random.default_rng(1), 1, 8 * TRUTH_FACES)


@cache
def years_for(rate: float) -> tuple[float, dict[str, Array]]:
    """Years of a standard deviation, and the true figures, from a very large table."""
    errors = many_errors()
    years = float(5 / np.quantile(np.abs(errors), rate))
    counts = year_errors(errors * years)
    return years, {metric.name: np.asarray(metric.function(counts)) for metric in ON_YEARS}


def powers_of(errors: Array) -> Array:
    """The powers that the tally sums up, (S, N, POWERS)."""
    return np.stack([errors, np.abs(errors), errors**2, errors**4], axis=-1)


def year_errors(errors: Array) -> YearErrors:
    """Errors of many tables, as the tally keeps them."""
    return YearErrors(grouped(error_bin(errors), ERROR_BINS), powers_of(errors).sum(axis=1))


def draw_years(generator: Generator, wanted: Wanted) -> Iterator[Drawn]:
    """Figures of years, and of age checks."""
    tables, faces, rate, alike, _ = wanted
    years, truth = years_for(rate)
    errors = raw_errors(generator, tables, faces, alike) * years
    counts, blocks = year_errors(errors), None
    if alike is not None:
        block = in_blocks(generator, tables, faces)
        apart = grouped(block * ERROR_BINS + error_bin(errors), BLOCKS * ERROR_BINS)
        sums = added(powers_of(errors), block, BLOCKS)
        each = zip(apart.reshape(tables, BLOCKS, ERROR_BINS), sums, strict=True)
        blocks = [YearErrors(*one) for one in each]
    for metric in ON_YEARS:
        yield Drawn("", metric, counts, truth[metric.name], blocks)
    if alike is not None:
        return  # shares as CS@5 is one; their counts by block are large
    right = generator.binomial(faces, rate, (2, tables))
    ages = np.zeros((tables, AGE_YEARS, AGE_YEARS), np.int32)
    minor, adult = LEGAL_YEARS - 1, LEGAL_YEARS
    old = CHALLENGE_YEARS
    ages[:, minor, old - 1], ages[:, minor, old] = right[0], faces - right[0]
    ages[:, adult, old], ages[:, adult, old - 1] = right[1], faces - right[1]
    for metric in ON_AGES:
        yield Drawn("", metric, ages, np.array([1 - rate]))


Draws = Callable[[Generator, Wanted], Iterator[Drawn]]
DRAWS: dict[str, Draws] = {
    "classes": draw_classes,
    "groups": draw_classes,
    "years": draw_years,
    "ages": draw_years,
    "losses": draw_losses,
    "calibration": draw_losses,
    "scores": draw_scores,
}
"""What a metric needs -> how tables with it are drawn."""
