"""Intervals hold the true figure as often as they say, in tables whose true figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.intervals import Results, simulate
from benchmarks.known_tables import CLASSES, RATES, correlations, ranked, scored
from faceaudit.audit.scores import rank_correlations, rank_counts

CORE = {
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "mae",
    "log_loss",
    "brier",
    "ece",
    "auc",
}
LOWEST, MEAN = 0.91, (0.93, 0.97)
TABLES = 2000


def averages(found: Results) -> dict[str, float]:
    """Coverage of every metric, averaged over the models."""
    return {
        name: float(np.mean([held.coverage for held in models.values()]))
        for name, models in found.items()
    }


def lowest(found: Results) -> dict[str, float]:
    """Coverage of every metric in its worst model."""
    return {name: min(held.coverage for held in models.values()) for name, models in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("faces", [100, 300])
def test_of_100_intervals_93_to_97_hold_and_no_model_has_fewer_than_91(faces: int) -> None:
    found = simulate(CORE, TABLES, faces)
    assert set(found) == CORE
    for name, models in found.items():
        assert len(models) >= len(RATES), name
        for held in models.values():
            assert held.given == held.defined >= TABLES, name
    assert {
        name: one for name, one in averages(found).items() if not MEAN[0] <= one <= MEAN[1]
    } == {}
    assert {name: one for name, one in lowest(found).items() if one < LOWEST} == {}


@pytest.mark.slow
def test_with_units_of_four_faces_no_model_has_fewer_than_91_of_100() -> None:
    found = simulate(CORE - {"auc"}, 500, 300, units=True)
    assert {name: one for name, one in lowest(found).items() if one < LOWEST} == {}


def test_the_simulation_finds_intervals_that_ignore_units() -> None:
    naive = simulate({"accuracy"}, 100, 100, units=True, naive=True)
    assert averages(naive)["accuracy"] < MEAN[0]
    assert min(lowest(naive).values()) < LOWEST


def test_simulated_scores_are_counted_as_the_audit_counts_them() -> None:
    true, scores = scored(np.random.default_rng(3), 4, 60, CLASSES[1], 1.0, units=False)
    scores = scores.round(2)  # so that some are equal
    counts, codes = ranked(true, scores)
    together = correlations(counts, codes)
    for table in range(len(true)):
        expected = rank_counts(true[table], scores[table])
        width = expected.shape[-1]
        assert (counts[table, ..., :width] == expected).all()
        assert not counts[table, ..., width:].any()
        for name, one in rank_correlations(true[table], scores[table]).items():
            np.testing.assert_allclose(together[name][table], one, atol=1e-9)
