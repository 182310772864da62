from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from faceaudit.errors import BundleError, UnknownNameError, UsageError
from faceaudit.models import backbones
from faceaudit.models.backbones import BACKBONES, find_backbone, timm_trunk
from faceaudit.models.backbones.backbone import Backbone, check_size
from faceaudit.models.backbones.weights import TERMS_UNKNOWN, load_weights, source_of


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_gives_the_feature_maps_it_promises(name: str) -> None:
    backbone = BACKBONES[name]
    size = backbone.size or 64
    maps = backbone.build().eval()(torch.zeros(1, 3, size, size))
    assert maps.shape[:2] == (1, backbone.features)
    names = [name for name, _ in backbone.build().named_parameters()]
    assert all(any(name.startswith(part) for name in names) for part in backbone.last_block)


@pytest.mark.parametrize("name", BACKBONES)
def test_norms_know_the_data_after_an_epoch_of_few_steps(name: str) -> None:
    with torch.device("meta"):
        trunk = BACKBONES[name].build()
    norms = [layer for layer in trunk.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    steps, unknown = 100, 0.01
    assert all((1 - (layer.momentum or 0.0)) ** steps < unknown for layer in norms)


def test_every_module_in_the_folder_is_listed() -> None:
    modules = {path.stem for path in Path(backbones.__file__).parent.glob("*.py")}
    listed = {
        backbone.build.func.__module__
        if isinstance(backbone.build, partial)
        else backbone.build.__module__
        for backbone in BACKBONES.values()
    }
    apart = {"__init__", "backbone", "joined", "timm_trunk", "weights"}
    assert {name.rpartition(".")[2] for name in listed} == modules - apart


def test_unknown_backbone_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="efficientnet_lite0"):
        find_backbone("efficientnet_lite9")


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_imagenet_weights_of_lite_fill_the_trunk_and_its_norms(name: str) -> None:
    backbone = find_backbone(name)
    trunk = backbone.build()
    before = trunk.state_dict()["conv_stem.weight"].clone()
    load_weights(backbone, trunk, "imagenet")
    after = trunk.state_dict()
    assert not torch.equal(before, after["conv_stem.weight"])
    assert float(after["bn2.running_var"].min()) > 0
    assert float(after["bn2.running_mean"].abs().sum()) > 0


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of torch hub."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("FACEAUDIT_WEIGHTS", raising=False)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def test_a_missing_file_of_weights_is_named_with_its_place_and_licence(cache: Path) -> None:
    backbone = find_backbone("resnet50")
    trunk = torch.nn.Identity()
    with pytest.raises(
        BundleError, match=r"resnet50-0676ba61\.pth.*license not stated.*checkpoints"
    ):
        load_weights(backbone, trunk, "imagenet")
    with pytest.raises(UnknownNameError, match="no weights is called 'jft'"):
        load_weights(backbone, trunk, "jft")


TORCHVISION = [name for name in BACKBONES if hasattr(torchvision.models, name)]


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_file_is_the_one_that_torchvision_names(name: str) -> None:
    url = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
    assert url.endswith(f"/{BACKBONES[name].sources['imagenet'].file}")


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_weights_that_torchvision_ported_are_named_so(name: str) -> None:
    told = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].meta["_docs"]
    source = BACKBONES[name].sources["imagenet"]
    assert ("ported from" in told) == ("ported from" in source.training_data)
    assert "not stated" in source.licence


@pytest.mark.parametrize("name", ["resnet34", "mobilenet_v3_small", "densenet121"])
def test_torchvision_weights_are_loaded_from_its_cache(name: str, cache: Path) -> None:
    whole = getattr(torchvision.models, name)(weights=None).eval()
    backbone = find_backbone(name)
    torch.save(whole.state_dict(), cache / backbone.sources["imagenet"].file)
    trunk = backbone.build().eval()
    load_weights(backbone, trunk, "imagenet")
    image = torch.rand(1, 3, 64, 64)
    maps = trunk(image)
    if name.startswith("resnet"):
        assert torch.allclose(whole.fc(maps.mean((2, 3))), whole(image), atol=1e-5)
    elif name == "densenet121":
        assert torch.allclose(whole.classifier(maps.mean((2, 3))), whole(image), atol=1e-5)
    else:
        assert torch.allclose(whole.features(image), maps)


