"""A trained network to a bundle: weights, graph, facts.

The graph's weights are references into ``weights.safetensors``: safetensors stores each tensor as
plain little-endian bytes, which is what ONNX external data is. One copy serves both runtimes.
Kernels and matrices are stored in half precision, which is half the size; the network is rounded
so, the graph widens them, and a runtime does that once, on loading: it computes in float32.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn

from faceaudit.models.bundle import GRAPH, WEIGHTS, Bundle, facts_of, hash_of, write_facts
from faceaudit.models.heads import Deployed, MultiTaskNetwork
from faceaudit.storage import atomic_write

OPSET = 17
HALF, WIDE = "F16", ".float32"
"""What safetensors calls half precision, and what ends the names of tensors made of it."""


def write_bundle(
    folder: Path,
    network: MultiTaskNetwork,
    facts: Bundle,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    gray: bool = False,
    scales: Mapping[str, float] | None = None,
) -> Bundle:
    """Write a network as a bundle; the facts' graph and hash are filled in.

    Args:
        folder: Created where it does not exist; its three files are replaced.
        network: In any mode; it is left in evaluation mode on the CPU, its kernels and matrices
            rounded to half precision.
        facts: The outputs' names must be the network's heads, in the same order.
        mean: Of pixels in 0 to 1, per channel, as in training.
        std: The same.
        gray: Whether the network sees crops in gray.
        scales: Output name -> factor, for outputs that are numbers.
    """
    json.dumps(facts_of(facts))  # what JSON cannot hold is told before a file is written
    folder.mkdir(parents=True, exist_ok=True)
    deployed = Deployed(network.cpu(), mean, std, gray, scales).eval()
    halved = halve(deployed)
    state = {
        name: (tensor.half() if name in halved else tensor).contiguous()
        for name, tensor in deployed.state_dict().items()
        if tensor.is_floating_point()
    }
    with atomic_write(folder / WEIGHTS) as file:
        file.write(save(state))
    graph = trace(deployed, facts.input.size, [task.output for task in facts.tasks])
    settle_padding(graph)
    settle_resizing(graph)
    refer_to_weights(graph, folder / WEIGHTS)
    with atomic_write(folder / GRAPH) as file:
        file.write(graph.SerializeToString())
    written = replace(
        facts, graph=folder / GRAPH, sha256=hash_of([folder / GRAPH, folder / WEIGHTS])
    )
    write_facts(written)
    return written


def trace(deployed: nn.Module, size: int, outputs: list[str]) -> onnx.ModelProto:
    """The ONNX graph of a network that takes uint8 crops, with a dynamic batch axis."""
    crops = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / GRAPH
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that keeps our names
        torch.onnx.export(
            deployed,
            (crops,),
            path,
            input_names=["crops"],
            output_names=outputs,
            dynamic_axes={"crops": {0: "N"}, **{name: {0: "N"} for name in outputs}},
            opset_version=OPSET,
            dynamo=False,
            # Keep batch norm as nodes with the network's own tensors; runtimes fold it on load.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
        return onnx.load(path)


def settle_padding(model: onnx.ModelProto) -> None:
    """Replace padding that is computed from the images' size by its values.

    The size of crops is fixed; a runtime then pads within the convolution, not by a copy.

    Args:
        model: With its weights; changed in place. All axes but the first of its input are fixed.
    """
    pads = {node.input[1] for node in model.graph.node if node.op_type == "Pad"}
    known = {initializer.name for initializer in model.graph.initializer}
    computed = sorted(pads - known)
    if not computed:
        return
    for name, values in zip(computed, _values(model, computed), strict=True):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    _drop_unread(model.graph, set(computed))


def settle_resizing(model: onnx.ModelProto) -> None:
    """Replace sizes to resize to, computed from the images' shape, by factors.

    A runtime that changes the order of axes finds no rule for sizes that hold the batch.

    Args:
        model: With its weights; changed in place. All axes but the first of its input are fixed.
    """
    nodes = [n for n in model.graph.node if n.op_type == "Resize" and len(n.input) == 4]
    for node in nodes:
        before, after = _values(model, [node.input[0], node.output[0]])
        factors = np.divide(after.shape, before.shape, dtype=np.float32)
        short = np.floor(np.asarray(before.shape, np.float32) * factors) < after.shape
        factors = np.where(short, np.nextafter(factors, np.float32(np.inf)), factors)
        name = f"{node.output[0]}_factors"
        model.graph.initializer.append(onnx.numpy_helper.from_array(factors, name))
        node.input[:] = [node.input[0], "", name]
    if nodes:
        _drop_unread(model.graph, set())


def _values(model: onnx.ModelProto, names: Sequence[str]) -> list[NDArray[Any]]:
    """Tensors of a graph for one image that is all black."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    crops = session.get_inputs()[0]
    found: list[NDArray[Any]] = session.run(
        list(names), {crops.name: np.zeros((1, *crops.shape[1:]), np.uint8)}
    )
    return found


def _drop_unread(graph: onnx.GraphProto, settled: set[str]) -> None:
    """Drop nodes whose outputs nobody reads or that have become initializers."""
    wanted = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output) and not settled.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def halve(network: nn.Module) -> set[str]:
    """Round parameters of two and more axes to half precision, in place; which they are.

    Those with a value that half precision cannot hold stay as they are.
    """
    halved = set()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            rounded = parameter.half()
            if parameter.ndim > 1 and torch.isfinite(rounded).all():
                parameter.copy_(rounded)
                halved.add(name)
    return halved


def refer_to_weights(graph: onnx.ModelProto, weights: Path) -> None:
    """Replace the initializers that stand in a safetensors file by references to its bytes."""
    stored = stored_tensors(weights)
    widening = []
    for initializer in graph.graph.initializer:
        tensor = stored.get(initializer.name)
        if tensor is None:
            continue
        initializer.ClearField("raw_data")
        initializer.data_location = onnx.TensorProto.EXTERNAL
        del initializer.external_data[:]
        for key, value in (
            ("location", weights.name),
            ("offset", tensor.begin),
            ("length", tensor.end - tensor.begin),
        ):
            entry = initializer.external_data.add()
            entry.key, entry.value = key, str(value)
        if tensor.dtype == HALF:
            initializer.data_type = onnx.TensorProto.FLOAT16
            widening.append(initializer.name)
    nodes = [widen(graph.graph.node, name) for name in widening]
    nodes += graph.graph.node
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def widen(readers: Iterable[onnx.NodeProto], name: str) -> onnx.NodeProto:
    """A node that makes a tensor of half precision a float32 one, which its readers now read."""
    wide = f"{name}{WIDE}"
    for node in readers:
        node.input[:] = [wide if given == name else given for given in node.input]
    return onnx.helper.make_node("Cast", [name], [wide], wide, to=onnx.TensorProto.FLOAT)


@dataclass(frozen=True)
class Stored:
    """Where a tensor is in a safetensors file: first byte, and byte after the last."""

    begin: int
    end: int
    dtype: str


def stored_tensors(weights: Path) -> Mapping[str, Stored]:
    """The tensors of a safetensors file by name; bytes are counted from the start of the file.

    Source:
        safetensors format: 8 bytes of little-endian header length, the JSON header, the data.
    """
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    start = 8 + length
    return {
        name: Stored(
            start + facts["data_offsets"][0], start + facts["data_offsets"][1], facts["dtype"]
        )
        for name, facts in header.items()
        if name != "__metadata__"
    }
