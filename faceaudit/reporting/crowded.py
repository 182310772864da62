"""Audits of very many subgroups: which of them the page shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import chain, islice, zip_longest
from typing import Any

from faceaudit.audit.coverage import NOT_ANNOTATED
from faceaudit.audit.results import (
    Audit,
    ConditionedAge,
    Confusion,
    Decomposition,
    MetricValue,
    RocCurve,
    Subgroup,
)
from faceaudit.reporting.glossary import metric_facts
from faceaudit.reporting.leading import leading_gap
from faceaudit.reporting.subject import Subject, headlines, min_n

PAGE_SUBGROUPS = 100
"""So many subgroups the page shows of all groupings together; the JSON holds all."""
PAGE_DETAILS = 30
"""Of so many it shows what takes a table or a line of each: classes, ages, curves, confusion."""
FEWEST = 2
"""Of every grouping the page shows at least so many."""
_Name = frozenset[tuple[str, str]]
_Sizes = Mapping[tuple[str, ...], Mapping[_Name, int]]
_Cuts = Mapping[tuple[str, ...], tuple[int, int]]
_Rankings = Sequence[Sequence[_Name]]


def for_page(subject: Subject) -> Subject:
    """The subject with as many subgroups as a page can hold, and a note where some are left out.

    Where there are more than ``PAGE_SUBGROUPS``, small groupings stay whole. Of the others one half
    of the room is for the largest subgroups, and one for the worst in each task's main figure and
    those with the most failures, in turns; the best stay as well. Disparities and verdicts are
    those of all subgroups. Details are kept of fewer likewise.
    """
    audit = subject.audit
    sizes, rankings = _subgroups(audit), list(_rankings(audit))
    named = set(_named(audit))
    dropped, shown = _dropped(sizes, rankings, named, PAGE_SUBGROUPS)
    plain, detailed = _dropped(sizes, rankings, named, PAGE_DETAILS)
    if not dropped | plain:
        return subject
    changed: dict[str, Any] = {
        one.name: tuple(_kept(getattr(audit, one.name), dropped, dropped | plain))
        for one in fields(audit)
        if isinstance(getattr(audit, one.name), tuple)
    }
    changed["notes"] = (_note(shown, detailed), *audit.notes)
    return replace(subject, audit=replace(audit, **changed), whole=audit)


def _note(shown: _Cuts, detailed: _Cuts) -> str:
    """How many subgroups the page shows, and which."""

    def of(cuts: _Cuts) -> str:
        return ", ".join(
            f"{kept:,} of {size:,} subgroups by {' and '.join(by)}"
            for by, (kept, size) in cuts.items()
        )

    lines = [f"The page shows {of(shown)}."] if shown else []
    lines += [f"By class and by age the page shows {of(detailed)}."] if detailed else []
    return " ".join(
        [
            *lines,
            "One half of them are those with the most faces, one the worst in accuracy or mean "
            "absolute error and those with the most failures, small subgroups aside; the best are "
            "shown too. The figures of every one are in the JSON.",
        ]
    )


def _dropped(
    sizes: _Sizes, rankings: _Rankings, named: set[_Name], room: int
) -> tuple[set[_Name], _Cuts]:
    """Subgroups that find no room; of each such grouping how many stay and how many there are."""
    each = _room([len(members) for members in sizes.values()], room)
    dropped: set[_Name] = set()
    kept = {}
    for by, members in sizes.items():
        if len(members) <= each:
            continue
        # Ties keep the order in which they were found.
        largest = sorted(members, key=lambda name: -members[name])
        worst = [[name for name in ranking if name in members] for ranking in rankings]
        wanted = chain(largest[: each - each // 2], _in_turns(worst), largest)
        stay = {*islice(dict.fromkeys(wanted), each), *(members.keys() & named)}
        dropped |= members.keys() - stay
        kept[by] = (len(stay), len(members))
    return dropped, kept


def _in_turns(rankings: _Rankings) -> Iterator[_Name]:
    """The first of each, the second of each, and so on."""
    return (name for turn in zip_longest(*rankings) for name in turn if name is not None)


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


def _named(audit: Audit) -> Iterator[_Name]:
    """The subgroups that findings and tables name, of every task's main figure."""
    main = {(headline.task, headline.metric, None) for headline in headlines(audit)}
    for disparity in audit.disparities:
        if (disparity.task, disparity.metric, disparity.label) in main:
            for subgroup in filter(None, (disparity.worst, disparity.best)):
                yield frozenset(subgroup.items())
    for headline in headlines(audit):
        gap = leading_gap(audit, headline.task, headline.metric)
        for shown in filter(None, (gap.pair, gap.against_rest) if gap else ()):
            for subgroup in filter(None, (shown.first, shown.second)):
                yield frozenset(subgroup.items())


def _rankings(audit: Audit) -> Iterator[list[_Name]]:
    """Subgroups from the worst to the best: in each task's main figure, and by failures.

    Those that are too small to be ranked, or without a value, are in none.
    """
    for headline in headlines(audit):
        worse = -1 if metric_facts(headline.metric).better == "higher" else 1
        yield _ranked(
            (one.subgroup, worse * one.estimate.value)
            for one in audit.metrics
            if (one.task, one.metric) == (headline.task, headline.metric)
            and not one.small
            and one.estimate.value is not None
        )
    fewest = min_n(audit)
    yield _ranked(
        (one.subgroup, one.failure_rate.value)
        for one in audit.coverage
        if one.images >= fewest and one.failure_rate.value
        if NOT_ANNOTATED not in one.subgroup.values()
    )


def _ranked(badness: Iterable[tuple[Subgroup, float]]) -> list[_Name]:
    return [frozenset(subgroup.items()) for subgroup, _ in sorted(badness, key=lambda one: -one[1])]


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
