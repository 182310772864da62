"""Verdicts: pass, fail, insufficient; what exceptions, small subgroups and more rules change."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from faceaudit.audit.comparisons import compare_subgroups
from faceaudit.audit.estimates import Options
from faceaudit.audit.evidence import Evidence
from faceaudit.audit.intervals import share_interval
from faceaudit.audit.policy import Policy, parse_rules
from faceaudit.audit.results import Verdict
from faceaudit.audit.run import audit, find_verdicts
from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally import CellCounts, Tally, tally
from faceaudit.audit.tally.tally import KINDS
from faceaudit.audit.verdict import exit_codes, judge, outcome_of
from faceaudit.errors import SchemaError, UsageError
from faceaudit.schema import task_of_scheme
from faceaudit.tables import PredictionTable

OpenTable = Callable[..., PredictionTable]
RowsOf = Callable[..., pl.DataFrame]
DAY = dt.date(2027, 1, 15)
WORST = {"task": "gender", "metric": "accuracy", "by": ["site"], "measure": "worst"}
BETWEEN = {**WORST, "measure": "difference"}
NAMES = {"owner": "the board", "reason": "it was decided"}
COUNTS = st.lists(st.tuples(st.integers(30, 400), st.floats(0, 1)), min_size=2, max_size=4)


def counts_of(numbers: np.ndarray) -> CellCounts:
    """Numbers of cells in a single block, (C, ...)."""
    dense = np.asarray(numbers)[:, None]
    codes = np.flatnonzero(dense)
    return CellCounts(codes, dense.ravel()[codes], dense.shape)


def sites(right: Sequence[tuple[int, int]]) -> Tally:
    """Faces of several sites: how many, and how many of them with the right gender."""
    cells = {(f"S{index}",): one for index, one in enumerate(right)}
    return faces_of((Feature("site", "site"),), cells)


def faces_of(features: tuple[Feature, ...], right: Mapping[Any, tuple[int, int]]) -> Tally:
    """Faces by the values of features: how many, and how many of them with the right gender."""
    confusion = np.array([[[yes, n - yes], [0, 0]] for n, yes in right.values()])
    empty: dict[str, dict[str, CellCounts]] = {kind: {} for kind in KINDS}
    images = counts_of(np.array([[n] for n, _ in right.values()]))
    return Tally(
        tasks=(task_of_scheme("gender", "gender2"),),
        features=features,
        cells=tuple(right),
        statuses=("ok",),
        unit=None,
        tables=(),
        numbers={
            **empty,
            "confusion": {"gender": counts_of(confusion)},
            "predicted": {"gender": counts_of(confusion.sum(axis=1))},
            "images": {"": images},
        },
    )


def policy(*rules: Mapping[str, Any]) -> Policy:
    whole = [{**NAMES, **rule} for rule in rules]
    return Policy("p.toml", "0" * 64, parse_rules({"rule": whole}, "p.toml"))


def verdicts(counted: Tally, *rules: Mapping[str, Any]) -> tuple[Verdict, ...]:
    return judge(policy(*rules), Evidence(counted, Options(replicates=100), DAY))


def verdict(counted: Tally, **rule: Any) -> Verdict:
    return verdicts(counted, rule)[0]


# --- outcomes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "rule", "outcome"),
    [
        ([(400, 380), (400, 384)], {**WORST, "at_least": 0.9}, "pass"),
        ([(400, 380), (400, 330)], {**WORST, "at_least": 0.9}, "fail"),
        ([(400, 380), (400, 356)], {**WORST, "at_least": 0.9}, "insufficient"),
        ([(400, 380), (400, 380)], {**BETWEEN, "at_most": 0.1}, "pass"),
        ([(400, 380), (400, 300)], {**BETWEEN, "at_most": 0.1}, "fail"),
        ([(400, 380), (400, 345)], {**BETWEEN, "at_most": 0.1}, "insufficient"),
        ([(400, 380), (400, 372)], {**WORST, "measure": "ratio", "at_least": 0.8}, "pass"),
        ([(400, 380), (400, 240)], {**WORST, "measure": "ratio", "at_least": 0.8}, "fail"),
        ([(400, 380), (400, 300)], {**WORST, "measure": "ratio", "at_least": 0.8}, "insufficient"),
        ([(400, 380), (400, 380)], {**WORST, "measure": "equivalent", "at_most": 0.1}, "pass"),
        ([(400, 380), (400, 300)], {**WORST, "measure": "equivalent", "at_most": 0.1}, "fail"),
        ([(400, 380), (400, 340)], {**WORST, "measure": "each", "at_most": 0.99}, "pass"),
        (
            [(400, 380), (400, 340)],
            {**WORST, "measure": "each", "at_least": 0.9, "at_most": 0.99},
            "fail",
        ),
        (
            [(400, 380), (400, 380)],
            {"task": "gender", "metric": "accuracy", "measure": "overall", "at_least": 0.9},
            "pass",
        ),
    ],
)
def test_the_whole_interval_decides(
    right: list[tuple[int, int]], rule: dict[str, Any], outcome: str
) -> None:
    found = verdict(sites(right), **rule)
    assert found.outcome == outcome
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    assert (found.n_needed is not None) == (outcome == "insufficient")


def test_the_interval_of_a_single_figure_is_that_of_the_report_at_the_rules_confidence() -> None:
    rule = {"task": "gender", "metric": "accuracy", "measure": "overall", "at_least": 0.5}
    found = verdict(sites([(120, 100)]), **rule, confidence=0.9)
    low, high = share_interval(100 / 120, 120, 0.9)
    assert (found.low, found.high) == pytest.approx((float(low), float(high)))


def test_the_interval_of_a_difference_is_that_of_the_section_differences() -> None:
    right = [(200, 190), (150, 120), (300, 250)]
    found = verdict(sites(right), **BETWEEN, at_most=0.5)
    pairs = compare_subgroups(sites(right), "gender", "accuracy", ["site"]).pairs
    assert found.value == pytest.approx(190 / 200 - 120 / 150)
    assert found.low == pytest.approx(max(max(one.low, -one.high) for one in pairs))
    assert found.high == pytest.approx(max(max(one.high, -one.low) for one in pairs))
    assert found.subgroups == ({"site": "S0"}, {"site": "S1"})
    assert found.n == 150


def test_n_is_of_the_smallest_subgroup_that_the_verdict_names() -> None:
    found = verdict(sites([(1000, 1000), (150, 150)]), **WORST, at_least=0.99)
    assert found.explanation == "the interval reaches across the limit, farthest for S1"
    assert found.n_needed is not None
    assert found.n == 150 < found.n_needed


def test_equivalence_is_the_two_one_sided_tests() -> None:
    right = [(500, 450), (500, 440)]
    margins = np.linspace(0.03, 0.1, 30)
    rates = [yes / n for n, yes in right]
    se = np.sqrt(sum(p * (1 - p) / n for p, (n, _) in zip(rates, right, strict=True)))
    for margin in margins:
        found = verdict(sites(right), **{**WORST, "measure": "equivalent"}, at_most=float(margin))
        p_value = norm.sf((margin - (rates[0] - rates[1])) / se)
        if abs(p_value - 0.05) > 0.01:  # Newcombe's interval is not Wald's to the last digit.
            assert (found.outcome == "pass") == (p_value < 0.05)


def test_equivalence_passes_more_easily_than_the_simultaneous_interval() -> None:
    counted = sites([(400, 360), (400, 352), (400, 356)])
    tost = verdict(counted, **{**WORST, "measure": "equivalent"}, at_most=0.1)
    simultaneous = verdict(counted, **BETWEEN, at_most=0.1)
    assert tost.high is not None
    assert simultaneous.high is not None
    assert tost.high < simultaneous.high
    assert tost.low == simultaneous.low


def test_a_named_disparity_is_the_worst_of_its_metrics(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    table = open_table(rows_of(2000, seed=3))
    rule = {
        "task": "gender", "metric": "equalized_odds", "class": "Female", "by": ["race"],
        "measure": "difference", "at_most": 0.1,
    }  # fmt: skip
    (found,), _ = find_verdicts(table, policy(rule), replicates=100)
    whole = audit(table, by=["race"], replicates=100, verify="never")
    named = next(
        one
        for one in whole.disparities
        if (one.metric, one.task, one.label) == ("equalized_odds", "gender", "Female")
    )
    assert found.value == pytest.approx(named.difference)


def test_values_are_those_of_the_audit(open_table: OpenTable, rows_of: RowsOf) -> None:
    table = open_table(rows_of(1500, seed=4))
    rules = [
        {"task": "race", "metric": "macro_f1", "by": ["gender"], "measure": "worst", "at_least": 0},
        {"task": "race", "metric": "macro_auc", "by": ["gender"], "measure": "worst",
         "at_least": 0},
        {"task": "gender", "metric": "ece", "by": ["race"], "measure": "worst", "at_most": 1},
        {"task": "gender", "metric": "log_loss", "by": ["race"], "measure": "worst", "at_most": 9},
        {"task": "age", "metric": "mae", "by": ["race"], "measure": "worst", "at_most": 50},
        {"task": "age", "metric": "challenge_25_fpr", "by": ["race"], "measure": "worst",
         "at_most": 1},
        {"task": "age_group", "metric": "one_off", "by": ["race"], "measure": "worst",
         "at_least": 0},
        {"task": "race", "metric": "recall", "class": "Black", "by": ["gender"],
         "measure": "worst", "at_least": 0},
    ]  # fmt: skip
    found, _ = find_verdicts(table, policy(*rules), replicates=100, min_n=1)
    whole = audit(table, replicates=100, verify="never", min_n=1)
    for one in found:
        values = [
            value.estimate.value
            for value in whole.metrics
            if (value.task, value.metric, value.label) == (one.task, one.metric, one.label)
            and set(value.subgroup) == set(one.by)
            and value.estimate.value is not None
        ]
        expected = max(values) if one.at_most is not None else min(values)
        assert one.value == pytest.approx(expected, abs=1e-12), one.rule
        assert one.outcome == "pass", one.rule


# --- small subgroups and missing labels ---------------------------------------------------------


def test_a_small_subgroup_cannot_pass() -> None:
    found = verdict(sites([(400, 390), (12, 12)]), **WORST, at_least=0.8)
    assert found.outcome == "insufficient"
    assert found.small == ({"site": "S1"},)
    assert "S1: 12 faces, fewer than 30" in found.explanation
    assert found.n_needed is not None
    assert found.n_needed >= 30


def test_a_small_subgroup_cannot_fail_by_itself() -> None:
    assert verdict(sites([(400, 390), (12, 1)]), **WORST, at_least=0.8).outcome == "insufficient"


def test_a_failure_shown_elsewhere_stands_beside_a_small_subgroup() -> None:
    assert verdict(sites([(400, 200), (12, 12)]), **WORST, at_least=0.8).outcome == "fail"


def test_a_class_that_is_absent_from_the_table_is_not_passed_over(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    table = open_table(rows_of(900).filter(pl.col("race_true") != "Others"))
    rule = {**WORST, "by": ["race"], "at_least": 0.1}
    (found,), _ = find_verdicts(table, policy(rule), replicates=100)
    assert found.outcome == "insufficient"
    assert found.small == ({"race": "Others"},)
    assert "Others: none in the table" in found.explanation
    assert found.n_needed is not None
    exempt = {
        "subgroup": {"race": "Others"}, "approved_by": "the board", "reason": "not in use",
        "expires": DAY,
    }  # fmt: skip
    (excepted,), _ = find_verdicts(
        table, policy({**rule, "exception": [exempt]}), replicates=100, day=DAY
    )
    assert excepted.outcome == "pass"


def test_images_are_called_images(open_table: OpenTable, rows_of: RowsOf) -> None:
    rule = {"metric": "failure_rate", "by": ["race"], "measure": "worst", "at_most": 1}
    (found,), _ = find_verdicts(open_table(rows_of(60)), policy(rule), replicates=100)
    assert "images, fewer than 30" in found.explanation


def test_confidence_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--confidence 0\.1: rules need at least 0\.5"):
        judge(
            policy({**WORST, "at_least": 0.5}),
            Evidence(sites([(40, 30)]), Options(confidence=0.1), DAY),
        )


def test_one_large_subgroup_has_nothing_to_be_compared_with() -> None:
    found = verdict(sites([(400, 390), (12, 12)]), **BETWEEN, at_most=0.1)
    assert (found.outcome, found.value) == ("insufficient", None)
    assert "fewer than two subgroups to compare" in found.explanation


def test_no_labels_are_insufficient_and_never_pass(open_table: OpenTable, rows_of: RowsOf) -> None:
    bare = rows_of(300).drop(pl.col("^.*_true$"))
    rules = [
        {"task": "gender", "metric": "accuracy", "measure": "overall", "at_least": 0},
        {**WORST, "by": ["race"], "at_least": 0},
        {"task": "age", "metric": "mae", "measure": "overall", "at_most": 100},
        {"metric": "failure_rate", "by": ["race"], "measure": "worst", "at_most": 1},
    ]
    found, _ = find_verdicts(open_table(bare), policy(*rules), replicates=100)
    assert [one.outcome for one in found] == ["insufficient"] * 4
    assert "no face has both an annotated and a predicted gender" in found[0].explanation
    assert "no face has an annotated race" in found[1].explanation
    assert exit_codes(found) == [3]


def test_scores_that_the_table_lacks_are_insufficient(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    frame = rows_of(300).drop(pl.col("^.*_prob_.*$"))
    rule = {"task": "race", "metric": "macro_auc", "measure": "overall", "at_least": 0}
    (found,), _ = find_verdicts(open_table(frame), policy(rule), replicates=100)
    assert found.outcome == "insufficient"
    assert "no scores of race" in found.explanation


def test_a_class_that_a_subgroup_lacks_is_said() -> None:
    rule = {**WORST, "metric": "recall", "class": "Female"}
    found = verdict(sites([(400, 390), (400, 380)]), **rule, at_least=0.8)
    assert found.outcome == "insufficient"
    assert "no face is annotated as this class" in found.explanation


def test_ratio_of_nothing_but_zeros_is_insufficient() -> None:
    counted = sites([(400, 0), (400, 0)])
    found = verdict(counted, **{**WORST, "measure": "ratio"}, at_least=0.8)
    assert found.outcome == "insufficient"
    assert found.value is None
    assert found.explanation == "the ratio is not defined: every value is 0"


def test_failures_can_count_as_errors(open_table: OpenTable, rows_of: RowsOf) -> None:
    frame = rows_of(2000, seed=7)
    rule = {**WORST, "by": ["race"], "at_least": 0.5}
    right = pl.col("gender_pred").eq_missing(pl.col("gender_true"))
    (plain, strict), _ = find_verdicts(
        open_table(frame), policy(rule, {**rule, "failures": "errors"}), replicates=100
    )
    of_all = frame.group_by("race_true").agg(right.mean(), pl.len()).sort("gender_pred")
    of_scored = frame.filter(status="ok").group_by("race_true").agg(right.mean())
    assert strict.value == pytest.approx(of_all["gender_pred"].min())
    assert plain.value == pytest.approx(of_scored["gender_pred"].min())
    assert strict.n == of_all["len"][0]
    assert "with failures as errors" in strict.rule
    with pytest.raises(UsageError, match="failures have no race_pred"):
        find_verdicts(
            open_table(frame),
            policy({**rule, "by": ["race_pred"], "failures": "errors"}),
            replicates=100,
        )


def test_causes_that_the_table_does_not_tell_are_not_made_up(open_table: OpenTable) -> None:
    frame = pl.DataFrame({"gender_true": ["Male"] * 90, "gender_pred": ["Male"] * 80 + [None] * 10})
    rules = [
        {"metric": "detection", "measure": "overall", "at_least": 0.1},
        {"metric": "failure_rate", "measure": "overall", "at_most": 0.5},
    ]
    (found, known), _ = find_verdicts(open_table(frame), policy(*rules), replicates=100)
    assert found.outcome == "insufficient"
    assert "does not say why" in found.explanation
    assert (known.outcome, known.value) == ("pass", pytest.approx(10 / 90))


def test_shares_need_no_labels(open_table: OpenTable, rows_of: RowsOf) -> None:
    frame = rows_of(3000, seed=5)
    rules = [
        {"metric": "failure_rate", "by": ["race"], "measure": "worst", "at_most": 0.15},
        {"metric": "detection", "measure": "overall", "at_least": 0.9},
        {"task": "gender", "metric": "predicted_share", "class": "Female", "measure": "overall",
         "at_least": 0.4, "at_most": 0.6},
    ]  # fmt: skip
    found, _ = find_verdicts(open_table(frame), policy(*rules), replicates=100)
    failed = frame.group_by("race_true").agg((pl.col("status") != "ok").mean())["status"].max()
    assert [one.outcome for one in found] == ["pass"] * 3
    assert found[0].value == pytest.approx(failed)
    assert found[1].value == pytest.approx((frame["status"] == "ok").mean())


# --- subgroups without faces ----------------------------------------------------------------------

SITE, CAMERA = Feature("site", "site"), Feature("camera", "camera")
RACE = Feature("race", "race_true", ("White", "Black"))
AGES = Feature("age_group", "age_group_true", ("0-29", "30+"))
MANY_RIGHT = (2000, 1800)
BY_RACE = {**WORST, "by": ["race"], "at_least": 0.8}
EXEMPT = {"approved_by": "the board", "reason": "not in use", "expires": DAY}


@pytest.fixture
def no_black_face_in_the_south() -> Tally:
    places = [("north", "White"), ("north", "Black"), ("south", "White")]
    return faces_of((SITE, RACE), dict.fromkeys(places, MANY_RIGHT))


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ({**BETWEEN, "by": ["race"], "within": ["site"], "at_most": 0.1}, "Black, south"),
        ({**BY_RACE, "within": ["site"]}, "Black, south"),
        ({**BY_RACE, "by": ["site", "race"]}, "south, Black"),
        ({**BY_RACE, "by": ["site"], "within": ["race"]}, "south, Black"),
        ({**BY_RACE, "by": ["site"], "within": {"race": "Black"}}, "south, Black"),
        ({**BY_RACE, "within": {"site": "south"}}, "Black, south"),
    ],
)
def test_a_subgroup_without_a_face_in_one_stratum_cannot_pass(
    no_black_face_in_the_south: Tally, rule: dict[str, Any], name: str
) -> None:
    found = verdict(no_black_face_in_the_south, **rule)
    assert found.outcome == "insufficient"
    assert f"{name}: none in the table" in found.explanation
    assert [dict(one) for one in found.small] == [{"site": "south", "race": "Black"}]
    assert found.n_needed is not None
    few = dict(zip(no_black_face_in_the_south.cells, [MANY_RIGHT] * 3, strict=True))
    some = verdict(faces_of((SITE, RACE), {**few, ("south", "Black"): (10, 9)}), **rule)
    assert (some.outcome, some.small) == (found.outcome, found.small)
    assert some.n_needed == found.n_needed


@pytest.mark.parametrize("subgroup", [{"site": "south"}, {"site": "south", "race": "Black"}])
def test_a_combination_without_a_face_can_be_excepted(
    no_black_face_in_the_south: Tally, subgroup: dict[str, str]
) -> None:
    rule = {**BETWEEN, "by": ["race"], "within": ["site"], "at_most": 0.1}
    exempt = {"subgroup": subgroup, **EXEMPT}
    assert verdict(no_black_face_in_the_south, **rule, exception=[exempt]).outcome == "pass"


def test_what_is_compared_must_be_in_every_stratum_also_of_plain_columns() -> None:
    places = [("A", "day"), ("B", "day"), ("A", "night")]
    counted = faces_of((SITE, CAMERA), dict.fromkeys(places, MANY_RIGHT))
    found = verdict(counted, **BETWEEN, within=["camera"], at_most=0.1)
    assert found.outcome == "insufficient"
    assert "B, night: none in the table" in found.explanation


def test_combinations_of_plain_columns_that_do_not_occur_are_not_asked_for() -> None:
    places = [("A", "1"), ("A", "2"), ("B", "3")]
    counted = faces_of((SITE, CAMERA), dict.fromkeys(places, MANY_RIGHT))
    assert verdict(counted, **{**WORST, "by": ["site", "camera"]}, at_least=0.8).outcome == "pass"
    of_one_site = {**BETWEEN, "by": ["camera"], "within": {"site": "A"}, "at_most": 0.1}
    assert verdict(counted, **of_one_site).outcome == "pass"


def test_every_combination_of_declared_classes_is_asked_for() -> None:
    places = [("White", "0-29"), ("Black", "0-29"), ("White", "30+")]
    counted = faces_of((RACE, AGES), dict.fromkeys(places, MANY_RIGHT))
    found = verdict(counted, **{**WORST, "by": ["race", "age_group"]}, at_least=0.8)
    assert (found.outcome, found.small) == (
        "insufficient",
        ({"race": "Black", "age_group": "30+"},),
    )


def test_a_declared_stratum_without_a_face_cannot_pass_and_is_told_once() -> None:
    counted = faces_of(
        (RACE, AGES), dict.fromkeys([("White", "30+"), ("Black", "30+")], MANY_RIGHT)
    )
    rule = {**BETWEEN, "by": ["race"], "within": ["age_group"], "at_most": 0.1}
    found = verdict(counted, **rule)
    assert (found.outcome, len(found.small)) == ("insufficient", 2)
    assert found.explanation == (
        "the interval keeps the limit, but not every subgroup could be judged; "
        "0-29: none in the table"
    )
    exempt = {"subgroup": {"age_group": "0-29"}, **EXEMPT}
    assert verdict(counted, **rule, exception=[exempt]).outcome == "pass"


def test_a_site_without_annotated_faces_cannot_pass() -> None:
    cells = {("A", "White"): MANY_RIGHT, ("A", "Black"): MANY_RIGHT, ("B", None): MANY_RIGHT}
    found = verdict(faces_of((SITE, RACE), cells), **BY_RACE, within=["site"])
    assert found.outcome == "insufficient"
    assert "White, B: none in the table; Black, B: none in the table" in found.explanation


def test_hundreds_of_rare_combinations_of_plain_columns_are_those_that_occur() -> None:
    cells = {(f"S{k % 41}", f"C{k % 13}"): (400, 390) for k in range(0, 533, 3)}
    found = verdict(
        faces_of((SITE, CAMERA), cells), **{**WORST, "by": ["site", "camera"]}, at_least=0.8
    )
    assert (found.outcome, found.small) == ("pass", ())


# --- how many faces are needed where nothing can be judged ----------------------------------------


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


# --- exceptions, within ---------------------------------------------------------------------------


def test_an_exception_leaves_its_subgroup_out_until_it_expires() -> None:
    counted = sites([(400, 390), (400, 100)])
    exempt = {
        "subgroup": {"site": "S1"}, "approved_by": "the board", "reason": "new",
        "expires": DAY,
    }  # fmt: skip
    current = verdict(counted, **WORST, at_least=0.8, exception=[exempt])
    assert current.outcome == "pass"
    assert current.exemptions[0].current
    assert current.exemptions[0].covers == 1
    over = verdict(
        counted, **WORST, at_least=0.8, exception=[{**exempt, "expires": DAY - dt.timedelta(1)}]
    )
    assert over.outcome == "fail"
    assert not over.exemptions[0].current


def test_a_rule_whose_subgroups_are_all_excepted_does_not_pass() -> None:
    exempt = [
        {"subgroup": {"site": name}, "approved_by": "x", "reason": "y", "expires": DAY}
        for name in ("S0", "S1")
    ]
    found = verdict(sites([(400, 390), (400, 390)]), **WORST, at_least=0.8, exception=exempt)
    assert found.outcome == "insufficient"
    assert found.explanation == "every subgroup is excepted"


def test_within_compares_inside_each_value_only(open_table: OpenTable) -> None:
    frame = pl.concat(
        [
            pl.DataFrame(
                {
                    "gender_true": ["Male"] * 300,
                    "gender_pred": ["Male"] * right + ["Female"] * (300 - right),
                    "site": [site] * 300,
                    "light": [light] * 300,
                }
            )
            for site, light, right in (
                ("A", "day", 290),
                ("B", "day", 288),
                ("A", "night", 200),
                ("B", "night", 196),
            )
        ]
    )
    table = open_table(frame)
    rule = {**BETWEEN, "at_most": 0.15}
    (each,), _ = find_verdicts(table, policy({**rule, "within": ["light"]}), replicates=100)
    assert each.outcome == "pass"
    assert each.value == pytest.approx(4 / 300)
    (pooled,), _ = find_verdicts(table, policy({**rule, "by": ["site", "light"]}), replicates=100)
    assert pooled.outcome == "fail"
    (night,), _ = find_verdicts(
        table, policy({**WORST, "at_least": 0.8, "within": {"light": "night"}}), replicates=100
    )
    assert night.outcome == "fail"
    assert night.value == pytest.approx(196 / 300)


# --- what does not exist ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({**WORST, "task": "genda"}, "no task of the table (p.toml, rule 1) is called 'genda'"),
        ({**WORST, "by": ["sight"]}, "rule 1: no column to form subgroups by is called 'sight'"),
        (
            {**WORST, "metric": "recall", "class": "male"},
            "no class of gender (p.toml, rule 1) is called 'male'; choose one of: Male, Female",
        ),
        ({**WORST, "metric": "one_off"}, "one_off is of age groups, not of 'gender'"),
        (
            {**WORST, "task": "race", "metric": "macro_f1"},
            "macro_f1 of race has no meaning by race",
        ),
        ({**WORST, "within": {"gender": "male"}}, "no class of gender (p.toml, rule 1)"),
        (
            {**WORST, "exception": [{"subgroup": {"race": "Blue"}, "approved_by": "x",
                                     "reason": "y", "expires": DAY}]},
            "no class of race (p.toml, rule 1, exception) is called 'Blue'",
        ),
    ],
)  # fmt: skip
def test_a_rule_that_names_what_there_is_not_is_an_error(
    open_table: OpenTable, rows_of: RowsOf, rule: dict[str, Any], message: str
) -> None:
    by = ["race"] if rule["by"] == ["site"] else rule["by"]
    with pytest.raises(UsageError) as error:
        find_verdicts(
            open_table(rows_of(200)), policy({**rule, "by": by, "at_least": 0.5}), replicates=100
        )
    assert message in str(error.value)


def test_a_column_with_too_many_values_is_an_error(open_table: OpenTable, rows_of: RowsOf) -> None:
    frame = rows_of(300).with_row_index("number")
    with pytest.raises(SchemaError, match="too many for subgroups"):
        find_verdicts(
            open_table(frame), policy({**WORST, "by": ["number"], "at_least": 0.5}), replicates=100
        )


def test_a_tally_is_judged_like_its_table(open_table: OpenTable, rows_of: RowsOf) -> None:
    table = open_table(rows_of(900, seed=6))
    rules = policy(
        {**WORST, "by": ["gender", "race"], "at_least": 0.3},
        {"task": "age", "metric": "mae", "by": ["race"], "measure": "difference", "at_most": 4},
    )
    features = tuple(Feature(name, f"{name}_true", ()) for name in ("gender", "race"))
    counted = tally(table, features)
    (from_table, _), (from_tally, _) = (
        find_verdicts(one, rules, replicates=100) for one in (table, counted)
    )
    assert from_table == from_tally
    with pytest.raises(UsageError, match="no feature in the tally is called 'site'"):
        find_verdicts(counted, policy({**WORST, "at_least": 0.3}), replicates=100)


# --- properties -----------------------------------------------------------------------------------

ANY_RULE = st.one_of(
    st.floats(0.05, 0.95).map(lambda limit: {**WORST, "at_least": limit}),
    st.floats(0.05, 0.95).map(lambda limit: {**BETWEEN, "at_most": limit}),
    st.floats(0.05, 0.95).map(lambda limit: {**WORST, "measure": "ratio", "at_least": limit}),
    st.floats(0.05, 0.95).map(lambda limit: {**WORST, "measure": "equivalent", "at_most": limit}),
)


def made(counts: Sequence[tuple[int, float]], times: int = 1) -> Tally:
    return sites([(times * n, times * round(n * rate)) for n, rate in counts])


@settings(max_examples=40, deadline=None)
@given(COUNTS, ANY_RULE, st.integers(2, 30))
def test_more_faces_of_the_same_rates_only_ever_decide(
    counts: list[tuple[int, float]], rule: dict[str, Any], times: int
) -> None:
    few, many = (verdict(made(counts, k), **rule).outcome for k in (1, times))
    assert few in {"insufficient", many}


@settings(max_examples=40, deadline=None)
@given(COUNTS, ANY_RULE, st.floats(0, 1))
def test_a_tighter_limit_never_turns_a_failure_into_a_pass(
    counts: list[tuple[int, float]], rule: dict[str, Any], by: float
) -> None:
    order = ("fail", "insufficient", "pass")
    if "at_least" in rule:
        tight = {**rule, "at_least": rule["at_least"] + by * (1 - rule["at_least"])}
    else:
        tight = {**rule, "at_most": rule["at_most"] * (1 - by)}
    loose_found, tight_found = (verdict(made(counts), **one).outcome for one in (rule, tight))
    assert order.index(tight_found) <= order.index(loose_found)


@settings(max_examples=40, deadline=None)
@given(COUNTS, ANY_RULE)
def test_so_many_faces_as_needed_decide_the_rule(
    counts: list[tuple[int, float]], rule: dict[str, Any]
) -> None:
    found = verdict(made(counts), **rule)
    if found.n_needed is not None:
        times = -(-found.n_needed // min(n for n, _ in counts))
        assert found.n_needed > min(n for n, _ in counts)
        assert verdict(made(counts, times), **rule).outcome != "insufficient"


CROSSED = [(site, race) for site in ("north", "south") for race in RACE.order]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1)), min_size=4, max_size=4),
    ANY_RULE,
    st.sampled_from(
        [
            {"by": ["race"], "within": ["site"]},
            {"by": ["site", "race"]},
            {"by": ["site"], "within": ["race"]},
            {"by": ["site"], "within": {"race": "Black"}},
        ]
    ),
    st.lists(st.integers(0, 400), min_size=4, max_size=4),
)
def test_a_subgroup_that_loses_its_faces_never_lets_a_rule_pass(
    counts: list[tuple[int, float]],
    rule: dict[str, Any],
    subgroups: dict[str, Any],
    removed: list[int],
) -> None:
    def left(taken: Sequence[int]) -> Tally:
        cells = {
            cell: (n, round(rate * n))
            for cell, (was, rate), less in zip(CROSSED, counts, taken, strict=True)
            if (n := max(was - less, 0))
        }
        # Both sites stay known: others saw faces there whose race nobody annotated.
        return faces_of((SITE, RACE), {**cells, ("north", None): (1, 1), ("south", None): (1, 1)})

    asked = {**rule, **subgroups, "min_n": 10}
    many, few = (verdict(left(taken), **asked) for taken in ([0] * 4, removed))
    faces = [max(was - less, 0) for (was, _), less in zip(counts, removed, strict=True)]
    counted = faces[1::2] if subgroups.get("within") == {"race": "Black"} else faces
    if min(counted) < 10:
        assert few.outcome != "pass"
        assert few.small
    assert not (many.small and few.outcome == "pass")


@settings(max_examples=30, deadline=None)
@given(COUNTS, ANY_RULE, st.integers(1, 8))
def test_more_rules_never_make_a_verdict_easier(
    counts: list[tuple[int, float]], rule: dict[str, Any], more: int
) -> None:
    counted = made(counts)
    alone, among = verdict(counted, **rule), verdicts(counted, *[rule] * (1 + more))[0]
    assert among.outcome in {"insufficient", alone.outcome}


# --- how often a verdict is wrong -----------------------------------------------------------------


def test_wrong_verdicts_of_a_whole_policy_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every rule is exactly at its limit: whichever side counts as wrong, it is rarely shown.
    monkeypatch.setattr("faceaudit.audit.verdict._n_needed", lambda case: None)
    rates, sizes = np.array([0.85, 0.9, 0.9, 0.9]), np.array([150, 400, 80, 250])
    rules = policy(
        {**WORST, "at_least": 0.85},
        {**BETWEEN, "at_most": 0.05},
        {**WORST, "measure": "ratio", "at_least": 0.85 / 0.9},
        {**WORST, "measure": "equivalent", "at_most": 0.05},
        {**WORST, "measure": "each", "at_most": 0.9},
    )
    generator = np.random.default_rng(5)
    trials = 500
    shown = {"pass": 0, "fail": 0}
    for right in generator.binomial(sizes, rates, (trials, len(sizes))):
        counted = sites(list(zip(sizes.tolist(), right.tolist(), strict=True)))
        found = judge(rules, Evidence(counted, Options(replicates=100), DAY))
        for outcome in shown:
            shown[outcome] += any(one.outcome == outcome for one in found)
    allowed = 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)
    assert shown["pass"] / trials <= allowed
    assert shown["fail"] / trials <= allowed


def test_large_samples_are_decided_rightly() -> None:
    generator = np.random.default_rng(6)
    rates, sizes = np.array([0.85, 0.95]), np.array([5000, 5000])
    right = generator.binomial(sizes, rates)
    counted = sites(list(zip(sizes.tolist(), right.tolist(), strict=True)))
    found = verdicts(
        counted,
        {**WORST, "at_least": 0.8},
        {**WORST, "at_least": 0.9},
        {**BETWEEN, "at_most": 0.15},
        {**BETWEEN, "at_most": 0.05},
    )
    assert [one.outcome for one in found] == ["pass", "fail", "pass", "fail"]
    assert outcome_of(found) == "fail"
    assert exit_codes(found) == [10]
    assert outcome_of(found[::2]) == "pass"
    assert exit_codes(found[::2]) == [0]


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


def test_clustered_faces_decide_less(open_table: OpenTable) -> None:
    persons = np.repeat(np.arange(60), 20)
    right = np.repeat(np.arange(60) % 10 != 0, 20)
    frame = pl.DataFrame(
        {
            "gender_true": ["Male"] * 1200,
            "gender_pred": np.where(right, "Male", "Female"),
            "person": [f"p{person}" for person in persons],
        }
    )
    rule = {"task": "gender", "metric": "accuracy", "measure": "overall", "at_least": 0.85}
    table = open_table(frame)
    (alone,), _ = find_verdicts(table, policy(rule), replicates=100)
    (together,), _ = find_verdicts(table, policy(rule), replicates=100, unit="person")
    assert (alone.outcome, together.outcome) == ("pass", "insufficient")
    assert together.n_needed is not None


@pytest.mark.parametrize("faces", [1, 2])
def test_failed_images_of_one_person_count_as_one(open_table: OpenTable, faces: int) -> None:
    persons = np.repeat(np.arange(60), 20 * faces)
    failed = np.repeat(np.arange(60) % 10 == 0, 20 * faces)
    frame = pl.DataFrame(
        {
            "image": [f"{image}.jpg" for image in np.repeat(np.arange(1200), faces)],
            "gender_pred": [None if bad else "Male" for bad in failed],
            "status": np.where(failed, "no_face", "ok"),
            "person": [f"p{person}" for person in persons],
        }
    )
    rule = {"metric": "failure_rate", "measure": "overall", "at_most": 0.15}
    table = open_table(frame)
    (alone,), _ = find_verdicts(table, policy(rule), replicates=100)
    (together,), _ = find_verdicts(table, policy(rule), replicates=100, unit="person")
    assert (alone.n, together.n) == (1200, 1200)
    assert alone.value == together.value == pytest.approx(0.1)
    assert (alone.outcome, together.outcome) == ("pass", "insufficient")


def test_the_smallest_ratio_is_never_above_one() -> None:
    found = verdict(sites([(40, 30), (40, 31)]), **{**WORST, "measure": "ratio"}, at_least=0.5)
    assert found.high == 1


def test_confidence_and_fewest_faces_of_a_rule_go_before_those_of_the_check() -> None:
    counted = sites([(40, 39), (400, 390)])
    own = {**WORST, "at_least": 0.8, "min_n": 50, "confidence": 0.8}
    evidence = Evidence(counted, Options(min_n=10, replicates=100), DAY)
    first = judge(policy(own), evidence)[0]
    assert (first.min_n, first.confidence, len(first.small)) == (50, 0.8, 1)
    usual = judge(policy({**WORST, "at_least": 0.8}), evidence)[0]
    assert (usual.min_n, usual.confidence, usual.small) == (10, 0.95, ())
    assert replace(evidence, day=DAY) == evidence
