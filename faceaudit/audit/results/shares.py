"""Shares of classes, as predicted and as corrected."""

from __future__ import annotations

from dataclasses import dataclass

from faceaudit.audit.results.values import Estimate, Subgroup


@dataclass(frozen=True)
class FitTest:
    """Whether counts or shares fit what was expected of them, by a chi-square statistic.

    ``reason`` says why there is none.
    """

    statistic: float | None
    degrees: int | None
    p_value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class ReferenceShare:
    """The share that a class should have, and how far the set is from it."""

    share: float
    difference: Estimate
    """The set's share, corrected where it could be, minus the reference; the bounds of all classes
    of a task hold together."""


@dataclass(frozen=True)
class Composition:
    """Share of one class among scored faces, as predicted and as corrected."""

    task: str
    label: str
    subgroup: Subgroup
    share: Estimate
    """Share of faces that were predicted as the class."""
    corrected: Estimate | None = None
    """Share of faces that would be annotated as the class; None where nothing was to correct."""
    em: Estimate | None = None
    """The same by the scores of the faces (EM), where they were used."""
    reference: ReferenceShare | None = None


@dataclass(frozen=True)
class Correction:
    """How the shares of one task were corrected for the model's confusion, and how far that holds.

    ``method`` is ``post_stratified`` (labeled faces of the set itself) or ``adjusted_count``
    (labeled faces of another set, or the model's own validation), None where the shares could not
    be corrected, for the ``reason``.
    """

    task: str
    method: str | None
    source: str | None
    """Where labeled faces come from: ``sample`` of the set, other ``labels``, ``bundle``."""
    where: str | None
    """The file of labels, or the name of the model."""
    labelled: int
    reason: str | None = None
    fit: FitTest | None = None
    """Whether the set's confidences fit what the labeled faces say, under label shift."""
    reference: FitTest | None = None
    """Whether the set's shares fit the reference shares."""
    reference_source: str | None = None
    """The file of reference shares."""
    doubtful: tuple[Subgroup, ...] = ()
    """Subgroups whose confidences contradict label shift."""
    unlabelled: int = 0
    """Faces that were drawn to be labeled and have no label of this task."""
    unseen_share: float | None = 0.0
    """Share of all faces that strata without any labeled face stand for; None where it is kept
    back, for privacy."""
