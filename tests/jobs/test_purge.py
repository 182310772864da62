"""Rows deleted for good: what goes, what stays, what is kept of it, and that nothing comes back."""

from __future__ import annotations

import datetime as dt
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
from faceaudit.pipeline import deletion, known
from faceaudit.pipeline.pending import find_pending
from faceaudit.pipeline.predict import Prediction
from faceaudit.pipeline.purged import Purged, purged_file, read_purged, write_purged
from faceaudit.storage import exclusive
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
    assert (found.images, found.rows, found.files) == (1, 1, 1)
    assert table_of(folder / out).equals(before.filter(pl.col("image") != gone))
    again = predict(folder, out, random_bundle)
    assert again.already_complete
    assert again.images == 39
    assert gone not in images_in(folder / out)
    assert find_pending(folder / "images", folder / out).images == 39
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


def test_parts_of_long_ago_go_and_their_counts_stay(folder: Path, random_bundle: Bundle) -> None:
    predict(folder, "faces", random_bundle)
    out = folder / "faces"
    before = table_of(out)
    faceaudit.tally(out, folder / "before.tally")
    make_old(out, 2, days=31)
    found = purge(out, older_than="30d", suppress_below=0)
    assert (found.images, found.files) == (20, 2)
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
    write_images(folder / "images", names_of(range(40, 41)))
    predict(folder, "faces", random_bundle)
    assert len(read) == 9  # the other images of that part
    read.clear()
    write_images(folder / "images", names_of(range(41, 42)))
    predict(folder, "faces", random_bundle)
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


@pytest.mark.parametrize("at", [("write_manifest", k) for k in range(3)] + [
    ("write_part", 0), ("write_part", 1), ("list_parts", 0),
])  # fmt: skip
def test_a_purge_that_was_killed_is_gone_on_with(
    folder: Path, random_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, at: tuple[str, int]
) -> None:
    predict(folder, "faces", random_bundle)
    out = folder / "faces"
    make_old(out, 1, days=31)
    names = images_in(out)
    named = [names[12], names[23]]
    step, which = at
    real = getattr(deletion, step)
    calls = iter(range(100))

    def killed(*given: Any) -> Any:
        if next(calls) == which:
            raise KeyboardInterrupt
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(deletion, step, killed)
        with pytest.raises(KeyboardInterrupt):
            purge(out, older_than="30d", image=named)
    begun = json.loads((out / "_manifest.json").read_text())["purging"]
    if begun:
        with pytest.raises(TemporaryError, match="purge` of it was interrupted"):
            predict(folder, "faces", random_bundle)
        with pytest.raises(TemporaryError):
            faceaudit.report(out)
    purge(out, older_than="30d", image=named)
    assert images_in(out) == [name for name in names[10:] if name not in named]
    assert len(list(out.glob("part-*"))) == 3
    assert predict(folder, "faces", random_bundle).already_complete
    assert len(record_of(out)) >= 1


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
    assert "1 image that stayed had the same bytes as one of them: copy.png" in done.stdout
    assert "nothing to delete" in run("--image", name).stdout
    wrong = run("--older-than", "soon")
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1
