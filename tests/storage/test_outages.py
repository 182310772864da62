from __future__ import annotations

import logging
import time

import pytest

from faceaudit.errors import EXIT_TEMPORARY, EXIT_USAGE, RefusedError, TemporaryError
from faceaudit.storage import as_path, outages, retrying, without_secrets, write_text
from tests.storage.conftest import KEY, SECRET, Proxy, forget_stores


@pytest.mark.parametrize("how", [500, 429, None], ids=str)
def test_a_store_that_fails_for_a_while_is_waited_for(
    proxy: Proxy, bucket: str, how: int | None
) -> None:
    path = as_path(f"{bucket}/out.txt")
    proxy.how, proxy.failures = how, 5
    write_text(path, "x")
    proxy.failures = 5
    assert path.read_text() == "x"
    proxy.failures = 5
    with path.open("rb") as file:
        assert file.read() == b"x"
    assert proxy.failures == 0


@pytest.mark.parametrize("how", [503, None], ids=str)
def test_a_store_that_stays_away_is_temporary(
    proxy: Proxy, bucket: str, how: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.6)
    path = as_path(f"{bucket}/out.txt")
    proxy.how, proxy.failures = how, 1_000
    begun = time.monotonic()
    with pytest.raises(TemporaryError, match=r"out\.txt: storage unreachable: ") as caught:
        path.read_bytes()
    assert caught.value.exit_code == EXIT_TEMPORARY
    assert "\n" not in str(caught.value)
    assert 0.1 < time.monotonic() - begun < 10
    assert caught.value.__suppress_context__


def test_a_server_that_is_not_there_is_temporary(
    proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.6)
    proxy.shutdown()
    proxy.server_close()
    with pytest.raises(TemporaryError, match=r"storage unreachable: .*127\.0\.0\.1"):
        as_path(f"{bucket}/out.txt").exists()


@pytest.mark.parametrize("how", [403, 401], ids=str)
def test_a_store_that_refuses_is_asked_once(proxy: Proxy, bucket: str, how: int) -> None:
    path = as_path(f"{bucket}/out.txt")
    proxy.how, proxy.failures = how, 1_000
    with pytest.raises(RefusedError) as caught:
        path.read_bytes()
    assert caught.value.exit_code == EXIT_USAGE
    assert "\n" not in str(caught.value)
    assert len(proxy.lines) == 1
    assert isinstance(caught.value, OSError)
    assert caught.value.strerror in str(caught.value)


@pytest.mark.parametrize("how", [501, 505], ids=str)
def test_what_a_store_will_never_do_is_asked_once(proxy: Proxy, bucket: str, how: int) -> None:
    proxy.how, proxy.failures = how, 1_000
    with pytest.raises(RefusedError, match="has no such operation") as caught:
        write_text(as_path(f"{bucket}/out.txt"), "x")
    assert caught.value.exit_code == EXIT_USAGE
    assert len(proxy.lines) == 1


def test_without_credentials_the_error_says_so(
    aws: str, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    forget_stores()
    with pytest.raises(RefusedError, match="credentials"):
        as_path(f"{bucket}/out.txt").read_bytes()


def test_an_error_that_is_no_store_s_stays_what_it_is(bucket: str) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        retrying(broken, as_path(bucket))


def test_local_calls_are_made_once(tmp_path: object) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        retrying(fail, tmp_path)
    assert len(calls) == 1


def test_waits_grow_and_end_and_long_ones_are_told(
    monkeypatch: pytest.MonkeyPatch, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    now, waits = [0.0], []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    def fail() -> None:
        raise ConnectionResetError

    monkeypatch.setattr(outages.time, "sleep", sleep)
    monkeypatch.setattr(outages.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(outages.random, "uniform", lambda low, high: 1.0)
    path = as_path(bucket)
    with pytest.raises(TemporaryError):
        retrying(fail, path)
    assert waits == [0.5, 1, 2, 4, 8, 16, 16]
    assert sum(waits) <= outages.PATIENCE
    told = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    assert [line.rpartition(" tried again in ")[2] for line in told] == [
        "4 s",
        "8 s",
        "16 s",
        "16 s",
    ]


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    said = (
        f"PUT https://u:p-w@store:9000/b/k?X-Amz-Credential={KEY}&X-Amz-Signature=ab failed for "
        f"{KEY} with {SECRET}"
    )
    assert without_secrets("GET https://token@store/k") == "GET https://store/k"
    assert without_secrets(said) == "PUT https://store:9000/b/k failed for *** with ***"


def test_no_secret_is_in_errors_or_logs_of_an_outage(
    proxy: Proxy,
    bucket: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outages, "LONGEST_WAIT", 0.3)
    monkeypatch.setattr(outages, "PATIENCE", 4.0)
    caplog.set_level(logging.DEBUG, logger="faceaudit")
    proxy.failures = 1_000
    with pytest.raises(TemporaryError) as caught:
        as_path(f"{bucket}/out.txt").read_bytes()
    ours = [record.getMessage() for record in caplog.records if "faceaudit" in record.name]
    assert any("storage unreachable" in line for line in ours)
    shown = f"{caught.value!r} {ours}"
    assert SECRET not in shown
    assert KEY not in shown
