from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest

from faceaudit import check, report, tally
from faceaudit.audit.results import LeaksLeftOut
from faceaudit.errors import FaceauditError
from faceaudit.reporting.json_report import SCHEMA_FILE
from faceaudit.reporting.run import ReportFiles

ROWS, LEAKED = 600, 120


def write_table(path: Path) -> pl.DataFrame:
    """Predictions that are right on the first LEAKED rows, and three times in four on others."""
    rng = np.random.default_rng(0)
    true = rng.choice(["Female", "Male"], ROWS)
    wrong = (np.arange(ROWS) >= LEAKED) & (rng.random(ROWS) < 0.25)
    other = np.where(true == "Male", "Female", "Male")
    age = rng.integers(20, 60, ROWS).astype(float)
    table = pl.DataFrame(
        {
            "image": [f"{k}.jpg" for k in range(ROWS)],
            "sha256": [f"{k:064x}" for k in range(ROWS)],
            "gender_true": true,
            "gender_pred": np.where(wrong, other, true),
            "age_true": age,
            "age_pred": age + rng.normal(0, 1, ROWS) * np.where(np.arange(ROWS) < LEAKED, 1, 8),
        }
    )
    table.write_parquet(path)
    return table


def write_leaks(path: Path, **changes: pl.Expr | pl.Series) -> Path:
    """Each of the first LEAKED rows in another set, and a pair that is within one set."""
    names = [f"{k}.jpg" for k in range(LEAKED)]
    across = pl.DataFrame(
        {
            "first": [f"training/{name}" for name in names],
            "second": names,
            "first_sha256": ["f" * 63 + str(k % 10) for k in range(LEAKED)],
            "second_sha256": [f"{k:064x}" for k in range(LEAKED)],
            "leak": True,
        }
    ).with_columns(
        first_file_sha256=pl.col("first_sha256"), second_file_sha256=pl.col("second_sha256")
    )
    within = across.head(1).with_columns(
        second=pl.lit("500.jpg"),
        second_sha256=pl.lit(f"{500:064x}"),
        second_file_sha256=pl.lit(f"{500:064x}"),
        leak=pl.lit(False),
    )
    pl.concat([across, within]).with_columns(**changes).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leaked")
    write_table(folder / "t.parquet")
    write_leaks(folder / "l.parquet")
    return folder


@pytest.fixture(scope="module")
def files(folder: Path) -> ReportFiles:
    return report(folder / "t.parquet", without_leaks=folder / "l.parquet")


def facts_of(files: ReportFiles) -> LeaksLeftOut:
    assert files.audit.leaks is not None
    return files.audit.leaks


def test_leaked_rows_are_left_out_of_every_figure(files: ReportFiles, folder: Path) -> None:
    table = pl.read_parquet(folder / "t.parquet")
    kept = table.tail(ROWS - LEAKED)
    assert (files.audit.rows, files.audit.images) == (ROWS - LEAKED, ROWS - LEAKED)
    accuracy = next(m for m in files.audit.metrics if m.metric == "accuracy" and not m.subgroup)
    right = (kept["gender_true"] == kept["gender_pred"]).mean()
    assert accuracy.estimate.value == pytest.approx(right, abs=1e-12)
    assert files.audit.verification is not None
    assert files.audit.verification.rows == ROWS - LEAKED


def test_figures_with_and_without_stand_side_by_side(files: ReportFiles, folder: Path) -> None:
    table = pl.read_parquet(folder / "t.parquet")
    facts = facts_of(files)
    assert (facts.rows, facts.of_rows, facts.matched_by) == (LEAKED, ROWS, "sha256")
    effects = {effect.task: effect for effect in facts.effects}
    right = (table["gender_true"] == table["gender_pred"]).to_numpy()
    gender = effects["gender"]
    assert gender.every.value == pytest.approx(right.mean(), abs=1e-12)
    assert gender.leaked.value == 1
    assert gender.difference.value == pytest.approx(right.mean() - right[LEAKED:].mean(), abs=1e-12)
    assert gender.difference.low is not None
    assert 0 < gender.difference.low < gender.difference.value < (gender.difference.high or 0)
    years = effects["age"]
    assert years.metric == "mae"
    off = (table["age_pred"] - table["age_true"]).abs().to_numpy()
    assert years.leaked.value == pytest.approx(off[:LEAKED].mean(), abs=1e-5)
    assert years.difference.value == pytest.approx(off.mean() - off[LEAKED:].mean(), abs=1e-5)
    assert years.difference.high is not None
    assert years.difference.high < 0


