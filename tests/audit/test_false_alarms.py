"""The benchmark of false alarms runs on the audit's own code, and equal subgroups raise few."""

from __future__ import annotations

import numpy as np

from benchmarks.false_alarms import (
    alarms,
    clustered_alarms,
    permutation_alarms,
    shares,
    tables_of,
    years_alarms,
)


def test_equal_subgroups_are_seldom_called_different() -> None:
    generator = np.random.default_rng(5)
    faces = np.array([30, 100, 300, 1000, 3000])
    tables = tables_of(generator, 2000, faces[:, None], np.array([0.9]))
    shown = alarms(shares(tables[:, :, 0, 0], faces), 5)
    # 5 % and three standard errors.
    assert shown.mean() <= 0.065
    assert permutation_alarms(generator, tables[:300]).mean() <= 0.09


def test_gap_of_ten_points_is_shown_with_a_thousand_faces() -> None:
    generator = np.random.default_rng(6)
    right = generator.binomial(1000, [0.8, 0.9, 0.9], (200, 3))
    assert alarms(shares(right, np.full(3, 1000)), 3).mean() > 0.99


def test_units_taken_as_independent_raise_many_and_as_units_few() -> None:
    rows = list(clustered_alarms(np.random.default_rng(7), 200))
    kept = [row.pairs for row in rows if row.setting.endswith("--unit")]
    plain = [row.pairs for row in rows if row.setting.endswith("independent")]
    assert max(kept) <= 0.1
    assert np.mean(plain) > 0.15


def test_skewed_errors_raise_few() -> None:
    assert np.mean([row.pairs for row in years_alarms(np.random.default_rng(8), 200)]) <= 0.08
