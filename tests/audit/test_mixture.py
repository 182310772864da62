"""Shares by EM, and how far single faces move them."""

from __future__ import annotations

import numpy as np
import pytest

from faceaudit.audit.intervals import generator_for
from faceaudit.audit.mixture import Mixture, em_shares, recalibrate


def faces_of(shares, rows, generator, sharpness=1.0):
    """Scores of faces of two classes, annotated class; calibrated where sharpness is 1."""
    true = generator.choice(2, rows, p=shares)
    logit = 1.8 * (2 * true - 1) + 1.8 * generator.normal(size=rows)
    odds = np.exp(sharpness * 2 * 1.8 * logit / 1.8**2)
    return np.column_stack([1 / (1 + odds), odds / (1 + odds)]), true


def test_em_finds_the_shares_of_scores_that_are_calibrated():
    generator = np.random.default_rng(0)
    prior, true = np.array([0.3, 0.4, 0.3]), np.array([0.7, 0.2, 0.1])
    centers = np.array([[0, 0], [2, 0], [0, 2]])
    faces = centers[generator.choice(3, 40_000, p=true)] + generator.normal(size=(40_000, 2))
    density = np.exp(-0.5 * ((faces[:, None] - centers) ** 2).sum(axis=-1))
    probs = density * prior / (density @ prior)[:, None]
    found = em_shares(probs, prior)
    assert found == pytest.approx(true, abs=0.015)
    # The most likely shares make the gradient on the simplex vanish.
    assert (density / (density @ found)[:, None]).mean(axis=0) == pytest.approx(
        np.ones(3), abs=1e-4
    )


def test_em_of_hard_scores_counts_them():
    probs = np.eye(3)[[0, 0, 1, 2]]
    assert em_shares(probs, np.full(3, 1 / 3)) == pytest.approx([0.5, 0.25, 0.25])


def test_recalibrated_scores_have_the_shares_of_the_labelled_faces():
    generator = np.random.default_rng(2)
    true = generator.choice(3, 3000, p=[0.6, 0.3, 0.1])
    logits = 3 * np.eye(3)[true] + 2 * generator.normal(size=(3000, 3))
    probs = np.exp(2 * logits) / np.exp(2 * logits).sum(axis=1, keepdims=True)
    found = recalibrate(probs, true, np.ones(3000))
    assert found.apply(probs).mean(axis=0) == pytest.approx(np.bincount(true) / 3000, abs=2e-3)
    assert found.slope < 1 / 1.5


def test_faces_that_are_told_apart_without_error_do_not_make_scores_certain():
    probs = np.array([[0.8, 0.2]] * 20 + [[0.2, 0.8]] * 20)
    found = recalibrate(probs, np.repeat([0, 1], 20), np.ones(40))
    assert 1 < found.slope < 5


@pytest.mark.parametrize("sharpness", [1.0, 2.0])
def test_moves_have_the_variance_of_repeated_sets_and_labels(sharpness):
    """Both sources together, and each alone, as many simulated sets vary."""
    found, said = [], []
    for seed in range(300):
        generator = generator_for(seed, "mixture", {})
        scores, _ = faces_of([0.8, 0.2], 600, generator, sharpness)
        own, true = faces_of([0.5, 0.5], 200, generator, sharpness)
        fit = Mixture.fit(scores, own, true, np.ones(200))
        found.append(fit.shares)
        said.append([one.variance for one in fit.moves(None, None)])
    variance = np.mean(said, axis=0).sum(axis=0)
    assert variance == pytest.approx(np.var(found, axis=0), rel=0.25)
    assert np.mean(found, axis=0) == pytest.approx([0.8, 0.2], abs=0.01)


def test_moves_are_what_one_more_face_changes():
    """A labeled face, and a face of the set, weighed a little more move the shares as said."""
    generator = np.random.default_rng(5)
    scores, _ = faces_of([0.7, 0.3], 400, generator)
    own, true = faces_of([0.5, 0.5], 150, generator)
    whole = Mixture.fit(scores, own, true, np.ones(150))
    of_set, _ = whole.moves(None, None)
    twice = Mixture.fit(np.concatenate([scores, scores[:1]]), own, true, np.ones(150))
    moved = (twice.shares - whole.shares) * 401 / 400
    assert of_set.each[0] == pytest.approx(moved, rel=0.05, abs=1e-5)
