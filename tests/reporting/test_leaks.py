from __future__ import annotations

import json
from pathlib import Path

import cv2
import jsonschema
import polars as pl
import pytest
from typer.testing import CliRunner

from faceaudit import cli, leaks
from faceaudit.errors import FaceauditError
from faceaudit.images.decode import decode
from faceaudit.reporting.leaks import SCHEMA_FILE, sentences
from tests.leakage.conftest import draw, save
from tests.reporting.test_page import outline_of


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two sets that share a picture; the file names hold markup."""
    root = tmp_path_factory.mktemp("<b>sets&")
    train, test = root / "train", root / "test"
    for seed in range(4):
        save(draw(seed), train / f"2{seed}_0_0_2017010100000000{seed}.jpg")
    for seed in range(10, 14):
        save(draw(seed), test / f"3{seed - 10}_0_0_201701010000000{seed}.jpg")
    save(draw(2), test / "40_1_0_20170101000000002.jpg", quality=40)
    return train, test


def test_table_page_and_json_hold_the_same(folders: tuple[Path, Path], tmp_path: Path) -> None:
    files = leaks(folders, output=tmp_path / "found.csv")
    assert [path.name for path in files.paths] == ["found.csv", "found.html", "found.json"]
    assert files.exit_code == 10
    pairs = pl.read_csv(files.paths[0])
    assert pairs["age_gap"].to_list() == [18]
    facts = json.loads(files.paths[2].read_text())
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(facts, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**facts, "extra": 1}, schema)
    assert facts["pairs"] == {"exact": 0, "near": 1}
    assert [one["leaked"] for one in facts["sets"]] == [1, 1]
    assert facts["exit_codes"] == [10]
    page = files.paths[1].read_text()
    assert "1 of 5 images of test (20.0%)" in page
    outline = outline_of(page)
    assert not outline.all("script")
    assert not outline.all("img")
    assert "<b>sets&" not in page
    assert {th.get("scope") for th in outline.all("th")} <= {"col", "row"}
    assert "40_1_0" not in page  # names of images are in the table alone


def test_page_shows_images_only_where_they_are_asked_for(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    files = leaks(folders, output=tmp_path / "l.parquet", show_images=True)
    images = outline_of(files.paths[1].read_text()).all("img")
    assert len(images) == 2
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert "holds images of people" in files.paths[1].read_text()


def test_images_that_are_larger_than_usual_are_shown_where_they_were_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "__kwdefaults__", {**decode.__kwdefaults__, "max_pixels": 160**2})
    save(draw(5), tmp_path / "small" / "a.jpg")
    save(cv2.resize(draw(5), (320, 320)), tmp_path / "large" / "a.jpg")
    folders = (tmp_path / "small", tmp_path / "large")
    files = leaks(folders, output=tmp_path / "l.parquet", show_images=True, max_pixels=400**2)
    assert len(outline_of(files.paths[1].read_text()).all("img")) == 2


def test_picture_that_conflicts_in_two_tasks_is_one_picture(tmp_path: Path) -> None:
    hashes = [f"{k:064x}" for k in range(4)]
    cases = [("White", 30), ("White", 30), ("Black", 30), ("Black", 30)]
    others = [("White", 30), ("Asian", 50), ("Asian", 30), ("Black", 50)]
    for name, labels in (("a", cases), ("b", others)):
        pl.DataFrame(
            {
                "image": [f"{name}{k}.jpg" for k in range(4)],
                "sha256": hashes,
                "race_true": [race for race, _ in labels],
                "race_pred": "White",
                "age_true": [age for _, age in labels],
                "age_pred": 30.0,
            }
        ).write_parquet(tmp_path / f"{name}.parquet")
    sets = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    files = leaks(sets, output=tmp_path / "l.parquet", fail_on=("conflict",))
    counts = {one.task: one.conflicting for one in files.leaks.conflicts}
    assert counts == {"race": 2, "age": 2}
    assert files.failures == ("3 pictures with annotations that exclude each other",)


def test_one_set_alone_has_no_leaks(folders: tuple[Path, Path], tmp_path: Path) -> None:
    files = leaks(folders[0], output=tmp_path / "l.parquet", fail_on=("across", "near", "conflict"))
    assert files.exit_code == 0
    assert files.leaks.pairs.is_empty()
    assert "one set was given" in files.paths[1].read_text()
    assert sentences(files.leaks)[0] == "No picture was found in more than one image."


@pytest.mark.parametrize(
    ("fail_on", "code"),
    [(None, 10), ("none", 0), ("exact", 0), ("near", 10), ("conflict", 10), ("exact,near", 10)],
)
def test_exit_code_follows_fail_on(
    folders: tuple[Path, Path], tmp_path: Path, fail_on: str | None, code: int
) -> None:
    arguments = ["leaks", *map(str, folders), "-o", str(tmp_path / "l.parquet"), "--format", "json"]
    arguments += [] if fail_on is None else ["--fail-on", fail_on]
    found = CliRunner().invoke(cli.app, arguments)
    assert found.exit_code == code, found.output
    assert "of test" in found.stdout
    assert not (tmp_path / "l.html").exists()


def test_quiet_prints_nothing_but_what_failed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found = CliRunner().invoke(
        cli.app, ["leaks", *map(str, folders), "-o", str(tmp_path / "l.parquet"), "--quiet"]
    )
    assert found.stdout == ""
    assert "2 images whose picture is in several sets" in found.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": Path("l.txt")}, "NAME.parquet or NAME.csv"),
        ({"output": Path("no/such/l.csv")}, "create it first"),
        ({"fail_on": ("anything",)}, "across, exact, near, conflict, none"),
        ({"formats": ("pdf",)}, "html, json"),
    ],
)
def test_options_that_cannot_work_are_refused(
    folders: tuple[Path, Path], options: dict[str, object], message: str
) -> None:
    with pytest.raises(FaceauditError, match=message):
        leaks(folders, **options)  # type: ignore[arg-type]
