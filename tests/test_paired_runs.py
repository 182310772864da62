"""How runs are compared in pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_rel

from benchmarks.paired_runs import (
    Comparison,
    Question,
    answer,
    collect,
    compare,
    holm,
    interval,
    is_constant,
    luck_of,
    outcomes,
    points,
    read,
    right_of,
    write,
)
from tests.paired import finish

QUESTION = Question("?", "gender", ("a",), ("b",))


def right(seed: int, rate: float, images: int = 400, seeds: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((images, seeds)) < rate


def test_with_one_seed_it_is_the_paired_t_test() -> None:
    one, other = right(0, 0.8, seeds=1), right(1, 0.7, seeds=1)
    found = compare(QUESTION, one, other, np.arange(400), luck_of([one, other]))
    expected = ttest_rel(one[:, 0].astype(float), other[:, 0].astype(float))
    assert found.p_value == pytest.approx(expected.pvalue)
    bounds = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((bounds.low, bounds.high))
    assert not replace(found, p_adjusted=0.0).told_apart


def test_swapping_the_ways_turns_the_difference_round() -> None:
    one, other = right(0, 0.8), right(1, 0.7)
    luck = luck_of([one, other])
    pairs = ((one, other), (other, one))
    found, turned = (compare(QUESTION, *pair, np.arange(400), luck) for pair in pairs)
    assert found.difference == pytest.approx(-turned.difference)
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low))


def test_copies_of_images_narrow_nothing() -> None:
    one, other = right(0, 0.8, seeds=1), right(1, 0.7, seeds=1)
    alone = compare(QUESTION, one, other, np.arange(400), None)
    double = [np.concatenate([way, way]) for way in (one, other)]
    copied = compare(QUESTION, *double, np.tile(np.arange(400), 2), None)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize("luck", [0.0, 0.01, 0.03])
def test_equal_ways_are_told_apart_as_often_as_stated(seeds: int, luck: float) -> None:
    alarms, tables, ways = 0, 400, 5
    for table in range(tables):
        rng = np.random.default_rng([table, seeds])
        easy = rng.normal(0.8, 0.2, (600, 1))  # images differ in how hard they are, runs in luck
        runs = [
            rng.random((600, seeds)) < np.clip(easy + rng.normal(0, luck, (1, seeds)), 0, 1)
            for _ in range(ways)
        ]
        found = compare(QUESTION, runs[0], runs[1], np.arange(600), luck_of(runs))
        alarms += found.p_value < 0.05
    assert 0.02 <= alarms / tables <= 0.08


def test_what_seeds_share_is_no_luck_of_a_way() -> None:
    rng = np.random.default_rng(0)
    base = rng.random((500, 1)) < np.array([0.6, 0.7, 0.9])
    luck = luck_of([base, base.copy()])
    assert luck is not None
    assert (luck.variance, luck.degrees) == (pytest.approx(0.0), 2)


def test_ways_that_learned_nothing_say_nothing_of_luck() -> None:
    moving = [right(seed, 0.8) for seed in range(3)]
    constant = np.tile(right(9, 0.5, seeds=1), 3)
    assert is_constant(constant)
    assert not is_constant(constant[:, :1])  # of one seed that cannot be told
    assert luck_of([*moving, constant]) == luck_of(moving)
    assert luck_of([constant, constant]) == luck_of([constant[::-1], constant])


def test_adjusted_p_values_are_holms() -> None:
    ways = (("a",), ("b",))

    def with_p(p: float) -> Comparison:
        return Comparison("?", "gender", *ways, 10, 3, 0.5, 0.5, 0.0, 0.0, 0.0, p)

    found = holm([with_p(p) for p in (0.04, 0.01, 0.03)])
    assert [one.p_adjusted for one in found] == pytest.approx([0.06, 0.03, 0.06])


def test_no_run_has_no_outcome(tmp_path: Path) -> None:
    assert right_of(tmp_path, "mtl", 0) is None
    with pytest.raises(SystemExit, match="nothing is finished"):
        collect(tmp_path, [("mtl", 0)], "split", tmp_path / "right.parquet")


@pytest.fixture
def both(tmp_path: Path) -> pl.DataFrame:
    """Two recipes with two seeds, from two machines."""
    results, one, other = tmp_path / "study.parquet", tmp_path / "one", tmp_path / "other"
    finish(one, "mtl", 0, {"gender": [1, 1, 0], "race": [0, 1, 0]})
    finish(one, "alone", 0, {"gender": [0, 1, 0], "race": [1, 1, 0]}, groups=[0, 1, 1])
    finish(other, "mtl", 1, {"gender": [1, 0, 0], "race": [0, 1, 1]}, folder="elsewhere")
    finish(other, "alone", 1, {"gender": [1, 1, 1], "race": [0, 0, 1]}, folder="elsewhere")
    runs = [("mtl", 0), ("alone", 0)]
    collect(one, runs, "split", results)
    return collect(other, [("mtl", 1), ("alone", 1)], "split", results)


def test_seeds_of_several_machines_are_set_side_by_side(both: pl.DataFrame) -> None:
    expected = [
        {"image": "0000/0.jpg", "0": True, "1": True},
        {"image": "0000/1.jpg", "0": True, "1": False},
        {"image": "0000/2.jpg", "0": False, "1": False},
    ]
    for seed in range(5):  # whatever the order of the rows
        shuffled = both.sample(fraction=1.0, shuffle=True, seed=seed)
        assert outcomes(shuffled, ("mtl",), "gender").to_dicts() == expected


def test_a_run_that_is_trained_again_replaces_its_own_rows(
    both: pl.DataFrame, tmp_path: Path
) -> None:
    results, one = tmp_path / "study.parquet", tmp_path / "one"
    finish(one, "mtl", 0, {"gender": [0, 0, 0], "race": [0, 1, 0]})
    again = collect(one, [("mtl", 0)], "split", results)
    assert again.height == both.height
    assert not outcomes(again, ("mtl",), "gender")["0"].any()
    assert outcomes(again, ("alone",), "gender")["0"].sum() == 1
    with pytest.raises(SystemExit, match="its split is not that of the runs in"):
        collect(one, [("mtl", 0)], "another", results)


def test_questions_are_answered_in_their_order_and_kept(both: pl.DataFrame, tmp_path: Path) -> None:
    questions = [
        Question("?", "race", ("alone",), ("mtl",)),
        Question("?", "gender", ("mtl",), ("alone",)),
    ]
    found = answer(both, questions)
    assert [one.task for one in found] == ["race", "gender"]
    assert (found[1].accuracy_first, found[1].accuracy_second) == pytest.approx((3 / 6, 4 / 6))
    write(found, tmp_path / "found.json", steps={"mtl": 9})
    assert read(tmp_path / "found.json") == found


def test_ways_that_lack_a_seed_or_images_are_not_compared(both: pl.DataFrame) -> None:
    question = [Question("?", "gender", ("mtl",), ("alone",))]
    lacking = both.filter((pl.col("recipe") != "alone") | (pl.col("seed") != 1))
    with pytest.raises(SystemExit, match="alone: seeds 0, 1 are not all there"):
        answer(lacking, question)
    lacking = both.filter((pl.col("recipe") != "alone") | (pl.col("image") != "0000/1.jpg"))
    with pytest.raises(SystemExit, match="alone: its images are not those of all others"):
        answer(lacking, question)


def test_points_have_a_sign_but_none_where_they_are_zero() -> None:
    assert [points(value) for value in (0.012, -0.0003, 0.0003, -0.1)] == [
        "+1.2",
        "0.0",
        "0.0",
        "-10.0",
    ]
    one = Comparison("?", "gender", ("a",), ("b",), 9, 2, 0.6, 0.7, -0.1, -0.2, 0.05, 0.1)
    assert interval(one) == "-10.0 (-20.0 to +5.0)"
