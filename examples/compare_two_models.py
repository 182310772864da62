"""Compare two models on the same images: for whom did the second get better or worse?"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

import faceaudit

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
folder.mkdir(parents=True, exist_ok=True)
rng = random.Random(0)
other = {"Female": "Male", "Male": "Female"}
faces = [
    (number, rng.choice(["Female", "Male"]), rng.choice(["day", "night"])) for number in range(900)
]
# The second model is better by day and worse by night.
for name, wrong in (
    ("first", {"day": 0.12, "night": 0.12}),
    ("second", {"day": 0.03, "night": 0.25}),
):
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "gender_true", "gender_pred", "light"])
        for number, gender, light in faces:
            predicted = other[gender] if rng.random() < wrong[light] else gender
            writer.writerow([f"{number}.jpg", gender, predicted, light])

files = faceaudit.compare(folder / "first.csv", folder / "second.csv", by=["light"])
for change in files.changes.changes:
    if (change.metric, change.failures) == ("accuracy", "left out"):
        where = change.subgroup.get("light", "all")
        bounds = f"({change.low:+.3f} to {change.high:+.3f})"
        print(f"{where}: {change.difference:+.3f} {bounds}, {change.verdict}")
print(files.paths[0])
