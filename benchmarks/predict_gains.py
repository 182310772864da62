"""What each way of `faceaudit predict` gains over the plain one, and how its cost grows.

    python -m benchmarks.predict_gains [--markdown] [--json FILE]

Processor time on one core, the best of several, so that what else runs counts little. The pictures
are drawn: a photograph enlarged to so many megapixels, and faces at given places.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from benchmarks.predict_inputs import QUALITY, resized
from benchmarks.predict_tables import printed
from faceaudit.errors import UsageError
from faceaudit.faces import Face, crop_face, open_detector
from faceaudit.faces.crop import TEMPLATE, TEMPLATE_SIZE, aligned_view, pixel_indices, scale_of
from faceaudit.faces.retinaface import WEIGHTS, WORKING_SIDE, RetinaFaceDetector, to_canvas
from faceaudit.images.decode import decode
from faceaudit.models.bundle import load_bundle
from faceaudit.runtimes import open_runtime
from faceaudit.showcase.images import photograph

ROUNDS = 5
AT_LEAST_S = 0.02
"""Shorter steps are repeated until they take as long: clocks of processor time are coarse."""

ENOUGH = RetinaFaceDetector.enough_side

Row = tuple[str, ...]


def core_ms(step: Callable[[], object], count: int = 1) -> float:
    """Milliseconds of processor time of a step, for each of so many that it does."""
    step()
    begun = time.process_time()
    step()
    times = max(1, math.ceil(AT_LEAST_S / max(time.process_time() - begun, 1e-6)))
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(times):
            step()
        best = min(best, time.process_time() - begun)
    return 1000 * best / times / count


def enlarged(megapixels: float) -> NDArray[np.uint8]:
    """The photograph that comes with matplotlib, with so many pixels."""
    image = np.asarray(photograph())
    scale = math.sqrt(megapixels * 1e6 / (image.shape[0] * image.shape[1]))
    return resized(image, round(image.shape[1] * scale), round(image.shape[0] * scale))


def as_jpeg(image: NDArray[np.uint8]) -> bytes:
    """An image as the bytes of a JPEG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def decode_with_pillow(data: bytes) -> NDArray[np.uint8]:
    """The plain way to read an image."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def face_of(image: NDArray[np.uint8], side: float) -> Face:
    """An upright face of this side in the middle of an image, with its landmarks."""
    x, y = image.shape[1] / 2, image.shape[0] / 2
    landmarks = (TEMPLATE - TEMPLATE_SIZE / 2) * side / TEMPLATE_SIZE + [x, y]
    half = side / 2
    return Face(x - half, y - half, x + half, y + half, 0.99, landmarks.astype(np.float32))


def crop_at_full_size(image: NDArray[np.uint8], face: Face, size: int) -> NDArray[np.uint8]:
    """The plain way to a crop that does not alias: draw at the image's size, then shrink."""
    matrix = aligned_view(face, size, 0.0)
    assert matrix is not None
    times = math.ceil(1 / scale_of(matrix))
    drawn = cv2.warpAffine(image, pixel_indices(matrix * times), (size * times, size * times))
    return np.asarray(cv2.resize(drawn, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def canvas_at_once(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The plain way to the detector's size."""
    scale = WORKING_SIDE / max(image.shape[:2])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def gains() -> list[Row]:
    """Plain ways beside ours."""
    rows: list[Row] = []

    def add(what: str, plain: str, a: float, ours: str, b: float) -> None:
        rows.append((what, f"{plain}: {a:.3g}", f"{ours}: {b:.3g}", f"{a / b:.1f}"))

    crop, large = enlarged(0.04), enlarged(12)
    for name, image in (("crop", crop), ("12-megapixel photograph", large)):
        data = as_jpeg(image)
        add(
            f"decode a {name}",
            "Pillow", core_ms(lambda d=data: decode_with_pillow(d)),  # type: ignore[misc]
            "here", core_ms(lambda d=data: decode(d, enough_side=ENOUGH)),  # type: ignore[misc]
        )  # fmt: skip
    add(
        "bring 12 megapixels to the detector",
        "at once", core_ms(lambda: canvas_at_once(large)),
        "by halves", core_ms(lambda: to_canvas(large, WORKING_SIDE)),
    )  # fmt: skip
    face = face_of(large, 1500)
    add(
        "crop a face of 1,500 pixels",
        "at full size", core_ms(lambda: crop_at_full_size(large, face, 112)),
        "by halves", core_ms(
            lambda: crop_face(large, face, size=112, align="similarity", margin=0)
        ),
    )  # fmt: skip
    rows += network_gains()
    return rows


def network_gains() -> list[Row]:
    """The network in torch, one face at a time, and as it is run here."""
    import torch

    from faceaudit.runtimes.torch_runtime import load_network

    torch.set_num_threads(1)
    bundle = load_bundle()
    side = bundle.input.size
    network = load_network(bundle)
    crops = np.random.default_rng(0).integers(0, 256, (64, side, side, 3), dtype=np.uint8)
    one = torch.from_numpy(crops[:1])
    with torch.inference_mode():
        eager = core_ms(lambda: network(one))
    rows = []
    for precision in ("float32", "int8"):
        try:
            runtime = open_runtime(bundle, device="cpu", precision=precision, threads=1)
        except UsageError:  # a bundle without a graph for it
            continue
        ours = core_ms(lambda run=runtime: run.infer(crops), len(crops))  # type: ignore[misc]
        rows.append(
            (
                f"the network, each face, {precision}",
                f"torch, float32, one by one: {eager:.3g}",
                f"ONNX Runtime: {ours:.3g}",
                f"{eager / ours:.1f}",
            )
        )
    return rows


def growth() -> list[Row]:
    """Cost by pixels, faces and batch."""
    rows: list[Row] = []
    detector = open_detector("retinaface", threads=1)
    for megapixels in (1, 4, 16, 64):
        image = enlarged(megapixels)
        data = as_jpeg(image)
        seen = decode(data, enough_side=ENOUGH).image
        rows.append(
            (
                f"a photograph of {megapixels} megapixel{'s' * (megapixels > 1)}",
                f"decode {core_ms(lambda d=data: decode(d, enough_side=ENOUGH)):.1f}, "  # type: ignore[misc]
                f"detect {core_ms(lambda i=seen: detector.detect([i])):.1f}",  # type: ignore[misc]
            )
        )
    runtime = open_runtime(load_bundle(), device="cpu", threads=1)
    image = enlarged(12)
    for faces in (1, 4, 16):
        chosen = [face_of(image, 300 + 10 * k) for k in range(faces)]

        def crop_and_infer(chosen: Sequence[Face] = chosen) -> None:
            crops = [
                crop_face(image, face, size=112, align="similarity", margin=0) for face in chosen
            ]
            runtime.infer(np.stack(crops))

        rows.append(
            (
                f"{faces} face{'s' * (faces > 1)} in it",
                f"crop and infer {core_ms(crop_and_infer):.1f}",
            )
        )
    bundle = load_bundle()
    size = bundle.input.size
    rows += batches("the network", bundle.graph, size, size, (1, 4, 16, 64, 256))
    return rows + batches("the detector", WEIGHTS, 480, 640, (1, 2, 4))


def batches(what: str, graph: Path, height: int, width: int, sizes: Sequence[int]) -> list[Row]:
    """Cost of one image where so many go through a graph together."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options)
    name = session.get_inputs()[0].name
    rows = []
    for size in sizes:
        images = np.zeros((size, height, width, 3), np.uint8)
        each = core_ms(lambda x=images: session.run(None, {name: x}), size)  # type: ignore[misc]
        rows.append((f"{what}, {size} at once", f"{each:.2f} each"))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the tables there too")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    found = [
        (("step", "plain way, core-ms", "here, core-ms", "times"), gains()),
        (("cost of", "core-ms"), growth()),
    ]
    print(printed(found, markdown=arguments.markdown))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
