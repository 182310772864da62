"""Names that users give, as paths: of this machine, or of an object store."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

from faceaudit.errors import InputError, MissingExtraError, TemporaryError, UsageError

if TYPE_CHECKING:
    from faceaudit.storage.remote import RemotePath

STORES = ("s3", "gs")
"""Schemes of object stores."""
NOT_READ = frozenset({"http", "https", "ftp", "hdfs", "abfs", "abfss", "az", "gcs", "s3a"})
"""Schemes that are known as such even where one slash was lost, as ``Path(address)`` does."""
PARTS = "part-*.parquet"
"""The files of a table that is a folder."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk without room, or of one that a quota leaves no room on."""

MARKS = {".html": b'name="generator" content="faceaudit', ".json": b'"schema_version"'}
"""What pages and JSON that faceaudit wrote have near their beginning."""
BEGINNING = 1024
"""Bytes."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//?)(.*)", re.DOTALL)


def as_path(given: str | os.PathLike[str] | RemotePath) -> Path:
    """What a user gives, as a path whose methods serve a disk and an object store alike.

    Of a path on an object store, the methods of ``pathlib.Path`` work that name, look, list, read
    and delete. Folders there need not be made, and files are written by ``atomic_write``.

    Args:
        given: A path, or an address that begins with ``s3://``, ``gs://`` or ``file://``; also a
            ``UPath``, whose storage options are kept.

    Raises:
        UsageError: If the address has another scheme, names no bucket, or holds credentials.
        MissingExtraError: If what reads addresses is not installed.

    Example:
        >>> as_path("file:///tmp/out.parquet").as_posix()
        '/tmp/out.parquet'
    """
    if not isinstance(given, str | Path):
        from faceaudit.storage.remote import RemotePath

        return cast("Path", RemotePath.of(given))
    address = _ADDRESS.match(str(given))
    if address is None:
        return Path(given)
    scheme, slashes, rest = address[1].lower(), address[2], address[3]
    if scheme in STORES:
        check_bucket(scheme, rest)
        return _on_store(f"{scheme}://{rest}")
    if scheme == "file":
        return _of_file(rest if slashes == "//" else f"/{rest}")
    if scheme in NOT_READ or (slashes == "//" and isinstance(given, str)):
        known = ", ".join(f"{name}://" for name in (*STORES, "file"))
        # What follows the scheme may hold a password or a signature.
        raise UsageError(
            f"{scheme}://...: no such address is read or written; give a local path or one that "
            f"begins with {known}"
        )
    return Path(given)


def _of_file(rest: str) -> Path:
    """The path of an address ``file://``; all that follows the name of the machine belongs to it.

    Raises:
        UsageError: If it names another machine, as an address with two slashes does.
    """
    machine, slash, path = rest.partition("/")
    if machine not in ("", "localhost") or not slash:
        raise UsageError(
            f"file://{rest}: {machine!r} would be another machine; an address of this one has "
            "three slashes: file:///FOLDER/NAME"
        )
    return Path(unquote(f"/{path}"))


def check_bucket(scheme: str, rest: str) -> None:
    """Check that an address, given without its scheme, names a bucket and holds no credentials.

    Raises:
        UsageError: If it does not.
    """
    bucket = rest.partition("/")[0]
    # The name of an access point is the one that has colons.
    if "@" in bucket or (":" in bucket and not bucket.startswith("arn:")):
        raise UsageError(
            f"{scheme}://...: an address must not hold credentials, which lists of processes and "
            "logs would show; take them out and set them as docs/storage.md says"
        )
    if not bucket:
        raise UsageError(f"{scheme}://{rest}: names no bucket; give {scheme}://BUCKET/NAME")


def _on_store(address: str) -> Path:
    try:
        from faceaudit.storage.remote import RemotePath

        return cast("Path", RemotePath.at(address))
    except ImportError as error:
        raise MissingExtraError(address, "remote") from error


def as_remote(path: object) -> RemotePath | None:
    """The path where it is on an object store, None where it is on this machine."""
    return None if isinstance(path, str | Path) else cast("RemotePath", path)


def is_remote(path: object) -> bool:
    """Whether a path is on an object store."""
    return as_remote(path) is not None


def has_folder(path: Path) -> bool:
    """Whether a file of this name has a folder to be in; on an object store, a bucket."""
    remote = as_remote(path)
    return path.parent.is_dir() if remote is None else remote.has_bucket()


def followed(path: Path) -> Path:
    """What a path names, where it is a symbolic link of this machine; else the path as it is.

    Raises:
        InputError: If the link leads to itself.
    """
    try:
        if is_remote(path) or not path.is_symlink():
            return path
    except OSError:  # such as of a name that is too long; said where the path is used
        return path
    found = Path(os.path.realpath(path))
    if found.is_symlink():
        raise InputError(f"{path}: is a link that leads to itself; give another name")
    return found


def same_file(one: Path, other: Path) -> bool:
    """Whether two names are of one file that exists."""
    if is_remote(one) or is_remote(other):
        return one == other
    return one.exists() and other.exists() and one.samefile(other)


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file or folder of this machine from another of its name.

    A folder that a volume is mounted on is another one without it. None where nothing is seen.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def check_outputs(outputs: Iterable[Path], inputs: Iterable[str | os.PathLike[str] | None]) -> None:
    """Check, before anything is computed, that files can be written and none is also read.

    Args:
        outputs: Files that will be written.
        inputs: Files that are read, and folders of ``part-*.parquet``; what is no file is skipped.

    Raises:
        InputError: If an output's folder cannot be written to.
        UsageError: If an output is a folder, would lie in none, is one of the inputs, or a page or
            JSON of somebody else's, such as a model's sidecar; or if a name is no text.
    """
    outputs, given = list(outputs), [as_path(one) for one in inputs if one is not None]
    for path in (*outputs, *given):
        _check_name(path)
    for output in outputs:
        if not has_folder(output):
            raise UsageError(f"{output}: there is no {_place(output)}; create it first")
        if not is_remote(output) and not os.access(output.parent, os.W_OK):
            raise InputError(f"{output}: cannot write there (Permission denied); give another name")
        if output.is_dir():
            raise UsageError(f"{output}: is a folder; give the name of a file to write")
        if any(_is_or_holds(one, output) for one in given):
            raise UsageError(f"{output}: is read, and would be overwritten; give another --output")
        if _is_of_others(output):
            raise UsageError(
                f"{output}: was not written by faceaudit; give another --output, or move it away"
            )


def _is_of_others(output: Path) -> bool:
    """Whether a page or JSON is there that has no mark of ours."""
    mark = MARKS.get(output.suffix.lower())
    if mark is None or not output.exists():
        return False
    with suppress(OSError), output.open("rb") as file:
        beginning = file.read(BEGINNING)
        return bool(beginning) and mark not in beginning
    return False


def _place(path: Path) -> str:
    """What a file that cannot be written lacks."""
    remote = as_remote(path)
    return f"folder {path.parent}" if remote is None else f"bucket {remote.bucket}"


def _is_or_holds(given: Path, output: Path) -> bool:
    """Whether a file is the one given, or a part of the table in the folder given."""
    if is_remote(given) != is_remote(output):
        return False
    if same_file(given, output):
        return True
    is_part = fnmatch.fnmatchcase(output.name, PARTS)
    return is_part and same_file(given, output.parent) and output.exists()


def _check_name(path: Path) -> None:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"{str(path)!a}: this name is not UTF-8 text; rename it") from error


def list_parts(folder: Path) -> list[Path]:
    """Files ``part-*.parquet`` of a folder, in order."""
    return sorted(folder.glob(PARTS))


def make_folder(path: Path) -> None:
    """Create a folder of this machine and those above it, where they do not exist.

    Raises:
        UsageError: If it is on an object store.
        InputError: If it cannot be created.
        TemporaryError: If the disk is full.
    """
    if is_remote(given := as_path(path)):
        raise UsageError(f"{given}: this is not written to a store; give a folder of this machine")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in FULL:
            raise TemporaryError(f"{path}: the disk is full; free some space, run again") from error
        raise InputError(
            f"{path}: cannot be made a folder ({error.strerror}); give another path"
        ) from error


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that is in it, where it exists.

    Raises:
        InputError: If it cannot be deleted.
    """
    remote = as_remote(path)
    if remote is not None:
        remote.remove()
        return
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be deleted ({error.strerror})") from error
