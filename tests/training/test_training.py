from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from faceaudit.errors import InputError, LabelError, UnknownNameError, UsageError
from faceaudit.models.bundle import load_bundle
from faceaudit.pipeline.predict import predict
from faceaudit.pipeline.prepare import prepare
from faceaudit.showcase.images import photograph
from faceaudit.training import loop
from faceaudit.training.data import (
    augmented_view,
    batches,
    central_view,
    read_crop,
    read_crops,
    split,
)
from faceaudit.training.recipe import RECIPES, load_recipe
from faceaudit.training.train import best_temperature, join_crops, train

SMALL = """
name = "small"
licence = "none"
training_data = "one photograph"
backbone = "mobilenet_v2"
weights = "none"
batch = 4
stages = [{ epochs = 1, size = 32 }, { epochs = 1, size = 48 }]
[tasks.gender]
scheme = "gender2"
[tasks.race]
scheme = "utkface5"
[tasks.age]
scheme = "years"
smoothness = 0.01
[data]
validation_share = 0.3
[card]
intended_use = "tests"
limits = ["everything"]
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(SMALL)
    return str(path)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty crops of the photograph, a little different each, named as UTKFace names them."""
    folder = tmp_path_factory.mktemp("images")
    photo = photograph()
    for k in range(30):
        crop = photo.crop((120 + k, 40, 380 + k, 300)).resize((140, 140))
        crop.save(folder / f"{20 + 2 * k}_{k % 2}_{k % 5}_201701010000000{k:02d}.jpg")
    return folder


