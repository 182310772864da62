"""What decoding large photographs at a part of their size saves and changes.

    python -m benchmarks.decoding [--megapixels 12] [--turned] [--progressive]

The photographs of ``FACEAUDIT_SHARED`` (by default the folder ``shared`` beside the repository) are
enlarged, given the noise of a sensor, and written as JPEGs. Each is decoded, searched for faces and
cropped (every face) at its full size, and as ``predict`` does. Printed are processor time per
photograph, how many were decoded a second time for a small face, and by how much boxes, crops and
the predictions of the default bundle differ.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from benchmarks.detection import PHOTOGRAPHS, iou
from faceaudit.faces import open_detector
from faceaudit.images.decode import decode
from faceaudit.models.bundle import load_bundle
from faceaudit.pipeline import crops as pipeline
from faceaudit.pipeline.checks import DEFAULT_MAX_PIXELS
from faceaudit.pipeline.crops import CroppedImage, CropSettings
from faceaudit.pipeline.scores import Scores, scores_of
from faceaudit.runtimes import open_runtime
from faceaudit.schema import AGE_BINS, DEFAULT_AGE_SCHEME

NOISE = 5.0
"""Standard deviation of the noise, in gray levels: files are as large as a camera's."""
REPEATS = 3
SAME_IOU = 0.4


@dataclass(frozen=True)
class Photograph:
    """One photograph, decoded in one of the two ways."""

    image: CroppedImage
    ms: dict[str, float]
    """Processor time of each step, milliseconds."""
    again: bool
    """Whether it was decoded a second time."""


def enlarged(path: Path, megapixels: float, turned: bool, progressive: bool) -> bytes:
    """A photograph as a large JPEG."""
    with Image.open(path) as image:
        scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
        size = (round(image.width * scale), round(image.height * scale))
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    noise = np.random.default_rng(0).normal(0, NOISE, pixels.shape[:2])[:, :, None]
    pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    exif = Image.Exif()
    if turned:  # as a camera that is held upright writes it
        pixels, exif[0x0112] = np.rot90(pixels), 6
    file = io.BytesIO()
    options: dict[str, Any] = {"quality": 92, "progressive": progressive, "exif": exif}
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def process(data: bytes, settings: CropSettings, enough_side: int | None) -> Photograph:
    """One photograph through all steps; the least processor time of several runs."""
    clock, marks = time.process_time, []
    for _ in range(REPEATS):
        again = 0
        started = clock()
        found = decode(data, enough_side=enough_side)
        decoded = clock()
        (faces,) = settings.detector.detect([found.image])
        detected = clock()
        facts = CroppedImage("", "", "ok", None, found.width, found.height, (), ())
        opened = pipeline.OpenedImage(facts, found, data)
        image = pipeline.crop_faces(opened, faces, settings)
        ended = clock()
        largest = max((view_scale(face, settings) for face in image.faces), default=0.0)
        again = int(found.reduction > 1 and found.reduction * largest > 1)
        marks.append((decoded - started, detected - decoded, ended - detected))
    best = np.min(marks, axis=0) * 1000
    names = ("decode", "detect", "crop")
    return Photograph(image, dict(zip(names, best.tolist(), strict=True)), bool(again))


def view_scale(face: Any, settings: CropSettings) -> float:
    """Pixels of a face's crop per pixel of the photograph."""
    view = pipeline.find_view(face, settings.size, settings.align, settings.margin, settings.offset)
    return pipeline.scale_of(view)


def paired(full: CroppedImage, part: CroppedImage) -> list[tuple[int, int]]:
    """Indices of the faces that both ways found."""
    pairs = []
    for i, face in enumerate(full.faces):
        overlaps = [iou(face, other) for other in part.faces]
        if overlaps and max(overlaps) >= SAME_IOU:
            pairs.append((i, int(np.argmax(overlaps))))
    return pairs


def print_times(title: str, photographs: Sequence[Photograph]) -> None:
    """Mean processor time per photograph."""
    steps = {name: np.mean([p.ms[name] for p in photographs]) for name in photographs[0].ms}
    text = ", ".join(f"{name} {ms:.1f}" for name, ms in steps.items())
    again = sum(p.again for p in photographs)
    print(f"{title}: {text}, together {sum(steps.values()):.1f} ms; decoded again: {again}")


def print_differences(full: Sequence[Photograph], part: Sequence[Photograph]) -> None:
    """How far faces, crops and predictions are apart."""
    bundle = load_bundle()
    runtime = open_runtime(bundle, device="cpu", threads=1)

    def scores(crops: Sequence[Any]) -> Scores:
        raw = runtime.infer(np.stack(crops))
        return scores_of(raw, bundle.tasks, AGE_BINS[DEFAULT_AGE_SCHEME])

    overlaps, before, after = [], [], []
    for a, b in zip(full, part, strict=True):
        for i, j in paired(a.image, b.image):
            overlaps.append(iou(a.image.faces[i], b.image.faces[j]))
            before.append(a.image.crops[i])
            after.append(b.image.crops[j])
    counts = [sum(len(p.image.faces) for p in way) for way in (full, part)]
    print(f"faces: {counts[0]} and {counts[1]}, the same {len(overlaps)}")
    print(f"overlap of their boxes: mean {np.mean(overlaps):.4f}, least {np.min(overlaps):.4f}")
    levels = np.abs(np.stack(before).astype(int) - np.stack(after)).mean(axis=(1, 2, 3))
    print(f"crops, mean difference in gray levels: {levels.mean():.2f}, most {levels.max():.2f}")
    one, other = scores(before), scores(after)
    for task in one.probs:
        same = (one.probs[task].argmax(axis=1) == other.probs[task].argmax(axis=1)).sum()
        most = np.abs(one.probs[task] - other.probs[task]).max()
        print(f"{task}: {same} of {len(before)} classes the same, probabilities within {most:.3f}")
    if one.age is not None and other.age is not None:
        years = np.abs(one.age - other.age)
        print(f"age: mean difference {years.mean():.2f} years, most {years.max():.2f}")


def main() -> None:
    """Measure on what is present."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--turned", action="store_true", help="stored sideways, as phones do")
    parser.add_argument("--progressive", action="store_true")
    parser.add_argument("--enough-side", type=int, help="instead of what predict takes, pixels")
    parser.add_argument("--faces", default="largest")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = load_bundle()
    settings = CropSettings(
        detector=open_detector("retinaface", threads=1),
        faces=arguments.faces,
        size=bundle.input.size,
        align=bundle.align,
        margin=bundle.margin,
        offset=bundle.offset,
        max_pixels=DEFAULT_MAX_PIXELS,
    )
    side = arguments.enough_side or settings.enough_side
    full, part, sizes = [], [], []
    for path in sorted(PHOTOGRAPHS.glob("*.jpg")):
        data = enlarged(path, arguments.megapixels, arguments.turned, arguments.progressive)
        sizes.append(len(data))
        full.append(process(data, settings, None))
        part.append(process(data, settings, side))
    if not full:
        print(f"no photographs in {PHOTOGRAPHS}; set FACEAUDIT_SHARED")
        return
    print(
        f"{len(full)} photographs of {arguments.megapixels:g} megapixels, "
        f"{np.mean(sizes) / 1e6:.1f} MB each"
    )
    print_times("full size", full)
    print_times(f"longer side from {side} pixels on", part)
    print_differences(full, part)


if __name__ == "__main__":
    main()
