"""Runs in processes of their own, which can be killed; they start with everything imported."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pyarrow as pa

from faceaudit.pipeline import dataset, engines
from faceaudit.pipeline.inputs import Chunk
from faceaudit.pipeline.plan import Plan
from faceaudit.pipeline.predict import Prediction, predict
from faceaudit.runtimes import onnx_runtime  # noqa: F401 - imported before the processes start

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def in_process(function: Callable[..., None], *given: Any) -> ForkServerProcess:
    """A process that has begun to run a function of this module."""
    process = PROCESSES.Process(target=function, args=given)
    process.start()
    return process


def run(images: Path, out: Path, model: str, *, part_rows: int = 100, **options: Any) -> Prediction:
    """Predict whole images as crops, in small chunks; rows of parts where there are parts."""
    given: dict[str, Any] = {"batch_size": 8, "workers": 2, **options}
    if out.suffix != ".parquet":
        given["part_rows"] = part_rows
    return predict(images, out, model=model, detector="whole", **given)


def counting_run(log: Path, photos: Path, out: Path, model: str) -> None:
    """A run that notes, before it scores images, how many."""
    score_rows = engines.rows_of

    def rows_of(plan: Plan, chunk: Chunk) -> pa.Table:
        with log.open("a") as file:
            file.write(f"{len(chunk)}\n")
        return score_rows(plan, chunk)

    engines.rows_of = rows_of
    run(photos, out, model)


def ending_run(step: int, photos: Path, out: Path, model: str) -> None:
    """A run that ends, as if the power were cut, before a change to files of this number."""
    left = step

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*given: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return change(*given, **named)

        return changed

    for name in ("replace", "unlink", "rmdir", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    run(photos, out, model, batch_size=3, part_rows=5)


def wait_for_rows(process: subprocess.Popen[str], out: Path) -> None:
    """Until a command that makes a file has kept its first rows, not only begun to write them."""
    segments = out.parent / f".{out.name}.run" / dataset.SEGMENTS
    while process.poll() is None and not any(segments.glob("*.arrow")):
        time.sleep(0.01)
