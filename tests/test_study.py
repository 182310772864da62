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
    collect,
    compare,
    finished,
    holm,
    shares,
    split_of,
)
from faceaudit.training.recipe_files import list_recipes
from faceaudit.training.splits import SPLITS

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


PARTS = {"a.jpg": "training", "b.jpg": "test", "c.jpg": "left out"}


def record(path: Path, parts: dict[str, str]) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    pl.DataFrame({"sha256": list(parts), "part": list(parts.values())}).write_parquet(path)


def test_runs_that_learned_from_other_images_are_not_compared(tmp_path: Path) -> None:
    for path in (tmp_path / "split" / SPLITS, *(split_of(tmp_path, name, 0) for name in RECIPES)):
        record(path, PARTS)
    record(split_of(tmp_path, "age_asian", 0), {"a.jpg": "training"})
    check_splits(tmp_path, [0])
    record(split_of(tmp_path, "stl_age", 0), {**PARTS, "c.jpg": "training"})
    with pytest.raises(SystemExit, match="stl_age-0 has another split than"):
        check_splits(tmp_path, [0])


def finish(work: Path, name: str, seed: int, right: dict[str, list[int]]) -> None:
    """A run whose table says which of its images are right."""
    images = [f"{index}.jpg" for index in range(len(next(iter(right.values()))))]
    columns = {f"{task}_true": [1] * len(images) for task in right}
    columns |= {f"{task}_pred": own for task, own in right.items()}
    path = work / f"{name}-{seed}.training" / "validation.parquet"
    path.parent.mkdir(exist_ok=True, parents=True)
    pl.DataFrame({"image": images, **columns}).write_parquet(path)


def test_a_seed_counts_when_all_its_recipes_are_trained(tmp_path: Path) -> None:
    for name in RECIPES:
        finish(tmp_path, name, 2, {"gender": [1, 0]})
    finish(tmp_path, RECIPES[0], 3, {"gender": [1, 0]})
    assert finished(tmp_path) == [2]


def test_seeds_of_several_machines_are_compared_together(tmp_path: Path) -> None:
    results, one, other = tmp_path / "study.parquet", tmp_path / "one", tmp_path / "other"
    finish(one, "mtl", 0, {"gender": [1, 1, 0], "race": [0, 1, 0]})
    finish(one, "stl_gender", 0, {"gender": [0, 1, 0]})
    finish(other, "mtl", 1, {"gender": [1, 0, 0], "race": [0, 1, 1]})
    finish(other, "stl_gender", 1, {"gender": [1, 1, 1]})
    runs = [("mtl", 0), ("stl_gender", 0)]
    collect(one, runs, "split", results)
    both = collect(other, [("mtl", 1), ("stl_gender", 1)], "split", results)
    assert both["seed"].unique().to_list() == [0, 1]
    found = shares(both, ["mtl"], "gender").sort("image")
    assert found.to_dicts() == [
        {"image": "0.jpg", "0": True, "1": True},
        {"image": "1.jpg", "0": True, "1": False},
        {"image": "2.jpg", "0": False, "1": False},
    ]
    # A run that is trained again replaces its own rows, and nothing else.
    finish(one, "mtl", 0, {"gender": [0, 0, 0], "race": [0, 1, 0]})
    again = collect(one, [("mtl", 0)], "split", results)
    assert again.height == both.height
    assert not shares(again, ["mtl"], "gender")["0"].any()
    assert shares(again, ["stl_gender"], "gender")["0"].sum() == 1
    with pytest.raises(SystemExit, match="its split is not that of the runs in"):
        collect(one, runs, "another", results)
