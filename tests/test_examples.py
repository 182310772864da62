from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, path, tmp_path / "not" / "there yet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip()
    assert "shape: (0," not in found.stdout  # every question to a table has an answer
    assert len(path.read_text().splitlines()) <= 45


def test_every_example_is_described() -> None:
    text = EXAMPLES[0].with_name("README.md").read_text()
    assert all(f"`{path.name}`" in text for path in EXAMPLES)
