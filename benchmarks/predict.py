"""Images per second of `faceaudit predict`, beside the machine's bound and a plain loop.

    python -m benchmarks.predict [FOLDER] [--limit N]

The bound is the number of cores divided by the sum of core-seconds that each step needs per image
when it is timed alone with the same libraries. The plain loop takes one image at a time: Pillow,
then the same network in torch. Without a folder, copies of one photograph's crop are used.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from faceaudit.faces import choose_faces, crop_face, open_detector
from faceaudit.images.decode import decode
from faceaudit.images.find import find_images
from faceaudit.images.refs import ImageRef, read_bytes
from faceaudit.models.bundle import Bundle, load_bundle
from faceaudit.ordered import available_cores
from faceaudit.pipeline.checks import DEFAULT_MAX_PIXELS
from faceaudit.runtimes import open_runtime
from faceaudit.showcase.images import photograph

SAMPLE = 200
"""Images that each step is timed on."""


def timed(step: Callable[[], object]) -> float:
    """Seconds of one call, the best of three."""
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - begun)
    return best


def step_costs(refs: list[ImageRef], bundle: Bundle, detector_name: str) -> dict[str, float]:
    """Core-seconds per image of every step, each alone on one core."""
    cv2.setNumThreads(1)
    detector = open_detector(detector_name, threads=1)
    runtime = open_runtime(bundle, device="cpu", threads=1)
    data = [read_bytes(ref) for ref in refs]
    images = [found.image for found in (decode(d, max_pixels=DEFAULT_MAX_PIXELS) for d in data)]
    kept = [image for image in images if image is not None]
    found = detector.detect(kept)
    pairs = [
        (image, faces[0])
        for image, all_faces in zip(kept, found, strict=True)
        if (faces := choose_faces(all_faces, "largest", image.shape[1], image.shape[0]))
    ]

    def crop() -> list[np.ndarray]:
        return [
            crop_face(
                image, face, size=bundle.input.size, align=bundle.align, margin=bundle.margin,
                offset=bundle.offset,
            )
            for image, face in pairs
        ]  # fmt: skip

    crops = np.stack(crop())
    batches = [crops[start : start + 64] for start in range(0, len(crops), 64)]
    return {
        "read": timed(lambda: [read_bytes(ref) for ref in refs]) / len(refs),
        "decode": timed(lambda: [decode(d, max_pixels=DEFAULT_MAX_PIXELS) for d in data])
        / len(refs),
        "detect": timed(lambda: detector.detect(kept)) / len(refs),
        "crop": timed(crop) / len(refs),
        "infer": timed(lambda: [runtime.infer(batch) for batch in batches]) / len(refs),
    }


def end_to_end(folder: Path, detector: str, limit: int) -> tuple[float, float]:
    """Images per second and peak memory in MB of the whole command in a process of its own."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable, "-m", "faceaudit.cli", "predict", str(folder), f"{out}/out.parquet",
            "--detector", detector, "--limit", str(limit), "--quiet", "--labels", "none",
        ]  # fmt: skip
        begun = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return limit / seconds, peak


def plain_loop(refs: list[ImageRef], bundle: Bundle) -> float:
    """Images per second, one at a time: Pillow, then torch on all cores; whole images as crops."""
    import torch

    from faceaudit.runtimes.torch_runtime import load_network

    network = load_network(bundle)
    size = (bundle.input.size, bundle.input.size)
    begun = time.perf_counter()
    with torch.inference_mode():
        for ref in refs:
            with Image.open(ref.path) as image:
                pixels = np.asarray(image.convert("RGB").resize(size))
            network(torch.from_numpy(pixels.copy())[None])
    return len(refs) / (time.perf_counter() - begun)


def write_copies(folder: Path, count: int) -> None:
    """Crops of one photograph, a little different each."""
    image = photograph()
    for number in range(count):
        x = number % 40
        image.crop((100 + x, 40, 380 + x, 320)).resize((200, 200)).save(folder / f"{number}.jpg")


def run(folder: Path, limit: int) -> None:
    """Print the table."""
    refs = list(find_images(str(folder)))[:limit]
    bundle = load_bundle()
    cores = available_cores()
    print(f"{len(refs)} images, {cores} cores, bundle {bundle.name}")
    for detector in ("whole", "retinaface"):
        costs = step_costs(refs[:SAMPLE], bundle, detector)
        bound = cores / sum(costs.values())
        rate, peak = end_to_end(folder, detector, len(refs))
        steps = ", ".join(f"{name} {1000 * cost:.2f}" for name, cost in costs.items())
        print(f"--detector {detector}")
        print(f"  ms per image on one core: {steps}")
        print(
            f"  bound {bound:.0f} images/s; predict {rate:.0f} images/s with start-up "
            f"({rate / bound:.0%} of the bound); peak memory {peak:.0f} MB"
        )
    loop = plain_loop(refs[:SAMPLE], bundle)
    print(f"one image at a time, Pillow + torch, whole images: {loop:.0f} images/s")


def main() -> None:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--limit", type=int, default=2000)
    arguments = parser.parse_args()
    if arguments.folder is not None:
        run(arguments.folder, arguments.limit)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_copies(Path(folder), arguments.limit)
        run(Path(folder), arguments.limit)


if __name__ == "__main__":
    main()
