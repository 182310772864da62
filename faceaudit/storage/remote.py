"""Paths on object stores, through fsspec: each call is tried again while the store is away."""

from __future__ import annotations

import errno
import fnmatch
import io
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from upath import UPath
from upath.extensions import ProxyUPath

from faceaudit.errors import RefusedError, TemporaryError, UsageError
from faceaudit.storage.outages import retrying
from faceaudit.storage.paths import FULL, check_bucket
from faceaudit.storage.versions import version_of

Result = TypeVar("Result")

OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"use_listings_cache": False, "config_kwargs": {"retries": {"total_max_attempts": 2}}},
    "gs": {"use_listings_cache": False},
}
"""How stores are opened: what other processes write is seen, and outages are ours to wait for."""
STORE_OF = {"s3a": "s3", "gcs": "gs"}
"""Other names that fsspec has for these stores."""
PROTOCOLS = (*OPTIONS, *STORE_OF)
BUFFER = 4 << 20
"""Bytes that a reader of ranges fetches at least."""

FETCHES = 5
"""So often a file is fetched that is replaced meanwhile."""
DELETIONS = 16
"""Files that are deleted at a time."""

for _library in ("s3fs", "gcsfs"):  # they would print tracebacks of what is translated here
    logging.getLogger(_library).addHandler(logging.NullHandler())


