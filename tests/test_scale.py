"""What docs/scale.md says, held against what the benchmarks wrote and the code."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import pytest

from benchmarks import scale
from benchmarks.scale import keep
from faceaudit.pipeline.jobs import STRIKES
from scripts import scale as document


def test_the_tables_of_the_page_are_current() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert document.filled(text) == text, "run python -m scripts.scale"
    assert f"its worker ended {STRIKES} times" in text
    assert "until it exits with 0, or with 4" in " ".join(text.split())


@pytest.mark.parametrize("batch", [64, 300])
def test_the_benchmark_keeps_a_row_of_every_image(batch: int) -> None:
    found = keep(600, batch, "local")
    assert found.core_seconds > 0
    assert 100 < found.row_bytes < 400
    assert 50 < found.sent_bytes < 1000
    assert 100 < found.answer_bytes < 2000


def test_the_benchmark_counts_the_work_before_the_first_rows_but_not_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def busy(times: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def slowed(*given: Any, **named: Any) -> Any:
            begun = time.process_time()
            while time.process_time() - begun < times:
                pass
            return function(*given, **named)

        return slowed

    plain = keep(600, 64, "local").core_seconds
    module = importlib.import_module("faceaudit.pipeline.predict")
    monkeypatch.setattr(scale.Ready, "__init__", busy(3, scale.Ready.__init__))
    monkeypatch.setattr(module, "labels_of", busy(1, module.labels_of))
    assert 0.8 < keep(600, 64, "local").core_seconds - plain < 2


def test_images_that_ray_is_given_before_the_clock_runs_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Instant:
        def __init__(self, settings: Any, bundle: Any, workers: Any) -> None: ...

        def tables(self, chunks: Iterable[Any]) -> Iterator[int]:
            waiting = list(islice(chunks, 3))
            yield from (len(chunk) for chunk in waiting)
            yield from (len(chunk) for chunk in chunks)

        def close(self) -> None: ...

    pytest.importorskip("ray")
    monkeypatch.setattr("faceaudit.pipeline.ray_engine.RayEngine", Instant)
    watch = scale.Stopwatch()
    watch.start()
    engine = scale.ray_engine(watch)(None, None, 1)
    assert list(engine.tables([range(64)] * 5)) == [64] * 5
    assert watch.before == 3 * 64
