"""Estimates: what an interval stands for."""

from __future__ import annotations

import numpy as np
import pytest

from faceaudit.audit.estimates import Options, estimate, standard_error
from faceaudit.audit.metrics import METRICS
from faceaudit.audit.results import Estimate

NAMED = {metric.name: metric for metric in METRICS}


def test_the_standard_error_of_a_share_is_that_of_the_binomial() -> None:
    confusion = np.array([[700, 100], [200, 1000]])
    (found,) = estimate(NAMED["accuracy"], confusion, Options())
    expected = np.sqrt(0.85 * 0.15 / 2000)
    assert standard_error(found, 0.95) == pytest.approx(expected, rel=0.01)


def test_there_is_a_standard_error_where_no_error_was_seen() -> None:
    (found,) = estimate(NAMED["accuracy"], np.diag([20, 30]), Options())
    assert found.value == 1.0
    assert standard_error(found, 0.95) > 0.01


def test_without_an_interval_there_is_no_standard_error() -> None:
    assert standard_error(Estimate(3.0, None, None, 1, "no interval"), 0.95) is None