def test_page_and_json_say_what_the_leaked_rows_had_changed(files: ReportFiles) -> None:
    page = files.paths[0].read_text()
    assert 'id="leaks"' in page
    assert "higher with the leaked rows" in page
    assert "120 of 600 rows were left out" in page
    lede = " ".join(re.sub("<[^>]*>", "", page[page.index('<p class="lede">') :]).split())
    assert lede.startswith(
        "The table holds the predictions for 600 images. The picture of 120 of them is in several "
        "sets: this page is about the other 480 images, all with a scored face."
    )
    facts = json.loads(files.paths[1].read_text())
    jsonschema.validate(facts, json.loads(SCHEMA_FILE.read_text()))
    assert facts["leaks"]["rows"] == LEAKED
    assert {effect["task"] for effect in facts["leaks"]["effects"]} >= {"gender", "age"}


def test_interval_of_the_difference_covers_it() -> None:
    from faceaudit.audit.intervals import wilson
    from faceaudit.audit.results import Estimate
    from faceaudit.reporting.without_leaks import _difference

    rng = np.random.default_rng(0)
    trials, leaked, rest = 2000, 60, 340
    truth = leaked / (leaked + rest) * (0.95 - 0.8)
    hits = 0
    for _ in range(trials):
        counts = rng.binomial(leaked, 0.95), rng.binomial(rest, 0.8)
        parts = []
        for count, n in zip(counts, (leaked, rest), strict=True):
            low, high = wilson(count / n, n, 0.95)
            parts.append(Estimate(count / n, float(low), float(high), n))
        every = Estimate(sum(counts) / (leaked + rest), None, None, leaked + rest)
        found = _difference(every, *parts)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    assert 0.93 < hits / trials < 0.98


