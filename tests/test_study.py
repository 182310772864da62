"""The study of sharing: what is run, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.paired_runs import Comparison, training_folder
from benchmarks.study import (
    BY_GENDER,
    BY_RACE,
    OWN_GROUP,
    QUESTIONS,
    RECIPES,
    answers,
    by_group,
    check_splits,
    finished,
    group_table,
    steps_of,
    table,
)
from faceaudit.models.bundle import FACTS
from faceaudit.training.recipe import Recipe
from faceaudit.training.recipe_files import list_recipes, load_recipe
from faceaudit.training.splits import SPLITS
from tests.paired import finish

PARTS = {"a.jpg": "training", "b.jpg": "test", "c.jpg": "left out"}


def test_every_recipe_of_the_study_is_run_and_compared() -> None:
    assert {f"study/{name}" for name in RECIPES} == {
        name for name in list_recipes() if name.startswith("study/")
    }
    assert {name for one in QUESTIONS for name in (*one.first, *one.second)} == set(RECIPES)


def record(path: Path, parts: dict[str, str]) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    pl.DataFrame({"sha256": list(parts), "part": list(parts.values())}).write_parquet(path)


def card(work: Path, name: str, seed: int, recipe: Recipe | None = None) -> None:
    """The facts of a run of a recipe, on 130 images."""
    facts = {"recipe": asdict(recipe or load_recipe(f"study/{name}", {"seed": seed}))}
    path = work / f"{name}-{seed}" / FACTS
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps({**facts, "split": {"training": 130}}))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The runs of one seed."""
    record(tmp_path / "split" / SPLITS, PARTS)
    for name in RECIPES:
        record(training_folder(tmp_path, name, 4) / SPLITS, PARTS)
        card(tmp_path, name, 4)
    return tmp_path


def test_runs_that_learned_from_other_images_are_not_compared(work: Path) -> None:
    record(training_folder(work, "age_asian", 4) / SPLITS, {"a.jpg": "training"})
    check_splits(work, [4])
    record(training_folder(work, "stl_age", 4) / SPLITS, {**PARTS, "c.jpg": "training"})
    with pytest.raises(SystemExit, match="stl_age-4 has another split than"):
        check_splits(work, [4])


def test_runs_of_another_recipe_are_not_compared(work: Path) -> None:
    changed = replace(load_recipe("study/ge"), learning_rate=1.0)
    card(work, "ge", 4, changed)
    with pytest.raises(SystemExit, match="ge-4 was trained with another learning_rate"):
        check_splits(work, [4])


def test_steps_are_of_batches_begun(work: Path) -> None:
    recipe = load_recipe("study/mtl")
    assert steps_of(work, "mtl", 4) == recipe.epochs * -(-130 // recipe.batch)


def test_a_seed_counts_when_all_its_recipes_are_trained(tmp_path: Path) -> None:
    for name in RECIPES:
        finish(tmp_path, name, 2, {"gender": [1, 0]})
    finish(tmp_path, RECIPES[0], 3, {"gender": [1, 0]})
    (tmp_path / "foo-bar.training").mkdir()
    assert finished(tmp_path) == [2]


def test_answers_tell_what_is_shown_and_what_remains_possible() -> None:
    ways = (("ge",), ("mtl",))
    one = Comparison("Does it help?", "gender", *ways, 9, 2, 0.9, 0.92, -0.02, -0.03, -0.01, 0.0)
    other = replace(one, task="age_group", low=-0.0004, high=0.01, p_adjusted=0.4)
    text = answers([replace(one, p_adjusted=0.0), other])
    assert text == [
        "**Does it help?** gender is worse by -2.0 (-3.0 to -1.0) points; age group: no difference "
        "is shown; one between 0.0 and +1.0 points remains possible."
    ]
    (alone,) = answers([replace(one, p_adjusted=0.083), other])
    assert alone == (
        "**Does it help?** gender differs by -2.0 (-3.0 to -1.0) points, which is not "
        "significant once all 2 comparisons are allowed for (p = 0.083); age group: no difference "
        "is shown; one between 0.0 and +1.0 points remains possible."
    )
    assert "< 0.001" in table([replace(one, p_adjusted=0.0)])
    # One seed tells nothing of chance, however small its p value.
    assert "no difference is shown" in answers([replace(one, seeds=1, p_adjusted=0.0)])[0]


def test_a_model_of_a_part_is_compared_with_the_one_of_all_on_that_part() -> None:
    """The model of faces annotated Others is wrong wherever that of all is right."""
    rng = np.random.default_rng(0)
    rows = []
    parts = {name: range(60 * k, 60 * (k + 1)) for k, name in enumerate(BY_RACE)}
    parts |= {name: range(150 * k, 150 * (k + 1)) for k, name in enumerate(BY_GENDER)}
    for seed in range(3):
        common = rng.random(300) < 0.8
        for name in RECIPES:
            for image in parts.get(name, range(300)):
                right = not common[image] if name == "age_others" else bool(common[image])
                rows.append((name, seed, f"{image:03}", image, right))
    columns = ["recipe", "seed", "image", "group", "age_group"]
    found = by_group(pl.DataFrame(rows, schema=columns, orient="row"))
    assert [one.question for one in found] == list(OWN_GROUP.values())
    assert [one.images for one in found] == [150] * 2 + [60] * 5
    assert [one.question for one in found if one.told_apart] == ["race Others"]
    assert found[-1].difference < -0.4
    assert all(one.difference == 0 for one in found[:-1])
    assert "| race Others | 60 |" in group_table(found)
