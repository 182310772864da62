from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from faceaudit.audit.quantify import (
    adjusted_count,
    not_identified,
    post_stratified,
    rates_of,
)

RATES = np.array([[0.8, 0.15, 0.05], [0.1, 0.85, 0.05], [0.2, 0.1, 0.7]])


@st.composite
def confusions(draw):
    size = draw(st.integers(2, 5))
    seed = draw(st.integers(0, 10_000))
    generator = np.random.default_rng(seed)
    return generator.integers(0, 60, (size, size)) + np.eye(size, dtype=int) * 80, generator


@given(confusions())
@settings(max_examples=60, deadline=None)
def test_shares_are_found_again_from_what_they_are_predicted_as(drawn):
    confusion, generator = drawn
    true, rates = generator.dirichlet(np.ones(len(confusion))), rates_of(confusion)
    assert adjusted_count(true @ rates, rates) == pytest.approx(true, abs=1e-6)


@given(confusions())
@settings(max_examples=60, deadline=None)
def test_adjusted_counts_lie_on_the_simplex_whatever_was_predicted(drawn):
    confusion, generator = drawn
    shares = generator.dirichlet(np.full(len(confusion), 0.1))
    found = adjusted_count(shares, rates_of(confusion))
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1)


def test_outside_the_simplex_the_most_likely_shares_are_taken():
    shares = np.array([0.97, 0.02, 0.01])
    found = adjusted_count(shares, RATES)

    def loss(x):
        p = np.exp(x) / np.exp(x).sum()
        return -(shares * np.log(p @ RATES)).sum()

    best = minimize(loss, np.zeros(3), method="Nelder-Mead", options={"maxiter": 20_000})
    assert -(shares * np.log(found @ RATES)).sum() <= best.fun + 1e-6
    assert (np.linalg.solve(RATES.T, shares) < 0).any()


def test_a_sample_of_the_set_itself_gives_the_same_by_both_ways():
    """With weights that fit the predicted shares, inverting the confusion is post-stratifying."""
    joint = np.array([[400, 30, 20], [50, 250, 10], [40, 20, 180]], float)
    shares = joint.sum(axis=0) / joint.sum()
    direct = post_stratified(shares, joint)
    assert direct == pytest.approx(joint.sum(axis=1) / joint.sum())
    assert adjusted_count(shares, rates_of(joint)) == pytest.approx(direct)


def test_a_predicted_class_without_a_labelled_face_leaves_the_shares_unknown():
    joint = np.array([[10, 0], [5, 0]], float)
    assert np.isnan(post_stratified([0.7, 0.3], joint)).all()
    assert post_stratified([1.0, 0.0], joint) == pytest.approx([2 / 3, 1 / 3])


def test_classes_that_are_predicted_alike_are_not_identified():
    assert not_identified(np.array([[50.0, 50], [52, 48]])) == (0, 1)
    assert not_identified(np.array([[90.0, 10], [10, 90]])) is None


def test_the_two_classes_that_are_confused_most_are_named():
    joint = np.array([[90.0, 5, 5], [5, 50, 45], [5, 48, 47]])
    assert not_identified(joint) == (1, 2)


def test_a_confusion_is_identified_as_often_as_replicates_of_it_keep_their_sign():
    """Close to the bound both say the same: the determinant of gamma draws changes sign seldom."""
    generator = np.random.default_rng(0)
    for wrong, known in ((20, True), (38, True), (44, False)):
        joint = np.array([[100.0 - wrong, wrong], [wrong, 100 - wrong]])
        drawn = rates_of(generator.standard_gamma(joint, (4000, 2, 2)))
        flipped = float((np.linalg.det(drawn) < 0).mean())
        assert (flipped < 0.025) is known
        assert (not_identified(joint) is None) is known


def test_a_class_that_is_never_predicted_leaves_the_shares_unidentified():
    assert not_identified(np.array([[10.0, 0], [10, 0]])) == (0, 1)