@pytest.fixture(scope="module")
def crops(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crops")
    found = prepare(images, folder, size=96)
    assert found.images == found.crops == 30
    return folder


def test_prepared_crops_are_a_labelled_image_folder(crops: Path, tmp_path: Path) -> None:
    table = pl.read_parquet(crops / "metadata.parquet")
    assert set(table.columns) >= {"file_name", "image", "sha256", "gender_true", "age_true"}
    assert all((crops / name).is_file() for name in table["file_name"])
    assert read_crop(crops / table["file_name"][0]).shape == (96, 96, 3)
    found = predict(crops, tmp_path / "out.parquet", detector="whole")
    assert found.images == 30
    assert found.labels == "imagefolder"


def test_an_image_without_a_face_keeps_its_row(specimens: Path, tmp_path: Path) -> None:
    found = prepare(specimens, tmp_path / "crops")
    faces = pl.read_parquet(tmp_path / "crops" / "faces.parquet")
    assert len(faces) == found.images
    assert found.crops == faces.filter(pl.col("status") == "ok").height < found.images
    assert set(faces["status"]) >= {"ok", "no_face", "unreadable", "unsupported"}


def test_split_keeps_identical_images_together(crops: Path, recipe: str) -> None:
    found = read_crops(crops, load_recipe(recipe))
    doubled = join_crops([found, found])
    settings = load_recipe(recipe)
    training, validation, test = split(doubled, settings.data)
    assert not len(test)
    assert len(training) + len(validation) == 60
    assert 0 < len(validation) < 60
    assert not set(training.sha256) & set(validation.sha256)
    assert set(split(found, settings.data)[1].sha256) == set(validation.sha256)


def test_ages_in_years_and_in_groups_become_intervals(
    crops: Path, recipe: str, tmp_path: Path
) -> None:
    settings = load_recipe(recipe)
    exact = read_crops(crops, settings)
    assert np.array_equal(exact.labels["age_low"], exact.labels["age_high"])
    table = pl.read_parquet(crops / "metadata.parquet").drop("age_true")
    groups = ["0-2", "3-9", "10-19", "20-29", "30+"] * 6
    table.with_columns(pl.Series("age_group_true", groups)).write_parquet(
        tmp_path / "metadata.parquet"
    )
    grouped = read_crops(tmp_path, settings)
    assert (grouped.labels["age_low"][3], grouped.labels["age_high"][3]) == (20, 29)
    assert (grouped.labels["age_low"][4], grouped.labels["age_high"][4]) == (30, 100)


def test_folders_that_do_not_fit_are_named(crops: Path, recipe: str, tmp_path: Path) -> None:
    settings = load_recipe(recipe)
    with pytest.raises(InputError, match="faceaudit prepare"):
        read_crops(tmp_path, settings)
    with pytest.raises(InputError, match="needs align none"):
        read_crops(crops, replace(settings, align="none"))
    settings = replace(
        settings, tasks={"race": replace(settings.tasks["race"], scheme="fairface7")}
    )
    table = pl.read_parquet(crops / "metadata.parquet")
    table.with_columns(race_true=pl.lit("Martian")).write_parquet(tmp_path / "metadata.parquet")
    with pytest.raises(LabelError, match="no race_true is a class of the scheme fairface7"):
        read_crops(tmp_path, settings)


def test_the_central_view_is_the_crop_that_predict_makes() -> None:
    """A wide stored crop, seen through the training's view, equals a crop made directly."""
    from faceaudit.faces import choose_faces, crop_face, open_detector

    image = np.asarray(photograph())
    found = open_detector("retinaface").detect([image])[0]
    face = choose_faces(found, "largest", image.shape[1], image.shape[0])[0]
    options = {"align": "similarity", "offset": 0.15}
    direct = crop_face(image, face, size=112, margin=-0.05, **options)  # type: ignore[arg-type]
    wide = crop_face(image, face, size=192, margin=0.4, **options)  # type: ignore[arg-type]
    view = central_view(wide, 112, 1.4 / 0.95)
    assert np.abs(view.astype(int) - direct.astype(int)).mean() < 3
    shifted = np.roll(direct, 2, axis=1)
    assert np.abs(view.astype(int) - shifted.astype(int)).mean() > 5


def test_augmentation_depends_on_its_seed_alone(crops: Path, recipe: str) -> None:
    settings = load_recipe(recipe)
    crop = read_crop(next((crops / "crops").rglob("*.jpg")))
    first, again, other = (
        augmented_view(crop, 48, 1.4, settings.augmentation, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    found = read_crops(crops, settings)
    whole = list(batches(found, range(30), 32, 4, settings.augmentation, (0, 0)))
    rest = list(batches(found, range(30), 32, 4, settings.augmentation, (0, 0), first=5))
    assert len(whole) == 8
    assert np.array_equal(whole[5].images, rest[0].images)


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    assert loop.rate_factor(0.0, 0.1) == 0
    assert loop.rate_factor(0.1, 0.1) == pytest.approx(1)
    assert loop.rate_factor(1.0, 0.1) == pytest.approx(0)


def test_temperature_undoes_overconfidence(recipe: str) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(4000, 5)).astype(np.float32)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.asarray([generator.choice(5, p=row / row.sum()) for row in probs.astype(float)])
    found = best_temperature(3 * logits, {"race": labels}, load_recipe(recipe), "race")
    assert found == pytest.approx(3, rel=0.1)


def test_a_training_ends_with_a_bundle_that_predicts(
    crops: Path, recipe: str, images: Path, tmp_path: Path
) -> None:
    bundle = train(recipe, data=[crops], output=tmp_path / "small")
    again = load_bundle(str(tmp_path / "small"))
    assert again.sha256 == bundle.sha256
    assert again.input.size == 48
    assert again.card["metrics"]["gender"]["n"] == again.card["split"]["validation"]
    history = pl.read_csv(tmp_path / "small.training" / "history.csv")
    assert history["size"].to_list() == [32, 48]
    found = predict(images, tmp_path / "out.parquet", model=str(tmp_path / "small"))
    assert found.statuses == {"ok": 30}


def test_a_killed_training_goes_on_to_the_same_result(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    torch.set_num_threads(1)
    train(recipe, data=[crops], output=tmp_path / "whole")

    class KilledError(Exception):
        pass

    original, count = loop.update_average, 0

    def kill_in_the_middle(state: loop.State, decay: float) -> None:
        nonlocal count
        count += 1
        if count == 8:
            raise KilledError
        original(state, decay)

    monkeypatch.setattr(loop, "update_average", kill_in_the_middle)
    with pytest.raises(KilledError):
        train(recipe, data=[crops], output=tmp_path / "cut")
    assert not (tmp_path / "cut" / "model.onnx").exists()
    monkeypatch.setattr(loop, "update_average", original)
    train(recipe, data=[crops], output=tmp_path / "cut")
    whole, cut = (tmp_path / name / "weights.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_shipped_recipe_is_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.size >= 32
    assert {"intended_use", "limits"} <= set(recipe.card)


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ("lerning_rate = 1.0", UnknownNameError, "recipe key .* 'lerning_rate'"),
        ("weights = 'jft'", UnknownNameError, "no weights is called 'jft'"),
        ("margin = [", UsageError, "not valid TOML"),
    ],
)
def test_a_recipe_that_cannot_be_is_one_clear_error(
    tmp_path: Path, line: str, error: type[Exception], message: str
) -> None:
    path = tmp_path / "bad.toml"
    text = SMALL.replace('weights = "none"', "") if line.startswith("weights") else SMALL
    path.write_text(f"{line}\n{text}")
    with pytest.raises(error, match=message):
        load_recipe(str(path))


def test_too_few_crops_are_one_clear_error(crops: Path, recipe: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more are needed"):
        train(recipe, data=[crops], output=tmp_path / "none", limit=1)
