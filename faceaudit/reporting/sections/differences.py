"""Which gaps between subgroups chance does not explain: a sentence per grouping, then figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faceaudit.audit.power import POWER
from faceaudit.audit.results import AnyGapTest, Comparison, Estimate, PairwiseDifference, Subgroup
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

MOST_ROWS = 12
"""Pairs that a table shows; the JSON holds all."""
MOST_NAMED = 3
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
            _other(found, label_word(subject))
            for found in subject.audit.comparisons
            if found.label is None
            and not found.within
            and (found.task, found.metric) not in main
            and found.any_gap is not None
        ),
    )


def sentence(found: Comparison, word: str) -> str:
    """What a comparison allows to be said, in one plain sentence or two.

    Args:
        found: The comparison.
        word: Provenance of the labels, such as "annotated".
    """
    facts = metric_facts(found.metric)
    what = f"{task_title(found.task).lower()} {facts.title.lower()}".replace(
        "in years mae", "error"
    )
    whom = f"subgroups of {grouping_title(found.by, word)}"
    if found.any_gap is None:
        return f"Differences in {what} between {whom} were not tested: {found.reason}."
    gap, level = found.any_gap, 1 - found.confidence
    if found.shown:
        return f"{_claim(found, facts, what)} {_beyond_mix(found, word)}".strip()
    if gap.p_value <= level:
        same = f"at the same {word} {strata}, " if (strata := _strata(gap)) else ""
        return (
            f"{_capital(f'{same}{whom}')} differ in {what} ({text.probability(gap.p_value)}); as "
            "measured, no two of them can be told apart with the faces at hand."
        )
    return (
        f"No difference in {what} between {whom} can be told apart from chance "
        f"({text.probability(gap.p_value)}); {_would_have_shown(found, facts)}."
    )


def _claim(found: Comparison, facts: MetricFacts, what: str) -> str:
    """Who differs from the rest, or where nobody does, which two differ most."""
    against = sorted(
        (one for one in found.versus_rest if one.shown), key=lambda one: -abs(one.difference)
    )
    if not against:
        widest = found.shown[0]
        return f"{_capital(what)} is {_apart(widest, facts)}."
    named = "; ".join(_apart(one, facts) for one in against[:MOST_NAMED])
    more = len(against) - MOST_NAMED
    rest = f"; {more} more differ from all others" if more > 0 else ""
    return f"{_capital(what)} is {named}{rest}."


def _apart(one: PairwiseDifference, facts: MetricFacts) -> str:
    """Such as "lower for Female, Indian than for all other faces by 8.0 to 19.0 points"."""
    up = one.difference > 0
    low, high = (one.low, one.high) if up else (-one.high, -one.low)
    return (
        f"{'higher' if up else 'lower'} for {text.subgroup_name(one.first)} than for "
        f"{_other_name(one.second)} by {_bounds(low, high, facts.unit)}"
    )


def _bounds(low: float, high: float, unit: Unit) -> str:
    """Bounds of a difference above 0; a lower one that rounds to 0 must not read as 0."""
    if text.prints_as_zero(low, unit):
        return f"up to {text.difference(high, unit)}"
    return text.difference_interval(low, high, unit)


def _strata(gap: AnyGapTest) -> str:
    """What is held fixed by the test of any gap at all; empty where nothing is."""
    if not gap.method.startswith("permutation"):
        return ""
    return "ages" if "age groups" in gap.method else "classes"


def _beyond_mix(found: Comparison, word: str) -> str:
    """Whether the mix of annotated classes alone could make the difference."""
    gap = found.any_gap
    if gap is None or not (strata := _strata(gap)):
        return ""
    if gap.p_value <= 1 - found.confidence:
        return (
            f"Their mix of {word} {strata} does not explain it ({text.probability(gap.p_value)})."
        )
    return (
        f"At the same {word} {strata} no gap can be told apart from chance "
        f"({text.probability(gap.p_value)}): the subgroups differ in their mix of them."
    )


def _would_have_shown(found: Comparison, facts: MetricFacts) -> str:
    if found.smallest_detectable is None:
        return "how large a gap would have shown is not known"
    gap = text.difference(found.smallest_detectable, facts.unit)
    return f"a gap of {gap} between any two would have shown with a chance of {POWER:.0%}"


def _of_task(subject: Subject, headline: Headline) -> TaskDifferences | None:
    mine = [
        found
        for found in subject.audit.comparisons
        if (found.task, found.metric, found.label) == (headline.task, headline.metric, None)
        and not found.within
    ]
    if not mine:
        return None
    word, facts = label_word(subject), metric_facts(headline.metric)
    return TaskDifferences(
        task_title(headline.task), facts, tuple(_compared(found, facts, word) for found in mine)
    )


def _compared(found: Comparison, facts: MetricFacts, word: str) -> Compared:
    pairs = sorted(found.pairs, key=lambda pair: (not pair.shown, -abs(pair.difference)))
    rests = sorted(found.versus_rest, key=lambda one: (not one.shown, -abs(one.difference)))
    gap = found.any_gap
    left_out = [one for one in found.subgroups if one.reason is not None]
    named = "; ".join(
        f"{text.subgroup_name(one.subgroup)} ({one.reason})" for one in left_out[:MOST_ROWS]
    )
    more = len(left_out) - MOST_ROWS
    return Compared(
        _capital(grouping_title(found.by, word)),
        sentence(found, word),
        "" if gap is None else f"{text.probability(gap.p_value)}; {gap.method}",
        tuple(_row(pair, facts.unit) for pair in pairs[:MOST_ROWS]),
        len(found.shown),
        len(found.pairs),
        tuple(_row(one, facts.unit) for one in rests[:MOST_ROWS]),
        "; ".join(
            f"{text.difference(gap, facts.unit)}: {text.count(n)}" for gap, n in found.needed
        ),
        f"{named}{f'; and {more} more' if more > 0 else ''}",
    )


def _row(one: PairwiseDifference, unit: Unit) -> PairRow:
    """A difference with the higher figure first."""
    turned = one.difference < 0
    names = text.subgroup_name(one.first), _other_name(one.second)
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


def _other(found: Comparison, word: str) -> tuple[str, str, str, str]:
    facts = metric_facts(found.metric)
    if found.shown:
        widest = found.shown[0]
        said = f"differs: {_apart(widest, facts)} ({len(found.shown)} of {len(found.pairs)} pairs)"
    elif found.any_gap is not None and found.any_gap.p_value <= 1 - found.confidence:
        said = f"some gap ({text.probability(found.any_gap.p_value)}), no pair told apart"
    else:
        said = f"no difference shown; {_would_have_shown(found, facts)}"
    return task_title(found.task), facts.title, grouping_title(found.by, word), said


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
    return drawn, _capital(title)


def headline_key(headline: Headline) -> tuple[str, str]:
    """Task and metric."""
    return headline.task, headline.metric


def _panel(found: Comparison, subgroups: Sequence[Subgroup]) -> DotPanel:
    facts = metric_facts(found.metric)
    by_name = {text.subgroup_name(one.first): one for one in found.versus_rest}
    rows = [by_name.get(text.subgroup_name(subgroup)) for subgroup in subgroups]
    estimates = [Estimate(r.difference, r.low, r.high, 0) for r in rows if r]
    return DotPanel(
        f"{task_title(found.task).removesuffix(' in years')}: {facts.title}",
        scale_over(estimates, UNBOUNDED, 0.0),
        "years" if facts.unit == "years" else "",
        facts.unit == "share",
        tuple(r.difference if r else None for r in rows),
        tuple(r.low if r else None for r in rows),
        tuple(r.high if r else None for r in rows),
        tuple(r is not None and not r.shown for r in rows),
        _worst(rows, facts),
    )


def _worst(rows: Sequence[PairwiseDifference | None], facts: MetricFacts) -> int | None:
    """The row of the shown difference that is furthest on the bad side."""
    sign = 1 if facts.better == "lower" else -1
    bad = [(sign * r.difference, k) for k, r in enumerate(rows) if r and r.shown]
    return max(bad)[1] if bad and max(bad)[0] > 0 else None


def _other_name(second: Subgroup | None) -> str:
    return "all other faces" if second is None else text.subgroup_name(second)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
