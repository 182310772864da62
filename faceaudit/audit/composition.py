"""Composition without labels: shares corrected for the model's confusion, and set against others.

Labeled faces (``Calibration``) say how the model confuses classes. Which estimate follows depends
on where they come from: of a random sample of the set itself shares are estimated without any
assumption on the model; of other faces under the assumption of label shift, which is tested as far
as the confidences allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from faceaudit.audit.corrected import (
    CorrectedShares,
    CountedShares,
    Unknown,
    correct_shares,
    estimates_of,
    shares_by_scores,
)
from faceaudit.audit.face_sets import (
    Calibration,
    FaceSets,
    read_sets,
    with_scores,
)
from faceaudit.audit.metrics import Values
from faceaudit.audit.results import (
    Composition,
    Correction,
    Estimate,
    FitTest,
    ReferenceShare,
    Subgroup,
)
from faceaudit.audit.simultaneous import holm
from faceaudit.audit.subgroups import Feature, find_groupings
from faceaudit.audit.tally import Tally
from faceaudit.schema import Task
from faceaudit.tables import PredictionTable

DOUBTFUL = 0.01
"""Below this p value the confidences do not fit, and the page says so."""
NO_CONFUSION = (
    "how the model confuses the classes is not known; label a sample (`faceaudit sample`) and "
    "give it as --calibration"
)
BY_PREDICTION = (
    "not identified: the subgroup is formed by predictions, and how faces that are predicted so "
    "are confused is not known; give a labeled sample of this table (`faceaudit sample`)"
)
UNSEEN = "some strata of the sample have no labeled face"
BY_ITSELF = "not corrected: the subgroup is formed by the task's own annotated classes"


@dataclass(frozen=True)
class Reference:
    """Shares that the classes of a task should have, in class order, and the file they are from."""

    shares: Values
    where: str


@dataclass(frozen=True)
class Choices:
    """What shares are corrected by, and how."""

    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    """Task name -> labeled faces."""
    references: Mapping[str, Reference] = field(default_factory=dict)
    """Task name -> the shares that it should have."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Task name -> why there are no labeled faces."""
    annotated: frozenset[str] = frozenset()
    """Tasks of which every face of the set is annotated: nothing is left to correct."""
    features: tuple[Feature, ...] = ()
    """What subgroups are formed by."""
    unit: str | None = None
    min_n: int = 30
    confidence: float = 0.95


def correct(
    table: PredictionTable | Tally, composition: Sequence[Composition], choices: Choices
) -> tuple[tuple[Composition, ...], tuple[Correction, ...]]:
    """The composition with corrected shares, overall and by subgroup, and how they came about.

    Costs a pass over the table for each task, and arithmetic on counts for each subgroup.

    Args:
        table: The set, as rows or as a tally.
        composition: Shares as predicted (``coverage.find_composition``).
        choices: What they are corrected by, and how.
    """
    found = {_key(one.task, one.label, one.subgroup): one for one in composition}
    corrections = []
    for task in table.tasks:
        overall = found.get(_key(task.name, task.classes[0], {}))
        if overall is None or overall.share.value is None:
            continue
        if task.name in choices.annotated and task.name not in choices.references:
            continue
        answer = _answer(table, task, choices)
        for subgroup, shares in [({}, answer.shares), *answer.by_subgroup]:
            for k, one in enumerate(estimates_of(shares, len(task.classes), choices.confidence)):
                place = _key(task.name, task.classes[k], subgroup)
                if place in found:
                    found[place] = replace(found[place], corrected=one)
        for k, label in enumerate(task.classes):
            place = _key(task.name, label, {})
            found[place] = replace(
                found[place],
                em=answer.by_scores[k] if answer.by_scores else None,
                reference=answer.compared.shares[k] if answer.compared else None,
            )
        corrections.append(_correction(task, answer, choices))
    return tuple(found.values()), tuple(corrections)


def _key(task: str, label: str, subgroup: Subgroup) -> tuple[str, str, frozenset[tuple[str, str]]]:
    return task, label, frozenset(subgroup.items())


@dataclass(frozen=True)
class _Answer:
    """Everything that is found of the shares of one task."""

    shares: CountedShares | CorrectedShares | Unknown
    by_subgroup: Sequence[tuple[Subgroup, CorrectedShares | Unknown]] = ()
    by_scores: Sequence[Estimate] | None = None
    compared: Compared | None = None


