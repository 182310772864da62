"""Fill the tables of docs/scale.md: ``python -m scripts.scale [--check]``.

They are made of what the benchmarks wrote, at a time when nothing else ran on the machine:

    python -m benchmarks.predict --json docs/results/predict.json
    python -m benchmarks.scale --ray --json docs/results/scale.json
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.predict_tables import Table, printed
from benchmarks.scale import KNOWN_BYTES, Kept, table_of
from faceaudit.pipeline.target import DEFAULT_PART_ROWS
from scripts.readme import fill, rewrite

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "scale.md"
RESULTS = ROOT / "docs" / "results"
IMAGES = 1_000_000_000
HOURS = 24
PRICE = 0.04
"""Dollars of a core for an hour: an assumption, to be replaced by one's own."""
RUNS = 100
"""Outputs among which a billion images are divided."""
UNKNOWN = "`python -m benchmarks.{} --json docs/results/{}.json` measures it."


def kept() -> list[Kept]:
    """What the process that keeps the rows was measured to do; empty where it was not."""
    path = RESULTS / "scale.json"
    return [Kept(**facts) for facts in json.loads(path.read_text())] if path.exists() else []


def driver() -> str:
    """What keeping the rows costs."""
    if not kept():
        return UNKNOWN.format("scale --ray", "scale")
    return printed([table_of(kept())], markdown=True)


def rates() -> str:
    """What scoring costs."""
    path = RESULTS / "predict.json"
    if not path.exists():
        return UNKNOWN.format("predict", "predict")
    found = json.loads(path.read_text())
    rows = [
        (
            f"{one['kind']} of {one['megapixels']:.2g} megapixels, `--detector {one['detector']} "
            f"--precision {one['precision']}`",
            f"{one['core_ms_per_image']:.2f}",
            f"{1000 / one['core_ms_per_image']:,.0f}",
            f"{IMAGES * one['core_ms_per_image'] / 3.6e6:,.0f}",
            f"{IMAGES * one['core_ms_per_image'] / 3.6e6 / HOURS:,.0f}",
            f"{PRICE * 1e6 * one['core_ms_per_image'] / 3.6e6:.2f}",
        )
        for one in found["figures"]
    ]
    head = (
        "images", "core-ms per image", "images/s of a core", "core-hours for a billion",
        f"cores for a billion in {HOURS} hours", f"dollars per million at {PRICE} per core-hour",
    )  # fmt: skip
    return f"{found['machine']}.\n\n{printed([(head, rows)], markdown=True)}"


def plan() -> str:
    """What a billion images need beside cores."""
    if not kept():
        return UNKNOWN.format("scale --ray", "scale")
    of_cluster = [one for one in kept() if one.engine == "ray"]
    best = max(of_cluster, key=lambda one: one.rate)
    size = best.row_bytes
    sizes = next(one for one in kept() if one.sent_bytes)
    table: Table = (
        ("what", "for a billion images of one face", f"for each of {RUNS} runs"),
        [
            ("rows", f"{IMAGES:,}", f"{IMAGES // RUNS:,}"),
            (
                f"parts of {DEFAULT_PART_ROWS:,} rows",
                f"{IMAGES // DEFAULT_PART_ROWS:,}",
                f"{IMAGES // RUNS // DEFAULT_PART_ROWS:,}",
            ),
            ("written", f"{IMAGES * size / 1e9:,.0f} GB", f"{IMAGES * size / RUNS / 1e9:,.1f} GB"),
            ("read, files of 20 kB", "20 TB", "200 GB"),
            ("read, files of 1 MB", "1,000 TB", "10 TB"),
            (
                "sent to workers and back",
                f"{IMAGES * (sizes.sent_bytes + sizes.answer_bytes) / 1e9:,.0f} GB",
                f"{IMAGES * (sizes.sent_bytes + sizes.answer_bytes) / RUNS / 1e9:,.1f} GB",
            ),
            (
                f"core-hours of the process that keeps the rows, chunks of {best.batch}",
                f"{IMAGES / best.rate / 3600:,.1f}",
                f"{IMAGES / best.rate / 3600 / RUNS:,.2f}",
            ),
            (
                "its memory for names, when all are known",
                f"{IMAGES * KNOWN_BYTES / 1e9:,.0f} GB",
                f"{IMAGES * KNOWN_BYTES / RUNS / 1e9:,.1f} GB",
            ),
        ],
    )
    return printed([table], markdown=True)


PARTS = {part.__name__: part for part in (rates, driver, plan)}


def filled(text: str) -> str:
    """The text with every table made anew."""
    return fill(text, PARTS, DOCUMENT.name)


def main() -> None:
    """Write the document, or say that it is stale."""
    rewrite(DOCUMENT, filled, "scripts.scale")


if __name__ == "__main__":
    main()
