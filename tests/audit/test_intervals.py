"""Intervals: known values, coverage in simulations, and no collapse where no error was seen."""

from __future__ import annotations

import numpy as np
import pytest

from faceaudit.audit.intervals import (
    difference_interval,
    generator_for,
    mean_interval,
    rank_interval,
    replicates_of,
    spread_around,
    wilson,
)
from faceaudit.audit.metrics import macro_f1, present_classes


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


def test_a_mean_has_students_interval() -> None:
    from scipy.stats import t

    values = np.array([1.0, 2.0, 4.0, 9.0])
    low, high = mean_interval(4, values.sum(), (values**2).sum(), 0.95)
    expected = t.interval(0.95, 3, values.mean(), values.std(ddof=1) / 2)
    assert (float(low), float(high)) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[3.0], [0.1, 0.1, 0.1]])
def test_a_mean_without_spread_has_no_interval(values: list[float]) -> None:
    low, high = mean_interval(len(values), sum(values), sum(v * v for v in values), 0.95)
    assert np.isnan(low)
    assert np.isnan(high)


def test_intervals_do_not_collapse_where_no_error_was_seen() -> None:
    assert wilson(1.0, 50, 0.95)[0] < 0.95
    low, high = rank_interval(1.0, 20, 30, 0.95)
    assert low < 0.97
    assert high == 1.0
    perfect = np.diag([20, 30])
    drawn = replicates_of(perfect, 2000, np.random.default_rng(0))
    low, high = spread_around(1.0, macro_f1(drawn, present_classes(perfect)), 0.95, (0.0, 1.0))
    assert low < 0.99
    assert high == 1.0


def test_rank_interval_holds_the_auc_and_narrows() -> None:
    auc = np.array([0.0, 0.3, 0.5, 0.9, 1.0])
    wide, narrow = rank_interval(auc, 10, 12, 0.95), rank_interval(auc, 1000, 1200, 0.95)
    for low, high in (wide, narrow):
        assert (low <= auc + 1e-12).all()
        assert (auc - 1e-12 <= high).all()
    assert (wide[1] - wide[0] > narrow[1] - narrow[0]).all()
    # The two classes of a binary task mirror each other.
    np.testing.assert_allclose(wide[0], 1 - rank_interval(1 - auc, 12, 10, 0.95)[1], atol=1e-12)


def test_rank_interval_holds_the_true_auc_as_often_as_it_says() -> None:
    from statistics import NormalDist

    generator = np.random.default_rng(1)
    true = NormalDist().cdf(1.5 / np.sqrt(2))
    own = generator.normal(1.5, 1, (400, 25))
    others = generator.normal(0, 1, (400, 40))
    auc = (own[:, :, None] > others[:, None, :]).mean(axis=(1, 2))
    low, high = rank_interval(auc, 25, 40, 0.95)
    assert 0.92 <= ((low <= true) & (true <= high)).mean() <= 0.99


def test_replicated_macro_f1_holds_the_true_value_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    cells = np.array([[0.3, 0.05, 0.02], [0.04, 0.25, 0.04], [0.02, 0.03, 0.25]])
    true = macro_f1(cells)
    held = 0
    for _ in range(200):
        counts = generator.multinomial(120, cells.ravel()).reshape(3, 3)
        drawn = macro_f1(replicates_of(counts, 400, generator), present_classes(counts))
        low, high = spread_around(macro_f1(counts), drawn, 0.95, (0.0, 1.0))
        held += bool(low <= true <= high)
    assert 0.91 <= held / 200 <= 0.99


def test_random_numbers_depend_on_seed_and_subgroup_alone() -> None:
    first = generator_for(0, "race", {"a": "1", "b": "2"}).random(3)
    assert (first == generator_for(0, "race", {"b": "2", "a": "1"}).random(3)).all()
    assert (first != generator_for(1, "race", {"a": "1", "b": "2"}).random(3)).all()
    assert (first != generator_for(0, "race", {"a": "1"}).random(3)).all()
