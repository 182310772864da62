"""The zoo: what networks cost."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import zoo as benchmark
from faceaudit.models.backbones import BACKBONES, find_backbone
from faceaudit.models.bundle import load_bundle
from faceaudit.training import zoo as module
from faceaudit.training.recipe_files import list_recipes, load_recipe
from faceaudit.training.state import new_state
from faceaudit.training.zoo import Entry, zoo, zoo_text
from scripts import zoo as document


@pytest.fixture(scope="module")
def entries() -> dict[tuple[str, str], Entry]:
    return {(entry.kind, entry.name): entry for entry in zoo()}


def test_everything_that_ships_has_a_row(entries: dict[tuple[str, str], Entry]) -> None:
    names = {kind: {name for k, name in entries if k == kind} for kind in module.TITLES}
    assert names["recipe"] == set(list_recipes())
    assert names["architecture"] == set(BACKBONES)
    assert "fairface" in names["bundle"]


def test_costs_are_those_of_the_published_networks(entries: dict[tuple[str, str], Entry]) -> None:
    # Source: torchvision's documentation gives 15.47 billion multiply-adds for VGG16 at 224 pixels,
    # 123.6 million of them in its classifier, which is no part of a trunk.
    expected = 2 * (15.47 - 0.1236) * (112 / 224) ** 2
    assert entries["architecture", "vgg16"].gflops == pytest.approx(expected, rel=0.01)
    assert entries["recipe", "reference/dj_vgg16_full"].parameters == 14_913_228
    assert entries["recipe", "reference/dj_vgg16_gm"].parameters == 14_979_278
    assert entries["recipe", "reference/dj_vgg16_am"].parameters == 15_012_044


def test_a_recipes_row_counts_what_is_built_and_trained(
    entries: dict[tuple[str, str], Entry],
) -> None:
    changes = {"weights": "none", "frozen": "none"}
    recipe = load_recipe("reference/dj_resnet50_frozen", changes)
    network = new_state(replace(recipe, frozen="trunk")).network
    row = entries["recipe", "reference/dj_resnet50_frozen"]
    assert row.parameters == sum(part.numel() for part in network.parameters())
    assert row.trainable == sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert row.trainable < row.parameters - 23_000_000


def test_sharing_a_trunk_saves_most_of_three_networks(
    entries: dict[tuple[str, str], Entry],
) -> None:
    shared = entries["recipe", "reference/dj_vgg16_full"]
    alone = [
        entries["recipe", f"reference/dj_stl_{task}_full"] for task in ("age", "gender", "race")
    ]
    assert shared.separate_parameters == sum(one.parameters for one in alone)
    assert shared.separate_gflops == pytest.approx(sum(one.gflops for one in alone))
    assert shared.saved == pytest.approx(2 / 3, abs=0.01)
    assert alone[0].saved is None


def test_a_bundles_row_has_its_held_out_figures(entries: dict[tuple[str, str], Entry]) -> None:
    row, bundle = entries["bundle", "fairface"], load_bundle("fairface")
    assert row.parameters == bundle.card["parameters"]
    assert set(row.held_out) == set(bundle.card["metrics"])


def test_a_recipes_row_has_what_trainings_of_it_were_right_about(
    entries: dict[tuple[str, str], Entry],
) -> None:
    assert json.loads(module.MEASURED.read_text()) == document.measured(), (
        "run python -m scripts.zoo"
    )
    shared = entries["recipe", "study/mtl"].held_out
    assert set(shared) == {"gender", "race", "age_group"}
    assert shared["gender"].endswith("test crops of UTKFace; 12 epochs, mean of 3 seeds")
    assert "annotated gender Male;" in entries["recipe", "study/age_male"].held_out["age_group"]
    short = entries["recipe", "reference/sabat_mobilenet_v3"].held_out["age"]
    assert "years" in short
    assert short.endswith("600 steps at 64 pixels from random weights")
    own = entries["recipe", "reference/sabat_mobilenet_v2"].held_out["race"]
    assert own.endswith("held-out crops of UTKFace; 8 epochs of at most 50 steps")
    assert not entries["recipe", "reference/dj_vgg16_gm"].held_out
    assert "reference/sabat_mobilenet_v2, held out:\n  gender: acc" in zoo_text([*entries.values()])


@pytest.fixture
def small_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zoo of few networks, timed shortly."""
    monkeypatch.setattr(module, "SECONDS", 0.01)
    monkeypatch.setattr(module, "BACKBONES", {"custom_cnn": find_backbone("custom_cnn")})
    monkeypatch.setattr(module, "list_recipes", lambda: ["study/mtl", "study/stl_age"])


