from __future__ import annotations

import threading

import pytest

from faceaudit.errors import LockedError, RefusedError
from faceaudit.storage import (
    as_path,
    atomic_write,
    exclusive,
    has_folder,
    list_parts,
    local_copy,
    remove,
    sha256_of_file,
    write_text,
)
from tests.storage.test_lock import elsewhere, lock_of


def test_files_are_written_read_listed_and_removed(google: str) -> None:
    path = as_path(f"{google}/night/part-00000.parquet")
    with atomic_write(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert sha256_of_file(path).startswith("ba7816bf8f01cfea")
    assert [str(part) for part in list_parts(path.parent)] == [str(path)]
    assert local_copy(path).read_bytes() == b"abc"
    assert path.parent.is_dir()
    with path.open("rb") as opened:
        opened.seek(1)
        assert opened.read() == b"bc"
    write_text(path, "second")
    assert path.read_text() == "second"
    remove(path.parent)
    assert not path.exists()
    assert list_parts(path.parent) == []


def test_what_is_missing_is_named(google: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"No such file.*none\.txt"):
        as_path(f"{google}/none.txt").read_bytes()
    missing = as_path("gs://no-such-bucket/out.txt")
    assert not has_folder(missing)
    with pytest.raises((RefusedError, FileNotFoundError)):
        write_text(missing, "x")


def test_of_several_runs_one_holds_the_lock(google: str) -> None:
    together, outcomes = threading.Barrier(3), []

    def run() -> None:
        together.wait()
        try:
            with exclusive(as_path(f"{google}/out.parquet")):
                outcomes.append("held")
                together.wait()
        except LockedError:
            outcomes.append("locked")
            together.wait()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", "locked", "locked"]
    assert not as_path(f"{google}/.out.parquet.lock").exists()


def test_a_lock_from_elsewhere_is_taken_over_when_it_has_ended(google: str) -> None:
    out = f"{google}/out.parquet"
    as_path(lock_of(out)).write_bytes(elsewhere(60))
    with pytest.raises(LockedError, match="on other, process 1,"), exclusive(as_path(out)):
        pass
    as_path(lock_of(out)).write_bytes(elsewhere(-1))
    with exclusive(as_path(out)) as check:
        check()
    assert not as_path(lock_of(out)).exists()
