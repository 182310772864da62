"""Who is missing: images by status, rates of failure, and figures that count failures as errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from faceaudit.audit.coverage import NOT_ANNOTATED
from faceaudit.audit.results import Coverage as Counts
from faceaudit.audit.results import Estimate, Subgroup, WithFailures
from faceaudit.reporting.format import subgroup_name
from faceaudit.reporting.glossary import (
    MetricFacts,
    grouping_title,
    metric_facts,
    subgroup_kind,
    task_title,
)
from faceaudit.reporting.subject import Subject, label_word, min_n, no_subgroups, parts
from faceaudit.reporting.tables import (
    MOST_ROWS,
    Cell,
    Column,
    Footnotes,
    Row,
    RowGroup,
    Scale,
    Table,
    count_cell,
    estimate_cell,
    scale_over,
)
from faceaudit.schema import AGE, AGE_GROUP, STATUSES

FAILURE_RATE = MetricFacts(
    "failure_rate", "Not scored", "share", "lower", "Share of images without a scored face."
)
RATES = {
    "decoding": MetricFacts("decoding", "Decoded", "share", "higher", "Share of images read."),
    "detection": MetricFacts(
        "detection", "Face found", "share", "higher", "Share of images read with a face found."
    ),
    "multi_face": MetricFacts(
        "multi_face", "Several faces", "share", "neither", "Share of scored images with several."
    ),
}
KEPT_BACK = "not shown: too few images, or the number would tell of too few"
SHOWN_TWICE = ("accuracy", "one_off", "cs_at_5")
"""Metrics that are shown with failures counted as errors; the JSON has recall as well."""


@dataclass(frozen=True)
class Coverage:
    """Values of the section."""

    label_word: str
    table: Table
    rates: Table | None
    missed: int
    """Annotated faces without a prediction, of the task that has most."""
    twice: Table | None
    twice_more: Table | None
    meanings: tuple[tuple[str, str], ...]
    no_subgroups: str
    """Why there are no subgroups; empty where there are some."""


def gather(subject: Subject) -> Coverage | None:
    """Coverage of the audited images, None where the audit has none."""
    counts = subject.audit.coverage
    if not counts:
        return None
    statuses = _statuses(counts)
    return Coverage(
        label_word(subject),
        _table(subject, counts, statuses),
        _rates(subject, counts) if any(c.rates for c in counts) else None,
        max((one.missed or 0 for one in subject.audit.with_failures), default=0),
        _twice(subject, False, "Figures on scored faces, and with failures counted as errors"),
        _twice(subject, True, "Ages: on scored faces, and with failures counted as errors"),
        tuple((status, _meaning(status)) for status in statuses),
        "" if any(c.subgroup for c in counts) else no_subgroups(subject),
    )


def _statuses(counts: Sequence[Counts]) -> list[str]:
    """Statuses that occur, in the order in which the contract lists them."""
    occurring = {str(s) for c in counts for s, n in c.statuses.items() if n or n is None}
    known = [str(status) for status in STATUSES if status in occurring]
    return known + sorted(occurring - set(known))


def _parts(subject: Subject, counts: Sequence[Counts]) -> list[tuple[str, tuple[Counts, ...]]]:
    """Everybody, then the subgroups of every grouping, and those within the control feature."""
    audit, word = subject.audit, label_word(subject)
    inside = [(audit.within, *by) for by in [(), *audit.by]] if audit.within else []
    found = [("", tuple(c for c in counts if not c.subgroup))]
    for by in [*audit.by, *inside]:
        members = tuple(c for c in counts if set(c.subgroup) == set(by))
        if members:
            title = grouping_title(by, word)
            if len(members) > MOST_ROWS:
                members = tuple(sorted(members, key=partial(_most_failures, min_n(audit))))
                title = f"{title}; most failures first, then what is not ranked"
            found.append((title[:1].upper() + title[1:], members))
    return found


def _most_failures(fewest: int, counts: Counts) -> tuple[bool, float]:
    unranked = counts.images < fewest or NOT_ANNOTATED in counts.subgroup.values()
    return unranked, -(counts.failure_rate.value or 0.0)


def _table(subject: Subject, counts: Sequence[Counts], statuses: Sequence[str]) -> Table:
    footnotes, fewest = Footnotes(), min_n(subject.audit)
    groups = [
        RowGroup(title, tuple(_row(c, statuses, fewest, footnotes) for c in members))
        for title, members in _parts(subject, counts)
    ]
    everybody = [c.failure_rate for c in counts if not c.subgroup]
    scale = _scale([c.failure_rate for c in counts], everybody, FAILURE_RATE)
    columns = [Column("Images"), *(Column(s.replace("_", " ")) for s in statuses)]
    kind = subgroup_kind(subject.audit.by, label_word(subject))
    cut = f" and {kind}" if len(groups) > 1 else ""
    return Table(
        f"Images by status{cut}",
        "Subgroup",
        (*columns, Column(FAILURE_RATE.title, scale=scale)),
        tuple(groups),
        footnotes.texts,
        min_n=fewest,
    )


def _row(counts: Counts, statuses: Sequence[str], fewest: int, footnotes: Footnotes) -> Row:
    cells = [count_cell(counts.images)]
    cells += [_status_cell(counts.statuses.get(status, 0), footnotes) for status in statuses]
    rate = estimate_cell(counts.failure_rate, "share", footnotes)
    return Row(_name(counts), (*cells, rate), _is_small(counts, fewest))


def _status_cell(n: int | None, footnotes: Footnotes) -> Cell:
    if n is None:
        return Cell(unit="count", reason=KEPT_BACK, note=footnotes.number(KEPT_BACK))
    return count_cell(n)


def _rates(subject: Subject, counts: Sequence[Counts]) -> Table:
    """Where images were lost: not decoded, no face found; and images with several faces."""
    footnotes, fewest = Footnotes(), min_n(subject.audit)
    columns = [
        Column(facts.title, scale=_rate_scale(name, counts)) for name, facts in RATES.items()
    ]
    groups = []
    for title, members in _parts(subject, counts):
        rows = []
        for one in members:
            cells = [estimate_cell(one.rates.get(name), "share", footnotes) for name in RATES]
            row = (count_cell(one.images), *cells)
            rows.append(Row(_name(one), row, _is_small(one, fewest)))
        groups.append(RowGroup(title, tuple(rows)))
    return Table(
        "Images decoded, faces found, and images with several faces",
        "Subgroup",
        (Column("Images"), *columns),
        tuple(groups),
        footnotes.texts,
        min_n=fewest,
    )


def _rate_scale(name: str, counts: Sequence[Counts]) -> Scale | None:
    rates = [c.rates[name] for c in counts if name in c.rates]
    everybody = [c.rates[name] for c in counts if name in c.rates and not c.subgroup]
    return _scale(rates, everybody, RATES[name])


def _twice(subject: Subject, of_ages: bool, caption: str) -> Table | None:
    """Shares of scored faces beside those that count failures as errors; None without labels."""
    found = [
        v
        for v in subject.audit.with_failures
        if v.metric in SHOWN_TWICE and (v.task in (AGE, AGE_GROUP)) == of_ages
    ]
    if not found:
        return None
    word, tasks = label_word(subject), _metrics_by_task(found)
    index = {(v.task, v.metric, _frozen(v.subgroup)): v for v in found}
    footnotes, groups = Footnotes(), []
    for part in parts(subject, [v.subgroup for v in found]):
        rows = [_twice_row(s, tasks, index, footnotes) for s in part.subgroups]
        groups.append(RowGroup(part.title, tuple(rows)))
    return Table(
        caption,
        "Subgroup",
        tuple(
            column
            for task, metrics in tasks.items()
            for column in (
                Column("n", f"{word} {task_title(task).lower()}"),
                *(c for metric in metrics for c in _twice_columns(task, metric)),
            )
        ),
        tuple(groups),
        footnotes.texts,
        min_n=min_n(subject.audit),
    )


def _twice_columns(task: str, metric: str) -> tuple[Column, ...]:
    title = task_title(task) if metric == "accuracy" else metric_facts(metric).title
    return (
        Column(title, "scored faces"),
        Column(title, "failures as errors"),
        Column("Difference", "points", unit="points"),
    )


def _metrics_by_task(found: Sequence[WithFailures]) -> dict[str, list[str]]:
    tasks: dict[str, list[str]] = {}
    for task, metric in dict.fromkeys((v.task, v.metric) for v in found):
        tasks.setdefault(task, []).append(metric)
    return tasks


def _twice_row(
    subgroup: Subgroup,
    tasks: Mapping[str, Sequence[str]],
    index: Mapping[tuple[str, str, frozenset[tuple[str, str]]], WithFailures],
    footnotes: Footnotes,
) -> Row:
    """A row; every task has its own faces, and may have too few of them alone."""
    cells: list[Cell] = []
    for task, metrics in tasks.items():
        each = [index.get((task, metric, _frozen(subgroup))) for metric in metrics]
        small = bool(subgroup) and any(one.small for one in each if one)
        n = max((one.with_failures.n for one in each if one), default=0)
        cells.append(replace(count_cell(n), small=small))
        for one in each:
            pair = (one.scored, one.with_failures) if one else (None, None)
            cells += [estimate_cell(e, "share", footnotes, small=small) for e in pair]
            lost = one.difference if one else None
            cells.append(estimate_cell(lost, "points", footnotes, small=small))
    return Row(subgroup_name(subgroup), tuple(cells), all(cell.small for cell in cells))


def _name(counts: Counts) -> str:
    return subgroup_name(counts.subgroup) if counts.subgroup else "All images"


def _is_small(counts: Counts, fewest: int) -> bool:
    return bool(counts.subgroup) and counts.images < fewest


def _frozen(subgroup: Subgroup) -> frozenset[tuple[str, str]]:
    return frozenset(subgroup.items())


def _scale(rates: Sequence[Estimate], everybody: Sequence[Estimate], facts: MetricFacts) -> Scale:
    return scale_over(rates, facts, everybody[0].value if everybody else None)


def _meaning(status: str) -> str:
    named = {str(known): meaning for known, meaning in STATUSES.items()}
    return named.get(status, "a status that the table brought along")
