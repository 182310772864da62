"""The detector for images that are already crops: the whole image is one face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faceaudit.faces.detector import Image
from faceaudit.faces.face import Face


class WholeImage:
    """One face per image, as large as the image, without a score and landmarks."""

    name = "whole"
    enough_side: int | None = 0

    def facts(self) -> dict[str, Any]:
        return {"name": self.name}

    def detect(self, images: Sequence[Image]) -> list[list[Face]]:
        return [[Face(0.0, 0.0, float(i.shape[1]), float(i.shape[0]))] for i in images]


def open_whole(*, device: str, threads: int) -> WholeImage:
    """The detector that finds the whole image; it needs neither device nor threads."""
    return WholeImage()
