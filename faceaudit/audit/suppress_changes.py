"""Small cells left out of a comparison of two tables, for privacy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.changes import FAILURE_RATE, PREDICTED_SHARE, Change, Changes, Distance
from faceaudit.audit.disclosure import IMAGES, STATUS, UNSCORED, Key, hidden_keys, key_of
from faceaudit.audit.results import Audit, Subgroup
from faceaudit.audit.suppress import (
    BEYOND_SUMS,
    REASON,
    check_suppression,
    counts_of_rules,
    suppress,
)
from faceaudit.audit.told import (
    BASES,
    EVERYBODY,
    base_key,
    counts_of,
    of_adults,
    subgroups_of,
    with_adults,
)
from faceaudit.schema import OK

Side = Literal["first", "second"]
SIDES: tuple[Side, Side] = ("first", "second")
Grouping = tuple[str, frozenset[str]]
"""A task and the features that subgroups are formed by."""


def suppress_both(
    found: Audit, changes: Changes, below: int, ruled: Audit | None = None
) -> tuple[Audit, Changes]:
    """An audit, and how its table differs from an earlier one, without small cells of either.

    What is hidden in one is hidden in the other. Of the same images the comparison counts the faces
    that both tables scored: subgroups and classes in which those are a few less than the audit's
    are left out of it, with those that would tell how many. ``ruled`` is as ``suppress`` takes it.

    Raises:
        UsageError: If ``below`` is negative.
    """
    check_suppression(below)
    told, compared = counts_of(found), _counts_of(changes)
    subgroups = subgroups_of(found) | _subgroups_of(changes)
    tables = [*told.values(), *compared.values(), *counts_of_rules(ruled).values()]
    hidden = hidden_keys(tables, below, subgroups)
    less = hidden_keys(_less(told, compared), below, subgroups)
    return suppress(found, below, hidden), suppress_changes(changes, below, hidden | less)


COMPARED_AS = {
    "labeled": ("labeled", "selection_rate"),
    "predicted": (PREDICTED_SHARE,),
    "images": ("images",),
}
"""Kinds of an audit's counts, and those of a comparison that count the same."""


def _less(
    told: Mapping[str, Mapping[Key, int]], compared: Mapping[str, Mapping[Key, int]]
) -> list[dict[Key, int]]:
    """How many faces and images of an audit its comparison leaves out."""
    found = []
    for name, table in told.items():
        kind, *task = name.split(" ", 1)
        others = (" ".join([other, *task, "second"]) for other in COMPARED_AS.get(kind, ()))
        counts = {key: n for other in others for key, n in compared.get(other, {}).items()}
        both = table.keys() & counts.keys()
        found.append({key: max(table[key] - counts[key], 0) for key in both})
    return found


def suppress_changes(found: Changes, below: int, hidden: frozenset[Key] | None = None) -> Changes:
    """The comparison without its cells of fewer than ``below`` faces or images, for privacy.

    Subgroups that are too small in either table are left out, with those that would give them away
    (see ``disclosure.hidden_keys``, whose keys may be given); figures of a class with too few faces
    are left blank. How many faces only one table has right, and on how many the two agree, is left
    out in every grouping where few are right in one alone, in both or in neither.

    Raises:
        UsageError: If ``below`` is negative.
    """
    check_suppression(below)
    options = {**found.options, "suppress_below": below}
    if not below:
        return replace(found, options=options)
    subgroups = _subgroups_of(found)
    if hidden is None:
        hidden = hidden_keys(list(_counts_of(found).values()), below, subgroups)
    paired = _small_pairs(found, below)
    shown = [one for one in found.changes if key_of(one.subgroup) not in hidden]
    note = (
        f"Cells of fewer than {below} faces or images are not shown: {len(subgroups & hidden)} "
        f"subgroups, and figures within other subgroups. {BEYOND_SUMS}"
    )
    return replace(
        found,
        changes=tuple(_without_pairs(_without_hidden(one, hidden, below), paired) for one in shown),
        agreement=tuple(
            one
            for one in found.agreement
            if key_of(one.subgroup) not in hidden
            and one.share.n >= below
            and not _tells_pairs(one.task, one.subgroup, paired)
        ),
        distances=tuple(
            one
            for one in found.distances
            if _key_of_distance(one) not in hidden and min(one.first, one.second) >= below
        ),
        notes=(*found.notes, note),
        options=options,
    )


def _subgroups_of(found: Changes) -> frozenset[Key]:
    return frozenset(key for one in found.changes if (key := key_of(one.subgroup)))


def _counts_of(found: Changes) -> dict[str, dict[Key, int]]:
    """Every count of faces or images that a comparison tells, by kind, side and key."""
    tables: dict[str, dict[Key, int]] = {}

    def tell(kind: str, key: Key | None, n: float | None) -> None:
        if key is not None and n is not None:
            tables.setdefault(kind, {}).setdefault(key, round(n))

    for side in SIDES:
        _tell_faces(found, side, tables, tell)
        _tell_failures(found, side, tables, tell)
    for both in found.agreement:
        tell(f"agreement {both.task}", key_of(both.subgroup), both.share.n)
    for distance in found.distances:
        for side in SIDES:
            name = f"{distance.what} {distance.name} {side}"
            tell(name, _key_of_distance(distance), getattr(distance, side))
    return with_adults(tables, found.tasks)


