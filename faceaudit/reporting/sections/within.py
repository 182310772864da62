"""Figures within each value of a control feature, at the same mix of it, and gaps taken apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from faceaudit.audit.results import Estimate, MetricValue, Subgroup
from faceaudit.reporting.format import class_name, subgroup_name
from faceaudit.reporting.gaps import AT_SAME_MIX, Gaps, gather_gaps
from faceaudit.reporting.glossary import (
    Unit,
    feature_title,
    grouping_title,
    metric_facts,
    task_title,
)
from faceaudit.reporting.sections.performance import Spread
from faceaudit.reporting.subject import (
    Headline,
    Key,
    Subject,
    estimate_of,
    headlines,
    index_metrics,
    key,
    label_word,
    min_n,
    parts,
)
from faceaudit.reporting.tables import (
    Cell,
    Column,
    Footnotes,
    Row,
    RowGroup,
    Table,
    estimate_cell,
)

MOST_VALUES = 12
"""Values of the control feature that a table shows, those with most faces first."""
NO_FACES = "no face of this subgroup has this value"


@dataclass(frozen=True)
class Within:
    """Values of the section."""

    feature: str
    values: int
    shown: int
    tables: tuple[Table, ...]
    spreads: tuple[Spread, ...]
    gaps: tuple[Gaps, ...]


def gather(subject: Subject) -> Within | None:
    """Figures within the control feature, None where the audit has none."""
    within = subject.audit.within
    if within is None:
        return None
    index = index_metrics(subject.audit)
    values = _values(subject, within)
    shown = values[:MOST_VALUES]
    told = headlines(subject.audit)
    gaps = [gather_gaps(subject, within, one.task, one.metric) for one in told]
    return Within(
        feature_title(within, label_word(subject)),
        len(values),
        len(shown),
        tuple(_table(subject, within, shown, one, index) for one in told),
        _spreads(subject, shown),
        tuple(one for one in gaps if one is not None),
    )


def _spreads(subject: Subject, shown: Sequence[str]) -> tuple[Spread, ...]:
    """Differences between subgroups within each value that is shown."""
    told = {(one.task, one.metric) for one in headlines(subject.audit)}
    word = label_word(subject)
    return tuple(
        Spread(
            replace(metric_facts(d.metric), title=_figure(d.task, d.metric)),
            f"{grouping_title(d.by, word)}, {class_name(value)}",
            d,
            True,
        )
        for d in subject.audit.disparities
        for value in d.within.values()
        if (d.task, d.metric) in told and value in shown
    )


def _values(subject: Subject, within: str) -> list[str]:
    """Values of the control feature, those with most faces first."""
    faces: dict[str, int] = {}
    for metric in subject.audit.metrics:
        if set(metric.subgroup) == {within}:
            value = metric.subgroup[within]
            faces[value] = max(faces.get(value, 0), metric.estimate.n)
    order = next((task.classes for task in subject.audit.tasks if task.name == within), ())
    if len(faces) <= MOST_VALUES:
        known = [value for value in order if value in faces]
        return known + [value for value in faces if value not in known]
    return sorted(faces, key=lambda value: -faces[value])


def _table(
    subject: Subject,
    within: str,
    values: list[str],
    headline: Headline,
    every: Mapping[Key, MetricValue],
) -> Table:
    facts, footnotes = metric_facts(headline.metric), Footnotes()
    alike = {
        frozenset(one.subgroup.items()): one.estimate
        for one in subject.audit.standardised
        if (one.task, one.metric, one.within) == (headline.task, headline.metric, within)
    }
    subgroups = [
        m.subgroup
        for m in subject.audit.metrics
        if (m.task, m.metric) == (headline.task, headline.metric) and within not in m.subgroup
    ]
    groups = []
    for part in parts(subject, subgroups):
        rows = []
        for subgroup in part.subgroups:
            raw = estimate_of(every, headline.task, headline.metric, subgroup)
            cells = [estimate_cell(raw, facts.unit, footnotes)]
            if alike:
                cells.append(_at_same_mix(subgroup, alike, headline, footnotes))
            for value in values:
                found = every.get(key(headline.task, headline.metric, {within: value, **subgroup}))
                cells.append(
                    estimate_cell(found.estimate, facts.unit, footnotes, small=found.small)
                    if found
                    else _no_faces(facts.unit, footnotes)
                )
            few = raw is not None and bool(subgroup) and raw.n < min_n(subject.audit)
            rows.append(Row(subgroup_name(subgroup), tuple(cells), few))
        groups.append(RowGroup(part.title, tuple(rows)))
    named = feature_title(within, label_word(subject))
    together = [Column("All", "as measured", unit=facts.unit)]
    if alike:
        together.append(Column("All", "same mix", unit=facts.unit))
    return Table(
        f"{_figure(headline.task, headline.metric)} within {named}",
        "Subgroup",
        (*together, *(Column(class_name(value), unit=facts.unit) for value in values)),
        tuple(groups),
        footnotes.texts,
        min_n=min_n(subject.audit),
    )


def _figure(task: str, metric: str) -> str:
    return task_title(task) if metric == "accuracy" else metric_facts(metric).title


def _at_same_mix(
    subgroup: Subgroup,
    alike: Mapping[frozenset[tuple[str, str]], Estimate],
    headline: Headline,
    footnotes: Footnotes,
) -> Cell:
    unit = metric_facts(headline.metric).unit
    if not subgroup:
        return Cell(unit=unit, reason=AT_SAME_MIX, note=footnotes.number(AT_SAME_MIX))
    return estimate_cell(alike.get(frozenset(subgroup.items())), unit, footnotes)


def _no_faces(unit: Unit, footnotes: Footnotes) -> Cell:
    return Cell(unit=unit, reason=NO_FACES, note=footnotes.number(NO_FACES))
