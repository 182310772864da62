from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from faceaudit.errors import UnknownNameError, UsageError
from faceaudit.models.backbones import BACKBONES, find_backbone
from faceaudit.models.bundle import Bundle, Input, load_bundle
from faceaudit.models.card import card_text
from faceaudit.models.export import write_bundle
from faceaudit.models.heads import HEADS, Deployed, MultiTaskNetwork, Units, freeze, to_gray
from faceaudit.models.standalone import export
from faceaudit.runtimes import open_runtime
from faceaudit.training.recipe import TaskRecipe, output_of

OUTPUTS = {"age": 5, "gender": 2, "race": 5}
SCHEMES = {"age": "dj5", "gender": "gender2", "race": "utkface5"}
UNITS: dict[str, Units] = {
    "linear": (),
    "dense": (128,),
    "conv": {"gender": (8,), "race": (24,), "age": (16, 8)},
    "ge": (128,),
    "gm": (128,),
    "am": (128,),
}


def network_of(kind: str, backbone: str = "custom_cnn") -> MultiTaskNetwork:
    torch.manual_seed(0)
    found = find_backbone(backbone)
    return MultiTaskNetwork(found.build(), found.features, OUTPUTS, 0.0, kind, UNITS[kind])


@pytest.mark.parametrize(
    ("kind", "published"),
    [
        ("dense", 14_913_228),
        ("gm", 14_979_278),
        ("am", 15_012_044),
    ],
)
def test_vgg16_has_as_many_parameters_as_the_reference_reports(kind: str, published: int) -> None:
    with torch.device("meta"):
        network = network_of(kind, "vgg16")
    assert sum(parameter.numel() for parameter in network.parameters()) == published


@pytest.mark.parametrize("kind", HEADS)
def test_every_kind_gives_every_output_in_order(kind: str) -> None:
    found = network_of(kind).eval()(torch.rand(3, 3, 64, 64))
    assert {name: tuple(values.shape) for name, values in found.items()} == {
        name: (3, size) for name, size in OUTPUTS.items()
    }
    assert list(found) == list(OUTPUTS) == list(network_of(kind).last_layers())


def test_a_head_may_have_widths_of_its_own() -> None:
    heads = network_of("conv").heads
    widths = {
        name: [layer.out_channels for layer in head if isinstance(layer, torch.nn.Conv2d)]
        for name, head in heads.items()
    }
    assert widths == {"age": [16, 8, 5], "gender": [8, 2], "race": [24, 5]}


@pytest.mark.parametrize("kind", ["ge", "gm", "am"])
def test_what_the_age_head_learns_reaches_the_gender_embedding(kind: str) -> None:
    network = network_of(kind).eval()
    network(torch.rand(2, 3, 64, 64))["age"].sum().backward()
    embedding = network.heads.embedding[0].weight.grad
    assert embedding is not None
    assert float(embedding.abs().sum()) > 0


Weights = dict[str, np.ndarray]


def layer(weights: Weights, name: str, values: np.ndarray) -> np.ndarray:
    """A fully connected layer on (N, F)."""
    kernel = weights[f"{name}.weight"]
    return values @ kernel.reshape(kernel.shape[:2]).T + weights[f"{name}.bias"]


def hidden(weights: Weights, name: str, values: np.ndarray) -> np.ndarray:
    return np.maximum(layer(weights, name, values), 0)


def selected(kind: str, weights: Weights, name: str, embedding: np.ndarray) -> np.ndarray:
    """What a task other than gender sees of the embedding, as the source's notebooks have it."""
    if kind == "ge":
        return embedding
    first = hidden(weights, f"select.{name}.layers.0.0", embedding)
    scores = layer(weights, f"select.{name}.layers.1", first)
    if kind == "gm":
        assert scores.shape[1] == 1
        return embedding / (1 + np.exp(-scores))
    powers = np.exp(scores)
    return embedding * powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["ge", "gm", "am"])
