"""Verdicts where faces have no value of a feature: which subgroup they are of is not known."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from faceaudit.audit.intervals import share_interval
from faceaudit.audit.run import find_verdicts
from faceaudit.audit.suppress import suppress_verdicts
from tests.audit.judging import (
    BETWEEN,
    BY_RACE,
    DAY,
    RACE,
    SITE,
    WORST,
    OpenTable,
    RowsOf,
    faces_of,
    policy,
    verdict,
)

RIGHT = (400, 396)
TWO_SITES = {("north",): RIGHT, ("south",): RIGHT}
EQUIVALENT = {**WORST, "measure": "equivalent", "at_most": 0.1}
RATIO = {**WORST, "measure": "ratio", "at_least": 0.9}


@pytest.mark.parametrize(
    ("rule", "few"),
    [
        ({**WORST, "at_least": 0.9}, 5),
        ({**WORST, "measure": "each", "at_least": 0.9}, 5),
        ({**BETWEEN, "at_most": 0.1}, 5),
        (EQUIVALENT, 5),
        (RATIO, 5),
    ],
)
def test_a_rule_passes_only_if_it_does_wherever_faces_without_a_value_belong(
    rule: dict[str, Any], few: int
) -> None:
    assert verdict(faces_of((SITE,), TWO_SITES), **rule).explanation == (
        "the whole interval keeps the limit"
    )
    some = verdict(faces_of((SITE,), {**TWO_SITES, (None,): (few, 0)}), **rule)
    assert (some.outcome, some.unplaced) == ("pass", few)
    assert some.explanation == (
        f"the whole interval keeps the limit, wherever the {few} faces without a value of site "
        "belong"
    )
    many = verdict(faces_of((SITE,), {**TWO_SITES, (None,): (1253, 0)}), **rule)
    assert (many.outcome, many.unplaced, many.n_needed) == ("insufficient", 1253, None)
    assert many.explanation == (
        "the interval keeps the limit, but the 1,253 faces without a value of site could change "
        "that"
    )
    assert (many.value, many.low, many.high) == (some.value, some.low, some.high)


@pytest.mark.parametrize("wrong", range(0, 60, 4))
def test_the_worst_case_is_that_one_subgroup_has_every_miss(wrong: int) -> None:
    cells = {**TWO_SITES, (None,): (500, 500 - wrong)}
    low, _ = share_interval(396 / (400 + wrong), 400 + wrong, 0.975)
    found = verdict(faces_of((SITE,), cells), **WORST, at_least=0.93)
    assert found.outcome == ("pass" if low >= 0.93 else "insufficient")


def test_the_worst_case_of_a_difference_is_every_hit_here_and_every_miss_there() -> None:
    cells = {("north",): (1000, 900), ("south",): (1000, 900)}
    rule = {**BETWEEN, "at_most": 0.06}
    assert verdict(faces_of((SITE,), cells), **rule).outcome == "pass"
    # Neither the 200 right nor the 30 wrong ones alone move a site by two points and more.
    mixed = faces_of((SITE,), {**cells, (None,): (230, 200)})
    assert verdict(mixed, **rule).outcome == "insufficient"


def test_a_failure_stands_and_tells_of_faces_without_a_value() -> None:
    cells = {("north",): RIGHT, ("south",): (400, 200), (None,): (900, 900)}
    found = verdict(faces_of((SITE,), cells), **WORST, at_least=0.9)
    assert (found.outcome, found.unplaced) == ("fail", 900)
    assert found.explanation == (
        "the whole interval breaks the limit; 900 faces without a value of site are left out"
    )


def test_faces_count_that_can_be_of_what_a_rule_speaks_of() -> None:
    cells = {
        ("north", "White"): RIGHT, ("north", "Black"): RIGHT, ("south", "Black"): RIGHT,
        ("south", None): (300, 0), (None, "White"): (7, 0), (None, None): (2, 0),
    }  # fmt: skip
    counted = faces_of((SITE, RACE), cells)
    northern = verdict(counted, **BY_RACE, within={"site": "north"})
    assert (northern.outcome, northern.unplaced) == ("pass", 9)
    everywhere = verdict(counted, **{**BY_RACE, "at_least": 0.6})
    assert (everywhere.outcome, everywhere.unplaced) == ("insufficient", 302)
    exempt = {
        "subgroup": {"site": "south"}, "approved_by": "x", "reason": "y", "expires": DAY,
    }  # fmt: skip
    without = verdict(counted, **BY_RACE, within=["site"], exception=[exempt])
    assert (without.outcome, without.unplaced) == ("pass", 9)


def test_no_rule_on_everybody_leaves_a_face_out() -> None:
    rule = {"task": "gender", "metric": "accuracy", "measure": "overall", "at_least": 0.1}
    found = verdict(faces_of((SITE,), {**TWO_SITES, (None,): (100, 0)}), **rule)
    assert (found.outcome, found.n, found.unplaced) == ("pass", 900, 0)


@pytest.mark.parametrize(("above", "outcome"), [(0.01, "pass"), (-0.01, "insufficient")])
def test_a_mean_error_passes_with_all_errors_that_are_left_out(
    open_table: OpenTable, rows_of: RowsOf, above: float, outcome: str
) -> None:
    frame = rows_of(900, seed=2).filter(status="ok")[:800].with_row_index()
    site = pl.when(pl.col("index") >= 60).then(pl.format("S{}", pl.col("index") % 2))
    frame = frame.with_columns(site=site).drop("index")
    table, by = open_table(frame), ["site"]
    whole = {"task": "age", "metric": "mae", "by": by, "measure": "worst"}
    placed = open_table(frame.filter(pl.col("site").is_not_null()))
    (usual,), _ = find_verdicts(placed, policy({**whole, "at_most": 100}), replicates=100)
    errors = frame.filter(pl.col("age_true").is_not_null()).select(
        "site", error=(pl.col("age_pred") - pl.col("age_true")).abs()
    )
    left_out = errors.filter(pl.col("site").is_null())["error"].sum()
    smallest = errors.drop_nulls("site").group_by("site").len()["len"].unique().item()
    limit = usual.high + left_out / smallest
    rule = {**whole, "at_most": limit + above}
    (found,), _ = find_verdicts(table, policy(rule), replicates=100)
    assert (found.outcome, found.unplaced) == (outcome, 60)


@pytest.mark.parametrize(("without", "outcome"), [(15, "pass"), (40, "insufficient")])
def test_figures_that_are_no_shares_are_judged_with_few_faces_left_out(
    open_table: OpenTable, rows_of: RowsOf, without: int, outcome: str
) -> None:
    frame = rows_of(900, seed=2).filter(status="ok")[:800].with_row_index()
    site = pl.when(pl.col("index") >= without).then(pl.format("S{}", pl.col("index") % 2))
    rule = {"task": "age", "metric": "rmse", "by": ["site"], "measure": "worst", "at_most": 50}
    table = open_table(frame.with_columns(site=site).drop("index"))
    (found,), _ = find_verdicts(table, policy(rule), replicates=100)
    assert (found.outcome, found.unplaced) == (outcome, without)
    if outcome == "insufficient":
        assert found.explanation.endswith("are too many to be sure that they would not change that")


def test_images_and_failures_without_a_value_count(open_table: OpenTable, rows_of: RowsOf) -> None:
    frame = rows_of(3000, seed=5)
    failed = pl.col("status") != "ok"
    hidden = pl.when(~failed).then(pl.col("race_true"))
    rules = [
        {"metric": "failure_rate", "by": ["race"], "measure": "worst", "at_most": 0.15},
        {**BY_RACE, "at_least": 0.5, "failures": "errors"},
    ]
    for race, outcomes in ((pl.col("race_true"), ["pass"] * 2), (hidden, ["insufficient", "pass"])):
        table = open_table(frame.with_columns(race_true=race))
        found, _ = find_verdicts(table, policy(*rules), replicates=100)
        assert [one.outcome for one in found] == outcomes
    assert [one.unplaced for one in found] == [frame.filter(failed).height] * 2


def test_clustered_faces_without_a_value_widen_what_could_be(
    open_table: OpenTable,
) -> None:
    rows = 1200
    frame = pl.DataFrame(
        {
            "gender_true": ["Male"] * rows,
            "gender_pred": ["Female" if k % 25 == 0 or k >= 1000 else "Male" for k in range(rows)],
            "site": [f"S{k % 2}" if k < 1000 else None for k in range(rows)],
            "person": [f"p{k // 2}" for k in range(rows)],
        }
    )
    for rule in ({**WORST, "at_least": 0.85}, {**BETWEEN, "at_most": 0.15}):
        (all_known,), _ = find_verdicts(
            open_table(frame[:1000]), policy(rule), replicates=100, unit="person"
        )
        (found,), _ = find_verdicts(open_table(frame), policy(rule), replicates=100, unit="person")
        assert (all_known.outcome, found.outcome) == ("pass", "insufficient")


def test_suppression_keeps_back_how_many_have_no_value() -> None:
    found = verdict(faces_of((SITE,), {**TWO_SITES, (None,): (3, 0)}), **WORST, at_least=0.9)
    (told,) = suppress_verdicts([found], 10)
    assert told.unplaced is None
    assert "3 faces" not in told.explanation
