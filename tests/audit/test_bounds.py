"""Bounds of every kind of metric: influence, combination, and coverage in small simulations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from faceaudit.audit.age import AGE_METRICS
from faceaudit.audit.bounds import (
    BOUNDS,
    ScoreCounts,
    degrees_of_sum,
    influence,
    smoothed_confusion,
)
from faceaudit.audit.estimates import FEW_UNITS, Options, estimate
from faceaudit.audit.intervals import rank_interval, rank_variance, wilson
from faceaudit.audit.metrics import (
    METRICS,
    Metric,
    accuracy,
    auc,
    auc_influence,
    average_precision,
    curve_influence,
    macro_f1,
)
from faceaudit.audit.scores import rank_correlations, rank_counts, told_correlations
from faceaudit.audit.tally.bins import SCORE_BINS, score_bin

NAMED = {metric.name: metric for metric in (*METRICS, *AGE_METRICS)}
ON_CLASSES = [metric for metric in NAMED.values() if metric.needs in {"classes", "groups"}]
CELLS = np.array([[0.3, 0.05, 0.02], [0.04, 0.25, 0.04], [0.02, 0.03, 0.25]])


@pytest.mark.parametrize("metric", NAMED.values(), ids=lambda metric: metric.name)
def test_every_metric_has_a_kind_of_interval(metric: Metric) -> None:
    assert metric.interval in BOUNDS


def test_influence_of_accuracy_is_its_derivative() -> None:
    confusion = np.array([[30.0, 5.0], [10.0, 55.0]])
    found = influence(accuracy, confusion)
    expected = (np.eye(2) - accuracy(confusion)) / confusion.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("figure", "moves"), [(auc, auc_influence), (average_precision, curve_influence)]
)
def test_influence_of_scores_is_how_far_a_share_of_a_face_moves_the_figure(
    figure: Callable[..., np.ndarray], moves: Callable[..., np.ndarray]
) -> None:
    scores = np.random.default_rng(4).integers(0, 9, (2, 12)).astype(float)
    found = moves(scores)
    for place in np.ndindex(scores.shape):
        more = scores.copy()
        more[place] += 1e-6
        moved = (figure(more) - figure(scores)) / 1e-6
        assert found[place] == pytest.approx(float(moved), abs=1e-5)
    assert (found * scores).sum() == pytest.approx(0, abs=1e-12)


def test_the_variance_of_the_auc_is_delongs() -> None:
    generator = np.random.default_rng(5)
    own, others = generator.normal(1, 1, 40), generator.normal(0, 1, 60)
    scores = np.concatenate([others, own])
    counts = rank_counts(np.repeat([1, 0], [60, 40]), np.stack([scores, -scores], axis=1))[0]
    wins = own[:, None] > others
    delong = wins.mean(axis=1).var() / 40 + wins.mean(axis=0).var() / 60
    assert (np.square(auc_influence(counts)) * counts).sum() == pytest.approx(delong)


def test_the_two_classes_of_a_binary_task_vary_as_one() -> None:
    generator = np.random.default_rng(6)
    true, score = generator.integers(0, 2, 80), generator.random(80)
    found = rank_correlations(true, np.stack([1 - score, score], axis=1))
    np.testing.assert_allclose(found["auc"], np.ones((2, 2)))


def test_rows_shorten_the_interval_of_macro_auc() -> None:
    generator = np.random.default_rng(7)
    true = generator.integers(0, 4, 300)
    scores = generator.random((300, 4)) + 0.5 * np.eye(4)[true]
    counts = [rank_counts(true, scores)]
    known = {name: one[None] for name, one in rank_correlations(true, scores).items()}
    (rows,) = estimate(NAMED["macro_auc"], ScoreCounts(counts, known), Options())
    (tally,) = estimate(NAMED["macro_auc"], ScoreCounts(counts), Options())
    assert rows.value == tally.value
    assert tally.low < rows.low < rows.high < tally.high


def faces_of(classes: int, faces: int, lead: float) -> tuple[np.ndarray, np.ndarray]:
    """Annotated classes and scores that sum to 1."""
    generator = np.random.default_rng(classes)
    true = generator.integers(0, classes, faces)
    odds = generator.normal(size=(faces, classes)) + lead * np.eye(classes)[true]
    scores = np.exp(odds)
    return true, scores / scores.sum(axis=1, keepdims=True)


def told_without_rows(true: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    size = scores.shape[1]
    counts = np.zeros((size, 2, SCORE_BINS), np.int64)
    confusion = np.zeros((size, size), np.int64)
    np.add.at(confusion, (true, scores.argmax(axis=1)), 1)
    for k in range(size):
        np.add.at(counts[k], ((true == k).astype(int), score_bin(scores[:, k])), 1)
    return told_correlations(counts, confusion)


@pytest.mark.parametrize("lead", [0.5, 2.0, 3.0])
def test_histograms_of_two_classes_tell_how_their_figures_vary_together(lead: float) -> None:
    true, scores = faces_of(2, 2000, lead)
    found, expected = told_without_rows(true, scores), rank_correlations(true, scores)
    for name, one in expected.items():
        np.testing.assert_allclose(found[name], one, atol=0.02)


@pytest.mark.parametrize("lead", [0.5, 2.0, 3.0])
@pytest.mark.parametrize("classes", [3, 5, 9])
def test_decisions_tell_nearly_how_figures_of_several_classes_vary_together(
    classes: int, lead: float
) -> None:
    true, scores = faces_of(classes, 20_000, lead)
    found, expected = told_without_rows(true, scores), rank_correlations(true, scores)
    for name, one in expected.items():
        # What counts is the spread of the mean, in which all pairs take part: never far too small.
        assert 0.95 < found[name].sum() / one.sum() < 1.35, name
        np.testing.assert_allclose(np.diagonal(found[name]), 1)


def test_an_average_precision_has_wilsons_interval_after_misses_that_are_no_counts() -> None:
    scores = np.array([[[40, 2, 1, 0], [0, 1, 0, 19]]])
    counts = ScoreCounts([scores])
    (found,) = estimate(NAMED["average_precision"], counts, Options())
    assert found.value is not None
    low, high = found.low, found.high
    # Both bounds are those of one number of faces: Wilson's.
    faces = 1.96**2 * low * (1 - low) / (found.value - low) ** 2
    assert wilson(found.value, faces, 0.95)[1] == pytest.approx(high, abs=1e-3)


def test_an_auc_has_newcombes_interval_at_delongs_variance() -> None:
    generator = np.random.default_rng(11)
    # Scores with fewer faces far off than Hanley and McNeil expect.
    own, others = generator.normal(3, 1, 400), generator.normal(0, 1, 600)
    scores = np.concatenate([others, own])
    true = np.repeat([1, 0], [600, 400])
    counts = ScoreCounts([rank_counts(true, np.stack([scores, -scores], axis=1))])
    found = estimate(NAMED["auc"], counts, Options())[0]
    plain = [float(bound) for bound in rank_interval(found.value, 400, 600, 0.95)]
    wins = own[:, None] > others
    delong = wins.mean(axis=1).var(ddof=1) / 400 + wins.mean(axis=0).var(ddof=1) / 600
    expected = np.sqrt(delong / rank_variance(found.value, 400, 600))
    assert (found.high - found.low) / (plain[1] - plain[0]) == pytest.approx(expected, rel=0.05)


def test_an_auc_without_an_error_has_newcombes_interval() -> None:
    (found,) = estimate(NAMED["auc"], ScoreCounts([np.array([[[30, 0], [0, 20]]])]), Options())
    assert (found.value, found.low, found.high) == pytest.approx(
        (1.0, *(float(bound) for bound in rank_interval(1.0, 20, 30, 0.95)))
    )


def test_degrees_of_freedom_of_equal_variances_add_up() -> None:
    assert float(degrees_of_sum(np.full(5, 0.2), np.full(5, 9.0))) == pytest.approx(45)
    assert float(degrees_of_sum(np.array([1.0, 0.0]), np.array([9.0, 0.0]))) == pytest.approx(9)


def test_smoothing_adds_faces_of_annotated_classes_alone() -> None:
    confusion = np.array([[8, 2, 0], [0, 0, 0], [1, 0, 9]])
    added = smoothed_confusion(confusion) - confusion
    np.testing.assert_allclose(added.sum(axis=1), [2.5, 0, 2.5])
    assert (added >= 0).all()


@pytest.mark.parametrize("metric", ON_CLASSES, ids=lambda metric: metric.name)
def test_a_perfect_table_has_intervals_that_do_not_collapse(metric: Metric) -> None:
    for one in estimate(metric, np.diag([20, 30, 15])[None], Options()):
        assert one.low is not None
        assert one.high is not None
        assert one.low <= one.value <= one.high
        assert one.high - one.low > 0.02


@pytest.mark.parametrize("metric", ON_CLASSES, ids=lambda metric: metric.name)
def test_intervals_hold_the_true_value_as_often_as_they_say(metric: Metric) -> None:
    counts = np.random.default_rng(8).multinomial(120, CELLS.ravel(), 600).reshape(-1, 3, 3)
    true = np.ravel(metric.function(CELLS))
    found = estimate(metric, counts, Options())
    held = [one.low <= true[at % len(true)] <= one.high for at, one in enumerate(found)]
    assert 0.92 <= np.mean(held) <= 0.985


def test_one_table_and_many_have_the_same_intervals() -> None:
    counts = np.random.default_rng(9).integers(0, 30, (5, 4, 4))
    for metric in ON_CLASSES:
        together = estimate(metric, counts, Options())
        assert together == [one for table in counts for one in estimate(metric, table, Options())]


def test_figures_of_classes_need_twenty_units() -> None:
    blocks = np.zeros((256, 3, 3), np.int64)
    blocks[:12] = np.diag([2, 1, 1]) + np.eye(3, k=1, dtype=np.int64)
    (found,) = estimate(NAMED["macro_f1"], blocks.sum(axis=0)[None], Options(), blocks=[blocks])
    assert (found.value, found.low) == (macro_f1(blocks.sum(axis=0)), None)
    assert found.reason == FEW_UNITS
    (share,) = estimate(NAMED["accuracy"], blocks.sum(axis=0)[None], Options(), blocks=[blocks])
    assert share.low is not None
