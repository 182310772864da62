"""What a detector is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from faceaudit.faces.face import Face

Image = NDArray[np.uint8]
"""RGB, upright, (H, W, 3)."""


class Detector(Protocol):
    """From images to faces; safe to call from several threads."""

    name: str
    enough_side: int | None
    """Longer side of an image that is enough to find what can be found; None if none is."""

    def facts(self) -> dict[str, Any]:
        """What the table records of the detector: name, weights, thresholds, sizes."""

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        """Faces of every image, the highest score first; an empty list where there are none.

        What is found in an image does not depend on the images beside it.
        """
