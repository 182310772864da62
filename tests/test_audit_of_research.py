"""The reading of the audit of the bundle for research says what its predictions show."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from faceaudit import compare
from faceaudit.audit.run import audit
from faceaudit.models.bundle import load_bundle
from faceaudit.showcase.run import PREDICTIONS
from faceaudit.tables import read_table
from scripts import audit_of_research as document

FOUND = audit(read_table(document.PREDICTIONS), verify="never")
YOUNG = ("0-2", "10-19", "20-29")
OLD = ("30-39", "40-49", "50-59", "60-69", "70+")
FAIRFACE = audit(read_table(PREDICTIONS), verify="never")


def value(found, task: str, metric: str, **subgroup: str) -> float:
    return next(
        m.estimate.value
        for m in found.metrics
        if (m.task, m.metric, m.subgroup, m.label) == (task, metric, subgroup, None)
    )


def test_the_document_is_current() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert document.filled(text) == text, "run python -m scripts.audit_of_research"


def test_the_predictions_name_no_image() -> None:
    table = pl.read_parquet(document.PREDICTIONS)
    assert table["sha256"].null_count() == len(table)
    assert table["image"].to_list() == [f"{row:05d}" for row in range(len(table))]


def test_it_is_better_at_ages_and_race_and_at_gender_of_some(
    tmp_path: Path,
) -> None:
    assert value(FOUND, "age", "mae") < value(FAIRFACE, "age", "mae") - 0.3
    assert value(FOUND, "race", "accuracy") > value(FAIRFACE, "race", "accuracy") + 0.05
    found = compare(PREDICTIONS, document.PREDICTIONS, output=tmp_path / "a.html").changes.changes
    verdicts = {
        tuple(one.subgroup.values()): one.verdict
        for one in found
        if (one.task, one.metric) == ("gender", "accuracy") and len(one.subgroup) < 2
    }
    better = {who for who, verdict in verdicts.items() if verdict != "no difference shown"}
    assert better == {(), ("Female",), ("White",)}
    assert {verdicts[who] for who in better} == {"improved"}


def test_on_held_out_fairface_it_is_better_by_as_much_as_the_document_says() -> None:
    own, other = (load_bundle(name).card["metrics"] for name in ("research", "fairface"))
    for task, low, high in (
        ("gender", 0.005, 0.015),
        ("race", 0.0125, 0.0175),
        ("age_group", -0.01, 0.01),
    ):
        mine = own[task]["sets"]["fairface_crops"]
        assert 0.99 * other[task]["n"] < mine["n"] <= other[task]["n"]
        assert low < mine["accuracy"] - other[task]["accuracy"] < high


def test_gender_is_worst_where_the_document_says() -> None:
    found = next(
        c
        for c in FOUND.comparisons
        if (c.task, c.metric, c.by, c.label) == ("gender", "accuracy", ("race",), None)
    )
    shown = {frozenset((one.first["race"], one.second["race"])) for one in found.shown}
    assert shown == {frozenset((a, b)) for a in ("White", "Black") for b in ("Asian", "Others")}
    races = {
        race: value(FOUND, "gender", "accuracy", race=race)
        for race in ("White", "Black", "Asian", "Indian", "Others")
    }
    assert sorted(races, key=races.__getitem__)[:2] == ["Asian", "Others"]


def test_others_are_mostly_missed_and_the_old_are_made_young() -> None:
    assert value(FOUND, "race", "accuracy", race="Others") < 0.5
    steps = {
        one.age_group: one.estimates["mean_signed_step"]
        for one in FOUND.conditioned_age
        if not one.subgroup and one.age_group and not one.standardised
    }
    assert all(steps[age].high < 0 for age in OLD)
    assert all(steps[age].low > 0 for age in YOUNG)
    assert min(OLD, key=lambda age: steps[age].value) == "70+"
