"""Audit predictions that another tool made: a CSV with annotated and predicted classes and ages."""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

import faceaudit

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
folder.mkdir(parents=True, exist_ok=True)
table = folder / "theirs.csv"
rng = random.Random(0)
with table.open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["image", "gender_true", "gender_pred", "site", "age_true", "yhat"])
    for number in range(600):
        gender, site = rng.choice(["Female", "Male"]), rng.choice(["north", "south"])
        wrong = rng.random() < (0.15 if site == "south" else 0.05)
        predicted = {"Female": "Male", "Male": "Female"}[gender] if wrong else gender
        age = rng.randint(18, 80)
        writer.writerow([number, gender, predicted, site, age, age + rng.gauss(2, 6)])

# `yhat` is what this table calls the predicted age; `site` is any column worth cutting by.
files = faceaudit.report(table, columns={"age_pred": "yhat"}, by=["gender", "site"])
worst = next(d for d in files.audit.disparities if d.metric == "accuracy" and d.by == ("site",))
print(
    f"worst {worst.worst}, difference {worst.difference:.3f} ({worst.low:.3f} to {worst.high:.3f})"
)
print(files.paths[0])
