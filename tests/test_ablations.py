"""Choices of a recipe undone one at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.ablations import ABLATIONS, RECIPE, SHORT, TASKS, WHOLE, file_name, table_of
from benchmarks.study import Comparison
from faceaudit.training.recipe_files import load_recipe


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name != WHOLE])
def test_every_ablation_is_a_recipe_of_its_own(name: str) -> None:
    whole = load_recipe(RECIPE, dict(SHORT))
    assert load_recipe(RECIPE, {**SHORT, **ABLATIONS[name]}) != whole
    assert file_name(name).replace("_", "").isalnum()


def test_the_table_marks_what_differs_beyond_chance() -> None:
    one = Comparison("mixup", "race", ("mixup",), (WHOLE,), 9, 1, 0.6, 0.7, -0.1, -0.2, -0.05, 0.0)
    rows = [
        replace(one, task=task, p_adjusted=p)
        for task, p in zip(TASKS, (0.01, 0.5, 1.0), strict=True)
    ]
    text = table_of(rows)
    assert text.count("-10.0 (-20.0 to -5.0)") == 3
    assert text.count(" *") == 1
    assert text.count("0.700") == 3
