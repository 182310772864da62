"""Bins of confidence: how often the model was right in each, against scikit-learn and a recount."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve

from faceaudit.audit.estimates import OWN_CLASS, Options
from faceaudit.audit.metrics import NO_SCORES, ece
from faceaudit.audit.reliability import EDGES, find_reliability
from faceaudit.audit.results import Audit, Reliability
from faceaudit.audit.run import audit
from faceaudit.audit.suppress import suppress
from faceaudit.reporting import report
from faceaudit.schema import SCHEMES
from faceaudit.tables import PredictionTable

RowsOf = Callable[..., pl.DataFrame]
OpenTable = Callable[..., PredictionTable]
QUICK: dict[str, Any] = {"replicates": 100, "verify": "never"}
BINS = len(EDGES) - 1
RACES = SCHEMES["utkface5"]


def found_of(found: Audit, task: str, **subgroup: str) -> Reliability:
    (only,) = [one for one in found.calibration if (one.task, one.subgroup) == (task, subgroup)]
    return only


def sure_and_right(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The highest score of the race of every face that has one, and whether it was right."""
    scored = rows.drop_nulls(["race_true", *(f"race_prob_{name}" for name in RACES)])
    scores = scored.select(f"race_prob_{name}" for name in RACES).to_numpy()
    right = np.array(RACES)[scores.argmax(axis=1)] == scored["race_true"].to_numpy()
    return scores.max(axis=1), right


@pytest.mark.parametrize("gender", [None, "Female", "Male"])
def test_bins_are_those_of_scikit_learn(
    gender: str | None, rows_of: RowsOf, open_table: OpenTable
) -> None:
    rows = rows_of(900, seed=3)
    subgroup = {} if gender is None else {"gender": gender}
    found = found_of(audit(open_table(rows), by=["gender"], **QUICK), "race", **subgroup)
    chosen = rows if gender is None else rows.filter(gender_true=gender)
    sure, right = sure_and_right(chosen)
    share, mean = calibration_curve(right, sure, n_bins=BINS)
    np.testing.assert_allclose([one.right.value for one in found.bins], share, atol=1e-12)
    np.testing.assert_allclose([one.confidence for one in found.bins], mean, atol=1e-12)
    assert found.n == len(sure) == sum(one.right.n for one in found.bins)


def test_bins_hold_the_faces_between_their_edges_with_wilsons_interval_or_a_wider_one(
    rows_of: RowsOf, open_table: OpenTable
) -> None:
    rows = rows_of(500, seed=5)
    found = found_of(audit(open_table(rows), by=[], **QUICK), "race")
    sure, right = sure_and_right(rows)
    plain = 0
    for one in found.bins:
        inside = (sure > one.lower) & (sure <= one.upper)
        hits = int(right[inside].sum())
        assert one.right.n == inside.sum() > 0
        wilson = binomtest(hits, one.right.n).proportion_ci(0.95, method="wilson")
        assert one.right.low <= wilson.low + 1e-9
        assert one.right.high >= wilson.high - 1e-9
        if min(hits, one.right.n - hits) > 3:
            assert one.right.low == pytest.approx(wilson.low, abs=1e-9)
            assert one.right.high == pytest.approx(wilson.high, abs=1e-9)
            plain += 1
    assert plain > 5
    assert [one.lower for one in found.bins] == sorted({one.lower for one in found.bins})


def test_bins_tell_the_calibration_error(rows_of: RowsOf, open_table: OpenTable) -> None:
    found = audit(open_table(rows_of(800)), by=["gender", "race"], **QUICK)
    for one in found.calibration:
        key = (one.task, "ece", None, frozenset(one.subgroup.items()))
        expected = found.metrics_by_key[key].estimate
        if not one.bins:
            assert expected.value is None
            assert one.reason == expected.reason == OWN_CLASS
            continue
        sums = [
            [b.right.n, b.right.n * (b.confidence or 0.0), b.right.n * (b.right.value or 0.0)]
            for b in one.bins
        ]
        assert float(ece(np.array(sums))) == pytest.approx(expected.value, abs=1e-9)
        assert one.n == expected.n


def test_units_widen_the_intervals_of_bins(rows_of: RowsOf, open_table: OpenTable) -> None:
    once = rows_of(150).with_columns(person=pl.int_range(150).cast(pl.String))
    rows = pl.concat([once] * 4).with_columns(image=pl.int_range(600).cast(pl.String))
    alone = found_of(audit(open_table(rows), by=[], **QUICK), "race")
    of_units = found_of(audit(open_table(rows), by=[], unit="person", **QUICK), "race")
    compared = 0
    for plain, wide in zip(alone.bins, of_units.bins, strict=True):
        assert wide.right.value == plain.right.value
        if wide.right.low is None or wide.right.high is None:
            assert wide.right.reason
            continue
        compared += 1
        assert wide.right.high - wide.right.low > plain.right.high - plain.right.low
    assert compared > 5


