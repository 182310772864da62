"""Intervals: known values, what they solve, and no collapse where no error was seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from faceaudit.audit.intervals import (
    calibration_interval,
    difference_interval,
    generator_for,
    mean_interval,
    overlap_interval,
    positive_mean_interval,
    rank_interval,
    rank_variance,
    share_interval,
    sure_bounds,
    told_by_degrees,
    weighted_interval,
    wilson,
)


def test_wilson_agrees_with_scipy() -> None:
    from scipy.stats import binomtest

    for hits, trials in [(0, 10), (3, 10), (10, 10), (487, 2000)]:
        expected = binomtest(hits, trials).proportion_ci(0.9, method="wilson")
        found = wilson(hits / trials, trials, 0.9)
        bounds = [float(bound) for bound in found]
        assert bounds == pytest.approx([expected.low, expected.high], abs=1e-9)


def test_wilson_of_nothing_is_undefined() -> None:
    low, high = wilson([np.nan, 0.5], [0, 4], 0.95)
    assert np.isnan(low[0])
    assert np.isnan(high[0])
    assert low[1] < 0.5 < high[1]


def test_newcombes_example_of_a_difference() -> None:
    # Newcombe 1998, table II, (a) 56/70 - 48/80: score interval 0.0524 to 0.3339.
    parts = []
    for hits, trials in [(56, 70), (48, 80)]:
        low, high = wilson(hits / trials, trials, 0.95)
        parts.append((hits / trials, float(low), float(high)))
    assert difference_interval(parts[0], parts[1]) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_after_one_hit_the_lower_bound_is_poissons() -> None:
    from scipy.stats import poisson

    for hits, trials in [(1, 400), (2, 400), (3, 400), (3, 50), (2, 40)]:
        low, high = (float(bound) for bound in share_interval(hits / trials, trials, 0.95))
        assert poisson.sf(hits - 1, low * trials) == pytest.approx(0.05)
        assert high == wilson(hits / trials, trials, 0.95)[1]
        mirrored = share_interval(1 - hits / trials, trials, 0.95)
        assert [1 - float(bound) for bound in mirrored[::-1]] == pytest.approx([low, high])


def test_two_hits_of_ten_or_fewer_are_not_rare() -> None:
    assert share_interval(2 / 8, 8, 0.95) == wilson(2 / 8, 8, 0.95)
    assert share_interval(1 / 8, 8, 0.95)[0] < wilson(1 / 8, 8, 0.95)[0]
    assert share_interval(2 / 8, 8, 0.95, of_ten=2)[0] < wilson(2 / 8, 8, 0.95)[0]


@pytest.mark.parametrize("hits", [0, 3, 4, 20])
def test_with_no_hit_or_several_a_share_has_wilsons_interval(hits: int) -> None:
    assert share_interval(hits / 40, 40, 0.95) == wilson(hits / 40, 40, 0.95)


@pytest.mark.parametrize("subgroups", [1, 5, 28, 700])
@pytest.mark.parametrize("faces", [30, 100, 1000])
def test_a_sure_bound_misses_no_rate_more_often_than_allowed(subgroups: int, faces: int) -> None:
    allowed = 0.05 / subgroups
    hits = np.arange(faces + 1)
    usual = share_interval(hits / faces, faces, 1 - allowed)
    low, high = sure_bounds(usual, hits / faces, faces, 1 - allowed)
    assert (low <= usual[0]).all()
    assert (high >= usual[1]).all()
    for rate in np.linspace(0.001, 0.999, 333):
        chance = binom.pmf(hits, faces, rate)
        assert chance[low > rate].sum() <= allowed * (1 + 1e-9)
        assert chance[high < rate].sum() <= allowed * (1 + 1e-9)


def test_wilsons_bounds_alone_decide_too_often_near_1() -> None:
    hits, allowed = np.arange(31), 0.05 / 28
    _, high = share_interval(hits / 30, 30, 1 - allowed)
    assert binom.pmf(hits, 30, 0.98)[high < 0.98].sum() > 10 * allowed


def test_sure_bounds_of_nothing_are_undefined_and_of_no_hit_are_zero() -> None:
    shares, faces = np.array([np.nan, 0.0, 1.0]), np.array([0.0, 10.0, 10.0])
    low, high = sure_bounds(share_interval(shares, faces, 0.99), shares, faces, 0.99)
    assert np.isnan([low[0], high[0]]).all()
    assert (low[1], high[2]) == (0.0, 1.0)
    assert high[1] == pytest.approx(1 - low[2])


def test_the_interval_of_f1_is_that_of_the_share_that_is_both() -> None:
    f1 = 2 * 30 / (2 * 30 + 6 + 9)
    found = overlap_interval(f1, 45, 0.95)
    share = share_interval(30 / 45, 45, 0.95)
    expected = [2 * bound / (1 + bound) for bound in share]
    assert [float(bound) for bound in found] == pytest.approx([float(one) for one in expected])


def test_a_mean_has_students_interval() -> None:
    from scipy.stats import t

    values = np.array([1.0, 2.0, 4.0, 9.0])
    low, high = mean_interval(values.mean(), values.var(), 4, 0.95)
    expected = t.interval(0.95, 3, values.mean(), values.std(ddof=1) / 2)
    assert (float(low), float(high)) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[3.0], [0.1, 0.1, 0.1]])
def test_a_mean_without_spread_has_no_interval(values: list[float]) -> None:
    mean = np.mean(values)
    low, high = mean_interval(mean, np.mean(np.square(values)) - mean**2, len(values), 0.95)
    assert np.isnan(low)
    assert np.isnan(high)


def test_bounds_of_a_positive_mean_are_where_the_score_test_turns() -> None:
    from scipy.stats import t

    mean, dispersion, faces = 0.4, 2.5, 30
    for bound in positive_mean_interval(mean, dispersion, faces, 0.9):
        error = np.sqrt(dispersion * bound / (faces - 1))
        assert abs(mean - bound) / error == pytest.approx(t.ppf(0.95, faces - 1))


def test_a_positive_mean_of_nothing_is_bounded_above() -> None:
    low, high = positive_mean_interval(0.0, 1.0, 50, 0.95)
    assert low == 0
    assert 0 < high < 0.1


def test_the_interval_of_a_difference_is_newcombes() -> None:
    parts = [(56 / 70, *wilson(56 / 70, 70, 0.95)), (48 / 80, *wilson(48 / 80, 80, 0.95))]
    values, low, high = (np.array(part, np.float64) for part in zip(*parts, strict=True))
    found = weighted_interval(values, (low, high), np.array([1.0, -1.0]))
    expected = difference_interval(*((float(v), float(a), float(b)) for v, a, b in parts))
    assert [float(bound) for bound in found] == pytest.approx(expected)


def test_the_mean_of_values_that_vary_as_one_is_bounded_by_the_mean_of_their_bounds() -> None:
    values, low, high = np.array([0.5, 0.7]), np.array([0.4, 0.65]), np.array([0.55, 0.8])
    found = weighted_interval(values, (low, high), np.array([0.5, 0.5]), np.ones((2, 2)))
    assert [float(bound) for bound in found] == pytest.approx([low.mean(), high.mean()])


def test_intervals_do_not_collapse_where_no_error_was_seen() -> None:
    assert wilson(1.0, 50, 0.95)[0] < 0.95
    low, high = rank_interval(1.0, 20, 30, 0.95)
    assert low < 0.97
    assert high == 1.0


def test_a_bin_without_an_error_bounds_the_calibration_error() -> None:
    low, high = calibration_interval(np.array([[50.0, 49.9, 50.0]]), 1.0, 0.95)
    assert low == 0
    assert 0.06 < high < 0.15


def test_bins_of_single_faces_have_no_calibration_error() -> None:
    low, high = calibration_interval(np.array([[1.0, 0.9, 1.0], [0.0, 0.0, 0.0]]), 1.0, 0.95)
    assert np.isnan(low)
    assert np.isnan(high)


def test_rank_interval_holds_the_auc_and_narrows() -> None:
    auc = np.array([0.0, 0.3, 0.5, 0.9, 1.0])
    wide, narrow = rank_interval(auc, 10, 12, 0.95), rank_interval(auc, 1000, 1200, 0.95)
    for low, high in (wide, narrow):
        assert (low <= auc + 1e-12).all()
        assert (auc - 1e-12 <= high).all()
    assert (wide[1] - wide[0] > narrow[1] - narrow[0]).all()
    # The two classes of a binary task mirror each other.
    np.testing.assert_allclose(wide[0], 1 - rank_interval(1 - auc, 12, 10, 0.95)[1], atol=1e-12)


def test_shares_of_20_faces_or_more_hold_every_rate_in_91_of_100_tables() -> None:
    from scipy.stats import binom

    rates = np.concatenate([np.linspace(0.5, 0.99, 400), np.linspace(0.99, 0.9999, 100)])
    for trials in (20, 30, 40, 41, 50, 100, 300, 1000):
        hits = np.arange(trials + 1)
        low, high = share_interval(hits / trials, trials, 0.95)
        chances = binom.pmf(hits, trials, rates[:, None])
        inside = (low <= rates[:, None]) & (rates[:, None] <= high)
        held = (chances * inside).sum(axis=1)
        assert held.min() >= 0.91
        assert 0.94 <= held.mean() <= 0.965


def test_the_variance_of_an_auc_is_hanley_and_mcneils_at_equal_sizes() -> None:
    # A = 0.9, 50 of either: Q1 = A / (2 - A), Q2 = 2 A^2 / (1 + A).
    first, second = 0.9 / 1.1, 2 * 0.81 / 1.9
    expected = (0.9 * 0.1 + 49 * (first - 0.81) + 49 * (second - 0.81)) / 2500
    assert float(rank_variance(0.9, 50, 50)) == pytest.approx(expected)


def test_so_many_told_faces_have_students_interval() -> None:
    from scipy.stats import norm, t

    told = float(told_by_degrees(7, 0.9))
    assert norm.ppf(0.95) / np.sqrt(told) == pytest.approx(t.ppf(0.95, 7))
    assert np.isnan(told_by_degrees(0, 0.9))


def test_rank_interval_holds_the_true_auc_as_often_as_it_says() -> None:
    from statistics import NormalDist

    generator = np.random.default_rng(1)
    true = NormalDist().cdf(1.5 / np.sqrt(2))
    own = generator.normal(1.5, 1, (400, 25))
    others = generator.normal(0, 1, (400, 40))
    auc = (own[:, :, None] > others[:, None, :]).mean(axis=(1, 2))
    low, high = rank_interval(auc, 25, 40, 0.95)
    assert 0.92 <= ((low <= true) & (true <= high)).mean() <= 0.99


def test_random_numbers_depend_on_seed_and_subgroup_alone() -> None:
    first = generator_for(0, "race", {"a": "1", "b": "2"}).random(3)
    assert (first == generator_for(0, "race", {"b": "2", "a": "1"}).random(3)).all()
    assert (first != generator_for(1, "race", {"a": "1", "b": "2"}).random(3)).all()
    assert (first != generator_for(0, "race", {"a": "1"}).random(3)).all()


@pytest.mark.parametrize("faces", [1.0, 1.001, 1.5])
def test_a_mean_of_less_than_two_faces_has_no_interval(faces: float) -> None:
    assert np.isnan(mean_interval(4.0, 2.0, faces, 0.95)).all()
    assert np.isnan(positive_mean_interval(4.0, 2.0, faces, 0.95)).all()
    assert np.isfinite(positive_mean_interval(4.0, 2.0, 2.0, 0.95)).all()


def test_a_calibration_error_is_never_bounded_above_1() -> None:
    low, high = calibration_interval(np.array([[3.0, 3.0, 2.0]]), 1.0, 0.95)
    assert 0 <= low <= high == 1
