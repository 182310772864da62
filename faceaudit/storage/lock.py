"""The lock on an object store: an object beside the output that its run renews.

Only conditional writes make it safe: it is created where nothing has its name, and renewed, taken
over and deleted only while it is as it was last seen. ``docs/storage.md`` tells what is promised.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from faceaudit.errors import FaceauditError, LockedError, RefusedError, UnknownOperationError
from faceaudit.storage.conditional import ABSENT, delete, read, write
from faceaudit.storage.files import never_lost
from faceaudit.storage.remote import RemotePath

log = logging.getLogger(__name__)

LIFETIME = 120.0
"""Seconds until a lock that is not renewed may be taken over."""
RENEWAL = 30.0
"""Seconds between renewals."""
UNGUARDED = (
    "%s: this store takes no notice of conditional writes, so that nothing keeps a second run from "
    "writing it; see that there is none"
)
GRACE = 5.0
"""Seconds that the end of a run waits for a renewal under way."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    owner: str
    host: str
    pid: int
    place: str | None
    """Where the process number means something, None where that is unknown."""
    since: str
    expires: float
    """Seconds since 1970, by the clock of the holder."""
    token: str
    """No two runs have the same."""

    @classmethod
    def myself(cls) -> Holder:
        """This run."""
        return cls(
            owner=_user(),
            host=socket.gethostname(),
            pid=os.getpid(),
            place=_place(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            expires=time.time() + LIFETIME,
            token=uuid4().hex,
        )

    @classmethod
    def from_json(cls, data: bytes) -> Holder | None:
        """Who wrote a lock; None where it is no lock of ours."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def renewed(self) -> Holder:
        return replace(self, expires=time.time() + LIFETIME)

    def is_gone(self) -> bool:
        """Whether its time is over, or it was a process of this machine that ended."""
        if time.time() > self.expires:
            return True
        return self.place is not None and self.place == _place() and not _runs(self.pid)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"


def _place() -> str | None:
    """The kernel's run and the space of process numbers in it; None where Linux does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def held(path: RemotePath) -> Iterator[Callable[[], None]]:
    """Hold the lock of an output on an object store (see ``storage.exclusive``)."""
    lock = path.parent / f".{path.name}.lock"
    try:
        kept = Kept(path, lock, *_take(path, lock))
    except UnknownOperationError:
        log.warning(UNGUARDED, path)
        yield never_lost
        return
    kept.start()
    try:
        yield kept.check
        kept.check()
    finally:
        kept.release()


def _take(path: RemotePath, lock: RemotePath) -> tuple[Holder, str]:
    """This run as the holder of the lock, and the state that the lock is in."""
    mine = Holder.myself()
    try:
        return mine, _created(path, lock, mine)
    except FileExistsError:
        there = read(lock)
    if there is None:
        raise LockedError(f"{path}: another run was writing it a moment ago; run again")
    holder = Holder.from_json(there.data)
    if holder is None:
        raise LockedError(f"{path}: {lock} is no lock of a run; delete it if nothing writes there")
    if holder.token == mine.token:  # written, but the answer was lost on the way
        return mine, there.state
    if holder.is_gone():
        with suppress(FileExistsError, FileNotFoundError):
            return mine, write(lock, mine.to_json(), there.state)
    raise LockedError(
        f"{path}: another run is writing it: {holder.owner} on {holder.host}, process "
        f"{holder.pid}, since {holder.since}; wait for it to end (where it was killed, its lock "
        f"ends within {LIFETIME:.0f} s)"
    )


def _created(path: RemotePath, lock: RemotePath, mine: Holder) -> str:
    """The state of a lock that did not exist; tells of a store that takes no notice of that."""
    state = write(lock, mine.to_json(), ABSENT)
    try:
        state = write(lock, mine.to_json(), ABSENT)
    except FileExistsError:
        return state
    log.warning(UNGUARDED, path)
    return state


class Kept:
    """A lock that a thread renews until it is released."""

    def __init__(self, path: RemotePath, lock: RemotePath, mine: Holder, state: str) -> None:
        self.path, self.lock, self.mine, self.state = path, lock, mine, state
        self.lost = False
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._renew, name="lock", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def check(self) -> None:
        """Raise ``LockedError`` if the lock was lost."""
        if self.lost or time.time() > self.mine.expires:
            raise LockedError(
                f"{self.path}: its lock was lost, as the storage was out of reach or another run "
                "took it over; run again"
            )

    def release(self) -> None:
        """Stop renewing and delete the lock, unless it is another's by now.

        Where a store does not delete it, its time is over at once.
        """
        self.done.set()
        self.thread.join(GRACE)
        # Where the store is out of reach the lock ends by itself, and its run need not wait.
        with suppress(FaceauditError, FileExistsError, FileNotFoundError):
            if not self.lost:
                self._end()

    def _end(self) -> None:
        try:
            delete(self.lock, self.state)
        except RefusedError:
            write(self.lock, replace(self.mine, expires=0.0).to_json(), self.state, patience=0)

    def _renew(self) -> None:
        while not self.done.wait(RENEWAL):
            renewed = self.mine.renewed()
            try:
                self.state = write(self.lock, renewed.to_json(), self.state)
                self.mine = renewed
            except (FileExistsError, FileNotFoundError):
                self.lost = not self._is_mine()
                if self.lost:
                    return
            except FaceauditError:
                continue  # tried again; whether the lock has ended by then, check() sees

    def _is_mine(self) -> bool:
        """Whether the lock was renewed after all, and only the answer was lost on the way."""
        try:
            there = read(self.lock)
        except FaceauditError:
            return False
        holder = None if there is None else Holder.from_json(there.data)
        if there is None or holder is None or holder.token != self.mine.token:
            return False
        self.mine, self.state = holder, there.state
        return True
