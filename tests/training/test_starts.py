"""Bundles to begin with: one, several side by side in one network, the mean of their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from faceaudit.errors import UnknownNameError, UsageError
from faceaudit.models.backbones import find_backbone
from faceaudit.models.bundle import load_bundle
from faceaudit.models.card import card_text
from faceaudit.pipeline.prepare import prepare
from faceaudit.runtimes import open_runtime
from faceaudit.runtimes.torch_runtime import load_network
from faceaudit.showcase.images import photograph
from faceaudit.training.recipe import Recipe
from faceaudit.training.recipe_files import recipe_from_facts
from faceaudit.training.state import begun_network
from faceaudit.training.train import _started, train

PARTS = ("custom_cnn", "mobilenet_v3_small")
FACTS: dict[str, Any] = {
    "licence": "none",
    "training_data": "one photograph",
    "weights": "none",
    "batch": 4,
    "stages": [{"epochs": 1, "size": 32}],
    "tasks": {"gender": {"scheme": "gender2"}, "age": {"scheme": "years"}},
    "data": {"validation_share": 0.3, "near_duplicates": False},
}


def recipe_of(backbone: str, **changes: Any) -> Recipe:
    return recipe_from_facts({"name": backbone, "backbone": backbone, **FACTS, **changes}, "a.toml")


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, folder = (tmp_path_factory.mktemp(name) for name in ("images", "crops"))
    for k in range(24):
        crop = photograph().crop((120 + k, 40, 380 + k, 300)).resize((100, 100))
        crop.save(images / f"{12 + 2 * k}_{k % 2}_{k % 5}_201701010000000{k:02d}.jpg")
    prepare(images, folder, size=64, detector="whole", labels="utkface")
    return folder


@pytest.fixture(scope="module")
def bundles(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A bundle of each part; that of the second is for research only."""
    folder = tmp_path_factory.mktemp("bundles")
    for part in PARTS:
        recipe = recipe_of(part, research_only=part == PARTS[1])
        train(recipe, data=[crops], output=folder / part)
    return {part: folder / part for part in PARTS}


def joined(bundles: Mapping[str, Path], *starts: str, **changes: Any) -> Recipe:
    given = {"start": [str(bundles[one]) for one in starts], "norms": "folded"}
    return recipe_of("+".join(PARTS), **given, **changes)


def logits(folder: Path, images: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, Any]:
    bundle = load_bundle(folder)
    names = [task.tensor for task in bundle.tasks]
    return open_runtime(bundle, outputs=names, device="cpu").infer(images)


def test_its_features_are_those_of_every_part() -> None:
    backbone = find_backbone("+".join(PARTS))
    trunk = backbone.build().eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        found = trunk(images)
        own = [adaptive_avg_pool2d(part(images), 1) for part in trunk.parts]
    assert found.shape == (2, backbone.features, 1, 1)
    assert torch.equal(found, torch.cat(own, dim=1))
    assert backbone.features == sum(find_backbone(part).features for part in PARTS)
    assert backbone.last_block[0].startswith("parts.0.")


def test_parts_must_be_known() -> None:
    with pytest.raises(UnknownNameError, match="efficientnet_lite9"):
        find_backbone("custom_cnn+efficientnet_lite9")


def test_a_part_that_was_made_for_one_size_gets_images_of_that_size() -> None:
    trunk = find_backbone("custom_cnn+mobilefacenet").build().eval()
    images = torch.rand(2, 3, 128, 128)
    smaller = interpolate(images, size=(112, 112), mode="bilinear")
    with torch.inference_mode():
        found = trunk(images)
        own = [
            adaptive_avg_pool2d(part(seen), 1)
            for part, seen in zip(trunk.parts, (images, smaller), strict=True)
        ]
    assert torch.equal(found, torch.cat(own, dim=1))


def test_backbones_side_by_side_begin_as_the_mean_of_their_starts(
    bundles: Mapping[str, Path],
) -> None:
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        found = begun_network(joined(bundles, *PARTS)).eval()(images)
        own = [begun_network(recipe_of(p, start=str(bundles[p]))).eval()(images) for p in PARTS]
    for name, values in found.items():
        mean = torch.stack([one[name] for one in own]).mean(dim=0)
        torch.testing.assert_close(values, mean, rtol=1e-4, atol=1e-5)


def test_several_of_one_backbone_begin_as_the_mean_of_their_weights(
    bundles: Mapping[str, Path], crops: Path, tmp_path: Path
) -> None:
    first = PARTS[0]
    other = recipe_of(first, seed=1)
    train(other, data=[crops], output=tmp_path / "other")
    starts = [str(bundles[first]), str(tmp_path / "other"), str(tmp_path / "other")]
    mean = begun_network(recipe_of(first, start=starts)).state_dict()
    one, two = (load_network(load_bundle(start)).network.state_dict() for start in starts[:2])
    assert any(not torch.equal(value, two[name]) for name, value in one.items())
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (one[name] + 2 * two[name]) / 3)


