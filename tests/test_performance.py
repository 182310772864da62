"""What docs/performance.md says, held against what the benchmarks wrote and the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import predict, predict_gains
from faceaudit.faces import retinaface
from faceaudit.pipeline import checks, crops
from scripts import performance as document
from scripts import readme


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


def test_what_is_said_of_the_size_that_retina_face_sees_is_so() -> None:
    preprocess = pytest.importorskip("retinaface.commons.preprocess")
    sizes = {}
    for height, width in ((2000, 3000), (1000, 4000), (4000, 4000)):
        image = np.zeros((height, width, 3), np.uint8)
        sizes[height, width] = preprocess.preprocess_image(image, allow_upscaling=False)[1]
    assert max(min(size) for size in sizes.values()) == 1024
    assert max(max(size) for size in sizes.values()) == 1980
    for page in (document.DOCUMENT, readme.README):
        text = page.read_text(encoding="utf-8")
        assert all(part in text for part in ("1,024", "1,980", str(retinaface.WORKING_SIDE))), page


def test_what_is_said_of_precisions_is_made_of_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "RESULTS", tmp_path)
    cost = {"float32, ONNX Runtime": 2.0, "int8, ONNX Runtime": 3.0, "float32, torch": 4.0}
    (tmp_path / "precision.json").write_text(
        json.dumps(
            {
                "machine": "m, 2 cores",
                "versions": {"torch": "9.1"},
                "models": {"one": {"cost": cost, "settings": {"as it is": 2.0}}},
            }
        )
    )
    said = document.precision()
    assert said.startswith("m, 2 cores; torch 9.1.")
    assert "| int8, ONNX Runtime | 3.00 ms |" in said
    assert "- int8, ONNX Runtime takes 150% (`one`) of the time of float32, ONNX Runtime." in said
    assert "OpenVINO" not in said
    assert "| as it is | 2 ms |" in document.settings()


def test_no_figure_of_precisions_stands_outside_the_tables() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    section = text.partition("## Precision")[2].partition("## Which limit")[0]
    written = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", section, flags=re.DOTALL)
    assert not re.findall(r"[\d.]+ ms|half of float32|half as fast|no faster than torch", written)


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
