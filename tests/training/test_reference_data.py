"""Every reference recipe reads what the command in its comment prepares."""

from __future__ import annotations

import csv
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from faceaudit.cli import app
from faceaudit.errors import InputError
from faceaudit.models.bundle import load_bundle
from faceaudit.showcase.images import photograph
from faceaudit.training.data import read_crop, read_crops
from faceaudit.training.distillation import _differences
from faceaudit.training.recipe_files import list_recipes, load_recipe

REFERENCES = [name for name in list_recipes() if name.startswith("reference/")]


def command_of(name: str) -> str:
    """The command that prepares a recipe's data, without the program's name."""
    reference = load_recipe(name).reference
    assert reference is not None
    return reference.prepare.removeprefix("faceaudit ")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What commands call the data -> three faces as such data hold them."""
    folder = tmp_path_factory.mktemp("UTKFace")
    rows = [["age", "ethnicity", "gender", "img_name", "pixels"]]
    for k in range(3):
        face = photograph().crop((100, 20, 400, 320)).resize((200, 200))
        face.save(folder / f"{20 + k}_{k % 2}_{k}_2017010100000000{k}.jpg")
        gray = np.asarray(face.convert("L").resize((48, 48))).ravel()
        rows.append([str(20 + k), str(k), str(k % 2), f"{k}.jpg", " ".join(map(str, gray))])
    table = tmp_path_factory.mktemp("pixels") / "age_gender.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return {"UTKFACE": str(folder), "FILE.csv": str(table)}


@pytest.fixture(scope="module")
def prepared(sources: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Command -> the folder that it made."""
    found = {}
    for command in dict.fromkeys(map(command_of, REFERENCES)):
        folder = tmp_path_factory.mktemp("crops")
        told = command
        for name, place in sources.items():
            told = told.replace(name, place)
        words = [str(folder) if word == "crops" else word for word in shlex.split(told)]
        ended = CliRunner().invoke(app, [*words, "--quiet"])
        assert ended.exit_code == 0, f"{command}: {ended.output}"
        found[command] = folder
    return found


@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_reads_what_its_command_prepares(name: str, prepared: dict[str, Path]) -> None:
    recipe = load_recipe(name)
    crops = read_crops(prepared[command_of(name)], recipe)
    assert len(crops) == 3
    assert all((labels >= 0).all() for labels in crops.labels.values())


def test_whole_images_are_kept_at_their_size(prepared: dict[str, Path]) -> None:
    sizes = {
        command.split()[1]: read_crop(next(folder.rglob("*.jpg"))).shape[:2]
        for command, folder in prepared.items()
        if "--detector whole" in command
    }
    assert sizes == {"pixels:FILE.csv": (48, 48), "UTKFACE": (200, 200)}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_trains_in_the_precision_of_its_source(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.precision == "float32"
    assert len(recipe.tasks) > 1 or [task.weight for task in recipe.tasks.values()] == [1.0]


def test_boxes_are_read_and_taught_whatever_the_offset_is(prepared: dict[str, Path]) -> None:
    recipe = load_recipe("reference/dj_vgg16_full")
    folder = prepared[command_of("reference/dj_vgg16_full")]
    with pytest.raises(
        InputError,
        match=r"needs align none, margin 0\.3 or more: `faceaudit .* --align none --margin 0\.3`$",
    ):
        read_crops(folder, replace(recipe, margin=0.3))
    with pytest.raises(
        InputError, match=r"margin 0\.2 or more, offset 0: .* --align similarity --margin 0\.2"
    ):
        read_crops(folder, replace(recipe, align="similarity"))
    shipped = load_bundle("fairface")
    teacher = replace(shipped, align="none", margin=recipe.margin, offset=0.15)
    assert not [told for told in _differences(teacher, recipe) if "offset" in told]
