"""Decoders that end or block their process: one image is lost, and no other."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faceaudit.images import isolation
from faceaudit.images.decode import decode
from faceaudit.images.formats import FORMATS, ImageFormat
from faceaudit.images.isolation import DecoderPool, Limits

KILLERS = """
    import ctypes, os, signal, sys, time

    def segfault(file):
        ctypes.string_at(0)

    def abort(file):
        os.abort()

    def killed(file):  # as the system does where memory runs out
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(file):
        os._exit(3)

    def busy(file):
        while True:
            pass

    def waiting(file):
        time.sleep(3600)

    def greedy(file):
        return bytearray(1 << 36)

    def noisy(file):
        print("standard output")
        os.write(1, b"descriptor 1")
        raise OSError("noise")

    def once(file):  # ended from outside, the first time
        path = file.read()[8:].decode()
        if not os.path.exists(path):
            open(path, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError("second try")
"""


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ImageFormat]]:
    """Formats whose decoders misbehave, by name; a file of one begins with eight bytes of it."""
    folder = tmp_path_factory.mktemp("killers")
    (folder / "killers.py").write_text(textwrap.dedent(KILLERS))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        import killers  # type: ignore[import-not-found]

        names = re.findall(r"def (\w+)", KILLERS)
        found = {
            name: ImageFormat(name, re.compile(name[:8].ljust(8).encode()), getattr(killers, name))
            for name in names
        }
        patch.setattr("faceaudit.images.formats.FORMATS", (*FORMATS, *found.values()))
        patch.setattr(isolation, "POOL", DecoderPool())
        patch.setattr("faceaudit.images.decode.POOL", isolation.POOL)
        yield found
        isolation.POOL.close()


@pytest.fixture(scope="module")
def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.skipif(os.name != "posix", reason="signals are a matter of POSIX")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("segfault", "SIGSEGV"),
        ("abort", "SIGABRT"),
        ("killed", "SIGKILL"),
        ("leave", "exit code 3"),
    ],
)
def test_a_decoder_that_ends_its_process_costs_one_image(
    formats: dict[str, ImageFormat], png: bytes, name: str, reason: str
) -> None:
    killer = name[:8].ljust(8).encode()
    results = [decode(data) for data in (png, killer, png)]
    assert [result.status for result in results] == ["ok", "unreadable", "ok"]
    assert results[1].error == f"the decoder of {name} files ended its process: {reason}"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs the system's timers")
@pytest.mark.parametrize(
    ("name", "limits"),
    [("busy", Limits(cpu_seconds=0.2)), ("waiting", Limits(wall_seconds=0.5))],
)
def test_a_decoder_that_hangs_costs_one_image_and_a_limited_time(
    formats: dict[str, ImageFormat], png: bytes, name: str, limits: Limits
) -> None:
    pool = DecoderPool()
    pool.decode(FORMATS[1], png, 1000)
    begun = time.perf_counter()
    result, _ = pool.decode(formats[name], name.encode(), 1000, limits)
    assert (result.status, result.image) == ("unreadable", None)
    assert result.error == f"the decoder of {name} files ended its process: it took too long"
    assert time.perf_counter() - begun < 30
    assert pool.decode(FORMATS[1], png, 1000)[0].status == "ok"
    pool.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux limits address space")
def test_a_decoder_that_asks_for_all_memory_gets_none(formats: dict[str, ImageFormat]) -> None:
    result = decode(b"greedy  ")
    assert result.status == "unreadable"
    assert "MemoryError" in (result.error or "")


def test_what_a_decoder_prints_does_not_mix_with_its_answer(
    formats: dict[str, ImageFormat], png: bytes
) -> None:
    assert decode(b"noisy   ").error == "damaged noisy file: noise"
    assert decode(png).status == "ok"


def test_an_image_whose_process_was_ended_from_outside_is_tried_again(
    formats: dict[str, ImageFormat], tmp_path: Path
) -> None:
    data = b"once    " + str(tmp_path / "seen").encode()
    assert decode(data).error == "damaged once file: second try"


def test_threads_keep_their_images_apart_while_decoders_crash(
    formats: dict[str, ImageFormat],
) -> None:
    def shade(value: int) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (40 + value, 30), (value, value, value)).save(file, "PNG")
        return file.getvalue()

    files = [b"abort   " if value % 16 == 3 else shade(value) for value in range(48)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(decode, files))
    for value, result in enumerate(results):
        if value % 16 == 3:
            assert result.status == "unreadable"
        else:
            assert result.image is not None
            assert result.image.shape == (30, 40 + value, 3)
            assert (result.image == value).all()


def test_a_plain_jpeg_starts_no_process(specimens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("faceaudit.images.decode.POOL", DecoderPool())
    monkeypatch.setattr(isolation, "DecoderProcess", refuse)
    assert decode((specimens / "hopper.jpg").read_bytes()).status == "ok"


def test_where_no_process_can_be_started_images_are_decoded_all_the_same(
    png: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise OSError("no process for decoding could be started: exit code 1")

    monkeypatch.setattr(isolation, "DecoderProcess", refuse)
    pool = DecoderPool()
    results = [pool.decode(FORMATS[1], png, 1000)[0] for _ in range(2)]
    assert [result.status for result in results] == ["ok", "ok"]
    assert len(caplog.records) == 1
    assert "could be started" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forking is a matter of POSIX")
def test_a_copy_of_the_process_has_decoders_of_its_own(png: bytes) -> None:
    script = f"""
        import os, sys
        from faceaudit.images.decode import decode
        png = {png!r}
        assert decode(png).status == "ok"
        child = os.fork()
        for _ in range(20):
            assert decode(png).image.sum() == {int(np.arange(300, dtype=np.uint8).sum())}
        if child:
            assert os.waitpid(child, 0)[1] == 0
    """
    begun = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert time.perf_counter() - begun < 30


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_decoders_end_with_the_process_that_started_them(png: bytes) -> None:
    script = f"""
        import os, signal
        from faceaudit.images import decode, isolation
        decode.decode({png!r})
        print(isolation.POOL._idle[0]._process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    decoder = Path("/proc") / run.stdout.strip()
    deadline = time.monotonic() + 20
    while _is_alive(decoder):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_alive(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
