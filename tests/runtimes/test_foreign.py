"""Graphs of other people, as they really are: any layout, range, type, batch and outputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from faceaudit.errors import BundleError
from faceaudit.models.bundle import Bundle, hash_of, load_bundle
from faceaudit.pipeline.scores import Scores, scores_of
from faceaudit.runtimes import open_runtime

SIZE = 16
CROPS = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
# Of channel means of pixels in -1 to 1 to seven columns: four races, one gender, an age, nothing.
WEIGHTS = np.random.default_rng(1).normal(0, 3, (3, 7)).astype(np.float32)

TASKS: list[dict[str, Any]] = [
    {"name": "race", "scheme": "fairface4", "output": "y[0:4]", "activation": "softmax"},
    {"name": "gender", "scheme": "gender2", "output": "y[4]", "activation": "sigmoid"},
    {"name": "age", "output": "y[5]", "activation": "value", "scale": 10, "shift": 40},
]
NUMPY = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.DOUBLE: np.float64,
    TensorProto.UINT8: np.uint8,
}


def write(
    folder: Path,
    *,
    layout: str = "NCHW",
    kind: int = TensorProto.FLOAT,
    batch: object = "N",
    size: object = SIZE,
    tail: Sequence[tuple[str, NDArray[Any] | None]] = (),
    shape: Sequence[object] = ("N", "K"),
    weights: NDArray[np.float32] = WEIGHTS,
    inside: tuple[float, float] | None = None,
    tasks: Sequence[dict[str, Any]] = TASKS,
    **facts: Any,
) -> Path:
    """A graph: channel means times weights, then further nodes; with its sidecar."""
    channels_first = layout == "NCHW"
    deep = len(weights)
    dims = [batch, deep, size, size] if channels_first else [batch, size, size, deep]
    calculated = TensorProto.FLOAT if kind == TensorProto.UINT8 else kind
    constants = {"w": weights.astype(NUMPY[calculated])}
    nodes, last = [], "x"
    if kind == TensorProto.UINT8:
        nodes.append(helper.make_node("Cast", ["x"], ["c"], to=calculated))
        last = "c"
    if inside is not None:  # normalization in the graph
        constants["scale"] = np.asarray(inside[0], NUMPY[calculated])
        constants["move"] = np.asarray(inside[1], NUMPY[calculated])
        nodes += [
            helper.make_node("Mul", [last, "scale"], ["s"]),
            helper.make_node("Add", ["s", "move"], ["n"]),
        ]
        last = "n"
    axes = [2, 3] if channels_first else [1, 2]
    nodes += [
        helper.make_node("ReduceMean", [last], ["m"], axes=axes, keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["t0"]),
    ]
    for place, (op, constant) in enumerate(tail):
        given = [f"t{place}"]
        if constant is not None:
            constants[f"k{place}"] = constant
            given.append(f"k{place}")
        nodes.append(helper.make_node(op, given, [f"t{place + 1}"]))
    nodes.append(helper.make_node("Identity", [f"t{len(tail)}"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info("x", kind, dims)],
        [helper.make_tensor_value_info("y", calculated, list(shape))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = folder / "theirs.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    given = {"size": SIZE, "layout": layout, "mean": [0.5] * 3, "std": [0.5] * 3}
    sidecar = {
        "name": "theirs", "licence": "none", "training_data": "none",
        "input": {**given, **facts}, "crop": {"align": "none", "margin": 0.0},
        "tasks": list(tasks), "sha256": hash_of([path]),
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path


def scores(path: Path, crops: NDArray[np.uint8] = CROPS) -> Scores:
    bundle: Bundle = load_bundle(str(path))
    return scores_of(open_runtime(bundle, device="cpu").infer(crops), bundle.tasks, (0, 18, 65))


def wanted(crops: NDArray[np.uint8] = CROPS) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Races, gender and ages, worked out here."""
    values = (crops / 127.5 - 1).mean(axis=(1, 2)) @ WEIGHTS.astype(np.float64)
    powers = np.exp(values[:, :4])
    second = 1 / (1 + np.exp(-values[:, 4]))
    return powers / powers.sum(1, keepdims=True), second, 40 + 10 * values[:, 5]


