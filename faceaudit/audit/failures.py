"""Failures as errors: figures of scored faces, and of all that are annotated.

A face that was not found has no prediction that could be right. Only shares are defined so: an
error in years of a face that was not found is no number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from faceaudit.audit.age import AGE_METRICS, CS_YEARS, one_off
from faceaudit.audit.coverage import annotated_groupings
from faceaudit.audit.estimates import Options, estimate
from faceaudit.audit.metrics import METRICS, Metric, Values, accuracy, ratio, recall
from faceaudit.audit.results import Estimate, Subgroup, WithFailures
from faceaudit.audit.tally import ERROR_LIMIT, CellCounts, Cut, Numbers, Tally, cut
from faceaudit.schema import AGE, Task


def _square(function: Any, attempts: Any) -> Values:
    """A metric of (..., K, K + 1): the last column, faces without a prediction, is wrong."""
    every = np.asarray(attempts)
    scored, missed = every[..., :-1], every[..., -1]
    if function is recall:
        return ratio(np.diagonal(scored, axis1=-2, axis2=-1), scored.sum(axis=-1) + missed)
    right = np.nan_to_num(function(scored)) * scored.sum(axis=(-2, -1))
    return ratio(right, every.sum(axis=(-2, -1)))


def _attempts(every: Any) -> Values:
    return np.asarray(np.asarray(every).sum(axis=(-2, -1)))


def _attempts_per_class(every: Any) -> Values:
    return np.asarray(np.asarray(every).sum(axis=-1))


def _years_within(attempts: Any) -> Values:
    """Share within ``CS_YEARS``, of (..., ERROR_BINS + 1); the last has no prediction."""
    every = np.asarray(attempts)
    within = every[..., ERROR_LIMIT - CS_YEARS : ERROR_LIMIT + CS_YEARS + 1].sum(axis=-1)
    return ratio(within, every.sum(axis=-1))


def _faces_tried(attempts: Any) -> Values:
    return np.asarray(np.asarray(attempts).sum(axis=-1))


_NAMED = {metric.name: metric for metric in (*METRICS, *AGE_METRICS)}
OF_CLASSES: tuple[Metric, ...] = (
    replace(_NAMED["accuracy"], function=partial(_square, accuracy), faces=_attempts),
    replace(_NAMED["recall"], function=partial(_square, recall), faces=_attempts_per_class),
)
OF_GROUPS = replace(_NAMED["one_off"], function=partial(_square, one_off), faces=_attempts)
OF_YEARS = replace(_NAMED["cs_at_5"], function=_years_within, faces=_faces_tried)
"""Metrics for which a face without a prediction is an error, as functions of attempts."""
WITH_FAILURES = tuple(metric.name for metric in (*OF_CLASSES, OF_GROUPS, OF_YEARS))
"""Their names."""


def count_failures_as_errors(
    counted: Tally, groupings: Sequence[tuple[str, ...]], options: Options
) -> list[WithFailures]:
    """Shares of right predictions twice: on scored faces, and with failures counted as errors.

    Only shares are defined so: an error in years of a face that was not found is no number.
    """
    found: list[WithFailures] = []
    for by in [(), *annotated_groupings(counted, groupings)]:
        cells = cut(counted, by)
        for task in counted.tasks:
            if task.name in counted.confusion and task.name in counted.missed:
                found += _of_task(counted, cells, task, options)
        if counted.errors.any() and AGE in counted.missed:
            found += _of_years(counted, cells, options)
    return found


def _of_task(counted: Tally, cells: Cut, task: Task, options: Options) -> Iterator[WithFailures]:
    parts = counted.confusion[task.name], counted.missed[task.name]
    own = {f.column for f in counted.features if f.name in cells.by} & {task.true_column}
    for metric in (*OF_CLASSES, *([OF_GROUPS] if task.ordinal else [])):
        if own and not metric.within_own_class:
            continue
        labels = task.classes if metric.per_class else (None,)
        yield from _twice(counted, cells, parts, metric, task.name, labels, options)


def _of_years(counted: Tally, cells: Cut, options: Options) -> Iterator[WithFailures]:
    parts = counted.errors, counted.missed[AGE]
    return _twice(counted, cells, parts, OF_YEARS, AGE, (None,), options)


def _twice(
    counted: Tally,
    cells: Cut,
    parts: tuple[CellCounts, CellCounts],
    metric: Metric,
    task: str,
    labels: Sequence[str | None],
    options: Options,
) -> Iterator[WithFailures]:
    """One metric in every subgroup of a grouping."""
    tried = _joined(*(cells.of(part) for part in parts))
    blocks, kept = None, None
    if counted.unit is not None:
        every = range(len(cells.subgroups))
        blocks = [_joined(*(cells.blocks(part, index) for part in parts)) for index in every]
        kept = [_without_failures(one) for one in blocks]
    scored = estimate(metric, _without_failures(tried), options, blocks=kept)
    all_tried = estimate(metric, tried, options, blocks=blocks)
    failed = estimate(_share_failed(metric), tried, options, blocks=blocks)
    places = product(cells.subgroups, labels)
    found = zip(places, scored, all_tried, failed, strict=True)
    for (subgroup, label), first, second, failing in found:
        if second.n:
            yield _pair(task, metric, subgroup, label, first, second, failing, options)


def _share_failed(metric: Metric) -> Metric:
    """The share of a metric's faces that have no prediction."""

    def share(attempts: Any) -> Values:
        every = metric.faces(attempts)
        return ratio(every - metric.faces(_without_failures(attempts)), every)

    return replace(metric, function=share)


