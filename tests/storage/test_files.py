from __future__ import annotations

import errno
import multiprocessing
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from faceaudit.errors import EXIT_TEMPORARY, EXIT_USAGE, InputError, LockedError, TemporaryError
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


def test_a_lock_whose_file_goes_as_it_is_taken_is_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = tmp_path / "out.parquet", tmp_path / ".out.parquet.lock"
    monkeypatch.setattr("fcntl.flock", lambda *given: lock.unlink())
    monkeypatch.setattr(Path, "exists", lambda self: True)
    with pytest.raises(LockedError, match="another run"), exclusive(path):
        pass


@pytest.mark.parametrize(("one", "other"), [("out", "out.parquet"), ("a.parquet", "a.parquet.x")])
def test_a_lock_leaves_alone_what_another_run_is_writing(
    tmp_path: Path, one: str, other: str
) -> None:
    (tmp_path / f".{one}.ab_d3fgh.part").write_bytes(b"of a run that was killed")
    with atomic_write(tmp_path / other) as file:
        file.write(b"x")
        with exclusive(tmp_path / one):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [other]


def test_a_link_stays_and_the_file_that_it_names_is_written(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    link, real = tmp_path / "out.txt", tmp_path / "store" / "real.txt"
    link.symlink_to(Path("store") / "real.txt")
    for text in ("new", "again"):
        write_text(link, text)
        assert link.is_symlink()
        assert real.read_text() == text
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out.txt", "real.txt", "store"]


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    link = tmp_path / "out.txt"
    link.symlink_to("out.txt")
    with pytest.raises(InputError, match=r"out.txt: is a link that leads to itself"):
        write_text(link, "new")


def test_a_link_and_what_it_names_have_one_lock(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    link, real = tmp_path / "latest", tmp_path / "store" / "real"
    link.symlink_to(real)
    for first, second in ((link, real), (real, link)):
        with exclusive(first), pytest.raises(LockedError), exclusive(second):
            pass


def test_hash_of_a_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "abc")
    assert sha256_of_file(tmp_path / "a").startswith("ba7816bf8f01cfea")


def test_half_a_character_in_a_text_does_not_stop_a_page(tmp_path: Path) -> None:
    write_text(tmp_path / "x.html", "caf\udce9 \u00e9")
    assert (tmp_path / "x.html").read_text(encoding="utf-8") == "caf? \u00e9"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only the superuser may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", [50_000, 5_000_000], ids=["in_the_block", "when_flushed"])
def test_a_disk_that_fills_up_is_temporary_and_keeps_what_was_there(
    small_disk: Path, size: int
) -> None:
    path = small_disk / "out.parquet"
    write_text(path, "before" * 5_000)
    with pytest.raises(TemporaryError, match="disk is full"), atomic_write(path) as file:
        file.write(b"x" * size)
    assert path.read_text() == "before" * 5_000
    assert list(small_disk.iterdir()) == [path]


def test_a_command_on_a_full_disk_ends_with_75_in_one_line(small_disk: Path) -> None:
    table = small_disk / "out.csv"
    rows = "".join(f"{k}.jpg,Male,{'Male' if k % 3 else 'Female'}\n" for k in range(100))
    write_text(table, f"image,gender_true,gender_pred\n{rows}")
    write_text(small_disk / "filling", "x" * 58_000)
    tally = str(small_disk / "out.tally")
    command = [sys.executable, "-m", "faceaudit.cli", "tally", str(table), tally]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == EXIT_TEMPORARY
    assert run.stderr == f"Error: {tally}: the disk is full; free some space, run again\n"
    assert sorted(path.name for path in small_disk.iterdir()) == ["filling", "out.csv"]


def test_a_disk_that_may_only_be_read_is_named(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    path = small_disk / "out.parquet"
    for write in (atomic_write(path), exclusive(path)):
        with pytest.raises(InputError, match=r"cannot write there .*[Rr]ead-only"), write:
            pass


def test_a_folder_that_is_deleted_midway_is_named(tmp_path: Path) -> None:
    path = tmp_path / "out" / "x.parquet"
    path.parent.mkdir()

    def write() -> None:
        with exclusive(path), atomic_write(path) as file:
            file.write(b"x")
            shutil.rmtree(path.parent)

    with pytest.raises(InputError, match=r"out/x\.parquet: there is no folder .*/out"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_grows_over_the_limit_is_refused_in_one_line(tmp_path: Path) -> None:
    code = (
        "import resource; from pathlib import Path; from faceaudit.storage import atomic_write\n"
        "from faceaudit.cli.ending import end_well\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "def work():\n"
        f"    with atomic_write(Path({str(tmp_path / 'out.parquet')!r})) as file:\n"
        "        file.write(bytes(1_000_000))\n"
        "end_well(work)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == EXIT_USAGE
    assert "larger than files may be" in run.stderr
    assert run.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
