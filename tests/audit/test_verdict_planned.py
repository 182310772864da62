"""How many faces a verdict needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from faceaudit.audit.run import find_verdicts
from tests.audit.judging import (
    BETWEEN,
    CAMERA,
    SITE,
    WORST,
    OpenTable,
    RowsOf,
    faces_of,
    policy,
    sites,
    verdict,
)


@pytest.mark.parametrize(
    "rule",
    [
        {**WORST, "at_least": 0.8},
        {**WORST, "measure": "each", "at_most": 0.95},
        {**BETWEEN, "at_most": 0.2},
        {**WORST, "measure": "equivalent", "at_most": 0.2},
        {**WORST, "measure": "ratio", "at_least": 0.85},
    ],
)
def test_faces_needed_do_not_depend_on_whether_the_few_are_judged(rule: dict[str, Any]) -> None:
    counted = sites([(20, 18), (20, 17)])
    judged, too_few = (verdict(counted, **rule, min_n=n) for n in (20, 30))
    assert (judged.value is None, too_few.value) == (False, None)
    assert (judged.outcome, too_few.outcome) == ("insufficient", "insufficient")
    assert judged.n_needed is not None
    assert too_few.n_needed == pytest.approx(max(judged.n_needed, 30), rel=0.01)


def test_faces_needed_are_at_least_those_that_are_judged() -> None:
    found = verdict(sites([(20, 20)]), **WORST, at_least=0.1)
    assert (found.outcome, found.n_needed) == ("insufficient", 30)


def test_faces_needed_of_years_follow_from_few_as_well(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    rule = {"task": "age", "metric": "mae", "measure": "overall", "at_most": 6}
    table = open_table(rows_of(300, seed=11))
    (judged,), _ = find_verdicts(table, policy({**rule, "min_n": 30}), replicates=100)
    (too_few,), _ = find_verdicts(table, policy({**rule, "min_n": 301}), replicates=100)
    assert (judged.outcome, too_few.value) == ("insufficient", None)
    assert judged.n_needed is not None
    assert too_few.n_needed == pytest.approx(judged.n_needed, rel=0.01)


@pytest.mark.parametrize(
    ("right", "rule", "reason"),
    [
        (
            [(20, 18)],
            {**WORST, "metric": "recall", "class": "Female", "at_least": 0.8},
            "no subgroup has a figure with an interval",
        ),
        ([(20, 18)], {**BETWEEN, "at_most": 0.1}, "there is no second subgroup"),
        ([(400, 360)], {**BETWEEN, "at_most": 0.1}, "there is no second subgroup"),
        (
            [(10_000, 9000)],
            {**WORST, "at_least": 0.9},
            "more than 10,000,000 faces of a subgroup would be needed",
        ),
        (
            [(20, 0), (20, 0)],
            {**WORST, "measure": "ratio", "at_least": 0.8},
            "the ratio is not defined: every value is 0",
        ),
    ],
)
def test_where_no_number_of_faces_is_named_the_reason_is(
    right: list[tuple[int, int]], rule: dict[str, Any], reason: str
) -> None:
    found = verdict(sites(right), **rule)
    assert (found.outcome, found.n_needed) == ("insufficient", None)
    assert found.explanation.endswith(reason)


def test_a_subgroup_without_faces_is_planned_like_the_others_of_its_stratum() -> None:
    levels = {"day": (2000, 1960), "night": (2000, 1500)}
    cells = {(site, camera): one for site in ("A", "B") for camera, one in levels.items()}
    rule = {**BETWEEN, "within": ["camera"], "at_most": 0.1}
    full = verdict(faces_of((SITE, CAMERA), cells), **rule)
    lacking = {**cells, ("C", "day"): levels["day"]}
    found = verdict(faces_of((SITE, CAMERA), lacking), **rule)
    assert (full.outcome, found.outcome) == ("pass", "insufficient")
    # As of the mean of all, C would lie 12 points above the others at night: a gap.
    assert found.n_needed is not None
    enough = verdict(faces_of((SITE, CAMERA), {**lacking, ("C", "night"): (2000, 1500)}), **rule)
    assert (enough.outcome, found.n_needed <= 2000) == ("pass", True)


@pytest.mark.parametrize("rule", [{**BETWEEN, "at_most": 0.3}, {**WORST, "at_least": 0.65}])
def test_faces_needed_follow_from_the_subgroups_farthest_out(
    rule: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(8)
    sizes = generator.integers(40, 80, 60)
    right = generator.binomial(sizes, generator.uniform(0.85, 0.95, 60))
    counted = sites(list(zip(sizes.tolist(), right.tolist(), strict=True)))
    every = verdict(counted, **rule).n_needed
    monkeypatch.setattr("faceaudit.audit.verdict.MANY", 12)
    assert every is not None
    assert verdict(counted, **rule).n_needed == every
