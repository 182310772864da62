"""Files of weights that users bring."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from faceaudit.errors import BundleError, UsageError
from faceaudit.models.backbones import find_backbone
from faceaudit.models.backbones.backbone import Backbone
from faceaudit.models.backbones.efficientnet_lite import EFFICIENTNET_LITE0, EFFICIENTNET_LITE2
from faceaudit.models.backbones.weights import (
    check_weights,
    find_weights,
    load_weights,
    read_tensors,
)

SMALL = find_backbone("custom_cnn")


@dataclass(frozen=True)
class FakeFile:
    """A file of an installed package."""

    path: Path

    def __str__(self) -> str:
        return f"package/{self.path.name}"

    def locate(self) -> Path:
        return self.path


def save(tensors: Any, path: Path) -> None:
    """Write a file of the kind that its name says."""
    write: Callable[..., Any] = save_file if path.suffix == ".safetensors" else torch.save
    write(tensors, path)


def told(backbone: Backbone, path: Path) -> str:
    """Why a file is refused."""
    with pytest.raises(BundleError, match=r"^[^\n]+$") as caught:
        load_weights(backbone, backbone.build(), str(path))
    start = f"{path}: does not hold weights of {backbone.name}: "
    assert str(caught.value).startswith(start)
    return str(caught.value).removeprefix(start)


def check_loads(backbone: Backbone, tensors: Any, path: Path, wanted: torch.nn.Module) -> None:
    """A file gives the trunk the values of another of the same build."""
    save(tensors, path)
    trunk = backbone.build()
    load_weights(backbone, trunk, str(path))
    found = trunk.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".PTH", ".safetensors"])
@pytest.mark.parametrize("whole", [True, False])
def test_published_names_and_the_trunks_own_fit_in_every_kind_of_file(
    suffix: str, whole: bool, tmp_path: Path
) -> None:
    network = torchvision.models.mobilenet_v2(weights=None)
    tensors = (network if whole else network.features).state_dict()
    path = tmp_path / f"mine{suffix}"
    check_weights(find_backbone("mobilenet_v2"), str(path))
    check_loads(find_backbone("mobilenet_v2"), tensors, path, network.features)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("backbone", [EFFICIENTNET_LITE0, EFFICIENTNET_LITE2], ids=["0", "2"])
def test_lite_is_read_by_names_whatever_their_order(
    backbone: Backbone, suffix: str, published: bool, tmp_path: Path
) -> None:
    source = backbone.sources["imagenet"]
    trunk = backbone.build()
    tensors = read_tensors(find_weights(backbone.name, source), trunk)
    # The file that is published holds the layers in the order of the trunk's.
    trunk.load_state_dict(dict(zip(trunk.state_dict(), tensors.values(), strict=False)))
    if not published:
        tensors = {**trunk.state_dict(), "classifier.weight": torch.zeros(1000, 1280)}
    shuffled = {name: value.contiguous() for name, value in sorted(tensors.items())}
    check_loads(backbone, shuffled, tmp_path / f"mine{suffix}", trunk)


def test_weights_of_lite0_are_asked_for_by_the_name_of_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, name = EFFICIENTNET_LITE0.sources["imagenet"], "efficientnet-lite0-57934424.pth"
    assert find_weights("efficientnet_lite0", source).name == name
    other = tmp_path / name.replace("57934424", "0123abcd")
    package = FakeFile(other)
    monkeypatch.setattr(metadata, "files", lambda _: [FakeFile(tmp_path / "x.pth"), package])
    assert find_weights("efficientnet_lite0", source) == other
    monkeypatch.setattr(metadata, "files", lambda _: [])
    monkeypatch.setenv("FACEAUDIT_WEIGHTS", str(tmp_path))
    with pytest.raises(BundleError, match=f"the weights {name} .* are not installed"):
        find_weights("efficientnet_lite0", source)
    (tmp_path / name).touch()
    assert find_weights("efficientnet_lite0", source) == tmp_path / name


def test_a_missing_file_is_told_with_where_it_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("imagenet", "vggface"):
        source = find_backbone("vgg16").sources[name]
        with pytest.raises(
            BundleError, match=re.escape(f"published at {source.url}, in {tmp_path}")
        ):
            find_weights("vgg16", source)
        assert source.url.startswith("https://")
        assert source.url.endswith(f"/{source.file}")


def test_a_timm_network_says_where_its_weights_are() -> None:
    backbone = find_backbone("timm:test_vit")
    with pytest.raises(
        UsageError,
        match=r"^weights imagenet: none are named for timm:test_vit: give the file "
        r"model\.safetensors of https://huggingface\.co/timm/test_vit\.r160_in1k \(license "
        r"apache-2\.0\), with mean = \[0\.5, 0\.5, 0\.5\] and std = \[0\.5, 0\.5, 0\.5\]; or",
    ):
        check_weights(backbone, "imagenet")


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "test_vit"])
def test_a_timm_network_takes_the_tensors_that_timm_names(name: str, tmp_path: Path) -> None:
    whole = timm.create_model(name, pretrained=False).eval()
    backbone = find_backbone(f"timm:{name}")
    path = tmp_path / "whole.pth"
    torch.save(whole.state_dict(), path)
    trunk = backbone.build().eval()
    load_weights(backbone, trunk, str(path))
    image = torch.rand(1, 3, backbone.size or 64, backbone.size or 64)
    wanted = whole.forward_intermediates(image, indices=1, intermediates_only=True)[0]
    assert torch.allclose(trunk(image), wanted, atol=1e-5)
    check_loads(backbone, trunk.state_dict(), path, trunk)


@pytest.mark.parametrize(("name", "deeper"), [("timm:resnet18", "resnet34"), ("resnet34", "r")])
def test_a_deeper_network_is_refused_with_the_first_part_that_has_no_place(
    name: str, deeper: str, tmp_path: Path
) -> None:
    backbone, path = find_backbone(name), tmp_path / "deeper.pth"
    if name.startswith("timm:"):
        tensors = timm.create_model(deeper, pretrained=False).state_dict()
    else:
        tensors = {**backbone.build().state_dict(), "layer4.3.conv1.weight": torch.zeros(1)}
    torch.save(tensors, path)
    assert re.match(r"it holds (network\.)?layer\d\.\d\.conv1\.weight", told(backbone, path))


def test_checkpoints_and_names_of_data_parallel_are_unwrapped(tmp_path: Path) -> None:
    trunk = SMALL.build()
    wrapped = {f"module.{name}": value for name, value in trunk.state_dict().items()}
    checkpoint = {"epoch": 3, "state_dict": wrapped}
    check_loads(SMALL, checkpoint, tmp_path / "checkpoint.pth", trunk)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({1: torch.zeros(3)}, "it is no file of tensors by name"),
        (torch.zeros(3), "it is no file of tensors by name"),
        (torch.tensor(3.0), "it is no file of tensors by name"),
        ([torch.zeros(3)], "it is no file of tensors by name"),
        ({"state_dict": 3}, "it is no file of tensors by name"),
        ({"0.weight": 3}, "its 0.weight is no tensor but of type int"),
        ({"0.weight": [1.0]}, "its 0.weight is no tensor but of type list"),
    ],
)
@pytest.mark.parametrize("name", ["custom_cnn", "mobilenet_v2", "densenet121"])
def test_a_file_of_something_else_is_refused_in_one_line(
    content: Any, why: str, name: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "other.pth")
    assert told(find_backbone(name), tmp_path / "other.pth") == why


@pytest.mark.parametrize("kept", [0, 5, 100, -7])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused_in_one_line(kept: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"part{suffix}"
    save(SMALL.build().state_dict(), path)
    path.write_bytes(path.read_bytes()[:kept])
    assert told(SMALL, path)


def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "damaged.pth"
    torch.save({"name": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    key = re.findall(rb"\d{9,}", whole)[-1]
    start, _, end = whole.rpartition(key)
    path.write_bytes(start + b"1" * len(key) + end)
    assert told(SMALL, path) == "it is damaged, or no file of tensors by name"
    path.write_bytes(whole.replace(b"name", b"n\xff\xffe"))
    assert told(SMALL, path) == "it is damaged, or no file of tensors by name"


def test_values_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    tensors = SMALL.build().state_dict()
    tensors["4.weight"][0, 0, 1, 1] = torch.nan
    torch.save(tensors, tmp_path / "nan.pth")
    assert told(SMALL, tmp_path / "nan.pth") == "its 4.weight holds values that are not finite"


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that commands run in, beside one of weights and an empty cache of torch hub."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("FACEAUDIT_WEIGHTS", str(tmp_path / "kept"))
    (tmp_path / "kept").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def missing(weights: str, backbone: Backbone = SMALL) -> str:
    with pytest.raises(BundleError) as caught:
        load_weights(backbone, torch.nn.Identity(), weights)
    return str(caught.value)


def test_a_missing_file_of_the_user_is_told_with_the_places_looked_at(places: Path) -> None:
    sought = [places / part / "mine.pth" for part in ("here", "kept", "hub/checkpoints")]
    no = "there is no such file; looked for"
    assert missing("mine.pth") == f"weights mine.pth: {no} {', '.join(map(str, sought))}"
    assert missing(f"{places}/mine.pth") == f"weights {places}/mine.pth: {no} {places}/mine.pth"
    vgg16 = find_backbone("vgg16")
    known = vgg16.sources["vggface"]
    told = missing(f"{places}/{known.file}", vgg16)
    assert told.endswith(f"; license {known.licence}, published at {known.url})")
    torch.save(SMALL.build().state_dict(), places / "kept" / "mine.pth")
    load_weights(SMALL, SMALL.build(), "mine.pth")


def test_a_folder_that_is_named_as_a_file_is_told(places: Path) -> None:
    folder = places / "here" / "dir.pth"
    folder.mkdir()
    assert missing("dir.pth") == f"weights dir.pth: {folder} is a folder; give a file"


def keras(path: Path, fill: Callable[[Any], None]) -> str:
    """Why a Keras file is refused."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        fill(file)
    return told(find_backbone("vgg16"), path)


def test_a_keras_file_of_another_layout_is_told_which_is_needed(tmp_path: Path) -> None:
    def whole_model(file: Any) -> None:
        file.create_group("model_weights").attrs["layer_names"] = ["conv0"]

    why = keras(tmp_path / "model.h5", whole_model)
    assert re.fullmatch(r"it has no attribute layer_names; .* Keras 2 writes it \(\S+\)", why)


@pytest.mark.parametrize("names", [5, ["conv0"], ["conv0", "absent"], b"conv0"])
def test_a_keras_file_whose_layers_are_not_there_is_refused(names: Any, tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file.attrs["layer_names"] = names
        file["conv0"] = [1.0]

    why = keras(tmp_path / "model.h5", fill)
    assert re.fullmatch(r"its layer_names has (5|conv0), and it has no group of that name", why)


def test_texts_in_a_keras_file_are_no_kernels(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file.attrs["layer_names"] = ["conv0"]
        file["conv0/note"] = "text"
        file["conv0/names"] = [[[["a", "b"]]]]

    assert keras(tmp_path / "model.h5", fill) == "0 convolutions where 13 are needed"
