"""Predict on a folder of images, then ask the table with polars."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

import faceaudit
from faceaudit.showcase.images import write_specimens

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
write_specimens(folder / "images")  # your own folder of images goes here
found = faceaudit.predict(folder / "images", folder / "out.parquet", tasks=("gender", "age"))
print(f"{found.images} images, {found.failed} without a scored face")

table = pl.read_parquet(found.table)
print(table.group_by("status").len().sort("status"))
old = table.filter(pl.col("age_pred") >= 60).sort("age_pred", descending=True).head(3)
print(old.select("image", "gender_pred", pl.col("age_pred").round(1)))
