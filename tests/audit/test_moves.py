"""What every face moves, and the intervals and tests that rest on it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2

from faceaudit.audit.intervals import normal_quantile
from faceaudit.audit.moves import Moves, skewed_interval, wald


def share_moves(hits, n):
    """Moves of the faces of which a share are hits."""
    p = hits / n
    return Moves(np.array([[1 - p], [-p]]) / n, np.array([float(hits), float(n - hits)]))


@given(st.integers(1, 199))
@settings(max_examples=40, deadline=None)
def test_of_a_plain_share_it_is_halls_interval(hits):
    n, z = 200, normal_quantile(0.95)
    p = hits / n
    low, high = skewed_interval(np.array([p]), [share_moves(hits, n)], 0.95)
    shift = (2 * z**2 + 1) / 6 * (1 - 2 * p) / n
    half = np.sqrt(z**2 * p * (1 - p) / n + shift**2)
    assert (low[0], high[0]) == pytest.approx((p + shift - half, p + shift + half), abs=3e-4)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_intervals_of_shares_hold_as_often_as_they_say(share):
    n = 300
    hits = np.arange(1, n)
    held = []
    for one in hits:
        low, high = skewed_interval(np.array([one / n]), [share_moves(one, n)], 0.95)
        held.append(low[0] <= share <= high[0])
    assert 0.93 < binom.pmf(hits, n, share) @ held < 0.975


@given(st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_copies_of_every_face_in_one_unit_change_no_interval(copies, seed):
    """Units of like faces tell as much as one of them, but for the quantile of their blocks."""
    generator = np.random.default_rng(seed)
    each = generator.normal(size=(256, 2)) / 256
    each -= each.mean(axis=0)
    once = Moves.of_faces(each, np.arange(256))
    several = Moves.of_faces(
        np.repeat(each, copies, axis=0) / copies, np.repeat(range(256), copies)
    )
    one, other = (skewed_interval(np.full(2, 0.5), [source], 0.95) for source in (once, several))
    assert np.array(one) == pytest.approx(np.array(other), rel=1e-9)


def test_units_never_shorten_an_interval():
    generator = np.random.default_rng(0)
    each = generator.normal(size=(400, 1)) / 400
    each -= each.mean()
    plain = skewed_interval(np.zeros(1), [Moves.of_faces(each)], 0.95)
    # Faces of a unit that cancel out.
    paired = np.concatenate([each, -each])
    units = np.tile(np.arange(400) % 256, 2)
    by_units = skewed_interval(np.zeros(1), [Moves.of_faces(paired, units)], 0.95)
    assert by_units[1][0] > np.sqrt(2) * plain[1][0] * 0.99


def test_with_one_block_of_units_there_is_no_interval():
    source = Moves.of_faces(np.array([[0.1], [-0.1]]), np.zeros(2, np.int64))
    low, high = skewed_interval(np.array([0.5]), [source], 0.95)
    assert np.isnan(low).all()
    assert np.isnan(high).all()


@pytest.mark.parametrize("units", [1, 2])
def test_with_too_few_units_there_is_no_test_over_all_shares(units):
    each = np.vstack([np.eye(7), np.eye(7)[:1]]) - 1 / 7
    found = wald(np.eye(7)[0] - 1 / 7, [Moves.of_faces(each, np.arange(8) % units)])
    assert (found.statistic, found.p_value) == (None, None)
    assert found.reason == "the differences have no spread"


def test_differences_that_are_0_are_rejected_as_often_as_they_should_be():
    """By faces, and by units of which all faces are alike: about 5 in 100 each."""
    generator, found = np.random.default_rng(1), []
    shares = np.array([0.5, 0.3, 0.2])
    for _ in range(400):
        people = generator.multinomial(1, shares, 120).astype(float)
        mean = people.mean(axis=0)
        faces = np.repeat(people - mean, 4, axis=0) / 480
        by_units = wald(mean - shares, [Moves.of_faces(faces, np.repeat(np.arange(120), 4))])
        by_faces = wald(mean - shares, [Moves.of_faces(faces)])
        found.append((by_units.p_value < 0.05, by_faces.p_value < 0.05))
    assert by_faces.p_value == pytest.approx(chi2.sf(by_faces.statistic, 2))
    units, blind = np.mean(found, axis=0)
    assert 0.02 < units < 0.09
    assert blind > 0.3
