"""Images on object stores: listed folder by folder, read one by one, through outages."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from faceaudit.errors import RefusedError
from faceaudit.images.folders import SIDE_SUFFIXES, Unreadable, is_shown, suffix_of
from faceaudit.images.refs import MAX_FILE_BYTES, MISSING, ImageRef, stamp_of
from faceaudit.images.source import ImageSource
from faceaudit.storage import is_remote, retrying, version_of

if TYPE_CHECKING:
    from faceaudit.storage.remote import RemotePath

NAMELESS = OSError(errno.EINVAL, "images are not looked for in a folder without a name")
"""Why what lies between two slashes is left out."""


class Store:
    """What reads images from an object store, by their addresses."""

    def __init__(self, path: RemotePath) -> None:
        """Read with the options of a path, such as its credentials."""
        self._path = path

    def read(self, ref: ImageRef) -> bytes:
        if ref.size is not None and ref.size > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"larger than {MAX_FILE_BYTES >> 30} GiB")
        part = {"max_concurrency": 1}  # more would ask for the size first: a second request
        if ref.offset is not None and ref.size is not None:
            if not ref.size:
                return b""
            part = {"start": ref.offset, "end": ref.offset + ref.size}
        data: bytes = retrying(lambda: self._path.fs.cat_file(ref.path, **part), self._path)
        if "start" in part and len(data) < (ref.size or 0):
            raise OSError(errno.EIO, "the file ends before the image does")
        return data

    def stamp(self, path: str) -> str:
        try:
            return version_of(retrying(lambda: self._path.fs.info(path), self._path))
        except OSError:
            return MISSING

    def refusal(self, path: str) -> RefusedError | None:
        """Why the store refuses this address; None where it only has nothing there."""
        try:
            retrying(lambda: self._path.fs.info(path), self._path)
        except RefusedError as error:
            return error
        except FileNotFoundError:
            return None
        return None


class RemoteFolder(ImageSource):
    """The images of a folder of an object store, in the order of a folder of this machine."""

    def __init__(self, source: str, folder: Path) -> None:
        super().__init__(source, folder)
        self._store = Store(as_remote_path(folder))
        self._base = str(folder).rstrip("/")
        self._unreadable = Unreadable(source)

    @property
    def notes(self) -> tuple[str, ...]:
        return self._unreadable.notes()

    def _walk(self) -> Iterator[ImageRef]:
        pending = [""]
        while pending:
            prefix = pending.pop()
            try:
                files, subfolders = self._listed(prefix)
            except OSError as error:
                if not prefix:
                    raise
                self._unreadable.add(prefix, error)
                continue
            yield from (
                ImageRef(
                    name, f"{self._base}/{name}", size=size, version=version, holder=self._store
                )
                for name, size, version in files
            )
            pending.extend(reversed(subfolders))

    def _listed(self, prefix: str) -> tuple[list[tuple[str, int | None, str]], list[str]]:
        """Name, size and version of the images in a folder, and its subfolders, each by name."""
        path = as_remote_path(cast("Path", self.folder))
        place = f"{path.path.rstrip('/')}/{prefix}".rstrip("/")
        files, subfolders = [], []
        for facts in retrying(lambda: path.fs.ls(place, detail=True), path):
            whole = facts["name"].rstrip("/")
            name = whole.rpartition("/")[2]
            if whole == place:  # a marker of the folder itself, or what lies between two slashes
                if _is_prefix(facts):
                    self._unreadable.add(f"{prefix}/*", NAMELESS)
                continue
            if not is_shown(name):
                continue
            if facts["type"] == "directory":
                subfolders.append(name)
            elif suffix_of(name) not in SIDE_SUFFIXES:
                files.append((prefix + name, facts.get("size"), version_of(facts)))
        return sorted(files), [f"{prefix}{name}/" for name in sorted(subfolders)]


def _is_prefix(facts: Mapping[str, Any]) -> bool:
    """Whether a listing means names that begin so, and no file that marks a folder."""
    return (facts.get("StorageClass") or facts.get("storageClass")) == "DIRECTORY"


def as_remote_path(path: Path) -> RemotePath:
    """A path that ``is_remote``, as what it is."""
    return cast("RemotePath", path)


def file_ref(name: str, path: Path) -> ImageRef:
    """A file of this machine or of an object store, as it is now."""
    if not is_remote(path):
        return ImageRef(name, str(path))
    store = Store(as_remote_path(path))
    return ImageRef(name, str(path), holder=store, version=store.stamp(str(path)))


def part_of(
    file: ImageRef, name: str, offset: int, size: int, *, grey_values: bool = False
) -> ImageRef:
    """An image that lies within a file."""
    return ImageRef(
        name, file.path, offset, size, grey_values, holder=file.holder, version=file.version
    )


def stamp_of_file(path: Path) -> str:
    """What tells whether a file is the same as last time; ``missing`` where it is not seen."""
    return Store(as_remote_path(path)).stamp(str(path)) if is_remote(path) else stamp_of(str(path))


def matching(pattern: Path) -> dict[str, Mapping[str, Any]]:
    """Addresses of the files that a glob on an object store names, with what it tells of each."""
    path = as_remote_path(pattern)
    scheme = str(path).partition("://")[0]
    found = retrying(lambda: path.fs.glob(path.path, detail=True), path)
    return {
        f"{scheme}://{name}": facts for name, facts in found.items() if facts.get("type") == "file"
    }
