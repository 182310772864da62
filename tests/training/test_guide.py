"""docs/training.md: its recipes can be read, and it names every key with its default."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from faceaudit.training.recipe import Recipe, TaskRecipe
from faceaudit.training.recipe_files import load_recipe, recipe_from_facts

GUIDE = Path(__file__).parents[2] / "docs" / "training.md"
BLOCKS = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
NOT_FOR_USERS = {"reference", "tune", "trunk_learning_rate", "research_only"}
"""Tables of published rows; a table of its own below; keys without a default value."""


@pytest.mark.parametrize("text", BLOCKS)
def test_every_recipe_of_the_guide_can_be_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    assert load_recipe(str(path)).name == tomllib.loads(text)["name"]


def differing(given: dict[str, Any], recipe: Any, where: str = "") -> list[str]:
    """Keys that the guide lacks, or gives another value than the default's."""
    found: list[str] = []
    for each in fields(recipe):
        name, default = where + each.name, each.default
        if each.default_factory is not MISSING:
            default = each.default_factory()
        if default is MISSING or name in NOT_FOR_USERS:
            continue
        if each.name not in given:
            found.append(name)
        elif is_dataclass(default):
            found += differing(given[each.name], default, f"{name}.")
        elif default != {} and given[each.name] != (
            list(default) if isinstance(default, tuple) else default
        ):
            found.append(name)
    return found


def test_the_guide_names_every_key_with_its_default() -> None:
    whole = tomllib.loads(BLOCKS[0])
    assert differing(whole, Recipe) == []


def test_the_guide_names_every_key_of_a_task_with_its_default() -> None:
    whole = tomllib.loads(BLOCKS[0])
    tasks = {name: {"scheme": given["scheme"]} for name, given in whole["tasks"].items()}
    read, bare = (recipe_from_facts({**whole, **more}, "guide") for more in ({}, {"tasks": tasks}))
    assert read.tasks == bare.tasks
    named = {key for given in whole["tasks"].values() for key in given}
    assert named == {each.name for each in fields(TaskRecipe)}
