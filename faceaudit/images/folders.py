"""The images of a folder and its subfolders, one folder's names at a time."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from faceaudit.images.refs import ImageRef
from faceaudit.images.source import ImageSource

_IMAGE_SUFFIXES = (
    ".jpg .jpeg .jpe .jfif .png .apng .webp .gif .tif .tiff .bmp .dib .ppm .pgm .pbm .pnm "
    ".avif .avifs .heic .heif .jp2 .j2k .jpf .jpx .jxl .mpo"
)
IMAGE_SUFFIXES = frozenset(_IMAGE_SUFFIXES.split())
"""Files that always get a row, even when they turn out to be broken or a pipe."""

_SIDE_SUFFIXES = {
    "tables": ".csv .tsv .json .jsonl .ndjson .parquet .arrow .feather .xls .xlsx .ods .cat .pts",
    "text": ".txt .md .rst .log .xml .html .htm .css .pdf .doc .docx .rtf .lst .idx",
    "settings": ".yaml .yml .toml .ini .cfg .xmp .aae",
    "programs": ".py .pyc .ipynb .js .sh .bat .exe .m .r",
    "arrays and models": ".npy .npz .pkl .pickle .pt .pth .ckpt .onnx .safetensors .h5 .hdf5 .mat",
    "stores": ".tfrecord .rec .db .sqlite .lmdb .mdb",
    "archives": ".zip .tar .gz .tgz .bz2 .xz .zst .7z .rar",
    "films": ".mp4 .avi .mov .mkv .webm .mpg .mpeg .wmv .flv .3gp .m4v",
    "sound": ".wav .mp3 .m4a .ogg .flac .aac",
    "leftovers": ".lock .part .tmp .bak .crc .md5 .sha256",
}
SIDE_SUFFIXES = frozenset(suffix for kind in _SIDE_SUFFIXES.values() for suffix in kind.split())
"""Files that lie beside images and are plainly none; any other file gets a row."""

_ESCAPED = re.compile(rb"\\+x([89a-f][0-9a-f])")
"""A byte that is no UTF-8, as ``readable_names`` writes it."""

_IGNORED_FOLDERS = frozenset({"__MACOSX", "__pycache__", "@eaDir", "lost+found"})


class Unreadable:
    """Folders that could not be read, and why."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._reasons: dict[str, str] = {}

    def add(self, prefix: str, error: OSError) -> None:
        self._reasons[prefix.rstrip("/")] = error.strerror or str(error)

    def notes(self) -> tuple[str, ...]:
        if not self._reasons:
            return ()
        number = len(self._reasons)
        folders = "1 folder" if number == 1 else f"{number:,} folders"
        are = "is" if number == 1 else "are"
        first, reason = next(iter(self._reasons.items()))
        return (
            f"{self._source}: {folders} could not be read and {are} left out, such as {first!r} "
            f"({reason})",
        )


class Folder(ImageSource):
    """The images of a folder: its files by name, then its subfolders by name.

    A linked folder is followed once, and only where it leads out of the source. A subfolder that
    cannot be read is left out and noted.
    """

    def __init__(self, source: str, folder: Path) -> None:
        super().__init__(source, folder)
        self._root = str(folder)
        self._unreadable = Unreadable(source)

    @property
    def notes(self) -> tuple[str, ...]:
        return self._unreadable.notes()

    def _walk(self) -> Iterator[ImageRef]:
        real = os.path.realpath(self._root)
        visited = {real}
        pending = [("", "")]
        while pending:
            prefix, shown = pending.pop()
            place = os.path.join(self._root, prefix)
            try:
                files, subfolders = _listed(place)
            except OSError as error:
                if not prefix:
                    raise
                self._unreadable.add(shown, error)
                continue
            for name, text in zip(files, readable_names(files), strict=True):
                yield ImageRef(shown + text, place + name)
            entered = [
                (f"{prefix}{name}/", f"{shown}{text}/")
                for name, text in zip(subfolders, readable_names(subfolders), strict=True)
                if _enter(place + name, real, visited)
            ]
            pending.extend(reversed(entered))


def _listed(place: str) -> tuple[list[str], list[str]]:
    """Names of the images and of the subfolders in a folder, each sorted."""
    files, subfolders = [], []
    with os.scandir(place) as listing:
        for entry in listing:
            if not is_shown(entry.name):
                continue
            if _is_folder(entry):
                subfolders.append(entry.name)
            elif is_image(entry.path, entry.is_file(follow_symlinks=False)):
                files.append(entry.name)
    return sorted(files), sorted(subfolders)


def is_shown(name: str) -> bool:
    """Whether a file or folder of this name counts: it is neither hidden nor of a system."""
    return not name.startswith(".") and name not in _IGNORED_FOLDERS


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _enter(place: str, root: str, visited: set[str]) -> bool:
    """Whether to descend into a folder; it is remembered as visited."""
    real = os.path.realpath(place)
    within = os.path.commonpath((real, root)) == root
    # What lies within the source is reached by its own path, so a link to it would repeat it.
    if real in visited or (within and os.path.islink(place)):
        return False
    visited.add(real)
    return True


def is_image(path: str, regular: bool = False) -> bool:
    """Whether a file gets a row: by suffix, else when it is regular and no side file.

    Args:
        path: The file.
        regular: Whether it is known to be a regular file, which saves a look at it.
    """
    suffix = suffix_of(path)
    if suffix in SIDE_SUFFIXES:
        return False
    if regular:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:  # a link that leads nowhere: the row tells
        return True
    return stat.S_ISREG(mode) or (suffix in IMAGE_SUFFIXES and not stat.S_ISDIR(mode))


def suffix_of(path: str) -> str:
    """The end of a file's name from its last dot on, in lower case.

    Example:
        >>> suffix_of("a.b/c.jpg.PNG"), suffix_of("a.b/c")
        ('.png', '')
    """
    return os.path.splitext(path)[1].lower()


def readable(name: str) -> str:
    """A name that can be written as UTF-8; bytes that cannot are escaped."""
    if name.isascii():
        return name
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def readable_names(names: Sequence[str]) -> list[str]:
    """The same of different names, such as those of a folder, so that they stay different.

    An escape gets more backslashes where it is the name of another file.
    """
    shown = [readable(name) for name in names]
    if shown == names:
        return shown
    taken = set(names)
    for place, (name, text) in enumerate(zip(names, shown, strict=True)):
        if text != name:
            while text in taken:
                text = text.replace("\\x", r"\\x", 1)
            taken.add(text)
            shown[place] = text
    return shown


def path_of(folder: str, name: str) -> str:
    """The file that a name of a table stands for: bytes that are no UTF-8 are escaped in it."""
    path = os.path.join(folder, name)
    if "\\x" not in name or os.path.lexists(path):
        return path
    escaped = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(name))
    return os.path.join(folder, os.fsdecode(escaped))
