"""Find images that two sets share, and audit without them."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageOps

import faceaudit
from faceaudit.showcase.images import photograph

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
train, test = folder / "train", folder / "test"
for place in (train, test):
    place.mkdir(parents=True, exist_ok=True)

# Both sets show one picture; the copy is smaller, mirrored, and annotated 6 years older.
face: Image.Image = photograph().crop((120, 40, 380, 300))
face.save(train / "60_1_0_20170101000000001.jpg", quality=95)
ImageOps.mirror(face).resize((120, 120)).save(test / "66_1_0_20170102000000001.jpg", quality=60)
photograph().crop((0, 200, 200, 400)).save(test / "40_0_0_20170102000000002.jpg")

found = faceaudit.leaks([train, test], output=folder / "leaks.parquet")
for pair in found.leaks.pairs.iter_rows(named=True):
    print(pair["first"], pair["second"], f"{pair['similarity']:.3f}", pair["age_gap"], "years")

table = folder / "test.parquet"
faceaudit.predict(test, table, detector="whole")
report = faceaudit.report(table, without_leaks=folder / "leaks.parquet")
print(f"{report.audit.leaks.rows} of {report.audit.leaks.of_rows} rows left out")
print(report.paths[0])
