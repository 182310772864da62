"""Darken, blur, cover and shrink labeled images: who is no longer found, and who drops out first?

Arguments: a folder to work in, and a folder of images that are named as UTKFace names them.
"""

import csv
import sys
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter

import faceaudit
from faceaudit.showcase.images import photograph

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
folder.mkdir(parents=True, exist_ok=True)
sources = sorted(Path(sys.argv[2]).iterdir()) if len(sys.argv) > 2 else [folder / "78_1_0_1984.jpg"]
if len(sys.argv) < 3:  # one photograph, annotated 78 years, Female, White
    photograph().save(sources[0])
DEGRADATIONS = {
    "darkened": lambda image, s: ImageEnhance.Brightness(image).enhance(1 - s),
    "blurred": lambda image, s: image.filter(ImageFilter.GaussianBlur(s * image.width / 20)),
    "covered": lambda image, s: image.paste("gray", (0, int((1 - s) * image.height), *image.size)),
    "shrunk": lambda image, s: image.reduce(round(1 / (1 - s))),
}
kinds = [("plain", 0.0), *((kind, s) for kind in DEGRADATIONS for s in (0.5, 0.8, 0.95))]
listed = [("path", "degradation", "strength", "copy", "source")]
for kind, strength in kinds:
    (folder / f"{kind} {strength}").mkdir(parents=True, exist_ok=True)
    for source in sources:
        image = Image.open(source).convert("RGB")
        made = DEGRADATIONS[kind](image, strength) if kind in DEGRADATIONS else image
        (made or image).save(folder / f"{kind} {strength}" / source.name)
        path = f"{kind} {strength}/{source.name}"
        listed.append((path, kind, strength, f"{kind} {strength}", source.name))
images, out = folder / "copies.csv", folder / "out.parquet"
with images.open("w", newline="") as file:
    csv.writer(file).writerows(listed)  # further columns of a list are carried into the table
faceaudit.predict(images, out, labels="utkface", tasks=("gender", "race"))
files = faceaudit.report(out, by=["gender", "race"], within="copy", unit="source")
for one in files.audit.coverage:
    named, rate = tuple(one.subgroup), one.failure_rate
    if named == ("copy",) or (named in {("copy", "gender"), ("copy", "race")} and rate.value):
        bounds = f"({rate.low:.1%} to {rate.high:.1%}) " if rate.low is not None else ""
        print(*one.subgroup.values(), f"{rate.value:.1%} {bounds}of {one.images} not scored")
