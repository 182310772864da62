"""What docs/jobs.md shows can be used as it stands."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from faceaudit.jobs.job import read_job

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_job_is_one(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(block("toml"), encoding="utf-8")
    job = read_job(tmp_path / "job.toml", dt.date(2026, 3, 2))
    assert [step.kind.name for step in job.steps] == ["predict", "tally", "report", "check"]
    assert job.steps[0].options["out"] == "nights/2026-03-01.parquet"
    assert job.steps[2].earlier == "baseline"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    unit = re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", block("ini"))
    (tmp_path / "faces.service").write_text(unit, encoding="utf-8")
    found = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "faces.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "faces.service" not in found.stderr
    assert found.returncode == 0, found.stderr
