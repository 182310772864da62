"""Audits of very many subgroups: which of them the page shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from faceaudit.audit.results import (
    Audit,
    ConditionedAge,
    Confusion,
    Decomposition,
    MetricValue,
    RocCurve,
    Subgroup,
)
from faceaudit.reporting.subject import Subject, headlines

PAGE_SUBGROUPS = 100
"""So many subgroups the page shows of all groupings together; the JSON holds all."""
PAGE_DETAILS = 30
"""Of so many it shows what takes a table or a line of each: classes, ages, curves, confusion."""
ENDS = "those that are the worst or the best in accuracy or mean absolute error"
FEWEST = 2
"""Of every grouping the page shows at least so many."""
_Name = frozenset[tuple[str, str]]
_Sizes = Mapping[tuple[str, ...], Mapping[_Name, int]]


def for_page(subject: Subject) -> Subject:
    """The subject with as many subgroups as a page can hold, and a note where some are left out.

    Where there are more than ``PAGE_SUBGROUPS``, small groupings stay whole, of the others the
    largest subgroups are kept, and those that are the worst or the best in a task's main figure.
    Disparities and verdicts are those of all subgroups. Details are kept of fewer likewise.
    """
    audit = subject.audit
    sizes = _subgroups(audit)
    dropped, shown = _dropped(audit, sizes, PAGE_SUBGROUPS)
    plain, detailed = _dropped(audit, sizes, PAGE_DETAILS)
    if not dropped | plain:
        return subject
    changed: dict[str, Any] = {
        one.name: tuple(_kept(getattr(audit, one.name), dropped, dropped | plain))
        for one in fields(audit)
        if isinstance(getattr(audit, one.name), tuple)
    }
    notes = [
        f"There are {size:,} subgroups by {' and '.join(by)}. The page shows the {kept} with the "
        f"most faces and {ENDS}; the figures of every one are in the JSON."
        for by, (size, kept) in shown.items()
    ]
    if detailed:
        cuts = "; ".join(f"{kept} by {' and '.join(by)}" for by, (_, kept) in detailed.items())
        notes.append(
            "By class and by age the page shows the subgroups with the most faces "
            f"({cuts}) and {ENDS}."
        )
    changed["notes"] = (*notes, *audit.notes)
    return replace(subject, audit=replace(audit, **changed))


def _dropped(
    audit: Audit, sizes: _Sizes, room: int
) -> tuple[set[_Name], dict[tuple[str, ...], tuple[int, int]]]:
    """Subgroups that find no room; of each such grouping how many there are and how many stay."""
    each = _room([len(members) for members in sizes.values()], room)
    dropped: set[_Name] = set()
    kept = {}
    for by, members in sizes.items():
        if len(members) <= each:
            continue
        # Ties keep the order in which they were found.
        largest = sorted(members, key=lambda name: -members[name])[:each]
        dropped |= members.keys() - {*largest, *_named(audit, by)}
        kept[by] = (len(members), each)
    return dropped, kept


def _room(sizes: Iterable[int], room: int) -> int:
    """How many subgroups of each grouping find room; groupings with fewer leave theirs."""
    left, ascending = room, sorted(sizes)
    for place, size in enumerate(ascending):
        waiting = len(ascending) - place
        if size * waiting > left:
            return max(left // waiting, FEWEST)
        left -= size
    return room


def _subgroups(audit: Audit) -> _Sizes:
    """The subgroups of every grouping with their faces or images."""
    found: dict[tuple[str, ...], dict[_Name, int]] = {}
    for subgroup, n in _faces(audit):
        sizes = found.setdefault(tuple(subgroup), {})
        name = frozenset(subgroup.items())
        sizes[name] = max(n, sizes.get(name, 0))
    return found


def _faces(audit: Audit) -> Iterator[tuple[Subgroup, int]]:
    for coverage in audit.coverage:
        yield coverage.subgroup, 0
    for composition in audit.composition:
        yield composition.subgroup, composition.share.n
    for value in audit.metrics:
        if value.label is None:
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


def _kept(facts: Iterable[Any], dropped: set[_Name], plain: set[_Name]) -> Iterator[Any]:
    """What is not of a dropped subgroup, nor a detail of one that is shown plainly."""
    for fact in facts:
        subgroup = getattr(fact, "subgroup", None)
        if isinstance(fact, Decomposition) and fact.second is None:
            subgroup = fact.first
        out = plain if _is_detail(fact) else dropped
        if not isinstance(subgroup, Mapping) or frozenset(subgroup.items()) not in out:
            yield fact


def _is_detail(fact: object) -> bool:
    if isinstance(fact, MetricValue):
        return fact.label is not None
    if isinstance(fact, ConditionedAge):
        return fact.age_group is not None
    return isinstance(fact, Confusion | Decomposition | RocCurve)
