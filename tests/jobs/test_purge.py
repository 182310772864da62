"""Rows deleted for good: what goes, what stays, what is kept of it, and that nothing comes back."""

from __future__ import annotations

import datetime as dt
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import faceaudit
from faceaudit.audit.tally import load_tally
from faceaudit.errors import (
    FaceauditError,
    InputError,
    LockedError,
    SchemaError,
    TemporaryError,
    UsageError,
)
from faceaudit.jobs import purge
from faceaudit.models.bundle import Bundle
from faceaudit.pipeline import known
from faceaudit.pipeline.pending import find_pending
from faceaudit.pipeline.predict import Prediction
from faceaudit.pipeline.purged import Purged, purged_file, read_purged, write_purged
from faceaudit.storage import exclusive
from faceaudit.tables.files import read_metadata
from faceaudit.tables.purges import RECORD, beside
from tests.jobs.conftest import names_of, write_images

OUTS = ["faces", "faces.parquet"]


def predict(folder: Path, out: str, bundle: Bundle, **options: Any) -> Prediction:
    rows = {"part_rows": 10} if not out.endswith(".parquet") else {}
    return faceaudit.predict(  # type: ignore[no-any-return]
        folder / "images", folder / out, model=str(bundle.graph.parent), detector="whole",
        **rows, **options,
    )  # fmt: skip


def table_of(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "part-*.parquet" if out.is_dir() else out)


def images_in(out: Path) -> list[str]:
    return table_of(out)["image"].to_list()


