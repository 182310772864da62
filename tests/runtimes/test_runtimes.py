from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from faceaudit.errors import BundleError, UnknownNameError, UsageError
from faceaudit.models.bundle import Bundle, hash_of, load_bundle
from faceaudit.runtimes import RUNTIMES, choose_device, open_runtime


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (37, 64, 64, 3), dtype=np.uint8)


def test_runtimes_agree(random_bundle: Bundle, crops: NDArray[np.uint8]) -> None:
    outputs = [
        open_runtime(random_bundle, device="cpu", runtime=name).infer(crops) for name in RUNTIMES
    ]
    for name, wanted in outputs[0].items():
        assert wanted.shape == (
            37,
            len(next(t for t in random_bundle.tasks if t.output == name).classes),
        )
        for other in outputs[1:]:
            np.testing.assert_allclose(other[name], wanted, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_values_do_not_depend_on_the_batch(
    random_bundle: Bundle, crops: NDArray[np.uint8], size: int
) -> None:
    runtime = open_runtime(random_bundle, device="cpu")
    whole = runtime.infer(crops)
    parts = [runtime.infer(crops[start : start + size]) for start in range(0, len(crops), size)]
    for name, wanted in whole.items():
        assert np.array_equal(np.concatenate([part[name] for part in parts]), wanted)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_only_the_outputs_asked_for_are_computed(
    random_bundle: Bundle, crops: NDArray[np.uint8], runtime: str
) -> None:
    some = open_runtime(random_bundle, outputs=["gender"], device="cpu", runtime=runtime)
    full = open_runtime(random_bundle, device="cpu", runtime=runtime).infer(crops)
    found = some.infer(crops)
    assert list(found) == ["gender"]
    np.testing.assert_allclose(found["gender"], full["gender"], atol=1e-5)


def test_unknown_device_runtime_and_precision(random_bundle: Bundle) -> None:
    with pytest.raises(UnknownNameError, match="no device is called 'gpu'"):
        open_runtime(random_bundle, device="gpu")
    with pytest.raises(UnknownNameError, match="onnxruntime, torch"):
        open_runtime(random_bundle, device="cpu", runtime="tensorrt")
    with pytest.raises(UnknownNameError, match="float32"):
        open_runtime(random_bundle, device="cpu", precision="float64")
    with pytest.raises(UsageError, match="needs a GPU"):
        open_runtime(random_bundle, device="cpu", precision="float16")


def test_a_gpu_that_is_not_there_is_one_clear_error(random_bundle: Bundle) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UsageError, match="no CUDA GPU; use --device cpu"):
        open_runtime(random_bundle, device="cuda")
    assert choose_device("auto") in ("cpu", "mps")


def test_torch_needs_to_know_the_backbone(random_bundle: Bundle) -> None:
    foreign = replace(random_bundle, card={})
    with pytest.raises(BundleError, match="names no backbone"):
        open_runtime(foreign, device="cpu", runtime="torch")


def test_torch_in_low_precision_stays_close(
    random_bundle: Bundle, crops: NDArray[np.uint8]
) -> None:
    from faceaudit.runtimes.torch_runtime import TorchRuntime

    outputs = [task.output for task in random_bundle.tasks]
    crops = crops[:2]  # bfloat16 is slow on processors without it
    exact = TorchRuntime(random_bundle, outputs, "cpu", "float32").infer(crops)
    rough = TorchRuntime(random_bundle, outputs, "cpu", "bfloat16")
    assert rough.facts()["precision"] == "bfloat16"
    for name, value in rough.infer(crops).items():
        assert value.dtype == np.float32
        assert 0 < np.abs(value - exact[name]).max() < 0.2


def foreign_model(folder: Path, **shape: object) -> Path:
    """A network of somebody else: mean of each channel of a float input."""
    layout = [1, "S", "S", 3] if shape.get("layout") == "NHWC" else ["N", 3, "S", "S"]
    axes = [1, 2] if shape.get("layout") == "NHWC" else [2, 3]
    layout[0] = "N"
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, layout)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = folder / "mean.onnx"
    onnx.save(model, path)
    facts = {
        "name": "mean",
        "licence": "none",
        "training_data": "none",
        "input": {"size": 8, **shape},
        "crop": {"align": "none", "margin": 0.2},
        "tasks": [
            {
                "name": "race",
                "scheme": "custom",
                "classes": ["a", "b", "c"],
                "output": "y",
                "activation": "softmax",
            }
        ],
        "sha256": hash_of([path]),
    }
    path.with_suffix(".json").write_text(json.dumps(facts))
    return path


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_model_with_a_sidecar_gets_the_pixels_it_was_trained_with(
    tmp_path: Path, layout: str
) -> None:
    path = foreign_model(
        tmp_path, layout=layout, color="BGR", mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.25], range=1.0
    )
    crops = np.zeros((2, 8, 8, 3), np.uint8)
    crops[..., 0] = 255  # red: the last channel of BGR
    found = open_runtime(load_bundle(str(path)), device="cpu").infer(crops)
    np.testing.assert_allclose(found["y"], [[-1, -1, 2]] * 2, atol=1e-6)


def test_an_output_that_the_graph_lacks_is_named(tmp_path: Path) -> None:
    path = foreign_model(tmp_path)
    sidecar = path.with_suffix(".json")
    sidecar.write_text(sidecar.read_text().replace('"output": "y"', '"output": "z"'))
    with pytest.raises(BundleError, match="no output 'z'; its outputs are y"):
        open_runtime(load_bundle(str(path)), device="cpu")


def test_a_file_that_is_no_graph_is_one_clear_error(tmp_path: Path) -> None:
    path = foreign_model(tmp_path)
    path.write_bytes(b"not a graph")
    sidecar = path.with_suffix(".json")
    facts = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**facts, "sha256": hash_of([path])}))
    with pytest.raises(BundleError, match="ONNX Runtime cannot load it"):
        open_runtime(load_bundle(str(path)), device="cpu")
