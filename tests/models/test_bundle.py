from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from faceaudit.errors import BundleError, FaceauditError, UnknownNameError
from faceaudit.models.backbones import BACKBONES, joined
from faceaudit.models.bundle import BUNDLES, DEFAULT_BUNDLE, Bundle, load_bundle

SHIPPED = sorted(folder.name for folder in BUNDLES.iterdir() if folder.is_dir())


@pytest.fixture
def copied(random_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_bundle.graph.parent, tmp_path / "copied"))


def edit(folder: Path, **facts: object) -> None:
    path = folder / "bundle.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, **facts}))


def test_a_written_bundle_reads_back(random_bundle: Bundle) -> None:
    again = load_bundle(str(random_bundle.graph.parent))
    assert again == random_bundle
    assert [task.name for task in again.tasks] == ["gender", "race", "age"]
    assert again.offset == 0.1


def test_damaged_weights_are_noticed(copied: Path) -> None:
    weights = copied / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleError, match="damaged or do not belong together"):
        load_bundle(str(copied))


def test_missing_facts_are_named(copied: Path) -> None:
    (copied / "bundle.json").unlink()
    with pytest.raises(BundleError, match=r"expected .*bundle\.json"):
        load_bundle(str(copied))


@pytest.mark.parametrize(
    "facts",
    [
        {"tasks": [{"name": "gender"}]},
        {"input": {"size": 64, "colour": "RGB"}},
        {
            "tasks": [
                {
                    "name": "gender",
                    "scheme": "gender2",
                    "classes": ["Male", "Female"],
                    "output": "gender",
                    "activation": "tanh",
                }
            ]
        },
    ],
)
def test_impossible_facts_are_one_clear_error(copied: Path, facts: dict[str, object]) -> None:
    edit(copied, **facts)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        load_bundle(str(copied))


def test_the_name_of_a_bundle_that_ships_means_that_one_whatever_the_folder_holds(
    random_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = load_bundle(DEFAULT_BUNDLE).sha256
    (tmp_path / DEFAULT_BUNDLE).mkdir()
    assert load_bundle(DEFAULT_BUNDLE).sha256 == shipped
    assert not caplog.messages
    shutil.copytree(random_bundle.graph.parent, DEFAULT_BUNDLE, dirs_exist_ok=True)
    assert load_bundle(DEFAULT_BUNDLE).sha256 == shipped
    assert f"./{DEFAULT_BUNDLE} is the one in this folder" in caplog.text
    for given in (f"./{DEFAULT_BUNDLE}", Path(DEFAULT_BUNDLE)):
        assert load_bundle(given).sha256 == random_bundle.sha256


@pytest.mark.parametrize(
    "given",
    ["https://x.org/m?X-Amz-Signature=hush", "https://x.org/hush.onnx?hush", "s3://me:hush@b/m"],
)
def test_an_address_as_a_model_is_refused_without_its_secrets(given: str) -> None:
    with pytest.raises(FaceauditError) as caught:
        load_bundle(given)
    assert "X-Amz" not in str(caught.value)
    assert "me:" not in str(caught.value)


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match="fairface"):
        load_bundle("fairfaces")


def test_a_folder_without_a_graph_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no model\.onnx"):
        load_bundle(str(tmp_path))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_bundle_is_whole_and_small(name: str) -> None:
    bundle = load_bundle(name)
    files = list(bundle.graph.parent.iterdir())
    assert {file.suffix for file in files} == {".json", ".onnx", ".safetensors"}
    assert sum(file.stat().st_size for file in files) < 15e6
    assert set(bundle.card["backbone"].split(joined.SIGN)) <= set(BACKBONES)
    for key in ("split", "metrics", "intended_use", "limits", "parameters"):
        assert bundle.card[key], key
    with safe_open(bundle.weights, "numpy") as tensors:
        assert sum(tensors.get_tensor(key).size for key in tensors.keys()) > 1e6  # noqa: SIM118


def test_the_default_bundle_ships() -> None:
    assert DEFAULT_BUNDLE in SHIPPED


def test_no_pickle_is_read_in_the_package() -> None:
    package = BUNDLES.parents[1]
    assert not [path for path in package.rglob("*") if path.suffix in {".pt", ".pth", ".pkl"}]
    loads = [
        line
        for path in package.rglob("*.py")
        for line in path.read_text().splitlines()
        if "torch.load(" in line
    ]
    assert loads, "training reads checkpoints"
    assert all("weights_only=True" in line for line in loads)


def test_a_bundle_for_research_says_so_whenever_it_is_used() -> None:
    bundle = load_bundle("fairface")
    assert bundle.notice is None
    limited = replace(bundle, licence="research only", card={"research_only": True})
    assert limited.notice == "research only"
    assert replace(limited, card={"research_only": True, "notice": "no"}).notice == "no"
