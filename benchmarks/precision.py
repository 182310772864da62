"""What each precision costs and loses: ``python -m benchmarks.precision [MODEL ...]``.

    python -m benchmarks.precision --settings --json docs/results/precision.json
        # cost, and the losses that are recorded
    python -m benchmarks.precision fairface --data CROPS --held-out OTHER    # measures losses anew

Cost is processor time per image on one thread, so that another program on the machine does not
count, and images per second of all cores as it would follow. Losses are paired: the same held-out
crops (folders that ``faceaudit prepare`` wrote) in float32 and in the other precision. OpenVINO is
timed where it is installed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.predict import machine
from faceaudit.models.bundle import Bundle, load_bundle
from faceaudit.models.int8 import INT8, comparison_lines, int8_graph, shortfalls
from faceaudit.ordered import available_cores
from faceaudit.runtimes import Runtime, open_runtime
from faceaudit.runtimes.onnx_runtime import OnnxRuntime
from faceaudit.showcase.images import photograph
from faceaudit.training.quantize import compare_runtimes, divided

IMAGES, BATCH, REPEATS = 192, 64, 5

Crops = NDArray[np.uint8]
Costs = dict[str, float]
"""Milliseconds of processor time per image, by what ran."""


def crops_of(size: int) -> Crops:
    """Views of one photograph, a little different each, (N, S, S, 3)."""
    image = np.asarray(photograph().convert("RGB"))
    views = [image[40 + k % 8 : 320 + k % 8, 100 + k % 40 : 380 + k % 40] for k in range(IMAGES)]
    return np.stack([cv2.resize(view, (size, size)) for view in views])


def cost(infer: Callable[[Crops], object], crops: Crops) -> float:
    """Milliseconds of processor time per image, the least of several runs."""
    infer(crops[:BATCH])
    best = float("inf")
    for _ in range(REPEATS):
        begun = time.process_time()
        for start in range(0, len(crops), BATCH):
            infer(crops[start : start + BATCH])
        best = min(best, time.process_time() - begun)
    return 1000 * best / len(crops)


def runtimes(bundle: Bundle) -> Iterator[tuple[str, Callable[[Crops], object]]]:
    """Every way to run a bundle on this CPU, by name."""
    outputs = list(dict.fromkeys(task.tensor for task in bundle.tasks))
    yield "float32, ONNX Runtime", open_runtime(bundle, device="cpu").infer
    if int8_graph(bundle).is_file():
        yield "int8, ONNX Runtime", OnnxRuntime(bundle, outputs, int8=int8_graph(bundle)).infer
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)
        for precision in ("float32", "bfloat16"):
            runner = open_runtime(bundle, device="cpu", runtime="torch", precision=precision)
            yield f"{precision}, torch", runner.infer
    if find_spec("openvino"):
        yield "float32, OpenVINO", openvino(bundle.graph, "f32")
        yield "bfloat16, OpenVINO", openvino(bundle.graph, "bf16")
        if int8_graph(bundle).is_file():
            yield "int8, OpenVINO", openvino(int8_graph(bundle), "f32")


def openvino(graph: Path, hint: str) -> Callable[[Crops], object]:
    """A graph in OpenVINO on one thread."""
    import openvino as ov

    settings = {
        "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": hint,
    }  # fmt: skip
    request = ov.Core().compile_model(graph, "CPU", settings).create_infer_request()
    return lambda crops: request.infer({0: crops})


def settings_of_sessions(bundle: Bundle, crops: Crops) -> Iterator[tuple[str, float]]:
    """What settings of ONNX Runtime change in float32, one at a time."""
    levels = onnxruntime.GraphOptimizationLevel

    def session(**changes: object) -> Callable[[Crops], object]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        for name, value in changes.items():
            if name == "denormal":
                options.add_session_config_entry("session.set_denormal_as_zero", "1")
            else:
                setattr(options, name, value)
        made = onnxruntime.InferenceSession(
            str(bundle.graph), options, providers=["CPUExecutionProvider"]
        )
        return lambda batch: made.run(None, {made.get_inputs()[0].name: batch})

    yield "as faceaudit runs it", cost(open_runtime(bundle, device="cpu").infer, crops)
    yield "two threads per session", cost(session(intra_op_num_threads=2), crops)
    yield (
        "without layouts in blocks (NCHWc)",
        cost(session(graph_optimization_level=levels.ORT_ENABLE_EXTENDED), crops),
    )
    yield "denormals as zero", cost(session(denormal=True), crops)
    yield "stacking a chunk's crops alone", cost(lambda batch: np.stack(list(batch)), crops)
    yield "without the arena", cost(session(enable_cpu_mem_arena=False), crops)


def run(model: str, data: list[Path], held_out: list[Path], settings: bool) -> dict[str, Costs]:
    """Print everything about one bundle; its milliseconds per image."""
    bundle = load_bundle(model)
    crops = crops_of(bundle.input.size)
    costs: dict[str, Costs] = {"cost": {}, "settings": {}}
    cores = available_cores()
    print(f"{bundle.name}: processor time per image, one thread; images/s of {cores} cores")
    for name, infer in runtimes(bundle):
        found = costs["cost"][name] = cost(infer, crops)
        print(f"  {name:<24} {found:6.3f} ms  {1000 * cores / found:8,.0f} images/s", flush=True)
    if settings:
        for name, found in settings_of_sessions(bundle, crops):
            costs["settings"][name] = found
            print(f"  float32, {name:<36} {found:6.3f} ms", flush=True)
    if facts := bundle.card.get(INT8):
        print("recorded with the bundle")
        print_losses(bundle, facts["compared"])
    if not (data or held_out):
        return costs
    _, sets = divided(bundle, data, held_out)
    outputs = list(dict.fromkeys(task.tensor for task in bundle.tasks))
    plain = OnnxRuntime(bundle, outputs)
    others: list[Runtime] = []
    if int8_graph(bundle).is_file():
        others.append(OnnxRuntime(bundle, outputs, int8=int8_graph(bundle)))
    if find_spec("torch"):
        others.append(open_runtime(bundle, device="cpu", precision="bfloat16"))
    for other in others:
        print("measured now")
        print_losses(bundle, compare_runtimes(bundle, sets, plain, other))
    return costs


def versions() -> dict[str, str]:
    """What ran, and in which version."""
    names = ("onnxruntime", "torch", "openvino")
    return {name: metadata.version(name) for name in names if find_spec(name)}


def print_losses(bundle: Bundle, compared: list[dict[str, object]]) -> None:
    """Print a comparison and whether it excludes a loss of half a point."""
    print("\n".join(f"  {line}" for line in comparison_lines(compared)))
    short = ", ".join(shortfalls(bundle, compared))
    print(f"  a loss of half a point is {f'not excluded for {short}' if short else 'excluded'}")


def main() -> None:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=["fairface", "research"])
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--held-out", type=Path, action="append", default=[])
    parser.add_argument("--settings", action="store_true", help="also ONNX Runtime's settings")
    parser.add_argument("--json", type=Path, help="write the milliseconds there too")
    arguments = parser.parse_args()
    found = {
        model: run(model, arguments.data, arguments.held_out, arguments.settings)
        for model in arguments.models
    }
    if arguments.json:
        facts = {"machine": machine("cpu"), "versions": versions(), "models": found}
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