def test_a_gender_embedding_is_wired_as_in_the_source(kind: str) -> None:
    """dileepajj/DJ_Project, notebooks v3 (GE), v4 (GM) and v5 (AM), computed by hand."""
    heads = network_of(kind).eval().heads
    weights = {name: value.numpy() for name, value in heads.state_dict().items()}
    pooled = torch.rand(4, find_backbone("custom_cnn").features, 1, 1) * 4
    with torch.inference_mode():
        found = {name: values.flatten(1).numpy() for name, values in heads(pooled).items()}
    flat = pooled.flatten(1).numpy()
    embedding = hidden(weights, "embedding.0", flat)
    wanted = {"gender": layer(weights, "gender", embedding)}
    for name in ("age", "race"):
        joined = np.hstack([flat, selected(kind, weights, name, embedding)])
        seen = hidden(weights, f"tasks.{name}.0.0", joined)
        wanted[name] = layer(weights, f"tasks.{name}.2", seen)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)


def test_a_gender_embedding_without_gender_is_refused() -> None:
    with pytest.raises(UsageError, match="needs the task gender"):
        MultiTaskNetwork(torch.nn.Identity(), 3, {"age": 5}, kind="ge", units=(8,))
    with pytest.raises(UnknownNameError, match="attention"):
        MultiTaskNetwork(torch.nn.Identity(), 3, {"age": 5}, kind="attention")


@pytest.mark.parametrize("name", ["custom_cnn", "efficientnet_lite0"])
@pytest.mark.parametrize("frozen", ["trunk", "all_but_last_block"])
def test_what_is_frozen_does_not_move(frozen: str, name: str) -> None:
    backbone = find_backbone(name)
    network = network_of("dense", name)
    freeze(network, backbone, frozen)
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    sum(values.square().sum() for values in network(torch.rand(4, 3, 64, 64)).values()).backward()
    optimizer.step()
    moved = {n for n, v in network.state_dict().items() if not torch.equal(v, before[n])}
    assert any(name.startswith("heads.") for name in moved)
    trunk = {name.removeprefix("trunk.") for name in moved if name.startswith("trunk.")}
    assert bool(trunk) == (frozen == "all_but_last_block")
    assert all(name.startswith(backbone.last_block) for name in trunk)


def exported(kind: str, backbone: str, folder: Path, size: int) -> Bundle:
    outputs = tuple(output_of(name, TaskRecipe(scheme)) for name, scheme in SCHEMES.items())
    facts = Bundle(
        name="test",
        graph=Path(),
        licence="none",
        training_data="none",
        input=Input(size, "NHWC", range=255.0),
        align="none",
        margin=0.0,
        offset=0.0,
        tasks=outputs,
        sha256="",
        card={"backbone": backbone, "recipe": {"heads": {"kind": kind, "units": UNITS[kind]}}},
    )
    return write_bundle(folder, network_of(kind, backbone), facts, (0.5,) * 3, (0.5,) * 3)


def check_export(kind: str, backbone: str, folder: Path) -> None:
    size = find_backbone(backbone).size or 64
    bundle = exported(kind, backbone, folder, size)
    crops = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    wanted = open_runtime(bundle, device="cpu", runtime="torch", outputs=list(OUTPUTS))
    found = open_runtime(bundle, device="cpu", runtime="onnxruntime", outputs=list(OUTPUTS))
    first, second, one = wanted.infer(crops), found.infer(crops), found.infer(crops[:1])
    for name in OUTPUTS:
        scale = max(1.0, float(np.abs(first[name]).max()))
        assert np.abs(first[name] - second[name]).max() < 1e-4 * scale, name
        assert np.array_equal(one[name][0], second[name][0]), name


@pytest.mark.parametrize("kind", HEADS)
def test_every_kind_of_head_exports_and_agrees(kind: str, tmp_path: Path) -> None:
    check_export(kind, "custom_cnn", tmp_path)
    alone = export(tmp_path, tmp_path / "alone.onnx")
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    found, own = (
        open_runtime(one, device="cpu", outputs=list(OUTPUTS)).infer(crops)
        for one in (alone, load_bundle(tmp_path))
    )
    assert all(np.array_equal(found[name], own[name]) for name in OUTPUTS)


