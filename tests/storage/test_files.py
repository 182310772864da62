from __future__ import annotations

import errno
import multiprocessing
import stat
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from faceaudit.errors import EXIT_TEMPORARY, InputError, LockedError, TemporaryError
from faceaudit.storage import atomic_write, exclusive, sha256_of_file, write_text


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    with atomic_write(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert stat.S_IMODE(path.stat().st_mode) & 0o400
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_previous_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    write_text(path, "before")
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.write("text, where bytes are due")  # type: ignore[arg-type]
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_temporary(tmp_path: Path) -> None:
    with (
        pytest.raises(TemporaryError, match="disk is full") as caught,
        atomic_write(tmp_path / "x"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_code == EXIT_TEMPORARY
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"), atomic_write(tmp_path / "no" / "x"):
        pass


def hold(path: Path, held: Event, done: Event) -> None:
    with exclusive(path):
        held.set()
        done.wait(60)


def test_another_process_holds_the_lock_until_it_dies(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    path = tmp_path / "out.parquet"
    process = context.Process(target=hold, args=(path, held, done))
    process.start()
    try:
        assert held.wait(60)
        with pytest.raises(LockedError, match="another run"), exclusive(path):
            pass
    finally:
        process.kill()
        process.join()
    with exclusive(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_hash_of_a_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "abc")
    assert sha256_of_file(tmp_path / "a").startswith("ba7816bf8f01cfea")


def test_half_a_character_in_a_text_does_not_stop_a_page(tmp_path: Path) -> None:
    write_text(tmp_path / "x.html", "caf\udce9 \u00e9")
    assert (tmp_path / "x.html").read_text(encoding="utf-8") == "caf? \u00e9"
