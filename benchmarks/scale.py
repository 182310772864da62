"""What the process that keeps the rows can do: the part of a run that does not spread.

    python -m benchmarks.scale [--images 40000] [--batch 64 256] [--ray] [--json FILE] [--markdown]

Small files lie in a folder, with labels in their names. Their rows are made beforehand, so that
what is timed is all that is left to the process that keeps them: walking the folder, a look at each
file, labels, digests, segments and parts. With ``--ray``, chunks travel to a worker and rows back
by Ray as well. Processor time is of this process alone; a rate is that of one core of it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import tempfile
import time
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from benchmarks.predict_tables import Table, printed
from faceaudit.faces import Face
from faceaudit.images.find import find_images
from faceaudit.images.source import ImageSource
from faceaudit.models.bundle import Bundle, load_bundle
from faceaudit.pipeline.crops import CroppedImage
from faceaudit.pipeline.digest import BYTES
from faceaudit.pipeline.engines import ENGINES, LocalEngine
from faceaudit.pipeline.inputs import Chunk
from faceaudit.pipeline.plan import Facts, Settings
from faceaudit.pipeline.predict import predict
from faceaudit.pipeline.scores import scores_of
from faceaudit.pipeline.table import to_arrow
from faceaudit.schema import OK

READY = 1 << 16
"""Rows that are made beforehand: more than are compressed together."""
KNOWN_BYTES = BYTES + np.dtype(np.int32).itemsize
"""In memory for each image that a table has when a run begins: its hash and its part."""


@dataclass(frozen=True)
class Kept:
    """What keeping the rows of a run took."""

    engine: str
    images: int
    """That the seconds are of."""
    batch: int
    seconds: float
    core_seconds: float
    """Of the process that keeps them."""
    row_bytes: float
    """In the parts, per row."""
    sent_bytes: float
    """To a worker, per image."""
    answer_bytes: float
    """From a worker, per image."""

    @property
    def core_ms(self) -> float:
        """Per 1,000 images."""
        return 1e6 * self.core_seconds / self.images

    @property
    def rate(self) -> float:
        """Images per second of one core of the process."""
        return self.images / self.core_seconds


class Ready:
    """Rows that are made beforehand, as a model would make them: of random faces and scores."""

    def __init__(self, settings: Settings, bundle: Bundle) -> None:
        plan = settings.open(bundle)
        rng = np.random.default_rng(0)
        raw = {
            output.tensor: rng.normal(size=(READY, max(1, len(output.classes)))).astype(np.float32)
            for output in plan.outputs
        }
        boxes = rng.uniform(0, 400, (READY, 5))
        images = [
            CroppedImage("", "", OK, None, 400, 400, (Face(*map(float, box)),), ()) for box in boxes
        ]
        labels = {name: [None] * READY for name in settings.schema.names if "_true" in name}
        scores = scores_of(raw, plan.outputs, plan.age_bins)
        self._rows = to_arrow(images, scores, plan.tasks, labels, plan.schema)
        self._next = 0

    def rows_of(self, chunk: Chunk) -> pa.Table:
        """Rows of a chunk."""
        if self._next + len(chunk) > READY:
            self._next = 0
        table = self._rows.take(np.arange(self._next, self._next + len(chunk)))
        self._next += len(chunk)
        names = [ref.name for ref in chunk.images]
        hashes = [hashlib.sha256(name.encode()).hexdigest() for name in names]
        own = {"image": names, "sha256": hashes, **chunk.extra}
        for name, values in own.items():
            place = table.schema.get_field_index(name)
            column = pa.array(values, table.schema.field(name).type)
            table = table.set_column(place, table.schema.field(name), column)
        return table


@dataclass
class Stopwatch:
    """From the opening of the source until all rows are kept, but for the start of an engine.

    And sizes of what travels.
    """

    begun: float = 0.0
    core_begun: float = 0.0
    seconds: float = 0.0
    core_seconds: float = 0.0
    before: int = 0
    """Images that were given to the engine while the watch stood still."""
    sent: int = 0
    answered: int = 0

    def start(self) -> None:
        self.begun, self.core_begun = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.seconds += time.perf_counter() - self.begun
        self.core_seconds += time.process_time() - self.core_begun


def ready_engine(watch: Stopwatch) -> Any:
    """An engine whose rows are ready; it gives them in this process."""

    class ReadyEngine(LocalEngine):
        def __init__(self, settings: Settings, bundle: Bundle, workers: int | None) -> None:
            watch.stop()
            super().__init__(settings, bundle, workers)
            self._ready = Ready(settings, bundle)
            watch.start()

        def tables(self, chunks: Iterable[Chunk]) -> Generator[pa.Table, None, None]:
            for chunk in chunks:
                table = self._ready.rows_of(chunk)
                if not watch.sent:
                    sent = Chunk(chunk.images, chunk.extra)
                    watch.sent = len(pickle.dumps(sent)) // len(chunk)
                    watch.answered = len(pickle.dumps(table.combine_chunks())) // len(chunk)
                yield table

        def close(self) -> None:
            watch.stop()

    return ReadyEngine


def ray_engine(watch: Stopwatch) -> Any:
    """The engine ``ray``, whose workers have their rows ready."""
    from faceaudit.pipeline.ray_engine import RayEngine
    from faceaudit.pipeline.ray_worker import Scorer

    class ReadyScorer(Scorer):
        def open(self, settings: Settings, witness: Any) -> Any:
            self._ready = Ready(settings, load_bundle(settings.model))
            return super().open(settings, witness)

        def score(self, chunk: Chunk) -> pa.Table:
            return self._ready.rows_of(chunk)

    class ReadyRayEngine(RayEngine):
        scorer = ReadyScorer
        facts: Facts

        def __init__(self, settings: Settings, bundle: Bundle, workers: int | None) -> None:
            watch.stop()
            super().__init__(settings, bundle, workers)

        def tables(self, chunks: Iterable[Chunk]) -> Generator[pa.Table, None, None]:
            given = 0

            def counted() -> Generator[Chunk, None, None]:
                nonlocal given
                for chunk in chunks:
                    given += len(chunk)
                    yield chunk

            waiting = True
            for table in super().tables(counted()):
                if waiting:  # workers are there
                    watch.before = given
                    watch.start()
                    waiting = False
                yield table

        def close(self) -> None:
            watch.stop()
            super().close()

    return ReadyRayEngine


def keep(images: int, batch: int, engine: str) -> Kept:
    """Keep the rows of so many images in a folder of parts."""
    watch = Stopwatch()
    ENGINES["ready"] = (ray_engine if engine == "ray" else ready_engine)(watch)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        for number in range(images):
            place = folder / f"{number // 1000:06d}"
            place.mkdir(parents=True, exist_ok=True)
            name = f"{number % 90}_{number % 2}_{number % 5}_{number:014d}.jpg"
            (place / name).write_bytes(b"a file")
        out = Path(scratch) / "out"
        with mock.patch("faceaudit.pipeline.predict.find_images", partial(_opened, watch)):
            predict(folder, out, detector="whole", engine="ready", batch_size=batch, workers=1)
        size = sum(part.stat().st_size for part in out.glob("part-*.parquet"))
    return Kept(
        engine,
        images - watch.before,
        batch,
        watch.seconds,
        watch.core_seconds,
        size / images,
        watch.sent,
        watch.answered,
    )


def _opened(watch: Stopwatch, source: str | Path) -> ImageSource:
    """A source of images, from whose opening on time counts."""
    watch.start()
    return find_images(source)


def table_of(found: list[Kept]) -> Table:
    """What was measured, a row per engine and batch."""
    return (
        ("rows come from", "images per chunk", "core-ms per 1,000 images", "images/s of one core",
         "bytes per row in the parts"),
        [
            (
                "a worker, by Ray" if kept.engine == "ray" else "this process", str(kept.batch),
                f"{kept.core_ms:.1f}", f"{kept.rate:,.0f}", f"{kept.row_bytes:.0f}",
            )
            for kept in found
        ],
    )  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--ray", action="store_true", help="also by a worker of a local cluster")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    arguments = parser.parse_args()
    engines = ["local", "ray"] if arguments.ray else ["local"]
    found = [keep(arguments.images, batch, one) for one in engines for batch in arguments.batch]
    print(printed([table_of(found)], markdown=arguments.markdown))
    sizes = next(kept for kept in found if kept.sent_bytes)
    print(
        f"\nPer image, {sizes.sent_bytes:.0f} bytes go to a worker and {sizes.answer_bytes:.0f} "
        f"come back; {KNOWN_BYTES} stay in memory for each that a table has when a run begins."
    )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(kept) for kept in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
