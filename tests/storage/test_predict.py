from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

import faceaudit
from faceaudit.errors import TemporaryError
from faceaudit.pipeline import dataset
from faceaudit.pipeline.dataset import DataSet
from faceaudit.pipeline.predict import Prediction
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


def predict(images: Path | str, out: Path | str, pause: float = 0, **options: int) -> Prediction:
    """A run that may rest after each step it keeps, so that it can be killed in the middle."""
    add = DataSet.add

    def slow_add(self: DataSet, *args: Any) -> None:
        add(self, *args)
        time.sleep(pause)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataSet, "add", slow_add)
        patch.setattr(dataset, "STORE_SECONDS", 0)
        return faceaudit.predict(images, out, detector="whole", batch_size=2, workers=1, **options)


def test_rows_of_a_few_seconds_go_to_a_store_together(images: Path, bucket: str) -> None:
    out = f"{bucket}/held"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataSet, "finish", lambda self, notes: None)  # so that the segments stay
        faceaudit.predict(images, out, detector="whole", batch_size=2, workers=1)
    assert len(list(as_path(f"{out}/.segments").glob("*.arrow"))) == 1
    assert faceaudit.predict(images, out, detector="whole").images == 6


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
    assert predict(images, out).already_complete


def test_images_and_labels_on_a_store_give_the_table_of_those_on_a_disk(
    images: Path, bucket: str, tmp_path: Path
) -> None:
    for path in images.iterdir():
        as_path(f"{bucket}/in/{path.name}").write_bytes(path.read_bytes())
    predict(images, tmp_path / "out.parquet")
    found = predict(f"{bucket}/in", f"{bucket}/out.parquet")
    assert found.labels == "utkface"
    with as_path(f"{bucket}/out.parquet").open("rb") as file:
        assert pq.read_table(file).equals(pq.read_table(tmp_path / "out.parquet"))
    assert predict(f"{bucket}/in", f"{bucket}/out.parquet").already_complete
    as_path(f"{bucket}/in/40_1_2_20170101000000000.png").write_bytes(path.read_bytes())
    again = predict(f"{bucket}/in", f"{bucket}/out.parquet")
    assert (again.images, again.scored) == (7, 1)


def test_a_run_that_an_outage_ended_is_gone_on_with(
    images: Path, bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "PATIENCE", 0.5)
    out = f"{bucket}/out.parquet"
    proxy.only, proxy.spared, proxy.failures = ".arrow", 2, 1_000
    with pytest.raises(TemporaryError, match="storage unreachable"):
        predict(images, out)
    proxy.failures = 0
    found = predict(images, out)
    assert (found.images, found.scored) == (6, 2)


def test_a_run_whose_credentials_end_midway_is_gone_on_with(
    images: Path, bucket: str, proxy: Proxy, tmp_path: Path
) -> None:
    addresses = []
    for path in sorted(images.iterdir()):
        addresses.append(f"{bucket}/in/{path.name}")
        as_path(addresses[-1]).write_bytes(path.read_bytes())
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(addresses))
    proxy.only, proxy.how, proxy.spared, proxy.failures = f"GET {bucket[4:]}/in", 403, 3, 1_000
    with pytest.raises(TemporaryError, match="refuses images that it gave before"):
        predict(listed, tmp_path / "out")
    proxy.failures = 0
    found = predict(listed, tmp_path / "out")
    assert found.statuses == {"ok": 6}
    assert 0 < found.scored < 6


@pytest.mark.slow
def test_a_run_that_was_killed_is_gone_on_with_from_the_store(
    images: Path, bucket: str, tmp_path: Path
) -> None:
    predict(images, tmp_path / "whole.parquet")
    out = f"{bucket}/out.parquet"
    process = multiprocessing.get_context("spawn").Process(target=predict, args=(images, out, 0.5))
    process.start()
    segments = as_path(f"{bucket}/.out.parquet.run/.segments")
    while process.is_alive() and not any(segments.glob("*.arrow")):
        time.sleep(0.05)
    process.kill()
    process.join()
    assert not as_path(out).exists()
    found = predict(images, out)
    assert found.images == 6
    assert 0 < found.scored < 6
    with as_path(out).open("rb") as file:
        assert pq.read_table(file).equals(pq.read_table(tmp_path / "whole.parquet"))
    assert [path.name for path in as_path(bucket).iterdir()] == ["out.parquet"]
