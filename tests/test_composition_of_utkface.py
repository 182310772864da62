"""What docs/composition.md says of UTKFace, held against the benchmark and the bundle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from benchmarks.composition_of_utkface import by_validation
from faceaudit.showcase.run import PREDICTIONS
from scripts import composition as document

RERUN = "run the commands at the top of scripts/composition.py"


def test_the_page_is_what_the_benchmark_wrote() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert document.filled(text) == text, RERUN


def test_the_figures_are_of_the_shipped_predictions(tmp_path: Path) -> None:
    written = document.found()
    assert written["sha256"] == hashlib.sha256(PREDICTIONS.read_bytes()).hexdigest(), RERUN
    now = by_validation(tmp_path)

    def alike(one: float | None, other: float | None, **within: float) -> bool:
        return one is other or (None not in (one, other) and one == pytest.approx(other, **within))

    for one, before in zip(now["tests"], written["tests"], strict=True):
        assert alike(one["p_value"], before["p_value"], rel=0.01), RERUN
    for one, before in zip(now["shares"], written["shares"], strict=True):
        assert (one["task"], one["label"]) == (before["task"], before["label"])
        for kind in ("predicted", "corrected", "em"):
            for name, value in one[kind].items():
                assert alike(value, before[kind][name], abs=1e-4), RERUN


def share(label: str, annotated: float, low: float | None, high: float | None) -> dict[str, object]:
    value = None if low is None or high is None else (low + high) / 2
    return {
        "task": "race", "label": label, "annotated": annotated,
        "predicted": {"value": 0.3, "low": 0.2, "high": 0.4},
        "corrected": {"value": value, "low": low, "high": high},
        "em": {"value": None, "low": None, "high": None},
    }  # fmt: skip


def test_a_wrong_share_without_a_warning_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(p: float, *shares: dict[str, object]) -> str:
        facts = {"shares": shares, "tests": [{"task": "race", "p_value": p}]}
        (tmp_path / "found.json").write_text(json.dumps(facts))
        document.found.cache_clear()
        return document.caution()

    monkeypatch.setattr(document, "RESULT", tmp_path / "found.json")
    right, wrong = share("Black", 0.2, 0.1, 0.3), share("White", 0.42, 0.45, 0.55)
    try:
        silent = said(0.5, right, wrong)
        assert "p = 0.5, and the page gives **no warning** of it" in silent
        assert "miss the annotated share of White (50.0% (45.0% to 55.0%)" in silent
        assert "Black" not in silent
        assert "the page warns. All corrected intervals hold" in said(1e-9, right)
        assert said(0.5, share("White", 0.4, None, None)).startswith("- Null")
    finally:
        document.found.cache_clear()
