"""``quantize``: which crops it takes for what, and what it records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import simplejpeg

from faceaudit.errors import InputError, UsageError
from faceaudit.models.bundle import Bundle, load_bundle
from faceaudit.models.int8 import INT8, POOLED, check_int8, int8_graph, shortfalls
from faceaudit.training.ancestors import RULE
from faceaudit.training.data import is_held_out
from faceaudit.training.quantize import divided, quantize


def prepared(folder: Path, count: int, seed: int, **facts: object) -> Path:
    """A folder as ``prepare`` writes it, of smooth random crops."""
    rng = np.random.default_rng(seed)
    (folder / "crops").mkdir(parents=True)
    rows = []
    for number in range(count):
        pixels = np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        name = f"crops/{number}.jpg"
        (folder / name).write_bytes(simplejpeg.encode_jpeg(pixels, 95))
        rows.append(
            {
                "file_name": name, "image": f"{number}.jpg",
                "sha256": f"{(number * 2**30) % 2**32:08x}{seed:056x}", "align": "similarity",
                "margin": 0.4, "offset": 0.1, "view": "aligned",
                "gender_true": ("Male", "Female")[number % 2],
                "race_true": ("White", "Black", "Indian")[number % 3],
                "age_true": float(number % 80), **facts,
            }
        )  # fmt: skip
    pl.DataFrame(rows).write_parquet(folder / "metadata.parquet")
    return folder


@pytest.fixture
def bundle(residual_bundle: Bundle, tmp_path: Path) -> Path:
    folder = shutil.copytree(residual_bundle.graph.parent, tmp_path / "bundle")
    facts = json.loads((folder / "bundle.json").read_text())
    facts["split"] = {"rule": f"{RULE}; validation where u < 0.1"}
    facts["recipe"] = {"data": {"validation_share": 0.1}}
    (folder / "bundle.json").write_text(json.dumps(facts))
    return folder


def test_the_bundle_gets_a_graph_and_the_comparison(bundle: Path, tmp_path: Path) -> None:
    trained = prepared(tmp_path / "trained", 80, 1)
    foreign = prepared(tmp_path / "foreign", 40, 2)
    before = load_bundle(str(bundle))
    changed = quantize(bundle, data=[trained], held_out=[foreign])
    found = load_bundle(str(bundle))
    assert found == changed
    assert (found.sha256, found.tasks) == (before.sha256, before.tasks)
    assert int8_graph(found).is_file()
    facts = json.loads((bundle / "bundle.json").read_text())[INT8]
    compared = facts["compared"]
    assert {(one["task"], one["metric"]) for one in compared} == {
        ("gender", "accuracy"), ("race", "accuracy"), ("age_group", "accuracy"), ("age", "mae"),
    }  # fmt: skip
    held = sum(is_held_out(f"{(k * 2**30) % 2**32:08x}", 0.1) for k in range(80))
    for task in {one["task"] for one in compared}:
        sets = {one["on"]: one for one in compared if one["task"] == task}
        assert {name: one["n"] for name, one in sets.items()} == {
            "trained": held, "foreign": 40, POOLED: held + 40,
        }  # fmt: skip
        pooled = sets[POOLED]
        assert pooled["difference"] == pytest.approx(pooled["int8"] - pooled["float32"], abs=2e-5)
        assert pooled["low"] <= pooled["difference"] <= pooled["high"]
        mean = sum(one["n"] * one["int8"] for name, one in sets.items() if name != POOLED)
        assert pooled["int8"] == pytest.approx(mean / pooled["n"], abs=1e-4)


def test_what_is_compared_was_not_trained_on(bundle: Path, tmp_path: Path) -> None:
    model = load_bundle(str(bundle))
    trained, foreign = prepared(tmp_path / "a", 40, 1), prepared(tmp_path / "b", 12, 2)
    training, sets = divided(model, [trained], [foreign])
    assert not any(is_held_out(one, 0.1) for one in training[0].sha256)
    assert [folder for folder, _ in sets] == [trained, foreign]
    assert all(is_held_out(one, 0.1) for one in sets[0][1].sha256)
    assert len(training[0]) + len(sets[0][1]) == 40
    assert len(sets[1][1]) == 12


def test_a_face_is_compared_once_and_never_where_it_was_trained_on(
    bundle: Path, tmp_path: Path
) -> None:
    model = load_bundle(str(bundle))
    trained, foreign = prepared(tmp_path / "a", 40, 1), prepared(tmp_path / "b", 12, 2)
    held = sum(is_held_out(f"{(k * 2**30) % 2**32:08x}", 0.1) for k in range(40))
    _, sets = divided(model, [trained], [foreign, trained, foreign])
    assert [(folder, len(crops)) for folder, crops in sets] == [(trained, held), (foreign, 12)]


def test_what_a_card_does_not_call_held_out_only_calibrates(bundle: Path, tmp_path: Path) -> None:
    facts = json.loads((bundle / "bundle.json").read_text())
    facts["split"]["rule"] = "as another training recorded it"
    (bundle / "bundle.json").write_text(json.dumps(facts))
    trained, foreign = prepared(tmp_path / "a", 40, 1), prepared(tmp_path / "b", 12, 2)
    with pytest.raises(UsageError, match=r"does not say what it held out\); name folders of other"):
        quantize(bundle, data=[trained])
    (training,), sets = divided(load_bundle(str(bundle)), [trained], [foreign])
    assert len(training) == 40
    assert [len(crops) for _, crops in sets] == [12]


def test_a_failure_leaves_the_bundle_as_it_was(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, foreign = prepared(tmp_path / "a", 80, 1), prepared(tmp_path / "b", 12, 2)
    quantize(bundle, data=[trained], held_out=[foreign])
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    unlabeled = prepared(tmp_path / "c", 80, 3)
    table = pl.read_parquet(unlabeled / "metadata.parquet")
    table.select(pl.exclude("^.*_true$")).write_parquet(unlabeled / "metadata.parquet")
    with pytest.raises(UsageError, match="no held-out crop is annotated with a task"):
        quantize(bundle, data=[unlabeled])
    monkeypatch.setattr("faceaudit.training.quantize.compare_runtimes", None)
    with pytest.raises(TypeError):
        quantize(bundle, data=[trained])
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_crops_that_cannot_be_read_do_not_calibrate_and_few_are_warned_of(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = prepared(tmp_path / "a", 40, 1)
    model = load_bundle(str(bundle))
    training, _ = divided(model, [trained], [])
    missing, broken = training[0].files[:2]
    missing.unlink()
    broken.write_bytes(b"no picture")
    found = quantize(bundle, data=[trained])
    left = len(training[0]) - 2
    assert found.card[INT8]["calibrated_on"] == f"{left} training crops"
    assert f"only {left} training crops to calibrate on, not 256" in caplog.text


def test_a_task_that_no_face_is_annotated_with_was_not_compared(
    bundle: Path, tmp_path: Path
) -> None:
    trained = prepared(tmp_path / "a", 80, 1)
    table = pl.read_parquet(trained / "metadata.parquet")
    table.drop("gender_true").write_parquet(trained / "metadata.parquet")
    found = quantize(bundle, data=[trained])
    short = shortfalls(found, found.card[INT8]["compared"])
    assert "gender, which no held-out crop is annotated with" in short
    with pytest.raises(UsageError, match="gender, which no held-out crop"):
        check_int8(found)


def test_crops_that_do_not_fit_are_one_clear_error(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data: name at least one folder"):
        quantize(bundle, data=[])
    with pytest.raises(InputError, match=r"has no metadata\.parquet; make it with"):
        quantize(bundle, data=[tmp_path])
    other = prepared(tmp_path / "other", 3, 1, offset=0.3)
    with pytest.raises(InputError, match=r"offset 0\.3; residual needs align similarity"):
        quantize(bundle, data=[other])
