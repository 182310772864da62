"""What docs/scale.md says, held against what the benchmarks wrote and the code."""

from __future__ import annotations

import pytest

from benchmarks.scale import keep
from faceaudit.pipeline.jobs import STRIKES
from scripts import scale as document


def test_the_tables_of_the_page_are_current() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert document.filled(text) == text, "run python -m scripts.scale"
    assert f"its worker ended {STRIKES} times" in text


@pytest.mark.parametrize("batch", [64, 300])
def test_the_benchmark_keeps_a_row_of_every_image(batch: int) -> None:
    found = keep(600, batch, "local")
    assert found.core_seconds > 0
    assert 100 < found.row_bytes < 400
    assert 50 < found.sent_bytes < 1000
    assert 100 < found.answer_bytes < 2000
