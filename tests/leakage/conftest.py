"""Generated pictures: smooth random shapes, in which nothing repeats."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray


def draw(seed: int, side: int = 160) -> NDArray[np.uint8]:
    """A picture like no other, RGB (side, side, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
    fine = rng.integers(0, 60, (40, 40, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    detail = cv2.resize(fine, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.addWeighted(picture, 0.8, detail, 0.6, 0), np.uint8)


def save(picture: NDArray[np.uint8], path: Path, quality: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality))
    return path


@pytest.fixture(scope="session")
def splits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of 12 pictures each with labels in their names, that share three of them.

    In both: picture 0 with equal bytes and another gender, picture 1 compressed and 9 years older,
    picture 2 mirrored. Within the first: picture 3 twice. In the second: an empty file, a text.
    """
    root = tmp_path_factory.mktemp("splits")
    train, test = root / "train", root / "test"
    for seed in range(12):
        save(draw(seed), train / f"{20 + seed}_0_0_2017010100000{seed:04}.jpg")
    (train / "30_0_0_20170102000000000.jpg").write_bytes(
        (train / "23_0_0_20170101000000003.jpg").read_bytes()
    )
    for seed in range(100, 109):
        save(draw(seed), test / f"{seed - 80}_1_2_2017010100000{seed:04}.jpg")
    (test / "20_1_0_20170109000000000.jpg").write_bytes(
        (train / "20_0_0_20170101000000000.jpg").read_bytes()
    )
    save(draw(1), test / "30_0_0_20170109000000001.jpg", quality=35)
    save(draw(2)[:, ::-1], test / "22_0_0_20170109000000002.jpg")
    (test / "40_0_0_20170109000000008.jpg").write_bytes(b"")
    (test / "40_0_0_20170109000000009.jpg").write_bytes(b"no image at all")
    return train, test
