from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from dataclasses import replace
from multiprocessing.synchronize import Event

import pytest

from faceaudit.errors import EXIT_TEMPORARY, LockedError
from faceaudit.storage import as_path, exclusive, lock, outages
from tests.storage.conftest import Proxy


def lock_of(address: str) -> str:
    folder, _, name = address.rpartition("/")
    return f"{folder}/.{name}.lock"


def test_a_second_run_learns_who_holds_the_lock(bucket: str) -> None:
    out = f"{bucket}/out.parquet"
    with exclusive(as_path(out)) as check:
        check()
        holds = rf"another run is writing it: .+ on .+, process {os.getpid()}, since 20\d\d-"
        with pytest.raises(LockedError, match=holds) as caught, exclusive(as_path(out)):
            pass
        assert caught.value.exit_code == EXIT_TEMPORARY
    assert list(as_path(bucket).iterdir()) == []


def test_of_many_runs_one_holds_the_lock(store: str) -> None:
    together, outcomes = threading.Barrier(6), []

    def run() -> None:
        together.wait()
        try:
            with exclusive(as_path(f"{store}/out.parquet")):
                outcomes.append("held")
                together.wait()
        except LockedError:
            outcomes.append("locked")
            together.wait()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", *["locked"] * 5]
    assert not as_path(lock_of(f"{store}/out.parquet")).exists()


def hold(address: str, held: Event) -> None:
    with exclusive(as_path(address)):
        held.set()
        time.sleep(60)


def test_the_lock_of_a_run_that_was_killed_here_is_taken_over_at_once(bucket: str) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(f"{bucket}/out.parquet", held))
    process.start()
    try:
        assert held.wait(60)
        with pytest.raises(LockedError), exclusive(as_path(f"{bucket}/out.parquet")):
            pass
    finally:
        process.kill()
        process.join()
    with exclusive(as_path(f"{bucket}/out.parquet")):
        pass


def elsewhere(expires_in: float) -> bytes:
    """The lock of a run on another machine."""
    myself = lock.Holder.myself()
    return replace(
        myself, host="other", pid=1, place="elsewhere", expires=time.time() + expires_in
    ).to_json()


def test_a_lock_from_elsewhere_is_taken_over_when_it_has_ended(store: str) -> None:
    out = f"{store}/out.parquet"
    as_path(lock_of(out)).write_bytes(elsewhere(60))
    with pytest.raises(LockedError, match="on other, process 1,"), exclusive(as_path(out)):
        pass
    as_path(lock_of(out)).write_bytes(elsewhere(-1))
    with exclusive(as_path(out)) as check:
        check()
    assert not as_path(lock_of(out)).exists()


def test_what_is_no_lock_is_left_alone(bucket: str) -> None:
    out = f"{bucket}/out.parquet"
    as_path(lock_of(out)).write_bytes(b"[1]")
    with pytest.raises(LockedError, match="no lock of a run"), exclusive(as_path(out)):
        pass
    assert as_path(lock_of(out)).read_bytes() == b"[1]"


def test_a_lock_is_renewed_while_its_run_lives(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "RENEWAL", 0.1)
    monkeypatch.setattr(lock, "LIFETIME", 0.6)
    out = f"{bucket}/out.parquet"
    with exclusive(as_path(out)) as check:
        first = json.loads(as_path(lock_of(out)).read_bytes())
        time.sleep(1.0)
        check()
        later = json.loads(as_path(lock_of(out)).read_bytes())
        with pytest.raises(LockedError), exclusive(as_path(out)):
            pass
    assert later["expires"] > first["expires"] + 0.5
    assert later["token"] == first["token"]


def test_a_run_whose_lock_was_taken_over_is_told(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "RENEWAL", 0.05)
    out = f"{bucket}/out.parquet"

    def run() -> None:
        with exclusive(as_path(out)) as check:
            as_path(lock_of(out)).write_bytes(elsewhere(60))
            for _ in range(100):
                time.sleep(0.05)
                check()

    with pytest.raises(LockedError, match="lock was lost"):
        run()
    assert json.loads(as_path(lock_of(out)).read_bytes())["host"] == "other"


def test_an_answer_that_was_lost_does_not_lose_the_lock(proxy: Proxy, bucket: str) -> None:
    proxy.lose_answers = True
    proxy.only, proxy.failures = "PUT", 2
    with exclusive(as_path(f"{bucket}/out.parquet")) as check:
        check()
    assert proxy.failures == 0
    assert list(as_path(bucket).iterdir()) == []


def test_of_a_store_that_ignores_conditions_a_warning_tells(
    proxy: Proxy, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    with exclusive(as_path(f"{bucket}/out.parquet")):
        assert "conditional" not in caplog.text
    proxy.ignore_conditions = True
    with exclusive(as_path(f"{bucket}/out.parquet")):
        assert "takes no notice of conditional writes" in caplog.text
    assert list(as_path(bucket).iterdir()) == []


def test_a_store_without_conditional_writes_is_as_one_that_ignores_them(
    proxy: Proxy, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.only, proxy.how, proxy.failures = "PUT", 501, 1
    with exclusive(as_path(f"{bucket}/out.parquet")) as check:
        check()
    assert "takes no notice of conditional writes" in caplog.text
    assert list(as_path(bucket).iterdir()) == []


@pytest.mark.parametrize("how", [403, 501], ids=str)
def test_a_lock_that_a_store_does_not_delete_is_over_all_the_same(
    proxy: Proxy, bucket: str, how: int
) -> None:
    out = f"{bucket}/out.parquet"
    proxy.only, proxy.how, proxy.failures = "DELETE", how, 1
    with exclusive(as_path(out)):
        pass
    assert as_path(lock_of(out)).exists()
    with exclusive(as_path(out)) as check:
        check()
    assert not as_path(lock_of(out)).exists()


def test_a_run_does_not_wait_for_a_store_that_is_away_to_give_up_its_lock(
    proxy: Proxy, bucket: str
) -> None:
    out = f"{bucket}/out.parquet"
    with exclusive(as_path(out)):
        proxy.failures, begun = 1_000, time.monotonic()
        proxy.lines.clear()
    assert len(proxy.lines) == 1
    assert time.monotonic() - begun < outages.PATIENCE
    proxy.failures = 0
    assert as_path(lock_of(out)).exists()
