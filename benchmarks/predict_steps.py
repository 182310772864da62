"""What every step of `faceaudit predict` costs when it runs alone; see benchmarks.predict."""

from __future__ import annotations

import hashlib
import io
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from faceaudit.faces import open_detector
from faceaudit.images.decode import Decoded, decode
from faceaudit.images.refs import ImageRef, read_bytes
from faceaudit.models.bundle import load_bundle
from faceaudit.ordered import in_chunks
from faceaudit.pipeline.checks import DEFAULT_BATCH, DEFAULT_MAX_PIXELS, choose_outputs
from faceaudit.pipeline.crops import CropSettings, crop_faces, open_image
from faceaudit.pipeline.scores import predicted_tasks, scores_of
from faceaudit.pipeline.table import to_arrow
from faceaudit.runtimes import open_runtime
from faceaudit.schema import AGE_BINS, DEFAULT_AGE_SCHEME, TASK_OPTIONS, table_schema

ROUNDS = 3
ROWS = 4096
"""Rows that are written at once."""
DEVICE = "infer on the device"
"""The step whose seconds are a device's, not a core's."""


def core_seconds(step: Callable[[], object], cores: int, images: int) -> float:
    """Processor time per image of a step that runs on all cores at once, the best of three.

    On all, because cores share caches and memory: a step alone on one core would be faster than it
    can be in any run. Processor time, because what else runs on the machine does not count in it.
    """
    best = float("inf")
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(ROUNDS):
            begun = time.process_time()
            for done in [pool.submit(step) for _ in range(cores)]:
                done.result()
            best = min(best, time.process_time() - begun)
    return best / cores / images


def step_costs(
    files: Sequence[Path],
    *,
    detector_name: str,
    device: str,
    precision: str,
    cores: int,
) -> dict[str, float]:
    """Seconds per image of every step, each alone; only what a step returns enters the next.

    Args:
        files: Images; all are held decoded.
        detector_name: As for ``--detector``.
        device: As for ``--device``.
        precision: As for ``--precision``.
        cores: How many run a step at once.
    """
    cv2.setNumThreads(1)
    bundle = load_bundle()
    settings = CropSettings(
        detector=open_detector(detector_name, device=device, threads=1),
        faces="largest",
        size=bundle.input.size,
        align=bundle.align,
        margin=bundle.margin,
        offset=bundle.offset,
        max_pixels=DEFAULT_MAX_PIXELS,
    )
    runtime = open_runtime(bundle, device=device, precision=precision, threads=1)
    refs = [ImageRef(path.name, str(path)) for path in files]
    costs: dict[str, float] = {}

    def timed(name: str, step: Callable[[], object]) -> None:
        costs[name] = core_seconds(step, cores, len(refs))

    def pixels_of(data: bytes) -> Decoded:
        return decode(data, max_pixels=settings.max_pixels, enough_side=settings.enough_side)

    timed("read and hash", lambda: [hashlib.sha256(read_bytes(r)).hexdigest() for r in refs])
    data = [read_bytes(ref) for ref in refs]
    timed("decode", lambda: deque(map(pixels_of, data), maxlen=0))  # none is held
    opened = [
        image for ref in refs if (image := open_image(ref, settings)).decoded.image is not None
    ]
    images = [image.decoded.image for image in opened if image.decoded.image is not None]
    timed("detect", lambda: settings.detector.detect(images))
    found = list(zip(opened, settings.detector.detect(images), strict=True))
    # Where a face is small in a large photograph, that is decoded again here.
    timed("crop", lambda: [crop_faces(image, faces, settings) for image, faces in found])
    rows = [crop_faces(image, faces, settings) for image, faces in found]
    crops = [crop for row in rows for crop in row.crops]
    if not crops:
        raise SystemExit("no face was found in the images; give others")
    batches = list(in_chunks(crops, DEFAULT_BATCH))
    if runtime.facts()["device"] == "cpu":
        timed("infer", lambda: [runtime.infer(np.stack(batch)) for batch in batches])
    else:
        costs[DEVICE] = device_seconds(lambda: runtime.infer(np.stack(batches[0]))) / len(
            batches[0]
        )
    age_bins = AGE_BINS[DEFAULT_AGE_SCHEME]
    outputs = choose_outputs(bundle, TASK_OPTIONS)
    tasks = predicted_tasks(outputs, age_bins)
    schema = table_schema(tasks, with_age=any(output.is_age for output in outputs))
    rows = list(islice(cycle(rows), ROWS))
    raw = runtime.infer(np.stack(crops))
    count = sum(len(row.faces) for row in rows)
    raw = {name: np.resize(values, (count, values.shape[1])) for name, values in raw.items()}

    def write() -> None:
        scores = scores_of(raw, outputs, age_bins)
        table = to_arrow(rows, scores, tasks, {}, schema)
        with pq.ParquetWriter(io.BytesIO(), schema, compression="zstd") as writer:
            writer.write_table(table)

    costs["write rows"] = core_seconds(write, cores, ROWS)
    return costs


def device_seconds(step: Callable[[], object]) -> float:
    """Seconds of a step on a device that is warm, the best of three times ten."""
    step()
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(10):
            step()
        best = min(best, (time.perf_counter() - begun) / 10)
    return best


def bound(costs: dict[str, float], cores: int) -> float:
    """Images per second that cores and device could do if no step ever waited for another."""
    on_cores = cores / sum(seconds for name, seconds in costs.items() if name != DEVICE)
    return min(on_cores, 1 / costs[DEVICE]) if DEVICE in costs else on_cores