def _answer(table: PredictionTable | Tally, task: Task, choices: Choices) -> _Answer:
    calibration = choices.calibrations.get(task.name)
    reference = choices.references.get(task.name)
    shares: CountedShares | CorrectedShares | Unknown
    shares = Unknown(choices.reasons.get(task.name, NO_CONFUSION), 0)
    if calibration is None and reference is None:
        return _Answer(shares)
    annotated = task.name in choices.annotated
    edges = np.zeros(0) if calibration is None else calibration.edges
    features, unit = choices.features, choices.unit
    sets = read_sets(table, task, edges, features, unit, annotated=annotated)
    whole, by_subgroup, by_scores = sets.whole(), list[Any](), None
    if annotated:
        shares = CountedShares(whole)
    elif calibration is not None:
        shares = correct_shares(whole, calibration)
        by_subgroup = list(_of_subgroups(sets, task, shares, choices))
        if isinstance(shares, CorrectedShares) and shares.method == "adjusted_count":
            scored = with_scores(whole, table, task, unit)
            by_scores = shares_by_scores(scored, calibration, choices.confidence)
    known = CountedShares(whole) if isinstance(shares, Unknown) else shares
    compared = compare_shares(known, reference, choices.confidence)
    return _Answer(shares, by_subgroup, by_scores, compared)


def _of_subgroups(
    sets: FaceSets, task: Task, overall: CorrectedShares | Unknown, choices: Choices
) -> Iterator[tuple[Subgroup, CorrectedShares | Unknown]]:
    """Corrected shares of every subgroup, or why there are none."""
    calibration = choices.calibrations[task.name]
    features = {feature.name: feature for feature in choices.features}
    for by in find_groupings(choices.features):
        reason = None
        if any(features[name].column == task.true_column for name in by):
            reason = BY_ITSELF
        elif calibration.source != "sample" and any(features[name].predicted for name in by):
            reason = BY_PREDICTION
        for subgroup, faces in sets.by_subgroup(by):
            n = faces.faces
            if isinstance(overall, Unknown):
                yield subgroup, overall
            elif reason is not None:
                yield subgroup, Unknown(reason, n)
            elif n < choices.min_n:
                yield (
                    subgroup,
                    Unknown(f"not corrected: fewer than {choices.min_n} scored faces", n),
                )
            else:
                yield subgroup, correct_shares(faces, calibration, subgroup)


def _correction(task: Task, answer: _Answer, choices: Choices) -> Correction:
    calibration = choices.calibrations.get(task.name)
    reference = choices.references.get(task.name)
    shares, compared = answer.shares, answer.compared
    return Correction(
        task=task.name,
        method=None if isinstance(shares, Unknown) else shares.method,
        source=calibration.source if calibration else None,
        where=calibration.where if calibration else None,
        labelled=calibration.labelled if calibration else shares.n,
        unlabelled=calibration.unlabelled if calibration else 0,
        unseen_share=calibration.unseen_share if calibration else 0.0,
        reason=shares.reason if isinstance(shares, Unknown) else None,
        fit=shares.shift if isinstance(shares, CorrectedShares) else None,
        reference=compared.test if compared else None,
        reference_source=reference.where if reference else None,
        doubtful=tuple(_doubtful(answer.by_subgroup)),
    )


def _doubtful(
    by_subgroup: Sequence[tuple[Subgroup, CorrectedShares | Unknown]],
) -> Iterator[Subgroup]:
    """Subgroups whose confidences contradict label shift, by Holm's adjustment over all of them."""
    tested = [
        (subgroup, shares.shift.p_value)
        for subgroup, shares in by_subgroup
        if isinstance(shares, CorrectedShares)
        and shares.shift is not None
        and shares.shift.p_value is not None
    ]
    adjusted = holm(np.array([p_value for _, p_value in tested], np.float64))
    for (subgroup, _), p_value in zip(tested, adjusted, strict=True):
        if p_value < DOUBTFUL:
            yield subgroup


# --- reference shares -------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """Shares of one task against reference shares: each by itself, and all together."""

    shares: list[ReferenceShare]
    test: FitTest


def compare_shares(
    shares: CountedShares | CorrectedShares, reference: Reference | None, confidence: float
) -> Compared | None:
    """The set's shares, corrected where they are, against reference shares.

    The intervals of all K classes hold together: each has the confidence 1 - (1 - confidence) / K
    (of two classes, which are off by the same, the confidence itself).

    Source:
        Goodman: On simultaneous confidence intervals for multinomial proportions, Technometrics 7,
        1965.
    """
    if reference is None:
        return None
    apart = len(reference.shares) if len(reference.shares) > 2 else 1
    together = estimates_of(shares, len(reference.shares), 1 - (1 - confidence) / apart)
    unseen = isinstance(shares, CorrectedShares) and shares.unseen
    return Compared(
        [
            ReferenceShare(float(target), _less(one, float(target)))
            for target, one in zip(reference.shares, together, strict=True)
        ],
        FitTest(None, None, None, UNSEEN) if unseen else shares.fit(reference.shares),
    )


def _less(one: Estimate, target: float) -> Estimate:
    value, low, high = (
        None if part is None else part - target for part in (one.value, one.low, one.high)
    )
    return Estimate(value, low, high, one.n, one.reason)
