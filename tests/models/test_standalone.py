"""A bundle as one ONNX file, and its card."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faceaudit.errors import UsageError
from faceaudit.models.bundle import load_bundle
from faceaudit.models.card import card_text
from faceaudit.models.standalone import export
from faceaudit.runtimes import open_runtime

SIZE = load_bundle("fairface").input.size
CROPS = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def test_an_exported_bundle_is_one_file_that_answers_like_the_bundle(tmp_path: Path) -> None:
    written = export("fairface", tmp_path / "alone.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.json", "alone.onnx"]
    assert load_bundle(str(tmp_path / "alone.onnx")) == written
    outputs = [task.output for task in written.tasks]
    alone, own = (
        open_runtime(bundle, outputs=outputs, device="cpu").infer(CROPS)
        for bundle in (written, load_bundle("fairface"))
    )
    for name in outputs:
        assert np.array_equal(alone[name], own[name])


def test_the_sidecar_has_the_facts_of_the_bundle(tmp_path: Path) -> None:
    export("fairface", tmp_path / "alone.onnx")
    facts = json.loads((tmp_path / "alone.json").read_text())
    own = json.loads(load_bundle("fairface").graph.with_name("bundle.json").read_text())
    assert facts.pop("sha256") != own.pop("sha256")
    assert facts == own


def test_another_suffix_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.onnx"):
        export("fairface", tmp_path / "alone.pb")


def test_a_json_file_without_its_model_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("{}")
    with pytest.raises(UsageError, match=r"out\.json: exists without out\.onnx"):
        export("fairface", tmp_path / "out.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_bundles_own_graph_is_not_overwritten(tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(load_bundle("fairface").graph.parent, own)
    before = {path.name for path in own.iterdir()}
    for _ in range(2):
        with pytest.raises(UsageError, match=r"model\.onnx: exists without model\.json"):
            export(own, own / "model.onnx")
    assert {path.name for path in own.iterdir()} == before
    assert load_bundle(str(own)).sha256 == load_bundle("fairface").sha256


def test_an_export_may_be_written_again_and_its_suffix_in_capitals(tmp_path: Path) -> None:
    for _ in range(2):
        written = export("fairface", tmp_path / "alone.ONNX")
    assert load_bundle(str(tmp_path / "alone.ONNX")) == written


def test_a_card_tells_what_a_model_is_and_how_well_it_does() -> None:
    bundle = load_bundle("fairface")
    text = card_text(bundle)
    assert text.startswith("# fairface\n")
    for fact in (bundle.licence, bundle.training_data, bundle.sha256, *bundle.card["limits"]):
        assert fact in text
    accuracy = bundle.card["metrics"]["race"]["accuracy"]
    assert f"race: accuracy {accuracy:.3f}" in text


@pytest.mark.parametrize(
    "facts",
    [
        {"metrics": {"gender": 0.95}},
        {"metrics": {"gender": {"accuracy": 0.9}}},
        {"metrics": {"gender": {"accuracy": 0.9, "n": 5, "on": "x", "low": "a", "sets": 3}}},
        {"metrics": [1]},
        {"split": "80/20", "recipe": "my.toml", "start": "imagenet", "teachers": "two"},
        {"start": [{"bundle": "a"}], "teachers": [{}], "parameters": "many", "int8": True},
        {"limits": "ab", "weakest": {"a": 1}, "held_out_doubts": 3},
    ],
)
def test_a_card_leaves_out_facts_of_another_form(facts: dict[str, object]) -> None:
    text = card_text(replace(load_bundle("fairface"), card=facts))
    assert text.startswith("# fairface\n")
    assert "- a\n" not in text
