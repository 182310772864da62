"""Shares of the classes among scored faces: as predicted, corrected, and against target shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from faceaudit.audit.composition import DOUBTFUL
from faceaudit.audit.results import Composition as Share
from faceaudit.audit.results import Correction, Estimate, FitTest, Subgroup
from faceaudit.reporting.format import (
    class_name,
    count,
    difference,
    difference_interval,
    file_name,
    number,
    subgroup_name,
)
from faceaudit.reporting.glossary import MetricFacts, task_title
from faceaudit.reporting.subject import (
    Subject,
    confidence_percent,
    groupings,
    has_labels,
    min_n,
)
from faceaudit.reporting.tables import (
    Cell,
    Column,
    Footnotes,
    Row,
    RowGroup,
    Table,
    estimate_cell,
    scale_over,
)
from faceaudit.schema import Task

SHARE = MetricFacts("share", "Share", "share", "neither", "Share of faces predicted as a class.")
CORRECTED_TITLES = {
    "annotated": "Annotated",
    "post_stratified": "Estimated from the sample",
    "adjusted_count": "Corrected",
}
"""What the column of the other share is called, by its method."""
NAMED = 5
"""So many subgroups are named in a caution."""


@dataclass(frozen=True)
class TaskComposition:
    """One task: the shares of its classes, overall and by subgroup, and what they rest on."""

    task: str
    overall: Table
    by_subgroup: Table | None
    corrected_by_subgroup: Table | None
    basis: str
    """How the shares were corrected and what that assumes, or why they were not."""
    cautions: tuple[str, ...]
    against: str
    """The comparison with target shares in words; empty without them."""


@dataclass(frozen=True)
class Composition:
    """Values of the section."""

    has_labels: bool
    corrected: bool
    confidence: str
    unit: str
    """What faces of one unit share, empty without units."""
    two_ways: bool
    """Whether shares by scores stand beside adjusted counts."""
    basis: str
    """What the shares of all tasks rest on, where that is the same; else empty."""
    tasks: tuple[TaskComposition, ...]


def gather(subject: Subject) -> Composition | None:
    """Shares of every task, None where the audit has none."""
    found = []
    corrections = {c.task: c for c in subject.audit.corrections}
    for task in subject.audit.tasks:
        shares = [c for c in subject.audit.composition if c.task == task.name]
        if shares:
            overall = [c for c in shares if not c.subgroup]
            correction = corrections.get(task.name)
            found.append(
                TaskComposition(
                    task_title(task.name),
                    _overall(task, overall, correction),
                    _by_subgroup(subject, task, shares, corrected=False),
                    _by_subgroup(subject, task, shares, corrected=True),
                    _basis(correction),
                    tuple(_cautions(correction, overall)),
                    _against(overall, correction, confidence_percent(subject.audit)),
                )
            )
    if not found:
        return None
    shared = {task.basis for task in found}
    basis = shared.pop() if len(shared) == 1 else ""
    if basis:
        found = [replace(task, basis="") for task in found]
    return Composition(
        has_labels(subject.audit),
        any(c.method not in (None, "annotated") for c in corrections.values()),
        confidence_percent(subject.audit),
        str(subject.audit.options.get("unit") or ""),
        any(c.em is not None for c in subject.audit.composition),
        basis,
        tuple(found),
    )


# --- tables -----------------------------------------------------------------------------------


def _overall(task: Task, shares: Sequence[Share], correction: Correction | None) -> Table:
    footnotes = Footnotes()
    other = CORRECTED_TITLES.get(correction.method or "") if correction else None
    by_scores = any(c.em is not None for c in shares)
    target = any(c.reference is not None for c in shares)
    shown = [e for c in shares for e in (c.share, c.corrected) if e is not None]
    # Bars are compared by their length, so the axis starts at zero.
    scale = replace(scale_over(shown, SHARE, 0.0), bar=True)
    columns = [
        Column("Predicted", scale=scale),
        *([Column(other, scale=replace(scale, bar=False))] if other else []),
        *([Column("By scores", "EM")] * by_scores),
        *([Column("Target"), Column("Difference", "points", unit="signed_points")] * target),
    ]
    rows = []
    for c in shares:
        cells = [estimate_cell(c.share, "share", footnotes)]
        if other:
            cells.append(estimate_cell(c.corrected, "share", footnotes))
        if by_scores:
            cells.append(estimate_cell(c.em, "share", footnotes))
        if target:
            cells += _target_cells(c, footnotes)
        rows.append(Row(class_name(c.label), tuple(cells)))
    n = max((c.share.n for c in shares), default=0)
    return Table(
        f"{task_title(task.name)}: classes of {count(n)} scored faces",
        "Class",
        tuple(columns),
        (RowGroup("", tuple(rows)),),
        footnotes.texts,
        kind="plain narrow",
    )


def _target_cells(share: Share, footnotes: Footnotes) -> list[Cell]:
    if share.reference is None:
        return [estimate_cell(None, "share", footnotes)] * 2
    return [
        Cell(share.reference.share),
        estimate_cell(share.reference.difference, "signed_points", footnotes),
    ]


def _by_subgroup(
    subject: Subject, task: Task, shares: Sequence[Share], *, corrected: bool
) -> Table | None:
    """Shares of every subgroup, as predicted or as corrected; None where there are none."""

    def shown(share: Share | None) -> Estimate | None:
        if share is None:
            return None
        return share.corrected if corrected else share.share

    places = [c for c in shares if c.subgroup and shown(c) is not None]
    cuts = groupings(subject, [c.subgroup for c in places])
    if not cuts:
        return None
    footnotes, fewest = Footnotes(), min_n(subject.audit)
    by_place = {(frozenset(c.subgroup.items()), c.label): c for c in shares}

    def row(subgroup: Subgroup) -> Row:
        found = [by_place.get((frozenset(subgroup.items()), name)) for name in task.classes]
        cells = [estimate_cell(shown(c), "share", footnotes) for c in found]
        n = max((c.share.n for c in found if c), default=0)
        return Row(subgroup_name(subgroup), tuple(cells), n < fewest)

    kind = "corrected shares" if corrected else "shares of the predicted classes"
    suffix = "" if corrected else ", not corrected"
    return Table(
        f"{task_title(task.name)}: {kind} by subgroup{suffix}",
        "Subgroup",
        tuple(Column(class_name(name)) for name in task.classes),
        tuple(RowGroup(g.title, tuple(row(s) for s in g.subgroups)) for g in cuts),
        footnotes.texts,
        min_n=fewest,
    )


# --- words ------------------------------------------------------------------------------------


def _basis(correction: Correction | None) -> str:
    """What the second share rests on and assumes, or why there is none."""
    if correction is None or correction.method == "annotated":
        return ""
    left = correction.unlabelled if correction.labelled else 0
    missing = f" Another {_faces(left)} no label." if left else ""
    if correction.method is None:
        return f"Not corrected: {correction.reason}.{missing}"
    faces, where = count(correction.labelled), file_name(correction.where or "")
    if correction.method == "post_stratified":
        return (
            f"Estimated from {faces} faces labeled in {where}, a random sample of these very "
            f"images.{missing} It assumes nothing of the model: only that the sample was drawn as "
            "its weights say, that its labels are right, and that faces left without a label are "
            "like the labeled ones of their stratum."
        )
    if correction.source == "labels":
        return (
            f"Corrected with {faces} labeled faces of {where}, which are not a random sample of "
            f"exactly these images.{missing} It assumes label shift: that a face of a class is "
            "predicted here as it was there, after the same preprocessing, and that only how "
            "frequent the classes are differs."
        )
    return (
        f"Not calibrated for these images: corrected by how {where} confused the classes of "
        f"{faces} of its own validation images. It assumes label shift: that a face of a class is "
        "predicted here as it was there, after the same preprocessing. No face of this set "
        "was looked at; label a sample (faceaudit sample) to know."
    )


def _cautions(correction: Correction | None, overall: Sequence[Share]) -> Iterator[str]:
    """Strata without labels, what speaks against label shift, or that nothing could."""
    if correction is not None and correction.method and correction.unseen_share:
        yield _unseen(correction)
    if correction is None or correction.method != "adjusted_count" or correction.fit is None:
        return
    fit = correction.fit
    if fit.p_value is None:
        yield f"Whether that assumption holds was not tested: {fit.reason}."
    elif fit.p_value < DOUBTFUL:
        yield (
            "That assumption does not hold here, and the corrected shares are not calibrated for "
            "these images: no mixture of the labeled faces' classes has the confidences that the "
            f"model has here ({_test(fit)}). Do not rely on them; label a sample of these images "
            "(faceaudit sample)."
        )
    apart = [class_name(c.label) for c in overall if _disagree(c)]
    if apart:
        yield (
            f"The two ways of correcting disagree on {', '.join(apart)}: their intervals do not "
            "meet. Under the assumption both are right, so that it is in doubt."
        )
    if correction.doubtful:
        names = " | ".join(subgroup_name(one) for one in correction.doubtful[:NAMED])
        if len(correction.doubtful) > NAMED:
            names += f" and {count(len(correction.doubtful) - NAMED)} more"
        yield (
            f"Within subgroups it does not hold for {names}, by the same test with all subgroups "
            "taken together (Holm): do not rely on their corrected shares."
        )


def _faces(faces: int) -> str:
    return "face has" if faces == 1 else f"{count(faces)} faces have"


def _unseen(correction: Correction) -> str:
    """What is not known of strata without a labeled face."""
    share = number(correction.unseen_share, "share")
    what = f"No face is labeled of strata that {share} of the faces are in"
    if correction.method == "post_stratified":
        return (
            f"{what}, and what those faces are is not known. The shares take them to be like "
            "others that are predicted alike; the intervals leave room for any class. Label some "
            "of them."
        )
    return (
        f"{what}, where the labels come from: how such faces are predicted is not known, and the "
        "corrected shares do not allow for it. Do not rely on them; label some of them."
    )


def _disagree(share: Share) -> bool:
    """Whether the intervals of the two corrections are apart."""
    one, other = share.corrected, share.em
    if one is None or other is None or other.low is None or other.high is None:
        return False
    if one.low is None or one.high is None:
        return False
    return one.high < other.low or other.high < one.low


def _against(shares: Sequence[Share], correction: Correction | None, confidence: str) -> str:
    """Which classes are above and below their target, and whether the whole fits."""
    compared = [(c.label, c.reference) for c in shares if c.reference is not None]
    if correction is None or not compared:
        return ""
    what = {
        None: "the predicted, uncorrected shares",
        "annotated": "the annotated shares",
    }.get(correction.method, "the corrected shares")
    sides: dict[str, list[str]] = {"above": [], "below": []}
    for label, reference in compared:
        found = reference.difference
        if side := _side(found):
            sides[side].append(f"{class_name(label)} {_apart(found)}")
    parts = [f"{side} target: {', '.join(names)}" for side, names in sides.items() if names]
    hidden = sum(found.difference.suppressed for _, found in compared)
    unsettled = len(compared) - hidden - sum(map(len, sides.values()))
    if unsettled:
        parts.append(
            f"{count(unsettled)} of {count(len(compared))} classes cannot be told apart from it"
        )
    if hidden:
        parts.append(f"{count(hidden)} of {count(len(compared))} classes are not shown")
    test = correction.reference
    overall = ""
    if test is not None:
        overall = (
            f" Over all classes: no test ({test.reason})."
            if test.p_value is None
            else f" Over all classes: {_test(test)}."
        )
    return (
        f"Against {file_name(correction.reference_source or '')}, by {what}: {'; '.join(parts)}. "
        f"The {confidence} intervals hold for all classes together.{overall}"
    )


def _side(found: Estimate) -> str | None:
    """Whether a difference is surely above or below zero."""
    if found.low is not None and found.low > 0:
        return "above"
    return "below" if found.high is not None and found.high < 0 else None


def _apart(found: Estimate) -> str:
    """A difference as a distance with its bounds."""
    value, low, high = found.value or 0.0, found.low or 0.0, found.high or 0.0
    near, far = sorted((abs(low), abs(high)))
    return f"by {difference(abs(value), 'share')} ({difference_interval(near, far, 'share')})"


def _test(test: FitTest) -> str:
    p = "p < 0.001" if (test.p_value or 0.0) < 0.001 else f"p = {test.p_value:.3f}"
    degrees = f"{test.degrees} degree{'' if test.degrees == 1 else 's'} of freedom"
    return f"chi-square {test.statistic:.1f} with {degrees}, {p}"