def _joined(scored: Numbers, missed: Numbers) -> Numbers:
    """Counts of attempts: those of scored faces with those that failed as a last column."""
    if scored.shape[:-1] == missed.shape:
        return np.asarray(np.concatenate([scored, missed[..., None]], axis=-1))
    # Years: errors by annotated age group (..., G + 1, ERROR_BINS), all ages together.
    return np.asarray(np.concatenate([scored.sum(axis=-2), missed], axis=-1))


def _without_failures(tried: Numbers) -> Numbers:
    kept = tried.copy()
    kept[..., -1] = 0
    return kept


def _pair(
    task: str,
    metric: Metric,
    subgroup: Subgroup,
    label: str | None,
    scored: Estimate,
    every: Estimate,
    failed: Estimate,
    options: Options,
) -> WithFailures:
    missed = every.n - scored.n
    return WithFailures(
        task,
        metric.name,
        subgroup,
        scored,
        every,
        _loss(scored, every, failed),
        missed,
        label,
        small=every.n < options.min_n,
    )


def _loss(scored: Estimate, every: Estimate, failed: Estimate) -> Estimate:
    """What failures take from a share: the share times the rate of failure.

    Source:
        Zou and Donner: Construction of confidence limits about effect measures, Statistics in
        Medicine 27, 2008: the bounds of the two factors are carried through the product, upwards
        with the product of both distances (Goodman: On the exact variance of products, JASA 55,
        1960), without which two factors of 0 would have no uncertainty.
    """
    if scored.value is None or every.value is None:
        return Estimate(None, None, None, every.n, scored.reason or every.reason)
    value = scored.value - every.value
    if scored.low is None or scored.high is None:
        return Estimate(value, None, None, every.n, scored.reason)
    if failed.value is None or failed.low is None or failed.high is None:
        return Estimate(value, None, None, every.n, failed.reason)
    below = math.hypot(
        failed.value * (scored.value - scored.low), scored.value * (failed.value - failed.low)
    )
    above = math.hypot(
        failed.value * (scored.high - scored.value),
        scored.value * (failed.high - failed.value),
        (scored.high - scored.value) * (failed.high - failed.value),
    )
    return Estimate(value, max(value - below, 0.0), min(value + above, 1.0), every.n)
