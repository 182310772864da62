"""Audits of very many subgroups: which of them the page shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from faceaudit.audit.results import Audit, Decomposition, Subgroup
from faceaudit.reporting.subject import Subject, headlines

PAGE_SUBGROUPS = 100
"""So many subgroups the page shows of all groupings together; the JSON holds all."""
FEWEST = 2
"""Of every grouping the page shows at least so many."""
_Name = frozenset[tuple[str, str]]


def for_page(subject: Subject) -> Subject:
    """The subject with as many subgroups as a page can hold, and a note where some are left out.

    Where there are more than ``PAGE_SUBGROUPS``, small groupings stay whole, of the others the
    largest subgroups are kept, and those that are the worst or the best in a task's main figure.
    Disparities and verdicts are those of all subgroups.
    """
    audit = subject.audit
    known = _subgroups(audit)
    room = _room([len(sizes) for sizes in known.values()])
    crowded = {by: sizes for by, sizes in known.items() if len(sizes) > room}
    if not crowded:
        return subject
    dropped = set()
    notes = []
    for by, sizes in crowded.items():
        # Ties keep the order in which they were found.
        largest = sorted(sizes, key=lambda name: -sizes[name])[:room]
        dropped |= sizes.keys() - {*largest, *_named(audit, by)}
        notes.append(
            f"There are {len(sizes):,} subgroups by {' and '.join(by)}. The page shows the "
            f"{room} with the most faces and those that are the worst or the best in "
            "accuracy or mean absolute error; the figures of every one are in the JSON."
        )
    changed: dict[str, Any] = {
        one.name: tuple(_kept(getattr(audit, one.name), dropped))
        for one in fields(audit)
        if isinstance(getattr(audit, one.name), tuple)
    }
    changed["notes"] = (*notes, *audit.notes)
    return replace(subject, audit=replace(audit, **changed))


def _room(sizes: Iterable[int]) -> int:
    """How many subgroups of each grouping the page can hold; groupings with fewer leave theirs."""
    left, ascending = PAGE_SUBGROUPS, sorted(sizes)
    for place, size in enumerate(ascending):
        waiting = len(ascending) - place
        if size * waiting > left:
            return max(left // waiting, FEWEST)
        left -= size
    return PAGE_SUBGROUPS


def _subgroups(audit: Audit) -> dict[tuple[str, ...], dict[_Name, int]]:
    """The subgroups of every grouping with their faces or images."""
    found: dict[tuple[str, ...], dict[_Name, int]] = {}
    for subgroup, n in _sizes(audit):
        sizes = found.setdefault(tuple(subgroup), {})
        name = frozenset(subgroup.items())
        sizes[name] = max(n, sizes.get(name, 0))
    return found


def _sizes(audit: Audit) -> Iterator[tuple[Subgroup, int]]:
    for coverage in audit.coverage:
        yield coverage.subgroup, 0
    for composition in audit.composition:
        yield composition.subgroup, composition.share.n
    for value in audit.metrics:
        yield value.subgroup, value.estimate.n


def _named(audit: Audit, by: tuple[str, ...]) -> Iterator[_Name]:
    """The worst and the best subgroup of a grouping in the main figure of every task."""
    main = {(headline.task, headline.metric, None) for headline in headlines(audit)}
    for disparity in audit.disparities:
        if (disparity.task, disparity.metric, disparity.label) not in main:
            continue
        for subgroup in (disparity.worst, disparity.best):
            if subgroup and tuple(subgroup) == by:
                yield frozenset(subgroup.items())


def _kept(facts: Iterable[Any], dropped: set[_Name]) -> Iterator[Any]:
    for fact in facts:
        subgroup = getattr(fact, "subgroup", None)
        if isinstance(fact, Decomposition) and fact.second is None:
            subgroup = fact.first
        if not isinstance(subgroup, Mapping) or frozenset(subgroup.items()) not in dropped:
            yield fact
