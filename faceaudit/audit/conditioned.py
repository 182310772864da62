"""Figures conditioned on what else differs: age within subgroups, or any control feature.

Subgroups differ in their ages, and errors grow with age. Age errors are therefore given per
annotated age group in every subgroup, and for all ages together twice: as they are, and
standardized to the age distribution of the whole table. A control feature is treated likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceaudit.audit.age import AGE_METRICS
from faceaudit.audit.decomposition import (
    MEANS,
    Pair,
    Strata,
    common_mix,
    decompose,
    face_sums,
    standardised,
)
from faceaudit.audit.estimates import Options, estimate
from faceaudit.audit.metrics import METRICS, Metric, Values, ratio
from faceaudit.audit.results import (
    ConditionedAge,
    Decomposition,
    Estimate,
    Standardised,
    Subgroup,
)
from faceaudit.audit.tally import Cut, Tally, YearErrors, cut, years_by_block, years_of
from faceaudit.schema import AGE, AGE_GROUP, Task

_NAMED = {metric.name: metric for metric in [*METRICS, *AGE_METRICS]}
GROUP_FIGURES: dict[str, Metric] = {
    "exact": _NAMED["accuracy"],
    "one_off": _NAMED["one_off"],
    "step_mae": _NAMED["step_mae"],
    "mean_signed_step": _NAMED["mean_signed_step"],
}
YEAR_FIGURES: dict[str, Metric] = {
    "mae": _NAMED["mae"],
    "mean_signed_error": _NAMED["mean_signed_error"],
}
"""Figures of ``ConditionedAge.estimates`` and the metrics that they are."""


CHUNK = 24
"""Subgroups whose numbers are held in memory at a time."""
MOST_TAKEN_APART = 100
"""Subgroups of a grouping whose gap to all other faces is taken apart: those with most faces."""


@dataclass(frozen=True)
class Conditioned:
    """What was found within the values of one control feature."""

    ages: tuple[ConditionedAge, ...] = ()
    standardised: tuple[Standardised, ...] = ()
    decompositions: tuple[Decomposition, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Grouped:
    """One figure in every subgroup of a grouping, by value of a control feature."""

    task: str
    metric: Metric
    within: str
    values: tuple[str, ...]
    by: tuple[str, ...]
    subgroups: Sequence[Subgroup]
    strata: Strata
    """Sums of every subgroup, (S, G, 3)."""
    everybody: Values

    @property
    def faces(self) -> Values:
        """Faces of every subgroup, (S,)."""
        return np.asarray(self.strata.sums[..., 0].sum(axis=-1))


# --- age --------------------------------------------------------------------------------------


def condition_age(
    counted: Tally, groupings: Sequence[tuple[str, ...]], options: Options
) -> Conditioned:
    """Age error by annotated age group for everybody and in every subgroup, and gaps at equal ages.

    Args:
        counted: The tally.
        groupings: What to cut by; those by annotated age itself are left out.
        options: Confidence, and how many faces a ranked subgroup has.
    """
    task = next((task for task in counted.tasks if task.name == AGE_GROUP), None)
    if task is None or task.name not in counted.confusion:
        return Conditioned()
    ages: list[ConditionedAge] = []
    gaps: list[Decomposition] = []
    left_out: list[str] = []
    many: list[str] = []
    for by in [(), *(by for by in groupings if not _is_by_age(counted, by))]:
        cells = cut(counted, by)
        figures = {name: _by_age(counted, cells, task, one) for name, one in _figures(counted)}
        weights = common_mix(figures["exact"].strata.sums[..., 0], options.min_n) if by else None
        if weights is not None:
            left_out += _left_out(figures["exact"], weights)
        for index, rows in enumerate(_conditioned(counted, cells, task, options)):
            ages += rows
            if weights is not None:
                ages.append(_at_equal_ages(figures, index, weights, options))
        if by:
            gaps += [gap for one in figures.values() for gap in _gaps(one, options)]
            many += _of_many(by, figures["exact"], options)
    notes = (*_notes(AGE.capitalize(), "ages", left_out), *many)
    return Conditioned(tuple(ages), (), tuple(gaps), notes)


def _figures(counted: Tally) -> list[tuple[str, Metric]]:
    """Names and metrics of the figures that the ages allow."""
    years = YEAR_FIGURES if counted.errors.any() else {}
    return [*GROUP_FIGURES.items(), *years.items()]


def _is_by_age(counted: Tally, by: Sequence[str]) -> bool:
    """Whether a grouping is by annotated age itself."""
    columns = {feature.name: feature.column for feature in counted.features}
    return any(columns[name] == f"{AGE_GROUP}_true" for name in by)


def _by_age(counted: Tally, cells: Cut, task: Task, metric: Metric) -> _Grouped:
    """Sums of one figure by subgroup and annotated age group."""
    groups = len(task.classes)
    if metric.needs == "years":
        errors, sums = cells.of(counted.errors), cells.of(counted.error_sums)
        own = face_sums(metric, YearErrors(errors, sums).map(lambda part: part[:, :groups]))

        def of_blocks(index: int) -> Values:
            years = years_by_block(counted, cells, index)
            return face_sums(metric, years.map(lambda part: part[:, :groups]))
    else:
        confusion = counted.confusion[AGE_GROUP]
        own = face_sums(metric, cells.of(confusion), by_class=True)

        def of_blocks(index: int) -> Values:
            return face_sums(metric, cells.blocks(confusion, index), by_class=True)

    return _Grouped(
        AGE if metric.needs == "years" else AGE_GROUP,
        metric,
        AGE_GROUP,
        task.classes,
        cells.by,
        cells.subgroups,
        Strata(own, _blocks(counted, len(cells.subgroups), of_blocks)),
        own.sum(axis=0),
    )


def _blocks(counted: Tally, subgroups: int, of_blocks: Callable[[int], Values]) -> Values | None:
    """Sums by block of units, (B, S, G, 3); None where rows are independent."""
    if counted.unit is None or not subgroups:
        return None
    return np.stack([of_blocks(index) for index in range(subgroups)], axis=1)


def _conditioned(
    counted: Tally, cells: Cut, task: Task, options: Options
) -> Iterator[list[ConditionedAge]]:
    """Rows of every subgroup: each annotated age group, and all together."""
    for start in range(0, len(cells.subgroups), CHUNK):
        yield from _conditioned_chunk(
            counted, cells, range(start, min(start + CHUNK, len(cells.subgroups))), task, options
        )


def _conditioned_chunk(
    counted: Tally, cells: Cut, chunk: Sequence[int], task: Task, options: Options
) -> Iterator[list[ConditionedAge]]:
    size, confusion = len(task.classes), counted.confusion[AGE_GROUP]
    counts = np.stack([cells.one(confusion, index) for index in chunk])
    years = _stacked([years_of(counted, cells, index) for index in chunk])
    of_groups, of_years = None, None
    if counted.unit is not None:
        of_groups = [cells.blocks(confusion, index) for index in chunk]
        of_years = [years_by_block(counted, cells, index) for index in chunk]
    per_age = _estimates(
        _apart(counts),
        years.map(lambda part: part[:, :size]),
        None if of_groups is None else [_apart(one) for one in of_groups],
        None if of_years is None else [one.map(lambda part: part[:, :size]) for one in of_years],
        options,
    )
    together = _estimates(
        counts,
        years.map(lambda part: part.sum(axis=1)),
        of_groups,
        None if of_years is None else [one.map(lambda part: part.sum(axis=1)) for one in of_years],
        options,
    )
    faces = counts.sum(axis=-1)
    for place, index in enumerate(chunk):
        subgroup, rows = cells.subgroups[index], []
        for number in np.flatnonzero(faces[place]):
            figures = {name: one[place * size + number] for name, one in per_age[place].items()}
            small = bool(faces[place, number] < options.min_n)
            rows.append(ConditionedAge(subgroup, task.classes[number], figures, small=small))
        figures = {name: one[place] for name, one in together[place].items()}
        small = bool(faces[place].sum() < options.min_n)
        yield [*rows, ConditionedAge(subgroup, None, figures, small=small)]


def _apart(confusion: Values) -> Values:
    """Faces of each annotated class alone, (..., K, K, K), from (..., K, K)."""
    size = confusion.shape[-1]
    return np.asarray(confusion[..., None, :, :] * np.eye(size, dtype=np.int64)[:, :, None])


def _stacked(years: Sequence[YearErrors]) -> YearErrors:
    """Age errors of several subgroups along a first axis."""
    return YearErrors(
        np.stack([one.errors for one in years]), np.stack([one.sums for one in years])
    )


def _estimates(
    groups: Values,
    years: YearErrors,
    of_groups: Sequence[Values] | None,
    of_years: Sequence[YearErrors] | None,
    options: Options,
) -> list[dict[str, list[Estimate]]]:
    """Every figure of each subgroup, (S, ...) like the leading axes of the counts, flat.

    A subgroup without a single age in years has no figures of years.
    """
    found = {
        name: estimate(metric, groups, options, blocks=of_groups)
        for name, metric in GROUP_FIGURES.items()
    }
    in_years = {}
    if years.faces.any():
        in_years = {
            name: estimate(metric, years, options, blocks=of_years)
            for name, metric in YEAR_FIGURES.items()
        }
    faces = years.faces.reshape(len(groups), -1)
    return [{**found, **in_years} if own.any() else found for own in faces]


def _at_equal_ages(
    figures: Mapping[str, _Grouped], index: int, weights: Values, options: Options
) -> ConditionedAge:
    found = {name: _standardised(one, index, weights, options) for name, one in figures.items()}
    exact = figures["exact"]
    small = bool(exact.faces[index] < options.min_n)
    return ConditionedAge(exact.subgroups[index], None, found, standardised=True, small=small)


# --- any control feature ----------------------------------------------------------------------


def condition_within(
    counted: Tally, groupings: Sequence[tuple[str, ...]], within: str, options: Options
) -> Conditioned:
    """Figures of every subgroup at the same mix of a control feature, and gaps at that mix.

    Only means over faces (``decomposition.MEANS``) can be re-weighted. Age errors within annotated
    age groups are those of ``condition_age``.

    Args:
        counted: The tally, which has the control feature among its features.
        groupings: What to cut by; none of them names the control feature.
        within: The control feature.
        options: Confidence, and how many faces a ranked subgroup has.
    """
    by_age = _is_by_age(counted, (within,))
    figures = [
        (task, metric)
        for task, metric in _means_of(counted)
        if not (by_age and task in (AGE, AGE_GROUP))
    ]
    alike: list[Standardised] = []
    gaps: list[Decomposition] = []
    left_out: list[str] = []
    many: list[str] = []
    for by in groupings:
        for task, metric in figures:
            one = _by_feature(counted, by, within, task, metric)
            weights = common_mix(one.strata.sums[..., 0], options.min_n)
            gaps += _gaps(one, options)
            many += _of_many(by, one, options)
            if weights is None:
                continue
            left_out += _left_out(one, weights)
            for index, subgroup in enumerate(one.subgroups):
                found = _standardised(one, index, weights, options)
                small = bool(one.faces[index] < options.min_n)
                alike.append(Standardised(task, metric.name, within, subgroup, found, small))
    notes = _notes(within, f"mix of {within}", list(dict.fromkeys(left_out)))
    return Conditioned((), tuple(alike), tuple(gaps), (*notes, *dict.fromkeys(many)))


def _means_of(counted: Tally) -> list[tuple[str, Metric]]:
    """Every mean over faces that the tally holds, by task."""
    found = []
    for task in counted.tasks:
        kinds = {"classes"} if task.name in counted.confusion else set()
        kinds |= {"groups"} if kinds and task.ordinal else set()
        kinds |= {"losses"} if task.name in counted.losses else set()
        found += [(task.name, _NAMED[name]) for name in MEANS if _NAMED[name].needs in kinds]
    if counted.errors.any():
        found += [(AGE, _NAMED[name]) for name in MEANS if _NAMED[name].needs == "years"]
    return found


def _by_feature(
    counted: Tally, by: tuple[str, ...], within: str, task: str, metric: Metric
) -> _Grouped:
    """Sums of one figure by subgroup and value of the control feature."""
    fine = cut(counted, (*by, within))
    values = tuple(cut(counted, (within,)).subgroups[k][within] for k in _places(counted, within))
    subgroups = list(dict.fromkeys(tuple(one[name] for name in by) for one in fine.subgroups))
    own = np.zeros((len(subgroups), len(values), 3))
    blocks = None if counted.unit is None else np.zeros((counted.blocks, *own.shape))
    for index, one in enumerate(fine.subgroups):
        place = subgroups.index(tuple(one[name] for name in by)), values.index(one[within])
        own[place] = face_sums(metric, _counts(counted, fine, task, metric, index))
        if blocks is not None:
            counts = _counts(counted, fine, task, metric, index, by_block=True)
            blocks[:, place[0], place[1]] = face_sums(metric, counts)
    named = [dict(zip(by, key, strict=True)) for key in subgroups]
    return _Grouped(task, metric, within, values, by, named, Strata(own, blocks), own.sum(axis=0))


def _places(counted: Tally, within: str) -> range:
    return range(len(cut(counted, (within,)).subgroups))


def _counts(
    counted: Tally, cells: Cut, task: str, metric: Metric, index: int, *, by_block: bool = False
) -> Any:
    """What a metric needs of one subgroup, all together or by block of units."""
    read = cells.blocks if by_block else cells.one
    if metric.needs == "losses":
        return read(counted.losses[task], index)
    if metric.needs == "years":
        axis = 1 if by_block else 0
        return YearErrors(read(counted.errors, index), read(counted.error_sums, index)).map(
            lambda part: part.sum(axis=axis)
        )
    return read(counted.confusion[task], index)


# --- both -------------------------------------------------------------------------------------


def _standardised(one: _Grouped, index: int, weights: Values, options: Options) -> Estimate:
    return standardised(
        one.metric, one.strata.of(index), one.everybody, weights, one.values, options.confidence
    )


def _gaps(one: _Grouped, options: Options) -> Iterator[Decomposition]:
    """The gap of the largest ranked subgroups to all other faces, and of the worst to the best."""
    ranked = [int(index) for index in np.flatnonzero(one.faces >= options.min_n)]
    if len(ranked) < 2:
        return
    largest = sorted(ranked, key=lambda index: -one.faces[index])[:MOST_TAKEN_APART]
    pairs = [(index, None) for index in sorted(largest) if one.faces.sum() > one.faces[index]]
    for index, other in [*pairs, _worst_and_best(one, ranked)]:
        pair = Pair(
            one.subgroups[index],
            None if other is None else one.subgroups[other],
            one.strata.of(index),
            one.strata.rest(index) if other is None else one.strata.of(other),
        )
        gap, mix, rate, share, each = decompose(
            one.metric, pair, one.everybody, one.values, options.confidence
        )
        yield Decomposition(
            one.task,
            one.metric.name,
            one.within,
            one.by,
            pair.first,
            pair.second,
            gap,
            mix,
            rate,
            share,
            each,
        )


def _of_many(by: Sequence[str], one: _Grouped, options: Options) -> Iterator[str]:
    """A sentence where only some gaps were taken apart."""
    if int((one.faces >= options.min_n).sum()) > MOST_TAKEN_APART:
        yield (
            f"{one.within.replace('_', ' ').capitalize()}: of the subgroups by "
            f"{' and '.join(by)} the gaps of the {MOST_TAKEN_APART} with the most faces, and of "
            "the worst to the best, are taken apart."
        )


def _worst_and_best(one: _Grouped, ranked: Sequence[int]) -> tuple[int, int]:
    """Places of the ranked subgroups that are farthest apart, the worse first."""
    sums = one.strata.sums.sum(axis=-2)
    values = ratio(sums[:, 1], sums[:, 0])
    if one.metric.better == "zero":
        values = np.abs(values)
    lowest, *_, highest = sorted(ranked, key=lambda index: float(values[index]))
    return (lowest, highest) if one.metric.better == "higher" else (highest, lowest)


def _left_out(one: _Grouped, weights: Values) -> list[str]:
    """Values of the control feature that some ranked subgroup lacks, in words."""
    faces = one.everybody[:, 0]
    pairs = zip(one.values, weights, faces, strict=True)
    absent = [name for name, weight, n in pairs if n and not weight]
    if not absent:
        return []
    share = faces[weights == 0].sum() / faces.sum()
    return [f"by {' and '.join(one.by)} {', '.join(absent)} ({share:.1%} of the faces)"]


def _notes(subject: str, same: str, left_out: Sequence[str]) -> tuple[str, ...]:
    """One sentence for all groupings."""
    if not left_out:
        return ()
    what = "age groups" if same == "ages" else f"values of {subject}"
    return (
        f"{subject}: figures at the same {same} are standardized over the {what} that every "
        f"subgroup large enough to be ranked has. Left out: {'; '.join(left_out)}.",
    )
