"""What leaked images had changed, where they were left out."""

from __future__ import annotations

from dataclasses import dataclass

from faceaudit.audit.results import LeakEffect, LeaksLeftOut
from faceaudit.reporting.format import difference, quantity
from faceaudit.reporting.glossary import Unit, metric_facts, task_title
from faceaudit.reporting.subject import Subject
from faceaudit.reporting.tables import Column, Footnotes, Row, RowGroup, Table, estimate_cell

COLUMNS = ("All rows", "Leaked rows", "Without them")


@dataclass(frozen=True)
class LeaksSection:
    """Values of the section."""

    facts: LeaksLeftOut
    sentences: tuple[str, ...]
    table: Table


def gather(subject: Subject) -> LeaksSection | None:
    """What was left out; None where nothing was asked to be."""
    facts = subject.audit.leaks
    if facts is None:
        return None
    footnotes = Footnotes()
    rows = tuple(_row(effect, footnotes) for effect in facts.effects)
    table = Table(
        "Figures with and without the leaked rows",
        "Task",
        tuple(Column(title) for title in COLUMNS),
        (RowGroup("", rows),),
        footnotes.texts,
    )
    return LeaksSection(facts, tuple(map(_sentence, facts.effects)), table)


def _row(effect: LeakEffect, footnotes: Footnotes) -> Row:
    facts = metric_facts(effect.metric)
    cells = [
        estimate_cell(one, facts.unit, footnotes)
        for one in (effect.every, effect.leaked, effect.without)
    ]
    return Row(f"{task_title(effect.task)}: {facts.title}", tuple(cells))


def _sentence(effect: LeakEffect) -> str:
    facts = metric_facts(effect.metric)
    head = f"{task_title(effect.task)}, {_lower(facts.title)}"
    change = effect.difference
    if change.value is None:
        return f"{head}: no difference can be given ({change.reason})."
    bounds = (
        f"no interval: {change.reason}"
        if change.low is None or change.high is None
        else f"interval of the difference {_signed(change.low, change.high, facts.unit)}"
    )
    values = (
        f"{quantity(effect.every.value, facts.unit)} with them, "
        f"{quantity(effect.without.value, facts.unit)} without"
    )
    size = difference(abs(change.value), facts.unit)
    if float(size.split(" ")[0]) == 0:
        return f"{head}: nearly the same with and without the leaked rows ({values}; {bounds})."
    word = "higher" if change.value > 0 else "lower"
    return f"{head}: {size} {word} with the leaked rows ({values}; {bounds})."


def _lower(title: str) -> str:
    """A title within a sentence; abbreviations stay as they are."""
    return title if title.isupper() else title[:1].lower() + title[1:]


def _signed(low: float, high: float, unit: Unit) -> str:
    """Bounds with their signs, which tell higher from lower."""
    first, last = (f"{'+' if bound > 0 else ''}{difference(bound, unit)}" for bound in (low, high))
    return f"{first.split(' ')[0]} to {last}"
