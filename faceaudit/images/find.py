"""The images of a source, in an order that never changes."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from faceaudit.errors import FaceauditError, InputError
from faceaudit.images.folders import (
    SIDE_SUFFIXES,
    Folder,
    Unreadable,
    is_image,
    is_shown,
    readable,
    readable_names,
    suffix_of,
)
from faceaudit.images.lists import LIST_SUFFIXES, read_list
from faceaudit.images.pixels import PREFIX, PixelFile
from faceaudit.images.refs import ImageRef
from faceaudit.images.remote import RemoteFolder, Store, as_remote_path, file_ref, matching
from faceaudit.images.rows import ParquetImages, has_images
from faceaudit.images.shards import Shards
from faceaudit.images.source import ImageSource, NamedImages
from faceaudit.storage import as_path, is_remote, version_of

SHARD_SUFFIX, PARQUET_SUFFIX = ".tar", ".parquet"


def find_images(given: str | Path) -> ImageSource:
    """The images of a folder, file, glob, list of paths, tars, Parquet files or pixel file.

    Only the first image is looked for; the others are found when the source is walked. A folder is
    read with all its subfolders: the files of a folder by name, then its subfolders by name. Hidden
    files and ``SIDE_SUFFIXES`` are left out. A linked folder is followed once, and only where it
    leads out of the source. Lists, tars and Parquet files keep their own order.

    Args:
        given: Folder, image, ``.txt``/``.csv``/``.parquet`` list of paths, ``.tar``, ``.parquet``
            with the bytes of images, glob of images, of tars or of such Parquet files, or
            ``pixels:FILE.csv``; also the address of one, such as ``s3://BUCKET/FOLDER``.

    Raises:
        InputError: If there is no such source, it cannot be read, or it holds no image.
        UsageError: If it is an address of an unknown kind.
        TemporaryError: If an object store cannot be reached.
    """
    source = str(given)
    if not source:
        raise InputError("the images: an empty path was given; give . for the current folder")
    try:
        if source.startswith(PREFIX) and not Path(source).exists():
            path = as_path(source.removeprefix(PREFIX))
            found: ImageSource = PixelFile(path)
        else:
            path = as_path(given)
            found = _find(source, path)
        is_empty = not found.first(1)
    except OSError as error:
        if isinstance(error, FaceauditError):
            raise
        raise InputError(f"{source}: cannot be read ({error.strerror})") from error
    if is_empty:
        advice = _hint(path) or "; give a folder, a list or a tar of them"
        raise InputError(f"{source}: no images found there{advice}")
    return found


def _find(source: str, path: Path) -> ImageSource:
    if path.is_dir():
        return RemoteFolder(source, path) if is_remote(path) else Folder(source, path)
    if path.is_file():
        return _one_file(source, path)
    if path.exists():
        raise InputError(f"{source}: is neither a folder nor a file; give images to read")
    if glob.has_magic(source):
        return _matching(source, path)
    raise InputError(
        f"{source}: there is no such file or folder; give a folder, an image, a glob, a list of "
        f"paths ({', '.join(LIST_SUFFIXES)}), a .tar or a .parquet with images"
    )


def _one_file(source: str, path: Path) -> ImageSource:
    suffix = path.suffix.lower()
    if suffix == PARQUET_SUFFIX and has_images(path):
        return ParquetImages(source, path.parent, [("", path)])
    if suffix in LIST_SUFFIXES:
        return read_list(path)
    if suffix == SHARD_SUFFIX:
        return Shards(source, None, [("", path)])
    if suffix in SIDE_SUFFIXES:
        raise InputError(
            f"{source}: a {suffix} file is no image; a list of paths is one of "
            f"{', '.join(LIST_SUFFIXES)} and a shard is a .tar that is not compressed"
        )
    return NamedImages(source, path.parent, [file_ref(readable(path.name), path)])


def _matching(pattern: str, path: Path) -> ImageSource:
    """The files that a glob names; a matching folder is not entered, nor a hidden one."""
    facts = matching(path) if is_remote(path) else {}
    named, fixed = _named_remote(path, facts) if is_remote(path) else _matching_local(path)
    missed = () if is_remote(path) else _missed_by(pattern, path, fixed)
    files = [(n, place) for n, place in named if all(map(is_shown, n.split("/")))]
    files.sort(key=lambda file: (file[0].split("/")[:-1], file[0].split("/")[-1]))
    suffix = path.suffix.lower()
    if suffix in (SHARD_SUFFIX, PARQUET_SUFFIX) and files:
        names = readable_names([name for name, _ in files])
        shards = [
            (f"{name}/", as_path(place)) for name, (_, place) in zip(names, files, strict=True)
        ]
        of = Shards if suffix == SHARD_SUFFIX else ParquetImages
        return of(pattern, fixed, shards, missed)
    if is_remote(path):
        store = Store(as_remote_path(path))
        refs = [
            ImageRef(
                name,
                place,
                size=facts[place].get("size"),
                version=version_of(facts[place]),
                holder=store,
            )
            for name, place in files
            if suffix_of(place) not in SIDE_SUFFIXES
        ]
    else:
        files = [(name, place) for name, place in files if is_image(place)]
        names = readable_names([name for name, _ in files])
        refs = [ImageRef(name, place) for name, (_, place) in zip(names, files, strict=True)]
    return NamedImages(pattern, fixed, refs, missed)


def _matching_local(pattern: Path) -> tuple[list[tuple[str, str]], Path]:
    """Names and paths of what a glob names, and the folder that the names are relative to."""
    parts = pattern.parts
    depth = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    fixed = Path(*parts[:depth])
    try:
        paths = set(fixed.glob(str(Path(*parts[depth:]))))
    except ValueError as error:
        raise InputError(f"{pattern}: is no glob ({error})") from error
    return [(path.relative_to(fixed).as_posix(), str(path)) for path in paths], fixed


def _missed_by(pattern: str, path: Path, fixed: Path) -> tuple[str, ...]:
    """A note on folders that a glob would look into and cannot, which it passes over."""
    parts = path.parts[len(fixed.parts) :]
    closed = Unreadable(pattern)
    for depth, part in enumerate(parts):
        is_listed = glob.has_magic(part) or "**" in parts[depth - 1 : depth]
        for folder in fixed.glob(str(Path(*parts[:depth]))) if depth else (fixed,):
            name = folder.relative_to(fixed)
            try:
                if not all(map(is_shown, name.parts)) or not folder.is_dir():
                    continue
                if is_listed:
                    os.scandir(folder).close()
                else:
                    os.lstat(folder / part)
            except FileNotFoundError:
                continue
            except PermissionError as error:
                closed.add(readable(name.as_posix()), error)
    return closed.notes()


def _named_remote(pattern: Path, found: Iterable[str]) -> tuple[list[tuple[str, str]], Path]:
    """The same of addresses that a glob on an object store names."""
    fixed = re.split(r"[*?\[]", str(pattern), maxsplit=1)[0].rpartition("/")[0]
    names = [(place.removeprefix(f"{fixed}/"), place) for place in found]
    return names, as_path(fixed)


def _hint(path: Path) -> str:
    """What else might have been meant by a folder without images."""
    for suffix in (SHARD_SUFFIX, PARQUET_SUFFIX):
        if path.is_dir() and any(path.glob(f"*{suffix}")):
            files = "tar shards" if suffix == SHARD_SUFFIX else "Parquet files"
            return f"; it holds {files}, give one of them or all, such as {path / f'*{suffix}'}"
    return ""
