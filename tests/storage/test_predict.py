from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

import faceaudit
from faceaudit.errors import TemporaryError
from faceaudit.storage import as_path, list_parts, outages
from tests.storage.conftest import KEY, SECRET, Proxy


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Crops by which it can be told what was read."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        crop = np.full((112, 112, 3), 30 * number, np.uint8)
        cv2.imwrite(str(folder / f"{20 + number}_0_1_20170101000000000.png"), crop)
    return folder


def predict(images: object, out: object, **options: object) -> None:
    faceaudit.predict(images, out, detector="whole", batch_size=2, workers=1, **options)


def test_a_table_on_a_store_is_the_one_on_a_disk(images: Path, bucket: str, tmp_path: Path) -> None:
    predict(images, tmp_path / "out.parquet")
    out = f"{bucket}/night/out.parquet"
    predict(images, out)
    here = pq.read_table(tmp_path / "out.parquet")
    with as_path(out).open("rb") as file:
        there = pq.read_table(file)
    assert there.equals(here)
    written = f"{there.schema.metadata}{there.to_pylist()}"
    assert SECRET not in written
    assert KEY not in written
    assert [path.name for path in as_path(out).parent.iterdir()] == ["out.parquet"]
    predict(images, f"{bucket}/parts", part_rows=2)
    assert len(list_parts(as_path(f"{bucket}/parts"))) == 3
    assert faceaudit.predict(images, out, detector="whole").already_complete


def test_a_run_that_an_outage_ended_is_gone_on_with(
    images: Path, bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.5)
    out = f"{bucket}/out.parquet"
    proxy.only, proxy.spared, proxy.failures = ".arrow", 2, 1_000
    with pytest.raises(TemporaryError, match="storage unreachable"):
        predict(images, out)
    proxy.failures = 0
    found = faceaudit.predict(images, out, detector="whole", batch_size=2, workers=1)
    assert (found.images, found.scored) == (6, 2)
