"""Tables that are good but for one thing, and ``faceaudit report`` on them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceaudit import cli
from faceaudit.reporting import report

ROWS = 40
TRUE, PRED = ["Male", "Female"] * 20, ["Male", "Male", "Female", "Female"] * 10
GENDER: dict[str, Any] = {
    "image": [f"{index}.jpg" for index in range(ROWS)],
    "gender_true": TRUE,
    "gender_pred": PRED,
}
SCORES: dict[str, Any] = {"gender_prob_Male": [0.6] * ROWS, "gender_prob_Female": [0.4] * ROWS}
AGES: dict[str, Any] = {"age_true": [30.0] * ROWS, "age_pred": [32.0] * ROWS}


def repeated(*values: Any) -> list[Any]:
    return list(values) * (ROWS // len(values))


def typed(values: list[Any], dtype: Any) -> pl.Series:
    return pl.Series(values, dtype=dtype)


@pytest.fixture
def run_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """``faceaudit report`` in this process: its exit code and what it wrote to stderr."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["faceaudit", "report", *map(str, arguments)])
        try:
            cli.main()
            code: Any = 0
        except SystemExit as done:
            code = done.code or 0
        return int(code), capsys.readouterr().err

    return run


def assert_one_line(found: tuple[int, str], message: str, folder: Path) -> None:
    code, stderr = found
    assert code == 2, stderr
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("Error: ")
    assert message in lines[0]
    assert not list(folder.rglob("*.html"))


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pl.DataFrame({**GENDER, **AGES}).to_arrow(), sink)
    found: bytes = sink.getvalue().to_pybytes()
    return found


def refuse_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} in the JSON")


def facts_of(table: Path, **options: Any) -> dict[str, Any]:
    """The JSON of a quick report, in which nothing is NaN or infinite."""
    files = report(table, replicates=100, **{"formats": ["json"], **options})
    text = files.paths[-1].read_text()
    found: dict[str, Any] = json.loads(text, parse_constant=refuse_constant)
    for one in found["metrics"]:
        assert one["value"] is not None or one["reason"], one
    return found


def figures(table: Path, **options: Any) -> dict[tuple[str, str, str | None], float | None]:
    """Overall values of a quick report."""
    return {
        (one["task"], one["metric"], one.get("class")): one["value"]
        for one in facts_of(table, **options)["metrics"]
        if not one["subgroup"]
    }
