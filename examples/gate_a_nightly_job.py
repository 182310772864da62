"""A policy as a gate: one night has too few faces, and says how many are needed; then enough."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import faceaudit

POLICY = """
[[rule]]
task = "gender"
metric = "accuracy"
by = ["site"]
measure = "worst"
at_least = 0.85
owner = "review board"
reason = "below this the output is not used"
"""
FACES = 150


def tally_of_night(night: int, folder: Path) -> Path:
    """Predictions of one night, right nine times in ten, kept as a tally without names."""
    rng, lines = random.Random(night), ["site,gender_true,gender_pred"]
    for _ in range(FACES):
        true, other = rng.sample(["Male", "Female"], 2)
        predicted = true if rng.random() < 0.9 else other
        lines.append(f"{rng.choice(['north', 'south'])},{true},{predicted}")
    table = folder / f"night{night}.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    faceaudit.tally(table, table.with_suffix(".tally"), by=["site"])
    return table.with_suffix(".tally")


folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
folder.mkdir(parents=True, exist_ok=True)
policy = folder / "policy.toml"
policy.write_text(POLICY, encoding="utf-8")
first = tally_of_night(0, folder)
print(faceaudit.check(first, policy).to_text(), end="\n\n")
needed = faceaudit.check(first, policy).verdicts[0].n_needed or FACES
nights = range(1, 2 + 2 * needed // FACES)  # Two sites share the faces of a night.
print(faceaudit.check([tally_of_night(night, folder) for night in nights], policy).to_text())
