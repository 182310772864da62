"""Files for the benchmark of `faceaudit predict`: crops and photographs, in folders of any size."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from faceaudit.showcase.images import photograph

REPOSITORY = Path(__file__).parent.parent
SHARED = Path(os.environ.get("FACEAUDIT_SHARED", REPOSITORY.parent / "shared"))
DATA = Path(os.environ.get("FACEAUDIT_DATA", Path.home() / "faceaudit-data"))
CROPS = DATA / "utkface" / "val"
PHOTOGRAPHS = SHARED / "data" / "detection"

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
CROP_SIDE = 200
MEGAPIXELS = (2, 3, 5, 8, 12)
"""Sizes of the photographs, in turn: from a web page's to a telephone's."""
NOISE = 4.0
"""Standard deviation of the gray levels added: enlarged pictures are smoother than sensors are."""
QUALITY = 90


def image_files(folder: Path) -> list[Path]:
    """The images of a folder, by name."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise SystemExit(f"{folder}: no images ({', '.join(sorted(SUFFIXES))}) found there")
    return found


def crop_files(given: Path | None, scratch: Path, count: int) -> list[Path]:
    """Crops of faces: those of a folder, of UTKFace where it is, or of one photograph.

    Args:
        given: The folder, or None.
        scratch: Where crops are written if there are none.
        count: How many, at most; of a folder evenly spread.
    """
    folder = given or (CROPS if CROPS.is_dir() else None)
    if folder is not None:
        files = image_files(folder)
        return files[:: max(1, len(files) // count)][:count]
    image, rng = np.asarray(photograph()), np.random.default_rng(0)
    paths = []
    for number in range(count):
        x, y = (int(v) for v in rng.integers(-30, 30, 2))
        side = int(rng.integers(240, 300))
        view = image[60 + y : 60 + y + side, 110 + x : 110 + x + side]
        paths.append(write(scratch / f"crop-{number}.jpg", resized(view, CROP_SIDE, CROP_SIDE)))
    return paths


def photograph_files(given: Path | None, scratch: Path, count: int) -> list[Path]:
    """Photographs of 2 to 12 megapixels: those of a folder, or views of some, enlarged.

    The views are of the photographs for benchmarks.detection where they are, else of the one that
    comes with matplotlib. Every view is another part and another size.

    Args:
        given: A folder of photographs to take as they are, or None.
        scratch: Where views are written.
        count: How many, at most; of a folder evenly spread.
    """
    if given is not None:
        files = image_files(given)
        return files[:: max(1, len(files) // count)][:count]
    sources = [np.asarray(photograph())]
    if PHOTOGRAPHS.is_dir():
        sources = [read(path) for path in image_files(PHOTOGRAPHS)]
    return [
        write(scratch / f"photograph-{number}.jpg", view)
        for number, view in enumerate(islice(views(sources), count))
    ]


def views(sources: Sequence[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Parts of photographs, enlarged and a little noisy, without end; the same in every run."""
    rng = np.random.default_rng(0)
    for source, megapixels in zip(cycle(sources), cycle(MEGAPIXELS)):
        height, width = source.shape[:2]
        share = rng.uniform(0.75, 1)
        y, x = (rng.uniform(0, 1 - share) * side for side in (height, width))
        part = source[int(y) : int(y + share * height), int(x) : int(x + share * width)]
        scale = np.sqrt(megapixels * 1e6 / (part.shape[0] * part.shape[1]))
        large = resized(part, round(part.shape[1] * scale), round(part.shape[0] * scale))
        noise = rng.standard_normal(large.shape, np.float32) * NOISE
        yield np.clip(np.rint(large + noise), 0, 255).astype(np.uint8)


def resized(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """An image of another size."""
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def read(path: Path) -> NDArray[np.uint8]:
    """An image as RGB."""
    found = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert found is not None, path
    return np.asarray(found, np.uint8)


def write(path: Path, image: NDArray[np.uint8]) -> Path:
    """A JPEG; its path."""
    cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return path


def multiplied(files: Sequence[Path], folder: Path, count: int) -> Path:
    """A folder of so many files, each a link to a copy of one of these."""
    folder.mkdir()
    copies = []
    for number, path in enumerate(files[:count]):
        copies.append(Path(shutil.copy(path, folder / f"{number:07}{path.suffix}")))
    for number in range(len(copies), count):
        source = copies[number % len(copies)]
        os.link(source, folder / f"{number:07}{source.suffix}")
    return folder
