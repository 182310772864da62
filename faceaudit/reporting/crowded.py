"""Audits of very many subgroups: which of them the page shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from faceaudit.audit.results import Audit, Subgroup
from faceaudit.reporting.subject import Subject

PAGE_SUBGROUPS = 100
"""Of one grouping the page shows so many subgroups; the JSON holds all."""
_Name = frozenset[tuple[str, str]]


def for_page(subject: Subject) -> Subject:
    """The subject with as many subgroups as a page can hold, and a note where some are left out.

    Of a grouping with more than ``PAGE_SUBGROUPS`` the largest are kept, and every one that is the
    worst or the best of a disparity. Disparities and verdicts are those of all subgroups.
    """
    audit = subject.audit
    crowded = _crowded(audit)
    if not crowded:
        return subject
    dropped = set()
    notes = []
    for by, sizes in crowded.items():
        named = set(_named(audit, by))
        # Ties keep the order in which they were found.
        largest = sorted(sizes, key=lambda name: -sizes[name])[:PAGE_SUBGROUPS]
        kept = named.union(largest)
        dropped |= sizes.keys() - kept
        notes.append(
            f"There are {len(sizes):,} subgroups by {' and '.join(by)}. The page shows the "
            f"{PAGE_SUBGROUPS} with the most faces and those that are the worst or the best in "
            "something; the figures of every one are in the JSON."
        )
    changed: dict[str, Any] = {
        one.name: tuple(_kept(getattr(audit, one.name), dropped))
        for one in fields(audit)
        if isinstance(getattr(audit, one.name), tuple)
    }
    changed["notes"] = (*notes, *audit.notes)
    return replace(subject, audit=replace(audit, **changed))


def _crowded(audit: Audit) -> dict[tuple[str, ...], dict[_Name, int]]:
    """Groupings with too many subgroups, each subgroup with its faces or images."""
    found: dict[tuple[str, ...], dict[_Name, int]] = {}
    for subgroup, n in _sizes(audit):
        sizes = found.setdefault(tuple(subgroup), {})
        name = frozenset(subgroup.items())
        sizes[name] = max(n, sizes.get(name, 0))
    return {by: sizes for by, sizes in found.items() if len(sizes) > PAGE_SUBGROUPS}


def _sizes(audit: Audit) -> Iterator[tuple[Subgroup, int]]:
    for coverage in audit.coverage:
        yield coverage.subgroup, 0
    for composition in audit.composition:
        yield composition.subgroup, composition.share.n
    for value in audit.metrics:
        yield value.subgroup, value.estimate.n


def _named(audit: Audit, by: tuple[str, ...]) -> Iterator[_Name]:
    for disparity in audit.disparities:
        for subgroup in (disparity.worst, disparity.best):
            if subgroup and tuple(subgroup) == by:
                yield frozenset(subgroup.items())


def _kept(facts: Iterable[Any], dropped: set[_Name]) -> Iterator[Any]:
    for fact in facts:
        subgroup = getattr(fact, "subgroup", None)
        if not isinstance(subgroup, Mapping) or frozenset(subgroup.items()) not in dropped:
            yield fact
