"""Two equal tables are seldom said to differ, whatever the metric; simulated on compare's code.

A share of false alarms must not be above 6 % by more than the simulation's own noise.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.false_alarms import Setting
from benchmarks.false_changes import (
    DRIFT,
    PAIRED,
    BothModels,
    distance_alarms,
    drift_alarms,
    drift_of_shares,
    paired_alarms,
    paired_share_alarms,
)
from faceaudit.audit.metrics import accuracy, log_loss
from tests.audit.test_false_alarms import above


def test_two_models_of_the_benchmark_are_equally_good_and_not_the_same() -> None:
    pool = BothModels.of(3, 0.8)
    every = np.ones((1, len(pool.sides[0].true)), np.int64)
    for needs, metric in (("classes", accuracy), ("losses", log_loss)):
        first, second = (metric(side.counts(needs, every)) for side in pool.sides)
        assert first == pytest.approx(second)
    predicted = [side.scores.argmax(axis=1) for side in pool.sides]
    assert 0.05 < (predicted[0] != predicted[1]).mean() < 0.4


def test_equal_models_are_seldom_said_to_differ_on_the_same_faces() -> None:
    generator = np.random.default_rng(1)
    assert not above(paired_share_alarms(generator, 500), 500)
    assert not above(paired_alarms(generator, Setting((60, 200)), 60), 60)


def test_other_faces_of_the_same_kind_are_seldom_said_to_differ() -> None:
    generator = np.random.default_rng(2)
    assert not above(drift_of_shares(generator, 500), 500)
    assert not above(distance_alarms(generator, 100), 100)
    assert not above(drift_alarms(generator, Setting((30, 3000)), 200), 200)


@pytest.mark.slow
@pytest.mark.parametrize("setting", PAIRED, ids=str)
def test_no_metric_of_the_same_faces_cries_wolf(setting: Setting) -> None:
    assert not above(paired_alarms(np.random.default_rng(3), setting, 1000), 1000)


@pytest.mark.slow
@pytest.mark.parametrize("setting", DRIFT, ids=str)
def test_no_metric_of_other_faces_cries_wolf(setting: Setting) -> None:
    assert not above(drift_alarms(np.random.default_rng(4), setting, 2000), 2000)


@pytest.mark.slow
def test_no_distribution_and_no_share_cries_wolf() -> None:
    generator = np.random.default_rng(5)
    rows = [*paired_share_alarms(generator, 5000), *drift_of_shares(generator, 5000)]
    assert not above(rows, 5000)
    assert not above(distance_alarms(generator, 2000), 2000)
