"""How fast leaks are found, and which copies: ``python -m benchmarks.leaks [IMAGES]``.

Five things are measured:

* reading: images a second of a folder (default: UTKFace, ``FACEAUDIT_DATA``), and the bound that
  decoding alone sets;
* searching: how the comparison of hashes grows, on generated hashes from 10,000 up;
* the whole: ``faceaudit leaks`` on a folder of 100,000 generated images (``--whole``), from their
  files to the pairs, and whether every copy among them was found;
* verifying: pairs of pictures a second;
* recall: copies of the folder's images, altered in known ways, that are found.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from faceaudit.images.decode import decode, decode_gray
from faceaudit.images.find import find_images
from faceaudit.images.refs import ImageRef, read_bytes
from faceaudit.leakage.duplicates import Pairs, find_candidates, picture_hashes
from faceaudit.leakage.find import CANDIDATE, MAX_PIXELS, find_leaks
from faceaudit.leakage.prints import DECODED_SIDE, Prints, small_picture, take_prints
from faceaudit.leakage.sets import read_sets
from faceaudit.leakage.verify import SIMILAR, similarities, similarity
from faceaudit.ordered import available_cores, in_chunks, in_order

DATA = Path(os.environ.get("FACEAUDIT_DATA", Path.home() / "faceaudit-data"))
SIZES = (10_000, 30_000, 100_000)
WHOLE = 100_000
COPIES = 300
"""Images that are altered in every way."""
PLANTED = 100
"""Of so many generated images, one is the bytes of another and one another copy of it."""

Gray = NDArray[np.uint8]


def compressed(image: Gray, quality: int) -> Gray:
    """After JPEG compression."""
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def cropped(image: Gray, share: float, top: float, left: float) -> Gray:
    """Without a share of height and width, of which ``top`` and ``left`` are taken there."""
    height, width = image.shape
    rows, columns = round(height * share), round(width * share)
    y, x = round(rows * top), round(columns * left)
    return np.ascontiguousarray(image[y : y + height - rows, x : x + width - columns])


def resized(image: Gray, side: int) -> Gray:
    """At another size."""
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def bordered(image: Gray, share: float, tone: int) -> Gray:
    """With an even border."""
    edge = round(image.shape[0] * share)
    framed = cv2.copyMakeBorder(image, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(tone,))
    return np.asarray(framed, np.uint8)


def toned(image: Gray, gain: float, offset: float = 0.0, gamma: float = 1.0) -> Gray:
    """Brighter or darker; values beyond white are cut."""
    changed = 255 * (image / 255.0) ** gamma * gain + offset
    return np.clip(changed, 0, 255).astype(np.uint8)


def turned(image: Gray, degrees: float) -> Gray:
    """Turned about its center; corners repeat the edge."""
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    found = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.uint8)


def noisy(image: Gray, deviation: float) -> Gray:
    """With noise, gray values."""
    noise = np.random.default_rng(0).normal(0, deviation, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


ALTERATIONS: dict[str, Callable[[Gray], Gray]] = {
    "JPEG, quality 40": lambda image: compressed(image, 40),
    "JPEG, quality 15": lambda image: compressed(image, 15),
    "resized to 100": lambda image: resized(image, 100),
    "resized to 48": lambda image: resized(image, 48),
    "half as bright": lambda image: toned(image, 0.5),
    "30 % brighter, whites cut": lambda image: toned(image, 1.3, 10),
    "gamma 2": lambda image: toned(image, 1, gamma=2),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "blurred, 2 pixels": lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), 2), np.uint8),
    "blurred, 4 pixels": lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), 4), np.uint8),
    "noise of 10": lambda image: noisy(image, 10),
    "cropped by 2 %": lambda image: cropped(image, 0.02, 0.5, 0.5),
    "cropped by 5 %": lambda image: cropped(image, 0.05, 0.5, 0.5),
    "cropped by 5 %, one corner": lambda image: cropped(image, 0.05, 0, 0),
    "cropped by 10 %": lambda image: cropped(image, 0.1, 0.5, 0.5),
    "black border of 5 %, JPEG 60": lambda image: compressed(bordered(image, 0.05, 0), 60),
    "white border of 10 %": lambda image: bordered(image, 0.1, 255),
    "turned by 2 degrees": lambda image: turned(image, 2),
    "cropped 5 %, brighter, JPEG 40": lambda image: compressed(
        toned(cropped(image, 0.05, 0.5, 0.5), 1.2), 40
    ),
}


def measure_reading(refs: Sequence[ImageRef]) -> Prints:
    """Images a second, and the bound that decoding sets."""
    workers = available_cores()

    def bound(images: Sequence[ImageRef]) -> int:
        return sum(
            decode_gray(read_bytes(image), DECODED_SIDE).image is not None for image in images
        )

    list(in_order(bound, in_chunks(refs[:256], 64), workers))  # files into the system's cache
    start = time.perf_counter()
    list(in_order(bound, in_chunks(refs, 256), workers))
    decoding = time.perf_counter() - start
    start = time.perf_counter()
    prints = take_prints(refs, 1.0, max_pixels=MAX_PIXELS, workers=workers)
    reading = time.perf_counter() - start
    print(
        f"reading: {len(refs):,} images, {len(refs) / reading:,.0f} images/s; reading and decoding "
        f"alone {len(refs) / decoding:,.0f} images/s"
    )
    return prints


def measure_searching(sizes: Sequence[int]) -> None:
    """How the comparison of hashes grows."""
    for size in sizes:
        rng = np.random.default_rng(0)
        hashes, mirrored = rng.integers(0, 256, (2, size, 32), dtype=np.uint8)
        hashes[size // 2 : size // 2 + 10] = hashes[:10]
        start = time.perf_counter()
        busy = time.process_time()
        found = find_candidates(hashes, mirrored, CANDIDATE, available_cores())
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        compared = size * (size - 1) / 2
        assert len(found) == 10
        print(
            f"searching: {size:>9,} hashes in {seconds:6.1f} s ({busy:.1f} s of processor time), "
            f"{compared / seconds / 1e6:,.0f} million pairs/s"
        )


def write_generated(folder: Path, count: int) -> None:
    """Pictures of soft spots, of which a few are there twice: as they are, and at another size."""
    for start in range(0, count, PLANTED):
        rng = np.random.default_rng(start)
        for number in range(min(PLANTED, count - start)):
            spots = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            image = cv2.resize(spots, (200, 200), interpolation=cv2.INTER_CUBIC)
            if number == 0:
                first = image
            elif number == 1:
                image = first
            elif number == 2:
                image = cv2.resize(first, (150, 150), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(folder / f"{start + number:07}.jpg"), image)


def measure_whole(count: int) -> None:
    """A search from the files to the pairs."""
    with tempfile.TemporaryDirectory() as name:
        write_generated(Path(name), count)
        start, busy = time.perf_counter(), time.process_time()
        found = find_leaks(read_sets([name]))
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
    pictures = len(range(0, count, PLANTED))
    print(
        f"whole: {count:,} generated images searched in {seconds:.1f} s ({busy:.1f} s of processor "
        f"time, {available_cores()} cores), {found.candidates:,} pairs verified; {found.groups:,} "
        f"pictures found several times, of {pictures:,} that are"
    )


def measure_verifying(prints: Prints) -> None:
    """Pairs of pictures a second, on candidates where there are any."""
    known = np.flatnonzero(prints.comparable)
    pairs = find_candidates(prints.hashes[known], prints.mirrored[known], CANDIDATE).at(known)
    if not len(pairs):
        first, second = known[:500], known[-500:]
        pairs = Pairs(first, second, np.zeros(len(first), int), np.zeros(len(first), bool))
    start = time.perf_counter()
    found = similarities(prints.pictures, pairs, available_cores())
    seconds = time.perf_counter() - start
    print(
        f"verifying: {len(pairs):,} candidates, {len(pairs) / seconds:,.0f} pairs/s; "
        f"{(found >= SIMILAR).sum():,} are one picture"
    )


def measure_recall(refs: Sequence[ImageRef]) -> None:
    """Altered copies that are found."""
    step = max(len(refs) // COPIES, 1)
    decoded = [decode(read_bytes(ref)).image for ref in refs[::step][:COPIES]]
    grays = [
        np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        for image in decoded
        if image is not None
    ]
    print(f"recall: {len(grays)} images altered")
    for name, alter in ALTERATIONS.items():
        found = np.mean([is_found(gray, alter(gray)) for gray in grays])
        print(f"  {name:32} {found:6.1%}")


def is_found(original: Gray, copy: Gray) -> bool:
    """Whether a copy is found: near by its hash, and verified by its pixels."""
    first, second = small_picture(original), small_picture(copy)
    own, others = picture_hashes(first)[0], picture_hashes(second)
    for view, other in zip((second, np.ascontiguousarray(second[:, ::-1])), others, strict=True):
        near = np.unpackbits(own ^ other).sum() <= CANDIDATE
        if near and similarity(first, view) >= SIMILAR:
            return True
    return False


def main() -> None:
    """Measure on a folder of images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", nargs="?", default=str(DATA / "utkface" / "val"))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--whole", type=int, default=WHOLE, help="images that are generated")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    measure_searching(arguments.sizes)
    measure_whole(arguments.whole)
    refs = list(find_images(arguments.images))
    prints = measure_reading(refs)
    measure_verifying(prints)
    measure_recall(refs)


if __name__ == "__main__":
    main()
