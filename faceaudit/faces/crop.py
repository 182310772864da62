"""Crops: from a face in an image to the square of pixels that a model sees.

Every crop is one affine view of the image. Where a view is smaller than what it shows, that is
halved while it is twice as large, then drawn larger and averaged down, so that no detail aliases.
What lies outside of the image repeats its border pixels: no black edges that a model could read as
a sign of a partial face.
"""

from __future__ import annotations

import math
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from faceaudit.errors import UnknownNameError
from faceaudit.faces.face import Face
from faceaudit.faces.shrink import halve, halvings

Align = Literal["similarity", "none"]
ALIGNMENTS: dict[str, str] = {
    "similarity": "rotated and scaled so that eyes, nose and mouth lie on a template",
    "none": "the face box, made square",
}

TEMPLATE_SIZE = 112
# Source: the five points that ArcFace crops are aligned to (InsightFace, face_align.py), which are
# SphereFace's (Liu et al., CVPR 2017) moved from 96x112 to 112x112 pixels. Pixel indices.
TEMPLATE_PIXELS = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
TEMPLATE = np.asarray(TEMPLATE_PIXELS) + 0.5
"""The template in continuous coordinates, where the middle of the first pixel is at 0.5; (5, 2)."""

VIEW_RANGE = (0.4, 4.0)
"""Sides of an aligned view, in sides of the face box, that landmarks are trusted for."""

ViewKind = Literal["aligned", "box", "whole"]
"""What a view of a face rests on: its landmarks, its box, or nothing, where all is a crop."""

Matrix = NDArray[np.float64]
"""From continuous coordinates of the image to continuous coordinates of the crop; (2, 3)."""


def crop_face(
    image: NDArray[np.uint8],
    face: Face,
    *,
    size: int,
    align: str,
    margin: float,
    offset: float = 0.0,
) -> NDArray[np.uint8]:
    """The face as a square of pixels; RGB, (size, size, 3).

    With ``similarity`` the view is the template, ``1 + margin`` times as wide and high. A face
    whose landmarks are missing or implausible is cropped as with ``none``: its box, made square
    around its center (the longer side counts), with ``margin`` sides added on each side. An image
    that is already a crop is shown whole, without a margin; its shorter side is padded.

    Args:
        image: RGB, upright, (H, W, 3).
        face: Where the face is.
        size: Height and width of the crop, pixels.
        align: A name in ``ALIGNMENTS``.
        margin: Widening of the view, 0 for none; a little below 0 for a tighter one.
        offset: How far below the template's center an aligned view is centered, in template sides.

    Raises:
        UnknownNameError: If there is no such alignment.
    """
    return draw_view(image, find_view(face, size, align, margin, offset), size)


def find_view(face: Face, size: int, align: str, margin: float, offset: float = 0.0) -> Matrix:
    """The view of a face that ``crop_face`` draws.

    Raises:
        UnknownNameError: If there is no such alignment.
    """
    if align not in ALIGNMENTS:
        raise UnknownNameError("alignment", align, ALIGNMENTS)
    matrix = aligned_view(face, size, margin, offset) if align == "similarity" else None
    return box_view(face, size, margin) if matrix is None else matrix


def aligned_view(face: Face, size: int, margin: float, offset: float = 0.0) -> Matrix | None:
    """The view that puts landmarks on the template, or None where they cannot be trusted."""
    if face.landmarks is None:
        return None
    scale = size / (TEMPLATE_SIZE * (1 + margin))
    center = TEMPLATE_SIZE * np.array([0.5, 0.5 + offset])
    target = (TEMPLATE - center) * scale + size / 2
    matrix = fit_similarity(face.landmarks, target)
    if matrix is None:
        return None
    view_side = size / (scale_of(matrix) * (1 + margin))
    low, high = VIEW_RANGE
    box_side = max(face.width, face.height)
    return matrix if low * box_side <= view_side <= high * box_side else None


def view_kind(face: Face, align: str) -> ViewKind:
    """Which view ``find_view`` takes of a face; its size, margin and offset do not decide that."""
    if align == "similarity" and aligned_view(face, TEMPLATE_SIZE, 0.0) is not None:
        return "aligned"
    return "whole" if face.is_whole_image else "box"


def view_side(kind: ViewKind, margin: float) -> float:
    """Side of a view as a multiple of the template's (aligned), the box's or the image's side."""
    return {"aligned": 1 + margin, "box": 1 + 2 * margin, "whole": 1.0}[kind]


def box_view(face: Face, size: int, margin: float) -> Matrix:
    """The view of a face box, made square and widened."""
    side = view_side("whole" if face.is_whole_image else "box", margin)
    scale = size / (max(face.width, face.height) * side)
    x, y = face.center
    return np.array([[scale, 0, size / 2 - scale * x], [0, scale, size / 2 - scale * y]])


