from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from faceaudit.faces import Detector, open_detector

DrawFace = Callable[..., NDArray[np.uint8]]

# Eyes, nose tip and mouth corners of the drawn face, in half face widths from its center.
DRAWN_LANDMARKS = ((-0.36, -0.2), (0.36, -0.2), (0.0, 0.25), (-0.3, 0.6), (0.3, 0.6))


def _draw_face(
    height: int,
    width: int,
    *,
    center: tuple[float, float],
    radius: float,
    angle: float = 0.0,
    onto: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """A cartoon face that a face detector takes for one; RGB, (height, width, 3)."""
    image = np.full((height, width, 3), (96, 120, 150), np.uint8) if onto is None else onto
    cosine, sine = np.cos(angle), np.sin(angle)

    def ellipse(x: float, y: float, a: float, b: float, color: tuple[int, int, int]) -> None:
        at = (
            int(center[0] + radius * (cosine * x - sine * y)),
            int(center[1] + radius * (sine * x + cosine * y)),
        )
        axes = (max(1, int(radius * a)), max(1, int(radius * b)))
        cv2.ellipse(image, at, axes, float(np.degrees(angle)), 0, 360, color, -1, cv2.LINE_AA)

    ellipse(0, -0.15, 0.98, 1.3, (50, 35, 25))  # hair
    ellipse(0, 0, 0.8, 1.1, (222, 178, 150))
    for side in (-1, 1):
        ellipse(0.36 * side, -0.2, 0.19, 0.1, (245, 240, 235))
        ellipse(0.36 * side, -0.2, 0.09, 0.09, (60, 40, 30))
        ellipse(0.36 * side, -0.4, 0.22, 0.045, (70, 48, 35))
    ellipse(0, 0.1, 0.09, 0.28, (205, 158, 130))
    ellipse(0, 0.27, 0.15, 0.07, (180, 125, 105))
    ellipse(0, 0.6, 0.32, 0.1, (178, 80, 80))
    ellipse(0, 0.6, 0.26, 0.02, (120, 40, 45))
    return np.asarray(cv2.GaussianBlur(image, (0, 0), max(0.6, radius / 40)), dtype=np.uint8)


@pytest.fixture
def draw_face() -> DrawFace:
    return _draw_face


@pytest.fixture(scope="session")
def drawn_landmarks() -> NDArray[np.float64]:
    return np.asarray(DRAWN_LANDMARKS)


@pytest.fixture(scope="session")
def detector() -> Detector:
    return open_detector("retinaface")
