"""What docs/performance.md says, held against what the benchmarks wrote and the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import predict, predict_gains
from faceaudit.faces import retinaface
from faceaudit.pipeline import checks, crops
from scripts import performance as document


def test_the_tables_of_the_page_are_current() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert document.filled(text) == text, "run python -m scripts.performance"


def test_what_the_page_says_of_sizes_is_so() -> None:
    text = " ".join(document.DOCUMENT.read_text(encoding="utf-8").split())
    for said, value in (
        (f"run and one {predict.TIMES} times as long", 40),
        (f"A chunk is {checks.DEFAULT_BATCH} images", 64),
        (f"{crops.PIXELS_AT_ONCE // 1_000_000} million decoded pixels at most", 24),
        (f"at most {retinaface.WORKING_SIDE} pixels long", 640),
    ):
        assert said in text, value


def test_figures_of_a_run_become_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "RESULTS", tmp_path)
    (tmp_path / "predict.json").write_text(
        '{"machine": "m, 2 cores", "groups": [["9 crops", [[["a", "b"], [["x", "1"]]]]]]}'
    )
    assert document.speed() == "m, 2 cores.\n\n### 9 crops\n\n| a | b |\n| --- | ---: |\n| x | 1 |"


def test_a_gain_is_the_ratio_of_both_ways() -> None:
    slow = predict_gains.core_ms(lambda: sum(range(200_000)))
    fast = predict_gains.core_ms(lambda: sum(range(20_000)))
    assert 4 < slow / fast < 25
    assert predict_gains.core_ms(lambda: sum(range(200_000)), 10) < slow
