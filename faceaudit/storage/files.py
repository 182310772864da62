"""Files that appear at once or not at all, and the lock that keeps two runs apart."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from faceaudit.errors import FaceauditError, InputError, LockedError, TemporaryError, UsageError
from faceaudit.storage.paths import FULL, as_remote, followed, is_remote

UNFINISHED = f"{'[a-z0-9_]' * 8}.part"
"""How the names of files end that ``atomic_write`` has not finished, as a glob."""


@contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when it is complete.

    On a disk it is written beside its final place (so that the rename stays on one file system),
    flushed and renamed. For an object store it is gathered in the temporary folder and then sent.
    If the block raises, nothing is left.

    Args:
        path: The file; where it is a symbolic link, the link stays and what it names is written.
        durable: Wait until the disk has it, so that a power cut cannot empty it.

    Raises:
        InputError: If the folder does not exist or cannot be written to, or a folder has the name.
        RefusedError: If a store refuses.
        TemporaryError: If the disk is full, or a store cannot be reached.
    """
    remote = as_remote(path)
    with _beside(path, durable) if remote is None else remote.writing() as file:
        yield file


@contextmanager
def _beside(path: Path, durable: bool) -> Iterator[IO[bytes]]:
    """The file on a disk, under another name until the block has ended."""
    path = followed(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            try:
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            except OSError as error:
                raise _unwritable(path, error) from error
        try:
            umask = os.umask(0)
            os.umask(umask)
            part.chmod(0o666 & ~umask)
            part.replace(path)
        except OSError as error:
            raise _unwritable(path, error) from error
    except OSError as error:
        if error.errno in (*FULL, errno.EFBIG):  # of a write in the block
            raise _unwritable(path, error) from error
        raise
    finally:
        with suppress(OSError):
            part.unlink()


def _unwritable(path: Path, error: OSError) -> FaceauditError:
    """What keeps a file on a disk from being written."""
    if error.errno in FULL:
        return TemporaryError(f"{path}: the disk is full; free some space, run again")
    if error.errno == errno.EFBIG:
        return InputError(f"{path}: larger than files may be here (`ulimit -f`, or the disk's own)")
    if isinstance(error, FileNotFoundError) and not path.parent.is_dir():
        return InputError(f"{path}: there is no folder {path.parent}; create it first")
    return InputError(f"{path}: cannot write there ({error.strerror})")


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, at once or not at all; what is no UTF-8 text becomes a mark."""
    data = text.encode("utf-8", errors="replace")
    with atomic_write(path) as file:
        file.write(data)


def write_starter(path: Path, starter: Path) -> None:
    """Write a commented file to begin with, as ``--init`` asks for.

    Args:
        path: A file that does not exist.
        starter: What it begins as.

    Raises:
        UsageError: If there is such a file already.
    """
    if path.exists():
        raise UsageError(f"--init {path}: exists already; give another name")
    write_text(path, starter.read_text(encoding="utf-8"))


@contextmanager
def exclusive(path: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock that belongs to an output, by whatever link it is named, while the block runs.

    On a disk it is an advisory lock of the operating system on a small file beside the output: it
    dies with the process, so a killed run never leaves a lock behind. On an object store it is an
    object beside the output that is renewed while the run lives (see ``storage.lock``).

    Yields:
        A check to make before what must not happen without the lock; it raises ``LockedError`` if
        the lock was lost, as it may be on a store that was long out of reach.

    Raises:
        LockedError: If another run holds it.
        InputError: If it cannot be written.
        TemporaryError: If the disk is full, or a store cannot be reached.
    """
    remote = as_remote(path)
    if remote is None:
        with _locked(path):
            yield never_lost
    else:
        from faceaudit.storage.lock import held

        with held(remote) as check:
            yield check


def never_lost() -> None:
    """The lock of the operating system cannot be lost."""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    import fcntl

    path = followed(path)
    lock = path.parent / f".{path.name}.lock"
    try:
        file = lock.open("w")
    except OSError as error:
        raise _unwritable(path, error) from error
    with file:
        busy = f"{path}: another run is writing it; wait for it to end"
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(busy) from error
        except OSError as error:
            raise InputError(f"{path}: cannot be locked there ({error.strerror})") from error
        # Between opening and locking, the run that held the lock may have ended and removed it.
        mine = os.fstat(file.fileno())
        try:
            is_mine = os.path.samestat(mine, lock.stat())
        except FileNotFoundError:
            is_mine = False
        if not is_mine:
            raise LockedError(busy)
        try:
            remove_unfinished(path.parent, glob.escape(path.name))
            yield
        finally:
            with suppress(OSError):  # its folder may have gone
                lock.unlink()


def remove_unfinished(folder: Path, pattern: str) -> None:
    """Delete what killed runs had written of files of these names; no run may be writing them.

    Args:
        folder: Where the files are.
        pattern: Their names, as a glob.
    """
    if is_remote(folder):  # there such files are in the temporary folder
        return
    for part in folder.glob(f".{pattern}.{UNFINISHED}"):
        part.unlink(missing_ok=True)


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
