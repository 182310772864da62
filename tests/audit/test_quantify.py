from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from faceaudit.audit.quantify import (
    LabelledFaces,
    adjusted_count,
    count_draws,
    em_shares,
    em_variance,
    fit_bias,
    identified,
    joint_draws,
    merged_strata,
    post_stratified,
    rates_of,
    share_draws,
    with_bias,
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


def test_em_finds_the_shares_of_scores_that_are_calibrated():
    generator = np.random.default_rng(0)
    prior, true = np.array([0.3, 0.4, 0.3]), np.array([0.7, 0.2, 0.1])
    centers = np.array([[0, 0], [2, 0], [0, 2]])
    faces = centers[generator.choice(3, 40_000, p=true)] + generator.normal(size=(40_000, 2))
    density = np.exp(-0.5 * ((faces[:, None] - centers) ** 2).sum(axis=-1))
    probs = density * prior / (density @ prior)[:, None]
    found = em_shares(probs, prior)
    spread = np.sqrt(em_variance(probs, prior, found))
    assert np.abs(found - true).max() < 4 * spread.max()
    # The most likely shares make the gradient on the simplex vanish.
    assert (density / (density @ found)[:, None]).mean(axis=0) == pytest.approx(
        np.ones(3), abs=1e-4
    )


def test_em_of_hard_scores_counts_them():
    probs = np.eye(3)[[0, 0, 1, 2]]
    assert em_shares(probs, np.full(3, 1 / 3)) == pytest.approx([0.5, 0.25, 0.25])


def test_em_variance_is_that_of_repeated_sets():
    generator = np.random.default_rng(1)
    prior, true = np.array([0.5, 0.5]), np.array([0.8, 0.2])
    found, said = [], []
    for _ in range(300):
        x = np.where(generator.random(500) < true[0], 0.0, 1.5) + generator.normal(size=500)
        density = np.exp(-0.5 * (x[:, None] - np.array([0, 1.5])) ** 2)
        probs = density / density.sum(axis=1, keepdims=True)
        shares = em_shares(probs, prior)
        found.append(shares)
        said.append(em_variance(probs, prior, shares))
    assert np.mean(said, axis=0) == pytest.approx(np.var(found, axis=0), rel=0.25)


def test_recalibrated_scores_have_the_shares_of_the_labelled_faces():
    generator = np.random.default_rng(2)
    true = generator.choice(3, 3000, p=[0.6, 0.3, 0.1])
    logits = 3 * np.eye(3)[true] + 2 * generator.normal(size=(3000, 3))
    probs = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    temperature, bias = fit_bias(probs, true, np.ones(3000))
    means = with_bias(probs, temperature, bias).mean(axis=0)
    assert means == pytest.approx(np.bincount(true) / 3000, abs=2e-3)
    assert temperature > 1.5


def faces_of(strata, faces, seed):
    generator = np.random.default_rng(seed)
    stratum = np.repeat(np.arange(strata), faces)
    cell = generator.integers(0, 4, strata * faces)
    return LabelledFaces(cell, np.repeat(np.arange(1.0, strata + 1), faces), stratum, (2, 2, 1))


def test_replicates_of_a_stratified_sample_have_its_variance():
    faces = faces_of(strata=6, faces=5, seed=3)
    joint = joint_draws(faces, 40_000, np.random.default_rng(0), axis=1)[..., 0]
    hit = faces.cell.reshape(6, 5) == 3
    spread = hit.var(axis=1, ddof=1) * 5 * np.arange(1.0, 7) ** 2
    pseudo = np.mean(faces.weight) ** 2 * 0.25
    assert joint[:, 1, 1].var() == pytest.approx(spread.sum() + pseudo, rel=0.05)


def test_replicates_of_single_faces_and_of_counts_agree():
    generator = np.random.default_rng(4)
    cell = generator.integers(0, 4, 200)
    faces = LabelledFaces(cell, np.ones(200), np.zeros(200, np.int64), (2, 2, 1))
    rows = rates_of(joint_draws(faces, 20_000, generator, axis=0)[..., 0])
    counts = rates_of(count_draws(faces.joint, 20_000, generator)[..., 0])
    assert rows.mean(axis=0) == pytest.approx(counts.mean(axis=0), abs=0.003)
    assert rows.std(axis=0) == pytest.approx(counts.std(axis=0), rel=0.05)


def test_replicates_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    faces = faces_of(strata=4, faces=5, seed=5)
    at_once = joint_draws(faces, 50, np.random.default_rng(0), axis=1)
    monkeypatch.setattr("faceaudit.audit.quantify.DRAWN_AT_ONCE", 60)
    assert joint_draws(faces, 50, np.random.default_rng(0), axis=1) == pytest.approx(at_once)


def test_a_confusion_that_was_not_seen_is_not_impossible_in_replicates():
    draws = count_draws(np.diag([50, 50])[..., None], 4000, np.random.default_rng(0))
    rates = rates_of(draws[..., 0])
    assert 0 < np.quantile(rates[:, 0, 1], 0.975) < 0.08


def test_small_strata_are_joined_with_the_next():
    assert merged_strata(np.array([0, 0, 0, 1, 2, 2, 2, 3])).tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert merged_strata(np.array([0, 1])).tolist() == [0, 0]


def test_classes_that_are_predicted_alike_are_not_identified():
    alike = np.array([[50, 50], [52, 48]])
    apart = np.array([[90, 10], [10, 90]])
    for confusion, known in ((alike, False), (apart, True)):
        draws = count_draws(confusion[..., None], 2000, np.random.default_rng(0))
        assert identified(rates_of(confusion), rates_of(draws[..., 0])) is known


def test_share_draws_vary_as_shares_do():
    draws = share_draws(np.array([300.0, 700.0]), 20_000, np.random.default_rng(0))
    assert draws.mean(axis=0) == pytest.approx([0.3, 0.7], abs=0.001)
    assert draws[:, 0].std() == pytest.approx(np.sqrt(0.3 * 0.7 / 1000), rel=0.03)
