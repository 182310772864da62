"""The detector that ships: RetinaFace on a quarter-width MobileNet, run by ONNX Runtime.

Images are brought to a working size and padded to multiples of 32 pixels with the color that the
network sees as zero. Size and padding depend on the image alone; images of one shape share a batch.

A face that fills a large canvas is larger than what the network was trained on: it reports parts of
the face as faces, with wrong landmarks. Where a large face is seen, or none at all, the image is
looked at again at half the size, and that second look decides about large faces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from faceaudit.faces.anchors import (
    MEAN_RGB,
    STRIDES,
    Floats,
    anchors,
    decode_boxes,
    decode_landmarks,
)
from faceaudit.faces.detector import Image
from faceaudit.faces.face import Face
from faceaudit.faces.shrink import halve, halvings
from faceaudit.storage import sha256_of_file

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

WEIGHTS = Path(__file__).parent / "weights" / "retinaface_mnet025.onnx"

# Sizes and threshold were chosen with benchmarks/detection.py.
WORKING_SIDE = 640
"""The longest longer side of an image as the network sees it, pixels."""
SMALLEST_SIDE = 128
"""The shortest: smaller images are enlarged to it."""
LARGE_SHARE = 0.4
"""A face is large if its longer side is at least this share of the image's longer side."""
TRUSTED_SIDE = 320
"""Up to this working side large faces are as small as the network knows them."""
SCORE_THRESHOLD = 0.85
NMS_IOU = 0.4
BATCH_PIXELS = WORKING_SIDE * WORKING_SIDE
"""Padded pixels that go through the network at once: more do not fit a core's cache, are slower and
need more memory."""


@dataclass(frozen=True)
class Canvas:
    """An image as the network sees it: padded pixels, and working pixels per original pixel."""

    pixels: Image
    scale_x: float
    scale_y: float


class RetinaFaceDetector:
    """Faces with a score and five landmarks."""

    name = "retinaface"
    # Twice what it looks at: benchmarks/decoding.py tells how little that changes.
    enough_side: int | None = 2 * WORKING_SIDE

    def __init__(self, session: InferenceSession, sha256: str) -> None:
        self._session = session
        self._sha256 = sha256

    def facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "weights": WEIGHTS.name,
            "sha256": self._sha256,
            "device": "cpu",
            "working_side": WORKING_SIDE,
            "smallest_side": SMALLEST_SIDE,
            "score_threshold": SCORE_THRESHOLD,
            "nms_iou": NMS_IOU,
        }

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        sides = [working_side(image) for image in images]
        found = self._look(images, sides)
        again = [i for i, faces in enumerate(found) if needs_second_look(images[i], faces)]
        second = self._look([images[i] for i in again], [second_side(sides[i]) for i in again])
        for i, faces in zip(again, second, strict=True):
            found[i] = merge_looks(images[i], found[i], faces)
        return found

    def _look(self, images: Sequence[Image], sides: Sequence[int]) -> list[list[Face]]:
        """Faces of every image, seen with the given longer side."""
        canvases = [to_canvas(image, side) for image, side in zip(images, sides, strict=True)]
        found: list[list[Face]] = [[] for _ in images]
        for batch in batches(canvases):
            pixels = np.stack([canvases[i].pixels for i in batch])
            outputs = self._session.run(None, {"images": pixels})
            for i, scores, boxes, landmarks in zip(batch, *outputs, strict=True):
                found[i] = decode(canvases[i], images[i], scores, boxes, landmarks)
        return found


