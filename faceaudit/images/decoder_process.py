"""The process that decodes for another one: ``python -m faceaudit.images.decoder_process``.

It reads requests from its input and writes answers to its output, one after the other, until the
input ends. A decoder that crashes, hangs or takes too much memory ends this process and no other.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import struct
import sys
from typing import BinaryIO

from PIL import AvifImagePlugin, Image

from faceaudit.images.pillow import read_with_pillow

SIZES = struct.Struct("<LQ")
"""Bytes of the facts and of the data that follow."""
READY = b"ready"

CPU_SECONDS = 60.0
"""Processor time that one image may take; a hundred megapixels take a tenth of it."""
WALL_SECONDS = 600.0
"""Time that may pass, where a decoder waits and computes nothing."""

_BYTES_PER_PIXEL, _COPIES, _ROOM = 32, 8, 256 << 20
"""Memory that one image may take: per allowed pixel, per byte of its file, and besides."""


def main() -> None:
    """Answer until the input ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", buffering=0)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # what a library prints must not mix with the answers
    os.dup2(silence, 2)
    # A scheduler that ends the whole group of processes: images under way are finished.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    least = Image.MAX_IMAGE_PIXELS or 0
    base = _give_way()
    answers.write(READY)
    while head := requests.read(SIZES.size):
        facts, data = (requests.read(count) for count in SIZES.unpack(head))
        found, max_pixels, cpu_seconds, wall_seconds = pickle.loads(facts)
        _limit_memory(base, _BYTES_PER_PIXEL * max_pixels + _COPIES * len(data) + _ROOM)
        _limit_time(cpu_seconds, wall_seconds)
        Image.MAX_IMAGE_PIXELS = max(least, max_pixels)  # of tiles and frames; images are checked
        result, orientation = read_with_pillow(found, data, max_pixels)
        _limit_time(0, 0)
        shape = None if result.image is None else result.image.shape
        answer = (result.status, result.error, result.width, result.height, shape, orientation)
        text = json.dumps(answer).encode()
        pixels = b"" if result.image is None else result.image.reshape(-1).data
        _write(answers, SIZES.pack(len(text), len(pixels)) + text)
        _write(answers, pixels)


def _write(answers: BinaryIO, data: bytes | memoryview) -> None:
    """All of the data, however much the pipe takes at once."""
    rest = memoryview(data)
    while rest:
        rest = rest[answers.write(rest) :]


def _give_way() -> int:
    """Let the system end this process first where memory runs out; bytes of memory it has now."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return 0


def _limit_memory(base: int, more: int) -> None:
    """Let a decoder that asks for more memory than this fail; on Linux alone."""
    if base:
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = base + more
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _limit_time(cpu_seconds: float, wall_seconds: float) -> None:
    """Have the system end this process after so much time, 0 for never; not on Windows."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        signal.setitimer(signal.ITIMER_REAL, wall_seconds)


if __name__ == "__main__":
    main()
