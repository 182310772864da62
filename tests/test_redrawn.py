"""The leak reproduced: one network, two choices of test images."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from benchmarks.redrawn import BY_HEART, RECIPE, TASKS, shown, table_of
from faceaudit.training.recipe_files import load_recipe


def crops(rows: int = 5000) -> pl.DataFrame:
    """What is learned is right; of the rest, six of ten."""
    generator = np.random.default_rng(0)
    part = generator.choice(["training", "validation", "test"], rows, p=[0.8, 0.1, 0.1])
    right = (part == "training") | (generator.random(rows) < 0.6)
    return pl.DataFrame({"part": part, **dict.fromkeys(TASKS, right)})


def test_files_drawn_again_show_what_was_learned_by_heart() -> None:
    found = {(one.split, one.task): one for one in shown(crops())}
    clean, again = found["clean", "race"], found["drawn again", "race"]
    assert clean.learned == 0
    assert clean.accuracy == pytest.approx(0.6, abs=0.07)
    assert again.learned / again.images == pytest.approx(0.8, abs=0.05)
    assert again.accuracy == pytest.approx(0.8 + 0.2 * 0.6, abs=0.03)
    assert again.low > clean.high


def test_crops_without_a_label_do_not_count() -> None:
    table = crops().with_columns(gender=pl.when(pl.int_range(pl.len()) % 2 == 0).then("gender"))
    known = table.filter(pl.col("part") == "test").drop_nulls("gender").height
    found = {(one.split, one.task): one.images for one in shown(table)}
    assert found["clean", "gender"] == known < found["clean", "race"]


def test_the_table_has_a_row_for_each_task_and_split() -> None:
    assert len(table_of(shown(crops())).splitlines()) == 2 + 2 * len(TASKS)


def test_the_recipe_is_learned_by_heart() -> None:
    recipe = load_recipe(RECIPE, dict(BY_HEART))
    assert recipe.heads.dropout == recipe.augmentation.mirror_share == recipe.ema == 0
    assert recipe.data.test_share > 0