def agree(found: Scores, within: float = 1e-5) -> None:
    races, second, ages = wanted()
    np.testing.assert_allclose(found.probs["race"], races, atol=within)
    np.testing.assert_allclose(found.probs["gender"][:, 1], second, atol=within)
    assert found.age is not None
    np.testing.assert_allclose(found.age, ages, atol=100 * within)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"range": 255, "mean": [127.5] * 3, "std": [127.5] * 3},
        {"mean": [0.0] * 3, "std": [1.0] * 3, "inside": (2, -1)},
        {"range": 255, "mean": [0.0] * 3, "std": [1.0] * 3, "inside": (1 / 127.5, -1)},
        {"color": "BGR", "weights": WEIGHTS[::-1].copy()},
    ],
    ids=["-1 to 1", "of 255", "0 to 1", "0 to 255", "BGR"],
)
def test_layouts_ranges_and_colors(tmp_path: Path, layout: str, facts: dict[str, Any]) -> None:
    agree(scores(write(tmp_path, layout=layout, **facts)))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_a_graph_that_takes_bytes_gets_them_in_its_layout_and_color(
    tmp_path: Path, layout: str, color: str
) -> None:
    weights = WEIGHTS if color == "RGB" else WEIGHTS[::-1].copy()
    path = write(
        tmp_path, layout=layout, color=color, weights=weights, kind=TensorProto.UINT8,
        inside=(1 / 127.5, -1),
    )  # fmt: skip
    agree(scores(path))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.UINT8])
def test_a_graph_that_takes_gray_images_gets_those_that_pillow_makes(
    tmp_path: Path, layout: str, kind: int
) -> None:
    facts: dict[str, Any] = {"mean": [0.5], "std": [0.5], "color": "gray"}
    inside = (1 / 127.5, -1) if kind == TensorProto.UINT8 else None
    age = {"name": "age", "output": "y", "activation": "value", "scale": 10, "shift": 40}
    weights = np.ones((1, 1), np.float32)
    path = write(
        tmp_path, layout=layout, kind=kind, inside=inside, weights=weights, tasks=[age], **facts
    )
    gray = np.stack([np.asarray(Image.fromarray(crop).convert("L")) for crop in CROPS])
    np.testing.assert_allclose(
        scores(path).age, 40 + 10 * (gray / 127.5 - 1).mean(axis=(1, 2)), atol=0.01
    )


@pytest.mark.parametrize("batch", [1, 2, 4, 64])
def test_a_graph_of_a_fixed_batch_is_run_as_often_as_needed(tmp_path: Path, batch: int) -> None:
    agree(scores(write(tmp_path, batch=batch)))


def test_a_graph_of_one_image_may_leave_the_axis_of_images_out(tmp_path: Path) -> None:
    squeeze = [("Squeeze", np.asarray([0], np.int64))]
    agree(scores(write(tmp_path, batch=1, tail=squeeze, shape=("K",))))


@pytest.mark.parametrize(
    ("kind", "within"), [(TensorProto.FLOAT16, 0.02), (TensorProto.DOUBLE, 1e-5)]
)
def test_weights_in_half_and_double_precision(tmp_path: Path, kind: int, within: float) -> None:
    agree(scores(write(tmp_path, kind=kind)), within)


def test_outputs_with_further_axes_are_flattened(tmp_path: Path) -> None:
    tail = [("Unsqueeze", np.asarray([2, 3], np.int64))]
    agree(scores(write(tmp_path, tail=tail, shape=("N", "K", 1, 1))))


def test_a_graph_of_any_size_is_given_the_size_of_its_facts(tmp_path: Path) -> None:
    agree(scores(write(tmp_path, size="S")))


