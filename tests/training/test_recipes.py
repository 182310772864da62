"""The recipes that ship: each is valid, builds, and learns for a few steps on a drawn face."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from faceaudit.cli import app
from faceaudit.errors import MissingExtraError, UsageError
from faceaudit.models.backbones import find_backbone
from faceaudit.models.backbones.weights import NO_WEIGHTS
from faceaudit.pipeline.prepare import prepare
from faceaudit.showcase.images import photograph
from faceaudit.training.recipe_files import list_recipes, load_recipe
from faceaudit.training.train import train

REFERENCES = [name for name in list_recipes() if name.startswith("reference/")]
SMALLEST = {"mobilefacenet": 112}
"""Input sizes of backbones that work at one size only."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    photo = photograph()
    for k in range(40):
        crop = photo.crop((120 + k, 40, 380 + k, 300)).resize((100, 100))
        crop.save(folder / f"{12 + k}_{k % 2}_{k % 5}_201701010000000{k:02d}.jpg")
    return folder


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_that_ships_is_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name.rpartition("/")[2]
    assert recipe.size >= 32
    assert {"intended_use", "limits"} <= set(recipe.card)


@pytest.mark.parametrize("name", list_recipes())
def test_what_learns_from_utkface_is_for_research_only(name: str) -> None:
    recipe = load_recipe(name)
    assert bool(recipe.research_only) is ("UTKFace" in recipe.licence + recipe.training_data)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_says_whose_row_it_repeats_and_what_it_does_otherwise(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.reference is not None
    assert recipe.reference.source
    assert recipe.reference.row
    assert recipe.reference.differs
    assert all(0 < value < 1 for value in recipe.reference.reported.values())
    told = {metric.removeprefix("macro_f1_").split("_")[0] for metric in recipe.reference.reported}
    assert told <= set(recipe.tasks)


def test_every_row_of_the_references_has_a_name_of_its_own() -> None:
    rows = [load_recipe(name).reference for name in REFERENCES]
    assert len({(row.source, row.row) for row in rows if row}) == len(REFERENCES) == 35


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_is_shown_whole(name: str, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["zoo", "show", f"recipe:{name}"])
    assert shown.exit_code == 0, shown.output
    (tmp_path / "shown.toml").write_text(shown.output)
    assert load_recipe(str(tmp_path / "shown.toml")) == load_recipe(name)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fairface", "# fairface"),
        ("reference/dj_vgg16_gm", 'prepare = "faceaudit prepare UTKFACE crops --align none'),
        ("vgg16", "- weights vggface: VGGFace"),
        ("mobilefacenet+custom_cnn", "- published in Chen, Liu, Gao, Han: MobileFaceNets"),
        ("mobilefacenet", "0.93 M parameters, 0.467 GFLOPs per image of 112 x 112 pixels"),
    ],
)
def test_bundles_recipes_and_architectures_are_shown_by_name(name: str, told: str) -> None:
    shown = CliRunner().invoke(app, ["zoo", "show", name])
    assert shown.exit_code == 0, shown.output
    assert told in shown.output


def test_a_name_that_nothing_has_is_told_with_one_that_is_near() -> None:
    shown = CliRunner().invoke(app, ["zoo", "show", "mobilenet_v4"])
    assert isinstance(shown.exception, UsageError)
    assert "`faceaudit zoo` lists them; did you mean mobilenet_v" in str(shown.exception)


def test_without_the_extra_a_recipe_is_told_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for name in ("reference/dj_vgg16_gm", "recipe:fairface", "vgg16"):
        found = CliRunner().invoke(app, ["zoo", "show", name])
        assert isinstance(found.exception, MissingExtraError), found.output
    assert CliRunner().invoke(app, ["zoo", "show", "fairface"]).exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_that_ships_learns_for_a_few_steps(
    name: str, images: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(name)
    weights = recipe.weights
    if weights != NO_WEIGHTS:  # a file with tensors of that trunk, as is one that the user places
        weights = str(tmp_path / "trunk.pth")
        torch.save(find_backbone(recipe.backbone).build().state_dict(), weights)
    size = SMALLEST.get(recipe.backbone, 64)
    prepare(
        images, tmp_path / "crops", detector="whole", align=recipe.align,
        margin=max(recipe.margin, 0.0), offset=recipe.offset, size=96, quiet=True,
    )  # fmt: skip
    changes = {
        "weights": weights,
        "batch": 2,
        "stages": [{"epochs": 1, "size": size}],
        "data.validation_share": 0.3,
        "data.near_duplicates": False,
    }
    bundle = train(
        name, data=[tmp_path / "crops"], output=tmp_path / "out", changes=changes, max_steps=2
    )
    assert {task.name.removesuffix("_group") for task in bundle.tasks} == set(recipe.tasks)
    assert bundle.card["parameters"] > find_backbone(recipe.backbone).features
    assert bundle.graph.is_file()


def test_a_recipe_can_rest_on_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'base = "fairface"\nname = "mine"\n[tasks.race]\n[tasks.gender]\nweight = 2.0\n'
    )
    (tmp_path / "other.toml").write_text('base = "mine.toml"\nname = "other"\nbatch = 8\n')
    recipe = load_recipe(str(tmp_path / "other.toml"))
    assert (recipe.name, recipe.batch, recipe.backbone) == ("other", 8, "efficientnet_lite2")
    assert list(recipe.tasks) == ["gender", "age"]
    assert (recipe.tasks["gender"].scheme, recipe.tasks["gender"].weight) == ("gender2", 2.0)


@pytest.mark.parametrize(
    ("base", "error", "message"),
    [
        ("'mine.toml'", UsageError, "rests on this recipe itself"),
        ("'../here/mine.toml'", UsageError, "rests on this recipe itself"),
        ("'nonesuch'", UsageError, "mine.toml: base: no recipe is called 'nonesuch'"),
        ("3", UsageError, "must name a recipe"),
    ],
)
def test_a_base_that_cannot_be_is_one_clear_error(
    tmp_path: Path, base: str, error: type[Exception], message: str
) -> None:
    path = tmp_path / "here" / "mine.toml"
    path.parent.mkdir()
    path.write_text(f"base = {base}\nname = 'mine'\n")
    with pytest.raises(error, match=message):
        load_recipe(str(path))