def test_tasks_without_scores_have_no_bins_and_a_reason(
    rows_of: RowsOf, open_table: OpenTable
) -> None:
    rows = rows_of(200).drop(pl.col("^race_prob_.*$"))
    found = audit(open_table(rows), by=["gender"], **QUICK)
    for subgroup in ({}, {"gender": "Female"}, {"gender": "Male"}):
        one = found_of(found, "race", **subgroup)
        assert (one.n, one.bins, one.reason) == (0, (), NO_SCORES)
    assert found_of(found, "gender").bins


def test_tables_without_labels_have_no_bins(rows_of: RowsOf, open_table: OpenTable) -> None:
    assert audit(open_table(rows_of(80).drop(pl.col("^.*_true$"))), **QUICK).calibration == ()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=BINS, max_size=BINS))
def test_shares_stay_within_their_intervals(faces: list[tuple[int, int]]) -> None:
    right, wrong = np.array(faces).T
    n = right + wrong
    middle = (np.array(EDGES[:-1]) + np.array(EDGES[1:])) / 2
    counts = np.stack([n, n * middle, right], axis=-1)[None]
    (found,) = find_reliability("race", [{}], counts, Options())
    assert found.n == n.sum()
    assert len(found.bins) == (n > 0).sum()
    assert (found.reason is None) == bool(found.bins)
    for one in found.bins:
        assert one.confidence is not None
        assert one.lower < one.confidence < one.upper
        if one.right.low is not None and one.right.high is not None:
            assert 0 <= one.right.low <= (one.right.value or 0) <= one.right.high <= 1


def test_small_bins_are_kept_back_with_another(rows_of: RowsOf, open_table: OpenTable) -> None:
    whole = audit(open_table(rows_of(400)), by=["gender"], **QUICK)
    kept = suppress(whole, 12)
    before = found_of(whole, "race", gender="Female").bins
    after = found_of(kept, "race", gender="Female").bins
    hidden = [b for b, a in zip(before, after, strict=True) if a.right.suppressed]
    assert {b.lower for b in before if b.right.n < 12} <= {b.lower for b in hidden}
    assert len(hidden) > 1
    for one in after:
        assert (one.confidence is None) == one.right.suppressed == (one.right.value is None)
    none = suppress(whole, 1000)
    assert all(one.n is None and not one.bins and one.reason for one in none.calibration)


def test_one_small_bin_takes_the_next_smallest_with_it() -> None:
    n = np.zeros(BINS)
    n[[8, 12, 19]] = 5, 40, 60
    counts = np.stack([n, n * 0.5, n * 0.5], axis=-1)[None]
    (one,) = find_reliability("race", [{}], counts, Options())
    found = suppress(
        Audit((), (), 0, 0, {}, (), (), (), (), (), (), (), (), calibration=(one,)), 10
    )
    assert [b.right.suppressed for b in found.calibration[0].bins] == [True, True, False]


def test_frame_has_a_row_per_bin(rows_of: RowsOf, open_table: OpenTable) -> None:
    rows = rows_of(300).with_columns(lower=pl.int_range(300) % 2)
    found = audit(open_table(rows), by=["gender", "lower"], **QUICK)
    frame = found.calibration_to_polars()
    assert frame.height == sum(len(one.bins) for one in found.calibration)
    female = frame.filter(task="race", gender="Female").filter(pl.col("subgroup_lower").is_null())
    bins = found_of(found, "race", gender="Female").bins
    assert female["confidence"].to_list() == [one.confidence for one in bins]
    assert female["value"].to_list() == [one.right.value for one in bins]
    assert female["small"].to_list() == [one.right.n < 30 for one in bins]
    suppressed = suppress(found, 12).calibration_to_polars()
    assert suppressed["n"].null_count() == suppressed["value"].null_count() > 0


def test_json_and_page_hold_the_bins_of_the_audit(rows_of: RowsOf, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows_of(400).write_parquet(path)
    files = report(path, by=["gender", "race"], **QUICK)
    facts = json.loads(files.paths[1].read_text())["calibration"]
    assert len(facts) == len(files.audit.calibration) > 30
    for told, one in zip(facts, files.audit.calibration, strict=True):
        assert (told["task"], told["subgroup"], told["n"]) == (one.task, one.subgroup, one.n)
        assert (told["bins"] is None) == (not one.bins)
        for place, known in zip(told["bins"] or [], one.bins, strict=True):
            assert place["value"] == known.right.value
            assert (place["lower"], place["upper"]) == (known.lower, known.upper)
            assert (place["n"], place["confidence"]) == (known.right.n, known.confidence)
    page = files.paths[0].read_text()
    section = page[page.index('<section id="calibration"') : page.index('<section id="confusion"')]
    race = section[section.index("<h3>Race</h3>") :]
    for one in found_of(files.audit, "race", gender="Female").bins:
        assert f"{100 * (one.right.value or 0.0):.1f}%" in race
    assert "annotated gender" in race
