from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceaudit.audit.sampling import LEAST, allocate, draw
from faceaudit.schema import Task

TASKS = [Task("gender", "custom", ("a", "b")), Task("race", "custom", ("x", "y", "z"))]


def scored(rows, seed=0):
    generator = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "gender_pred": generator.choice(["a", "b"], rows, p=[0.9, 0.1]),
            "race_pred": generator.choice(["x", "y", "z"], rows, p=[0.7, 0.25, 0.05]),
            "sure": generator.random(rows),
        }
    )


@given(
    st.lists(st.integers(1, 2000), min_size=1, max_size=40),
    st.integers(1, 900),
)
@settings(max_examples=200, deadline=None)
def test_allocation_draws_as_many_as_asked_and_no_more_than_there_are(sizes, n):
    sizes = np.array(sizes)
    n = max(n, len(sizes))
    found = allocate(sizes, np.ones(len(sizes)), n)
    assert found.sum() == min(n, sizes.sum())
    assert (found <= sizes).all()
    assert (found >= np.minimum(sizes, min(LEAST, n // len(sizes)))).all()


def test_rare_strata_and_low_confidence_are_drawn_at_a_higher_rate():
    found = allocate(np.array([10_000, 10_000, 100]), np.array([1.0, 2.0, 1.0]), 310)
    assert found.tolist() == [100, 200, 10]


def test_weights_of_every_stratum_sum_to_its_faces():
    frame = scored(3000)
    found = draw(frame, TASKS, ["sure"], 300, 0)
    sums = np.bincount(found.stratum, found.weight)
    assert sums == pytest.approx(found.sizes)
    assert found.sizes.sum() == frame.height
    assert len(found.place) == len(set(found.place)) == 300


def test_equal_seeds_draw_equal_faces():
    frame = scored(1000)
    one, two, other = (draw(frame, TASKS, ["sure"], 100, seed).place.tolist() for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_every_predicted_class_is_in_the_sample():
    frame = scored(5000)
    found = frame[draw(frame, TASKS, [], 120, 0).place]
    assert set(found["race_pred"]) == {"x", "y", "z"}
    assert (found["race_pred"] == "z").mean() > 2 * (frame["race_pred"] == "z").mean()


def test_tasks_that_would_make_strata_too_small_do_not_split_them():
    frame = scored(1000)
    assert draw(frame, TASKS, [], 300, 0).split_by == ("gender", "race")
    assert draw(frame, TASKS, [], 40, 0).split_by == ("gender",)


def test_of_fewer_faces_than_asked_all_are_drawn_with_weight_one():
    found = draw(scored(50), TASKS, ["sure"], 500, 0)
    assert sorted(found.place.tolist()) == list(range(50))
    assert set(found.weight.tolist()) == {1.0}


def test_estimates_from_the_weights_are_unbiased():
    frame = scored(2000)
    truth = (frame["sure"] * 3 + (frame["race_pred"] == "z").cast(pl.Float64)).to_numpy()
    drawn = [draw(frame, TASKS, ["sure"], 150, seed) for seed in range(300)]
    means = [(truth[d.place] * d.weight).sum() / d.weight.sum() for d in drawn]
    assert np.mean(means) == pytest.approx(truth.mean(), abs=4 * np.std(means) / np.sqrt(300))
