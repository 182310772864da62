"""The detectors, by name. To add one, write its file and list it here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from faceaudit.errors import UnknownNameError
from faceaudit.faces.detector import Detector
from faceaudit.faces.retina_face_package import open_retina_face
from faceaudit.faces.retinaface import open_retinaface
from faceaudit.faces.whole import open_whole


@dataclass(frozen=True)
class DetectorEntry:
    """How a detector is described to users, and how it is opened."""

    summary: str
    open: Callable[..., Detector]


DETECTORS = {
    "retinaface": DetectorEntry(
        "RetinaFace, small and fast; ships with faceaudit", open_retinaface
    ),
    "retina-face": DetectorEntry(
        "RetinaFace on a ResNet-50, slow, from the package retina-face; bring its weights",
        open_retina_face,
    ),
    "whole": DetectorEntry("no detection: the image is already a crop", open_whole),
}


def open_detector(name: str, *, device: str = "cpu", threads: int = 1) -> Detector:
    """The detector of this name, ready to detect.

    Args:
        name: A name in ``DETECTORS``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: Processor threads that one call may use.

    Raises:
        UnknownNameError: If there is no such detector.
        FaceauditError: If the detector's package or weights are missing.
    """
    if name not in DETECTORS:
        raise UnknownNameError("detector", name, DETECTORS)
    return DETECTORS[name].open(device=device, threads=threads)
