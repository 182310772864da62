"""The first half of the pipeline: images to faces and their crops; no image is lost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from faceaudit.faces import Detector, Face, choose_faces, crop_face
from faceaudit.images.decode import Decoded, decode
from faceaudit.images.refs import ImageRef, read_bytes
from faceaudit.schema import NO_FACE, OK, UNREADABLE, Status

PIXELS_AT_ONCE = 24_000_000
"""Decoded pixels that one worker holds before it detects and lets them go."""


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


def crop_images(images: Iterable[ImageRef], settings: CropSettings) -> Iterator[CroppedImage]:
    """Every image with the crops of its faces, in order.

    Images are decoded until ``PIXELS_AT_ONCE`` pixels are held, then go through the detector
    together: memory is bounded by pixels, not by the number of images.
    """
    read: list[tuple[CroppedImage, NDArray[np.uint8] | None]] = []
    pixels = 0
    for image in images:
        found, decoded = read_image(image, settings.max_pixels)
        read.append((found, decoded))
        pixels += 0 if decoded is None else decoded.shape[0] * decoded.shape[1]
        if pixels > PIXELS_AT_ONCE:
            yield from find_faces(read, settings)
            read, pixels = [], 0
    yield from find_faces(read, settings)


def read_image(image: ImageRef, max_pixels: int) -> tuple[CroppedImage, NDArray[np.uint8] | None]:
    """An image's facts and its pixels, which are None where it cannot be used."""
    try:
        data = read_bytes(image)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or type(error).__name__}"
        return CroppedImage(image.name, None, UNREADABLE, reason, None, None, (), ()), None
    found: Decoded = decode(data, max_pixels=max_pixels)
    facts = CroppedImage(
        name=image.name,
        sha256=hashlib.sha256(data).hexdigest(),
        status=found.status,
        error=found.error,
        width=found.width,
        height=found.height,
        faces=(),
        crops=(),
    )
    return facts, found.image


def find_faces(
    read: Sequence[tuple[CroppedImage, NDArray[np.uint8] | None]], settings: CropSettings
) -> Iterator[CroppedImage]:
    """The same images with their faces and crops."""
    pixels = [image for _, image in read if image is not None]
    detected = iter(settings.detector.detect(pixels) if pixels else [])
    for facts, image in read:
        if image is None:
            yield facts
            continue
        height, width = image.shape[:2]
        faces = choose_faces(next(detected), settings.faces, width, height)
        if not faces:
            yield replace(facts, status=NO_FACE, error="no face was found")
            continue
        crops = tuple(
            crop_face(
                image,
                face,
                size=settings.size,
                align=settings.align,
                margin=settings.margin,
                offset=settings.offset,
            )
            for face in faces
        )
        yield replace(facts, status=OK, faces=tuple(faces), crops=crops)
