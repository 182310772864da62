"""Recall, precision, F1 and AUC of every class, overall and in every subgroup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from faceaudit.audit.results import MetricValue, Subgroup
from faceaudit.reporting.format import class_name, subgroup_name
from faceaudit.reporting.glossary import MetricFacts, metric_facts, subgroup_kind, task_title
from faceaudit.reporting.subject import (
    Key,
    Subject,
    index_metrics,
    key,
    label_word,
    min_n,
    parts,
)
from faceaudit.reporting.tables import (
    Column,
    Footnotes,
    Row,
    RowGroup,
    Table,
    count_cell,
    estimate_cell,
    fold_undefined,
    scale_over,
)
from faceaudit.schema import Task

METRICS = ("f1", "recall", "precision", "auc")
BY_SUBGROUP = ("f1", "recall", "precision")
"""The AUC by subgroup stands beside the ROC curves."""


@dataclass(frozen=True)
class TaskClasses:
    """One task: its classes over all faces, and each metric by subgroup."""

    task: str
    overall: Table
    by_subgroup: tuple[tuple[MetricFacts, Table], ...]


@dataclass(frozen=True)
class Classes:
    """Values of the section."""

    label_word: str
    tasks: tuple[TaskClasses, ...]


def gather(subject: Subject) -> Classes | None:
    """Per-class figures of every task that has them."""
    labelled = {v.task for v in subject.audit.metrics if v.label and v.metric in METRICS}
    found = [
        TaskClasses(
            task_title(task.name),
            _overall(subject, task),
            tuple(
                (metric_facts(metric), class_table(subject, task, metric))
                for metric in BY_SUBGROUP
                if _has_subgroups(subject, task, metric)
            ),
        )
        for task in subject.audit.tasks
        if task.name in labelled
    ]
    return Classes(label_word(subject), tuple(found)) if found else None


def class_table(subject: Subject, task: Task, metric: str) -> Table:
    """Subgroups by classes under one metric."""
    values = [v for v in subject.audit.metrics if (v.task, v.metric) == (task.name, metric)]
    index, footnotes, facts = index_metrics(subject.audit), Footnotes(), metric_facts(metric)
    groups = [
        RowGroup(
            part.title,
            fold_undefined(
                [_subgroup_row(index, task, facts, s, footnotes) for s in part.subgroups]
            ),
        )
        for part in parts(subject, [v.subgroup for v in values])
    ]
    return Table(
        f"{task_title(task.name)}: {facts.title} of every class by "
        f"{subgroup_kind(subject.audit.by, label_word(subject))}",
        "Subgroup",
        tuple(Column(class_name(name), unit=facts.unit) for name in task.classes),
        tuple(groups),
        footnotes.texts,
        min_n=min_n(subject.audit),
    )


def _overall(subject: Subject, task: Task) -> Table:
    index, footnotes = index_metrics(subject.audit), Footnotes()
    shown = [m for m in METRICS if any(key(task.name, m, {}, c) in index for c in task.classes)]
    totals = _annotated(subject, task)
    rows = []
    for position, name in enumerate(task.classes):
        found = [index.get(key(task.name, metric, {}, name)) for metric in shown]
        cells = [
            estimate_cell(v.estimate if v else None, metric_facts(m).unit, footnotes)
            for v, m in zip(found, shown, strict=True)
        ]
        counts = [count_cell(totals[position])] if totals else []
        # A class is small by its annotated faces: few predictions of it are a finding of their own.
        small = totals[position] < min_n(subject.audit) if totals else _all_small(found)
        rows.append(Row(class_name(name), (*counts, *cells), small))
    first = [Column("n", label_word(subject))] if totals else []
    columns = [_column(subject, task, metric, plotted=metric == "f1") for metric in shown]
    return Table(
        f"{task_title(task.name)}: every class over all faces",
        f"{label_word(subject).capitalize()} class",
        (*first, *columns),
        (RowGroup("", tuple(rows)),),
        footnotes.texts,
        min_n=min_n(subject.audit),
    )


def _column(subject: Subject, task: Task, metric: str, *, plotted: bool) -> Column:
    facts = metric_facts(metric)
    if not plotted:
        return Column(facts.title, unit=facts.unit)
    estimates = [
        v.estimate
        for v in subject.audit.metrics
        if (v.task, v.metric) == (task.name, metric) and not v.subgroup
    ]
    return Column(facts.title, scale=scale_over(estimates, facts, None), unit=facts.unit)


def _annotated(subject: Subject, task: Task) -> list[int]:
    """Faces of every annotated class, empty where the audit has no confusion matrix."""
    for confusion in subject.audit.confusions:
        if confusion.task.name == task.name and not confusion.subgroup:
            return [int(n) for n in confusion.counts.sum(axis=1)]
    return []


def _has_subgroups(subject: Subject, task: Task, metric: str) -> bool:
    return any(
        v.subgroup for v in subject.audit.metrics if (v.task, v.metric) == (task.name, metric)
    )


def _subgroup_row(
    index: Mapping[Key, MetricValue],
    task: Task,
    facts: MetricFacts,
    subgroup: Subgroup,
    footnotes: Footnotes,
) -> Row:
    found = [index.get(key(task.name, facts.name, subgroup, name)) for name in task.classes]
    cells = [
        estimate_cell(v.estimate if v else None, facts.unit, footnotes, small=_is_small(v))
        for v in found
    ]
    return Row(subgroup_name(subgroup), tuple(cells))


def _is_small(found: MetricValue | None) -> bool:
    """Whether a figure that is shown is of few faces."""
    return found is not None and found.small and found.estimate.value is not None


def _all_small(found: Sequence[MetricValue | None]) -> bool:
    return all(value.small for value in found if value)
