"""How well and how fast the detector finds faces: ``python -m benchmarks.detection``.

Two kinds of images are read where they are present: dlib's example photographs with their
published boxes (``FACEAUDIT_SHARED``, by default the folder ``shared`` beside the repository), and
crops of UTKFace and FairFace (``FACEAUDIT_DATA``, by default ``~/faceaudit-data``), in which there
is one face at least.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

from faceaudit.faces import DETECTORS, Detector, Face, open_detector

REPOSITORY = Path(__file__).parent.parent
SHARED = Path(os.environ.get("FACEAUDIT_SHARED", REPOSITORY.parent / "shared"))
DATA = Path(os.environ.get("FACEAUDIT_DATA", Path.home() / "faceaudit-data"))
PHOTOGRAPHS = SHARED / "data" / "detection"
CROPS = {"UTKFace": DATA / "utkface" / "val", "FairFace": DATA / "fairface" / "train"}

FOUND_IOU = 0.4
STRAY_IOU = 0.1
"""A face that overlaps no published box by more is a stray: a false positive, or not annotated."""
# Points of the 68-point scheme that make the five landmarks.
PARTS = (range(36, 42), range(42, 48), range(30, 31), range(48, 49), range(54, 55))

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Published:
    """A published face: its box, and its five landmarks where 68 points are given."""

    box: Face
    landmarks: NDArray[np.float64] | None


@dataclass(frozen=True)
class PhotographResult:
    """What was found in one photograph."""

    name: str
    published: int
    found: int
    strays: tuple[Face, ...]
    landmark_errors: tuple[float, ...]
    """Mean distance to the published landmarks, in distances between the eyes."""
    ms: float


@dataclass(frozen=True)
class CropsResult:
    """How many crops show a face, and a second one."""

    name: str
    images: int
    without: int
    several: int
    ms: float


def read_rgb(path: Path) -> Image:
    """An image as RGB."""
    found = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert found is not None, path
    return np.asarray(found, dtype=np.uint8)


def published_faces(folder: Path) -> dict[str, list[Published]]:
    """Published faces by file name, for the photographs that are present."""
    faces: dict[str, list[Published]] = {}
    for name in ("training_with_face_landmarks.xml", "testing_with_face_landmarks.xml"):
        for image in ElementTree.parse(folder / name).iter("image"):
            if (folder / image.attrib["file"]).exists():
                faces[image.attrib["file"]] = [read_box(box) for box in image.iter("box")]
    if (folder / "dogs.jpg").exists():
        faces["dogs.jpg"] = []
    return faces


def read_box(box: ElementTree.Element) -> Published:
    """One published face."""
    left, top, width, height = (float(box.attrib[k]) for k in ("left", "top", "width", "height"))
    points = {int(p.attrib["name"]): (float(p.attrib["x"]), float(p.attrib["y"])) for p in box}
    landmarks = np.array([np.mean([points[i] for i in part], axis=0) for part in PARTS] or None)
    return Published(Face(left, top, left + width, top + height, 1.0), landmarks)


def iou(a: Face, b: Face) -> float:
    """Intersection over union of two boxes."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a.area + b.area - width * height)


def judge_photograph(
    detector: Detector, name: str, image: Image, published: Sequence[Published]
) -> PhotographResult:
    """What a detector finds in one photograph, against its published faces."""
    started = time.perf_counter()
    (faces,) = detector.detect([image])
    ms = (time.perf_counter() - started) * 1000
    best = [max(faces, key=lambda face: iou(face, p.box), default=None) for p in published]
    pairs = [
        (face, p)
        for face, p in zip(best, published, strict=True)
        if face is not None and iou(face, p.box) >= FOUND_IOU
    ]
    strays = [f for f in faces if all(iou(f, p.box) <= STRAY_IOU for p in published)]
    errors = tuple(landmark_error(face, p) for face, p in pairs)
    return PhotographResult(name, len(published), len(pairs), tuple(strays), errors, ms)


def landmark_error(face: Face, published: Published) -> float:
    """Mean distance to the published landmarks, in distances between the eyes."""
    assert face.landmarks is not None
    assert published.landmarks is not None
    eyes = float(np.linalg.norm(published.landmarks[0] - published.landmarks[1]))
    distances = np.linalg.norm(face.landmarks - published.landmarks, axis=1)
    return float(distances.mean()) / eyes


def judge_photographs(detector: Detector, folder: Path = PHOTOGRAPHS) -> list[PhotographResult]:
    """What a detector finds in all photographs with published faces."""
    return [
        judge_photograph(detector, name, read_rgb(folder / name), published)
        for name, published in sorted(published_faces(folder).items())
    ]


def judge_crops(detector: Detector, name: str, folder: Path, count: int) -> CropsResult:
    """How many crops of a folder, evenly spread over its files, show a face."""
    files = sorted(folder.iterdir())
    images = [read_rgb(path) for path in islice(files, 0, None, max(1, len(files) // count))]
    started = time.perf_counter()
    found = [faces for batch in chunks(images[:count], 32) for faces in detector.detect(batch)]
    ms = (time.perf_counter() - started) * 1000 / len(found)
    without = sum(not faces for faces in found)
    return CropsResult(name, len(found), without, sum(len(faces) > 1 for faces in found), ms)


def chunks(images: Sequence[Image], size: int) -> Iterator[list[Image]]:
    """The images in lists of at most this many."""
    for start in range(0, len(images), size):
        yield list(images[start : start + size])


def print_photographs(results: Sequence[PhotographResult]) -> None:
    """A table of the photographs, and its sum."""
    print(f"{'photograph':22} {'faces':>5} {'found':>5} {'strays':>6} {'landmarks':>9} {'ms':>6}")
    for r in results:
        error = f"{np.mean(r.landmark_errors):.3f}" if r.landmark_errors else "-"
        print(f"{r.name:22} {r.published:5} {r.found:5} {len(r.strays):6} {error:>9} {r.ms:6.1f}")
    published, found = sum(r.published for r in results), sum(r.found for r in results)
    strays = sum(len(r.strays) for r in results)
    print(f"recall {found / published:.3f} ({found} of {published}), strays {strays}")


def main() -> None:
    """Measure a detector on what is present."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--detector", choices=DETECTORS, default="retinaface")
    parser.add_argument("--crops", type=int, default=300, help="crops of each data set")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    detector = open_detector(arguments.detector, threads=arguments.threads)
    print(detector.facts())
    if PHOTOGRAPHS.is_dir():
        print_photographs(judge_photographs(detector))
    else:
        print(f"no photographs in {PHOTOGRAPHS}; set FACEAUDIT_SHARED")
    for name, folder in CROPS.items():
        if folder.is_dir():
            r = judge_crops(detector, name, folder, arguments.crops)
            print(
                f"{r.name}: {r.images} crops, {r.without} without a face, "
                f"{r.several} with several, {r.ms:.1f} ms each"
            )
        else:
            print(f"no crops in {folder}; set FACEAUDIT_DATA")


if __name__ == "__main__":
    main()
