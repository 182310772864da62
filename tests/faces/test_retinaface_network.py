from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from faceaudit.faces.retinaface import WEIGHTS

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from faceaudit.faces.retinaface_network import RetinaFace  # noqa: E402 - needs torch
from scripts.convert_retinaface import convolutions, load_weights  # noqa: E402 - needs torch


def test_the_network_is_the_one_in_the_file_that_ships() -> None:
    initializers = onnx.load(WEIGHTS).graph.initializer
    weights = {item.name: onnx.numpy_helper.to_array(item).copy() for item in initializers}
    network = RetinaFace().eval()
    network.load_state_dict(
        {name: torch.from_numpy(weights[name]) for name in network.state_dict()}
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 160, 3), dtype=np.uint8)
    expected = onnxruntime.InferenceSession(WEIGHTS).run(None, {"images": images})
    with torch.inference_mode():
        found = network(torch.from_numpy(images))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4)


def test_the_network_is_small() -> None:
    parameters = sum(p.numel() for p in RetinaFace().parameters())
    assert 400_000 < parameters < 440_000


def small_model(channels: int) -> Any:
    """A model of two convolutions, the second of which borrows the kernel of the first."""
    kernel = np.ones((channels, channels, 1, 1), np.float32)
    initializers = [
        onnx.numpy_helper.from_array(kernel, "kernel"),
        onnx.numpy_helper.from_array(np.zeros(channels, np.float32), "bias"),
    ]
    nodes = [
        onnx.helper.make_node("Identity", ["kernel"], ["alias"]),
        onnx.helper.make_node("Conv", ["x", "kernel", "bias"], ["y"]),
        onnx.helper.make_node("Conv", ["y", "alias", "bias"], ["z"]),
    ]
    return onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], initializers))


def test_a_shared_kernel_counts_once() -> None:
    assert len(convolutions(small_model(4).graph)) == 1


def test_weights_fill_the_network_in_order() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1))
    load_weights(network, small_model(4))
    assert (network[0].weight == 1).all()
    assert (network[0].bias == 0).all()


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a kernel \(8, 3, 3, 3\), got \(4, 4, 1, 1\)"):
        load_weights(RetinaFace(), small_model(4))
    with pytest.raises(ValueError, match="longer"):
        load_weights(torch.nn.Sequential(), small_model(4))
