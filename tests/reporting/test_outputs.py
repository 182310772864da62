"""Files that commands write: never over what they read, never half of them, never over labels."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from faceaudit.errors import FaceauditError, InputError, UsageError
from faceaudit.reporting import check, compare, report, sample, tally
from faceaudit.reporting.leaks import leaks

QUICK: dict[str, Any] = {"replicates": 100, "verify": "never"}
POLICY = """
[[rule]]
task = "gender"
metric = "accuracy"
measure = "overall"
at_least = 0.5
owner = "nobody"
reason = "a test"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table as ``t.parquet`` and ``t.csv``, another one, and a policy."""
    random = np.random.default_rng(2)
    genders = np.array(["Male", "Female"])[random.integers(0, 2, 200)]
    rows = pl.DataFrame(
        {
            "image": [f"{n}.jpg" for n in range(200)],
            "sha256": [f"{n:064x}" for n in range(200)],
            "gender_true": genders,
            "gender_pred": np.where(random.random(200) < 0.9, genders, genders[::-1]),
        }
    )
    rows.write_parquet(tmp_path / "t.parquet")
    rows.write_csv(tmp_path / "t.csv")
    rows.reverse().write_parquet(tmp_path / "u.parquet")
    (tmp_path / "p.toml").write_text(POLICY)
    return tmp_path


Command = Callable[[Path], object]
OVERWRITING: dict[str, tuple[str, Command]] = {
    "check over its table": (
        "t.parquet",
        lambda at: check(at / "t.parquet", at / "p.toml", output=at / "t.parquet"),
    ),
    "check over its policy": (
        "p.toml",
        lambda at: check(at / "t.parquet", at / "p.toml", output=at / "p.toml"),
    ),
    "sample over its table": (
        "t.csv",
        lambda at: sample(at / "t.csv", n=20, output=at / "t.csv"),
    ),
    "leaks over its table": (
        "t.parquet",
        lambda at: leaks([at / "t.parquet", at / "u.parquet"], output=at / "t.parquet"),
    ),
    "report over its labels": (
        "t.json",
        lambda at: report(at / "t.parquet", labels=f"table:{at / 't.json'}", **QUICK),
    ),
}


@pytest.mark.parametrize("case", OVERWRITING)
def test_no_command_writes_over_what_it_reads(case: str, folder: Path) -> None:
    name, command = OVERWRITING[case]
    if not (folder / name).exists():
        (folder / name).write_text("[]")
    before = (folder / name).read_bytes()
    with pytest.raises(UsageError, match="would be overwritten"):
        command(folder)
    assert (folder / name).read_bytes() == before


INTO_A_FOLDER: dict[str, tuple[str, Command]] = {
    "report": ("x.json", lambda at: report(at / "t.parquet", output=at / "x.html", **QUICK)),
    "compare": (
        "x.json",
        lambda at: compare(at / "u.parquet", at / "t.parquet", output=at / "x.html"),
    ),
    "check": (
        "x.json",
        lambda at: check(at / "t.parquet", at / "p.toml", output=at / "x.json"),
    ),
    "tally": ("x.tally", lambda at: tally(at / "t.parquet", at / "x.tally")),
    "sample": ("x.csv", lambda at: sample(at / "t.parquet", n=20, output=at / "x.csv")),
    "leaks": ("x.json", lambda at: leaks([at / "t.parquet"], output=at / "x.parquet")),
}


@pytest.mark.parametrize("case", INTO_A_FOLDER)
def test_an_output_that_is_a_folder_stops_a_command_before_it_writes(
    case: str, folder: Path
) -> None:
    name, command = INTO_A_FOLDER[case]
    (folder / name).mkdir()
    before = sorted(folder.iterdir())
    with pytest.raises(FaceauditError, match="folder"):
        command(folder)
    assert sorted(folder.iterdir()) == before


OF_OTHERS: dict[str, tuple[str, Command]] = {
    "the sidecar of the model that wrote the table": (
        "t.json",
        lambda at: report(at / "t.parquet", **QUICK),
    ),
    "a page": ("t.html", lambda at: report(at / "t.parquet", **QUICK)),
    "JSON beside a page to compare": (
        "c.json",
        lambda at: compare(at / "u.parquet", at / "t.parquet", output=at / "c.html"),
    ),
    "JSON for verdicts": (
        "v.json",
        lambda at: check(at / "t.parquet", at / "p.toml", output=at / "v.json"),
    ),
    "JSON beside pairs": ("l.json", lambda at: leaks([at / "t.parquet"], output=at / "l.parquet")),
}


@pytest.mark.parametrize("case", OF_OTHERS)
def test_no_page_or_json_of_others_is_overwritten(case: str, folder: Path) -> None:
    name, command = OF_OTHERS[case]
    (folder / name).write_text('{"name": "theirs"}')
    before = sorted(folder.iterdir())
    with pytest.raises(UsageError, match="was not written by faceaudit"):
        command(folder)
    assert (folder / name).read_text() == '{"name": "theirs"}'
    assert sorted(folder.iterdir()) == before


def test_what_a_command_wrote_it_writes_again(folder: Path) -> None:
    for _ in range(2):
        report(folder / "t.parquet", **QUICK)
        compare(folder / "u.parquet", folder / "t.parquet", output=folder / "c.html")
        check(folder / "t.parquet", folder / "p.toml", output=folder / "v.json")
        leaks([folder / "t.parquet"], output=folder / "l.parquet")


def test_an_empty_file_may_be_written_to(folder: Path) -> None:
    (folder / "v.json").touch()
    check(folder / "t.parquet", folder / "p.toml", output=folder / "v.json")
    assert (folder / "v.json").stat().st_size


def test_a_link_to_the_table_is_the_table(folder: Path) -> None:
    (folder / "link.json").symlink_to(folder / "t.parquet")
    with pytest.raises(UsageError, match="would be overwritten"):
        check(folder / "t.parquet", folder / "p.toml", output=folder / "link.json")


def test_outputs_may_be_named_by_text(folder: Path) -> None:
    written = report(str(folder / "t.parquet"), output=str(folder / "x.html"), **QUICK)  # type: ignore[arg-type]
    assert [path.name for path in written.paths] == ["x.html", "x.json"]


def test_a_page_that_cannot_be_made_leaves_no_json(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> str:
        raise RuntimeError("no page")

    monkeypatch.setitem(report.__globals__["FORMATS"], "html", broken)
    with pytest.raises(RuntimeError):
        report(folder / "t.parquet", formats=("json", "html"), **QUICK)
    assert not (folder / "t.json").exists()


def test_a_sample_that_is_labelled_is_never_drawn_over(folder: Path) -> None:
    drawn = sample(folder / "t.parquet", n=20)
    assert sample(folder / "t.parquet", n=20).path == drawn.path
    rows = pl.read_csv(drawn.path, infer_schema=False)
    label = pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("Male"))
    rows.with_columns(gender_true=label).write_csv(drawn.path)
    before = drawn.path.read_bytes()
    with pytest.raises(UsageError, match="3 of its faces are labeled"):
        sample(folder / "t.parquet", n=20)
    assert drawn.path.read_bytes() == before


def test_labels_of_other_columns_are_no_sample_to_draw_over(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,gender\na.jpg,Male\n")
    with pytest.raises(UsageError, match="was not written by `faceaudit sample`"):
        sample(folder / "t.parquet", n=20, output=folder / "labels.csv")
    assert (folder / "labels.csv").read_text() == "file,gender\na.jpg,Male\n"


@pytest.mark.parametrize("name", ["u.parquet", "t.csv"])
def test_pairs_are_never_written_over_another_table(folder: Path, name: str) -> None:
    before = (folder / name).read_bytes()
    with pytest.raises(UsageError, match="was not written by `faceaudit leaks`"):
        leaks([folder / "t.parquet"], output=folder / name)
    assert (folder / name).read_bytes() == before
    for _ in range(2):
        leaks([folder / "t.parquet"], output=folder / f"pairs_{name}")


def test_a_folder_that_cannot_be_written_to_is_told_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *asked: False)
    with pytest.raises(InputError, match=r"r\.html: cannot write there"):
        report(folder / "no.parquet", output=folder / "r.html")


def test_one_table_in_two_tallies_is_refused(folder: Path) -> None:
    tally(folder / "t.parquet", folder / "t.tally")
    shutil.copy(folder / "t.tally", folder / "copy.tally")
    for given in ([folder / "t.tally"] * 2, [folder / "t.tally", folder / "copy.tally"]):
        with pytest.raises(UsageError, match="would count twice"):
            report(given, **QUICK)


def test_one_set_by_two_names_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="given twice"):
        leaks(
            [folder / "t.parquet", f"{folder}/./t.parquet"],
            output=folder / "leaks.parquet",
            labels="none",
        )


def test_a_name_that_is_no_text_is_one_clear_line(folder: Path) -> None:
    name = os.fsdecode(os.fsencode(folder) + b"/t\xe9.parquet")
    shutil.copy(folder / "t.parquet", name)
    with pytest.raises(UsageError, match="not UTF-8"):
        report(Path(name), **QUICK)
    with pytest.raises(UsageError, match="not UTF-8"):
        report(folder / "t.parquet", output=Path(name).with_suffix(".html"), **QUICK)


def test_no_table_at_all_is_one_clear_line(folder: Path) -> None:
    with pytest.raises(UsageError, match="no table"):
        report([], **QUICK)
    with pytest.raises(UsageError, match="no table"):
        compare([], folder / "t.parquet")


def test_one_feature_may_be_named_by_text(folder: Path) -> None:
    rows = pl.read_parquet(folder / "t.parquet").with_columns(site=pl.lit("A"))
    rows.write_parquet(folder / "s.parquet")
    assert report(folder / "s.parquet", by="site", **QUICK).audit.by == (("site",),)


def test_columns_may_have_any_name_beside_ours(folder: Path) -> None:
    names = ["_row", "_order", "_unit", "_alone_gender", "row", "weight", "first", "bin"]
    rows = pl.read_parquet(folder / "t.parquet")
    rows = rows.with_columns(pl.lit("x").alias(name) for name in names)
    nameless = pl.when(pl.int_range(pl.len()) > 0).then("image").alias("image")
    rows.with_columns(nameless).write_parquet(folder / "n.parquet")
    rows.write_parquet(folder / "r.parquet")
    assert sample(folder / "n.parquet", n=20).faces == 200
    for name in names:
        found = compare(folder / "r.parquet", folder / "r.parquet", by=[name], formats=["json"])
        assert found.changes.by == ((name,),)
    audit = report(folder / "n.parquet", by=names[:2], unit="_unit", **QUICK).audit
    assert audit.images == 200


def test_a_set_of_which_nothing_can_be_read_is_no_set_without_leaks(folder: Path) -> None:
    (folder / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / "images" / name).touch()
    with pytest.raises(FaceauditError, match=r"images: no image of it can be read \("):
        leaks([folder / "t.parquet", folder / "images"], output=folder / "leaks.parquet")
    assert not (folder / "leaks.parquet").exists()
