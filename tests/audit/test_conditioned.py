"""Figures at the same mix of a control feature, and what a gap consists of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceaudit.audit.age import AGE_METRICS
from faceaudit.audit.decomposition import (
    MEANS,
    Pair,
    Strata,
    common_mix,
    decompose,
    face_sums,
    standardised,
)
from faceaudit.audit.metrics import METRICS
from faceaudit.audit.results import Audit, Decomposition, Estimate
from faceaudit.audit.run import audit
from faceaudit.audit.tally import ERROR_BINS, YearErrors
from faceaudit.errors import UsageError
from faceaudit.tables import PredictionTable

OpenTable = Callable[..., PredictionTable]
RowsOf = Callable[..., pl.DataFrame]
METRIC = {metric.name: metric for metric in (*METRICS, *AGE_METRICS)}
ACCURACY = METRIC["accuracy"]
QUICK = {"replicates": 100, "verify": "never"}
VALUES = ("a", "b", "c")


def sums_of(faces: list[int], right: list[int]) -> np.ndarray:
    return np.stack([faces, right, right], axis=-1).astype(float)


def parts_of(
    first: np.ndarray, second: np.ndarray
) -> tuple[Estimate, Estimate, Estimate, Estimate, tuple]:
    pair = Pair({}, None, Strata(first), Strata(second))
    return decompose(ACCURACY, pair, first + second, VALUES, 0.95)


@st.composite
def sides(draw: st.DrawFn) -> np.ndarray:
    faces = draw(st.lists(st.integers(0, 200), min_size=3, max_size=3).filter(any))
    return sums_of(faces, [draw(st.integers(0, n)) for n in faces])


@given(sides(), sides())
@settings(max_examples=150, deadline=None)
def test_mix_and_rate_sum_to_the_gap_and_contributions_to_the_rate(
    first: np.ndarray, second: np.ndarray
) -> None:
    gap, mix, rate, _, each = parts_of(first, second)
    expected = first[:, 1].sum() / first[:, 0].sum() - second[:, 1].sum() / second[:, 0].sum()
    assert gap.value == pytest.approx(expected)
    assert mix.value + rate.value == pytest.approx(gap.value)
    assert sum(one.estimate.value for one in each) == pytest.approx(rate.value)
    turned = parts_of(second, first)
    assert [one.value for one in turned[:3]] == pytest.approx([-gap.value, -mix.value, -rate.value])
    for one in (gap, mix, rate, *(part.estimate for part in each)):
        assert one.low is None or one.low <= one.value <= one.high


def test_a_gap_of_ages_alone_is_all_mix() -> None:
    first, second = sums_of([300, 100, 0], [270, 50, 0]), sums_of([100, 300, 0], [90, 150, 0])
    gap, mix, rate, share, _ = parts_of(first, second)
    assert gap.value == pytest.approx(0.2)
    assert mix.value == pytest.approx(0.2)
    assert rate.value == pytest.approx(0)
    assert rate.low < 0 < rate.high
    assert share.value == pytest.approx(1)


def test_a_gap_at_the_same_ages_is_no_mix_and_names_the_age_it_comes_from() -> None:
    first, second = (
        sums_of([100, 100, 100], [90, 90, 50]),
        sums_of([200, 200, 200], [180, 180, 180]),
    )
    gap, mix, rate, share, each = parts_of(first, second)
    assert mix.value == pytest.approx(0)
    assert rate.value == pytest.approx(gap.value)
    assert share.value == pytest.approx(0)
    assert each[0].value == "c"
    assert each[0].estimate.value == pytest.approx(rate.value)


def test_an_age_that_only_one_side_has_belongs_to_the_mix() -> None:
    _, mix, rate, _, each = parts_of(
        sums_of([100, 100, 0], [90, 20, 0]), sums_of([100, 0, 50], [90, 0, 45])
    )
    assert [one.value for one in each] == ["a"]
    assert rate.value == pytest.approx(0)
    assert mix.value == pytest.approx(0.55 - 0.9)


def test_the_share_of_a_gap_that_may_be_none_is_not_defined() -> None:
    _, _, _, share, _ = parts_of(
        sums_of([50, 50, 0], [45, 40, 0]), sums_of([40, 60, 0], [35, 50, 0])
    )
    assert share.value is None
    assert "told apart" in share.reason


@pytest.mark.parametrize("name", MEANS)
def test_sums_over_faces_give_the_metric_and_its_mean_square(name: str) -> None:
    random, metric = np.random.default_rng(3), METRIC[name]
    if metric.needs in {"classes", "groups"}:
        counts = random.integers(0, 9, (4, 5, 5))
    elif metric.needs == "years":
        errors = random.integers(0, 3, (4, ERROR_BINS))
        counts = YearErrors(errors, random.random((4, 4)) * 50)
    else:
        counts = random.random((4, 5)) * 20
    faces, total, squares = np.moveaxis(face_sums(metric, counts), -1, 0)
    assert faces == pytest.approx(np.asarray(metric.faces(counts), float))
    assert total / faces == pytest.approx(metric.function(counts))
    if metric.second_moment is not None:
        assert squares / faces == pytest.approx(metric.second_moment(counts))
    elif metric.unit == "share":
        assert squares == pytest.approx(total)


def test_common_mix_holds_what_every_large_subgroup_has() -> None:
    weights = common_mix([[30, 10, 0], [20, 20, 5], [0, 0, 1]], min_n=30)
    assert weights == pytest.approx([50 / 80, 30 / 80, 0])
    assert common_mix([[40, 0], [0, 40]], min_n=30) is None


def test_standardized_share_is_the_weighted_mean_of_shares() -> None:
    strata, weights = Strata(sums_of([10, 40, 0], [10, 20, 0])), np.array([0.75, 0.25, 0.0])
    everybody = sums_of([100, 100, 10], [90, 50, 5])
    found = standardised(ACCURACY, strata, everybody, weights, VALUES, 0.95)
    assert found.value == pytest.approx(0.75 * 1.0 + 0.25 * 0.5)
    assert 0.6 < found.low < found.value < found.high < 1
    absent = standardised(ACCURACY, strata, everybody, np.array([0.5, 0.25, 0.25]), VALUES, 0.95)
    assert absent.value is None
    assert "annotated c" in absent.reason


def test_a_unit_that_alone_has_a_value_moves_the_standardized_figure() -> None:
    def width(alone: int, other: int) -> float:
        blocks = np.zeros((9, 3, 3))
        for block in range(8):
            blocks[block] = sums_of([25, 0, 0], [25 - block % 2, 0, 0])
        blocks[alone] += sums_of([0, 10, 0], [0, 2, 0])
        blocks[other] += sums_of([0, 10, 0], [0, 2, 0])
        strata = Strata(blocks.sum(axis=0), blocks)
        weights = np.array([0.5, 0.5, 0.0])
        found = standardised(ACCURACY, strata, strata.sums, weights, VALUES, 0.95)
        assert found.value == pytest.approx((0.98 + 0.2) / 2)
        return found.high - found.low

    # All faces of b are of one unit: leaving it out says how far they move the figure.
    assert width(8, 8) > 1.5 * width(7, 8)


def test_intervals_of_a_gap_and_its_parts_cover() -> None:
    random = np.random.default_rng(11)
    shares = np.array([[0.6, 0.3, 0.1], [0.2, 0.4, 0.4]])
    rates = np.array([[0.9, 0.8, 0.6], [0.9, 0.7, 0.5]])
    true = parts_of(*(sums_of(s * 1e8, s * r * 1e8) for s, r in zip(shares, rates, strict=True)))
    held = np.zeros(3)
    for _ in range(400):
        faces = [random.multinomial(n, s) for n, s in zip((150, 400), shares, strict=True)]
        drawn = [sums_of(n, random.binomial(n, r)) for n, r in zip(faces, rates, strict=True)]
        for place, (one, truth) in enumerate(zip(parts_of(*drawn)[:3], true[:3], strict=True)):
            held[place] += one.low <= truth.value <= one.high
    assert (held / 400 > 0.92).all()


# --- the audit --------------------------------------------------------------------------------


def gap_of(found: Audit, **wanted: object) -> Decomposition:
    (only,) = [
        one
        for one in found.decompositions
        if all(getattr(one, name) == value for name, value in wanted.items())
    ]
    return only


@pytest.fixture(scope="module")
def sites(rows_of: RowsOf) -> pl.DataFrame:
    """Faces of two sites; women are mostly of the site where errors are frequent."""
    random = np.random.default_rng(2)
    frame = rows_of(1200, seed=8)
    women = (frame["gender_true"] == "Female").to_numpy()
    dark = random.random(1200) < np.where(women, 0.8, 0.3)
    races = np.array(frame["race_true"])
    missed = random.random(1200) < np.where(dark, 0.4, 0.1)
    told = np.where(missed, np.roll(races, 1), races)
    return frame.with_columns(
        site=pl.Series(np.where(dark, "dark", "light")),
        race_pred=pl.when(pl.col("race_pred").is_not_null()).then(pl.Series(told)),
    ).drop(pl.col("^race_prob_.*$"))


def test_figures_within_are_those_of_the_part_of_the_table(
    sites: pl.DataFrame, open_table: OpenTable
) -> None:
    found = audit(open_table(sites), by=["gender"], within="site", **QUICK)
    part = audit(open_table(sites.filter(site="dark")), by=["gender"], **QUICK)
    inside = {
        (one.task, one.metric, one.label, tuple(one.subgroup.items())[1:]): one.estimate
        for one in found.metrics
        if one.subgroup.get("site") == "dark"
    }
    assert len(inside) == len(part.metrics)
    for one in part.metrics:
        same = inside[one.task, one.metric, one.label, tuple(one.subgroup.items())]
        assert (same.value, same.n) == (pytest.approx(one.estimate.value), one.estimate.n)
    held = [one for one in found.disparities if one.within == {"site": "dark"}]
    assert [(one.metric, one.worst, one.difference) for one in held] == [
        (one.metric, one.worst, pytest.approx(one.difference)) for one in part.disparities
    ]
    assert sum(not one.within for one in found.disparities) == len(part.disparities)


def test_a_difference_that_is_only_of_sites_disappears_at_the_same_sites(
    sites: pl.DataFrame, open_table: OpenTable
) -> None:
    found = audit(open_table(sites), by=["gender"], within="site", **QUICK)
    wanted = {"task": "race", "metric": "accuracy", "within": "site", "second": None}
    one = gap_of(found, first={"gender": "Female"}, **wanted)
    assert one.gap.high < 0
    assert one.mix.high < 0
    assert one.rate.low < 0 < one.rate.high
    assert one.mix.value + one.rate.value == pytest.approx(one.gap.value)
    alike = {
        tuple(one.subgroup.values()): one.estimate.value
        for one in found.standardised
        if (one.task, one.metric) == ("race", "accuracy")
    }
    assert abs(alike["Female",] - alike["Male",]) < abs(one.gap.value) / 2


def test_standardized_figure_is_that_of_reweighted_rows(
    sites: pl.DataFrame, open_table: OpenTable
) -> None:
    found = audit(open_table(sites), by=["gender"], within="site", **QUICK)
    rows = sites.drop_nulls(["race_pred"]).with_columns(
        right=pl.col("race_pred") == pl.col("race_true")
    )
    mix = dict(rows.group_by("site").agg(pl.len() / rows.height).iter_rows())
    women = rows.filter(gender_true="Female").group_by("site").agg(pl.col("right").mean())
    expected = sum(mix[site] * right for site, right in women.iter_rows())
    (one,) = [
        one
        for one in found.standardised
        if (one.task, one.metric, one.subgroup) == ("race", "accuracy", {"gender": "Female"})
    ]
    assert one.estimate.value == pytest.approx(expected)
    assert one.estimate.low < expected < one.estimate.high


def test_age_gaps_are_taken_apart_for_every_ranked_subgroup(
    rows_of: RowsOf, open_table: OpenTable
) -> None:
    found = audit(open_table(rows_of(900)), by=["gender", "race"], **QUICK)
    assert {one.within for one in found.decompositions} == {"age_group"}
    for one in found.decompositions:
        assert one.mix.value + one.rate.value == pytest.approx(one.gap.value)
    wanted = {"task": "age", "metric": "mae", "by": ("gender",)}
    pair = gap_of(found, first={"gender": "Male"}, second=None, **wanted)
    mae = {
        one.subgroup.get("gender"): one.estimate.value
        for one in found.metrics
        if one.metric == "mae" and set(one.subgroup) == {"gender"}
    }
    assert pair.gap.value == pytest.approx(mae["Male"] - mae["Female"])


def test_within_annotated_age_every_other_task_is_conditioned_too(
    rows_of: RowsOf, open_table: OpenTable
) -> None:
    found = audit(open_table(rows_of(900)), by=["gender"], within="age_group", **QUICK)
    tasks = {one.task for one in found.decompositions}
    assert tasks == {"gender", "race", "age_group", "age"}
    pairs = [
        (one.task, one.metric, one.by, str(one.first), str(one.second))
        for one in found.decompositions
    ]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize("within", [None, "site"])
def test_units_widen_conditioned_figures(
    within: str | None, sites: pl.DataFrame, open_table: OpenTable
) -> None:
    frame = sites.head(400)
    frame = pl.concat([frame] * 4).with_columns(
        person=pl.int_range(1600) % 400, image=pl.int_range(1600).cast(pl.String)
    )
    plain, clustered = (
        audit(open_table(frame), by=["gender"], within=within, unit=unit, **QUICK)
        for unit in (None, "person")
    )

    def widths(found: Audit) -> dict[tuple[str, ...], float]:
        ages = [
            (str(one.subgroup), str(one.age_group), str(one.standardised), name, estimate)
            for one in found.conditioned_age
            for name, estimate in one.estimates.items()
        ]
        alike = [
            (one.task, one.metric, str(one.subgroup), one.estimate) for one in found.standardised
        ]
        gaps = [
            (one.metric, one.within, str(one.first), str(one.second), part, getattr(one, part))
            for one in found.decompositions
            for part in ("gap", "rate")
        ]
        return {
            tuple(key): estimate.high - estimate.low
            for *key, estimate in [*ages, *alike, *gaps]
            if estimate.high is not None and estimate.n >= 400
        }

    narrow, wide = widths(plain), widths(clustered)
    ratios = np.array([wide[key] / narrow[key] for key in narrow.keys() & wide.keys()])
    assert len(ratios) >= 20
    # Four faces of a person that say the same: intervals twice as wide.
    assert 1.7 < np.median(ratios) < 2.4
    assert ratios.min() > 1.2


def test_a_feature_is_not_compared_across_and_held_fixed(
    sites: pl.DataFrame, open_table: OpenTable
) -> None:
    with pytest.raises(UsageError, match="--within site: also in --by"):
        audit(open_table(sites), by=["gender", "site"], within="site", **QUICK)
    found = audit(open_table(sites), within="gender", **QUICK)
    assert found.by == (("race",),)
