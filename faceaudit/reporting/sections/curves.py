"""ROC curves of every class by subgroup, with the AUC beneath."""

from __future__ import annotations

from dataclasses import dataclass

from faceaudit.audit.results import RocCurve
from faceaudit.reporting.figures import MOST_LINES, Chart, draw_roc
from faceaudit.reporting.format import class_name, count, number, subgroup_name
from faceaudit.reporting.glossary import task_title
from faceaudit.reporting.sections.classes import class_table
from faceaudit.reporting.subject import Grouping, Subject, groupings
from faceaudit.reporting.tables import Table
from faceaudit.schema import Task

MOST_NAMED = 12


@dataclass(frozen=True)
class GroupCurves:
    """The curves of one grouping, and the subgroups that it has no room for."""

    title: str
    chart: Chart
    left_out: str


@dataclass(frozen=True)
class TaskCurves:
    """One task: its charts, the table of the AUC, and which class stands for both of two."""

    task: str
    charts: tuple[GroupCurves, ...]
    table: Table
    only_class: str | None


@dataclass(frozen=True)
class Curves:
    """Values of the section."""

    tasks: tuple[TaskCurves, ...]


def gather(subject: Subject) -> Curves | None:
    """Curves of every task with scores, None where none has any."""
    found = [
        _task_curves(subject, task)
        for task in subject.audit.tasks
        if any(c.task == task.name for c in subject.audit.roc_curves)
    ]
    return Curves(tuple(found)) if found else None


def _task_curves(subject: Subject, task: Task) -> TaskCurves:
    curves = [c for c in subject.audit.roc_curves if c.task == task.name]
    drawn = {c.label for c in curves}
    classes = [name for name in task.classes if name in drawn]
    # Of two classes, one curve is the other mirrored.
    shown = classes[-1:] if len(task.classes) == 2 else classes
    cuts = [g for g in groupings(subject, [c.subgroup for c in curves]) if g.by != (task.name,)]
    overall = Grouping((), "All faces", ())
    return TaskCurves(
        task_title(task.name),
        tuple(_group_curves(task, cut, shown, curves) for cut in cuts or [overall]),
        class_table(subject, task, "auc"),
        class_name(shown[0]) if len(shown) < len(classes) else None,
    )


def _group_curves(
    task: Task, grouping: Grouping, classes: list[str], curves: list[RocCurve]
) -> GroupCurves:
    drawn = [frozenset(one.items()) for one in ({}, *grouping.subgroups[:MOST_LINES])]
    chosen = [c for c in curves if frozenset(c.subgroup.items()) in drawn]
    left_out = [subgroup_name(one) for one in grouping.subgroups[MOST_LINES:]]
    more = len(left_out) - MOST_NAMED
    named = f"{'; '.join(left_out[:MOST_NAMED])}{f'; and {count(more)} more' if more > 0 else ''}"
    chart = draw_roc(classes, chosen, _alt(task, classes, chosen))
    return GroupCurves(grouping.title, chart, named)


def _alt(task: Task, classes: list[str], curves: list[RocCurve]) -> str:
    """The best and the worst curve of every panel in words."""
    said = []
    for label in classes:
        known = [
            (c.auc.value, subgroup_name(c.subgroup))
            for c in curves
            if c.label == label and c.auc.value is not None
        ]
        if known:
            (low, first), (high, last) = min(known), max(known)
            said.append(
                f"{class_name(label)}: AUC from {number(low, 'index')} ({first}) to "
                f"{number(high, 'index')} ({last})"
            )
    return (
        f"ROC curves of {task_title(task.name).lower()}, one panel per class, one line per "
        f"subgroup. {'; '.join(said) or 'No curve is defined'}. All values are in the table below."
    )
