"""Features of any type and name: subgroups of one face, missing values, markup."""

from __future__ import annotations

import json
import math
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from faceaudit.reporting import report
from tests.bad_tables.conftest import GENDER, ROWS, facts_of, repeated, typed


def test_a_subgroup_of_one_face_is_shown_marked_and_not_ranked(tmp_path: Path) -> None:
    frame = pl.DataFrame({**GENDER, "site": ["A"] * 39 + ["B"]})
    frame.write_parquet(tmp_path / "t.parquet")
    facts = facts_of(tmp_path / "t.parquet", by=["site"])
    alone = [
        one
        for one in facts["metrics"]
        if one["subgroup"] == {"site": "B"} and one["metric"] == "accuracy"
    ]
    assert [(one["n"], one["value"]) for one in alone] == [(1, 1.0)]
    assert alone[0]["low"] < 0.3
    ranked = [one for one in facts["disparities"] if one["metric"] == "accuracy"]
    assert all(one["difference"] is None and one["reason"] for one in ranked)


def test_values_of_a_feature_that_differ_in_blanks_are_one_subgroup(tmp_path: Path) -> None:
    values = typed(repeated("a", "a ", " a", "", " "), pl.String)
    pl.DataFrame({**GENDER, "site": values}).write_parquet(tmp_path / "t.parquet")
    facts = facts_of(tmp_path / "t.parquet", by=["site"])
    groups = [
        (one["subgroup"], one["n"])
        for one in facts["metrics"]
        if one["subgroup"] and one["metric"] == "accuracy"
    ]
    assert groups == [({"site": "a"}, 24)]


@pytest.mark.parametrize(
    "values",
    [
        repeated(math.nan, 1.0),
        repeated(math.inf, 1.0),
        repeated(True, False),
        repeated(date(2020, 1, 1), date(2021, 1, 1)),
        typed(repeated("a", "b"), pl.Categorical),
        repeated(None, "a"),
    ],
    ids=["nan", "infinite", "truth", "dates", "dictionary", "missing"],
)
def test_features_of_any_type_cut_the_rows_they_have(values: Any, tmp_path: Path) -> None:
    pl.DataFrame({**GENDER, "f": values}, strict=False).write_parquet(tmp_path / "t.parquet")
    facts = facts_of(tmp_path / "t.parquet", by=["f"])
    faces = [
        one["n"] for one in facts["metrics"] if one["subgroup"] and one["metric"] == "accuracy"
    ]
    assert set(faces) == {20}
    assert facts["verification"]["largest_difference"] < 1e-12


MARKUP = "<script>alert(1)</script>", "<img src=x onerror=alert(2)>", '"><b onclick="x">&amp;'


@pytest.mark.parametrize("markup", MARKUP)
def test_markup_in_names_and_values_stays_text(markup: str, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            **GENDER,
            markup: repeated(markup, "b"),
            f"{markup}_true": repeated(markup, "b"),
            f"{markup}_pred": repeated("b", markup, markup, markup),
            "age_true": [30.0] * ROWS,
            "age_pred": repeated(30.0, 31.0),
        }
    )
    path = tmp_path / "t.parquet"
    frame.write_parquet(path)
    files = report(path, by=[markup, "gender"], replicates=100, title=markup)
    page = files.paths[0].read_text()
    assert markup not in page
    for piece in ("<script>alert", "<img src=x", '<b onclick="x"'):
        assert piece not in page
    facts = json.loads(files.paths[1].read_text())
    assert {one["task"] for one in facts["metrics"]} >= {markup, "gender"}
