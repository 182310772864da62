"""Decoders that may crash or hang, run in processes of their own; a crash costs one image.

A process is started when it is first needed, and reused: as many live as threads decode at once.
File and pixels travel through pipes, which costs about a tenth of what decoding does.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import IO

import numpy as np

from faceaudit.images.decoded import Decoded, failed
from faceaudit.images.decoder_process import CPU_SECONDS, READY, SIZES, WALL_SECONDS
from faceaudit.images.formats import ImageFormat
from faceaudit.images.pillow import read_with_pillow
from faceaudit.schema import UNREADABLE

log = logging.getLogger(__name__)

_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    # glibc: keep up to 128 MB that were freed, rather than have the system clear them anew for
    # every image. Of twelve megapixels that is a third of the time.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}
_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGHUP")
_OUT_OF_TIME = ("SIGPROF", "SIGALRM")


@dataclass(frozen=True)
class Limits:
    """What one image may take."""

    cpu_seconds: float = CPU_SECONDS
    wall_seconds: float = WALL_SECONDS


class DecoderEndedError(Exception):
    """The process ended before it answered; the message says how."""

    def __init__(self, code: int) -> None:
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self.from_outside = name in _FROM_OUTSIDE
        super().__init__("it took too long" if name in _OUT_OF_TIME else name)


class DecoderProcess:
    """One process that decodes, and the pipes to it."""

    def __init__(self) -> None:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "faceaudit.images.decoder_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
            # Ctrl-C at a terminal ends the images under way, not their decoders.
            process_group=0 if os.name == "posix" else None,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        try:
            self._read(bytearray(len(READY)))
        except DecoderEndedError as error:
            raise OSError(f"no process for decoding could be started: {error}") from None

    def decode(
        self, found: ImageFormat, data: bytes, max_pixels: int, limits: Limits
    ) -> tuple[Decoded, int]:
        """What ``read_with_pillow`` gives, computed in the process.

        Raises:
            DecoderEndedError: If the process ended.
        """
        facts = pickle.dumps((found, max_pixels, limits.cpu_seconds, limits.wall_seconds))
        try:
            self._write(SIZES.pack(len(facts), len(data)) + facts)
            self._write(data)
        except BrokenPipeError:
            raise DecoderEndedError(self.end()) from None
        text_size, pixels_size = SIZES.unpack(self._read(bytearray(SIZES.size)))
        text = self._read(bytearray(text_size))
        status, error, width, height, shape, orientation = json.loads(bytes(text))
        image = None
        if shape is not None:
            image = np.empty(shape, np.uint8)
            self._read(image.reshape(-1).data)
            assert image.nbytes == pixels_size
        return Decoded(status, error, image, width, height), orientation

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._requests.write(rest) :]

    def _read(self, buffer: bytearray | memoryview) -> bytearray | memoryview:
        """The buffer, filled."""
        rest = memoryview(buffer)
        while rest:
            count = self._answers.readinto(rest)  # type: ignore[attr-defined]
            if not count:
                raise DecoderEndedError(self.end())
            rest = rest[count:]
        return buffer

    def end(self) -> int:
        """End the process where it has not ended; its exit code, of a signal negative."""
        self.abandon()
        try:  # its pipes are closed: it ends by itself, if it does not hang
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End the process at once."""
        self._process.kill()
        self.abandon()
        return self._process.wait()

    def disown(self) -> None:
        """Forget a process that another one started."""
        self.abandon()
        self._process.returncode = 0

    def abandon(self) -> None:
        """Close the pipes, and leave the process alone."""
        self._requests.close()
        self._answers.close()


class DecoderPool:
    """Processes that decode, shared by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[DecoderProcess] = []
        self._available = True

    def decode(
        self, found: ImageFormat, data: bytes, max_pixels: int, limits: Limits = Limits()
    ) -> tuple[Decoded, int]:
        """What ``read_with_pillow`` gives; ``unreadable`` where the decoder ends its process.

        A process that was ended from outside is given a second try.
        """
        for again in (True, False):
            try:
                process = self._take()
            except OSError as error:
                return self._decode_here(found, data, max_pixels, error)
            try:
                result = process.decode(found, data, max_pixels, limits)
            except DecoderEndedError as error:
                if again and error.from_outside:
                    continue
                message = f"the decoder of {found.name} files ended its process: {error}"
                return failed(UNREADABLE, message), 1
            except BaseException:  # an interruption: an answer may be half read
                process.kill()
                raise
            with self._lock:
                self._idle.append(process)
            return result
        raise AssertionError("unreachable")

    def _take(self) -> DecoderProcess:
        """A process that waits, or a new one."""
        with self._lock:
            if not self._available:
                raise OSError
            if self._idle:
                return self._idle.pop()
        return DecoderProcess()

    def _decode_here(
        self, found: ImageFormat, data: bytes, max_pixels: int, error: OSError
    ) -> tuple[Decoded, int]:
        """Decode in this process, where the system starts no other."""
        with self._lock:
            if self._available:
                log.warning("%s; a file that crashes a decoder will end the run", error)
            self._available = False
        return read_with_pillow(found, data, max_pixels)

    def close(self) -> None:
        """End the processes that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()

    def forget(self) -> None:
        """Start anew in a copy of this process: the pipes belong to the original."""
        idle = self._idle
        self.__init__()  # type: ignore[misc]
        for process in idle:
            process.disown()


POOL = DecoderPool()
atexit.register(POOL.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)
