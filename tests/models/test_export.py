from __future__ import annotations

import onnx

from faceaudit.models.bundle import Bundle
from faceaudit.models.export import settle_padding


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
