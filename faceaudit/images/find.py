"""The images of a source, in an order that never changes."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePath

from faceaudit.errors import InputError
from faceaudit.images.lists import LIST_SUFFIXES, read_list
from faceaudit.images.pixels import PREFIX, read_pixels
from faceaudit.images.refs import ImageRef, ImageSource
from faceaudit.images.shards import read_shard

_IMAGE_SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .tif .tiff .bmp .dib .ppm .pgm .pbm .pnm "
    ".avif .avifs .heic .heif .jp2 .j2k .jpf .jpx .jxl .mpo"
)
IMAGE_SUFFIXES = frozenset(_IMAGE_SUFFIXES.split())
"""Files that always get a row, even when they turn out to be broken or a pipe."""

_SIDE_SUFFIXES = {
    "tables": ".csv .tsv .json .jsonl .ndjson .parquet .arrow .feather .xls .xlsx .ods .cat .pts",
    "text": ".txt .md .rst .log .xml .html .htm .css .pdf .doc .docx .rtf .lst .idx",
    "settings": ".yaml .yml .toml .ini .cfg",
    "programs": ".py .pyc .ipynb .js .sh .bat .exe .m .r",
    "arrays and models": ".npy .npz .pkl .pickle .pt .pth .ckpt .onnx .safetensors .h5 .hdf5 .mat",
    "stores": ".tfrecord .rec .db .sqlite .lmdb .mdb",
    "archives": ".zip .tar .gz .tgz .bz2 .xz .zst .7z .rar",
    "films and sound": ".mp4 .avi .mov .mkv .webm .mpg .wav .mp3 .m4a",
    "leftovers": ".lock .part .tmp .bak .crc .md5 .sha256",
}
SIDE_SUFFIXES = frozenset(suffix for kind in _SIDE_SUFFIXES.values() for suffix in kind.split())
"""Files that lie beside images and are plainly none; any other file gets a row."""

_IGNORED_FOLDERS = frozenset({"__MACOSX", "__pycache__", "@eaDir", "lost+found"})


def find_images(source: str) -> ImageSource:
    """The images of a folder, file, glob, list of paths, tar shard or pixel file.

    A folder is read with all its subfolders: the files of a folder by name, then its subfolders by
    name. Hidden files and ``SIDE_SUFFIXES`` are left out. A linked folder is followed once, and
    only where it leads out of the source. A list and a tar keep their own order.

    Args:
        source: Folder, image, glob, ``.txt``/``.csv``/``.parquet`` list of paths, ``.tar``, or
            ``pixels:FILE.csv``.

    Raises:
        InputError: If there is no such source, it cannot be read, or it holds no image.
    """
    if not source:
        raise InputError("the images: an empty path was given; give . for the current folder")
    path = Path(source)
    try:
        found = _find(source, path)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror})") from error
    if not found.images:
        raise InputError(f"{source}: no images found there{_hint(path)}")
    return found


def _find(source: str, path: Path) -> ImageSource:
    if source.startswith(PREFIX) and not path.exists():
        return read_pixels(Path(source.removeprefix(PREFIX)))
    if path.is_dir():
        return ImageSource(source, path, tuple(walk_images(path)))
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
        f"paths ({', '.join(LIST_SUFFIXES)}) or a .tar"
    )


def _one_file(source: str, path: Path) -> ImageSource:
    suffix = path.suffix.lower()
    if suffix in LIST_SUFFIXES:
        return read_list(path)
    if suffix == ".tar":
        return read_shard(path)
    if suffix in SIDE_SUFFIXES:
        raise InputError(
            f"{source}: a {suffix} file is no image; a list of paths is one of "
            f"{', '.join(LIST_SUFFIXES)} and a shard is a .tar that is not compressed"
        )
    return ImageSource(source, path.parent, (ImageRef(path.name, path),))


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
    files = [(name, path) for name, path in named if _is_shown(name) and _is_image(path)]
    files.sort(key=lambda file: (file[0].parent.parts, file[0].name))
    refs = tuple(ImageRef(_readable(name.as_posix()), path) for name, path in files)
    return ImageSource(pattern, fixed, refs)


def _is_shown(name: PurePath) -> bool:
    return not any(part.startswith(".") or part in _IGNORED_FOLDERS for part in name.parts)


def walk_images(folder: Path) -> Iterator[ImageRef]:
    """Images of a folder and all its subfolders, named relative to it."""
    root = os.path.realpath(folder)
    visited = {root}
    pending = [(str(folder), "")]
    while pending:
        place, prefix = pending.pop()
        with os.scandir(place) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        subfolders = []
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _IGNORED_FOLDERS:
                continue
            if _is_folder(entry):
                if _enter(entry, root, visited):
                    subfolders.append((entry.path, f"{prefix}{entry.name}/"))
            elif _is_image(path := Path(entry.path), entry.is_file(follow_symlinks=False)):
                yield ImageRef(_readable(prefix + entry.name), path)
        pending.extend(reversed(subfolders))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _enter(entry: os.DirEntry[str], root: str, visited: set[str]) -> bool:
    """Whether to descend into a folder; it is remembered as visited."""
    real = os.path.realpath(entry.path)
    within = os.path.commonpath((real, root)) == root
    # What lies within the source is reached by its own path, so a link to it would repeat it.
    if real in visited or (within and entry.is_symlink()):
        return False
    visited.add(real)
    return True


def _is_image(path: Path, regular: bool = False) -> bool:
    """Whether a file gets a row: by suffix, else when it is regular and no side file.

    Args:
        path: The file.
        regular: Whether it is known to be a regular file, which saves a look at it.
    """
    suffix = path.suffix.lower()
    if suffix in SIDE_SUFFIXES:
        return False
    if regular:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:  # a link that leads nowhere: the row tells
        return True
    return stat.S_ISREG(mode) or (suffix in IMAGE_SUFFIXES and not stat.S_ISDIR(mode))


def _readable(name: str) -> str:
    """A name that can be written as UTF-8; bytes that cannot are escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _hint(path: Path) -> str:
    """What else might have been meant by a folder without images."""
    if path.is_dir() and (shards := sorted(path.glob("*.tar"))):
        return f"; it holds tar shards, give one of them, such as {shards[0]}"
    return ""
