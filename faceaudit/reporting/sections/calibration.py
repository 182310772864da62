"""Calibration: how often the model was right at each degree of confidence, by subgroup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faceaudit.audit.results import Estimate, Reliability
from faceaudit.reporting.figures import Chart, draw_reliability
from faceaudit.reporting.format import number, subgroup_name
from faceaudit.reporting.glossary import task_title
from faceaudit.reporting.subject import (
    Grouping,
    Subject,
    estimate_of,
    groupings,
    index_metrics,
    min_n,
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
from faceaudit.schema import Task

MOST_PANELS = 12
"""Groupings of more subgroups have no chart; the JSON has the bins of all."""


@dataclass(frozen=True)
class GroupCalibration:
    """One grouping: its chart, and the table of the same bins."""

    title: str
    chart: Chart
    table: Table


@dataclass(frozen=True)
class TaskCalibration:
    """One task with scores."""

    task: str
    groups: tuple[GroupCalibration, ...]


@dataclass(frozen=True)
class Calibration:
    """Values of the section."""

    min_n: int
    tasks: tuple[TaskCalibration, ...]


def gather(subject: Subject) -> Calibration | None:
    """The bins of every task with scores, None where none has any."""
    found = [
        TaskCalibration(task_title(task.name), groups)
        for task in subject.audit.tasks
        if (groups := _groups(subject, task))
    ]
    return Calibration(min_n(subject.audit), tuple(found)) if found else None


def _groups(subject: Subject, task: Task) -> tuple[GroupCalibration, ...]:
    """All faces beside the subgroups by one feature, a grouping each; all faces alone if none."""
    known = {
        frozenset(one.subgroup.items()): one
        for one in subject.audit.calibration
        if one.task == task.name and one.bins
    }
    everybody = known.get(frozenset())
    if everybody is None:
        return ()
    cuts = groupings(subject, [one.subgroup for one in known.values() if len(one.subgroup) == 1])
    shown = [cut for cut in cuts if len(cut.subgroups) < MOST_PANELS]
    return tuple(
        _group(
            subject,
            task,
            cut,
            [everybody, *(known[frozenset(one.items())] for one in cut.subgroups)],
        )
        for cut in shown or [Grouping((), "All faces", ())]
    )


def _group(
    subject: Subject, task: Task, grouping: Grouping, panels: Sequence[Reliability]
) -> GroupCalibration:
    chart = draw_reliability(panels, min_n(subject.audit), _alt(subject, task, panels))
    return GroupCalibration(grouping.title, chart, _table(subject, task, grouping, panels))


def _alt(subject: Subject, task: Task, panels: Sequence[Reliability]) -> str:
    """The calibration error of every panel in words."""
    index = index_metrics(subject.audit)
    said = []
    for one in panels:
        error = estimate_of(index, task.name, "ece", one.subgroup)
        if error is not None and error.value is not None:
            said.append(f"{subgroup_name(one.subgroup)} {number(error.value, 'share')}")
    errors = f" Calibration error: {', '.join(said)}." if said else ""
    return (
        f"Share right over confidence of {task_title(task.name).lower()}, one panel per subgroup."
        f"{errors} All values are in the table below."
    )


def _table(
    subject: Subject, task: Task, grouping: Grouping, panels: Sequence[Reliability]
) -> Table:
    footnotes = Footnotes()
    groups = [
        RowGroup(
            subgroup_name(panel.subgroup),
            tuple(
                Row(
                    f"{number(one.lower, 'share')} to {number(one.upper, 'share')}",
                    _cells(one.confidence, one.right, footnotes),
                    not one.right.suppressed and one.right.n < min_n(subject.audit),
                )
                for one in panel.bins
            ),
        )
        for panel in panels
    ]
    return Table(
        f"{task_title(task.name)}: share right by confidence, {grouping.title.lower()}",
        "Confidence",
        (Column("n", "faces"), Column("Mean confidence"), Column("Share right")),
        tuple(groups),
        footnotes.texts,
        min_n=min_n(subject.audit),
    )


def _cells(confidence: float | None, right: Estimate, footnotes: Footnotes) -> tuple[Cell, ...]:
    note = footnotes.number(right.reason)
    n = None if right.suppressed else float(right.n)
    return (
        Cell(n, "count", reason=right.reason, note=note if n is None else None),
        Cell(confidence, reason=right.reason, note=note if confidence is None else None),
        estimate_cell(right, "share", footnotes),
    )
