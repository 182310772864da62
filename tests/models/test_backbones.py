from __future__ import annotations

from pathlib import Path

import pytest
import torch

from faceaudit.errors import BundleError, UnknownNameError
from faceaudit.models import BACKBONES, find_backbone
from faceaudit.models.heads import Deployed, MultiTaskNetwork


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_gives_the_feature_maps_it_promises(name: str) -> None:
    backbone = BACKBONES[name]
    maps = backbone.build().eval()(torch.zeros(1, 3, 64, 64))
    assert maps.shape[:2] == (1, backbone.features)


def test_every_module_in_the_folder_is_listed() -> None:
    folder = Path(__file__).parents[2] / "faceaudit" / "models"
    others = {"__init__", "backbone", "bundle", "export", "heads"}
    assert {path.stem for path in folder.glob("*.py")} - others == set(BACKBONES)


def test_unknown_backbone_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="efficientnet_lite0"):
        find_backbone("efficientnet_lite9")


def test_imagenet_weights_of_lite0_classify_as_imagenet_weights_do() -> None:
    backbone = find_backbone("efficientnet_lite0")
    trunk = backbone.build()
    before = trunk.state_dict()["conv_stem.weight"].clone()
    backbone.load_imagenet(trunk)
    after = trunk.state_dict()
    assert not torch.equal(before, after["conv_stem.weight"])
    assert float(after["bn2.running_var"].min()) > 0
    assert float(after["bn2.running_mean"].abs().sum()) > 0


def test_missing_torchvision_weights_name_the_file_and_the_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    backbone = find_backbone("mobilenet_v2")
    with pytest.raises(BundleError, match=r"mobilenet_v2-b0353104\.pth.*TORCH_HOME"):
        backbone.load_imagenet(backbone.build())


def test_torchvision_weights_are_loaded_from_its_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torchvision

    whole = torchvision.models.mobilenet_v2(weights=None)
    (tmp_path / "checkpoints").mkdir()
    torch.save(whole.state_dict(), tmp_path / "checkpoints" / "mobilenet_v2-b0353104.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    backbone = find_backbone("mobilenet_v2")
    trunk = backbone.build()
    backbone.load_imagenet(trunk)
    wanted = whole.features.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in trunk.state_dict().items())


def test_heads_are_asked_by_name() -> None:
    network = MultiTaskNetwork(torch.nn.Identity(), 3, {"gender": 2, "race": 7}).eval()
    logits = network(torch.zeros(4, 3, 8, 8))
    assert {name: tuple(value.shape) for name, value in logits.items()} == {
        "gender": (4, 2),
        "race": (4, 7),
    }


def test_deployed_network_normalises_pixels() -> None:
    network = MultiTaskNetwork(torch.nn.Identity(), 3, {"mean": 3})
    torch.nn.init.dirac_(network.heads["mean"].weight)
    torch.nn.init.zeros_(network.heads["mean"].bias)
    deployed = Deployed(network, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)).eval()
    crops = torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    assert deployed(crops)[0].tolist() == [[1.0, 3.0, 1.0]]
