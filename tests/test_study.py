"""The arithmetic of the study of sharing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_rel

from benchmarks.study import (
    QUESTIONS,
    RECIPES,
    Comparison,
    check_splits,
    compare,
    holm,
    split_of,
)
from faceaudit.training.recipe_files import list_recipes

NAMES = (("a",), ("b",))


def right(seed: int, rate: float, images: int = 400, seeds: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((images, seeds)) < rate


def test_every_recipe_of_the_study_is_run_and_compared() -> None:
    assert {f"study/{name}" for name in RECIPES} == {
        name for name in list_recipes() if name.startswith("study/")
    }
    assert {name for *_, first, second in QUESTIONS for name in (*first, *second)} == set(RECIPES)


def test_with_one_seed_it_is_the_paired_t_test() -> None:
    one, other = right(0, 0.8, seeds=1), right(1, 0.7, seeds=1)
    found = compare("?", "gender", one, other, NAMES)
    expected = ttest_rel(one[:, 0].astype(float), other[:, 0].astype(float))
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_swapping_the_ways_turns_the_difference_round() -> None:
    one, other = right(0, 0.8), right(1, 0.7)
    found, turned = (compare("?", "gender", *pair, NAMES) for pair in ((one, other), (other, one)))
    assert found.difference == pytest.approx(-turned.difference)
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low))


def test_equal_ways_are_seldom_told_apart() -> None:
    alarms = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        easy = rng.random((300, 1))  # images differ in how hard they are, seeds in luck
        ways = [
            rng.random((300, 3)) < np.clip(easy + rng.normal(0, 0.02, (1, 3)), 0, 1) for _ in "ab"
        ]
        alarms += compare("?", "gender", *ways, NAMES).p_value < 0.05
    assert alarms / 400 < 0.075


def test_adjusted_p_values_are_holms() -> None:
    def with_p(p: float) -> Comparison:
        return Comparison("?", "gender", *NAMES, 10, 3, 0.5, 0.5, 0.0, 0.0, 0.0, p)

    found = holm([with_p(p) for p in (0.04, 0.01, 0.03)])
    assert [one.p_adjusted for one in found] == pytest.approx([0.06, 0.03, 0.06])


def test_runs_that_learned_from_other_images_are_not_compared(tmp_path: Path) -> None:
    parts = {"a.jpg": "training", "b.jpg": "test", "c.jpg": "left out"}

    def record(name: str, found: dict[str, str]) -> None:
        path = split_of(tmp_path, name, 0)
        path.parent.mkdir(exist_ok=True)
        pl.DataFrame({"file": list(found), "part": list(found.values())}).write_parquet(path)

    for name in RECIPES:
        record(name, parts)
    record("age_asian", {"a.jpg": "training"})
    check_splits(tmp_path, seeds=1)
    record("stl_age", {**parts, "c.jpg": "training"})
    with pytest.raises(SystemExit, match="stl_age-0 has another split than mtl-0"):
        check_splits(tmp_path, seeds=1)