def test_densenet_reads_the_names_of_torchvisions_old_file(cache: Path) -> None:
    whole = torchvision.models.densenet121(weights=None)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", name): value
        for name, value in whole.state_dict().items()
    }
    assert old.keys() != whole.state_dict().keys()
    torch.save(old, cache / "densenet121-a639ec97.pth")
    backbone = find_backbone("densenet121")
    trunk = backbone.build()
    load_weights(backbone, trunk, "imagenet")
    wanted = whole.features.state_dict()
    found = trunk.state_dict()
    assert all(torch.equal(found[f"features.{name}"], value) for name, value in wanted.items())


@pytest.mark.parametrize("name", [*BACKBONES, "timm:resnet10t", "custom_cnn+mobilenet_v2"])
def test_a_file_of_another_network_is_refused_by_every_architecture_in_one_line(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    torch.save({"nothing.of.this": torch.zeros(3)}, path)
    backbone = find_backbone(name)
    with pytest.raises(BundleError) as caught:
        load_weights(backbone, backbone.build(), str(path))
    given, whose = re.escape(str(path)), re.escape(name)
    told = rf"{given}: does not hold weights of {whose}: it lacks [\w.]+[^\n]*"
    assert re.fullmatch(told, str(caught.value))


@pytest.mark.parametrize("content", [b"junk\n", b"", b"x"])
def test_a_file_that_is_none_of_weights_is_refused_in_one_line(
    content: bytes, tmp_path: Path
) -> None:
    path, backbone = tmp_path / "junk.pth", find_backbone("custom_cnn")
    path.write_bytes(content)
    with pytest.raises(
        BundleError, match=r"^[^\n]*junk\.pth: does not hold weights of custom_cnn: it"
    ):
        load_weights(backbone, backbone.build(), str(path))


@pytest.mark.parametrize("name", ["densenet121", "vgg16", "custom_cnn"])
def test_a_file_that_lacks_one_tensor_or_has_one_of_another_shape_is_refused(
    name: str, tmp_path: Path
) -> None:
    backbone, path = find_backbone(name), tmp_path / "part.pth"
    trunk = backbone.build()
    inner = {"vgg16": "features."}.get(name, "")
    whole = {inner + key: value for key, value in trunk.state_dict().items()}
    last = [key for key in whole if key.endswith("weight")][-1]
    torch.save({key: value for key, value in whole.items() if key != last}, path)
    with pytest.raises(BundleError, match=rf"it lacks {last.removeprefix(inner)}$"):
        load_weights(backbone, trunk, str(path))
    torch.save({**whole, last: torch.zeros(3)}, path)
    with pytest.raises(BundleError, match=r"weight has shape \(3,\), not \(\d+,"):
        load_weights(backbone, trunk, str(path))
    counters = {key for key in whole if key.endswith(".num_batches_tracked")}
    torch.save({key: value for key, value in whole.items() if key not in counters}, path)
    load_weights(backbone, trunk, str(path))  # files that are older than the counters


def test_a_file_named_as_known_weights_has_their_terms_and_another_has_none() -> None:
    backbone = find_backbone("vgg16")
    known = backbone.sources["vggface"]
    found = source_of(backbone, f"/somewhere/{known.file}")
    assert found is not None
    assert found.research_only
    assert (found.licence, found.file) == (known.licence, f"/somewhere/{known.file}")
    other = source_of(backbone, "mine.h5")
    assert other is not None
    assert other.licence == TERMS_UNKNOWN
    assert source_of(backbone, "none") is None


def test_keras_vggface_weights_are_converted(cache: Path) -> None:
    h5py = pytest.importorskip("h5py")
    backbone = find_backbone("vgg16")
    trunk = backbone.build()
    convs = [layer for layer in trunk if isinstance(layer, torch.nn.Conv2d)]
    generator = np.random.default_rng(0)
    kernels = [
        generator.normal(size=(3, 3, conv.in_channels, conv.out_channels)).astype(np.float32)
        for conv in convs
    ]
    with h5py.File(cache / "rcmalli_vggface_tf_notop_vgg16.h5", "w") as file:
        names = [f"conv{number}" for number in range(len(convs))]
        file.attrs["layer_names"] = ["input_1", *names]
        file.create_group("input_1")
        for name, kernel in zip(names, kernels, strict=True):
            file[f"{name}/{name}/kernel:0"] = kernel
            file[f"{name}/{name}/bias:0"] = np.full(kernel.shape[-1], 0.5, np.float32)
    load_weights(backbone, trunk, "vggface")
    first, second = convs[0].weight.detach().numpy(), convs[1].weight.detach().numpy()
    assert np.array_equal(first[5, 0], kernels[0][:, :, 2, 5])  # BGR to RGB
    assert np.array_equal(second[3, 7], kernels[1][:, :, 7, 3])
    assert convs[-1].bias.tolist()[0] == 0.5


@pytest.mark.data
def test_mobilefacenet_gives_the_embedding_of_the_published_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import onnxruntime
    from safetensors.torch import load_file

    folder = Path(__file__).parents[3] / "shared" / "data" / "weights"
    if not folder.is_dir():
        pytest.skip(f"no weights in {folder}")
    monkeypatch.setenv("FACEAUDIT_WEIGHTS", str(folder))
    backbone = find_backbone("mobilefacenet")
    trunk = backbone.build().eval()
    load_weights(backbone, trunk, "mobilefacenet")
    image = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    tensors = load_file(folder / "mobilefacenet_ms1m.safetensors")
    maps = torch.nn.functional.conv2d(trunk(image), tensors["conv3.weight"], tensors["conv3.bias"])
    found = torch.nn.functional.batch_norm(
        maps,
        tensors["bn.running_mean"],
        tensors["bn.running_var"],
        tensors["bn.weight"],
        tensors["bn.bias"],
    ).flatten(1)
    session = onnxruntime.InferenceSession(str(folder / "mobilefacenet_ms1m.onnx"))
    wanted = session.run(None, {"input0": image.numpy()})[0]
    assert np.abs(found.detach().numpy() - wanted).max() < 1e-4


def test_any_network_of_timm_is_a_backbone() -> None:
    backbone = find_backbone("timm:resnet10t")
    maps = backbone.build().eval()(torch.zeros(1, 3, 64, 64))
    assert maps.shape[:2] == (1, backbone.features)
    with pytest.raises(UnknownNameError, match="resnet10t"):
        find_backbone("timm:resnet10x")
    with pytest.raises(UsageError, match=r"^no timm network is called 'nope'; timm\.list_models"):
        find_backbone("timm:nope")


def test_a_tag_that_timm_does_not_know_lists_the_known() -> None:
    assert find_backbone("timm:resnet18.a1_in1k").features == 512
    with pytest.raises(
        UnknownNameError, match=r"called 'resnet18\.bogus'; choose one of: resnet18, resnet18\.a1"
    ):
        find_backbone("timm:resnet18.bogus")


@pytest.mark.parametrize("error", [RuntimeError("no maps\nof it"), AssertionError()])
def test_a_timm_network_without_maps_is_one_clear_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(timm_trunk, "_features", fail)
    with pytest.raises(UsageError, match=r"^backbone timm:resnet10t: timm gives no .*: [^\n]+$"):
        find_backbone("timm:resnet10t")


@pytest.mark.parametrize(
    ("name", "size", "works"),
    [
        ("mobilefacenet", 64, "112"),
        ("custom_cnn", 16, "another size"),
        ("timm:swin_tiny_patch4_window7_224", 64, "224"),
        ("timm:levit_128s", 64, "224"),
        ("timm:vit_tiny_r_s16_p8_224", 16, "224"),
    ],
)
def test_a_size_that_a_backbone_does_not_take_is_told_with_what_works(
    name: str, size: int, works: str
) -> None:
    told = rf"^stages: backbone {name} takes no images of {size} pixels \([^\n]+\); give {works}$"
    with pytest.raises(UsageError, match=told):
        check_size(find_backbone(name), size)


@pytest.mark.parametrize("name", ["mobilefacenet", "timm:swin_tiny_patch4_window7_224"])
def test_a_backbone_takes_the_size_that_it_is_told_with(name: str) -> None:
    backbone = find_backbone(name)
    assert backbone.size
    check_size(backbone, backbone.size)


def test_a_network_that_reads_its_values_is_tried_with_values() -> None:
    class Reads(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * images.sum().item()

    check_size(Backbone("reads", 3, Reads, ()), 16)


def test_maps_of_another_number_than_promised_are_refused() -> None:
    with pytest.raises(UsageError, match=r"its maps have the shape \(3, 16, 16\)"):
        check_size(Backbone("few", 4, torch.nn.Identity, ()), 16)
