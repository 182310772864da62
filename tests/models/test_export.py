from __future__ import annotations

import onnx

from faceaudit.models.bundle import Bundle


def test_padding_is_known_before_images_come(random_bundle: Bundle) -> None:
    model = onnx.load(random_bundle.graph, load_external_data=False)
    constants = {initializer.name: initializer for initializer in model.graph.initializer}
    pads = [node.input[1] for node in model.graph.node if node.op_type == "Pad"]
    assert len(pads) == 5  # the convolutions of stride 2 of EfficientNet-Lite0
    assert {onnx.numpy_helper.to_array(constants[name]).sum() for name in pads} == {2, 6}
    assert not [node for node in model.graph.node if node.op_type == "Shape"]
