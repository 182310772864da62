"""RATES: shares that need no labels, of images by what became of them and of faces as predicted.

They are metrics like the others, for rules of a policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from faceaudit.audit.metrics import Metric, Values, ratio
from faceaudit.audit.tally import Numbers
from faceaudit.schema import NO_FACE, OK

SCORED, WITHOUT_FACE, OTHER = range(3)
"""Places of the numbers of images that the rates are made from."""


def images_by_outcome(images: Numbers, statuses: Sequence[str]) -> Numbers:
    """Images with a scored face, without a face, and others, from images by status (..., S)."""
    kinds = [SCORED if s == OK else WITHOUT_FACE if s == NO_FACE else OTHER for s in statuses]
    return np.asarray(images @ np.eye(3, dtype=np.int64)[kinds])


def failure_rate(images: Any) -> Values:
    """Share of images without a scored face, from (..., 3)."""
    images = np.asarray(images)
    return ratio(all_images(images) - images[..., SCORED], all_images(images))


def detection_rate(images: Any) -> Values:
    """Share of the images that could be read in which a face was found, from (..., 3)."""
    return ratio(np.asarray(images)[..., SCORED], images_read(images))


def all_images(images: Any) -> Values:
    """All images, from (..., 3)."""
    return np.asarray(np.asarray(images).sum(axis=-1))


def images_read(images: Any) -> Values:
    """Images with a scored face or without a face, from (..., 3)."""
    return np.asarray(np.asarray(images)[..., [SCORED, WITHOUT_FACE]].sum(axis=-1))


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
        name="detection_rate",
        title="Faces found",
        definition="Share of the images that could be read in which a face was found.",
        source="images by status",
        function=detection_rate,
        faces=images_read,
        undefined="no image could be read",
        needs="images",
    ),
    Metric(
        name="predicted_share",
        title="Share as predicted",
        definition="Share of all scored faces that are predicted as a class, labelled or not; not "
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
