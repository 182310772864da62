"""Files through one door: what is finished appears at once, what is not never appears."""

from __future__ import annotations

import glob
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from faceaudit.errors import InputError, LockedError, TemporaryError, UsageError

if TYPE_CHECKING:
    import polars as pl


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that appears under its name only when it is complete.

    It is written beside its final place (so that the rename stays on one file system), flushed to
    the disk and renamed; if the block raises, nothing is left.

    Raises:
        InputError: If the folder does not exist or cannot be written to, or a folder has the name.
        TemporaryError: If the disk is full.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except FileNotFoundError as error:
        lacks = f"there is no folder {path.parent}; create it first"
        reason = f"cannot write there ({error.strerror})" if path.parent.is_dir() else lacks
        raise InputError(f"{path}: {reason}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot write there ({error.strerror})") from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        part.replace(path)
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise TemporaryError(f"{path}: the disk is full; free some space, run again") from error
        raise
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, at once or not at all; what is no UTF-8 text becomes a mark."""
    data = text.encode("utf-8", errors="replace")
    with atomic_write(path) as file:
        file.write(data)


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path | str | None]) -> None:
    """Check, before anything is computed, that files can be written and none is also read.

    Args:
        outputs: Files that will be written.
        inputs: Files that are read, and folders of ``part-*.parquet``; what is no file is skipped.

    Raises:
        UsageError: If an output is a folder, would lie in none, or is one of the inputs, or a name
            is no text.
    """
    outputs, given = list(outputs), [Path(one) for one in inputs if one is not None]
    for path in (*outputs, *given):
        _check_name(path)
    files = [file for one in given for file in ([one] if one.is_file() else _parts_of(one))]
    for output in outputs:
        if output.is_dir():
            raise UsageError(f"{output}: is a folder; give the name of a file to write")
        if not output.parent.is_dir():
            raise UsageError(f"{output}: there is no folder {output.parent}; create it first")
        if any(output.exists() and output.samefile(file) for file in files):
            raise UsageError(f"{output}: is read, and would be overwritten; give another --output")


def _check_name(path: Path) -> None:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"{str(path)!a}: this name is not UTF-8 text; rename it") from error


def _parts_of(folder: Path) -> list[Path]:
    return [file for file in folder.glob("part-*.parquet") if file.is_file()]


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock that belongs to an output while the block runs.

    The lock is an advisory lock of the operating system on a small file beside the output: it dies
    with the process, so a killed run never leaves a lock behind.

    Raises:
        LockedError: If another run holds it.
    """
    import fcntl

    lock = path.parent / f".{path.name}.lock"
    try:
        file = lock.open("w")
    except OSError as error:
        raise InputError(f"{path}: cannot write there ({error.strerror})") from error
    with file:
        busy = f"{path}: another run is writing it; wait for it to end"
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(busy) from error
        # Between opening and locking, the run that held the lock may have ended and removed it.
        mine = os.fstat(file.fileno())
        if not lock.exists() or not os.path.samestat(mine, lock.stat()):
            raise LockedError(busy)
        try:
            for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
                part.unlink(missing_ok=True)  # of a run that was killed: no other holds the lock
            yield
        finally:
            lock.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder and those above it, where they do not exist.

    Raises:
        InputError: If it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be made a folder ({error.strerror}); give another path"
        ) from error


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_csv(path: Path) -> pl.DataFrame:
    """A CSV file with every column as text; empty cells are null.

    The separator (comma, semicolon or tab) is the one that the first line has most of.

    Raises:
        InputError: If it cannot be read, is not UTF-8, or its rows do not fit its first line.
    """
    import polars as pl

    try:
        data = path.read_bytes()
        first = data.split(b"\n", 1)[0]
        separator = max(",;\t", key=lambda mark: first.count(mark.encode()))
        data.decode("utf-8")
        return pl.read_csv(io.BytesIO(data), separator=separator, infer_schema=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text; save it as CSV UTF-8") from error
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{path}: cannot be read as CSV ({reason})") from error


def parquet_schema(path: Path) -> dict[str, pl.DataType]:
    """Columns of a Parquet file and their types; a name with brackets or stars is no pattern.

    Raises:
        polars.exceptions.PolarsError: If it is no Parquet file.
    """
    import polars as pl

    return dict(pl.scan_parquet(path, glob=False).collect_schema())
