"""Verdicts: pass, fail, insufficient, by the bounds of intervals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from faceaudit.audit.comparisons import compare_subgroups
from faceaudit.audit.estimates import Options
from faceaudit.audit.evidence import Evidence
from faceaudit.audit.intervals import share_interval
from faceaudit.audit.run import audit, find_verdicts
from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally import tally
from faceaudit.audit.verdict import exit_codes, judge
from faceaudit.errors import SchemaError, UsageError
from tests.audit.judging import BETWEEN, DAY, WORST, OpenTable, RowsOf, policy, sites, verdict


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


def test_a_few_errors_of_one_of_many_subgroups_near_1_decide_nothing() -> None:
    # Wilson's upper bound after 4 errors in 50 is below the limit at this confidence. Of 14 sites
    # that are all right in 98 %, one has so many errors in 22 of 100 tables.
    right = [(50, 46), *[(50, 49)] * 13]
    _, high = share_interval(46 / 50, 50, 1 - 0.05 / 14)
    assert high < 0.98
    assert verdict(sites(right), **WORST, at_least=0.98).outcome == "insufficient"
    many = verdict(sites([(50, 40), *[(50, 49)] * 13]), **WORST, at_least=0.98)
    assert many.outcome == "fail"


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


@pytest.mark.parametrize(
    "rule",
    [
        {"metric": "failure_rate", "by": ["race_pred"], "measure": "worst", "at_most": 0.05},
        {"metric": "decoding", "by": ["race_pred"], "measure": "worst", "at_least": 0.9},
        {"metric": "detection", "measure": "overall", "within": {"gender_pred": "Female"},
         "at_least": 0.95},
    ],
)  # fmt: skip
def test_rates_of_images_are_not_taken_by_predictions_that_failures_lack(
    open_table: OpenTable, rows_of: RowsOf, rule: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=r"rule 1: failures have no .*_pred; form subgroups by"):
        find_verdicts(open_table(rows_of(300)), policy(rule), replicates=100)


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
