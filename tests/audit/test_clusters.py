"""Intervals of faces in units: as wide as the units tell, and right as often as they say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy.stats import t

from faceaudit.audit.age import AGE_METRICS
from faceaudit.audit.bounds import bounds_of
from faceaudit.audit.clusters import Spread, known_degrees, spread_over_blocks, told_by_units
from faceaudit.audit.estimates import Options, estimate
from faceaudit.audit.measure import EVERY_METRIC
from faceaudit.audit.metrics import METRICS, Metric
from faceaudit.audit.run import audit
from faceaudit.audit.tally.bins import calibration_bin
from faceaudit.tables import PredictionTable

OpenTable = Callable[..., PredictionTable]
RowsOf = Callable[..., pl.DataFrame]
ACCURACY = next(metric for metric in METRICS if metric.name == "accuracy")
STEP_MAE = next(metric for metric in AGE_METRICS if metric.name == "step_mae")
PRECISION = next(metric for metric in METRICS if metric.name == "precision")


def widths(table: PredictionTable, **options: object) -> dict[tuple[str, str, str | None], float]:
    found = audit(table, by=[], replicates=200, verify="never", **options)  # type: ignore[arg-type]
    return {
        (one.task, one.metric, one.label): one.estimate.high - one.estimate.low
        for one in found.metrics
        if one.estimate.low is not None and one.estimate.high is not None
    }


def test_four_copies_of_every_face_tell_no_more_than_one(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    once = rows_of(700, seed=8)
    copies = pl.concat([once] * 4).with_columns(person=pl.col("image"))
    named = copies.with_columns(image=pl.int_range(pl.len()).cast(pl.String))
    alone, apart = widths(open_table(once)), widths(open_table(named))
    together = widths(open_table(named), unit="person")
    for name in ("accuracy", "log_loss", "brier", "macro_f1", "mae", "cs_at_5", "auc"):
        for key in [key for key in alone if key[1] == name and key[0] != "age_group"]:
            assert together[key] == pytest.approx(alone[key], rel=0.25)
            assert apart[key] < 0.65 * together[key]


def test_intervals_are_never_narrower_with_units(open_table: OpenTable, rows_of: RowsOf) -> None:
    table = open_table(rows_of(500, seed=9))
    plain, units = widths(table), widths(table, unit="image")
    assert {key[1] for key in units} == {metric.name for metric in EVERY_METRIC}
    for key, width in units.items():
        # Of a calibration error more is taken off for chance, and less of it varies less.
        assert width >= plain[key] * (0.9 if key[1] == "ece" else 1) - 1e-9
    ratios = [units[key] / plain[key] for key in units if key[1] == "accuracy"]
    assert np.mean(ratios) < 1.1


def units_that_hold(
    persons: int,
    size: int,
    alike: float,
    rate: float,
    tables: int = 400,
    *,
    metric: Metric = ACCURACY,
    repeated: bool = False,
) -> tuple[float, float]:
    """How many intervals hold: with units, and as if the faces were independent.

    Persons differ in how often they are recognized or, if ``repeated``, some of their faces are.
    """
    generator = np.random.default_rng(persons)
    a, b = rate * (1 / alike - 1), (1 - rate) * (1 / alike - 1)
    shape = (tables, persons)
    if repeated:
        faces = (*shape, size)
        alone, all_of = generator.random(faces) < rate, generator.random((*shape, 1)) < rate
        right = np.where(generator.random(faces) ** 2 < alike, all_of, alone).sum(axis=-1)
    else:
        chance = generator.beta(a, b, shape) if alike < 1 else generator.random(shape) < rate
        right = generator.binomial(size, chance)
    place = generator.integers(0, 256, shape)
    blocks = np.zeros((tables, 256, 2, 2), np.int64)
    table = np.arange(tables)[:, None]
    np.add.at(blocks, (table, place, 0, 0), right)
    np.add.at(blocks, (table, place, 0, 1), size - right)
    total = blocks.sum(axis=1)

    def held(**units: object) -> float:
        found = estimate(metric, total, Options(), **units)  # type: ignore[arg-type]
        true = rate if metric is ACCURACY else 1 - rate
        return float(np.mean([one.low <= true + 1e-12 <= one.high + 2e-12 for one in found]))

    return held(blocks=list(blocks)), held()


@pytest.mark.parametrize(
    ("persons", "rate"), [(12, 0.8), (25, 0.7), (50, 0.9), (250, 0.95), (250, 0.99)]
)
def test_intervals_of_units_hold_the_true_share(persons: int, rate: float) -> None:
    with_units, without = units_that_hold(persons, 4, 0.3, rate)
    assert 0.92 <= with_units <= 0.985
    assert without < 0.91


@pytest.mark.parametrize("alike", [0.1, 0.6, 1.0])
@pytest.mark.parametrize(("persons", "size"), [(12, 2), (8, 10), (30, 10), (12, 40), (100, 40)])
def test_units_of_any_size_and_likeness_hold(persons: int, size: int, alike: float) -> None:
    held = [units_that_hold(persons, size, alike, rate)[0] for rate in (0.5, 0.8, 0.9, 0.95, 0.99)]
    assert np.mean(held) >= 0.94
    assert min(held) >= 0.89


@pytest.mark.parametrize("metric", [ACCURACY, STEP_MAE], ids=["accuracy", "step_mae"])
@pytest.mark.parametrize("alike", [0.3, 0.6])
@pytest.mark.parametrize(("persons", "size"), [(25, 20), (12, 40), (40, 10), (100, 10)])
def test_few_persons_of_whom_all_faces_are_wrong_are_expected(
    persons: int, size: int, alike: float, metric: Metric
) -> None:
    # Many tables lack such a person, and their errors look independent.
    held = [
        units_that_hold(persons, size, alike, rate, 200, metric=metric, repeated=True)[0]
        for rate in (0.8, 0.9, 0.95, 0.99)
    ]
    assert np.mean(held) >= 0.93
    assert min(held) >= 0.85


@pytest.mark.parametrize("alike", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("size", [4, 10, 50])
def test_four_units_hold_unless_their_faces_are_wholly_alike(size: int, alike: float) -> None:
    # More degrees for what bounds the spread would let these hold too seldom.
    held = [units_that_hold(4, size, alike, rate, 1000)[0] for rate in (0.5, 0.8, 0.9, 0.95, 0.99)]
    assert min(held) >= 0.905


def test_units_without_an_error_tell_no_more_than_one_face_each() -> None:
    blocks = np.zeros((256, 2, 2), np.int64)
    blocks[:50, 0, 0] = 4
    (found,) = estimate(ACCURACY, blocks.sum(axis=0)[None], Options(), blocks=[blocks])
    (alone,) = estimate(ACCURACY, np.array([[50, 0], [0, 0]])[None], Options())
    assert found.high == alone.high == 1.0
    assert found.low <= alone.low


def told_of(metric: Metric, blocks: np.ndarray) -> np.ndarray:
    whole = blocks.sum(axis=0)
    values, faces = metric.function(whole), metric.faces(whole)
    plain = bounds_of(metric, whole, np.ones(values.shape), 0.95)
    spread = spread_over_blocks(metric, blocks)
    return told_by_units(metric, values, faces, plain, spread, 0.95)


def test_faces_of_two_units_count_as_two_at_least() -> None:
    blocks = np.zeros((256, 2, 2), np.int64)
    blocks[3, 0, 0], blocks[9, 0, 1] = 4, 4  # one unit wholly right, one wholly wrong
    named = {metric.name: metric for metric in METRICS}
    assert told_of(named["accuracy"], blocks) * 8 == pytest.approx(2)
    assert told_of(named["recall"], blocks)[0] * 8 == pytest.approx(2)


def test_a_perfect_curve_of_few_units_is_no_division_by_zero() -> None:
    # Nothing unseen is added to curves of so few blocks, and no error was seen.
    metric = next(one for one in METRICS if one.name == "macro_average_precision")
    one, four = np.ones(1), np.full(1, 4.0)
    spread = Spread(0 * one, four, np.nan * one, one, np.inf * one, np.nan * one)
    told = told_by_units(metric, one, four, (0.5 * one, one), spread, 0.95)
    assert (told > 0).all()
    assert (told <= 1).all()


def test_unequal_units_wholly_alike_count_by_kishs_rule() -> None:
    sizes = np.array([1, 2, 3, 10])
    blocks = np.zeros((256, 2, 2), np.int64)
    blocks[:4, 0, 0], blocks[0, 0, :] = sizes, (0, 1)
    spread = spread_over_blocks(ACCURACY, blocks)
    assert spread.together == pytest.approx(np.square(sizes).sum() / sizes.sum())
    assert np.isinf(spread_over_blocks(PRECISION, blocks).together).all()


@pytest.mark.parametrize("copies", [1, 4])
def test_calibration_errors_of_copies_tell_as_much_as_one_face_each(copies: int) -> None:
    generator = np.random.default_rng(2)
    sure = generator.uniform(0.5, 1, 256)
    right = generator.random(256) < sure - 0.1
    blocks = np.zeros((256, 20, 3))
    place = calibration_bin(sure)
    blocks[np.arange(256), place] = copies * np.stack([np.ones(256), sure, right], axis=1)
    ece = next(metric for metric in METRICS if metric.name == "ece")
    assert told_of(ece, blocks) == pytest.approx(1 / copies, rel=0.15)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_one_block_has_no_spread(metric: Metric) -> None:
    if metric.needs != "classes":
        pytest.skip("counts of classes stand for all")
    blocks = np.zeros((256, 3, 3), np.int64)
    blocks[7] = np.arange(9).reshape(3, 3)
    assert np.isnan(spread_over_blocks(metric, blocks).variance).all()


def test_subgroups_of_few_units_are_named(open_table: OpenTable, rows_of: RowsOf) -> None:
    rows = rows_of(300)
    many = rows.with_columns(person=pl.int_range(pl.len()) % 90)
    few = rows.with_columns(person=pl.int_range(pl.len()) % 7)
    female = pl.col("gender_true") == "Female"
    some = many.with_columns(person=pl.when(female).then(pl.col("person") % 8).otherwise("person"))
    notes = [
        [
            note
            for note in audit(
                open_table(frame), by=["gender"], unit="person", replicates=100, verify="never"
            ).notes
            if "Fewer than about 20 different values of person" in note
        ]
        for frame in (many, few, some)
    ]
    assert notes[0] == []
    assert "in the whole table:" in notes[1][0]
    assert "in Female:" in notes[2][0]


def test_intervals_are_students_with_the_subgroups_own_number_of_units() -> None:
    metric = next(metric for metric in EVERY_METRIC if metric.name == "mae")
    values, faces, plain = np.full(2, 5.0), np.full(2, 400.0), (np.full(2, 4.5), np.full(2, 5.5))
    unknown, unbounded = np.full(2, np.nan), np.full(2, np.inf)
    blocks = np.array([6.0, 200.0])
    spread = Spread(np.full(2, 0.2), blocks, unknown, faces / blocks, unbounded, np.full(2, 1e9))
    told = told_by_units(metric, values, faces, plain, spread, 0.95)
    # Faces err 3.1 times as much together; a block of 67 or 2 faces bounds that.
    alike = 400 * told
    for blocks, found in zip(spread.blocks, alike, strict=True):
        degrees = blocks - 1 + known_degrees(400 / blocks)
        independent = 400 / (0.2 / (1 / (2 * 1.96)) ** 2)
        reach = max(t.ppf(0.975, independent - 1), 0) / t.ppf(0.975, degrees)
        assert found == pytest.approx(independent * min(reach, 1) ** 2, rel=0.01)


def test_a_calibration_error_of_one_unit_has_no_interval() -> None:
    blocks = np.zeros((256, 20, 3))
    blocks[7, 12] = (40, 26, 20)
    ece = next(metric for metric in METRICS if metric.name == "ece")
    (found,) = estimate(ece, blocks.sum(axis=0)[None], Options(), blocks=[blocks])
    assert found.value is not None
    assert (found.low, found.high) == (None, None)
    assert found.reason


@pytest.mark.parametrize("blocks", [0, 1])
def test_faces_of_one_unit_have_no_interval(blocks: int) -> None:
    counts = np.zeros((256, 2, 2), np.int64)
    counts[:blocks, 0] = (30, 10)
    found = estimate(ACCURACY, counts.sum(axis=0)[None], Options(), blocks=[counts])[0]
    assert (found.low, found.high) == (None, None)
    assert found.reason
