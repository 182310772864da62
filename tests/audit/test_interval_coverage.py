"""Intervals hold the true figure as often as they say, in tables whose true figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.intervals import Results, mean_coverage, simulate
from benchmarks.known_tables import (
    ALIKE,
    CLASSES,
    LEANS,
    RATES,
    REGISTERED,
    cells,
    correlations,
    ranked,
    scored,
)
from faceaudit.audit.estimates import FEW_FACES, Options, estimate
from faceaudit.audit.scores import rank_correlations, rank_counts

CORE = {
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "mae",
    "mean_signed_step",
    "log_loss",
    "brier",
    "ece",
    "recall",
}
LOWEST, MEAN = 0.91, (0.93, 0.97)
TABLES = 2000
SINGLE = {name for name in CORE if REGISTERED[name].interval != "classes"}
"""Figures that have an interval from 50 faces of 12 units, too."""


def averages(found: Results) -> dict[str, float]:
    """Coverage of every metric, averaged over rates."""
    return {name: mean_coverage(models) for name, models in found.items()}


def lowest(found: Results) -> dict[str, float]:
    """Coverage of every metric in its worst model."""
    return {
        name: min(held.coverage for held in models.values() if held.given)
        for name, models in found.items()
    }


def outside(found: Results, *, slack: float = 0.0) -> dict[str, float]:
    """Metrics whose coverage is on average not where it is to be."""
    low, high = MEAN[0] - slack, MEAN[1] + slack
    return {name: one for name, one in averages(found).items() if not low <= one <= high}


@pytest.mark.slow
@pytest.mark.parametrize("faces", [100, 300])
def test_of_100_intervals_93_to_97_hold_and_no_model_has_fewer_than_91(faces: int) -> None:
    found = simulate(CORE, TABLES, faces)
    assert set(found) == CORE
    for name, models in found.items():
        assert len(models) >= len(RATES), name
        for held in models.values():
            assert held.given == held.defined > 0, name
    assert outside(found) == {}
    # Of 2,000 tables the lowest of more than a hundred is low by chance by up to a point.
    assert {name: one for name, one in lowest(found).items() if one < LOWEST - 0.01} == {}


@pytest.mark.slow
@pytest.mark.parametrize(("faces", "tables"), [(50, 500), (1000, 200), (2000, 200)])
def test_few_and_many_faces_hold_as_often(faces: int, tables: int) -> None:
    # Of 500 or 200 tables the mean of five models is off by chance by a point at most.
    assert outside(simulate(CORE, tables, faces), slack=0.01) == {}


@pytest.mark.slow
def test_with_units_of_four_faces_no_model_has_fewer_than_91_of_100() -> None:
    found = simulate(CORE, 500, 300, alike=ALIKE)
    assert outside(found) == {}
    # Of 500 tables the lowest of more than a hundred is low by chance by more than a point.
    assert {name: one for name, one in lowest(found).items() if one < LOWEST - 0.01} == {}


@pytest.mark.slow
@pytest.mark.parametrize("faces", [1000, 2000])
def test_with_many_units_93_to_97_of_100_hold(faces: int) -> None:
    assert outside(simulate(CORE, 80, faces, alike=ALIKE), slack=0.015) == {}


@pytest.mark.slow
@pytest.mark.parametrize("faces", [52, 100])
def test_with_few_units_93_to_97_of_100_hold(faces: int) -> None:
    found = simulate(SINGLE, 400, faces, alike=ALIKE)
    assert set(found) == SINGLE
    assert outside(found, slack=0.01) == {}


@pytest.mark.parametrize(("classes", "faces"), [(7, 36), (9, 45)])
def test_macro_f1_of_few_faces_a_class_has_no_interval(classes: int, faces: int) -> None:
    # Intervals would hold in 75 to 90 of 100 tables: a class of three faces is right or wrong.
    confusion = np.random.default_rng(5).multinomial(faces, cells(classes, 0.8).ravel())
    confusion = confusion.reshape(1, classes, classes)
    for name in ("macro_f1", "macro_precision"):
        (found,) = estimate(REGISTERED[name], confusion, Options())
        assert (found.low, found.reason) == (None, FEW_FACES)
    (found,) = estimate(REGISTERED["macro_recall"], confusion, Options())
    assert found.low is not None


@pytest.mark.slow
def test_figures_of_scores_hold_with_units_as_well() -> None:
    found = simulate({"auc", "average_precision", "macro_auc"}, 200, 300, alike=ALIKE)
    # Of 200 tables the lowest of fifteen is low by chance by up to five points.
    assert {name: one for name, one in lowest(found).items() if one < LOWEST - 0.05} == {}
    assert {name: one for name, one in averages(found).items() if one < MEAN[0]} == {}


@pytest.mark.parametrize("faces", [50, 100, 300])
def test_mean_signed_distances_hold_whether_errors_lean_to_one_side_or_not(faces: int) -> None:
    # Student's interval holds too seldom where about three errors are all to one side.
    found = simulate({"mean_signed_step"}, 1000, faces)
    assert {lean for lean, _ in found["mean_signed_step"]} == {
        f"{classes}, {lean:g} to 1" for classes in CLASSES[1:] for lean in (1, *LEANS)
    }
    assert outside(found) == {}
    # Of 1,000 tables the lowest of thirty is low by chance by up to two points.
    assert min(lowest(found).values()) > LOWEST - 0.015


def test_the_simulation_finds_intervals_that_ignore_units() -> None:
    naive = simulate({"accuracy"}, 100, 100, alike=ALIKE, naive=True)
    assert averages(naive)["accuracy"] < MEAN[0]
    assert min(lowest(naive).values()) < LOWEST


def test_simulated_scores_are_counted_as_the_audit_counts_them() -> None:
    true, scores = scored(np.random.default_rng(3), 4, 60, CLASSES[1], 1.0)
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
