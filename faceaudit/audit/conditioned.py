"""Age error conditioned on gender and race: per annotated age group in every subgroup.

Subgroups differ in their ages, and errors grow with age; all ages together are therefore given
twice, as they are and standardized to the age distribution of the whole table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from faceaudit.audit.age import AGE_METRICS
from faceaudit.audit.estimates import ClassCounts, Options, class_counts, estimate
from faceaudit.audit.intervals import normal_quantile, spread_around
from faceaudit.audit.metrics import METRICS, Metric, Values, ratio
from faceaudit.audit.results import ConditionedAge, Estimate, Subgroup
from faceaudit.audit.tally import Numbers, Tally, YearErrors, cut, years_of
from faceaudit.schema import AGE_GROUP, Task

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


@dataclass(frozen=True)
class _Cell:
    """The faces of one subgroup by annotated age group."""

    subgroup: Subgroup
    groups: ClassCounts  # (G, G): faces by annotated and predicted age group
    years: YearErrors  # (G + 1, ...)

    def by_age(self) -> tuple[ClassCounts, YearErrors]:
        """The same with a leading axis of annotated age groups, (G, G, G) and (G, ...)."""
        size = self.groups.counts.shape[-1]
        pick = np.eye(size, dtype=np.int64)[:, :, None]
        apart = ClassCounts(self.groups.counts * pick, self.groups.draws[:, None] * pick)
        return apart, self.years.map(lambda part: part[:size])

    def together(self) -> tuple[ClassCounts, YearErrors]:
        """All ages together."""
        return self.groups, self.years.map(lambda part: part.sum(axis=0))


def condition_age(
    counted: Tally, groupings: Sequence[tuple[str, ...]], options: Options
) -> tuple[list[ConditionedAge], list[str]]:
    """Age error by annotated age group for everybody and in every subgroup, and notes."""
    task = next((task for task in counted.tasks if task.name == AGE_GROUP), None)
    if task is None or task.name not in counted.confusion:
        return [], []
    found: list[ConditionedAge] = []
    left_out: list[str] = []
    for by in [(), *(by for by in groupings if not _is_by_age(counted, by))]:
        cells = _cells(counted, by, options)
        weights = _common_ages([cell.groups.counts for cell in cells], options.min_n)
        if by and weights is not None:
            everybody = cut(counted, ()).one(counted.confusion[AGE_GROUP], 0)
            left_out += _ages_left_out(task, by, weights, everybody)
        for cell in cells:
            found += _conditioned(task, cell, weights if by else None, options)
    return found, _notes_of_common_ages(left_out)


def _is_by_age(counted: Tally, by: Sequence[str]) -> bool:
    """Whether a grouping is by annotated age itself."""
    columns = {feature.name: feature.column for feature in counted.features}
    return any(columns[name] == f"{AGE_GROUP}_true" for name in by)


def _cells(counted: Tally, by: Sequence[str], options: Options) -> list[_Cell]:
    cells = cut(counted, by)
    groups = cells.of(counted.confusion[AGE_GROUP])
    return [
        _Cell(
            subgroup,
            class_counts(groups[index], AGE_GROUP, subgroup, options),
            years_of(counted, cells, index),
        )
        for index, subgroup in enumerate(cells.subgroups)
    ]


def _common_ages(confusions: Sequence[Numbers], min_n: int) -> Values | None:
    """Weight of each age group, (G,): its share of all faces, over ages every subgroup has.

    Subgroups with fewer than ``min_n`` faces do not decide. None where no age is common.
    """
    faces = np.array([confusion.sum(axis=-1) for confusion in confusions])  # (S, G)
    if not faces.size:
        return None
    total = faces.sum(axis=0)
    common = (faces[faces.sum(axis=-1) >= min_n] > 0).all(axis=0) & (total > 0)
    weights = np.where(common, total, 0)
    return ratio(weights, weights.sum()) if weights.any() else None


def _notes_of_common_ages(left_out: Sequence[str]) -> list[str]:
    """One sentence for all groupings."""
    if not left_out:
        return []
    return [
        "Age: figures at the same ages are standardized over the age groups that every subgroup "
        f"large enough to be ranked has. Left out: {'; '.join(left_out)}."
    ]


def _ages_left_out(task: Task, by: Sequence[str], weights: Values, confusion: Numbers) -> list[str]:
    faces = confusion.sum(axis=-1)
    absent = [
        name
        for name, weight, n in zip(task.classes, weights, faces, strict=True)
        if n and not weight
    ]
    if not absent:
        return []
    return [
        f"by {' and '.join(by)} {', '.join(absent)} "
        f"({faces[weights == 0].sum() / faces.sum():.1%} of the faces)"
    ]


def _conditioned(
    task: Task, cell: _Cell, weights: Values | None, options: Options
) -> list[ConditionedAge]:
    """Rows of one subgroup: each annotated age group, all together, and standardized."""
    groups, years = cell.by_age()
    per_figure = _estimates(groups, years, options)
    faces = groups.counts.sum(axis=(-2, -1))
    rows = [
        ConditionedAge(
            cell.subgroup,
            name,
            {figure: found[index] for figure, found in per_figure.items()},
            small=bool(faces[index] < options.min_n),
        )
        for index, name in enumerate(task.classes)
        if faces[index]
    ]
    together = {name: found[0] for name, found in _estimates(*cell.together(), options).items()}
    everyone = ConditionedAge(
        cell.subgroup, None, together, small=bool(faces.sum() < options.min_n)
    )
    if weights is None:
        return [*rows, everyone]
    standardised = _standardised(task, groups, years, weights, options)
    return [
        *rows,
        everyone,
        replace(everyone, estimates=standardised, standardised=True),
    ]


def _estimates(
    groups: ClassCounts, years: YearErrors, options: Options
) -> dict[str, list[Estimate]]:
    found = {name: estimate(metric, groups, options) for name, metric in GROUP_FIGURES.items()}
    if years.faces.any():
        found |= {name: estimate(metric, years, options) for name, metric in YEAR_FIGURES.items()}
    return found


def _standardised(
    task: Task,
    groups: ClassCounts,
    years: YearErrors,
    weights: Values,
    options: Options,
) -> Mapping[str, Estimate]:
    """Figures as they would be if the subgroup had the common ages (direct standardisation)."""
    used = weights > 0
    found = {}
    for name, metric in GROUP_FIGURES.items():
        faces = groups.counts.sum(axis=(-2, -1))
        missing = [task.classes[k] for k in np.flatnonzero(used & (faces == 0))]
        if missing:
            found[name] = _absent(missing, faces[used])
            continue
        value = float((weights * metric.function(groups.counts))[used].sum())
        drawn = (weights * metric.function(groups.draws))[:, used].sum(axis=-1)
        low, high = spread_around(value, drawn, options.confidence, metric.limits)
        found[name] = Estimate(value, float(low), float(high), int(faces[used].sum()))
    if years.faces.any():
        for name, metric in YEAR_FIGURES.items():
            found[name] = _standardised_years(task, metric, years, weights, options)
    return found


def _absent(missing: Sequence[str], faces: Numbers) -> Estimate:
    reason = f"no face of this subgroup is annotated {', '.join(missing)}"
    return Estimate(None, None, None, int(faces.sum()), reason)


def _standardised_years(
    task: Task, metric: Metric, years: YearErrors, weights: Values, options: Options
) -> Estimate:
    used = weights > 0
    faces = years.faces
    missing = [task.classes[k] for k in np.flatnonzero(used & (faces == 0))]
    if missing or metric.second_moment is None:
        return _absent(missing, faces[used])
    means, squares = metric.function(years)[used], metric.second_moment(years)[used]
    value = float((weights[used] * means).sum())
    n = faces[used]
    # One spread for all ages: a group of one or two faces has none of its own to rely on.
    inner = n.sum() - len(n)
    spread = ((squares - means**2) * n).sum() / inner if inner > 0 else 0.0
    if spread <= 0:
        return Estimate(value, None, None, int(n.sum()), "no interval: too few faces per age group")
    half = normal_quantile(options.confidence) * np.sqrt(spread * (weights[used] ** 2 / n).sum())
    return Estimate(value, value - float(half), value + float(half), int(n.sum()))
