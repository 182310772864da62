"""Verdicts on small cells: a gate and a report tell no count that the other keeps back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import faceaudit
from faceaudit.audit.results import Verdict

RULE = {"measure": "overall", "owner": "A", "reason": "B", "min_n": 1}
SHARE = {**RULE, "task": "race", "metric": "predicted_share", "at_most": 0.5}
ACCURACY = {**RULE, "task": "gender", "metric": "accuracy", "at_least": 0.2}
BELOW = 10


def faces_of(indian: int) -> pl.DataFrame:
    """Faces of 300 images, so many of them Indian at site A; 61 are so or Black there."""
    parts = {
        ("White", "A"): 100,
        ("Black", "A"): 61 - indian,
        ("Indian", "A"): indian,
        ("White", "B"): 139,
    }
    rows = [
        {
            "race_true": race,
            "race_pred": race,
            "gender_true": "Male",
            "gender_pred": "Female" if number % 9 == 0 else "Male",
            "site": site,
        }
        for (race, site), n in parts.items()
        for number in range(n)
    ]
    return pl.DataFrame(rows)


def cameras_of(last: int) -> pl.DataFrame:
    """207 and 40 faces of the first two cameras, so many of them of a third.

    The second camera has the lower accuracy, and the wider interval.
    """
    cameras = [("x", 207, 21), ("y", 40 - last, 6), ("z", last, 0)]
    return pl.DataFrame(
        [
            {
                "gender_true": "Male",
                "gender_pred": "Female" if number < errors else "Male",
                "camera": camera,
            }
            for camera, n, errors in cameras
            for number in range(n)
        ]
    )


def told(
    folder: Path, frame: pl.DataFrame, rules: Sequence[dict[str, Any]], **options: Any
) -> list[tuple[Verdict, ...]]:
    """Verdicts with small cells left out, by a gate and by a report."""
    path = folder / "t.csv"
    frame.write_csv(path)
    policy = {"rule": list(rules)}
    gate = faceaudit.check(path, policy, suppress_below=BELOW)
    report = faceaudit.report(
        path, policy=policy, suppress_below=BELOW, verify="never", replicates=100, **options
    )
    assert [one.outcome for one in gate.verdicts] == [one.outcome for one in report.audit.verdicts]
    return [gate.verdicts, report.audit.verdicts]


@pytest.mark.parametrize(
    "rule",
    [
        {**SHARE, "class": "Indian"},
        {**SHARE, "class": "Indian", "by": ["site"], "measure": "each"},
        {**SHARE, "class": "Indian", "within": {"site": "A"}},
        {**SHARE, "class": "Black"},
        {**ACCURACY, "task": "race", "class": "Indian", "metric": "false_positive_rate"},
        {**SHARE, "class": "Indian", "metric": "selection_rate"},
    ],
    ids=lambda rule: f"{rule['metric']} of {rule['class']} {rule['measure']}{rule.get('within')}",
)
def test_a_verdict_tells_no_small_class(tmp_path: Path, rule: dict[str, Any]) -> None:
    """Value times faces, or a class less the others: 6 reads like 7."""
    first, second = (told(tmp_path, faces_of(n), [rule], by=["gender"]) for n in (6, 7))
    assert first == second
    for (verdict,) in first:
        assert (verdict.value, verdict.low, verdict.n) == (None, None, None)


def test_a_verdict_on_a_large_class_keeps_its_figures(tmp_path: Path) -> None:
    for (verdict,) in told(tmp_path, faces_of(6), [{**SHARE, "class": "White"}], by=["gender"]):
        assert (verdict.value, verdict.n) == (pytest.approx(239 / 300), 300)


def test_a_small_subgroup_does_not_follow_from_verdicts_on_the_others(tmp_path: Path) -> None:
    """All less the first two: the table's rules together tell the third."""
    rules = [{**ACCURACY, "within": {"camera": one}} for one in "xyz"]
    for verdicts in told(tmp_path, cameras_of(6), [ACCURACY, *rules], by=["gender"]):
        assert [one.n for one in verdicts] == [247, 207, None, None]


def test_bounds_of_a_hidden_subgroup_are_hidden(tmp_path: Path) -> None:
    """Of the second camera, without which the third would follow."""
    rule = {**ACCURACY, "by": ["camera"], "measure": "worst", "at_least": 0.89, "min_n": 20}
    for (verdict,) in told(tmp_path, cameras_of(6), [rule], by=["gender"]):
        assert (verdict.outcome, verdict.n, verdict.low) == ("insufficient", None, None)


def test_minors_do_not_follow_from_rules_on_adults_and_on_everybody(tmp_path: Path) -> None:
    ages = [12] * 6 + [40] * 200
    frame = pl.DataFrame({"age_true": ages, "age_pred": ages})
    rule = {**RULE, "task": "age", "at_most": 0.5}
    names = ("mae", "challenge_30_fnr", "challenge_30_fpr")
    rules = [{**rule, "metric": name} for name in names]
    for verdicts in told(tmp_path, frame, rules, by=[]):
        assert [one.n for one in verdicts] == [206, None, None]


def test_a_few_failures_of_everybody_are_not_told(tmp_path: Path) -> None:
    frame = (
        faces_of(20)
        .with_row_index()
        .with_columns(
            status=pl.when(pl.col("index") < 4).then(pl.lit("no_face")).otherwise(pl.lit("ok")),
            image=pl.col("index").cast(pl.String),
        )
    )
    frame = frame.with_columns(
        pl.when(pl.col("status") == "ok").then(pl.col(name)).alias(name)
        for name in ("race_pred", "gender_pred")
    )
    rules = [
        {**RULE, "metric": "failure_rate", "at_most": 0.5},
        {**RULE, "metric": "detection", "at_least": 0.5},
    ]
    for verdicts in told(tmp_path, frame.drop("index"), rules, by=["gender"]):
        for verdict in verdicts:
            assert (verdict.outcome, verdict.value, verdict.n) == ("pass", None, None)
