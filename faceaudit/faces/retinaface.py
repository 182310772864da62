"""The detector that ships: RetinaFace on a quarter-width MobileNet, run by ONNX Runtime.

Images are shrunk to a working size and padded to multiples of 32 pixels with the color that the
network sees as zero. Size and padding depend on the image alone; images of one shape share a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from faceaudit.errors import FaceauditError
from faceaudit.faces.anchors import MEAN_RGB, STRIDES, Floats, anchors, decode_boxes, decode_landmarks
from faceaudit.faces.detector import Image
from faceaudit.faces.face import Face
from faceaudit.storage import sha256_of_file

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

WEIGHTS = Path(__file__).parent / "weights" / "retinaface_mnet025.onnx"

WORKING_SIDE = 640
"""Images whose longer side is longer are shrunk to it, pixels."""
SCORE_THRESHOLD = 0.6
NMS_IOU = 0.4
BATCH_PIXELS = 4 * 640 * 640
"""Padded pixels that go through the network at once: more need memory and are not faster."""


@dataclass(frozen=True)
class Canvas:
    """An image as the network sees it: ``pixels`` are padded, ``scale`` is working by original."""

    pixels: Image
    scale_x: float
    scale_y: float


class RetinaFaceDetector:
    """Faces with a score and five landmarks."""

    name = "retinaface"

    def __init__(self, session: InferenceSession, sha256: str) -> None:
        self._session = session
        self._sha256 = sha256

    def facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "weights": WEIGHTS.name,
            "sha256": self._sha256,
            "working_side": WORKING_SIDE,
            "score_threshold": SCORE_THRESHOLD,
            "nms_iou": NMS_IOU,
        }

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        canvases = [to_canvas(image, WORKING_SIDE) for image in images]
        found: list[list[Face]] = [[] for _ in images]
        for batch in batches(canvases):
            pixels = np.stack([canvases[i].pixels for i in batch])
            outputs = self._session.run(None, {"images": pixels})
            for i, scores, boxes, landmarks in zip(batch, *outputs, strict=True):
                found[i] = decode(canvases[i], images[i], scores, boxes, landmarks)
        return found


def open_retinaface(*, device: str, threads: int) -> RetinaFaceDetector:
    """The detector with the weights that ship."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        WEIGHTS, sess_options=options, providers=["CPUExecutionProvider"]
    )
    return RetinaFaceDetector(session, sha256_of_file(WEIGHTS))


def to_canvas(image: Image, working_side: int) -> Canvas:
    """The image at its working size, padded to the right and below."""
    height, width = image.shape[:2]
    scale = min(1.0, working_side / max(height, width))
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        image = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA)
    step = STRIDES[-1]
    shape = (-(-new_height // step) * step, -(-new_width // step) * step, 3)
    pixels = np.empty(shape, dtype=np.uint8)
    pixels[:] = MEAN_RGB
    pixels[:new_height, :new_width] = image
    return Canvas(pixels, new_width / width, new_height / height)


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
    scale = np.array([canvas.scale_x, canvas.scale_y], dtype=np.float32)
    found_boxes = decode_boxes(boxes[likely], at) / np.tile(scale, 2)
    found_landmarks = decode_landmarks(landmarks[likely], at) / scale
    height, width = image.shape[:2]
    found_boxes = np.clip(found_boxes, 0, np.array([width, height, width, height], np.float32))
    faces = []
    for i in suppress_overlaps(found_boxes, scores[likely]):
        x0, y0, x1, y1 = (float(value) for value in found_boxes[i])
        if x1 - x0 >= 1 and y1 - y0 >= 1:
            faces.append(Face(x0, y0, x1, y1, float(scores[likely[i]]), found_landmarks[i]))
    return faces


def suppress_overlaps(boxes: Floats, scores: Floats) -> list[int]:
    """Indices of the boxes that no better box overlaps (non-maximum suppression)."""
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(corner_and_size, scores, SCORE_THRESHOLD, NMS_IOU)
    return [int(i) for i in kept]
