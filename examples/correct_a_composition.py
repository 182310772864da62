"""What is in a set of images without labels: shares as predicted, and corrected by a sample."""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

import faceaudit

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
folder.mkdir(parents=True, exist_ok=True)
rng = random.Random(0)
# Two in ten faces are of class Female; the model calls a quarter of the others Female as well.
truth = {f"{number:05}.jpg": rng.choices(("Female", "Male"), (2, 8))[0] for number in range(4000)}
table = folder / "unlabelled.csv"
with table.open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["image", "gender_pred"])
    for image, gender in truth.items():
        wrong = rng.random() < (0.05 if gender == "Female" else 0.25)
        writer.writerow([image, {"Female": "Male", "Male": "Female"}[gender] if wrong else gender])

# `faceaudit sample` names faces to look at; here what is known takes the place of looking.
drawn = faceaudit.sample(table, n=300)
with drawn.path.open(newline="", encoding="utf-8") as file:
    rows = [{**row, "gender_true": truth[row["image"]]} for row in csv.DictReader(file)]
with drawn.path.open("w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)

files = faceaudit.report(table, calibration=drawn.path)
for share in files.audit.composition:
    found = share.corrected
    print(
        f"{share.label}: predicted {share.share.value:.3f}, estimated from the sample "
        f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
    )
print(files.paths[0])
