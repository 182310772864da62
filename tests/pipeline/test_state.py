"""What a run finds of a table, or does to it, where something came between."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from faceaudit.errors import FaceauditError, InputError, LockedError, TemporaryError
from faceaudit.models.bundle import Bundle
from faceaudit.pipeline.dataset import DataSet
from faceaudit.pipeline.digest import ImageDigest, digest_of
from faceaudit.pipeline.messages import prediction_message
from faceaudit.pipeline.predict import predict
from faceaudit.pipeline.target import TableFile, Target, open_target
from faceaudit.schema import TableMetadata
from faceaudit.showcase.images import photograph
from faceaudit.storage import never_lost

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("sha256", pa.string()),
        ("face", pa.int32()),
        ("status", pa.string()),
        ("error", pa.string()),
    ]
)
METADATA = TableMetadata(tasks=(), options={"age_bins": [0]})


def open_(
    out: Path, *, restart: bool = False, still_mine: Callable[[], None] = never_lost
) -> Target:
    return open_target(out, SCHEMA, METADATA, 2, restart=restart, still_mine=still_mine)


def name(number: int) -> str:
    return f"{number}.jpg"


def add(target: Target, number: int) -> None:
    row = {"image": name(number), "sha256": "ab", "face": 0, "status": "ok", "error": None}
    table = pa.Table.from_pylist([row], SCHEMA)
    target.rows.add(table, [digest_of(name(number), "stamp", ())])


def finish(target: Target, images: int) -> None:
    target.finish(lambda: map(name, range(images)), (), ImageDigest())


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Lock:
    """A lock that another run may take over."""

    lost = False

    def check(self) -> None:
        if self.lost:
            raise LockedError("its lock was lost")


STEPS: list[Callable[[Target], None]] = [
    lambda target: add(target, 1),
    lambda target: target.rows.finish(),
    lambda target: finish(target, 1),
]


@pytest.mark.parametrize("step", STEPS, ids=["add", "finish", "write"])
@pytest.mark.parametrize("out", ["out", "out.parquet"])
def test_a_run_that_lost_its_lock_changes_nothing_more(
    tmp_path: Path, out: str, step: Callable[[Target], None]
) -> None:
    lock = Lock()
    target = open_(tmp_path / out, still_mine=lock.check)
    add(target, 0)
    lock.lost = True
    before = files_in(tmp_path)
    with pytest.raises(LockedError, match="lock was lost"):
        step(target)
    target.tidy()
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("out", ["out", "out.parquet"])
def test_a_run_that_lost_its_lock_removes_no_table_of_another(tmp_path: Path, out: str) -> None:
    lock = Lock()
    target = open_(tmp_path / out, still_mine=lock.check)
    lock.lost = True
    before = files_in(tmp_path)
    target.tidy()
    assert files_in(tmp_path) == before


def table_of(folder: Path, images: int) -> Path:
    """A finished folder of parts of two rows."""
    target = open_(folder)
    for number in range(images):
        add(target, number)
    target.rows.finish()
    return folder


def images_in(target: Target) -> list[str]:
    return [name for table in target.rows.tables() for name in table["image"].to_pylist()]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("_manifest.json", lambda path: path.write_bytes(b"\xff\xfe{")),
        ("_manifest.json", lambda path: path.write_bytes(b"")),
        ("part-00000.parquet", Path.unlink),
        ("part-00001.parquet", Path.unlink),
        ("part-00000.parquet", cut_off),
        ("part-00001.parquet", cut_off),
    ],
)
def test_damage_is_named_with_what_mends_it(
    tmp_path: Path, file: str, harm: Callable[[Path], object]
) -> None:
    out = table_of(tmp_path / "out", 3)
    harm(out / file)
    with pytest.raises(InputError, match=rf"out/{file}: .*; --restart makes the table anew") as one:
        open_(out)
    assert "\n" not in str(one.value)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe{", b"[]"])
def test_a_damaged_manifest_is_replaced_with_restart(tmp_path: Path, data: bytes) -> None:
    out = table_of(tmp_path / "out", 3)
    (out / "_manifest.json").write_bytes(data)
    target = open_(out, restart=True)
    add(target, 7)
    target.rows.finish()
    assert images_in(open_(out)) == ["7.jpg"]
    assert sorted(path.name for path in out.iterdir()) == ["_manifest.json", "part-00000.parquet"]
    hidden = tmp_path / ".out.parquet.run"
    add(open_(tmp_path / "out.parquet"), 0)
    (hidden / "_manifest.json").write_bytes(data)
    with pytest.raises(InputError, match="is damaged"):
        open_(tmp_path / "out.parquet")
    assert images_in(open_(tmp_path / "out.parquet", restart=True)) == []


def test_a_run_that_was_killed_while_it_removed_its_folder_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.parquet"
    monkeypatch.setattr("faceaudit.pipeline.target.FILE_PARTS", 2)
    target = open_(out, restart=True)
    for number in range(3):
        add(target, number)

    class KilledError(Exception):
        pass

    def killed(folder: Path) -> None:
        (folder / "part-00000.parquet").unlink(missing_ok=True)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("faceaudit.pipeline.target.remove", killed)
        with pytest.raises(KilledError):
            finish(target, 3)
    again = open_(out)
    assert again.complete
    assert len(again.known) == 3


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (errno.EACCES, InputError, "cannot be made a folder"),
        (errno.ENOSPC, TemporaryError, "the disk is full"),
    ],
)
def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    error: type[FaceauditError],
    words: str,
) -> None:
    def refuse(self: Path, *args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(error, match=words):
        open_(tmp_path / "out")


def test_a_finished_table_is_not_written_to_when_it_is_looked_at(tmp_path: Path) -> None:
    out = table_of(tmp_path / "out", 3)
    assert open_(out).complete
    assert not (out / ".segments").exists()


def test_what_killed_runs_had_written_goes_when_the_table_is_finished(tmp_path: Path) -> None:
    out = table_of(tmp_path / "out", 2)
    for name in (".part-00009.parquet.ab_d3fgh.part", "._manifest.json.abcdefgh.part"):
        (out / name).write_bytes(b"x")
    (out / ".page.html.abcdefgh.part").write_bytes(b"of a report under way")
    target = open_(out)
    target.rows.reopen()
    add(target, 2)
    target.rows.finish()
    assert sorted(path.name for path in out.iterdir()) == [
        ".page.html.abcdefgh.part",
        "_manifest.json",
        "part-00000.parquet",
        "part-00001.parquet",
    ]


def test_predict_checks_its_lock_before_every_change(
    random_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    photograph().resize((64, 64)).save(tmp_path / "in" / "a.png")
    lock = Lock()

    @contextmanager
    def exclusive(out: Path) -> Iterator[Callable[[], None]]:
        yield lock.check

    def lose(self: DataSet) -> None:
        lock.lost = True

    monkeypatch.setattr("faceaudit.pipeline.predict.exclusive", exclusive)
    monkeypatch.setattr(DataSet, "reopen", lose)
    with pytest.raises(LockedError, match="lock was lost"):
        predict(tmp_path / "in", tmp_path / "out", model=str(random_bundle.graph.parent), workers=1)
    assert list((tmp_path / "out" / ".segments").iterdir()) == []


def test_a_run_that_had_only_the_file_to_write_did_something(
    random_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    photograph().resize((64, 64)).save(tmp_path / "in" / "a.png")
    given: dict[str, Any] = {"model": str(random_bundle.graph.parent), "workers": 1}

    def fail(*given: object) -> None:
        raise TemporaryError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(TableFile, "finish", fail)
        with pytest.raises(TemporaryError):
            predict(tmp_path / "in", tmp_path / "out.parquet", **given)
    found = predict(tmp_path / "in", tmp_path / "out.parquet", **given)
    assert (found.images, found.scored, found.already_complete) == (1, 0, False)
    assert "nothing was done" not in prediction_message(found)
    assert predict(tmp_path / "in", tmp_path / "out.parquet", **given).already_complete
