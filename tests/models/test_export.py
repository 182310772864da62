from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from faceaudit.models.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
from faceaudit.models.bundle import Bundle, facts_of
from faceaudit.models.export import (
    halve,
    settle_padding,
    settle_resizing,
    stored_tensors,
    trace,
    write_bundle,
)
from faceaudit.models.quantize import fold, run
from faceaudit.runtimes.torch_runtime import load_network


def test_padding_is_known_before_images_come(random_bundle: Bundle) -> None:
    model = onnx.load(random_bundle.graph, load_external_data=False)
    constants = {initializer.name: initializer for initializer in model.graph.initializer}
    pads = [node.input[1] for node in model.graph.node if node.op_type == "Pad"]
    assert len(pads) == 5  # the convolutions of stride 2 of EfficientNet-Lite0
    assert {onnx.numpy_helper.to_array(constants[name]).sum() for name in pads} == {2, 6}
    assert not [node for node in model.graph.node if node.op_type == "Shape"]


def test_a_graph_that_computes_no_padding_stays_as_it_is() -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 4]) for name in "xy"
    ]
    graph = onnx.helper.make_graph([node], "relu", values[:1], values[1:])
    model = onnx.helper.make_model(graph)
    before = model.SerializeToString()
    settle_padding(model)
    assert model.SerializeToString() == before


class Smaller(torch.nn.Module):
    """Sees images in a size of its own, as a part of joined backbones may."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.convolution = torch.nn.Conv2d(3, 4, 3)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        images = crops.permute(0, 3, 1, 2).float() / 255
        size = (self.size, self.size)
        seen = torch.nn.functional.interpolate(images, size=size, mode="bilinear")
        return self.convolution(seen).mean(dim=(2, 3))


@pytest.mark.parametrize(("size", "smaller"), [(32, 28), (36, 29), (41, 41), (25, 33)])
def test_images_are_resized_by_factors_that_no_batch_is_in(size: int, smaller: int) -> None:
    model = trace(Smaller(smaller), size, ["y"])
    crops = np.random.default_rng(0).integers(0, 256, (5, size, size, 3), np.uint8)
    before = run(model, crops)
    settle_resizing(model)
    (node,) = [node for node in model.graph.node if node.op_type == "Resize"]
    constants = {initializer.name: initializer for initializer in model.graph.initializer}
    factors = onnx.numpy_helper.to_array(constants[node.input[2]])
    np.testing.assert_allclose(factors, [1, 1, smaller / size, smaller / size], rtol=1e-6)
    assert not [node for node in model.graph.node if node.op_type == "Shape"]
    np.testing.assert_allclose(run(model, crops)[0], before[0], atol=1e-5)
    np.testing.assert_allclose(run(fold(model), crops)[0], before[0], atol=1e-5)


def test_facts_that_json_cannot_hold_leave_no_file(random_bundle: Bundle, tmp_path: Path) -> None:
    network = load_network(random_bundle).network
    facts = replace(random_bundle, card={**random_bundle.card, "made": date(2024, 1, 31)})
    with pytest.raises(TypeError, match="date is not JSON serializable"):
        write_bundle(tmp_path / "bundle", network, facts, IMAGENET_MEAN, IMAGENET_STD)
    assert not (tmp_path / "bundle").exists()


def test_a_card_replaces_no_fact(random_bundle: Bundle) -> None:
    card = {"name": "other", "sha256": "0" * 64, "intended_use": "tests"}
    facts = facts_of(replace(random_bundle, card=card))
    assert (facts["name"], facts["sha256"]) == (random_bundle.name, random_bundle.sha256)
    assert facts["intended_use"] == "tests"


def test_kernels_are_stored_in_half_precision_and_widened_once_on_loading(
    random_bundle: Bundle, tmp_path: Path
) -> None:
    stored = stored_tensors(random_bundle.weights)
    network = load_network(random_bundle)
    for name, parameter in network.named_parameters():
        assert stored[name].dtype == ("F16" if parameter.ndim > 1 else "F32")
        assert torch.equal(parameter.half().float(), parameter) or parameter.ndim == 1
    assert stored["mean"].dtype == "F32"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(random_bundle.graph), options, ["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx", load_external_data=False)
    nodes = optimized.graph.node
    casts = [node.input[0] for node in nodes if node.op_type == "Cast"]
    assert len([one for one in casts if "weight" in one]) == 0
    assert len(casts) <= 1  # of the crops


def test_what_half_precision_cannot_hold_stays() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight[0, 0] = 1e6
        network[1].weight[0, 0] = 1 / 3
    assert halve(network) == {"1.weight"}
    assert network[0].weight[0, 0] == 1e6
    assert network[1].weight[0, 0] == torch.tensor(1 / 3).half().float()
