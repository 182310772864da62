"""What is reduced before it is spread over subgroups gives the figures of the whole."""

from __future__ import annotations

import numpy as np
import pytest

from faceaudit.audit.age import AGE_METRICS, age_metric, share_of_marks
from faceaudit.audit.clusters import spread_over_blocks
from faceaudit.audit.metrics import METRICS
from faceaudit.audit.scores import FEW_OF_ALL, ScoreRows, rank_correlations, rank_counts
from faceaudit.audit.simultaneous import GRID, Figures, Pairs, student, student_grid
from faceaudit.audit.tally import AGE_YEARS, CellCounts, Cut

ACCURACY = next(metric for metric in METRICS if metric.name == "accuracy")
CHECKS = [metric.name for metric in AGE_METRICS if metric.needs == "ages"]


def sparse(dense: np.ndarray) -> CellCounts:
    codes = np.flatnonzero(dense)
    return CellCounts(codes, dense.ravel()[codes], dense.shape)


def cut_of(cells: list[int]) -> Cut:
    names = tuple({"site": str(number)} for number in range(max(cells) + 1))
    return Cut(("site",), names, np.array(cells))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sums_over_an_axis_are_those_of_the_dense_array(axis: int) -> None:
    dense = np.random.default_rng(axis).poisson(0.3, (3, 4, 2, 5, 3))
    found = sparse(dense).without(axis)
    cells = cut_of([0, 1, 2])
    expected = dense.sum(axis=2 + axis)
    assert found.inner == expected.shape[2:]
    for number in range(3):
        assert (cells.blocks(found, number) == expected[number]).all()


def test_marked_places_are_added_up_by_block() -> None:
    random = np.random.default_rng(0)
    dense, marks = random.poisson(0.3, (3, 4, 5, 6)), random.random((2, 5, 6)) < 0.4
    found = sparse(dense).marked(marks)
    expected = np.stack([(dense * one).sum(axis=(2, 3)) for one in marks], axis=-1)
    for number in range(3):
        assert (cut_of([0, 1, 2]).blocks(found, number) == expected[number]).all()


def test_nothing_counted_reduces_to_nothing() -> None:
    empty = sparse(np.zeros((2, 3, 4, 5), np.int64))
    assert not empty.without(0).any()
    assert not empty.marked(np.ones((2, 4, 5), np.bool_)).any()


@pytest.mark.parametrize("name", [*CHECKS, "challenge_30_fpr", "challenge_18_fnr"])
def test_an_age_check_follows_from_the_faces_that_count_and_the_hits(name: str) -> None:
    metric = age_metric(name)
    assert metric.marks is not None
    ages = np.random.default_rng(1).poisson(0.2, (3, AGE_YEARS, AGE_YEARS))
    sums = np.stack([(ages * one).sum(axis=(1, 2)) for one in metric.marks()], axis=-1)
    reduced = share_of_marks(metric)
    assert (reduced.function(sums) == metric.function(ages)).all()
    assert (reduced.faces(sums) == metric.faces(ages)).all()


def test_blocks_without_faces_leave_the_spread_as_it_is() -> None:
    full = np.random.default_rng(2).poisson(3, (7, 3, 3))
    among = np.zeros((20, 3, 3), np.int64)
    among[3:10] = full
    alone, found = (spread_over_blocks(ACCURACY, one) for one in (full, among))
    assert found.variance == pytest.approx(alone.variance, rel=1e-12)
    assert found.blocks == alone.blocks == 7


@pytest.mark.parametrize("share", [0.5 / FEW_OF_ALL, 4 / FEW_OF_ALL])
def test_a_subgroup_is_ranked_as_if_it_were_alone(share: float) -> None:
    random = np.random.default_rng(3)
    size = 4000
    scores = random.integers(0, 50, (size, 3)) / 49  # Many are equal.
    true, cells = random.integers(0, 3, size), (random.random(size) < share).astype(np.int64)
    found = ScoreRows(true, scores, cells).ranks(cut_of([0, 1]), 1)
    own = cells == 1
    assert (found.counts == rank_counts(true[own], scores[own])).all()
    for name, expected in rank_correlations(true[own], scores[own]).items():
        assert found.correlations[name] == pytest.approx(expected, abs=1e-12)


def test_a_subgroup_without_faces_has_no_ranks() -> None:
    rows = ScoreRows(np.array([0, 1]), np.array([[0.1, 0.9], [0.2, 0.8]]), np.array([0, 0]))
    assert rows.ranks(cut_of([0, 1]), 1).counts.sum() == 0


def test_quantiles_on_the_grid_are_those_of_each_subgroup() -> None:
    degrees = np.array([3.0, 50.0, np.inf, 3.0])
    expected = student(
        np.broadcast_to(GRID[:, None], (len(GRID), 4)), np.broadcast_to(degrees, (len(GRID), 4))
    )
    assert (student_grid(degrees) == expected).all()


def test_a_pair_by_itself_is_as_far_apart_as_among_all() -> None:
    values = np.array([0.5, 0.91, 0.8, 1.0])
    low, high = values - 0.05, np.minimum(values + 0.04, 1)
    degrees = np.array([40.0, 60.0, 29.0, 80.0])
    figures = Figures.of_bounds(ACCURACY, values, low, high, 0.95, degrees)
    among = Pairs(figures, np.array([3]), np.array([1]))
    alone = Pairs(figures.at(np.array([3, 1])), np.array([0]), np.array([1]))
    assert alone.from_zero == among.from_zero
    assert alone.bounds(2.5) == among.bounds(2.5)