@pytest.mark.usefixtures("small_zoo")
def test_speed_is_measured_where_asked_for() -> None:
    found = zoo(speed=True)
    assert {entry.kind for entry in found} == set(module.TITLES)
    assert all((entry.images_per_second or 0) > 1 for entry in found)
    assert "images/s" in zoo_text(found)
    separate = {entry.name: entry.separate_images_per_second for entry in found}
    assert separate["study/mtl"] is not None
    assert separate["study/mtl"] > 0
    assert separate["study/stl_age"] is None


def test_an_architectures_row_has_the_terms_of_its_weights(
    entries: dict[tuple[str, str], Entry],
) -> None:
    for name, backbone in BACKBONES.items():
        row = json.loads(json.dumps(entries["architecture", name].to_json()))
        assert row["weights"] == list(row["weight_sources"]) == list(backbone.sources)
        for weights, source in backbone.sources.items():
            facts = {key: getattr(source, key) for key in ("training_data", "licence")}
            assert row["weight_sources"][weights].items() >= facts.items()
        assert row["paper"] == backbone.paper
    vgg16 = entries["architecture", "vgg16"]
    assert vgg16.weight_sources["vggface"]["research_only"]
    assert f"published in {vgg16.paper}" in module.architecture_text(vgg16)


def test_networks_run_one_after_another_take_the_sum_of_their_times() -> None:
    assert module._one_after_another([20.0, 30.0, 60.0]) == pytest.approx(10.0)
    assert module._one_after_another([20.0, None]) is None
    assert module._one_after_another([]) is None


@pytest.mark.parametrize("name", ["vgg16", "densenet121", "mobilenet_v3_small", "efficientnet_b1"])
def test_networks_are_timed_with_values_of_a_usual_size(name: str) -> None:
    with torch.device("meta"):
        trunk = find_backbone(name).build()
    torch.manual_seed(0)
    maps = module.with_values(trunk).eval()(torch.rand(1, 3, 64, 64))
    assert maps.isfinite().all()
    assert 1e-6 < maps.abs().max().item() < 1e6


@pytest.mark.usefixtures("small_zoo")
def test_the_document_shows_the_median_of_the_rounds_that_the_benchmark_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "RESULTS", tmp_path / "zoo.json")
    monkeypatch.setattr(sys, "argv", ["zoo", "--rounds", "2", "--json", str(document.RESULTS)])
    benchmark.main()
    timed = json.loads(document.RESULTS.read_text())
    assert [len(one["shared"]) for one in timed["speeds"]] == [2] * len(timed["speeds"])
    timed["speeds"][-1]["shared"] = [90.0, 1234.4, 100.2]
    document.RESULTS.write_text(json.dumps(timed))
    text = document.filled(document.DOCUMENT.read_text(encoding="utf-8"), zoo())
    assert timed["speeds"][-1]["name"] == "custom_cnn"
    assert "| 100 (90 to 1,234) |" in text
    assert timed["machine"] in text


def test_the_tables_of_the_document_are_current(entries: dict[tuple[str, str], Entry]) -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert document.filled(text, list(entries.values())) == text, "run python -m scripts.zoo"


def test_the_text_has_a_line_for_every_row(entries: dict[tuple[str, str], Entry]) -> None:
    lines = zoo_text(list(entries.values())).splitlines()
    for _, name in entries:
        assert any(line.startswith(f"{name} ") for line in lines)
