"""The first half of the pipeline: images to faces and their crops; no image is lost."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from faceaudit.faces import Detector, Face, choose_faces, draw_view, find_view, scale_of
from faceaudit.images.decode import Decoded, decode
from faceaudit.images.decoded import failed
from faceaudit.images.refs import ImageRef, read_bytes
from faceaudit.schema import NO_FACE, UNREADABLE, Status

PIXELS_AT_ONCE = 24_000_000
"""Decoded pixels that one worker holds before it detects and lets them go."""
CANNOT_BE_READ = "cannot be read"
"""How the error of a file begins whose bytes the system did not give."""
SMALLEST_REDUCED = 640
"""Longer side that is left, pixels: images of data sets, already crops, keep all their pixels."""


@dataclass(frozen=True)
class CropSettings:
    """How faces are found, chosen and cut out."""

    detector: Detector
    faces: str
    size: int
    align: str
    margin: float
    offset: float
    max_pixels: int

    @property
    def enough_side(self) -> int | None:
        """Longer side at which large JPEGs are decoded first, pixels; None for their full size."""
        side = self.detector.enough_side
        return None if side is None else max(side, 2 * self.size, SMALLEST_REDUCED)


@dataclass(frozen=True)
class CroppedImage:
    """What became of one image: its faces with their crops, or why there are none."""

    name: str
    sha256: str | None
    status: Status
    error: str | None
    width: int | None
    height: int | None
    faces: tuple[Face, ...]
    crops: tuple[NDArray[np.uint8], ...]  # (S, S, 3) each


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """An image before its faces are found."""

    facts: CroppedImage
    decoded: Decoded
    data: bytes = b""
    """The file, where it was decoded smaller than it is and may be needed again."""


def crop_images(images: Iterable[ImageRef], settings: CropSettings) -> Iterator[CroppedImage]:
    """Every image with the crops of its faces, in order.

    Images are decoded until ``PIXELS_AT_ONCE`` pixels are held, then go through the detector
    together: memory is bounded by pixels, not by the number of images.
    """
    opened: list[OpenedImage] = []
    pixels = 0
    for image in images:
        opened.append(open_image(image, settings))
        decoded = opened[-1].decoded.image
        pixels += 0 if decoded is None else decoded.shape[0] * decoded.shape[1]
        if pixels > PIXELS_AT_ONCE:
            yield from find_faces(opened, settings)
            opened, pixels = [], 0
    yield from find_faces(opened, settings)


def open_image(image: ImageRef, settings: CropSettings) -> OpenedImage:
    """An image's facts and its pixels, or why there are none."""
    try:
        data = read_bytes(image)
        digest = hashlib.sha256(data).hexdigest()
        found = decode(data, max_pixels=settings.max_pixels, enough_side=settings.enough_side)
    except OSError as error:
        data, digest = b"", None
        found = failed(UNREADABLE, f"{CANNOT_BE_READ}: {error.strerror or type(error).__name__}")
    facts = CroppedImage(
        name=image.name,
        sha256=digest,
        status=found.status,
        error=found.error,
        width=found.width,
        height=found.height,
        faces=(),
        crops=(),
    )
    return OpenedImage(facts, found, data if found.reduction > 1 else b"")


def find_faces(opened: Sequence[OpenedImage], settings: CropSettings) -> Iterator[CroppedImage]:
    """The same images with their faces and crops."""
    pixels = [image.decoded.image for image in opened if image.decoded.image is not None]
    detected = iter(settings.detector.detect(pixels) if pixels else [])
    for image in opened:
        has_pixels = image.decoded.image is not None
        yield crop_faces(image, next(detected), settings) if has_pixels else image.facts


def crop_faces(image: OpenedImage, found: Sequence[Face], settings: CropSettings) -> CroppedImage:
    """An image with its faces and their crops.

    Args:
        image: One with pixels.
        found: All faces in those pixels.
        settings: How faces are chosen and cut out.
    """
    width, height = image.facts.width or 0, image.facts.height or 0
    full = [face.enlarged(image.decoded.reduction, width, height) for face in found]
    faces = choose_faces(full, settings.faces, width, height)
    if not faces:
        return replace(image.facts, status=NO_FACE, error="no face was found")
    views = [
        find_view(face, settings.size, settings.align, settings.margin, settings.offset)
        for face in faces
    ]
    decoded = large_enough(image, max(scale_of(view) for view in views), settings)
    if decoded.image is None:
        return replace(image.facts, status=decoded.status, error=decoded.error)
    crops = [draw_view(decoded.image, view, settings.size, decoded.reduction) for view in views]
    return replace(image.facts, faces=tuple(faces), crops=tuple(crops))


def large_enough(image: OpenedImage, scale: float, settings: CropSettings) -> Decoded:
    """The image, decoded again where it has fewer pixels than its crops.

    Args:
        image: One with pixels.
        scale: Of the crops: their pixels per pixel of the image at its full size, at most.
        settings: Of the crops.
    """
    if image.decoded.reduction == 1 or image.decoded.reduction * scale <= 1:
        return image.decoded
    side = max(image.facts.width or 0, image.facts.height or 0)
    return decode(image.data, max_pixels=settings.max_pixels, enough_side=math.ceil(side * scale))
