"""Commands in processes of their own, whose peak memory is theirs alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LAUNCHER = """
import json, os, sys, time
begun = time.perf_counter()
_, status, used = os.wait4(os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ), 0)
seconds = time.perf_counter() - begun
code, core_seconds = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
print("\\n" + json.dumps([code, seconds, core_seconds, used.ru_maxrss]))
"""
"""Runs a command from a small process: the peak of a new process begins with that of the one that
starts it, so that a large one's would count as the command's."""
PER_MB = 1024 if sys.platform.startswith("linux") else 1024 * 1024
"""Of what the system counts peaks in."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    output: str
    """What it printed."""
    seconds: float
    core_seconds: float
    peak_mb: float


def run_alone(
    command: Sequence[str], env: Mapping[str, str] | None = None, *, timeout: float | None = None
) -> Ended:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        env: Variables; None is those of ``environment``.
        timeout: Seconds after which it is given up.
    """
    answer = subprocess.run(
        [sys.executable, "-c", LAUNCHER, *command],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=timeout,
        env=environment() if env is None else env,
    )
    output, _, last = answer.stdout.rstrip("\n").rpartition("\n")
    code, seconds, core_seconds, peak = json.loads(last)
    return Ended(code, output, seconds, core_seconds, peak / PER_MB)


def output_of(command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What a command prints that is run in this way; one that fails ends the benchmark."""
    ended = run_alone(command, env)
    if ended.code:
        raise SystemExit(f"{' '.join(command)}: ended with {ended.code}")
    return ended.output


def peak_mb() -> float:
    """The most memory that this process had, in MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / PER_MB


def environment() -> dict[str, str]:
    """Variables of a process that is to find the modules that this one finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