def test_the_probability_of_the_second_class_alone_is_enough(tmp_path: Path) -> None:
    gender = {**TASKS[1], "activation": "none", "output": "y"}
    path = write(tmp_path, weights=WEIGHTS[:, 4:5], tail=[("Sigmoid", None)], tasks=[gender])
    found = scores(path)
    np.testing.assert_allclose(found.probs["gender"][:, 1], wanted()[1], atol=1e-5)
    np.testing.assert_allclose(found.probs["gender"].sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("activation", ["none", "years"])
def test_years_that_do_not_start_at_zero_or_end_at_a_hundred(
    tmp_path: Path, activation: str
) -> None:
    tail = [("Softmax", None)] if activation == "none" else []
    age = {"name": "age", "classes": "16-22", "output": "y", "activation": activation}
    found = scores(write(tmp_path, tail=tail, tasks=[age]))
    values = (CROPS / 127.5 - 1).mean(axis=(1, 2)) @ WEIGHTS.astype(np.float64)
    shares = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    assert found.age is not None
    np.testing.assert_allclose(found.age, shares @ np.arange(16, 23), rtol=1e-5)
    groups = np.column_stack([shares[:, :2].sum(1), shares[:, 2:].sum(1), np.zeros(5)])
    np.testing.assert_allclose(found.probs["age_group"], groups, atol=1e-6)


def test_age_groups_of_their_own_stay_as_they_are(tmp_path: Path) -> None:
    names = ["0-12", "13-19", "20-59", "60+"]
    group = {"name": "age_group", "classes": names, "output": "y[0:4]", "activation": "softmax"}
    found = scores(write(tmp_path, tasks=[group]))
    np.testing.assert_allclose(found.probs["age_group"], wanted()[0], atol=1e-5)
    assert found.age is None


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"size": 24}, r"'x' is N x 3 x 24 x 24, but its facts say .* input\.size 16: N x 3 x 16"),
        (
            {"tail": [("ReduceMean", None)], "shape": (1, 1), "batch": 4},
            r"returns 1 rows for 4 images",
        ),
        ({"tasks": [{**TASKS[0], "output": "y[4:8]"}]}, r"output 'y\[4:8\]': 'y' is 2x7, too few"),
        ({"tasks": [{**TASKS[0], "output": "y"}]}, r"output 'y' is 2x7; task race .* takes 4"),
        ({"tasks": [{**TASKS[0], "output": "z[0:4]"}]}, r"no output 'z'; its outputs are y"),
        ({"tasks": [{**TASKS[0], "activation": "none"}]}, r"are no probabilities .* use softmax"),
        (
            {"tail": [("Reshape", np.asarray([1, 7], np.int64))], "shape": (1, 7)},
            r"fails on 2 images of 16x16 pixels",
        ),
        (
            {"tail": [("ReduceMean", None)], "shape": (1, 1)},
            r"output 'y' is 1x1 for 2 images; one row each",
        ),
        ({"weights": WEIGHTS * np.float32(np.nan)}, r"not finite on random pixels; see its input"),
    ],
)  # fmt: skip
def test_a_graph_that_does_not_fit_its_facts_is_one_line(
    tmp_path: Path, facts: dict[str, Any], words: str
) -> None:
    bundle = load_bundle(str(write(tmp_path, **facts)))
    with pytest.raises(BundleError, match=words) as found:
        open_runtime(bundle, device="cpu")
    assert "\n" not in str(found.value)
    assert str(found.value).startswith(str(tmp_path))


def test_a_layout_that_does_not_fit_the_graph_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, layout="NHWC")
    sidecar = path.with_suffix(".json")
    sidecar.write_text(sidecar.read_text().replace('"NHWC"', '"NCHW"'))
    with pytest.raises(BundleError, match=r"N x 16 x 16 x 3, but its facts say input\.layout NCHW"):
        open_runtime(load_bundle(str(path)), device="cpu")


def test_what_a_network_does_not_say_of_a_face_is_not_a_number(tmp_path: Path) -> None:
    # The logarithm of a mean below 0 is none: what a network may do on a face that is black.
    weights = np.ones((3, 1), np.float32)
    age = {"name": "age", "output": "y", "activation": "value"}
    path = write(
        tmp_path, weights=weights, tail=[("Log", None)], tasks=[age], range=255,
        mean=[1.0] * 3, std=[1.0] * 3,
    )  # fmt: skip
    crops = CROPS.copy()
    crops[2] = 0
    found = scores(path, crops)
    assert found.age is not None
    assert np.isnan(found.age).tolist() == [False, False, True, False, False]
    assert np.isnan(found.probs["age_group"]).all(axis=1).tolist() == np.isnan(found.age).tolist()
