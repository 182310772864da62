"""A float32 graph to an int8 one: static, activations per tensor, weights per channel.

The int8 graph holds no weights of its own. It takes those of the float32 graph, scales their
channels (by the batch norm behind them, and so that the channels of a tensor reach equally far) and
rounds them; a runtime does this once, on loading. A bundle thus keeps one copy of its weights.
"""

from __future__ import annotations

import logging
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from faceaudit.errors import BundleError

KEPT_FLOAT = 3
"""The first convolutions stay in float32, as does what follows the pooling: at full size rounding
costs most accuracy and integers save no time, and behind the pooling there is none to save."""
QUANTIZED = ("Conv", "Clip", "Relu", "Add")
POOLINGS = ("GlobalAveragePool", "ReduceMean")
BATCH = 32
TOLERANCE = 1e-3
"""Largest change of an output by folding and equalizing, relative to the largest output."""

UNFIT = (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.RuntimeException)
"""What ONNX Runtime raises where a graph does not bear another batch or folding."""

Floats = NDArray[np.float32]


def quantize_graph(graph: Path, inputs: NDArray[Any]) -> onnx.ModelProto:
    """The int8 graph of a convolutional network.

    Args:
        graph: The float32 graph; only its batch axis may vary.
        inputs: Calibration images as the graph takes them, (N, ...).

    Raises:
        BundleError: If the graph cannot be folded or has nothing to quantize.
    """
    original = onnx.load(graph)
    examples = inputs[:2]
    try:
        model = fold(original)
        scales = equalize(model, inputs)
        outputs = run(original, examples), run(model, examples)
    except UNFIT as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{graph}: cannot be folded for int8 ({reason})") from error
    for before, after in zip(*outputs, strict=True):
        if not np.abs(before - after).max() <= TOLERANCE * max(1e-6, float(np.abs(before).max())):
            raise BundleError(f"{graph}: its outputs change when its batch norms are folded")
    made = add_rounding(model, inputs)
    if not any(node.op_type == "QuantizeLinear" for node in made.graph.node):
        raise BundleError(f"{graph}: has no convolutions that could be computed in int8")
    refer_to_weights(made, onnx.load(graph, load_external_data=False), original, scales)
    shorten(made)
    return made


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with batch norms and padding folded into the convolutions."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for initializer in fixed.graph.initializer:
        del initializer.external_data[:]
        initializer.ClearField("data_location")
    _set_batch(fixed, 1)  # padding that is computed from shapes becomes constant
    with tempfile.TemporaryDirectory() as folder:
        options = _options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        _session(fixed, options)
        folded = onnx.load(options.optimized_model_filepath)
    _set_batch(folded, "N")
    return folded


def equalize(model: onnx.ModelProto, inputs: NDArray[Any]) -> dict[str, Floats]:
    """Scale channels so that those of one tensor reach equally far; outputs stay the same.

    Tensors without an activation behind them, between convolutions and sums, are scaled channel by
    channel: the convolutions that make them divide by the scale, those that read them multiply.

    Args:
        model: A folded graph; changed in place.
        inputs: Calibration images.

    Returns:
        Name of a convolution over all channels -> the factor of each of its input channels.

    Source:
        Nagel, van Baalen, Blankevoort, Welling: Data-free quantization through weight equalization
        and bias correction, ICCV 2019; here the ranges are those of the activations.
    """
    streams = list(linear_streams(model))
    reach = largest(model, [name for stream in streams for name in stream], inputs)
    makers = {output: node for node in model.graph.node for output in node.output}
    readers = _readers(model)
    factors: dict[str, Floats] = {}
    for stream in streams:
        scale = np.maximum(np.max([reach[name] for name in stream], axis=0), 1e-3)
        scale = (scale / np.exp(np.log(scale).mean())).astype(np.float32)  # (C,)
        for node in _convolutions(makers[name] for name in stream):
            _scale(model, node.input[1], 1 / scale, axis=0)
            if len(node.input) > 2:
                _scale(model, node.input[2], 1 / scale, axis=0)
        for node in _convolutions(reader for name in stream for reader in readers[name]):
            whole = group_of(node) == 1
            _scale(model, node.input[1], scale, axis=1 if whole else 0)
            if whole:
                factors[node.name] = scale
    return factors