class RemotePath(ProxyUPath):
    """A path on an object store, with the methods of ``pathlib.Path`` that make sense there.

    A folder is what names of files have in common: it need not be made, and none is empty.
    """

    @classmethod
    def at(cls, address: str) -> RemotePath:
        """The path of an address.

        Raises:
            ImportError: If the package of its store is not installed.
        """
        return cls._opened(address, {})

    @classmethod
    def _opened(cls, address: str, options: Mapping[str, Any]) -> RemotePath:
        scheme = address.partition(":")[0]
        path = UPath(address, **{**OPTIONS[STORE_OF.get(scheme, scheme)], **options})
        if "s3" in scheme:
            path.fs.retries = 1
        return cls._from_upath(path)

    @classmethod
    def of(cls, path: Any) -> RemotePath:
        """The path of a ``UPath``, with its storage options.

        Raises:
            TypeError: If it is none.
            UsageError: If it is on another kind of storage, or holds credentials.
        """
        if isinstance(path, RemotePath):
            return path
        if not isinstance(path, UPath):
            raise TypeError(f"{type(path).__name__}: give a path, an address or a UPath")
        if path.protocol not in PROTOCOLS:
            raise UsageError(
                f"{path.protocol}://...: no such path is read or written; give a local path or one "
                f"of {', '.join(f'{name}://' for name in OPTIONS)}"
            )
        check_bucket(path.protocol, path.path)
        return cls._opened(str(path), path.storage_options)

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.path.partition("/")[0]

    def _try(self, call: Callable[[], Result]) -> Result:
        return retrying(call, self)

    def _seen(self, name: str) -> dict[str, Any] | None:
        """What the store says of a file, a folder or a bucket; None where there is none."""
        try:
            found: dict[str, Any] = self._try(lambda: self.fs.info(name))
        except FileNotFoundError:
            return None
        return found

    def _kind(self) -> str | None:
        return (self._seen(self.path.rstrip("/")) or {}).get("type")

    # --- looking --------------------------------------------------------------------------

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._kind() is not None

    def is_dir(self) -> bool:
        return self._kind() == "directory"

    def is_file(self) -> bool:
        return self._kind() == "file"

    def has_bucket(self) -> bool:
        """Whether the bucket is there; one that may not be looked at counts as being there."""
        try:
            return self._seen(self.bucket) is not None
        except RefusedError as error:
            return "no such bucket" not in str(error)

    def stat(self, *, follow_symlinks: bool = True) -> Any:
        return self._try(self.__wrapped__.stat)

    def samefile(self, other_path: Any) -> bool:
        return bool(self == other_path)

    def iterdir(self) -> Iterator[RemotePath]:
        here = self.path.rstrip("/")
        for name in self._try(lambda: self.fs.ls(here, detail=False)):
            name = name.rstrip("/")
            if name != here:  # a marker of the folder itself
                yield self / name.rpartition("/")[2]

    def glob(self, pattern: str, **options: Any) -> Iterator[RemotePath]:
        if "/" in pattern or "**" in pattern:
            yield from self._try(lambda: list(super(RemotePath, self).glob(pattern, **options)))
        elif self.is_dir():
            yield from (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    # --- reading --------------------------------------------------------------------------

    def read_bytes(self) -> bytes:
        # Several at a time would ask for the size first, which costs small files a second request.
        data: bytes = self._try(lambda: self.fs.cat_file(self.path, max_concurrency=1))
        return data

    def read_text(
        self, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def open(self, mode: str = "r", *args: Any, **options: Any) -> Any:
        """The file for reading; what is written goes through ``atomic_write``.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is opened for writing.
        """
        if mode not in ("r", "rt", "rb"):
            raise ValueError(f"{self}: is opened for reading only; write it by atomic_write")
        found = self._seen(self.path)
        if found is None or found["type"] != "file":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        file = io.BufferedReader(Ranges(self, found["size"]), BUFFER)
        if mode == "rb":
            return file
        return io.TextIOWrapper(file, options.get("encoding") or "utf-8")

    def copy_of(self, file: RemotePath) -> Path:
        """A local copy of a file, which is deleted when this path is; fetched once.

        Raises:
            FileNotFoundError: If there is no such file.
            TemporaryError: If the temporary folder is full, or the file is replaced all the time.
        """
        copies: dict[str, Path] = self.__dict__.setdefault("copies", {})
        if str(file) not in copies:
            folder = Path(tempfile.mkdtemp(prefix="faceaudit-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            copy = folder / file.name
            with room_for(file):
                file._fetch_to(copy)
            copies[str(file)] = copy
        return copies[str(file)]

    def _fetch_to(self, copy: Path) -> None:
        """Fetch a file as it was at one time: large ones come in pieces, side by side."""
        for _ in range(FETCHES):
            before = self._version()
            try:
                self._try(lambda: self.fs.get_file(self.path, str(copy)))
            except RefusedError:  # as of a piece that a smaller file lacks
                if self._version() == before:
                    raise
                continue
            if self._version() == before:
                return
        raise TemporaryError(f"{self}: is replaced again and again while it is read; run again")

    def _version(self) -> str | None:
        """What tells the file from another in its place; None where there is none."""
        facts = self._seen(self.path)
        return None if facts is None else version_of(facts)

    # --- writing --------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[IO[bytes]]:
        """A file that appears under its name when the block has ended without an error.

        It is gathered in the temporary folder and sent then, in parts where it is large; a store
        shows all of it or nothing.
        """
        # Stores note the type of a file by its suffix, by which browsers open a page.
        with tempfile.NamedTemporaryFile(prefix="faceaudit-", suffix=self.suffix) as file:
            with room_for(self):
                yield file
                file.flush()
            self._try(lambda: self.fs.put_file(file.name, self.path))

    def write_bytes(self, data: bytes) -> int:
        self._try(lambda: self.fs.pipe_file(self.path, data))
        return len(data)

    def write_text(
        self,
        data: str,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> int:
        return self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a folder is there as soon as a file is in it."""

    def unlink(self, missing_ok: bool = False) -> None:
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        with suppress(FileNotFoundError):
            self._try(lambda: self.fs.rm_file(self.path))

    def remove(self) -> None:
        """Delete a file, or all files of a folder; a bucket stays."""
        names = self._try(lambda: self.fs.find(self.path.rstrip("/")))
        with ThreadPoolExecutor(DELETIONS) as pool:
            list(pool.map(lambda name: self._try(lambda: self.fs.rm_file(name)), names))


class Ranges(io.RawIOBase):
    """The bytes of a file on a store, fetched range by range as they are asked for."""

    def __init__(self, path: RemotePath, size: int) -> None:
        self.path, self.size, self.place = path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        self.place = max(base + offset, 0)
        return self.place

    def readinto(self, buffer: Any) -> int:
        data = self._fetch(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._fetch(self.size)

    def _fetch(self, count: int) -> bytes:
        start, end = self.place, min(self.place + count, self.size)
        if start >= end:
            return b""
        path = self.path
        data: bytes = retrying(lambda: path.fs.cat_file(path.path, start=start, end=end), path)
        self.place += len(data)
        return data


@contextmanager
def room_for(path: RemotePath) -> Iterator[None]:
    """A block that writes to the temporary folder, for a file of a store."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise TemporaryError(
                f"{path}: the temporary folder {tempfile.gettempdir()} is full; free some space or "
                "set TMPDIR to another folder, and run again"
            ) from error
        raise
