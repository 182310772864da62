"""Prepare crops, train a recipe for a few steps, predict with the bundle: a complete circle.

Needs the extra `train`. The images are copies of one photograph: what is learned means nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import faceaudit
from faceaudit.showcase.images import photograph

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
folder.mkdir(parents=True, exist_ok=True)
images = folder / "faces"
images.mkdir(exist_ok=True)
for k in range(24):  # labels stand in the file names, as in UTKFace
    crop = photograph().crop((120 + k, 40, 380 + k, 300)).resize((140, 140))
    crop.save(images / f"{20 + 2 * k}_{k % 2}_{k % 5}_201701010000000{k:02d}.jpg")

recipe = folder / "tiny.toml"
recipe.write_text("""
name = "tiny"
licence = "none"
training_data = "copies of one photograph"
backbone = "mobilenet_v2"
weights = "none"
batch = 8
data = { validation_share = 0.3, near_duplicates = false }  # all crops show one photograph
stages = [{ epochs = 1, size = 48 }]
tasks.gender.scheme = "gender2"
tasks.age.scheme = "years"
card = { intended_use = "an example", limits = ["everything"] }
""")
faceaudit.prepare(images, folder / "crops")
bundle = faceaudit.train(str(recipe), data=[folder / "crops"], output=folder / "tiny")
found = faceaudit.predict(images, folder / "tiny.parquet", model=str(folder / "tiny"))
print(f"bundle {bundle.name} ({bundle.sha256[:12]}) scored {found.faces} faces")
