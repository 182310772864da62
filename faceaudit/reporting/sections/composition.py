"""Shares of the predicted classes among scored faces, uncorrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from faceaudit.audit.results import Composition as Share
from faceaudit.audit.results import Subgroup
from faceaudit.reporting.format import class_name, count, subgroup_name
from faceaudit.reporting.glossary import MetricFacts, task_title
from faceaudit.reporting.subject import Subject, groupings, has_labels, min_n
from faceaudit.reporting.tables import (
    Column,
    Footnotes,
    Row,
    RowGroup,
    Table,
    estimate_cell,
    scale_over,
)
from faceaudit.schema import Task

SHARE = MetricFacts("share", "Share", "share", "neither", "Share of faces predicted as a class.")


@dataclass(frozen=True)
class TaskComposition:
    """One task: the shares of its classes, overall and by subgroup."""

    task: str
    overall: Table
    by_subgroup: Table | None


@dataclass(frozen=True)
class Composition:
    """Values of the section."""

    has_labels: bool
    tasks: tuple[TaskComposition, ...]


def gather(subject: Subject) -> Composition | None:
    """Shares of every task, None where the audit has none."""
    found = []
    for task in subject.audit.tasks:
        shares = [c for c in subject.audit.composition if c.task == task.name]
        if shares:
            found.append(
                TaskComposition(
                    task_title(task.name),
                    _overall(task, [c for c in shares if not c.subgroup]),
                    _by_subgroup(subject, task, shares),
                )
            )
    return Composition(has_labels(subject.audit), tuple(found)) if found else None


def _overall(task: Task, shares: Sequence[Share]) -> Table:
    footnotes = Footnotes()
    rows = [Row(class_name(c.label), (estimate_cell(c.share, "share", footnotes),)) for c in shares]
    # Bars are compared by their length, so the axis starts at zero.
    scale = replace(scale_over([c.share for c in shares], SHARE, 0.0), bar=True)
    n = max((c.share.n for c in shares), default=0)
    return Table(
        f"{task_title(task.name)}: predicted classes of {count(n)} scored faces",
        "Predicted class",
        (Column("Share", scale=scale),),
        (RowGroup("", tuple(rows)),),
        footnotes.texts,
        kind="plain narrow",
    )


def _by_subgroup(subject: Subject, task: Task, shares: Sequence[Share]) -> Table | None:
    cuts = groupings(subject, [c.subgroup for c in shares])
    if not cuts:
        return None
    footnotes, fewest = Footnotes(), min_n(subject.audit)
    by_place = {(frozenset(c.subgroup.items()), c.label): c for c in shares}

    def row(subgroup: Subgroup) -> Row:
        found = [by_place.get((frozenset(subgroup.items()), name)) for name in task.classes]
        cells = [estimate_cell(c.share if c else None, "share", footnotes) for c in found]
        n = max((c.share.n for c in found if c), default=0)
        return Row(subgroup_name(subgroup), tuple(cells), n < fewest)

    return Table(
        f"{task_title(task.name)}: shares of the predicted classes by subgroup",
        "Subgroup",
        tuple(Column(class_name(name)) for name in task.classes),
        tuple(RowGroup(g.title, tuple(row(s) for s in g.subgroups)) for g in cuts),
        footnotes.texts,
        min_n=fewest,
    )
