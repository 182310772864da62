"""Which gaps between subgroups chance does not explain: a sentence per grouping, then figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faceaudit.audit.power import POWER
from faceaudit.audit.results import Comparison, Estimate, PairwiseDifference, Subgroup
from faceaudit.labels.annotations import ANNOTATED
from faceaudit.reporting import format as text
from faceaudit.reporting.figures import Chart, DotPanel, draw_dots
from faceaudit.reporting.glossary import MetricFacts, Unit, grouping_title, metric_facts, task_title
from faceaudit.reporting.subject import (
    Headline,
    Subject,
    confidence_percent,
    headlines,
    label_word,
    min_n,
)
from faceaudit.reporting.tables import scale_over
from faceaudit.reporting.told_apart import capital, in_brief, other_name, sentence, told_apart

MOST_ROWS = 12
"""Pairs that a table shows; the JSON holds all."""
MOST_CHARTED = 40
MOST_PANELS = 4
UNBOUNDED = MetricFacts("", "", "signed_groups", "zero", "")
"""What an axis of differences is drawn for."""


@dataclass(frozen=True)
class PairRow:
    """One difference: who, than whom, by how much, and how often chance does that."""

    first: str
    second: str
    difference: str
    interval: str
    p_adjusted: str
    shown: bool


@dataclass(frozen=True)
class Compared:
    """One task over one grouping: what may be said, and the differences behind it."""

    grouping: str
    sentence: str
    test: str
    pairs: tuple[PairRow, ...]
    pairs_shown: int
    pairs_in_all: int
    rests: tuple[PairRow, ...]
    needed: str
    not_tested: str


@dataclass(frozen=True)
class TaskDifferences:
    """One task: its metric and its groupings."""

    task: str
    facts: MetricFacts
    compared: tuple[Compared, ...]


@dataclass(frozen=True)
class Differences:
    """Values of the section."""

    label_word: str
    confidence: str
    min_n: int
    power: str
    tasks: tuple[TaskDifferences, ...]
    chart: Chart | None
    chart_grouping: str
    others: tuple[tuple[str, str, str, str], ...]
    """Task, metric, grouping and the verdict in a few words, of every other metric."""


def gather(subject: Subject) -> Differences | None:
    """The differences of an audit; None where nothing was compared."""
    told = headlines(subject.audit)
    tasks = tuple(found for headline in told if (found := _of_task(subject, headline)) is not None)
    if not tasks:
        return None
    chart, chart_grouping = _chart(subject, told)
    main = {(headline.task, headline.metric) for headline in told}
    return Differences(
        label_word(subject),
        confidence_percent(subject.audit),
        min_n(subject.audit),
        f"{POWER:.0%}",
        tasks,
        chart,
        chart_grouping,
        tuple(
            (
                task_title(found.task),
                metric_facts(found.metric).title,
                grouping_title(found.by, label_word(subject)),
                in_brief(told_apart(subject.in_full.audit, found, label_word(subject))),
            )
            for found in subject.audit.comparisons
            if found.label is None
            and not found.within
            and (found.task, found.metric) not in main
            and found.any_gap is not None
        ),
    )


def _of_task(subject: Subject, headline: Headline) -> TaskDifferences | None:
    mine = [
        found
        for found in subject.audit.comparisons
        if (found.task, found.metric, found.label) == (headline.task, headline.metric, None)
        and not found.within
    ]
    if not mine:
        return None
    return TaskDifferences(
        task_title(headline.task),
        metric_facts(headline.metric),
        tuple(_compared(subject, found) for found in mine),
    )


def _compared(subject: Subject, found: Comparison) -> Compared:
    word, facts = label_word(subject), metric_facts(found.metric)
    pairs = sorted(found.pairs, key=lambda pair: (not pair.shown, -abs(pair.difference)))
    rests = sorted(found.versus_rest, key=lambda one: (not one.shown, -abs(one.difference)))
    gap = found.any_gap
    left_out = [one for one in found.subgroups if one.reason is not None]
    named = "; ".join(
        f"{text.subgroup_name(one.subgroup)} ({one.reason})" for one in left_out[:MOST_ROWS]
    )
    more = len(left_out) - MOST_ROWS
    return Compared(
        capital(grouping_title(found.by, word)),
        sentence(told_apart(subject.in_full.audit, found, word)),
        ""
        if gap is None
        else f"{text.probability(gap.p_value)}; {gap.method.replace(ANNOTATED, word)}",
        tuple(_row(pair, facts.unit) for pair in pairs[:MOST_ROWS]),
        len(found.shown),
        len(found.pairs),
        tuple(_row(one, facts.unit) for one in rests[:MOST_ROWS]),
        "; ".join(
            f"{text.count(n)} for a gap of {text.difference(gap, facts.unit)}"
            for gap, n in found.needed
        ),
        f"{named}{f'; and {more} more' if more > 0 else ''}",
    )


def _row(one: PairwiseDifference, unit: Unit) -> PairRow:
    """A difference with the higher figure first."""
    turned = one.difference < 0
    names = text.subgroup_name(one.first), other_name(one.second)
    low, high = (-one.high, -one.low) if turned and one.second is not None else (one.low, one.high)
    value = abs(one.difference) if one.second is not None else one.difference
    first, second = (names[1], names[0]) if turned and one.second is not None else names
    return PairRow(
        first,
        second,
        text.difference(value, unit),
        text.difference_interval(low, high, unit),
        text.probability(one.p_adjusted),
        one.shown,
    )


def _chart(subject: Subject, told: Sequence[Headline]) -> tuple[Chart | None, str]:
    """Every subgroup of the finest grouping against all other faces, and the grouping's title."""
    word = label_word(subject)
    finest = max(subject.audit.by, key=len, default=())
    found = [
        one
        for headline in told
        for one in subject.audit.comparisons
        if (one.task, one.metric, one.label, one.by) == (*headline_key(headline), None, finest)
        and 2 < len(one.versus_rest) <= MOST_CHARTED
    ][:MOST_PANELS]
    subgroups = [one.subgroup for one in found[0].subgroups] if found else []
    if not subgroups or len(subgroups) > MOST_CHARTED:
        return None, ""
    title = grouping_title(finest, word)
    names = [text.subgroup_name(subgroup) for subgroup in subgroups]
    panels = [_panel(one, subgroups) for one in found]
    told_apart = [
        f"{panel.title}: {', '.join(text.subgroup_name(rest.first) for rest in shown)}"
        for panel, one in zip(panels, found, strict=True)
        if (shown := [rest for rest in one.versus_rest if rest.shown])
    ]
    alt = (
        f"Dots with intervals: difference of {len(names)} subgroups of {title} from all other "
        f"faces. {'Away from zero: ' + '; '.join(told_apart) if told_apart else 'None is away'}"
        ". The same figures are in the tables of this section."
    )
    first = [subgroup[finest[0]] for subgroup in subgroups]
    breaks = [k for k in range(1, len(first)) if first[k] != first[k - 1]]
    drawn = draw_dots(names, breaks if len(finest) > 1 else (), panels, alt)
    return drawn, capital(title)


