"""Rows of the reference works by their own recipes, as far as two cores were given to them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import reference_rows as module
from benchmarks.reference_rows import BUDGETS, finished, recipe_of, run
from faceaudit.models.backbones import find_backbone
from faceaudit.training.recipe_files import list_recipes, load_recipe
from scripts.reference_results import measured


def test_they_are_the_rows_whose_weights_are_at_hand() -> None:
    at_hand = {
        name
        for name in (one.partition("/")[2] for one in list_recipes() if one.startswith("reference"))
        if (recipe := load_recipe(f"reference/{name}")).weights == "none"
        or (
            (source := find_backbone(recipe.backbone).sources.get(recipe.weights)) is not None
            and source.package
        )
    }
    assert set(BUDGETS) == at_hand


@pytest.mark.parametrize("name", BUDGETS)
def test_nothing_is_changed_but_how_long_a_row_learns(name: str) -> None:
    recipe, own = recipe_of(name).to_json(), load_recipe(f"reference/{name}").to_json()
    differing = {key for key, value in own.items() if recipe[key] != value}
    assert differing <= {"stages"}
    assert recipe_of(name).size == load_recipe(f"reference/{name}").size


def test_a_finished_row_stands_in_the_document_with_what_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "sabat_mobilenet_v2"
    metrics = {
        "gender": {"accuracy": 0.75, "low": 0.7, "high": 0.8},
        "age": {"mae": 9.5, "low": 9.0, "high": 10.0},
        "age_group": {"accuracy": 0.5, "low": 0.4, "high": 0.6},
    }
    split = {"training": 10_000, "validation": 90, "test": 100}
    counts = [[[9, 1], [2, 0]], [[3, 1], [1, 2]]]
    confusion = {"race": {"classes": ["White", "Others"], "counts": counts}}
    recipe = asdict(recipe_of(name))
    facts = {"metrics": metrics, "split": split, "recipe": recipe, "confusion": confusion}
    (tmp_path / name).mkdir()
    (tmp_path / name / "bundle.json").write_text(json.dumps(facts))
    (row,) = finished(tmp_path)
    assert (row.epochs, row.steps, row.held_out) == (8, 50, 100)
    assert (row.images, row.whole) == (8 * 50 * 64, 100 * 10_000)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "rows.json")
    assert not module.read()
    monkeypatch.setattr("sys.argv", ["rows", "write", "--work", str(tmp_path)])
    module.main()
    assert module.read()[name].figures["age"] == [9.5, 9.0, 10.0]
    assert module.read()[name].others == [3, 7]
    told = measured(f"reference/{name}", recipe_of(name))
    assert told == (
        "gender 0.750 (0.700 to 0.800), age 9.50 years off (9.00 to 10.00), age_mae_scaled 0.1377; "
        "of 7 faces annotated Others, 3 are found; on 100 held-out images, after 8 epochs of at "
        "most 50 steps: 25,600 images, of 1,000,000 that the recipe learns from"
    )
    facts["recipe"]["batch"] = 1
    (tmp_path / name / "bundle.json").write_text(json.dumps(facts))
    with pytest.raises(SystemExit, match=f"{name} was trained with another batch; remove"):
        run(tmp_path / "absent", tmp_path, [name])