def linear_streams(model: onnx.ModelProto) -> Iterator[list[str]]:
    """Tensors that must be scaled alike: outputs of convolutions and the sums that join them.

    Only those are given that nothing but convolutions and sums make and read.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    readers = _readers(model)
    joined: dict[str, set[str]] = {}
    for node in model.graph.node:
        names = [node.output[0], *(node.input if node.op_type == "Add" else ())]
        if node.op_type in ("Conv", "Add"):
            stream = set(names).union(*(joined.get(name, set()) for name in names))
            joined.update(dict.fromkeys(stream, stream))
    outputs = {output.name for output in model.graph.output}
    for stream in {id(stream): stream for stream in joined.values()}.values():
        nodes = [node for name in stream for node in (makers.get(name), *readers[name])]
        kinds = {None if node is None else node.op_type for node in nodes}
        reads = [node for name in stream for node in readers[name] if node.op_type == "Conv"]
        plain = all(group_of(node) == 1 or _is_depthwise(model, node) for node in reads)
        if kinds <= {"Conv", "Add"} and reads and plain and not stream & outputs:
            yield sorted(stream)


def largest(
    model: onnx.ModelProto, names: Sequence[str], inputs: NDArray[Any]
) -> dict[str, NDArray[np.float32]]:
    """Largest magnitude of every channel of tensors (N, C, H, W) over images, (C,) each."""
    if not names:
        return {}
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = _session(watched, _options())
    found: dict[str, NDArray[np.float32]] = {}
    for feed in batches(session, inputs):
        for name, maps in zip(names, session.run(list(names), feed), strict=True):
            reach = np.abs(maps).max(axis=(0, 2, 3))
            found[name] = np.maximum(found.get(name, reach), reach)
    return found


def add_rounding(model: onnx.ModelProto, inputs: NDArray[Any]) -> onnx.ModelProto:
    """The graph with every tensor rounded that is computed in int8, in ONNX's QDQ form.

    Activations are uint8 over the range that they take on the images, weights int8 per channel.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import create_calibrator
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(
            path, augmented_model_path=str(Path(folder) / "watched.onnx")
        )
        session = _session(model, _options())
        calibrator.collect_data(_Feeds(batches(session, inputs)))
        ranges = calibrator.compute_data()
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)  # it advises to fold the graph, which has been done
    try:
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=sorted(kept_float(model)),
            op_types_to_quantize=list(QUANTIZED),
            extra_options={"AddQDQPairToWeight": True},
        )
        quantizer.quantize_model()
    finally:
        log.setLevel(level)
    made: onnx.ModelProto = quantizer.model.model
    return made


