"""Who is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from faceaudit.audit.results.values import Estimate, Subgroup


@dataclass(frozen=True)
class Coverage:
    """Who was scored and who is missing: images by status in one annotated subgroup.

    ``rates`` maps a status to the share of images with it, and further ``decoding`` to the share of
    images that could be decoded, ``detection`` to the share of those in which a face was found, and
    ``multi_face`` to the share of scored images with more than one face.
    """

    subgroup: Subgroup
    images: int
    statuses: Mapping[str, int | None]
    """Images by status; None where the number is kept back, for privacy."""
    failure_rate: Estimate
    """Share of images without a scored face."""
    rates: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class WithFailures:
    """A figure twice: on scored faces, and on all that are annotated, failures counted as errors.

    ``difference`` is the first minus the second, by how much a figure of scored faces flatters.
    """

    task: str
    metric: str
    subgroup: Subgroup
    scored: Estimate
    with_failures: Estimate
    difference: Estimate
    missed: int | None
    """Annotated faces without a prediction; None where the number is kept back, for privacy."""
    label: str | None = None
    small: bool = False
