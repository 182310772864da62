"""A face found in an image, and which faces of an image count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceaudit.errors import UnknownNameError

LANDMARKS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""Names of the landmarks, in order; left and right as seen in the image."""

FACE_POLICIES = {
    "largest": "the face with the largest box",
    "center": "the face whose center is nearest to the center of the image",
    "all": "every face, the largest first",
}


@dataclass(frozen=True, eq=False)
class Face:
    """One face: a box and landmarks in pixels of the upright image.

    Coordinates are continuous: the image spans 0 to its width and 0 to its height, and the middle
    of the first pixel is at 0.5. ``score`` is in [0, 1], or None where no detector ran because the
    image is already a crop. ``landmarks`` has shape (5, 2), in the order of ``LANDMARKS``.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    score: float | None = None
    landmarks: NDArray[np.float32] | None = None

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        return self.width * self.height

    @property
    def center(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def enlarged(self, times: int, width: int, height: int) -> Face:
        """The face in an image that is so many times as large, of this width and height."""
        return Face(
            self.x0 * times,
            self.y0 * times,
            min(self.x1 * times, float(width)),
            min(self.y1 * times, float(height)),
            self.score,
            None if self.landmarks is None else self.landmarks * np.float32(times),
        )

    @property
    def is_whole_image(self) -> bool:
        """Whether the face stands for an image that is already a crop."""
        return self.score is None


def choose_faces(faces: Sequence[Face], policy: str, width: int, height: int) -> list[Face]:
    """The faces that count under a policy, the face that an image's label belongs to first.

    Args:
        faces: All faces of one image.
        policy: A name in ``FACE_POLICIES``.
        width: Of the upright image, pixels.
        height: Likewise.

    Raises:
        UnknownNameError: If there is no such policy.
    """
    if policy not in FACE_POLICIES:
        raise UnknownNameError("choice of faces", policy, FACE_POLICIES)
    by_area = sorted(faces, key=lambda face: (-face.area, *_tie(face)))
    if policy == "all":
        return by_area
    if policy == "largest":
        return by_area[:1]
    return sorted(faces, key=lambda face: (_distance(face, width, height), *_tie(face)))[:1]


def _tie(face: Face) -> tuple[float, float, float]:
    """Order of faces that are equal otherwise: by score, then from left to right."""
    return -(face.score or 0.0), face.x0, face.y0


def _distance(face: Face, width: int, height: int) -> float:
    """Squared distance in pixels from a face's center to the image's."""
    x, y = face.center
    return (x - width / 2) ** 2 + (y - height / 2) ** 2
