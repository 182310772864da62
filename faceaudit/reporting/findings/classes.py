"""Which classes are recognized least, and without labels, which are predicted most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from faceaudit.audit.composition import DOUBTFUL
from faceaudit.audit.results import Confusion, Correction, Estimate
from faceaudit.labels.annotations import ANNOTATED, PREDICTED, SELF_REPORTED
from faceaudit.reporting import format as text
from faceaudit.reporting.findings.finding import Finding, apart, bounds, percent
from faceaudit.reporting.glossary import task_title
from faceaudit.reporting.subject import (
    MIXED,
    Subject,
    confidence_percent,
    index_metrics,
    key,
    label_word,
    min_n,
)

CLOSE = "classes that the scheme draws close together are confused more often."
VIEWS: dict[str | None, str] = {
    ANNOTATED: f"The annotated classes are a labeling scheme's view of a face, and {CLOSE}",
    SELF_REPORTED: "The self-reported classes are what people said of themselves, which a face "
    f"need not show, and {CLOSE}",
    PREDICTED: "The model-labeled classes are another model's predictions: what counts as a "
    "mistake here may be one of that model.",
    MIXED: f"The labels are of several provenances (see the notes), and {CLOSE}",
}
"""Provenance of the labels -> how far a class that is recognized least carries."""


UNFIT = (
    "How often the model errs elsewhere does not fit these images (see Composition), so the shares "
    "are as predicted, with its errors: label a sample."
)


def confused_class(subject: Subject) -> Iterator[Finding]:
    """The class that is recognized least, and what it is taken for."""
    overall = [c for c in subject.audit.confusions if not c.subgroup and len(c.task.classes) > 2]
    for confusion in overall:
        if not confusion.task.ordinal:
            yield from _confused(subject, confusion)


def _confused(subject: Subject, confusion: Confusion) -> Iterator[Finding]:
    counts = confusion.counts
    totals = counts.sum(axis=1)
    enough = [k for k, n in enumerate(totals) if n >= min_n(subject.audit)]
    if len(enough) < 2:
        return
    right = {k: float(counts[k, k] / totals[k]) for k in enough}
    hidden = confusion.hidden
    if text.prints_as_zero(max(right.values()) - min(right.values()), "share"):
        if hidden is None or not hidden[enough].any():
            yield _alike(subject, confusion, enough)
        return
    worst = min(enough, key=right.__getitem__)
    wrong = [k for k in range(len(totals)) if k != worst]
    most = max(int(counts[worst, k]) for k in wrong)
    taken = [k for k in wrong if counts[worst, k] == most]
    if hidden is not None and hidden[worst, [worst, *taken]].any():
        return
    names = [text.class_name(name) for name in confusion.task.classes]
    recalls = _recalls(subject, confusion)
    meets = [names[k] for k in enough if k != worst and not apart(recalls[worst], [recalls[k]])]
    confidence = confidence_percent(subject.audit)
    interval = bounds(recalls[worst]).replace("(", f"({confidence} interval ")
    view = VIEWS.get(subject.provenance.labels_provenance, VIEWS[ANNOTATED])
    yield Finding(
        f"{task_title(confusion.task.name)}: {names[worst]} is recognized least often"
        + (" as measured" if meets else ""),
        f"Of {text.count(int(totals[worst]))} faces {label_word(subject)} {names[worst]}, "
        f"{text.number(right[worst], 'share')}{interval} were predicted as such; "
        f"{text.number(most / totals[worst], 'share')} {_mistakes([names[k] for k in taken])}",
        f"{_untold(names[worst], meets)} {view}".strip(),
    )


def _untold(worst: str, meets: Sequence[str]) -> str:
    """Which classes may be recognized as seldom as the one that is least."""
    if not meets:
        return ""
    *others, last = meets
    named = f"{', '.join(others)} and {last}" if others else last
    those = "those" if others else "that"
    return f"Which class is least may be chance: the interval of {worst} meets {those} of {named}."


def _recalls(subject: Subject, confusion: Confusion) -> list[Estimate]:
    """The recall of each class over all faces; without bounds where none is known."""
    index, task = index_metrics(subject.audit), confusion.task
    found = [index.get(key(task.name, "recall", {}, name)) for name in task.classes]
    none = Estimate(None, None, None, 0)
    return [one.estimate if one else none for one in found]


def _mistakes(taken: Sequence[str]) -> str:
    """The class that another is most often taken for; where several tie, all of them."""
    *others, last = taken
    if not others:
        return f"were predicted {last}, the most frequent mistake."
    return f"each were predicted {', '.join(others)} and {last}, the most frequent mistakes."


def _alike(subject: Subject, confusion: Confusion, enough: Sequence[int]) -> Finding:
    """No class is recognized less often than another."""
    counts, title = confusion.counts[enough], task_title(confusion.task.name)
    faces, right = int(counts.sum()), int(confusion.counts[enough, enough].sum())
    who = (
        f"{text.count(faces)} faces {label_word(subject)} as one of the {len(enough)} classes with "
        f"at least {min_n(subject.audit)} faces"
    )
    if right == faces:
        return Finding(
            f"{title}: no class was taken for another", f"All {who} were predicted as such."
        )
    share = text.number(right / faces, "share")
    return Finding(
        f"{title}: all classes are recognized equally often",
        f"Of {who}, {share} were predicted as such, and so of each class.",
    )


def no_labels(subject: Subject) -> Iterator[Finding]:
    """What a page without annotated labels can and cannot tell."""
    if any(subject.audit.labelled.values()):
        return
    yield Finding(
        "Accuracy cannot be audited: no labels",
        "The table has no annotated classes, so this page reports only which classes the model "
        "predicted, and how often"
        + (
            ", and what labeled faces tell of how often it confuses them."
            if any(c.method for c in subject.audit.corrections)
            else "."
        ),
        "Predicted shares are not shares of people: every error of the model is in them.",
    )


def largest_shares(subject: Subject) -> Iterator[Finding]:
    """Without labels: the most and the least frequent class of each task, corrected if possible."""
    if any(subject.audit.labelled.values()):
        return
    corrections = {one.task: one for one in subject.audit.corrections}
    for task in subject.audit.tasks:
        shares = [c for c in subject.audit.composition if c.task == task.name and not c.subgroup]
        hedge, corrected = "", False
        correction = corrections.get(task.name)
        if all(c.corrected and c.corrected.value is not None for c in shares) and not (
            correction and _does_not_fit(correction)
        ):
            known = [(c.label, c.corrected) for c in shares if c.corrected]
            corrected = True
            hedge = _doubt(correction)
        else:
            known = [(c.label, c.share) for c in shares if c.share.value is not None]
            hedge = UNFIT if correction and _does_not_fit(correction) else ""
        if len(known) > 1:
            yield _shares(task.name, known, corrected, hedge)


def _shares(
    task: str, known: Sequence[tuple[str, Estimate]], corrected: bool, hedge: str
) -> Finding:
    verb = "are estimated to be" if corrected else "were predicted"
    (most, highest), (least, lowest) = (
        pick(known, key=lambda found: found[1].value or 0.0) for pick in (max, min)
    )
    if text.prints_as_zero((highest.value or 0.0) - (lowest.value or 0.0), "share"):
        return Finding(
            f"{task_title(task)}: all {len(known)} classes are equally frequent",
            f"{percent(highest)}{bounds(highest)} of the scored faces {verb} of each class.",
            hedge,
        )
    most_of = "most frequent is" if corrected else "most often predicted"
    return Finding(
        f"{task_title(task)}: {most_of} {text.class_name(most)}",
        f"{percent(highest)} of the scored faces {verb} {text.class_name(most)}{bounds(highest)}; "
        f"least often {text.class_name(least)}, {percent(lowest)}{bounds(lowest)}.",
        hedge,
    )


def _does_not_fit(correction: Correction) -> bool:
    """Whether what a corrected share assumes is shown not to hold."""
    fit = correction.fit
    return fit is not None and fit.p_value is not None and fit.p_value < DOUBTFUL


def _doubt(correction: Correction | None) -> str:
    """What speaks against corrected shares."""
    if correction is None:
        return ""
    if correction.unseen_share:
        return "No face is labeled of a part of the sample (see Composition): label some of it."
    return "Not calibrated for these images." if correction.source == "bundle" else ""
