"""What it costs to walk sources of images, and to bring labels to them.

    python -m benchmarks.inputs [--images 1000000] [--work FOLDER]

Empty files are made in a temporary folder: all in one folder, and in folders of 1,000. For each,
with and without labels, it prints processor seconds until the first image is known and for all, and
how much memory was added at most (Linux). Each row is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks.processes import output_of, peak_mb
from faceaudit.images.find import find_images
from faceaudit.labels import open_labels

AT_ONCE = 1024
"""Images that are asked for at a time, as ``predict`` does."""
PER_FOLDER = 1000
LABELS = ("none", "auto", "table:paths.csv", "table:names.csv")
"""None; names of files; a table of paths, which are looked up; and of file names, which are not
known to be unique before all names were seen."""


def make(folder: Path, images: int) -> None:
    """Empty files with names as UTKFace's, and tables of their labels."""
    names = [f"{k % 90}_{k % 2}_{k % 5}_{20170101000000000 + k}.jpg" for k in range(images)]
    flat, nested = folder / "flat", folder / "nested"
    flat.mkdir()
    paths = [f"{k // PER_FOLDER:05}/{name}" for k, name in enumerate(names)]
    for k, name in enumerate(names):
        if k % PER_FOLDER == 0:
            (nested / paths[k]).parent.mkdir(parents=True)
        (flat / name).touch()
        (nested / paths[k]).hardlink_to(flat / name)
    for place, given in ((flat, names), (nested, paths)):
        for table, keys in (("paths", given), ("names", names)):
            labels = pl.DataFrame({"file_name": keys, "gender": ["M", "F"] * (images // 2)})
            labels.write_csv(place / f"{table}.csv")


def cpu_seconds() -> float:
    """Of this process, in user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident_mb() -> float:
    """The memory that this process has now, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(folder: str, spec: str) -> str:
    """One row of the table."""
    before, begun, clock = resident_mb(), cpu_seconds(), time.monotonic()
    source = find_images(folder)
    labels = open_labels(spec, source)
    batches = source.batches(AT_ONCE)
    images = len(next(batches).refs)
    first, waited = cpu_seconds() - begun, time.monotonic() - clock
    for batch in batches:
        images += len(batch.refs)
        if labels is not None:
            labels.of([ref.name for ref in batch.refs])
    spent, added = cpu_seconds() - begun, peak_mb() - before
    return f"{images:,} | {first:.1f} s | {waited:.1f} s | {spent:.1f} s | {added:.0f} MB"


def main() -> None:
    """Make the files, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000, help="an even number")
    parser.add_argument("--work", help="a folder that has room for the files")
    parser.add_argument("--of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.of:
        print(measure(*arguments.of))
        return
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        make(Path(folder), arguments.images)
        print("| folder | labels | images | CPU to the first | waited | CPU for all | memory |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
        for place in ("flat", "nested"):
            for spec in LABELS:
                command = [sys.executable, "-m", "benchmarks.inputs", "--of", f"{folder}/{place}"]
                found = output_of([*command, spec]).strip()
                print(f"| {place} | {spec} | {found} |", flush=True)


if __name__ == "__main__":
    main()
