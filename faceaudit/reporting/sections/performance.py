"""Every task's metrics in every subgroup, and the largest differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faceaudit.audit.results import Disparity, MetricValue, Subgroup
from faceaudit.reporting.format import subgroup_name
from faceaudit.reporting.glossary import (
    MetricFacts,
    grouping_title,
    metric_facts,
    subgroup_kind,
    task_title,
)
from faceaudit.reporting.subject import (
    Key,
    Subject,
    index_metrics,
    key,
    label_word,
    labels_are,
    min_n,
    parts,
)
from faceaudit.reporting.tables import (
    MOST_ROWS,
    Cell,
    Column,
    Footnotes,
    Row,
    RowGroup,
    Table,
    count_cell,
    estimate_cell,
    scale_over,
)

COLUMNS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "ece")
PLOTTED = {"accuracy", "mae", "mean_signed_error", "step_mae", "mean_signed_step"}
"""Metrics whose column has a dot with its interval beside every number."""

MAIN = {"accuracy", "mae", "step_mae"}
"""Metrics whose differences are seen at once."""


@dataclass(frozen=True)
class Spread:
    """One row of the differences: the ends of one grouping under one metric.

    ``main`` rows are seen at once, the others are folded away.
    """

    facts: MetricFacts
    grouping: str
    disparity: Disparity
    main: bool


@dataclass(frozen=True)
class TaskPerformance:
    """One task: its table and its differences."""

    task: str
    name: str
    labelled: int
    table: Table
    spreads: tuple[Spread, ...]


@dataclass(frozen=True)
class Performance:
    """Values of the section."""

    label_word: str
    labels_are: str
    subgroup_kind: str
    tasks: tuple[TaskPerformance, ...]


def gather(subject: Subject) -> Performance | None:
    """Performance of every task with labels, None where none has any."""
    kind = subgroup_kind(subject.audit.by, label_word(subject))
    found = [
        TaskPerformance(
            task_title(task.name),
            task.name,
            subject.audit.labelled.get(task.name, 0),
            metric_table(
                subject,
                task.name,
                COLUMNS,
                f"{task_title(task.name)}: performance by {kind}",
            ),
            spreads_of(subject, task.name, COLUMNS),
        )
        for task in subject.audit.tasks
        if any(v.task == task.name and v.metric in COLUMNS for v in subject.audit.metrics)
    ]
    if not found:
        return None
    return Performance(label_word(subject), labels_are(subject.audit), kind, tuple(found))


def metric_table(subject: Subject, task: str, metrics: Sequence[str], caption: str) -> Table:
    """Subgroups by metrics, the overall row first; only metrics that the audit has."""
    values = [
        v for v in subject.audit.metrics if v.task == task and v.metric in metrics and not v.label
    ]
    shown = [m for m in metrics if any(v.metric == m for v in values)]
    index, footnotes = index_metrics(subject.audit), Footnotes()
    groups = []
    for part in parts(subject, [v.subgroup for v in values]):
        order, title = part.subgroups, part.title
        if len(order) > MOST_ROWS and shown:
            facts = metric_facts(shown[0])
            order = _worst_first(index, task, facts, order)
            title = f"{title}; worst {facts.title} first, then what is too small to rank"
        rows = [_row(index, task, shown, subgroup, footnotes) for subgroup in order]
        groups.append(RowGroup(title, tuple(rows)))
    columns = [Column("n", "faces"), *(_column(values, task, m, index) for m in shown)]
    return Table(
        caption,
        "Subgroup",
        tuple(columns),
        tuple(groups),
        footnotes.texts,
        min_n=min_n(subject.audit),
    )


def _worst_first(
    index: Mapping[Key, MetricValue], task: str, facts: MetricFacts, subgroups: Sequence[Subgroup]
) -> tuple[Subgroup, ...]:
    """Ranked subgroups from the worst to the best, then those that are small or have no value."""

    def place(subgroup: Subgroup) -> tuple[bool, float]:
        found = index.get(key(task, facts.name, subgroup))
        if found is None or found.small or found.estimate.value is None:
            return True, 0.0
        value = found.estimate.value
        return False, value if facts.better == "higher" else -abs(value)

    return tuple(sorted(subgroups, key=place))


def spreads_of(subject: Subject, task: str, metrics: Sequence[str]) -> tuple[Spread, ...]:
    """The differences of a task, in the order of the metrics and groupings."""
    found = [
        d
        for d in subject.audit.disparities
        if d.task == task and d.metric in metrics and not d.label and not d.within
    ]
    found.sort(key=lambda d: metrics.index(d.metric))
    word = label_word(subject)
    return tuple(
        Spread(metric_facts(d.metric), grouping_title(d.by, word), d, d.metric in MAIN)
        for d in found
    )


def _column(
    values: Sequence[MetricValue], task: str, metric: str, index: Mapping[Key, MetricValue]
) -> Column:
    facts = metric_facts(metric)
    if metric not in PLOTTED:
        return Column(facts.title, unit=facts.unit)
    estimates = [v.estimate for v in values if v.metric == metric]
    overall = index.get(key(task, metric, {}))
    mark = overall.estimate.value if overall else None
    return Column(facts.title, scale=scale_over(estimates, facts, mark), unit=facts.unit)


def _row(
    index: Mapping[Key, MetricValue],
    task: str,
    metrics: Sequence[str],
    subgroup: Subgroup,
    footnotes: Footnotes,
) -> Row:
    found = [index.get(key(task, metric, subgroup)) for metric in metrics]
    cells: list[Cell] = [
        estimate_cell(v.estimate if v else None, metric_facts(metric).unit, footnotes)
        for v, metric in zip(found, metrics, strict=True)
    ]
    n = max((v.estimate.n for v in found if v), default=0)
    small = any(v.small for v in found if v)
    return Row(subgroup_name(subgroup), (count_cell(n), *cells), small)
