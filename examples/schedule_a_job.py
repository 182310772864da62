"""A job file, run on two nights: the second scores only what is new."""

from __future__ import annotations

import sys
from pathlib import Path

import faceaudit
from faceaudit.showcase.images import photograph, write_specimens

JOB = """
history = "history.jsonl"

[predict]
images = "images"
out = "faces.parquet"
max_failures = "90%"  # most of these images are damaged on purpose

[report]
title = "What came in"
"""

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
write_specimens(folder / "images")
job = folder / "job.toml"
job.write_text(JOB, encoding="utf-8")
for night in (1, 2):
    found = faceaudit.run(job)
    print(f"night {night}: exit code {found.exit_code}")
    for step in found.steps:
        print(f"[{step.name}]", step.error or "done", *step.outcome.lines, sep="\n  ")
    photograph().save(folder / "images" / "came later.jpg")
print((folder / "history.jsonl").read_text(encoding="utf-8"))