def kept_float(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that stay in float32: the first convolutions, and what sees no whole maps.

    Of what follows a pooling, that is what reads pooled maps (and constants) alone: heads, and the
    gates of squeeze-and-excitation, but not the maps that a gate is multiplied with.
    """
    kept = {node.name for node in list(_convolutions(model.graph.node))[:KEPT_FLOAT]}
    pooled: set[str] = set()
    constant = {initializer.name for initializer in model.graph.initializer}
    for node in model.graph.node:
        read = {name for name in node.input if name} - constant
        if not read:
            constant.update(node.output)
        elif node.op_type in POOLINGS or read <= pooled:
            pooled.update(node.output)
            kept.add(node.name)
    return kept


def refer_to_weights(
    made: onnx.ModelProto,
    referring: onnx.ModelProto,
    original: onnx.ModelProto,
    factors: Mapping[str, Floats],
) -> None:
    """Replace weights by those of the float32 graph times what each channel was scaled by.

    Args:
        made: The int8 graph, changed in place.
        referring: The float32 graph with references to its weights, which are taken over.
        original: The same with its weights.
        factors: Name of a convolution -> factor of its input channels, as ``equalize`` returns it.
    """
    stored = {node.output[0]: node.input[0] for node in referring.graph.node if is_cast(node)}
    known = {
        node.name: stored.get(node.input[1], node.input[1])
        for node in _convolutions(referring.graph.node)
    }
    external = {i.name: i for i in referring.graph.initializer if i.external_data}
    values = _initializers(original)
    own = _initializers(made)
    rounded = {node.output[0]: node.input[0] for node in made.graph.node}
    scaling: list[onnx.NodeProto] = []
    for node in list(_convolutions(made.graph.node)):
        name = node.input[1]
        while name not in own and name in rounded:
            name = rounded[name]
        source = known.get(node.name, "")
        if name not in own or source not in external:
            continue
        ours = numpy_helper.to_array(own[name])
        theirs = numpy_helper.to_array(values[source]).astype(np.float32)
        if ours.shape != theirs.shape:
            continue
        columns = factors.get(node.name, np.ones(ours.shape[1], np.float32))[None, :, None, None]
        scaled = theirs * columns
        power = (scaled * scaled).sum(axis=(1, 2, 3), keepdims=True)
        rows = (ours * scaled).sum(axis=(1, 2, 3), keepdims=True) / np.maximum(power, 1e-30)
        if not np.allclose(scaled * rows, ours, rtol=1e-3, atol=1e-5 * np.abs(ours).max()):
            continue
        made.graph.initializer.remove(own[name])
        if source not in _initializers(made):
            made.graph.initializer.add().CopyFrom(external[source])
        steps = [(columns, "columns")] * (node.name in factors) + [(rows, "rows")]
        before = source
        if external[source].data_type == onnx.TensorProto.FLOAT16:
            before = f"{node.name}.wide"
            to = onnx.TensorProto.FLOAT
            scaling.append(helper.make_node("Cast", [source], [before], to=to))
        for factor, title in steps:
            after = f"{node.name}.{title}"
            constant = numpy_helper.from_array(factor.astype(np.float32), f"{after}.factor")
            made.graph.initializer.append(constant)
            scaling.append(helper.make_node("Mul", [before, constant.name], [after]))
            before = after
        for reader in made.graph.node:
            reader.input[:] = [before if given == name else given for given in reader.input]
    nodes = [*scaling, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)


def shorten(model: onnx.ModelProto) -> None:
    """Number nodes and tensors: their names would be a third of a graph without weights."""
    kept = {value.name for value in [*model.graph.input, *model.graph.output]}
    kept |= {i.name for i in model.graph.initializer if i.external_data}
    names: dict[str, str] = {"": ""}

    def short(name: str) -> str:
        return name if name in kept else names.setdefault(name, str(len(names)))

    for initializer in model.graph.initializer:
        initializer.name = short(initializer.name)
    for number, node in enumerate(model.graph.node):
        node.name = str(number)
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
    del model.graph.value_info[:]


def run(model: onnx.ModelProto, inputs: NDArray[Any]) -> list[Floats]:
    """All outputs of a graph that holds its weights."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    for initializer in whole.graph.initializer:
        del initializer.external_data[:]
        initializer.ClearField("data_location")
    session = _session(whole, _options())
    return list(session.run(None, {session.get_inputs()[0].name: inputs}))


def batches(
    session: onnxruntime.InferenceSession, inputs: NDArray[Any]
) -> Iterator[dict[str, NDArray[Any]]]:
    """What a session takes, ``BATCH`` images at a time."""
    name = session.get_inputs()[0].name
    return ({name: inputs[k : k + BATCH]} for k in range(0, len(inputs), BATCH))


class _Feeds:
    """Batches in the form that the calibrator asks for them."""

    def __init__(self, feeds: Iterator[dict[str, NDArray[Any]]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)


def is_cast(node: onnx.NodeProto) -> bool:
    """Whether a node changes nothing but the type, as of weights that are stored smaller."""
    return bool(node.op_type == "Cast")


def _is_depthwise(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether a convolution has one kernel of one channel for each of its inputs."""
    kernels, channels = _initializers(model)[node.input[1]].dims[:2]
    return bool(channels == 1 and kernels == group_of(node))


def group_of(node: onnx.NodeProto) -> int:
    """Groups of a convolution."""
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)


def _convolutions(nodes: Any) -> Iterator[onnx.NodeProto]:
    """Every convolution among nodes, once."""
    seen = set()
    for node in nodes:
        if node.op_type == "Conv" and node.name not in seen:
            seen.add(node.name)
            yield node


def _readers(model: onnx.ModelProto) -> Mapping[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers


def _initializers(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    return {initializer.name: initializer for initializer in model.graph.initializer}


def _scale(model: onnx.ModelProto, name: str, scale: Floats, axis: int) -> None:
    """Multiply an initializer by one factor per entry of an axis."""
    initializer = _initializers(model)[name]
    values = numpy_helper.to_array(initializer)
    shape = [1] * values.ndim
    shape[axis] = -1
    initializer.CopyFrom(numpy_helper.from_array(values * scale.reshape(shape), name))


def _set_batch(model: onnx.ModelProto, size: int | str) -> None:
    """Give the first axis of inputs and outputs a size or a name; forget what follows from it."""
    for value in [*model.graph.input, *model.graph.output]:
        axis = value.type.tensor_type.shape.dim[0]
        axis.Clear()
        setattr(axis, "dim_value" if isinstance(size, int) else "dim_param", size)
    del model.graph.value_info[:]


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


def _session(
    model: onnx.ModelProto, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
