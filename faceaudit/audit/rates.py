"""RATES: shares that need no labels, of images by what became of them and of faces as predicted.

They are metrics like the others, for rules of a policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from faceaudit.audit.metrics import Metric, Values, ratio
from faceaudit.audit.tally import Numbers
from faceaudit.schema import NO_FACE, OK, STATUSES

SCORED, WITHOUT_FACE, NOT_DECODED, NO_CAUSE = range(4)
"""Places of the numbers of images that the rates are made from."""


def images_by_outcome(images: Numbers, statuses: Sequence[str]) -> Numbers:
    """Images by what became of them, (..., 4), from images by status (..., S)."""
    plain = {OK: SCORED, NO_FACE: WITHOUT_FACE}
    known = {status: plain.get(status, NOT_DECODED) for status in STATUSES}
    kinds = [known.get(status, NO_CAUSE) for status in statuses]  # type: ignore[call-overload]
    return np.asarray(images @ np.eye(4, dtype=np.int64)[kinds])


def failure_rate(images: Any) -> Values:
    """Share of images without a scored face, from (..., 4)."""
    images = np.asarray(images)
    return ratio(all_images(images) - images[..., SCORED], all_images(images))


def decoding(images: Any) -> Values:
    """Share of images that could be decoded, from (..., 4)."""
    return ratio(images_decoded(images), _with_causes(images, all_images(images)))


def detection(images: Any) -> Values:
    """Share of the decoded images in which a face was found, from (..., 4)."""
    return ratio(np.asarray(images)[..., SCORED], _with_causes(images, images_decoded(images)))


def all_images(images: Any) -> Values:
    """All images, from (..., 4)."""
    return np.asarray(np.asarray(images).sum(axis=-1))


def images_decoded(images: Any) -> Values:
    """Images with a scored face or without a face, from (..., 4)."""
    return np.asarray(np.asarray(images)[..., [SCORED, WITHOUT_FACE]].sum(axis=-1))


def _with_causes(images: Any, count: Values) -> Values:
    """A number of images, 0 where it is not told why some were not scored."""
    return np.where(np.asarray(images)[..., NO_CAUSE] > 0, 0, count)


def predicted_share(faces: Any) -> Values:
    """Share of all scored faces that are predicted as a class, per class, from (..., K)."""
    return ratio(faces, np.asarray(faces).sum(axis=-1, keepdims=True))


def scored_faces_per_class(faces: Any) -> Values:
    """All scored faces, once per class, from (..., K)."""
    faces = np.asarray(faces)
    return np.asarray(np.broadcast_to(faces.sum(axis=-1, keepdims=True), faces.shape))


RATES: list[Metric] = [
    Metric(
        name="failure_rate",
        title="Images not scored",
        definition="Share of images without a scored face.",
        source="images by status",
        function=failure_rate,
        faces=all_images,
        undefined="there is no image",
        needs="images",
        better="lower",
    ),
    Metric(
        name="decoding",
        title="Images decoded",
        definition="Share of images that could be decoded.",
        source="images by status",
        function=decoding,
        faces=all_images,
        undefined="there is no image, or the table does not say why images were not scored",
        needs="images",
    ),
    Metric(
        name="detection",
        title="Faces found",
        definition="Share of the decoded images in which a face was found.",
        source="images by status",
        function=detection,
        faces=images_decoded,
        undefined="no image was decoded, or the table does not say why images were not scored",
        needs="images",
    ),
    Metric(
        name="predicted_share",
        title="Share as predicted",
        definition="Share of all scored faces that are predicted as a class, labeled or not; not "
        "corrected for the model's errors.",
        source="faces by predicted class",
        function=predicted_share,
        faces=scored_faces_per_class,
        undefined="no face has a predicted class",
        needs="predicted",
        better="neither",
        per_class=True,
    ),
]
"""Metrics that need no labels."""