def test_a_table_without_hashes_is_matched_by_name_and_it_is_said(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet").drop("sha256").write_parquet(tmp_path / "t.parquet")
    leaks = write_leaks(tmp_path / "l.parquet")
    found = report(tmp_path / "t.parquet", without_leaks=leaks, verify="never")
    assert (facts_of(found).rows, facts_of(found).matched_by) == (LEAKED, "image")
    assert any("matched by the names" in note for note in found.audit.notes)


def test_images_whose_names_are_numbers_are_found_in_a_csv_of_leaks(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet").drop("sha256")
    numbers = pl.Series([f"{k:04}" for k in range(ROWS)])
    table.with_columns(image=numbers).write_parquet(tmp_path / "t.parquet")
    leaks = pl.read_parquet(write_leaks(tmp_path / "l.parquet")).filter("leak")
    names = numbers.head(LEAKED)
    leaks.with_columns(first=names, second=names).write_csv(tmp_path / "l.csv")
    found = report(tmp_path / "t.parquet", without_leaks=tmp_path / "l.csv", verify="never")
    assert facts_of(found).rows == LEAKED


def test_a_table_that_no_leak_is_in_is_audited_whole_and_it_is_said(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet")
    others = dict.fromkeys(("second_sha256", "second_file_sha256"), pl.lit("e" * 64))
    leaks = write_leaks(tmp_path / "l.parquet", **others)
    found = report(tmp_path / "t.parquet", without_leaks=leaks, verify="never")
    assert (found.audit.rows, facts_of(found).rows) == (ROWS, 0)
    effect = facts_of(found).effects[0]
    assert (effect.leaked.value, effect.difference.value) == (None, None)
    assert effect.difference.reason == "no row is leaked"
    assert any("nothing was left out" in note for note in found.audit.notes)


def test_a_gate_warns_where_no_leak_is_in_its_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_table(tmp_path / "t.parquet")
    rule = {"metric": "failure_rate", "measure": "overall", "at_most": 0.5}
    policy = {"rule": [{**rule, "owner": "A", "reason": "B"}]}
    none = write_leaks(tmp_path / "l.parquet", leak=pl.lit(value=False))
    assert (
        "found no picture in several sets"
        in check(tmp_path / "t.parquet", policy, without_leaks=none).to_text()
    )
    assert not caplog.messages
    others = dict.fromkeys(("second_sha256", "second_file_sha256"), pl.lit("e" * 64))
    check(
        tmp_path / "t.parquet", policy, without_leaks=write_leaks(tmp_path / "m.parquet", **others)
    )
    assert [one for one in caplog.messages if "Check that it was made from these images" in one]


def test_crops_are_known_by_their_own_bytes_and_by_those_of_their_images(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet")
    of_images = [hashlib.sha256(digest.encode()).hexdigest() for digest in table["sha256"][:LEAKED]]
    of_images.append("0" * 64)
    leaks = write_leaks(tmp_path / "l.parquet", second_sha256=pl.Series(of_images))
    assert facts_of(report(tmp_path / "t.parquet", without_leaks=leaks)).rows == LEAKED
    images = table.with_columns(sha256=pl.Series(of_images[:LEAKED] + ["e" * 64] * 480))
    images.write_parquet(tmp_path / "images.parquet")
    found = report(tmp_path / "images.parquet", without_leaks=leaks, verify="never")
    assert facts_of(found).rows == LEAKED


def test_rows_are_known_by_hashes_alone_that_are_some(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.parquet").with_row_index()
    digest = pl.when(pl.col("index") >= ROWS - 50).then(pl.lit("")).otherwise(pl.col("sha256"))
    table.with_columns(sha256=digest.str.to_uppercase()).write_parquet(tmp_path / "t.parquet")
    none = pl.when(pl.col("leak")).then("first_sha256").otherwise(pl.lit(""))
    leaks = write_leaks(tmp_path / "l.parquet", first_sha256=pl.lit(""), first_file_sha256=none)
    assert facts_of(report(tmp_path / "t.parquet", without_leaks=leaks)).rows == LEAKED
    table.with_columns(sha256=pl.lit("NA")).drop("index").write_parquet(tmp_path / "n.parquet")
    found = report(tmp_path / "n.parquet", without_leaks=leaks, verify="never")
    assert (facts_of(found).rows, facts_of(found).matched_by) == (LEAKED, "image")


def test_few_leaked_faces_are_suppressed_and_do_not_follow(folder: Path, tmp_path: Path) -> None:
    found = report(
        folder / "t.parquet",
        output=tmp_path / "r.html",
        without_leaks=folder / "l.parquet",
        suppress_below=LEAKED + 1,
        verify="never",
    )
    for effect in facts_of(found).effects:
        assert effect.every.value is effect.leaked.value is effect.difference.value is None
        assert effect.without.value is not None
    assert "--suppress-below" in found.paths[0].read_text()


def test_a_report_without_the_option_has_no_such_section(folder: Path, tmp_path: Path) -> None:
    found = report(folder / "t.parquet", output=tmp_path / "r.html", verify="never")
    assert 'id="leaks"' not in found.paths[0].read_text()
    assert json.loads(found.paths[1].read_text())["leaks"] is None


def test_a_gate_leaves_out_the_same_rows_as_the_report(folder: Path, tmp_path: Path) -> None:
    table, leaks = folder / "t.parquet", folder / "l.parquet"
    rule = {
        "task": "gender",
        "metric": "accuracy",
        "measure": "overall",
        "at_least": 0.7,
        "owner": "A",
        "reason": "B",
    }
    policy = {"rule": [rule]}
    found = check(table, policy, without_leaks=leaks, output=tmp_path / "v.json")
    reported = report(
        table, policy=policy, without_leaks=leaks, output=tmp_path / "r.json", formats=["json"]
    )
    assert found.verdicts == reported.audit.verdicts
    assert found.verdicts[0].n == ROWS - LEAKED
    assert check(table, policy).verdicts[0].n == ROWS
    facts = json.loads((tmp_path / "v.json").read_text())
    both = json.loads((tmp_path / "r.json").read_text())
    assert facts["leaks"] == {k: v for k, v in both["leaks"].items() if k != "effects"}
    told = f"{LEAKED} of {ROWS} rows were left out"
    assert any(told in note for note in facts["notes"])
    assert told in found.to_text()


def test_a_gate_without_the_option_tells_of_no_leaks(folder: Path) -> None:
    rule = {"metric": "failure_rate", "measure": "overall", "at_most": 0.5}
    found = check(folder / "t.parquet", {"rule": [{**rule, "owner": "A", "reason": "B"}]})
    assert json.loads(found.to_json())["leaks"] is None


def test_what_cannot_work_is_said(folder: Path, tmp_path: Path) -> None:
    table, leaks = folder / "t.parquet", folder / "l.parquet"
    with pytest.raises(FaceauditError, match="there is no such file"):
        report(table, without_leaks=tmp_path / "none.parquet")
    with pytest.raises(FaceauditError, match="no column first"):
        report(table, without_leaks=table)
    old = pl.read_parquet(leaks).drop("first_file_sha256", "second_file_sha256")
    old.write_parquet(tmp_path / "old.parquet")
    with pytest.raises(FaceauditError, match=r"earlier version of .* run `faceaudit leaks` again"):
        report(table, without_leaks=tmp_path / "old.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    with pytest.raises(FaceauditError, match=r"bad\.parquet: cannot be read"):
        report(table, without_leaks=tmp_path / "bad.parquet")
    tally(table, tmp_path / "t.tally")
    with pytest.raises(FaceauditError, match="a tally has no rows"):
        report(tmp_path / "t.tally", without_leaks=leaks)
    pl.read_parquet(table).head(LEAKED).write_parquet(tmp_path / "all.parquet")
    with pytest.raises(FaceauditError, match="nothing is left to audit"):
        report(tmp_path / "all.parquet", without_leaks=leaks)
    pl.read_parquet(table).drop("sha256", "image").write_parquet(tmp_path / "nameless.parquet")
    with pytest.raises(FaceauditError, match="neither sha256 nor image"):
        report(tmp_path / "nameless.parquet", without_leaks=leaks)
