from __future__ import annotations

import logging
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from faceaudit.errors import BundleError
from faceaudit.models.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
from faceaudit.models.bundle import Bundle
from faceaudit.models.export import write_bundle
from faceaudit.models.heads import MultiTaskNetwork
from faceaudit.models.quantize import (
    KEPT_FLOAT,
    equalize,
    fold,
    group_of,
    kept_float,
    largest,
    linear_streams,
    quantize_graph,
    run,
)
from faceaudit.runtimes import onnx_runtime
from faceaudit.runtimes.onnx_runtime import load_session


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    """Smooth random images: noise alone would say little of the ranges of faces."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (48, 4, 4, 3)).astype(np.uint8)
    return np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2)


@pytest.fixture(scope="module")
def int8(residual_bundle: Bundle, crops: NDArray[np.uint8]) -> Path:
    model = quantize_graph(residual_bundle.graph, crops[:32])
    path = residual_bundle.graph.with_suffix(".int8.onnx")
    path.write_bytes(model.SerializeToString())
    return path


def outputs_of(
    graph: Path, crops: NDArray[np.uint8], size: int = 64, threads: int = 1
) -> list[NDArray[np.float32]]:
    session = load_session(graph, threads)
    parts = [session.run(None, {"crops": crops[k : k + size]}) for k in range(0, len(crops), size)]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def test_int8_stays_close_to_float32(
    residual_bundle: Bundle, int8: Path, crops: NDArray[np.uint8]
) -> None:
    for exact, rounded in zip(
        outputs_of(residual_bundle.graph, crops), outputs_of(int8, crops), strict=True
    ):
        assert 0 < np.abs(rounded - exact).max() < 0.03 * np.abs(exact).max()


def test_a_mirrored_network_is_rounded_as_closely(
    residual_bundle: Bundle,
    residual_network: MultiTaskNetwork,
    crops: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    network = deepcopy(residual_network)
    network.mirrored = True
    made = write_bundle(tmp_path, network, residual_bundle, IMAGENET_MEAN, IMAGENET_STD)
    path = tmp_path / "model.int8.onnx"
    path.write_bytes(quantize_graph(made.graph, crops[:32]).SerializeToString())
    found, mirrored = outputs_of(path, crops), outputs_of(path, crops[:, :, ::-1])
    for exact, rounded, other in zip(outputs_of(made.graph, crops), found, mirrored, strict=True):
        assert 0 < np.abs(rounded - exact).max() < 0.03 * np.abs(exact).max()
        assert np.abs(rounded - other).max() < 1e-5 * np.abs(exact).max()


def test_the_layers_in_between_are_computed_in_integers(int8: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(int8), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 10
    assert kinds.count("Conv") + kinds.count("FusedConv") == KEPT_FLOAT + 3  # and the heads
    assert kinds.count("QLinearAdd") == 2


@pytest.mark.parametrize(("size", "threads"), [(1, 1), (5, 1), (48, 2), (7, 2)])
def test_values_do_not_depend_on_batch_or_threads(
    int8: Path, crops: NDArray[np.uint8], size: int, threads: int
) -> None:
    wanted = outputs_of(int8, crops)
    for one, other in zip(wanted, outputs_of(int8, crops, size, threads), strict=True):
        assert np.array_equal(one, other)


def test_a_processor_without_vnni_gets_the_same_values_and_a_warning(
    residual_bundle: Bundle,
    int8: Path,
    crops: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wanted = outputs_of(int8, crops)
    monkeypatch.setattr(onnx_runtime, "has_instructions", lambda names: False)
    for one, other in zip(wanted, outputs_of(int8, crops), strict=True):
        assert np.array_equal(one, other)
    with caplog.at_level(logging.WARNING):
        onnx_runtime.OnnxRuntime(residual_bundle, ["gender"], int8=int8)
    assert "no faster than float32 here" in caplog.text


def test_the_graph_takes_its_weights_from_those_of_float32(
    residual_bundle: Bundle, int8: Path
) -> None:
    own = onnx.load(residual_bundle.graph, load_external_data=False).graph
    made = onnx.load(int8, load_external_data=False).graph
    stored = {node.output[0]: node.input[0] for node in own.node if node.op_type == "Cast"}
    weights = {stored[node.input[1]] for node in own.node if node.op_type == "Conv"}
    referred = {one.name: one for one in made.initializer if one.external_data}
    assert set(referred) == weights
    theirs = {one.name: one for one in own.initializer}
    assert all(one == theirs[name] for name, one in referred.items())
    kept = {one.name: np.prod(one.dims) for one in made.initializer if not one.external_data}
    assert max(kept.values()) <= 101  # a number per channel, at most


def test_folding_leaves_convolutions_alone_and_outputs_as_they_are(
    residual_bundle: Bundle, crops: NDArray[np.uint8]
) -> None:
    original = onnx.load(residual_bundle.graph)
    folded = fold(original)
    assert not {node.op_type for node in folded.graph.node} & {"BatchNormalization", "Pad"}
    for before, after in zip(run(original, crops[:3]), run(folded, crops[:3]), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-4)


def test_equalized_channels_reach_equally_far_and_outputs_stay(
    residual_bundle: Bundle, crops: NDArray[np.uint8]
) -> None:
    model = fold(onnx.load(residual_bundle.graph))
    streams = list(linear_streams(model))
    before, outputs = [largest(model, stream, crops) for stream in streams], run(model, crops[:4])
    factors = equalize(model, crops)
    for stream, found in zip(streams, before, strict=True):
        assert np.max(list(found.values()), axis=0).std() > 0.1
        reach = np.max(list(largest(model, stream, crops).values()), axis=0)
        np.testing.assert_allclose(reach, reach[0], rtol=1e-3)
    for one, other in zip(outputs, run(model, crops[:4]), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4 * np.abs(one).max())
    whole = [node.name for node in model.graph.node if node.op_type == "Conv"]
    assert set(factors) <= set(whole)
    assert len(factors) == 4  # the three expansions and the last layer


def test_sums_and_what_they_join_are_one_stream(residual_bundle: Bundle) -> None:
    model = fold(onnx.load(residual_bundle.graph))
    makers = {node.output[0]: node for node in model.graph.node}
    streams = list(linear_streams(model))
    assert sorted(len(stream) for stream in streams) == [1, 5]
    joined = max(streams, key=len)
    assert [makers[name].op_type for name in joined].count("Add") == 2
    assert all(group_of(makers[name]) == 1 for name in joined)


def test_a_graph_without_convolutions_is_one_clear_error(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "mean.onnx")
    with pytest.raises(BundleError, match="no convolutions that could be computed in int8"):
        quantize_graph(tmp_path / "mean.onnx", np.ones((2, 3, 8, 8), np.float32))


def test_gates_stay_float_and_the_maps_they_multiply_do_not() -> None:
    """Squeeze-and-excitation pools within the trunk; only the last pooling ends it."""
    nodes = [
        helper.make_node("Conv", [f"x{k}", "w"], [f"x{k + 1}"], name=f"c{k}") for k in range(4)
    ]
    nodes += [
        helper.make_node("ReduceMean", ["x4"], ["mean"], name="squeeze", axes=[2, 3]),
        helper.make_node("Conv", ["mean", "w"], ["wide"], name="excite"),
        helper.make_node("Add", ["wide", "three"], ["more"], name="shift"),
        helper.make_node("Mul", ["x4", "more"], ["gated"], name="gate"),
        helper.make_node("Conv", ["gated", "w"], ["maps"], name="c4"),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"], name="pool"),
        helper.make_node("Conv", ["pooled", "w"], ["head"], name="head"),
    ]
    constants = [
        helper.make_tensor("w", TensorProto.FLOAT, [2, 2, 1, 1], np.ones(4)),
        helper.make_tensor("three", TensorProto.FLOAT, [1], [3.0]),
    ]
    shape = ["N", 2, 8, 8]
    graph = helper.make_graph(
        nodes,
        "gated",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("head", TensorProto.FLOAT, ["N", 2, 1, 1])],
        constants,
    )
    kept = kept_float(helper.make_model(graph))
    assert kept == {"c0", "c1", "c2", "squeeze", "excite", "shift", "pool", "head"}
