"""Confusion matrices as shaded tables: overall, and in every subgroup."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.results import Confusion as Counts
from faceaudit.audit.results import Subgroup
from faceaudit.reporting.format import class_name, count, subgroup_name
from faceaudit.reporting.glossary import task_title
from faceaudit.reporting.subject import Subject, groupings, label_word, min_n
from faceaudit.reporting.tables import Cell, Column, Footnotes, Row, RowGroup, Table, shade

MOST_CLASSES = 12
"""Of tasks with more, the page has the matrix of all faces alone."""
KEPT_BACK = "not shown: too few faces, or the number would tell of too few"


@dataclass(frozen=True)
class GroupMatrices:
    """The matrices of one grouping."""

    title: str
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class TaskConfusion:
    """One task: the matrix of all faces and those of the subgroups, or that they are left out."""

    task: str
    overall: Table | None
    groups: tuple[GroupMatrices, ...]
    left_out: bool


@dataclass(frozen=True)
class Confusions:
    """Values of the section."""

    label_word: str
    tasks: tuple[TaskConfusion, ...]


def gather(subject: Subject) -> Confusions | None:
    """Matrices of every task with labels, None where none has any."""
    found = [
        _task(subject, name)
        for name in dict.fromkeys(c.task.name for c in subject.audit.confusions)
    ]
    return Confusions(label_word(subject), tuple(found)) if found else None


def _task(subject: Subject, name: str) -> TaskConfusion:
    matrices = [c for c in subject.audit.confusions if c.task.name == name]
    by_subgroup = {frozenset(c.subgroup.items()): c for c in matrices}
    overall = by_subgroup.get(frozenset())
    crowded = len(matrices[0].task.classes) > MOST_CLASSES
    groups = [
        GroupMatrices(
            cut.title,
            tuple(_table(subject, by_subgroup[frozenset(s.items())], s) for s in cut.subgroups),
        )
        for cut in groupings(subject, [] if crowded else [c.subgroup for c in matrices])
    ]
    table = _table(subject, overall, {}) if overall else None
    return TaskConfusion(task_title(name), table, tuple(groups), crowded and len(matrices) > 1)


def _table(subject: Subject, confusion: Counts, subgroup: Subgroup) -> Table:
    faces = int(confusion.counts.sum())
    classes = [class_name(c) for c in confusion.task.classes]
    small = bool(confusion.subgroup) and faces < min_n(subject.audit)
    footnotes, hidden = Footnotes(), confusion.hidden
    rows = [
        _row(classes[k], confusion.counts[k], None if hidden is None else hidden[k], footnotes)
        for k in range(len(classes))
    ]
    return Table(
        f"{subgroup_name(subgroup)} (n = {count(faces)})",
        f"{label_word(subject).capitalize()} as",
        tuple(Column(c) for c in classes),
        (RowGroup("", tuple(Row(r.header, r.cells, small) for r in rows)),),
        footnotes.texts,
        kind="heat",
        min_n=min_n(subject.audit),
    )


def _row(
    header: str,
    counts: NDArray[np.int64],
    hidden: NDArray[np.bool_] | None,
    footnotes: Footnotes,
) -> Row:
    """A row of counts, shaded by their share of the row."""
    total = int(counts.sum())
    cells = [
        Cell(n / total if total else None, "share", n=n, shade=shade(n / total if total else 0, 1))
        for n in counts.tolist()
    ]
    if hidden is not None:
        blank = Cell(reason=KEPT_BACK, note=footnotes.number(KEPT_BACK) if hidden.any() else None)
        cells = [blank if out else cell for cell, out in zip(cells, hidden.tolist(), strict=True)]
    return Row(header, tuple(cells))
