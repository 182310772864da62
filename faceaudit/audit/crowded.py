"""What an audit of very many subgroups leaves out: figures that rest on next to no faces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from faceaudit.audit.results import Audit, Subgroup

MOST_IN_FULL = 200
"""Of a grouping with more subgroups, details that rest on few faces are left out."""
_Place = tuple[str, str | None, frozenset[tuple[str, str]]]


def without_thin(found: Audit, min_n: int) -> Audit:
    """The audit without details of thousands of subgroups that rest on fewer than ``min_n`` faces.

    In groupings of more than ``MOST_IN_FULL`` subgroups figures of a class stay where so many faces
    are annotated as it, those of an age group where so many are of that age, and figures with
    failures counted as errors where a face failed. Bins of calibration are left out. What is
    compared, tested and judged is not changed.

    Args:
        found: The audit.
        min_n: Fewest faces of a figure that is kept.
    """
    named = {tuple(one.subgroup.items()) for one in found.metrics}
    sizes = Counter(tuple(feature for feature, _ in name) for name in named)
    crowded = {by for by, size in sizes.items() if size > MOST_IN_FULL}
    if not crowded:
        return found
    annotated: Mapping[_Place, int] = {
        _place(one.task, one.label, one.subgroup): one.estimate.n
        for one in found.metrics
        if one.metric == "recall" and tuple(one.subgroup) in crowded
    }
    thin = {place for place, faces in annotated.items() if faces < min_n}
    return replace(
        found,
        metrics=tuple(
            one
            for one in found.metrics
            if one.label is None or _place(one.task, one.label, one.subgroup) not in thin
        ),
        conditioned_age=tuple(
            one
            for one in found.conditioned_age
            if one.age_group is None or not (one.small and tuple(one.subgroup) in crowded)
        ),
        with_failures=tuple(
            one for one in found.with_failures if one.missed or tuple(one.subgroup) not in crowded
        ),
        calibration=tuple(one for one in found.calibration if tuple(one.subgroup) not in crowded),
        notes=(*found.notes, _note(crowded, min_n)),
    )


def _place(task: str, label: str | None, subgroup: Subgroup) -> _Place:
    return task, label, frozenset(subgroup.items())


def _note(crowded: Iterable[tuple[str, ...]], min_n: int) -> str:
    cuts = " and ".join(sorted(" x ".join(by) for by in crowded))
    return (
        f"There are more than {MOST_IN_FULL} subgroups by {cuts}: of them, figures of a class or "
        f"an age group are given where they rest on at least {min_n} faces, figures with failures "
        "counted as errors where a face failed, and no bins of calibration."
    )