@pytest.mark.parametrize(
    "backbone",
    [
        "mobilefacenet",
        "mobilenet_v3_small",
        "efficientnet_b1",
        "timm:mambaout_femto",
        "mobilenet_v3_small+mobilefacenet",
    ],
)
def test_an_architecture_exports_and_agrees(backbone: str, tmp_path: Path) -> None:
    check_export("linear", backbone, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("backbone", [name for name in BACKBONES if name != "custom_cnn"])
def test_every_architecture_with_every_head_exports_and_agrees(
    backbone: str, kind: str, tmp_path: Path
) -> None:
    check_export(kind, backbone, tmp_path)


def test_grey_has_three_equal_channels_of_luma() -> None:
    image = torch.tensor([255.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert to_gray(image).flatten().tolist() == pytest.approx([76.245] * 3)


def test_a_number_is_scaled_to_years_in_the_graph() -> None:
    network = MultiTaskNetwork(torch.nn.Identity(), 3, {"age": 1})
    torch.nn.init.zeros_(network.heads["age"].weight)
    torch.nn.init.constant_(network.heads["age"].bias, 0.3)
    deployed = Deployed(network, (0.0,) * 3, (1.0,) * 3, scales={"age": 69.0}).eval()
    years = deployed(torch.zeros(1, 4, 4, 3, dtype=torch.uint8))[0]
    assert years.item() == pytest.approx(20.7)


def test_heads_are_asked_by_name() -> None:
    network = MultiTaskNetwork(torch.nn.Identity(), 3, {"gender": 2, "race": 7}).eval()
    logits = network(torch.zeros(4, 3, 8, 8))
    assert {name: tuple(value.shape) for name, value in logits.items()} == {
        "gender": (4, 2),
        "race": (4, 7),
    }


def test_in_use_a_mirrored_network_sees_faces_and_their_mirror_images() -> None:
    network, plain = network_of("ge"), network_of("ge").eval()
    network.mirrored = True
    images = torch.rand(3, 3, 64, 64)
    found, one, other = network.eval()(images), plain(images), plain(images.flip(3))
    for name in OUTPUTS:
        torch.testing.assert_close(found[name], (one[name] + other[name]) / 2)
        assert not torch.equal(one[name], other[name])


def test_in_training_a_mirrored_network_sees_faces_once() -> None:
    network, seen = network_of("linear"), []
    network.mirrored = True
    network.trunk.register_forward_hook(lambda trunk, images, maps: seen.append(len(maps)))
    network.train()(torch.rand(3, 3, 64, 64))
    network.eval()(torch.rand(3, 3, 64, 64))
    assert seen == [3, 6]


def test_every_runtime_has_a_mirrored_network_see_faces_twice(tmp_path: Path) -> None:
    network = network_of("linear", "mobilenet_v3_small")
    network.mirrored = True
    card = {"backbone": "mobilenet_v3_small", "recipe": {"mirrored": True}}
    facts = replace(exported("linear", "mobilenet_v3_small", tmp_path / "plain", 64), card=card)
    bundle = write_bundle(tmp_path / "twice", network, facts, (0.5,) * 3, (0.5,) * 3)
    assert "the mean over a face and its mirror image" in card_text(bundle)
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    found = {}
    for runtime in ("torch", "onnxruntime"):
        opened = open_runtime(bundle, device="cpu", runtime=runtime, outputs=list(OUTPUTS))
        found[runtime] = opened.infer(crops)
        mirrored = opened.infer(np.ascontiguousarray(crops[:, :, ::-1]))
        for name, values in found[runtime].items():
            assert np.abs(values - mirrored[name]).max() < 1e-5 * np.abs(values).max()
    for name, values in found["torch"].items():
        difference = np.abs(values - found["onnxruntime"][name]).max()
        assert difference < 1e-4 * max(1.0, float(np.abs(values).max()))


def test_deployed_network_normalises_pixels() -> None:
    network = MultiTaskNetwork(torch.nn.Identity(), 3, {"mean": 3})
    torch.nn.init.dirac_(network.heads["mean"].weight)
    torch.nn.init.zeros_(network.heads["mean"].bias)
    deployed = Deployed(network, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)).eval()
    crops = torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    assert deployed(crops)[0].tolist() == [[1.0, 3.0, 1.0]]
