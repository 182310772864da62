"""The images of a source, in an order that never changes."""

from __future__ import annotations

import glob
from pathlib import Path, PurePath

from faceaudit.errors import InputError
from faceaudit.images.folders import SIDE_SUFFIXES, Folder, is_image, is_shown, readable
from faceaudit.images.lists import LIST_SUFFIXES, read_list
from faceaudit.images.pixels import PREFIX, PixelFile
from faceaudit.images.refs import ImageRef
from faceaudit.images.rows import ParquetImages, has_images
from faceaudit.images.shards import Shards
from faceaudit.images.source import ImageSource, NamedImages

SHARD_SUFFIX, PARQUET_SUFFIX = ".tar", ".parquet"


def find_images(source: str) -> ImageSource:
    """The images of a folder, file, glob, list of paths, tars, Parquet files or pixel file.

    Only the first image is looked for; the others are found when the source is walked. A folder is
    read with all its subfolders: the files of a folder by name, then its subfolders by name. Hidden
    files and ``SIDE_SUFFIXES`` are left out. A linked folder is followed once, and only where it
    leads out of the source. Lists, tars and Parquet files keep their own order.

    Args:
        source: Folder, image, ``.txt``/``.csv``/``.parquet`` list of paths, ``.tar``, ``.parquet``
            with the bytes of images, glob of images, of tars or of such Parquet files, or
            ``pixels:FILE.csv``.

    Raises:
        InputError: If there is no such source, it cannot be read, or it holds no image.
    """
    if not source:
        raise InputError("the images: an empty path was given; give . for the current folder")
    path = Path(source)
    try:
        found = _find(source, path)
        is_empty = not found.first(1)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from error
    if is_empty:
        raise InputError(f"{source}: no images found there{_hint(path)}")
    return found


def _find(source: str, path: Path) -> ImageSource:
    if source.startswith(PREFIX) and not path.exists():
        return PixelFile(Path(source.removeprefix(PREFIX)))
    if path.is_dir():
        return Folder(source, path)
    if path.is_file():
        return _one_file(source, path)
    if "://" in source:
        raise InputError(f"{source}: remote images are not read yet; give a local folder or file")
    if path.exists():
        raise InputError(f"{source}: is neither a folder nor a file; give images to read")
    if glob.has_magic(source):
        return _matching(source)
    raise InputError(
        f"{source}: there is no such file or folder; give a folder, an image, a glob, a list of "
        f"paths ({', '.join(LIST_SUFFIXES)}), a .tar or a .parquet with images"
    )


def _one_file(source: str, path: Path) -> ImageSource:
    suffix = path.suffix.lower()
    if suffix == PARQUET_SUFFIX and has_images(path):
        return ParquetImages(source, path.parent, [("", str(path))])
    if suffix in LIST_SUFFIXES:
        return read_list(path)
    if suffix == SHARD_SUFFIX:
        return Shards(source, None, [("", str(path))])
    if suffix in SIDE_SUFFIXES:
        raise InputError(
            f"{source}: a {suffix} file is no image; a list of paths is one of "
            f"{', '.join(LIST_SUFFIXES)} and a shard is a .tar that is not compressed"
        )
    return NamedImages(source, path.parent, [ImageRef(path.name, str(path))])


def _matching(pattern: str) -> ImageSource:
    """The files that a glob names; a matching folder is not entered, nor a hidden one."""
    parts = Path(pattern).parts
    depth = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    fixed = Path(*parts[:depth])
    try:
        paths = set(fixed.glob(str(Path(*parts[depth:]))))
    except ValueError as error:
        raise InputError(f"{pattern}: is no glob ({error})") from error
    named = [(path.relative_to(fixed), path) for path in paths]
    named = [(name, path) for name, path in named if all(map(is_shown, name.parts))]
    named.sort(key=lambda file: (file[0].parent.parts, file[0].name))
    files = [(readable(name.as_posix()), str(path)) for name, path in named]
    suffix = PurePath(pattern).suffix.lower()
    if suffix in (SHARD_SUFFIX, PARQUET_SUFFIX) and files:
        shards = [(f"{name}/", path) for name, path in files]
        of = Shards if suffix == SHARD_SUFFIX else ParquetImages
        return of(pattern, fixed, shards)
    refs = [ImageRef(name, path) for name, path in files if is_image(path)]
    return NamedImages(pattern, fixed, refs)


def _hint(path: Path) -> str:
    """What else might have been meant by a folder without images."""
    for suffix in (SHARD_SUFFIX, PARQUET_SUFFIX):
        if path.is_dir() and any(path.glob(f"*{suffix}")):
            files = "tar shards" if suffix == SHARD_SUFFIX else "Parquet files"
            return f"; it holds {files}, give one of them or all, such as {path / f'*{suffix}'}"
    return ""
