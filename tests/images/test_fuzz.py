"""Damaged files end in a status, within bounds of time and memory, and never in a crash."""

from __future__ import annotations

import sys

import pytest

from benchmarks.fuzz import SPECIMENS
from benchmarks.processes import run_alone
from faceaudit.images.decode import decode

CASES = 16
KINDS = sorted({name.split("-")[0] for name in SPECIMENS})


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_end_in_a_status_and_never_in_a_crash(kind: str) -> None:
    names = [name for name in SPECIMENS if name.split("-")[0] == kind]
    run = run_alone(  # a process of its own, so that a crash shows
        [sys.executable, "-m", "benchmarks.fuzz", *names, "--cases", str(CASES), "--trace"],
        timeout=600,
    )
    lines = run.output.splitlines()
    failed = [line for line in lines if line.startswith("FAILED")]
    assert not failed, "\n".join(failed)
    assert run.code == 0, f"exit code {run.code} in or after the case {lines[-1:]}"
    assert lines[-1].startswith("0 failures")


@pytest.mark.parametrize("name", SPECIMENS)
def test_what_is_damaged_is_an_image_as_long_as_it_is_whole(name: str) -> None:
    result = decode(SPECIMENS[name]())
    assert result.status == "ok", result.error
    assert {result.width, result.height} in ({61, 47}, {64, 48})
