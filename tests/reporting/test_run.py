from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import faceaudit
from faceaudit.errors import UnknownNameError, UsageError
from faceaudit.reporting import report
from faceaudit.reporting.run import target
from faceaudit.schema import SCHEMES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUICK = {"replicates": 100, "verify": "never"}


def foreign_rows(size=400):
    """Rows of a table that another program wrote: classes and years, no scores."""
    random = np.random.default_rng(5)
    races = np.array(SCHEMES["utkface5"])[random.integers(0, 5, size)]
    genders = np.array(SCHEMES["gender2"])[random.integers(0, 2, size)]
    right = random.random(size) < 0.8
    ages = random.integers(1, 90, size)
    return pl.DataFrame(
        {
            "image": [f"{n}.jpg" for n in range(size)],
            "gender_true": genders,
            "gender_pred": np.where(right, genders, genders[::-1]),
            "race_true": races,
            "race_pred": np.where(right, races, races[::-1]),
            "age_true": ages,
            "age_pred": ages + random.normal(0, 5, size),
        }
    )


@pytest.fixture
def foreign_table(tmp_path):
    path = tmp_path / "predictions.csv"
    foreign_rows().write_csv(path)
    return path


def test_report_writes_page_and_json_beside_the_table(foreign_table):
    files = report(foreign_table, **QUICK)
    assert [p.name for p in files.paths] == ["predictions.html", "predictions.json"]
    assert all(p.parent == foreign_table.parent for p in files.paths)
    facts = json.loads(files.paths[1].read_text())
    expected = foreign_rows().select((pl.col("gender_true") == pl.col("gender_pred")).mean())
    overall = [
        m["value"]
        for m in facts["metrics"]
        if (m["task"], m["metric"], m["subgroup"]) == ("gender", "accuracy", {})
    ]
    assert overall == [pytest.approx(expected.item())]
    assert facts["labels"]["provenance"] == "annotated"


def test_report_is_the_same_every_time(foreign_table):
    options = {**QUICK, "by": ["gender"]}
    first = [p.read_bytes() for p in report(foreign_table, **options).paths]
    assert [p.read_bytes() for p in report(foreign_table, **options).paths] == first


def test_report_joins_labels(tmp_path):
    rows = foreign_rows()
    table, labels = tmp_path / "t.parquet", tmp_path / "labels.csv"
    rows.drop("gender_true", "race_true", "age_true").write_parquet(table)
    rows.select(
        pl.col("image").alias("file_name"),
        pl.col("gender_true").alias("gender"),
        pl.col("race_true").alias("race"),
    ).write_csv(labels)
    options = {**QUICK, "formats": ["json"], "provenance": "self-reported"}
    files = report(table, labels=f"table:{labels}", **options)
    facts = json.loads(files.paths[0].read_text())
    assert facts["labels"] == {"format": "table", "provenance": "self-reported"}
    assert files.audit.labelled["gender"] == 400


def test_report_without_labels_is_a_composition(tmp_path):
    path = tmp_path / "t.parquet"
    foreign_rows().drop("gender_true", "race_true", "age_true").write_parquet(path)
    page, facts = report(path, **QUICK).paths
    assert "Accuracy cannot be audited" in page.read_text()
    assert json.loads(facts.read_text())["labels"] == {"format": None, "provenance": None}


def test_title_names_the_table_or_what_the_user_said(foreign_table):
    options = {**QUICK, "formats": ["html"], "by": ["gender"]}
    (page,) = report(foreign_table, **options).paths
    assert "<h1>Audit of predictions.csv</h1>" in page.read_text()
    (page,) = report(foreign_table, title="Q3 <review>", **options).paths
    assert "<h1>Q3 &lt;review&gt;</h1>" in page.read_text()


@pytest.mark.parametrize(
    ("table", "output", "wanted"),
    [
        ("a/t.parquet", None, "a/t.html"),
        ("a/t.v2.csv", None, "a/t.v2.html"),
        ("a/run.v2", None, "a/run.v2.html"),
        ("a/t.parquet", "b/page.html", "b/page.html"),
        ("a/t.parquet", "b/page.json", "b/page.html"),
        ("a/t.parquet", "b/page.v2", "b/page.v2.html"),
    ],
)
def test_target_of_the_page(table, output, wanted):
    assert target(Path(table), Path(output) if output else None, "html") == Path(wanted)


def test_output_that_is_a_folder_is_refused(foreign_table, tmp_path):
    with pytest.raises(UsageError, match=r"a folder; give a file such as .*report\.html"):
        report(foreign_table, output=tmp_path)


def test_output_in_no_folder_is_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        report(tmp_path / "absent.csv", output=tmp_path / "none" / "page.html")


def test_unknown_names_are_refused_before_any_work(tmp_path):
    with pytest.raises(UnknownNameError, match="'pdf'; choose one of: html, json"):
        report(tmp_path / "absent.csv", formats=["pdf"])
    with pytest.raises(UnknownNameError, match="'guessed'; choose one of: annotated"):
        report(tmp_path / "absent.csv", provenance="guessed")
    with pytest.raises(UsageError, match="at least one of"):
        report(tmp_path / "absent.csv", formats=[])
    with pytest.raises(UsageError, match=r"report format 'json': give a list, such as \['json'\]"):
        report(tmp_path / "absent.csv", formats="json")


def test_report_is_offered_by_the_package():
    assert faceaudit.report is report
    assert "verify" in inspect.signature(faceaudit.report).parameters


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_browser_opens_the_page(foreign_table, tmp_path):
    (page,) = report(foreign_table, formats=["html"], **QUICK).paths
    switches = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    done = subprocess.run(
        [CHROMIUM, *switches, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert "<h1>Audit of predictions.csv</h1>" in done.stdout
    assert done.stdout.count("<section") == 10  # no ROC curves, no calibration without scores


@pytest.mark.parametrize("unit", [None, "person"])
def test_the_page_says_whether_intervals_allow_for_images_of_one_person(tmp_path, unit):
    path = tmp_path / "predictions.csv"
    persons = [f"p{n // 4}" for n in range(400)]
    foreign_rows().with_columns(pl.Series("person", persons)).write_csv(path)
    page = report(path, by=["gender"], unit=unit, formats=["html"], **QUICK).paths[0].read_text()
    assert ("It allows for images of one person being alike" in page) == (unit is not None)
    assert ("or several images of one person, which" in page) == (unit is None)
