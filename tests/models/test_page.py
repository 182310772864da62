"""docs/models.md: what it shows runs, and it has every key."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from faceaudit.models.bundle import bundle_from_facts
from faceaudit.models.facts import ACTIVATIONS, KEYS
from faceaudit.schema import AGE_BINS, SCHEMES
from faceaudit.showcase.images import write_specimens

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_sidecar_of_the_page_has_every_key_and_can_be_read() -> None:
    facts = json.loads(blocks("json")[0])
    bundle = bundle_from_facts(facts, Path("theirs.onnx"))
    assert [task.name for task in bundle.tasks] == ["race", "gender", "age"]
    for place, keys in KEYS.items():
        found = set().union(*facts["tasks"]) if place == "tasks" else set(facts.get(place, facts))
        assert found == set(keys), place


def test_the_page_explains_every_key_activation_and_scheme() -> None:
    for place, keys in KEYS.items():
        for key in keys:
            name = f"{place}.{key}".lstrip(".")
            inner = place == "" and key in KEYS
            assert f"`{name}`" in PAGE or (inner and f"`{name}." in PAGE), name
    for name in (*ACTIVATIONS, *SCHEMES, *AGE_BINS):
        assert f"`{name}`" in PAGE, name


@pytest.mark.slow
def test_the_network_of_the_page_runs_and_its_export_says_the_same(tmp_path: Path) -> None:
    write_specimens(tmp_path / "photos")
    (tmp_path / "faces.py").write_text(blocks("python")[0])
    for line in blocks("bash")[0].splitlines():
        command = [sys.executable, "-m", "faceaudit.cli", *line.split()[1:]]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    ours, exported = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("out", "again"))
    assert ours["age_pred"].null_count() == 4  # no face, and three files that are no image
    for name in ("image", "status", "race_pred", "gender_pred", "age_group_pred"):
        assert ours[name].equals(exported[name]), name
    assert (ours["age_pred"] - exported["age_pred"]).abs().max() < 1e-3
    assert (tmp_path / "out.html").is_file()