def fit_similarity(points: NDArray[np.float32], target: NDArray[np.float64]) -> Matrix | None:
    """The rotation, uniform scaling and shift that bring points closest to a target.

    Returns:
        The least-squares similarity, never a reflection; None where the points coincide, are not
        finite, or bear no resemblance to the target.

    Source:
        Umeyama: Least-Squares Estimation of Transformation Parameters Between Two Point Patterns,
        TPAMI 13(4), 1991. In the plane a similarity is ``z -> a z + b`` with complex a and b.
    """
    z = points[:, 0].astype(np.float64) + 1j * points[:, 1].astype(np.float64)
    w = target[:, 0] + 1j * target[:, 1]
    from_center = z - z.mean()
    spread = float(np.sum(np.abs(from_center) ** 2))
    if not math.isfinite(spread) or spread < 1e-6:
        return None
    a = complex(np.sum(from_center.conj() * (w - w.mean())) / spread)
    if abs(a) < 1e-9:
        return None
    b = complex(w.mean() - a * z.mean())
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def scale_of(matrix: Matrix) -> float:
    """Pixels of the crop per pixel of the image."""
    return math.hypot(matrix[0, 0], matrix[1, 0])


def draw_view(
    image: NDArray[np.uint8], matrix: Matrix, size: int, reduction: int = 1
) -> NDArray[np.uint8]:
    """A view of an image; RGB, (size, size, 3).

    Args:
        image: RGB, upright, (H, W, 3).
        matrix: From the image at its full size to the view.
        size: Height and width of the view, pixels.
        reduction: How many times as wide and high the image is at its full size.
    """
    if reduction > 1:
        matrix = np.column_stack([matrix[:, :2] * reduction, matrix[:, 2]])
    image, matrix = halved_to(image, matrix, size)
    # What was halved is at most twice as large, or the same everywhere.
    oversampling = min(2, max(1, math.ceil(1 / scale_of(matrix) - 1e-6)))
    drawn_size = (size * oversampling, size * oversampling)
    if (part := whole_pixels(image, matrix, size)) is not None:
        drawn = cv2.resize(part, drawn_size, interpolation=cv2.INTER_LINEAR)
    else:
        drawn = cv2.warpAffine(
            image,
            pixel_indices(matrix * oversampling),
            drawn_size,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    if oversampling > 1:
        drawn = cv2.resize(drawn, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(drawn, dtype=np.uint8)


def whole_pixels(image: NDArray[np.uint8], matrix: Matrix, size: int) -> NDArray[np.uint8] | None:
    """The part of an image that an upright view shows, or None where it cuts pixels or is turned.

    Most crops are whole images, and bringing these to a size takes a fourth of drawing a view.
    """
    (scale, skew, left), (turn, other, top) = matrix.tolist()
    if scale <= 0 or scale != other or skew or turn:
        return None
    seen = [-left / scale, -top / scale, (size - left) / scale, (size - top) / scale]
    corners = [round(edge) for edge in seen]
    if any(abs(edge - corner) > 1e-6 for edge, corner in zip(seen, corners, strict=True)):
        return None
    x0, y0, x1, y1 = corners
    inside = 0 <= x0 < x1 <= image.shape[1] and 0 <= y0 < y1 <= image.shape[0]
    return image[y0:y1, x0:x1] if inside else None


def halved_to(
    image: NDArray[np.uint8], matrix: Matrix, size: int
) -> tuple[NDArray[np.uint8], Matrix]:
    """The part of an image that a view shows, halved while it is more than twice as large.

    Returns:
        That part, and the same view of it.
    """
    # By the longer side: of 60000 x 1 the shorter one cannot be halved, and need not be.
    longer = max(image.shape[:2])
    times = halvings(scale_of(matrix), longer, longer)
    if not times:
        return image, matrix
    step = 2**times
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) - matrix[:, 2]
    seen = corners @ np.linalg.inv(matrix[:, :2]).T
    limit = np.array(image.shape[1::-1])
    # One pixel more on every side for the interpolation; starts at whole steps within the image.
    last = np.maximum(limit // step - 1, 0)
    low = np.clip(np.floor(seen.min(axis=0) / step) - 1, 0, last).astype(int) * step
    high = np.clip(np.ceil(seen.max(axis=0) / step) + 1, low // step + 1, None) * step
    part = image[low[1] : int(high[1]), low[0] : int(high[0])]
    origin = matrix[:, :2] @ low + matrix[:, 2]
    return halve(part, times), np.column_stack([matrix[:, :2] * step, origin])


def pixel_indices(matrix: Matrix) -> Matrix:
    """The same view between pixel indices, where the middle of the first pixel is at 0."""
    shift = matrix[:, :2].sum(axis=1) * 0.5 - 0.5
    return np.column_stack([matrix[:, :2], matrix[:, 2] + shift])