def record_of(out: Path) -> list[dict[str, Any]]:
    path = out / "_purges.jsonl" if out.is_dir() else out.with_name(f"{out.stem}.purges.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def make_old(out: Path, parts: int, days: int) -> None:
    """Let the first parts of a table be of an earlier day."""
    manifest = json.loads((out / "_manifest.json").read_text())
    for part in manifest["parts"][:parts]:
        written = dt.datetime.fromisoformat(part["written"]) - dt.timedelta(days=days)
        part["written"] = written.isoformat()
    (out / "_manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("out", OUTS)
def test_an_image_goes_and_does_not_come_back(
    folder: Path, random_bundle: Bundle, out: str
) -> None:
    predict(folder, out, random_bundle)
    before = table_of(folder / out)
    gone = before["image"][13]
    found = purge(folder / out, image=[gone], reason="asked for on paper")
    assert (found.images, found.rows) == (1, 1)
    assert table_of(folder / out).equals(before.filter(pl.col("image") != gone))
    again = predict(folder, out, random_bundle)
    assert again.already_complete
    assert again.images == 39
    assert gone not in images_in(folder / out)
    assert find_pending(folder / "images", folder / out).purged == 1
    write_images(folder / "images", names_of(range(40, 45)))
    assert predict(folder, out, random_bundle).scored == 5
    assert sorted(images_in(folder / out)) == sorted({*names_of(range(45))} - {gone})
    assert predict(folder, out, random_bundle, restart=True).images == 44


@pytest.mark.parametrize("out", OUTS)
def test_it_is_written_down_what_went_and_why_but_no_name(
    folder: Path, random_bundle: Bundle, out: str
) -> None:
    predict(folder, out, random_bundle)
    gone = images_in(folder / out)[3]
    found = purge(folder / out, image=[gone], reason="asked for on paper")
    (line,) = record_of(folder / out)
    assert line["reason"] == "asked for on paper"
    assert (line["images"], line["rows"], line["images_named"]) == (1, 1, 1)
    assert line["tally"] is None  # the counts of one face would be that face
    assert found.tally is None
    kept = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "images"]
    assert not [path for path in kept if gone.encode() in path.read_bytes()]


@pytest.mark.parametrize("out", OUTS)
def test_a_report_says_what_was_purged_of_its_table(
    folder: Path, random_bundle: Bundle, out: str
) -> None:
    predict(folder, out, random_bundle)
    first, second = images_in(folder / out)[:2]

    def notes() -> list[str]:
        found = faceaudit.report(folder / out, output=folder / "r.json", formats=["json"])
        return [note for note in found.audit.notes if "purged" in note]

    assert notes() == []
    purge(folder / out, image=[first], reason="consent withdrawn")
    today = dt.datetime.now(dt.UTC).date()
    left = "its rows are what was left."
    assert notes() == [f"1 image was purged from this table (on {today}); {left}"]
    purge(folder / out, image=[second])
    last = f"in 2 purges, the last on {today}"
    assert notes() == [f"2 images were purged from this table ({last}); {left}"]
    record = beside(folder / out, RECORD)
    record.write_text("damaged")
    assert notes() == []


def test_parts_of_long_ago_go_and_their_counts_stay(folder: Path, random_bundle: Bundle) -> None:
    predict(folder, "faces", random_bundle)
    out = folder / "faces"
    before = table_of(out)
    faceaudit.tally(out, folder / "before.tally")
    make_old(out, 2, days=31)
    found = purge(out, older_than="30d", suppress_below=0)
    assert (found.images, found.rows) == (20, 20)
    assert table_of(out).equals(before[20:])
    assert found.tally is not None
    faceaudit.tally(out, folder / "rest.tally")
    summed = faceaudit.report([folder / "rest.tally", found.tally], output=folder / "sum.html")
    whole = faceaudit.report(folder / "before.tally", output=folder / "whole.html")
    for one, other in zip(summed.audit.metrics, whole.audit.metrics, strict=True):
        assert (one.metric, one.subgroup, one.estimate.n) == (
            other.metric, other.subgroup, other.estimate.n
        )  # fmt: skip
        assert one.estimate.value == pytest.approx(other.estimate.value)
    assert load_tally(found.tally).tables[0].path == str(out)
    assert purge(out, older_than="30d").rows == 0
    assert len(record_of(out)) == 1
    again = predict(folder, "faces", random_bundle)
    assert again.already_complete
    write_images(folder / "images", names_of(range(40, 55)))
    assert predict(folder, "faces", random_bundle).scored == 15
    assert sorted(images_in(out)) == sorted(names_of(range(20, 55)))


def test_small_cells_of_the_counts_are_put_together(folder: Path, random_bundle: Bundle) -> None:
    predict(folder, "faces", random_bundle)
    make_old(folder / "faces", 2, days=31)
    found = purge(folder / "faces", older_than="30d")
    assert found.tally is not None
    coarse = load_tally(found.tally)
    assert coarse.rows == 20
    assert coarse.cells == (("Male", None), ("Female", None))  # of four races five images each


def test_a_table_of_which_all_went_is_one_without_rows(folder: Path, random_bundle: Bundle) -> None:
    predict(folder, "faces", random_bundle)
    make_old(folder / "faces", 4, days=31)
    assert purge(folder / "faces", older_than="4w").images == 40
    assert images_in(folder / "faces") == []
    assert predict(folder, "faces", random_bundle).scored == 0
    assert purge(folder / "faces", older_than="4w").rows == 0
    with pytest.raises(SchemaError, match="the table has no rows"):
        faceaudit.report(folder / "faces")


def test_what_is_rewritten_keeps_its_age_and_its_place(folder: Path, random_bundle: Bundle) -> None:
    predict(folder, "faces", random_bundle)
    out = folder / "faces"
    make_old(out, 2, days=31)
    names = images_in(out)
    for place in (1, 2, 15):
        purge(out, image=[names[place]])
    assert images_in(out) == [name for at, name in enumerate(names) if at not in (1, 2, 15)]
    assert sorted(path.name for path in out.glob("part-*"))[:2] == [
        "part-00000_2.parquet", "part-00001_1.parquet",
    ]  # fmt: skip
    assert purge(out, older_than="30d").images == 17
    assert images_in(out) == names[20:]


def test_images_with_the_same_bytes_are_named(folder: Path, random_bundle: Bundle) -> None:
    names = names_of(range(40))
    for copy in ("copy a.png", "copy b.png"):
        shutil.copy(folder / "images" / names[0], folder / "images" / copy)
    predict(folder, "faces", random_bundle)
    found = purge(folder / "faces", image=[names[0]])
    assert found.alike == ("copy a.png", "copy b.png")
    assert purge(folder / "faces", image=list(found.alike)).alike == ()


def test_a_part_that_lost_images_is_compared_once(
    folder: Path, random_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(folder, "faces", random_bundle)
    purge(folder / "faces", image=[images_in(folder / "faces")[0]])
    read: list[str] = []
    real = known._sha256
    monkeypatch.setattr(known, "_sha256", lambda ref: read.append(ref.name) or real(ref))
    assert predict(folder, "faces", random_bundle).already_complete
    assert len(read) == 9  # the other images of that part
    read.clear()
    assert predict(folder, "faces", random_bundle).already_complete
    assert read == []


def test_a_file_that_lost_images_is_compared_once(
    folder: Path, random_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(folder, "faces.parquet", random_bundle)
    purge(folder / "faces.parquet", image=[images_in(folder / "faces.parquet")[0]])
    read: list[str] = []
    real = known._sha256
    monkeypatch.setattr(known, "_sha256", lambda ref: read.append(ref.name) or real(ref))
    for number, compared in ((40, 39), (41, 0)):
        read.clear()
        write_images(folder / "images", names_of(range(number, number + 1)))
        predict(folder, "faces.parquet", random_bundle)
        assert len(read) == compared


def test_an_image_that_changed_after_a_purge_is_still_named(
    folder: Path, random_bundle: Bundle
) -> None:
    predict(folder, "faces", random_bundle)
    names = images_in(folder / "faces")
    purge(folder / "faces", image=[names[0]])
    shutil.copy(folder / "images" / names[20], folder / "images" / names[1])
    with pytest.raises(UsageError, match=f"other images of 1 of its images, such as {names[1]}"):
        predict(folder, "faces", random_bundle)


@pytest.mark.parametrize("out", OUTS)
def test_a_trial_deletes_nothing(folder: Path, random_bundle: Bundle, out: str) -> None:
    predict(folder, out, random_bundle)
    names = images_in(folder / out)
    before = sorted(folder.rglob("*"))
    found = purge(folder / out, image=names[:3], dry_run=True)
    assert (found.images, found.record) == (3, None)
    assert images_in(folder / out) == names
    assert sorted(folder.rglob("*")) == before


MOMENTS = [
    ("faceaudit.jobs.purge.write_purged", 0),
    ("faceaudit.jobs.purge.count_table", 0),
    ("faceaudit.jobs.purge.save_tally", 0),
    ("faceaudit.jobs.history.append", 0),
    ("faceaudit.jobs.purge.delete", 0),
    ("faceaudit.pipeline.deletion.write_part", 0),
    ("faceaudit.pipeline.deletion.write_part", 1),
    ("faceaudit.pipeline.deletion.write_manifest", 1),
    ("faceaudit.pipeline.deletion.list_parts", 0),
    ("faceaudit.pipeline.deletion.write_manifest", 2),
]


class Killed(BaseException):
    """The process is gone."""


def kill_at(patch: pytest.MonkeyPatch, name: str, which: int) -> None:
    """Let a function end the process when it is called for the n-th time."""
    module, _, function = name.rpartition(".")
    real = getattr(importlib.import_module(module), function)
    calls = iter(range(100))

    def killed(*given: Any, **options: Any) -> Any:
        if next(calls) == which:
            raise Killed
        return real(*given, **options)

    patch.setattr(importlib.import_module(module), function, killed)


@pytest.mark.parametrize("at", MOMENTS, ids=lambda at: f"{at[0].rpartition('.')[2]}-{at[1]}")
@pytest.mark.parametrize("other", [False, True], ids=["the same again", "another"])
def test_a_purge_that_was_killed_is_finished_by_the_next(
    folder: Path,
    random_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    at: tuple[str, int],
    other: bool,
) -> None:
    predict(folder, "faces", random_bundle)
    out = folder / "faces"
    make_old(out, 1, days=31)
    names = images_in(out)
    named = [names[12], names[23]]
    with monkeypatch.context() as patch:
        kill_at(patch, *at)
        with pytest.raises(Killed):
            purge(out, older_than="30d", image=named)
    with pytest.raises(TemporaryError, match="purge` of it was interrupted"):
        predict(folder, "faces", random_bundle)
    with pytest.raises(TemporaryError):
        faceaudit.report(out)
    began = at != MOMENTS[0]  # before the names are kept, nothing was decided
    if other:
        purge(out, image=[names[39]])
        gone = {*names[:10], *named} if began else set()
        assert images_in(out) == [name for name in names[:39] if name not in gone]
    purge(out, older_than="30d", image=named)
    left = names[10:39] if other else names[10:]
    assert images_in(out) == [name for name in left if name not in named]
    assert len(list(out.glob("part-*"))) == 3
    assert not [path for path in out.rglob("*") if path.name.endswith(".part")]
    lines = [line for line in record_of(out) if line["images"] > 1]
    assert [line["images"] for line in lines] == [12]
    assert len(list(out.glob("*.tally"))) == 1
    again = predict(folder, "faces", random_bundle)
    assert again.images == len(left) - 2
    assert again.scored == 0


@pytest.mark.parametrize(
    "at",
    [*MOMENTS[:5], ("faceaudit.pipeline.deletion.open_table", 0)],
    ids=lambda at: at[0].rpartition(".")[2],
)
def test_a_purge_of_a_file_that_was_killed_is_finished_by_the_next(
    folder: Path, random_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, at: tuple[str, int]
) -> None:
    predict(folder, "faces.parquet", random_bundle)
    out = folder / "faces.parquet"
    names = images_in(out)
    with monkeypatch.context() as patch:
        kill_at(patch, *at)
        with pytest.raises(Killed):
            purge(out, image=names[:12])
    with pytest.raises(TemporaryError, match="purge` of it was interrupted"):
        predict(folder, "faces.parquet", random_bundle)
    purge(out, image=[*names[:12], names[20]])
    assert images_in(out) == [*names[12:20], *names[21:]]
    assert sum(line["images"] for line in record_of(out)) == 13
    assert predict(folder, "faces.parquet", random_bundle).already_complete


def test_what_a_killed_purge_had_written_goes(folder: Path, random_bundle: Bundle) -> None:
    predict(folder, "faces", random_bundle)
    out = folder / "faces"
    names = images_in(out)
    (out / ".part-00000_1.parquet.ab_d3fgh.part").write_bytes(names[1].encode())
    purge(out, image=[names[1]])
    assert not list(out.glob(".*.part"))


def test_an_image_purged_while_a_run_begins_does_not_come_back(
    folder: Path, random_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(folder, "faces.parquet", random_bundle)
    gone = images_in(folder / "faces.parquet")[7]
    flow = importlib.import_module("faceaudit.pipeline.predict")
    real = flow.describe

    def meanwhile(*given: Any) -> Any:
        purge(folder / "faces.parquet", image=[gone])
        return real(*given)

    monkeypatch.setattr(flow, "describe", meanwhile)
    predict(folder, "faces.parquet", random_bundle)
    assert gone not in images_in(folder / "faces.parquet")


@pytest.mark.parametrize("out", OUTS)
def test_notes_do_not_bring_a_name_back(folder: Path, random_bundle: Bundle, out: str) -> None:
    names = names_of(range(40))
    lines = ["file,gender", *(f"{name},Male" for name in names[1:])]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    labels = f"table:{folder / 'labels.csv'}"
    predict(folder, out, random_bundle, labels=labels)

    def holding(name: str) -> list[Path]:
        kept = [p for p in folder.rglob("*") if p.is_file() and p.parent.name != "images"]
        return [p for p in kept if name.encode() in p.read_bytes() and p.name != "labels.csv"]

    assert holding(names[0])  # it is the example of an image without a label
    purge(folder / out, image=names[:12])
    assert not holding(names[0])
    (folder / "images" / names[1]).unlink()  # its label has no image from now on
    write_images(folder / "images", names_of(range(40, 41)))
    predict(folder, out, random_bundle, labels=labels)
    assert not holding(names[1])
    if out == "faces":
        notes = json.loads((folder / out / "_manifest.json").read_text())["notes"]
    else:
        notes = read_metadata(folder / out).labels["notes"]  # type: ignore[union-attr]
    assert any("has no image" in note for note in notes)


def test_counts_are_made_without_names(
    folder: Path, random_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(folder, "faces", random_bundle)
    names = images_in(folder / "faces")
    module = importlib.import_module("faceaudit.jobs.purge")
    real, seen = module.count_table, []

    def count(path: Path, *given: Any, **options: Any) -> Any:
        seen.append(path.read_bytes())
        return real(path, *given, **options)

    monkeypatch.setattr(module, "count_table", count)
    found = purge(folder / "faces", image=names[:20])
    assert found.tally is not None
    assert load_tally(found.tally).tables[0].images == 20
    assert len(seen) == 1
    assert not [name for name in names if name.encode() in seen[0]]


def test_purges_of_one_second_keep_their_own_counts(folder: Path, random_bundle: Bundle) -> None:
    predict(folder, "faces", random_bundle)
    names = images_in(folder / "faces")
    for start in (0, 10, 20):
        purge(folder / "faces", image=names[start : start + 10])
    assert len(list((folder / "faces").glob("*.tally"))) == 3
    assert len({line["tally_sha256"] for line in record_of(folder / "faces")}) == 3


def test_a_part_is_not_purged_by_itself(folder: Path, random_bundle: Bundle) -> None:
    predict(folder, "faces", random_bundle)
    with pytest.raises(UsageError, match=f"is a part of a table; name its folder, {folder}/faces"):
        purge(folder / "faces" / "part-00000.parquet", image=["a"])


def test_what_is_passed_over_is_said(
    folder: Path, random_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    predict(folder, "faces.parquet", random_bundle)
    purge(folder / "faces.parquet", image=images_in(folder / "faces.parquet")[:3])
    (folder / "faces.parquet").unlink()
    with caplog.at_level("WARNING"):
        assert predict(folder, "faces.parquet", random_bundle).images == 37
    assert "purged from it and passed over: 3 images" in caplog.text
    assert find_pending(folder / "images", folder / "faces.parquet").purged == 3


def test_a_purged_image_leaves_no_room_for_another(folder: Path, random_bundle: Bundle) -> None:
    predict(folder, "faces.parquet", random_bundle, limit=10)
    purge(folder / "faces.parquet", image=[images_in(folder / "faces.parquet")[2]])
    again = predict(folder, "faces.parquet", random_bundle, limit=10)
    assert (again.scored, again.images) == (0, 9)
    assert find_pending(folder / "images", folder / "faces.parquet", 10).new == 0


@pytest.mark.parametrize("out", OUTS)
def test_a_table_that_a_run_has_not_finished_is_left_alone(
    folder: Path, random_bundle: Bundle, out: str
) -> None:
    predict(folder, out, random_bundle)
    name = images_in(folder / out)[0]
    if out == "faces":
        manifest = json.loads((folder / out / "_manifest.json").read_text())
        (folder / out / "_manifest.json").write_text(json.dumps({**manifest, "complete": False}))
    else:
        (folder / ".faces.parquet.run").mkdir()
    with pytest.raises(TemporaryError, match="a run that adds to it has not ended"):
        purge(folder / out, image=[name])
    assert name in images_in(folder / out)
    with exclusive(folder / out), pytest.raises(LockedError):
        purge(folder / out, image=[name])


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({}, UsageError, "name what is to go: --older-than 30d, or --image PATH"),
        ({"older_than": "30"}, UsageError, "give hours, days or weeks, such as 12h, 30d or 8w"),
        ({"older_than": "-1d"}, UsageError, "give hours, days or weeks"),
        ({"older_than": "0d"}, UsageError, "give hours, days or weeks"),
        ({"older_than": "999999w"}, UsageError, "give hours, days or weeks"),
        ({"older_than": "30d"}, UsageError, "is one file, whose rows may be of different days"),
        ({"image": ["nobody.png"]}, UsageError, "--image nobody.png: .* has no such image"),
        ({"image": ["a"], "suppress_below": -1}, UsageError, "suppress"),
    ],
)
def test_what_cannot_be_purged_is_named(
    folder: Path,
    random_bundle: Bundle,
    options: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    predict(folder, "faces.parquet", random_bundle)
    with pytest.raises(kind, match=message):
        purge(folder / "faces.parquet", **options)
    assert len(images_in(folder / "faces.parquet")) == 40


@pytest.mark.parametrize("name", ["no", "no.parquet", "foreign.parquet", "images"])
def test_what_is_no_table_is_named(folder: Path, name: str) -> None:
    pl.DataFrame({"image": ["a"]}).write_parquet(folder / "foreign.parquet")
    with pytest.raises(InputError, match="is no table that `faceaudit predict` wrote"):
        purge(folder / name, image=["a"])
    assert not (folder / "no").exists()


def test_a_damaged_list_of_names_stops_a_run(folder: Path, random_bundle: Bundle) -> None:
    predict(folder, "faces", random_bundle)
    purge(folder / "faces", image=[images_in(folder / "faces")[0]])
    purged_file(folder / "faces").write_bytes(b"PAR1")
    with pytest.raises(FaceauditError, match="says which images must not be scored again"):
        predict(folder, "faces", random_bundle)


def test_names_are_kept_as_hashes_of_one_size(tmp_path: Path) -> None:
    names = ["a.jpg", "b/ü.jpg", "c\udcff.jpg"]
    write_purged(tmp_path, Purged().with_names(names))
    found = read_purged(tmp_path)
    assert len(found) == 3
    assert all(map(found.has, names))
    assert not found.has("d.jpg")
    column = pl.read_parquet(tmp_path / "_purged.parquet")["name_hash"]
    assert {len(value) for value in column} == {16}
    write_purged(tmp_path, Purged())
    assert len(read_purged(tmp_path)) == 0


def test_of_a_list_with_columns_the_purged_row_goes(folder: Path, random_bundle: Bundle) -> None:
    names = names_of(range(40))
    lines = [f"{folder / 'images' / name},{number}" for number, name in enumerate(names)]
    (folder / "list.csv").write_text("path,site\n" + "\n".join(lines) + "\n")
    options: dict[str, Any] = {"model": str(random_bundle.graph.parent), "detector": "whole"}
    faceaudit.predict(folder / "list.csv", folder / "out.parquet", **options)
    gone = images_in(folder / "out.parquet")[5]
    purge(folder / "out.parquet", image=[gone])
    found = faceaudit.predict(folder / "list.csv", folder / "out.parquet", restart=True, **options)
    table = pl.read_parquet(found.table)
    assert len(table) == 39
    assert 5 not in table["site"].to_list()
    for row in table.select("image", "site").iter_rows():
        assert row[0].endswith(names[int(row[1])])


def test_the_command_says_what_went(folder: Path, random_bundle: Bundle) -> None:
    predict(folder, "faces", random_bundle)
    shutil.copy(folder / "images" / names_of(range(1))[0], folder / "images" / "copy.png")
    predict(folder, "faces", random_bundle)
    name = names_of(range(1))[0]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "faceaudit.cli", "purge", str(folder / "faces"), *words],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    trial = run("--image", name, "--dry-run")
    assert "1 row of 1 image to delete" in trial.stdout
    done = run("--image", name, "--reason", "on paper")
    assert "1 row of 1 image deleted" in done.stdout
    assert "too few for a tally" in done.stdout
    assert "1 image that stays has the same bytes: copy.png" in done.stdout
    assert "nothing to delete" in run("--image", name).stdout
    wrong = run("--older-than", "soon")
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1
