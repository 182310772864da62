"""What a page shows of a comparison: sentences first, then a chart and tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from faceaudit.audit.changes import (
    FAILURE_RATE,
    PREDICTED_SHARE,
    Change,
    Changes,
    Distance,
    Failures,
)
from faceaudit.audit.results import Estimate, Subgroup
from faceaudit.reporting import format as text
from faceaudit.reporting.changes_text import (
    SHOWN,
    bounds_text,
    distance_name,
    facts_of_tables,
    family,
    findings_of,
    headline_changes,
    is_shown,
    lede,
    signed_text,
)
from faceaudit.reporting.figures import Chart, DotPanel, draw_dots
from faceaudit.reporting.findings import Finding
from faceaudit.reporting.glossary import (
    MetricFacts,
    grouping_title,
    metric_facts,
    task_title,
)
from faceaudit.reporting.tables import Footnotes, Scale, scale_over
from faceaudit.schema import AGE

MARKS = {"improved": "▲", "regressed": "▼", "changed": "◆"}
MOST_ROWS = 40
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
    """One difference as a table shows it; ``note`` is the number of the footnote with a reason.

    ``n`` is empty where the figure stands on as many faces as the row says.
    """

    values: str
    difference: str
    interval: str
    verdict: str
    mark: str
    kind: str
    note: int | None
    n: str
    small: bool


@dataclass(frozen=True)
class ChangeRow:
    """One subgroup: its name, the faces of its first figure, its differences."""

    header: str
    n: int
    cells: tuple[ChangeCell, ...]
    small: bool


@dataclass(frozen=True)
class ChangeTable:
    """Differences of one task: subgroups by metrics."""

    title: str
    corner: str
    counted: str
    """What n counts, faces or images."""
    columns: tuple[str, ...]
    groups: tuple[tuple[str, tuple[ChangeRow, ...]], ...]
    footnotes: tuple[str, ...]
    families: int
    """Families of which the table shows a figure that was tested; no other table shows them."""


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
        word: What the labels are called, such as annotated or self-reported.
    """
    confidence = float(found.options["confidence"])
    tables, more = tuple(_tables(found, word)), tuple(_more(found))
    return ChangesView(
        found.mode,
        first_name,
        second_name,
        lede(found, first_name, second_name, word),
        tuple(findings_of(found, word)),
        tuple(facts_of_tables(found, first_name, second_name)),
        _chart(found, word),
        tables,
        more,
        tuple(_distance(one, found, word) for one in found.distances if not one.subgroup),
        tuple(_distance(one, found, word) for one in found.distances if one.subgroup),
        family(sum(table.families for table in (*tables, *more)), confidence),
        f"{100 * confidence:g}%",
        int(found.options["min_n"]),
        found.notes,
    )


# --- tables -----------------------------------------------------------------------------------


def _tables(found: Changes, word: str) -> Iterator[ChangeTable]:
    failed = any(one.first or one.second for one in found.changes if one.metric == FAILURE_RATE)
    for task in [*(task.name for task in found.tasks), AGE]:
        own = [one for one in found.changes if one.task == task and is_shown(one)]
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
    groups, families = [], set()
    for by in [(), *found.by]:
        subgroups = dict.fromkeys(tuple(one.subgroup.items()) for one in own if one.by == by)
        rows = []
        for items in subgroups:
            cells = [
                index.get((metric, failures, by, tuple(value for _, value in items)))
                for metric, failures in columns
            ]
            families |= _tested(one for one in cells if one is not None)
            if any(cells):
                rows.append(_row(dict(items), cells, [_facts_of(m) for m, _ in columns], footnotes))
        if rows:
            heading = grouping_title(by, word) if by else ""
            groups.append((heading[:1].upper() + heading[1:], tuple(rows)))
    titles = [
        _facts_of(metric).title + (", failures as errors" if failures == "errors" else "")
        for metric, failures in columns
    ]
    counted = "images" if (FAILURE_RATE, "left out") in columns else "faces"
    return ChangeTable(
        title, "Subgroup", counted, tuple(titles), tuple(groups), footnotes.texts, len(families)
    )


def _tested(shown: Iterable[Change]) -> set[tuple[str, str, tuple[str, ...], Failures]]:
    """Families that were tested, of figures that are shown."""
    return {
        (one.task, one.metric, one.by, one.failures) for one in shown if one.p_adjusted is not None
    }


def _facts_of(metric: str) -> MetricFacts:
    return {FAILURE_RATE: FAILURES, PREDICTED_SHARE: SHARES}.get(metric) or metric_facts(metric)


def _row(
    subgroup: Subgroup,
    found: Sequence[Change | None],
    facts: Sequence[MetricFacts],
    footnotes: Footnotes,
) -> ChangeRow:
    known = [one for one in found if one is not None]
    n = next((one.n for one in known if one.difference is not None), known[0].n)
    return ChangeRow(
        text.subgroup_name(subgroup),
        n,
        tuple(_cell(one, fact, footnotes, n) for one, fact in zip(found, facts, strict=True)),
        all(one.verdict == "few faces" for one in known),
    )


def _cell(one: Change | None, facts: MetricFacts, footnotes: Footnotes, of_row: int) -> ChangeCell:
    if one is None or one.difference is None:
        reason = "not computed for this subgroup" if one is None else one.reason
        note = footnotes.number(reason)
        return ChangeCell("", text.NOT_AVAILABLE, "", "", "", "na", note, "", small=False)
    first, second = (text.number(value, facts.unit) for value in (one.first, one.second))
    bounds = (
        "" if one.low is None or one.high is None else bounds_text(one.low, one.high, facts.unit)
    )
    return ChangeCell(
        f"{first} → {second}",
        signed_text(one.difference, facts.unit),
        bounds,
        one.verdict if one.claimed else "",
        MARKS.get(one.verdict, ""),
        one.verdict.split(" ")[0],
        None if bounds else footnotes.number(one.reason),
        "" if one.n == of_row else text.count(one.n),
        one.verdict == "few faces",
    )


def _more(found: Changes) -> Iterator[ChangeTable]:
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
            columns = ("Share of scored faces",)
            groups = (("", rows),)
            yield ChangeTable(
                title, "Predicted as", "faces", columns, groups, footnotes.texts, len(_tested(own))
            )


# --- distances --------------------------------------------------------------------------------


def _distance(one: Distance, found: Changes, word: str) -> DistanceRow:
    verdict = "few faces" if one.small else "shown" if one.shifted else "not shown"
    if one.total_variation is None:
        verdict = one.reason or "n/a"
    return DistanceRow(
        distance_name(one),
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
    headline = [one for one in headline_changes(found) if one.difference is not None]
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
