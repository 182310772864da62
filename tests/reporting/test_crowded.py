"""Audits of very many subgroups stay pages that open."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from faceaudit.reporting import crowded, report, tables
from faceaudit.reporting.sections import performance

SECTIONS = ("performance", "classes", "confusion")
QUICK: dict[str, Any] = {"replicates": 100, "verify": "never", "by": ["site"]}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Eight sites, each with more faces than the one before; in the second all are wrong."""
    random = np.random.default_rng(0)
    sites = np.repeat(np.arange(8), 30 + 10 * np.arange(8))
    true = random.integers(0, 2, len(sites))
    right = np.where(sites == 1, False, random.random(len(sites)) < 0.8)
    names = np.array(["Male", "Female"])
    path = tmp_path / "t.parquet"
    pl.DataFrame(
        {
            "site": [f"site-{site}" for site in sites],
            "gender_true": names[true],
            "gender_pred": names[np.where(right, true, 1 - true)],
        }
    ).write_parquet(path)
    return path


def test_the_page_shows_the_largest_and_the_worst_subgroups_and_says_so(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowded, "PAGE_SUBGROUPS", 2)
    files = report(table, **QUICK)
    page, facts = files.paths[0].read_text(), json.loads(files.paths[1].read_text())
    assert "The page shows 3 of 8 subgroups by site. One half" in page
    best = next(one["best"] for one in facts["disparities"] if one["metric"] == "accuracy")
    shown = _sites(_section(page, "performance"))
    assert set(shown) == {"site-1", best["site"], "site-7"}
    assert {one["subgroup"].get("site") for one in facts["metrics"]} == {
        None,
        *(f"site-{site}" for site in range(8)),
    }


def test_what_is_the_worst_first_on_the_page_is_the_worst_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(3)
    frame = pl.DataFrame({"site": np.repeat(np.arange(90), random.integers(10, 200, 90))})
    rate, failing = random.random(90)[frame["site"]], 0.3 * random.random(90)[frame["site"]]
    scored = random.random(len(frame)) > failing
    right = np.where(random.random(len(frame)) < rate, "Female", "Male")
    pl.DataFrame(
        {
            "site": "site-" + frame["site"].cast(pl.String),
            "status": np.where(scored, "ok", "no_face"),
            "gender_true": ["Female"] * len(frame),
            "gender_pred": pl.Series(right).zip_with(pl.Series(scored), pl.Series([None])),
        }
    ).write_parquet(tmp_path / "t.parquet")
    monkeypatch.setattr(crowded, "PAGE_SUBGROUPS", 40)
    files = report(tmp_path / "t.parquet", **QUICK)
    page, facts = files.paths[0].read_text(), json.loads(files.paths[1].read_text())
    accuracy = {
        one["subgroup"]["site"]: one["value"]
        for one in facts["metrics"]
        if one["metric"] == "accuracy" and one["subgroup"] and one["n"] >= 30
    }
    failures = {
        one["subgroup"]["site"]: -one["failure_rate"]["value"]
        for one in facts["coverage"]
        if one["subgroup"] and one["images"] >= 30
    }
    for section, figures in (("performance", accuracy), ("coverage", failures)):
        worst = sorted(figures, key=lambda site: figures[site])[:10]
        assert _sites(_section(page, section).split(" first, then")[1])[:10] == worst


def test_a_page_that_can_hold_every_subgroup_shows_every_one(table: Path) -> None:
    page = report(table, **QUICK).paths[0].read_text()
    assert "The page shows" not in page
    assert all(f"site-{site}" in page for site in range(8))


def test_small_groupings_stay_whole_and_large_ones_share_what_is_left() -> None:
    assert crowded._room([1, 5, 14, 70], 100) == 100
    room = crowded._room([1, 5, 67, 335], 100)
    assert 1 + 5 + 2 * room == 100
    assert crowded._room([500] * 400, 100) == crowded.FEWEST


def test_details_are_of_fewer_subgroups_than_plain_figures(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowded, "PAGE_DETAILS", 4)
    page = report(table, **QUICK).paths[0].read_text()
    assert "By class and by age the page shows 4 of 8 subgroups by site. One half" in page
    sections = {name: set(_sites(_section(page, name))) for name in SECTIONS}
    assert len(sections["performance"]) == 8
    for name in ("classes", "confusion"):
        assert len(sections[name]) == 4
        assert sections[name] >= {"site-1", "site-6", "site-7"}


def _section(page: str, name: str) -> str:
    return page.split(f'id="{name}"')[1].split("</section>")[0]


def _sites(text: str) -> list[str]:
    """Each site that a text names, once, in order."""
    return list(dict.fromkeys(re.findall(r"site-\d+", text)))


def test_long_lists_begin_with_the_worst_and_fold_the_rest(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_ROWS", 4)
    monkeypatch.setattr(performance, "MOST_ROWS", 4)
    monkeypatch.setattr(tables, "SEEN", 3)
    page = report(table, **{**QUICK, "min_n": 35}).paths[0].read_text()
    seen, folded = _section(page, "performance").split("the other 5 rows</summary>")
    order = re.findall(r"site-\d", seen.split("worst Accuracy first")[1].split("</table>")[0])
    assert order[0] == "site-1"
    assert len(order) == 3
    assert re.findall(r"site-\d", folded.split("</table>")[0])[-1] == "site-0"
    assert "insufficient evidence to rank" in folded
