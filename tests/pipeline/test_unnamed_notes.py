"""Notes on labels name an image on the terminal alone: pages and tallies are handed on."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from faceaudit import predict, report, tally
from faceaudit.showcase.images import photograph

NAMES = ("ann_smith.jpg", "bob.jpg", "carl.jpg")


def test_what_is_made_of_a_table_names_no_image_without_a_label(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for k, name in enumerate(NAMES):
        photograph().crop((120 + k, 40, 380 + k, 300)).resize((100, 100)).save(images / name)
    labels = tmp_path / "labels.csv"
    labels.write_text("image,gender\nbob.jpg,Male\ncarl.jpg,Male\ndan_brown.jpg,Female\n")
    table = tmp_path / "table.parquet"
    with caplog.at_level(logging.WARNING):
        predict(images, table, labels=f"table:{labels}", detector="whole")
    assert "1 image has no label (for example 'ann_smith.jpg')" in caplog.text
    for formats in ("html", "json", "md"):
        report(table, formats=(formats,))
    tally(table, tmp_path / "counts.tally", by=["gender"])
    made = [*tmp_path.glob("table.[hjm]*"), *(tmp_path / "counts.tally").rglob("*")]
    files = [file for file in (*made, tmp_path / "counts.tally") if file.is_file()]
    assert len(files) > 3
    told = b"".join(file.read_bytes() for file in files)
    assert b"1 image has no label" in told
    assert b"1 label has no image" in told
    assert b"ann_smith" not in told
    assert b"dan_brown" not in told
