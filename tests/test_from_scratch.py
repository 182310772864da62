"""Networks of the reference works, trained from random weights on a small budget."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest

from benchmarks.from_scratch import EPOCHS, ROWS, SHORT, STEPS, is_finished, learned, run, table_of
from benchmarks.reference_rows import BUDGETS
from faceaudit.training.recipe_files import list_recipes, load_recipe


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_trained_whole_from_random_weights(name: str) -> None:
    recipe = load_recipe(f"reference/{name}", SHORT)
    assert (recipe.weights, recipe.frozen, len(recipe.stages)) == ("none", "none", 1)


def test_every_network_of_the_reference_works_is_among_them() -> None:
    references = [name for name in list_recipes() if name.startswith("reference/")]
    every = {load_recipe(name).backbone for name in references}
    trained = (*ROWS, *BUDGETS)
    assert {load_recipe(f"reference/{name}").backbone for name in trained} == every
    assert not set(ROWS) & set(BUDGETS)


def test_a_bundle_that_is_not_tested_yet_is_not_finished(tmp_path: Path) -> None:
    name = ROWS[0]
    (tmp_path / name).mkdir()
    (tmp_path / name / "bundle.json").write_text(json.dumps({"split": {"training": 9}}))
    assert not is_finished(tmp_path, name)
    assert not learned(tmp_path)


def test_figures_stand_beside_those_of_who_always_says_the_same(tmp_path: Path) -> None:
    name = "sabat_mobilenet_v3"
    (tmp_path / name).mkdir()
    metrics = {
        "gender": {"accuracy": 0.75, "low": 0.7, "high": 0.8},
        "age": {"mae": 9.5, "low": 9.0, "high": 10.0},
    }
    recipe = asdict(load_recipe(f"reference/{name}", {**SHORT, "precision": "auto"}))
    facts = {"metrics": metrics, "split": {"training": 1000}, "recipe": recipe}
    (tmp_path / name / "bundle.json").write_text(json.dumps(facts))
    (tmp_path / f"{name}.training").mkdir()
    rows = pl.DataFrame({"gender_true": ["a", "a", "a", "b", None], "age_true": [1, 2, 3, 4, 10]})
    rows.write_parquet(tmp_path / f"{name}.training" / "validation.parquet")
    (found,) = learned(tmp_path)
    assert found.images == EPOCHS * min(1000, STEPS * load_recipe(f"reference/{name}").batch)
    assert found.guessed == {"gender": 0.75, "age": pytest.approx((2 + 1 + 0 + 1 + 7) / 5)}
    text = table_of([found])
    assert "0.750 (0.700 to 0.800)" in text
    assert "9.50 (9.00 to 10.00)" in text
    assert "| 0 | 5 | 0.750 | 2.20 |" in text
    facts["recipe"] = {**recipe, "learning_rate": 1.0}
    (tmp_path / name / "bundle.json").write_text(json.dumps(facts))
    with pytest.raises(SystemExit, match=f"{name} was trained with another learning_rate; remove"):
        learned(tmp_path)
    with pytest.raises(SystemExit, match=f"{name} was trained with another learning_rate; remove"):
        run(tmp_path / "absent", tmp_path, [name])
