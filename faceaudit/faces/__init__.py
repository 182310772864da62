"""Faces: where they are in an image, which of them count, and how they are cropped.

To add a detector, write a file with a class like those in ``detector.py`` and a function that
opens it, and list it in ``DETECTORS``.
"""

from __future__ import annotations

from faceaudit.faces.crop import (
    ALIGNMENTS,
    Align,
    ViewKind,
    crop_face,
    draw_view,
    find_view,
    scale_of,
    view_kind,
    view_side,
)
from faceaudit.faces.detector import Detector
from faceaudit.faces.face import FACE_POLICIES, LANDMARKS, Face, choose_faces
from faceaudit.faces.registry import DETECTORS, open_detector

__all__ = [
    "ALIGNMENTS",
    "DETECTORS",
    "FACE_POLICIES",
    "LANDMARKS",
    "Align",
    "Detector",
    "Face",
    "ViewKind",
    "choose_faces",
    "crop_face",
    "draw_view",
    "find_view",
    "open_detector",
    "scale_of",
    "view_kind",
    "view_side",
]