def _tell_faces(
    found: Changes, side: Side, tables: Mapping[str, Mapping[Key, int]], tell: Callable[..., None]
) -> None:
    """Faces of one side by annotated and predicted class, and those that it missed."""
    for one in sorted(found.changes, key=lambda one: one.failures == "errors"):
        labeled, faces = f"labeled {one.task} {side}", _faces_of(one)
        if one.failures == "errors":
            scored = tables.get(labeled, {}).get(faces or EVERYBODY)
            if faces is not None and scored is not None and scored <= _n(one, side):
                missed = _n(one, side) - scored
                tell(f"missed {one.task} {side}", faces | {IMAGES, UNSCORED}, missed)
        elif one.metric == "recall" or (one.metric in BASES and one.label is None):
            tell(labeled, faces, _n(one, side))
        elif of_adults(one.metric):
            tell(labeled, base_key(one.task, one.metric, one.subgroup), _n(one, side))
        elif one.metric in (PREDICTED_SHARE, "selection_rate"):
            kind = f"{one.metric} {one.task} {side}"
            tell(kind, key_of(one.subgroup), _n(one, side))
            tell(kind, _predicted(one), _part(one, side))
        elif one.metric == "precision":
            tell(f"precision {one.task} {side}", _predicted(one), _n(one, side))


def _tell_failures(
    found: Changes, side: Side, tables: Mapping[str, Mapping[Key, int]], tell: Callable[..., None]
) -> None:
    """Images of one side by whether they failed, and what images and faces tell of each other."""
    labeled = [
        (name, table)
        for name, table in tables.items()
        if name.startswith("labeled ") and name.endswith(f" {side}")
    ]
    for one in found.changes:
        if one.metric != FAILURE_RATE:
            continue
        subgroup = key_of(one.subgroup) or EVERYBODY
        images, n, failed = subgroup | {IMAGES}, _n(one, side), _part(one, side)
        kind = f"images {side}"
        tell(kind, images, n)
        if failed is not None:
            tell(kind, images | {(STATUS, "failed")}, failed)
            tell(kind, images | {(STATUS, OK)}, n - failed)
        for name, table in labeled:
            if n >= table.get(subgroup, n + 1):
                tell(f"images without {name}", images | {UNSCORED}, n - table[subgroup])


def _n(one: Change, side: Side) -> int:
    """Faces or images behind a figure of one side."""
    return one.n if one.sides is None else one.sides[SIDES.index(side)]


def _part(one: Change, side: Side) -> int | None:
    """How many faces or images a share of one side tells of."""
    share = one.first if side == "first" else one.second
    return None if share is None else round(share * _n(one, side))


def _faces_of(one: Change) -> Key | None:
    """The key of the annotated faces behind a figure."""
    return key_of(one.subgroup, **({} if one.label is None else {one.task: one.label}))


def _predicted(one: Change) -> Key | None:
    return key_of(one.subgroup, **{f"{one.task}_pred": one.label or ""})


def _key_of_distance(one: Distance) -> Key | None:
    key = key_of(one.subgroup)
    return key | {IMAGES} if key is not None and one.what == "status" else key


def _without_hidden(one: Change, hidden: frozenset[Key], below: int) -> Change:
    """A change without its figures where they would tell a number that is not shown."""
    faces = _faces_of(one)
    told = [_n(one, side) for side in SIDES]
    if one.metric in (FAILURE_RATE, PREDICTED_SHARE, "selection_rate"):
        told += [_part(one, side) or 0 for side in SIDES]
    hides = any(0 < n < below for n in told) or faces in hidden
    if one.metric == FAILURE_RATE or one.failures == "errors":
        images = (faces or EVERYBODY) | {IMAGES}
        hides = hides or images in hidden
    elif one.label is not None:
        hides = hides or _predicted(one) in hidden
    else:
        hides = hides or base_key(one.task, one.metric, one.subgroup) in hidden
    if not hides:
        return one
    return replace(
        one,
        n=0,
        sides=None,
        first=None,
        second=None,
        difference=None,
        low=None,
        high=None,
        p_value=None,
        p_adjusted=None,
        verdict="few faces",
        reason=REASON.format(below),
        only_first=None,
        only_second=None,
    )


def _small_pairs(found: Changes, below: int) -> set[Grouping]:
    """Tasks and groupings in which few faces are right in both tables, in one alone or in neither.

    Nor may the tables differ on few faces. Metrics of a task tell each other's numbers, and
    failures as errors what they add.
    """
    small: set[Grouping] = set()
    plain: dict[tuple[object, ...], NDArray[np.int64]] = {}
    for one in sorted(found.changes, key=lambda one: one.failures == "errors"):
        numbers = _outcomes(one)
        if numbers is None:
            continue
        place = (one.task, one.metric, one.label, frozenset(one.subgroup.items()))
        more = np.abs(numbers - plain.setdefault(place, numbers))
        if _few(numbers, below) or _few(more, below):
            small.add((one.task, frozenset(one.subgroup)))
    for both in found.agreement:
        differ = both.share.n * (1 - (1 if both.share.value is None else both.share.value))
        if 0 < round(differ) < below:
            small.add((both.task, frozenset(both.subgroup)))
    return small


def _outcomes(one: Change) -> NDArray[np.int64] | None:
    """Faces that only the first table has right, only the second, both, and neither."""
    if one.only_first is None or one.only_second is None or one.first is None:
        return None
    both = round(one.first * one.n) - one.only_first
    only = one.only_first, one.only_second
    return np.array([*only, both, one.n - both - sum(only)], np.int64)


def _few(numbers: NDArray[np.int64], below: int) -> bool:
    return bool(((numbers > 0) & (numbers < below)).any())


def _tells_pairs(task: str, subgroup: Subgroup, small: set[Grouping]) -> bool:
    """Whether a number is small in a grouping or a coarser one."""
    return any(name == task and coarse <= frozenset(subgroup) for name, coarse in small)


def _without_pairs(one: Change, small: set[Grouping]) -> Change:
    """A change without its paired numbers where any of its grouping is small."""
    if _tells_pairs(one.task, one.subgroup, small):
        return replace(one, only_first=None, only_second=None)
    return one
