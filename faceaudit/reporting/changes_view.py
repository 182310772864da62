"""What a page shows of a comparison: sentences first, then a chart and tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from faceaudit.audit.changes import FAILURE_RATE, PREDICTED_SHARE, Change, Changes, Distance
from faceaudit.audit.drift import DETECTION_SCORE, SHORTER_SIDE
from faceaudit.audit.results import Estimate, Subgroup
from faceaudit.reporting import format as text
from faceaudit.reporting.figures import Chart, DotPanel, draw_dots
from faceaudit.reporting.findings import Finding
from faceaudit.reporting.glossary import (
    MetricFacts,
    Unit,
    grouping_title,
    metric_facts,
    task_title,
)
from faceaudit.reporting.tables import Footnotes, Scale, scale_over
from faceaudit.schema import AGE

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
MARKS = {"improved": "▲", "regressed": "▼", "changed": "◆"}
MOST_ROWS, MOST_NAMED = 40, 6
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
FAILURES = MetricFacts(
    FAILURE_RATE,
    "Images without a scored face",
    "share",
    "lower",
    "Share of images in which no face was scored.",
)
SHARES = MetricFacts(
    PREDICTED_SHARE,
    "Predicted share",
    "share",
    "neither",
    "Share of scored faces that are predicted as a class.",
)


@dataclass(frozen=True)
class ChangeCell:
    """One difference as a table shows it; ``note`` is the number of the footnote with a reason."""

    values: str
    difference: str
    interval: str
    verdict: str
    mark: str
    kind: str
    note: int | None


@dataclass(frozen=True)
class ChangeRow:
    """One subgroup: its name, its faces, its differences."""

    header: str
    n: int
    cells: tuple[ChangeCell, ...]
    small: bool


@dataclass(frozen=True)
class ChangeTable:
    """Differences of one task: subgroups by metrics."""

    title: str
    corner: str
    columns: tuple[str, ...]
    groups: tuple[tuple[str, tuple[ChangeRow, ...]], ...]
    footnotes: tuple[str, ...]


@dataclass(frozen=True)
class DistanceRow:
    """How far one distribution moved."""

    what: str
    header: str
    n: str
    distance: str
    interval: str
    psi: str
    ks: str
    medians: str
    p_value: str
    verdict: str


@dataclass(frozen=True)
class ChangesView:
    """Values of the section."""

    mode: str
    first_name: str
    second_name: str
    lede: str
    findings: tuple[Finding, ...]
    facts: tuple[tuple[str, str], ...]
    chart: Chart | None
    tables: tuple[ChangeTable, ...]
    more: tuple[ChangeTable, ...]
    distances: tuple[DistanceRow, ...]
    subgroup_distances: tuple[DistanceRow, ...]
    family: str
    confidence: str
    min_n: int
    notes: tuple[str, ...]


def view(found: Changes, first_name: str, second_name: str, word: str) -> ChangesView:
    """What is shown of a comparison.

    Args:
        found: The comparison.
        first_name: What the first table is called.
        second_name: What the second is called.
        word: Where classes of subgroups come from: annotated, self-reported or predicted.
    """
    confidence = f"{100 * float(found.options['confidence']):g}%"
    return ChangesView(
        found.mode,
        first_name,
        second_name,
        _lede(found, first_name, second_name, word),
        tuple(_findings(found, word)),
        tuple(_facts(found, first_name, second_name)),
        _chart(found, word),
        tuple(_tables(found, word)),
        tuple(_more(found, word)),
        tuple(_distance(one, found, word) for one in found.distances if not one.subgroup),
        tuple(_distance(one, found, word) for one in found.distances if one.subgroup),
        _family(found),
        confidence,
        int(found.options["min_n"]),
        found.notes,
    )


# --- sentences --------------------------------------------------------------------------------


def _headline(found: Changes) -> list[Change]:
    """Accuracy of every task with classes and the error in years, everybody and subgroups."""
    return [
        one
        for one in found.changes
        if one.metric in HEADLINES and one.label is None and one.failures == "left out"
    ]


def _lede(found: Changes, first_name: str, second_name: str, word: str) -> str:
    told = [one for one in _headline(found) if one.p_adjusted is not None]
    images = (
        f"the same {text.count(found.matching.matched)} faces"
        if found.mode == "paired" and found.matching
        else f"{text.count(found.images[0])} and {text.count(found.images[1])} images"
    )
    start = f"{second_name} against {first_name}, on {images}: "
    if not told:
        return start + "without labels in both, only what is predicted and missing is compared."
    better = sum(one.verdict == "improved" for one in told)
    worse = sum(one.verdict == "regressed" for one in told)
    return start + (
        f"of {text.count(len(told))} headline figures, of all faces and of {word} subgroups, "
        f"{better or 'none'} improved and {worse or 'none'} regressed; of the other "
        f"{text.count(len(told) - better - worse)} no difference is shown."
    )


def _findings(found: Changes, word: str) -> Iterator[Finding]:
    headline = _headline(found)
    for task, metric in dict.fromkeys((one.task, one.metric) for one in headline):
        own = [one for one in headline if (one.task, one.metric) == (task, metric)]
        if any(one.difference is not None for one in own):
            yield _finding(task, metric_facts(metric), own, word)
    yield from _missing(found, word)
    yield from _moved(found)


def _finding(task: str, facts: MetricFacts, own: Sequence[Change], word: str) -> Finding:
    claims = {
        verdict: [one for one in own if one.verdict == verdict and one.subgroup]
        for verdict in ("regressed", "improved")
    }
    overall = next((one for one in own if not one.subgroup), None)
    title = task_title(task).removesuffix(" in years")
    told = [f"{verdict} for {word} {_named(ones)}" for verdict, ones in claims.items() if ones]
    if overall is not None and overall.claimed:
        told.insert(0, f"{overall.verdict} over all faces")
    heading = f"{title}: {'; '.join(told) or 'no change is shown'}"
    sentences = [_overall(facts, overall)] if overall else []
    for verdict, ones in claims.items():
        if ones:
            listed = "; ".join(_difference_of(one, facts.unit) for one in ones[:MOST_NAMED])
            sentences.append(f"{verdict.capitalize()}: {listed}.")
    return Finding(heading, " ".join(sentences), _resolution(own, facts.unit))


def _named(ones: Sequence[Change]) -> str:
    names = [text.subgroup_name(one.subgroup) for one in ones[:MOST_NAMED]]
    rest = len(ones) - len(names)
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
    found = _signed(one.difference, unit)
    if one.low is None or one.high is None:
        return found
    return f"{found}, {_bounds(one.low, one.high, unit)}"


def _signed(value: float | None, unit: Unit) -> str:
    """A difference with its sign."""
    shown = text.difference(value, unit)
    if value is None or value <= 0 or shown.startswith((text.MINUS, "+")):
        return shown
    return f"+{shown}"


def _bounds(low: float, high: float, unit: Unit) -> str:
    return f"{_signed(low, unit).split(' ')[0]} to {_signed(high, unit)}"


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
    listed = "; ".join(
        f"{text.subgroup_name(one.subgroup)} {one.verdict} ({_difference_text(one, 'share')})"
        for one in claims[:MOST_NAMED]
    )
    heading = "Images without a scored face: " + (
        f"{overall.verdict}" if overall.claimed else "no difference shown over all images"
    )
    hedge = (
        "The figures above are of faces that both tables scored; a model that finds fewer faces is "
        "not flattered where failures count as errors, in the tables below."
        if found.mode == "paired"
        else ""
    )
    sentence = (
        f"{text.quantity(overall.first, 'share')} of the images, then "
        f"{text.quantity(overall.second, 'share')} ({_difference_text(overall, 'share')})."
    )
    more = f" By {word} subgroup: {listed}." if listed else ""
    yield Finding(heading, sentence + more, hedge)


def _moved(found: Changes) -> Iterator[Finding]:
    """Distributions that are not the same."""
    if not found.distances:
        return
    # Annotated classes that subgroups are formed by are told as subgroups.
    told = {by[0] for by in found.by if len(by) == 1}
    moved = [
        one
        for one in found.distances
        if one.shifted and not one.subgroup and not (one.what == "annotated" and one.name in told)
    ]
    heading = "Distributions that differ: " + (
        "; ".join(_distance_name(one).lower() for one in moved) or "none is shown to"
    )
    listed = "; ".join(
        f"{_distance_name(one).lower()} {text.difference(one.total_variation, 'share')} "
        f"({text.difference_interval(one.low or 0, one.high or 0, 'share')})"
        for one in moved
    )
    sentence = f"Distances: {listed}." if listed else "What is seen is no more than chance gives."
    hedge = (
        "So many points of the faces would have to move to another class for both to be alike; "
        "what chance adds is taken off. Whether a shift matters for accuracy, the figures say."
    )
    yield Finding(heading, sentence, hedge)


def _facts(found: Changes, first_name: str, second_name: str) -> Iterator[tuple[str, str]]:
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
    if by_bytes == matched:
        return f"{text.count(matched)}, found by the bytes of the image"
    return f"{text.count(matched)}, of which {text.count(by_bytes)} by the bytes of the image"


def _family(found: Changes) -> str:
    families = {
        (one.task, one.metric, one.by, one.failures)
        for one in found.changes
        if one.p_adjusted is not None and _is_shown(one)
    }
    alpha = 1 - float(found.options["confidence"])
    return (
        "A family is one metric of one task over all subgroups of one grouping; within it, "
        f"intervals are simultaneous and p values adjusted by Holm's method. The tables show "
        f"{len(families)} families: if nothing had changed at all, about "
        f"{max(alpha * len(families), 0.1):.1f} of them would claim a change nevertheless."
    )


# --- tables -----------------------------------------------------------------------------------


def _is_shown(one: Change) -> bool:
    return one.label is None and one.metric in (*SHOWN, FAILURE_RATE)


def _tables(found: Changes, word: str) -> Iterator[ChangeTable]:
    failed = any(one.first or one.second for one in found.changes if one.metric == FAILURE_RATE)
    for task in [*(task.name for task in found.tasks), AGE]:
        own = [one for one in found.changes if one.task == task and _is_shown(one)]
        columns = [
            (metric, "left out")
            for metric in SHOWN
            if any(one.metric == metric and one.failures == "left out" for one in own)
        ]
        if failed:
            columns += [
                (metric, "errors")
                for metric in SHOWN
                if any(one.metric == metric and one.failures == "errors" for one in own)
            ]
        if columns:
            yield _table(found, task_title(task), own, columns, word)
    rates = [one for one in found.changes if one.metric == FAILURE_RATE]
    if failed:
        yield _table(found, "Who is missing", rates, [(FAILURE_RATE, "left out")], word)


def _table(
    found: Changes,
    title: str,
    own: Sequence[Change],
    columns: Sequence[tuple[str, str]],
    word: str,
) -> ChangeTable:
    index: dict[tuple[str, str, tuple[str, ...], tuple[str, ...]], Change] = {
        (one.metric, one.failures, one.by, tuple(one.subgroup.values())): one for one in own
    }
    footnotes = Footnotes()
    groups = []
    for by in [(), *found.by]:
        subgroups = dict.fromkeys(tuple(one.subgroup.items()) for one in own if one.by == by)
        rows = []
        for items in subgroups:
            cells = [
                index.get((metric, failures, by, tuple(value for _, value in items)))
                for metric, failures in columns
            ]
            if any(cells):
                rows.append(_row(dict(items), cells, [_facts_of(m) for m, _ in columns], footnotes))
        if rows:
            heading = grouping_title(by, word) if by else ""
            groups.append((heading[:1].upper() + heading[1:], tuple(rows)))
    titles = [
        _facts_of(metric).title + (", failures as errors" if failures == "errors" else "")
        for metric, failures in columns
    ]
    return ChangeTable(title, "Subgroup", tuple(titles), tuple(groups), footnotes.texts)


def _facts_of(metric: str) -> MetricFacts:
    return {FAILURE_RATE: FAILURES, PREDICTED_SHARE: SHARES}.get(metric) or metric_facts(metric)


def _row(
    subgroup: Subgroup,
    found: Sequence[Change | None],
    facts: Sequence[MetricFacts],
    footnotes: Footnotes,
) -> ChangeRow:
    known = [one for one in found if one is not None]
    return ChangeRow(
        text.subgroup_name(subgroup),
        max(one.n for one in known),
        tuple(_cell(one, fact, footnotes) for one, fact in zip(found, facts, strict=True)),
        all(one.verdict == "few faces" for one in known),
    )


def _cell(one: Change | None, facts: MetricFacts, footnotes: Footnotes) -> ChangeCell:
    if one is None or one.difference is None:
        reason = "not computed for this subgroup" if one is None else one.reason
        return ChangeCell("", text.NOT_AVAILABLE, "", "", "", "na", footnotes.number(reason))
    first, second = (text.number(value, facts.unit) for value in (one.first, one.second))
    bounds = "" if one.low is None or one.high is None else _bounds(one.low, one.high, facts.unit)
    return ChangeCell(
        f"{first} → {second}",
        _signed(one.difference, facts.unit),
        bounds,
        one.verdict if one.claimed else "",
        MARKS.get(one.verdict, ""),
        one.verdict.split(" ")[0],
        None if bounds else footnotes.number(one.reason),
    )


def _more(found: Changes, word: str) -> Iterator[ChangeTable]:
    """Shares of the predicted classes, of everybody: what the two models say, right or wrong."""
    for task in found.tasks:
        own = [
            one
            for one in found.changes
            if one.task == task.name and one.metric == PREDICTED_SHARE and not one.subgroup
        ]
        footnotes = Footnotes()
        rows = tuple(
            replace(_row({}, [one], [SHARES], footnotes), header=text.class_name(one.label or ""))
            for one in own
        )
        if rows:
            title = f"{task_title(task.name)}: predicted shares"
            yield ChangeTable(title, "Predicted as", ("Share of scored faces",), (("", rows),), ())


# --- distances --------------------------------------------------------------------------------


def _distance_name(one: Distance) -> str:
    if one.what == "measure":
        return MEASURE_TITLES.get(one.name, one.name)
    name = one.name if one.what == "subgroups" else task_title(one.name).lower()
    return DISTANCE_TITLES[one.what].format(name)


def _distance(one: Distance, found: Changes, word: str) -> DistanceRow:
    verdict = "few faces" if one.small else "shown" if one.shifted else "not shown"
    if one.total_variation is None:
        verdict = one.reason or "n/a"
    return DistanceRow(
        _distance_name(one),
        text.subgroup_name(one.subgroup) if one.subgroup else "All",
        f"{text.count(one.first)} / {text.count(one.second)}",
        text.difference(one.total_variation, "share"),
        ""
        if one.low is None or one.high is None
        else text.difference_interval(one.low, one.high, "share"),
        text.ratio(one.psi),
        "" if one.ks is None else text.ratio(one.ks),
        "" if one.medians is None else " / ".join(f"{value:.3g}" for value in one.medians),
        _p_text(one.p_adjusted),
        verdict,
    )


def _p_text(p_value: float | None) -> str:
    if p_value is None:
        return text.NOT_AVAILABLE
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


# --- chart ------------------------------------------------------------------------------------


def _chart(found: Changes, word: str) -> Chart | None:
    """Headline differences over the finest subgroups that fit, with a line at no change."""
    headline = [one for one in _headline(found) if one.difference is not None]
    for by in reversed([(), *found.by]):
        own = [one for one in headline if one.by in ((), by)]
        subgroups = list(dict.fromkeys(tuple(one.subgroup.items()) for one in own))
        if own and 1 < len(subgroups) <= MOST_ROWS:
            return _draw(own, subgroups, grouping_title(by, word))
    return None


def _draw(
    own: Sequence[Change], subgroups: Sequence[tuple[tuple[str, str], ...]], title: str
) -> Chart:
    panels = []
    for task, metric in dict.fromkeys((one.task, one.metric) for one in own):
        chosen = {
            tuple(one.subgroup.items()): one
            for one in own
            if (one.task, one.metric) == (task, metric)
        }
        panels.append(_panel(task, metric, [chosen.get(items) for items in subgroups]))
    names = [text.subgroup_name(dict(items)) for items in subgroups]
    claims = [
        f"{task_title(one.task)} {one.verdict} for {text.subgroup_name(one.subgroup)}"
        for one in own
        if one.claimed
    ]
    alt = (
        f"Differences with simultaneous intervals for all faces and {len(names) - 1} subgroups of "
        f"{title}. {'; '.join(claims) or 'No interval that is claimed excludes no change'}. "
        "The tables below have the figures."
    )
    return draw_dots(names, (1,), panels, alt)


def _panel(task: str, metric: str, chosen: Sequence[Change | None]) -> DotPanel:
    facts = metric_facts(metric)
    factor = 100 if facts.unit == "share" else 1

    def scaled(value: float | None) -> float | None:
        return None if value is None else factor * value

    values = [scaled(one.difference) if one else None for one in chosen]
    lows = [scaled(one.low) if one else None for one in chosen]
    highs = [scaled(one.high) if one else None for one in chosen]
    estimates = [Estimate(*part, 0) for part in zip(values, lows, highs, strict=True)]
    signed = replace(facts, unit="signed_years", better="zero")
    scale = scale_over(estimates, signed, 0.0)
    regressed = [
        k for k, one in enumerate(chosen) if one is not None and one.verdict == "regressed"
    ]
    worst = max(regressed, key=lambda k: abs(values[k] or 0), default=None)
    return DotPanel(
        f"{task_title(task).removesuffix(' in years')}: {facts.title}",
        Scale(scale.low, scale.high, 0.0),
        "points" if factor == 100 else "years",
        percent=False,
        values=tuple(values),
        lows=tuple(lows),
        highs=tuple(highs),
        small=tuple(bool(one and one.verdict == "few faces") for one in chosen),
        worst=worst,
    )
