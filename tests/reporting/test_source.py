"""Reports from tallies: the same figures, summed, and what cannot be had from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest

from faceaudit.audit.tally import load_tally
from faceaudit.errors import FaceauditError, SchemaError, UsageError
from faceaudit.labels import none_found
from faceaudit.reporting import report, tally
from faceaudit.reporting.json_report import SCHEMA_FILE

QUICK: dict[str, Any] = {"replicates": 100, "verify": "never"}


@pytest.fixture
def rows() -> pl.DataFrame:
    random = np.random.default_rng(3)
    genders = np.array(["Male", "Female"])[random.integers(0, 2, 300)]
    right = random.random(300) < 0.8
    return pl.DataFrame(
        {
            "image": [f"{n}.jpg" for n in range(300)],
            "site": np.array(["A", "B", "C"])[random.integers(0, 3, 300)],
            "gender_true": genders,
            "gender_pred": np.where(right, genders, genders[::-1]),
            "age_true": random.integers(1, 90, 300),
            "age_pred": random.normal(40, 20, 300),
        }
    )


def facts_of(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return facts


def rounded(fact: Any) -> Any:
    """A fact whose sums may come in another order."""
    if isinstance(fact, dict):
        return {name: rounded(value) for name, value in fact.items()}
    return float(f"{fact:.9g}") if isinstance(fact, float) else fact


def test_two_tallies_give_the_report_of_the_whole_table(rows: pl.DataFrame, tmp_path: Path) -> None:
    names = ["first", "second", "whole"]
    for name, part in zip(names, [rows[:120], rows[120:], rows], strict=True):
        part.write_csv(tmp_path / f"{name}.csv")
        tally(tmp_path / f"{name}.csv", tmp_path / f"{name}.tally", by=["gender", "site"])
    report(tmp_path / "whole.csv", by=["gender", "site"], **QUICK)
    whole = facts_of(tmp_path / "whole.csv")
    report([tmp_path / "first.tally", tmp_path / "second.tally"], **QUICK)
    summed = facts_of(tmp_path / "first.tally")
    for part in ("metrics", "disparities", "coverage", "composition", "conditioned_age"):
        for one, other in zip(whole[part], summed[part], strict=True):
            assert rounded(one) == rounded(other)
    assert summed["table"]["rows"] == 300
    assert len(summed["table"]["sha256"]) == 64
    assert summed["labels"] == whole["labels"]
    assert "were not recomputed" in summed["notes"][0]
    report(tmp_path / "whole.tally", **QUICK)
    assert facts_of(tmp_path / "whole.tally")["table"]["sha256"] == whole["table"]["sha256"]


def test_a_tally_holds_no_image_name(rows: pl.DataFrame, tmp_path: Path) -> None:
    rows.with_columns(image="secret" + pl.col("image")).write_csv(tmp_path / "t.csv")
    tally(tmp_path / "t.csv", tmp_path / "t.tally", by=["site"], unit="image")
    with np.load(tmp_path / "t.tally") as arrays:
        assert not [name for name in arrays.files if b"secret" in arrays[name].tobytes()]
    assert load_tally(tmp_path / "t.tally").unit == "image"


def test_joined_labels_are_named_by_the_tally(rows: pl.DataFrame, tmp_path: Path) -> None:
    labels = rows.select("image", gender_true=pl.col("gender_true"))
    labels.write_csv(tmp_path / "labels.csv")
    rows.drop("gender_true", "age_true").write_csv(tmp_path / "t.csv")
    tally(
        tmp_path / "t.csv",
        tmp_path / "t.tally",
        labels=f"table:{tmp_path / 'labels.csv'}",
        provenance="self-reported",
    )
    report(tmp_path / "t.tally", **QUICK)
    facts = facts_of(tmp_path / "t.tally")
    assert facts["labels"] == {"format": "table", "provenance": "self-reported"}
    assert any(one["subgroup"] == {"gender": "Male"} for one in facts["metrics"])


def test_what_needs_rows_is_refused(rows: pl.DataFrame, tmp_path: Path) -> None:
    table, kept = tmp_path / "t.csv", tmp_path / "t.tally"
    rows.write_csv(table)
    tally(table, kept, by=["site"])
    tally(table, tmp_path / "other.tally", by=["gender"])
    cases: list[tuple[Any, dict[str, Any], type[FaceauditError], str]] = [
        (kept, {"age_bins": (0, 18)}, UsageError, "counted already"),
        (kept, {"labels": "utkface"}, UsageError, "counted already"),
        ([kept, tmp_path / "other.tally"], {}, SchemaError, "by gender.*by site"),
        ([table, table], {}, UsageError, "several tables"),
        ([kept, table], {}, UsageError, r"t\.csv: several tables"),
    ]
    for given, options, error, message in cases:
        with pytest.raises(error, match=message):
            report(given, **QUICK, **options)
    with pytest.raises(UsageError, match=r"ends in \.tally"):
        tally(table, tmp_path / "t.parquet")


def test_tallies_of_several_provenances_are_said_to_be(rows: pl.DataFrame, tmp_path: Path) -> None:
    """JSON, notes and page; a tally without labels does not count."""
    parts = {"own": rows[:100], "seen": rows[100:200], "none": rows[200:].drop("gender_true")}
    for name, part in parts.items():
        part.drop("age_true", "age_pred").write_csv(tmp_path / f"{name}.csv")
        provenance = "self-reported" if name == "own" else "annotated"
        tally(
            tmp_path / f"{name}.csv",
            tmp_path / f"{name}.tally",
            by=["site"],
            provenance=provenance,
        )
    kept = {name: tmp_path / f"{name}.tally" for name in parts}
    report([kept["own"], kept["seen"]], output=tmp_path / "both.html", **QUICK)
    facts = facts_of(tmp_path / "both.tally")
    assert facts["labels"] == {"format": None, "provenance": None}
    (note,) = [one for one in facts["notes"] if "several provenances" in one]
    assert f"self-reported: {tmp_path / 'own.csv'}; annotated: {tmp_path / 'seen.csv'}" in note
    jsonschema.validate(facts, json.loads(SCHEMA_FILE.read_text()))
    page = (tmp_path / "both.html").read_text()
    assert "<strong>labeled</strong> classes, which are what the labels say, of several" in page
    assert "faces with a labeled and a predicted class" in page
    assert "annotators saw in a face" not in page
    report([kept["own"], kept["none"]], output=tmp_path / "own.html", **QUICK)
    alone = facts_of(tmp_path / "own.tally")
    assert alone["labels"]["provenance"] == "self-reported"
    assert not [one for one in alone["notes"] if "several provenances" in one]


def test_labels_that_are_not_found_are_said_with_what_would_take_some(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"{20 + k}_0_0_20170101.jpg" for k in range(3)] + [f"{k}.jpg" for k in range(5)]
    table = tmp_path / "t.csv"
    rows = [f"{name},Male,Male" for name in names]
    table.write_text("image,gender_true,gender_pred\n" + "\n".join(rows) + "\n")
    audit = report(table, labels="auto", verify="never", formats=["json"]).audit
    said = "none found; 3 of 8 file names are UTKFace's, name --labels utkface"
    assert f"Labels: {said}" in audit.notes
    assert f"labels: {said}" in caplog.text
    assert none_found(["a.jpg"]) == "none found"