def headline_key(headline: Headline) -> tuple[str, str]:
    """Task and metric."""
    return headline.task, headline.metric


def _panel(found: Comparison, subgroups: Sequence[Subgroup]) -> DotPanel:
    facts = metric_facts(found.metric)
    factor = 100 if facts.unit == "share" else 1
    by_subgroup = {frozenset(one.first.items()): one for one in found.versus_rest}
    rows = [by_subgroup.get(frozenset(subgroup.items())) for subgroup in subgroups]
    values, lows, highs = (
        tuple(factor * getattr(r, name) if r else None for r in rows)
        for name in ("difference", "low", "high")
    )
    estimates = [Estimate(*one, 0) for one in zip(values, lows, highs, strict=True)]
    return DotPanel(
        f"{task_title(found.task).removesuffix(' in years')}: {facts.title}",
        scale_over(estimates, UNBOUNDED, 0.0),
        {"share": "points", "years": "years"}.get(facts.unit, ""),
        percent=False,
        values=values,
        lows=lows,
        highs=highs,
        small=tuple(r is not None and not r.shown for r in rows),
        worst=_worst(rows, facts),
    )


def _worst(rows: Sequence[PairwiseDifference | None], facts: MetricFacts) -> int | None:
    """The row of the shown difference that is furthest on the bad side."""
    sign = 1 if facts.better == "lower" else -1
    bad = [(sign * r.difference, k) for k, r in enumerate(rows) if r and r.shown]
    return max(bad)[1] if bad and max(bad)[0] > 0 else None
