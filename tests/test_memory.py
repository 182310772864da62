"""How the process holds its memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, resource, numpy as np
from faceaudit.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(8_000_000)
begun = faults()
for _ in range(10):
    np.ones(8_000_000)  # 64 MB
print(faults() - begun)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_a_large_block_is_taken_from_the_system_once() -> None:
    def faults(way: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, way], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert faults("keep") < 0.05 * faults("leave")
