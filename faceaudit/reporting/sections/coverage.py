"""Images by status, and the share without a scored face, in every annotated subgroup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faceaudit.audit.results import Coverage as Counts
from faceaudit.audit.results import Estimate
from faceaudit.reporting.format import subgroup_name
from faceaudit.reporting.glossary import MetricFacts
from faceaudit.reporting.subject import Subject, groupings, label_word, min_n
from faceaudit.reporting.tables import (
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
from faceaudit.schema import STATUSES

FAILURE_RATE = MetricFacts(
    "failure_rate", "Not scored", "share", "lower", "Share of images without a scored face."
)


@dataclass(frozen=True)
class Coverage:
    """Values of the section."""

    label_word: str
    table: Table
    meanings: tuple[tuple[str, str], ...]
    by_subgroup: bool


def gather(subject: Subject) -> Coverage | None:
    """Coverage of the audited images, None where the audit has none."""
    counts = subject.audit.coverage
    if not counts:
        return None
    statuses = _statuses(counts)
    return Coverage(
        label_word(subject),
        _table(subject, counts, statuses),
        tuple((status, _meaning(status)) for status in statuses),
        any(c.subgroup for c in counts),
    )


def _statuses(counts: Sequence[Counts]) -> list[str]:
    """Statuses that occur, in the order in which the contract lists them."""
    occurring = {str(s) for c in counts for s, n in c.statuses.items() if n}
    known = [str(status) for status in STATUSES if status in occurring]
    return known + sorted(occurring - set(known))


def _table(subject: Subject, counts: Sequence[Counts], statuses: Sequence[str]) -> Table:
    footnotes = Footnotes()
    by_subgroup = {frozenset(c.subgroup.items()): c for c in counts}
    everybody = [c for c in counts if not c.subgroup]
    parts = [("", everybody)] + [
        (g.title, [by_subgroup[frozenset(s.items())] for s in g.subgroups])
        for g in groupings(subject, [c.subgroup for c in counts])
    ]
    fewest = min_n(subject.audit)
    groups = [
        RowGroup(title, tuple(_row(c, statuses, fewest, footnotes) for c in members))
        for title, members in parts
    ]
    scale = _scale([c.failure_rate for c in counts], everybody)
    columns = [Column("Images"), *(Column(s.replace("_", " ")) for s in statuses)]
    cut = f" and {label_word(subject)} subgroup" if len(groups) > 1 else ""
    return Table(
        f"Images by status{cut}",
        "Subgroup",
        (*columns, Column(FAILURE_RATE.title, scale=scale)),
        tuple(groups),
        footnotes.texts,
        min_n=fewest,
    )


def _row(counts: Counts, statuses: Sequence[str], fewest: int, footnotes: Footnotes) -> Row:
    name = subgroup_name(counts.subgroup) if counts.subgroup else "All images"
    cells = [count_cell(counts.images)]
    cells += [count_cell(counts.statuses.get(status, 0)) for status in statuses]
    rate = estimate_cell(counts.failure_rate, "share", footnotes)
    return Row(name, (*cells, rate), bool(counts.subgroup) and counts.images < fewest)


def _scale(rates: Sequence[Estimate], everybody: Sequence[Counts]) -> Scale:
    mark = everybody[0].failure_rate.value if everybody else None
    return scale_over(rates, FAILURE_RATE, mark)


def _meaning(status: str) -> str:
    named = {str(known): meaning for known, meaning in STATUSES.items()}
    return named.get(status, "a status that the table brought along")