def test_no_epochs_make_a_bundle_of_what_the_recipe_begins_with(
    bundles: Mapping[str, Path], crops: Path, tmp_path: Path
) -> None:
    """Which is calibrated and audited on the crops at hand."""
    first = PARTS[0]
    still = recipe_of(first, start=str(bundles[first]), stages=[{"epochs": 0, "size": 32}])
    made = train(still, data=[crops], output=tmp_path / "still")
    trunk = [
        {n: w for n, w in load_file(folder / "weights.safetensors").items() if "trunk." in n}
        for folder in (bundles[first], made.graph.parent)
    ]
    assert trunk[0].keys() == trunk[1].keys()
    assert all(torch.equal(weights, trunk[1][name]) for name, weights in trunk[0].items())
    assert made.card["metrics"]
    assert made.card["start"]["sha256"] == load_bundle(bundles[first]).sha256
    work = tmp_path / "still.training"
    assert (work / "validation.html").is_file()
    assert not list(work.glob("history.*"))
    before = (made.graph.parent / "bundle.json").stat().st_mtime_ns
    train(still, data=[crops], output=tmp_path / "still")
    assert (made.graph.parent / "bundle.json").stat().st_mtime_ns == before


def test_it_trains_to_a_bundle_whose_card_names_its_starts(
    bundles: Mapping[str, Path], crops: Path, tmp_path: Path
) -> None:
    made = train(joined(bundles, *PARTS), data=[crops], output=tmp_path / "both")
    starts = made.card["start"]
    assert [one["bundle"] for one in starts] == list(PARTS)
    assert [one["sha256"] for one in starts] == [load_bundle(bundles[p]).sha256 for p in PARTS]
    assert made.card["recipe"]["start"] == list(PARTS)
    assert made.card["research_only"]
    assert all(f"the bundle {part} (SHA-256" in card_text(made) for part in PARTS)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    assert {name: values.shape for name, values in logits(made.graph.parent, images).items()} == {
        "gender": (5, 2),
        "age": (5, 101),
    }
    again = recipe_of("+".join(PARTS), start=str(made.graph.parent))
    assert begun_network(again).outputs == ("gender", "age")


def test_a_start_that_sees_other_pixels_or_has_other_classes_is_refused(
    bundles: Mapping[str, Path],
) -> None:
    start = str(bundles[PARTS[0]])
    for changes, told in (
        ({"mean": [0.5, 0.5, 0.5]}, r"its mean is \[0.485, .*, the recipe's \(0.5, 0.5, 0.5\)"),
        ({"gray": True}, "its gray is False, the recipe's True"),
        (
            {"tasks": {"gender": {"scheme": "gender2"}, "age": {"scheme": "0,50"}}},
            "it has no task age_group",
        ),
    ):
        with pytest.raises(UsageError, match=told):
            begun_network(recipe_of(PARTS[0], start=start, **changes))


def test_a_bundle_cannot_replace_its_own_start(bundles: Mapping[str, Path], crops: Path) -> None:
    start = bundles[PARTS[0]]
    before = (start / "bundle.json").read_bytes()
    with pytest.raises(UsageError, match=r"is the bundle .* itself, which the recipe learns from"):
        train(recipe_of(PARTS[0], start=str(start)), data=[crops], output=start)
    assert (start / "bundle.json").read_bytes() == before


def test_starts_that_do_not_fit_are_told_before_crops_are_read(
    bundles: Mapping[str, Path], tmp_path: Path
) -> None:
    first, second = PARTS
    for recipe, told in (
        (joined(bundles, second, first), "has another backbone, other heads or other outputs"),
        (joined(bundles, first, second, first), "or one of 3 backbones side by side"),
        (
            joined(bundles, *PARTS, heads={"kind": "dense", "units": [8]}),
            r"side by side with linear heads; backbone is .*, heads\.kind dense",
        ),
        (recipe_of(first, start=[str(one) for one in bundles.values()]), "backbone is custom_cnn"),
    ):
        with pytest.raises(UsageError, match=told):
            train(recipe, data=[tmp_path / "absent"], output=tmp_path / "none")
    with pytest.raises(UsageError, match="give start, a bundle of each of its parts, with weights"):
        joined(bundles, *PARTS, weights="imagenet")


def test_a_card_names_the_weights_that_its_start_began_with(bundles: Mapping[str, Path]) -> None:
    """Not those of the recipe, which are not loaded beside a start."""
    first = load_bundle(bundles[PARTS[0]])
    known = {"weights": "imagenet: ImageNet-1k", "weights_licence": "Apache-2.0"}
    told = _started([replace(first, card=known)])
    assert told == {"start": {"bundle": first.name, "sha256": first.sha256}, **known}
    two = _started([replace(first, card=known), replace(first, card={"weights": "none"})])
    assert two["weights"] == "imagenet: ImageNet-1k; none"
    assert two["weights_licence"] == "Apache-2.0"
    assert _started([replace(first, card=known)] * 2)["weights"] == "imagenet: ImageNet-1k"
    assert _started([]) == {}
