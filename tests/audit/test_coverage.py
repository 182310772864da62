"""Who is missing: rates of failure, and figures that count failures as errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import accuracy_score, recall_score

from faceaudit.audit.coverage import find_coverage
from faceaudit.audit.policy import Policy, parse_rules
from faceaudit.audit.results import Coverage, WithFailures
from faceaudit.audit.run import audit
from faceaudit.audit.subgroups import find_features
from faceaudit.audit.tally import tally
from faceaudit.tables import PredictionTable

QUICK = {"replicates": 100, "verify": "never"}


def one_of(found: tuple[WithFailures, ...], **wanted: object) -> WithFailures:
    wanted = {"subgroup": {}, "label": None, **wanted}
    (only,) = [one for one in found if all(getattr(one, k) == v for k, v in wanted.items())]
    return only


def test_failures_count_as_errors_in_every_subgroup(
    rows_of: Callable[..., pl.DataFrame], open_table: Callable[..., PredictionTable]
) -> None:
    frame = rows_of(800)
    found = audit(open_table(frame), by=["gender", "race"], **QUICK).with_failures
    for subgroup in ({}, {"gender": "Female"}, {"gender": "Male", "race": "Asian"}):
        chosen = [pl.col(f"{name}_true") == value for name, value in subgroup.items()]
        rows = frame.filter(pl.lit(True), *chosen)
        told = rows["race_pred"].fill_null("no prediction").to_list()
        one = one_of(found, task="race", metric="accuracy", subgroup=subgroup)
        assert one.with_failures.value == pytest.approx(accuracy_score(rows["race_true"], told))
        assert one.missed == rows["race_pred"].null_count()
        scored = rows.drop_nulls("race_pred")
        expected = accuracy_score(scored["race_true"], scored["race_pred"])
        assert one.scored.value == pytest.approx(expected)
        assert one.difference.value == pytest.approx(expected - one.with_failures.value)
        near = (rows["age_true"] - rows["age_pred"]).abs() <= 5
        years = one_of(found, task="age", metric="cs_at_5", subgroup=subgroup)
        assert years.with_failures.value == pytest.approx(near.fill_null(False).mean())
    told = frame["race_pred"].fill_null("no prediction").to_list()
    expected = recall_score(frame["race_true"], told, labels=["Black"], average=None)[0]
    recall = one_of(found, task="race", metric="recall", label="Black")
    assert recall.with_failures.value == pytest.approx(expected)


def test_one_off_counts_a_missing_age_group_as_far_off(
    rows_of: Callable[..., pl.DataFrame], open_table: Callable[..., PredictionTable]
) -> None:
    table = open_table(rows_of(500))
    found = audit(table, by=["gender"], **QUICK)
    one = one_of(found.with_failures, task="age_group", metric="one_off")
    rows = table.frame.select("age_group_true", "age_group_pred").collect()
    classes = table.task("age_group").classes
    steps = [
        pred is not None and abs(classes.index(true) - classes.index(pred)) <= 1
        for true, pred in rows.drop_nulls("age_group_true").iter_rows()
    ]
    assert one.with_failures.value == pytest.approx(np.mean(steps))


def test_without_failures_both_figures_are_the_same(
    rows_of: Callable[..., pl.DataFrame], open_table: Callable[..., PredictionTable]
) -> None:
    table = open_table(rows_of(300).filter(pl.col("status") == "ok"))
    found = audit(table, by=["gender"], **QUICK)
    for one in found.with_failures:
        assert one.scored == one.with_failures
        assert one.missed == 0
        assert one.difference.value == 0
        assert one.difference.high > 0 or one.scored.value == 0


def test_figures_with_failures_lie_between_nothing_and_those_of_scored_faces(
    rows_of: Callable[..., pl.DataFrame], open_table: Callable[..., PredictionTable]
) -> None:
    found = audit(open_table(rows_of(400, seed=3)), by=["gender", "race"], **QUICK).with_failures
    assert len(found) > 100
    for one in found:
        if one.scored.value is None:
            assert one.scored.reason
            continue
        assert 0 <= one.with_failures.value <= one.scored.value
        assert 0 <= one.difference.low <= one.difference.value <= one.difference.high <= 1


def test_units_widen_figures_with_failures(
    rows_of: Callable[..., pl.DataFrame], open_table: Callable[..., PredictionTable]
) -> None:
    frame = rows_of(200)
    frame = pl.concat([frame] * 4).with_columns(
        person=pl.int_range(800) % 200,
        image=pl.int_range(800).cast(pl.String),
    )
    plain = audit(open_table(frame), by=[], **QUICK)
    within = audit(open_table(frame), by=[], unit="person", **QUICK)
    wanted = {"task": "race", "metric": "accuracy"}
    pairs = [one_of(one.with_failures, **wanted) for one in (plain, within)]
    for figure in ("with_failures", "difference"):
        narrow, wide = (getattr(one, figure) for one in pairs)
        assert narrow.value == wide.value
        assert 1.6 < (wide.high - wide.low) / (narrow.high - narrow.low) < 2.6, figure


def coverage_of(found: tuple[Coverage, ...], **subgroup: str) -> Coverage:
    (only,) = [one for one in found if one.subgroup == subgroup]
    return only


def test_rates_keep_statuses_apart(
    rows_of: Callable[..., pl.DataFrame], open_table: Callable[..., PredictionTable]
) -> None:
    frame = rows_of(200).with_columns(
        status=pl.when(pl.int_range(200) < 20)
        .then(pl.lit("unreadable"))
        .when(pl.int_range(200) < 60)
        .then(pl.lit("no_face"))
        .otherwise(pl.lit("ok"))
    )
    one = coverage_of(audit(open_table(frame), by=["gender"], **QUICK).coverage)
    assert one.rates["unreadable"].value == pytest.approx(20 / 200)
    assert one.rates["no_face"].value == pytest.approx(40 / 200)
    assert one.rates["decoding"].value == pytest.approx(180 / 200)
    assert one.rates["detection"].value == pytest.approx(140 / 180)
    assert one.rates["detection"].n == 180
    assert all(rate.low <= rate.value <= rate.high for rate in one.rates.values() if rate.low)


def test_images_with_several_faces_are_a_rate_where_every_face_has_a_row(
    rows_of: Callable[..., pl.DataFrame], open_table: Callable[..., PredictionTable]
) -> None:
    frame = rows_of(100).with_columns(status=pl.lit("ok"))
    doubled = pl.concat([frame, frame.head(10)])
    one = coverage_of(audit(open_table(doubled), by=[], **QUICK).coverage)
    assert one.rates["multi_face"].value == pytest.approx(10 / 100)
    table = open_table(doubled.with_columns(person=pl.col("image")))
    for unit in (None, "person"):
        counted = tally(table, find_features(table, ["gender"]), unit=unit)
        for cell in find_coverage(counted, [("gender",)], 0.95):
            own = frame.head(10).filter(
                *(pl.col(f"{name}_true") == label for name, label in cell.subgroup.items())
            )
            if "(not annotated)" not in cell.subgroup.values():
                assert cell.rates["multi_face"].value == pytest.approx(own.height / cell.images)
    single = coverage_of(audit(open_table(frame), by=[], **QUICK).coverage)
    assert single.rates["multi_face"].value is None
    assert "--faces all" in single.rates["multi_face"].reason


def test_a_table_that_gives_no_reasons_has_no_detection_rate(
    rows_of: Callable[..., pl.DataFrame], open_table: Callable[..., PredictionTable]
) -> None:
    one = coverage_of(audit(open_table(rows_of(100).drop("status")), by=[], **QUICK).coverage)
    assert one.failure_rate.value > 0
    assert one.rates["detection"].value is None
    assert "does not say why" in one.rates["detection"].reason


@pytest.mark.parametrize("unit", [None, "person"])
def test_rates_have_the_intervals_that_verdicts_on_them_rest_on(
    rows_of: Callable[..., pl.DataFrame], open_table: Callable[..., PredictionTable], unit: str
) -> None:
    failed = pl.int_range(400) // 8 % 5 < 1
    frame = rows_of(400).with_columns(
        status=pl.when(failed).then(pl.lit("no_face")).otherwise(pl.lit("ok")),
        person=(pl.int_range(400) // 8).cast(pl.String),
    )
    rule = {"measure": "overall", "owner": "somebody", "reason": "a test"}
    rules = [
        {**rule, "metric": "failure_rate", "at_most": 0.9},
        {**rule, "metric": "detection", "at_least": 0.1},
        {**rule, "metric": "predicted_share", "at_most": 0.9, "task": "gender", "class": "Male"},
    ]
    for one in rules:
        policy = Policy("p.toml", "0" * 64, parse_rules({"rule": [one]}, "p.toml"))
        found = audit(open_table(frame), by=[], unit=unit, policy=policy, **QUICK)
        (verdict,) = found.verdicts
        shown = {
            "failure_rate": coverage_of(found.coverage).failure_rate,
            "detection": coverage_of(found.coverage).rates["detection"],
            "predicted_share": next(
                share.share
                for share in found.composition
                if (share.task, share.label) == ("gender", "Male")
            ),
        }[verdict.metric]
        assert (verdict.low, verdict.high) == pytest.approx((shown.low, shown.high))


def test_rates_and_rules_on_images_know_only_subgroups_that_images_belong_to(
    open_table: Callable[..., PredictionTable],
) -> None:
    people = [("Female", "Black"), ("Male", "Indian")]
    rows = [(f"two {k}", face, "ok", *one) for k in range(50) for face, one in enumerate(people)]
    for race in ("Asian", "White"):
        statuses = ["ok" if k < 24 else "no_face" for k in range(30)]
        rows += [(f"{race} {k}", 0, status, "Male", race) for k, status in enumerate(statuses)]
    names = ["image", "face", "status", "gender_true", "race_true"]
    frame = pl.DataFrame(rows, names, orient="row").with_columns(
        pl.when(status="ok").then(f"{name}_true").alias(f"{name}_pred")
        for name in ("gender", "race")
    )
    rule = {"metric": "failure_rate", "measure": "worst", "by": ["gender", "race"]}
    given = [{**rule, "at_most": 0.9, "owner": "somebody", "reason": "a test"}]
    policy = Policy("p.toml", "0" * 64, parse_rules({"rule": given}, "p.toml"))
    found = audit(open_table(frame), by=["gender", "race"], policy=policy, **QUICK)
    rates = {tuple(one.subgroup.values()): one.failure_rate for one in found.coverage}
    assert {where: (rate.n, rate.value) for where, rate in rates.items()} == {
        (): (110, pytest.approx(12 / 110)),
        ("Male",): (60, 0.2),
        ("Female",): (50, 0),
        ("White",): (30, 0.2),
        ("Black",): (50, 0),
        ("Asian",): (30, 0.2),
        ("Male", "White"): (30, 0.2),
        ("Male", "Asian"): (30, 0.2),
        ("Female", "Black"): (50, 0),
    }
    (verdict,) = found.verdicts
    assert (verdict.outcome, verdict.value) == ("insufficient", pytest.approx(0.2))
    assert {"gender": "Male", "race": "Indian"} in verdict.small