def open_retinaface(*, device: str, threads: int) -> RetinaFaceDetector:
    """The detector with the weights that ship.

    It runs on the processor whatever the device: there its results are the same everywhere.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        WEIGHTS, sess_options=options, providers=["CPUExecutionProvider"]
    )
    return RetinaFaceDetector(session, sha256_of_file(WEIGHTS))


def working_side(image: Image) -> int:
    """Longer side of an image as the network sees it: a multiple of 32, so little is padded."""
    return _whole_steps(min(WORKING_SIDE, max(image.shape[:2])))


def second_side(side: int) -> int:
    """Longer side in the second look: about half."""
    return _whole_steps(side // 2)


def _whole_steps(side: int) -> int:
    """The side rounded down to a multiple of 32, but not below the smallest."""
    return max(SMALLEST_SIDE, side // STRIDES[-1] * STRIDES[-1])


def to_canvas(image: Image, side: int) -> Canvas:
    """The image with this longer side, padded to the right and below."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    times = halvings(scale, height, width)
    image = halve(image, times)
    height, width = image.shape[:2]
    if (height, width) != (new_height, new_width):
        # What was halved is smooth enough to be sampled, which takes a sixth of the time.
        method = cv2.INTER_AREA if scale < 1 and not times else cv2.INTER_LINEAR
        resized = cv2.resize(image, (new_width, new_height), interpolation=method)
        image = np.asarray(resized, dtype=np.uint8)
    step = STRIDES[-1]
    shape = (-(-new_height // step) * step, -(-new_width // step) * step, 3)
    pixels = np.empty(shape, dtype=np.uint8)
    pixels[:] = MEAN_RGB
    pixels[:new_height, :new_width] = image
    return Canvas(pixels, new_width / (width << times), new_height / (height << times))


def batches(canvases: Sequence[Canvas]) -> Iterator[list[int]]:
    """Indices of canvases of one shape, as many as go through the network at once."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i, canvas in enumerate(canvases):
        by_shape.setdefault(canvas.pixels.shape, []).append(i)
    for (height, width, _), members in by_shape.items():
        count = max(1, BATCH_PIXELS // (height * width))
        for start in range(0, len(members), count):
            yield members[start : start + count]


def decode(
    canvas: Canvas, image: Image, scores: Floats, boxes: Floats, landmarks: Floats
) -> list[Face]:
    """Faces of one image from the network's outputs, in pixels of the image."""
    likely = np.flatnonzero(scores >= SCORE_THRESHOLD)
    likely = likely[np.argsort(-scores[likely], kind="stable")]
    if not len(likely):
        return []
    at = anchors(*canvas.pixels.shape[:2])[likely]
    scale: Floats = np.array([canvas.scale_x, canvas.scale_y], dtype=np.float32)
    limit: Floats = np.array(image.shape[1::-1], dtype=np.float32)
    corners = decode_boxes(boxes[likely], at).reshape(-1, 2, 2) / scale
    found_boxes: Floats = np.clip(corners, 0, limit).reshape(-1, 4)
    found_landmarks = decode_landmarks(landmarks[likely], at) / scale
    faces = []
    for i in suppress_overlaps(found_boxes, scores[likely]):
        x0, y0, x1, y1 = (float(value) for value in found_boxes[i])
        if x1 - x0 >= 1 and y1 - y0 >= 1:
            faces.append(Face(x0, y0, x1, y1, float(scores[likely[i]]), found_landmarks[i]))
    return faces


def suppress_overlaps(boxes: Floats, scores: Floats) -> list[int]:
    """Indices of the boxes that no better box overlaps (non-maximum suppression)."""
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), SCORE_THRESHOLD, NMS_IOU)
    return [int(i) for i in kept]


def needs_second_look(image: Image, faces: Sequence[Face]) -> bool:
    """Whether an image shows no face, or a large face larger than the network can trust."""
    side = working_side(image)
    if not faces:
        return side > second_side(side)
    return side > TRUSTED_SIDE and any(is_large(image, face) for face in faces)


def merge_looks(image: Image, first: Sequence[Face], second: Sequence[Face]) -> list[Face]:
    """Faces of both looks: where the second sees a large face it decides, elsewhere the first."""
    large = [face for face in second if is_large(image, face)]
    faces = [face for face in second if any(is_inside(face, other) for other in large)]
    faces += [face for face in first if not any(is_inside(face, other) for other in large)]
    return sorted(faces, key=lambda face: -(face.score or 0.0))


def is_large(image: Image, face: Face) -> bool:
    """Whether a face takes up much of an image."""
    return bool(max(face.width, face.height) >= LARGE_SHARE * max(image.shape[:2]))


def is_inside(face: Face, other: Face) -> bool:
    """Whether at least half of a face's box lies in another's (or its own)."""
    width = min(face.x1, other.x1) - max(face.x0, other.x0)
    height = min(face.y1, other.y1) - max(face.y0, other.y0)
    return width > 0 and height > 0 and width * height >= face.area / 2
