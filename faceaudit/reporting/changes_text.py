"""What a page says of a comparison: what improved, what regressed, who is missing, what moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from faceaudit.audit.changes import FAILURE_RATE, Change, Changes, Distance
from faceaudit.audit.image_measures import DETECTION_SCORE, SHORTER_SIDE
from faceaudit.reporting import format as text
from faceaudit.reporting.findings import Finding
from faceaudit.reporting.glossary import (
    MetricFacts,
    Unit,
    metric_facts,
    subgroup_kind,
    task_title,
)

HEADLINES = ("accuracy", "mae")
SHOWN = (
    "accuracy",
    "macro_f1",
    "macro_auc",
    "one_off",
    "mae",
    "mean_signed_error",
    "cs_at_5",
)
"""Metrics that the page shows; the JSON holds all."""
DISTANCE_TITLES = {
    "subgroups": "Subgroups by {}",
    "status": "Status of images",
    "annotated": "Annotated {}",
    "predicted": "Predicted {}",
    "confidence": "Confidence in {}",
    "measure": "{}",
}
"""What a distance is of, with the name of the task, the features or the measure."""
MEASURE_TITLES = {DETECTION_SCORE: "Detection score", SHORTER_SIDE: "Shorter side in pixels"}
MOST_NAMED = 6


def headline_changes(found: Changes) -> list[Change]:
    """Accuracy of every task with classes and the error in years, everybody and subgroups."""
    return [
        one
        for one in found.changes
        if one.metric in HEADLINES and one.label is None and one.failures == "left out"
    ]


def lede(found: Changes, first_name: str, second_name: str, word: str) -> str:
    """One sentence: how many headline figures improved and regressed."""
    headline = headline_changes(found)
    told = [one for one in headline if one.p_adjusted is not None]
    start = f"{second_name} against {first_name}, on {_compared_on(found)}: "
    if not any(found.labelled.values()) and not headline:
        both = " in both tables" if found.mode == "drift" else ""
        return start + (
            f"no task has labels{both}, so only what is predicted and missing is compared."
        )
    if not told and all(one.verdict == "few faces" for one in headline):
        return start + "too few faces for a claim on any headline figure."
    if not told:
        return start + "no headline figure could be tested."
    better = sum(one.verdict == "improved" for one in told)
    worse = sum(one.verdict == "regressed" for one in told)
    figures, rest = text.counted(len(told), "headline figure"), len(told) - better - worse
    whose = f"of all faces and of {subgroup_kind(found.by, word)}s"
    if not better and not worse:
        of = "in the" if len(told) == 1 else "in any of the"
        return f"{start}no difference is shown {of} {figures}, {whose}."
    silent = f"; in the other {text.count(rest)} no difference is shown" if rest else ""
    return (
        f"{start}of {figures}, {whose}, {better or 'none'} improved and {worse or 'none'} "
        f"regressed{silent}."
    )


def _compared_on(found: Changes) -> str:
    if found.mode == "drift" or found.matching is None:
        return f"{text.count(found.images[0])} and {text.count(found.images[1])} images"
    matched = found.matching.matched
    scored = max((one.share.n for one in found.agreement if not one.subgroup), default=None)
    if scored == matched:
        return f"the same {text.count(matched)} faces"
    rows = f"the same {text.count(matched)} rows"
    return rows if scored is None else f"{rows}, of which both tables scored {text.count(scored)}"


def findings_of(found: Changes, word: str) -> Iterator[Finding]:
    """What changed per task, who is missing, and which distributions moved."""
    headline = headline_changes(found)
    for task, metric in dict.fromkeys((one.task, one.metric) for one in headline):
        own = [one for one in headline if (one.task, one.metric) == (task, metric)]
        if any(one.difference is not None for one in own):
            yield _finding(task, metric_facts(metric), own, word)
    yield from _missing(found, word)
    yield from _moved(found, word)


def _finding(task: str, facts: MetricFacts, own: Sequence[Change], word: str) -> Finding:
    claims = {
        verdict: [one for one in own if one.verdict == verdict and one.subgroup]
        for verdict in ("regressed", "improved")
    }
    overall = next((one for one in own if not one.subgroup), None)
    title = task_title(task).removesuffix(" in years")
    told = [f"{verdict} for faces {_named(ones, word)}" for verdict, ones in claims.items() if ones]
    if overall is not None and overall.claimed:
        told.insert(0, f"{overall.verdict} over all faces")
    silent = "no change is shown"
    if all(one.verdict == "few faces" for one in own):
        silent = "too few faces for a claim"
    heading = f"{title}: {'; '.join(told) or silent}"
    sentences = [_overall(facts, overall)] if overall else []
    for verdict, ones in claims.items():
        if ones:
            listed = _listed([_difference_of(one, facts.unit) for one in ones])
            sentences.append(f"{verdict.capitalize()}: {listed}.")
    return Finding(heading, " ".join(sentences), _resolution(own, facts.unit))


def _named(ones: Sequence[Change], word: str) -> str:
    names = [text.described(one.subgroup, word) for one in ones[:MOST_NAMED]]
    rest = len(ones) - len(names)
    if all(name.startswith(f"{word} ") for name in names):  # said once of all
        names = [names[0], *(name.removeprefix(f"{word} ") for name in names[1:])]
    return " / ".join(names) + (f" and {rest} more" if rest else "")


def _overall(facts: MetricFacts, one: Change) -> str:
    if one.difference is None:
        return f"{facts.title} of all faces: n/a ({one.reason})."
    return (
        f"{facts.title} of all faces: {text.quantity(one.first, facts.unit)}, then "
        f"{text.quantity(one.second, facts.unit)}; {_verdict_words(one)} "
        f"({_difference_text(one, facts.unit)})."
    )


def _verdict_words(one: Change) -> str:
    return one.verdict if one.verdict != "few faces" else "too few faces for a claim"


def _difference_of(one: Change, unit: Unit) -> str:
    return f"{text.subgroup_name(one.subgroup)} {_difference_text(one, unit)}"


def _difference_text(one: Change, unit: Unit) -> str:
    found = signed_text(one.difference, unit)
    if one.low is None or one.high is None:
        return found
    return f"{found}, {bounds_text(one.low, one.high, unit)}"


def signed_text(value: float | None, unit: Unit) -> str:
    """A difference with its sign."""
    shown = text.difference(value, unit)
    if value is None or value <= 0 or shown.startswith((text.MINUS, "+")):
        return shown
    return f"+{shown}"


def bounds_text(low: float, high: float, unit: Unit) -> str:
    """Both bounds of a difference with their signs."""
    return f"{signed_text(low, unit).split(' ')[0]} to {signed_text(high, unit)}"


def _resolution(own: Sequence[Change], unit: Unit) -> str:
    """How large a change may hide behind "no difference shown"."""
    open_ = [
        max(abs(one.low), abs(one.high))
        for one in own
        if one.verdict == "no difference shown" and one.low is not None and one.high is not None
    ]
    if not open_:
        return ""
    return (
        "No difference shown does not mean none: among those figures changes of up to "
        f"{text.difference(max(open_), unit)} cannot be excluded."
    )


def _missing(found: Changes, word: str) -> Iterator[Finding]:
    """Who is scored less often, or more often, than before."""
    rates = [one for one in found.changes if one.metric == FAILURE_RATE]
    overall = next((one for one in rates if not one.subgroup), None)
    if overall is None or not any(one.first or one.second for one in rates):
        return
    claims = [one for one in rates if one.claimed and one.subgroup]
    listed = _listed(
        [
            f"{text.subgroup_name(one.subgroup)} {one.verdict} ({_difference_text(one, 'share')})"
            for one in claims
        ]
    )
    heading = "Images without a scored face: " + (
        f"{overall.verdict}"
        if overall.claimed
        else "too few images for a claim"
        if overall.verdict == "few faces"
        else "no difference shown over all images"
    )
    hedge = (
        "The figures above are of faces that both tables scored; a model that finds fewer faces is "
        "not flattered where failures count as errors, in the tables below."
        if found.mode == "paired"
        and any(one.difference is not None for one in headline_changes(found))
        else ""
    )
    sentence = (
        f"{text.quantity(overall.first, 'share')} of the images, then "
        f"{text.quantity(overall.second, 'share')} ({_difference_text(overall, 'share')})."
    )
    more = f" By {subgroup_kind(found.by, word)}: {listed}." if listed else ""
    yield Finding(heading, sentence + more, hedge)


def _moved(found: Changes, word: str) -> Iterator[Finding]:
    """Distributions that are not the same, of everybody and of subgroups."""
    tested = [one for one in found.distances if one.p_adjusted is not None]
    if not tested:
        if found.distances:
            yield Finding("Distributions that differ: none has enough faces to be tested", "")
        return
    # Annotated classes that subgroups are formed by are told as subgroups.
    told = {by[0] for by in found.by if len(by) == 1}
    moved = [
        one
        for one in tested
        if one.shifted and not (one.what == "annotated" and one.name in told and not one.subgroup)
    ]
    if not moved:
        sentence = "That does not mean that they are alike: small shifts cannot be excluded."
        yield Finding("Distributions that differ: none is shown to", sentence)
        return
    subgroups = [one for one in moved if one.subgroup]
    names = [distance_name(one).lower() for one in moved if not one.subgroup]
    within = dict.fromkeys(distance_name(one).lower() for one in subgroups)
    names += [f"{name} of subgroups" for name in within if name not in names]
    overall = _listed([_distance_text(one) for one in moved if not one.subgroup])
    listed = _listed([_distance_text(one) for one in subgroups])
    sentences = [f"Distances: {overall}."] if overall else []
    if listed:
        sentences.append(f"By {subgroup_kind(found.by, word)}: {listed}.")
    hedge = (
        "So many points of the faces would have to move to another class for both to be alike; "
        "what chance adds is taken off. Whether a shift matters for accuracy, the figures say."
    )
    heading = f"Distributions that differ: {'; '.join(names)}"
    yield Finding(heading, " ".join(sentences), hedge)


def _distance_text(one: Distance) -> str:
    where = f" of {text.subgroup_name(one.subgroup)}" if one.subgroup else ""
    found = f"{distance_name(one).lower()}{where} {text.difference(one.total_variation, 'share')}"
    if one.low is None or one.high is None:
        return found
    return f"{found} ({text.difference_interval(one.low, one.high, 'share')})"


def _listed(told: Sequence[str]) -> str:
    """The first of a list, and how many more there are."""
    rest = len(told) - MOST_NAMED
    return "; ".join(told[:MOST_NAMED]) + (f"; and {text.count(rest)} more" if rest > 0 else "")


def facts_of_tables(found: Changes, first_name: str, second_name: str) -> Iterator[tuple[str, str]]:
    """What was compared: names and values of a list of facts."""
    yield "Compared as", "the same images" if found.mode == "paired" else "different images"
    matching = found.matching
    if matching is None:
        yield "Images", f"{text.count(found.images[0])} and {text.count(found.images[1])}"
        return
    yield "Rows in both", _of_bytes(matching.matched, matching.by_bytes)
    for name, only, unclear in (
        (first_name, matching.only_first, matching.ambiguous_first),
        (second_name, matching.only_second, matching.ambiguous_second),
    ):
        if only:
            yield f"Only in {name}", text.count(only)
        if unclear:
            yield f"Ambiguous in {name}", f"{text.count(unclear)} (occur more than once)"
    if matching.other_bytes:
        yield "Same name, other bytes", f"{text.count(matching.other_bytes)} images, not compared"
    for one in found.agreement:
        if not one.subgroup and one.share.value is not None:
            bounds = text.interval(one.share.low, one.share.high, "share", " to ")
            yield (
                f"Same {task_title(one.task).lower()} predicted",
                text.quantity(one.share.value, "share") + (f" ({bounds})" if bounds else ""),
            )


def _of_bytes(matched: int, by_bytes: int) -> str:
    if not matched:
        return text.count(matched)
    if by_bytes == matched:
        return f"{text.count(matched)}, found by the bytes of the image"
    return f"{text.count(matched)}, of which {text.count(by_bytes)} by the bytes of the image"


def family(families: int, confidence: float) -> str:
    """What the intervals and p values hold for, and how many claims chance alone makes.

    Args:
        families: Families of which the page shows a tested figure.
        confidence: Of every family.
    """
    told = (
        "A family is one metric of one task over all subgroups of one grouping; within it, "
        "intervals are simultaneous and p values adjusted by Holm's method."
    )
    if not families:
        return f"{told} No figure in the tables could be tested."
    counted = f"{families} {'family' if families == 1 else 'families'}"
    return (
        f"{told} The tables show {counted}: if nothing had changed at all, about "
        f"{(1 - confidence) * families:.2g} of them would claim a change nevertheless."
    )


def is_shown(one: Change) -> bool:
    """Whether the page shows a change; the JSON holds all."""
    return one.label is None and one.metric in (*SHOWN, FAILURE_RATE)


def distance_name(one: Distance) -> str:
    """What a distance is of, in words."""
    if one.what == "measure":
        return MEASURE_TITLES.get(one.name, one.name)
    name = one.name if one.what == "subgroups" else task_title(one.name).lower()
    return DISTANCE_TITLES[one.what].format(name)
