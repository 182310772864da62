"""Who is missing, and who has too few faces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from faceaudit.audit.coverage import NOT_ANNOTATED
from faceaudit.audit.results import Audit, Coverage, Subgroup
from faceaudit.reporting import format as text
from faceaudit.reporting.findings.finding import Finding, apart, bounds, percent
from faceaudit.reporting.glossary import grouping_title, task_title
from faceaudit.reporting.subject import (
    Subject,
    groupings,
    headlines,
    label_word,
    min_n,
    no_subgroups,
)
from faceaudit.schema import OK, STATUSES

MOST_NAMED = 6


def missing_faces(subject: Subject) -> Iterator[Finding]:
    """Images without a scored face, and the subgroup that loses most of its images."""
    overall = next((c for c in subject.audit.coverage if not c.subgroup), None)
    if overall is None:
        return
    scored = overall.statuses.get(OK, 0)
    if scored is None:
        return
    missing = overall.images - scored
    if missing == 0:
        yield Finding(
            "Coverage: every image of the table was scored",
            "Its one image has a scored face."
            if overall.images == 1
            else f"All {text.count(overall.images)} images have a scored face.",
        )
        return
    yield Finding(
        f"Coverage: {text.count(missing)} of {text.counted(overall.images, 'image')} "
        f"{'was' if missing == 1 else 'were'} not scored",
        f"{percent(overall.failure_rate)} of the images have no scored face "
        f"({_statuses(overall)}). {_most_missing(subject)}".strip(),
        "Figures in the other sections are of scored faces alone"
        + ("; Coverage has them with failures counted as errors." if _has_labels(subject) else "."),
    )


def _has_labels(subject: Subject) -> bool:
    return any(subject.audit.labelled.values())


def _most_missing(subject: Subject) -> str:
    """The subgroup whose images were lost most often, if any differs from the others."""
    cuts = [c for c in subject.audit.coverage if c.subgroup]
    annotated = [c for c in cuts if NOT_ANNOTATED not in c.subgroup.values()]
    groups = groupings(subject, [c.subgroup for c in annotated])
    if not groups:
        why = no_subgroups(subject)
        return f"Whether some subgroups are missed more often cannot be told: {why}."
    enough = [
        c
        for c in annotated
        if c.failure_rate.value is not None and c.images >= min_n(subject.audit)
    ]
    ranked = {group.by: [c for c in enough if set(c.subgroup) == set(group.by)] for group in groups}
    by = ([by for by, found in ranked.items() if len(found) > 1] or list(ranked))[-1]
    own = [c for c in cuts if set(c.subgroup) == set(by)]
    images = sum(c.images for c in own if NOT_ANNOTATED in c.subgroup.values())
    title = grouping_title(by, label_word(subject))
    return f"{_ranked(subject, ranked[by], title)} {_not_ranked(images, title)}".strip()


def _ranked(subject: Subject, ranked: Sequence[Coverage], title: str) -> str:
    if len(ranked) < 2:
        return (
            f"Whether some subgroups of {title} are missed more often cannot be told: fewer than "
            f"two have {min_n(subject.audit)} images."
        )
    most = max(ranked, key=_rate)
    least = min(ranked, key=_rate)
    if text.prints_as_zero(_rate(most) - _rate(least), "share"):
        return f"The share is the same in the {len(ranked)} ranked subgroups of {title}."
    others = [one.failure_rate for one in ranked if one is not most]
    measured = "" if apart(most.failure_rate, others) else " as measured"
    who = text.described(most.subgroup, label_word(subject))
    return (
        f"The share is largest{measured} among images {who}: "
        f"{percent(most.failure_rate)}{bounds(most.failure_rate)} of "
        f"{text.counted(most.images, 'image')}."
    )


def _rate(counts: Coverage) -> float:
    return counts.failure_rate.value or 0.0


def _not_ranked(images: int, title: str) -> str:
    """Images of no known subgroup."""
    if not images:
        return ""
    lack, are = ("image lacks", "is") if images == 1 else ("images lack", "are")
    return f"{text.count(images)} {lack} {title} and {are} not ranked."


def _statuses(coverage: Coverage) -> str:
    lost = [(s, n) for s, n in coverage.statuses.items() if s != OK and n]
    named = {str(status): meaning for status, meaning in STATUSES.items()}
    return "; ".join(f"{text.count(n)}: {named.get(s, s.replace('_', ' '))}" for s, n in lost)


def small_subgroups(subject: Subject) -> Iterator[Finding]:
    """Subgroups with too few faces to be ranked, in every task or in some."""
    audit, word = subject.audit, label_word(subject)
    small, total = _small(audit)
    if not small:
        return
    partly = any(some for _, _, some in small)
    named = "; ".join(
        f"{text.described(subgroup, word)} ({_fewest(faces, partly=some)})"
        for subgroup, faces, some in small[:MOST_NAMED]
    )
    more = f"; and {len(small) - MOST_NAMED} more" if len(small) > MOST_NAMED else ""
    one = len(small) == 1
    yield Finding(
        f"Insufficient evidence for {text.count(len(small))} of {text.count(total)} subgroups"
        + (" in some tasks" if partly else ""),
        f"Fewer than {min_n(audit)} {word} faces: {named}{more}. "
        f"{'It is' if one else 'They are'} shown and marked, and never named as best or worst"
        f"{' there' if partly else ''}.",
        "No difference found in a small subgroup is not evidence of no difference.",
    )


def _small(audit: Audit) -> tuple[list[tuple[Subgroup, dict[str, int], bool]], int]:
    """Small subgroups with their faces by task, and whether in some tasks alone; and how many all.

    Subgroups are told apart by features and values: values of two features may have one name.
    """
    told = {(headline.task, headline.metric) for headline in headlines(audit)}
    faces: dict[frozenset[tuple[str, str]], dict[str, int]] = {}
    subgroups: dict[frozenset[tuple[str, str]], Subgroup] = {}
    for v in audit.metrics:
        if v.label or not v.subgroup or audit.within in v.subgroup:
            continue
        if (v.task, v.metric) in told:
            place = frozenset(v.subgroup.items())
            subgroups.setdefault(place, v.subgroup)
            faces.setdefault(place, {})[v.task] = v.estimate.n
    found = []
    for place, by_task in faces.items():
        few = {task: n for task, n in by_task.items() if n < min_n(audit)}
        if few:
            found.append((subgroups[place], few, len(few) < len(by_task)))
    return found, len(subgroups)


def _fewest(faces: Mapping[str, int], *, partly: bool) -> str:
    """Such as "n = 12", "n = 12 to 20", or of some tasks alone "gender: n = 12"."""
    if partly:
        each = (f"{task_title(task).lower()}: n = {text.count(n)}" for task, n in faces.items())
        return ", ".join(each)
    low, high = min(faces.values()), max(faces.values())
    return f"n = {text.count(low)}" + (f" to {text.count(high)}" if high > low else "")
