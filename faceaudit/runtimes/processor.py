"""What the processor can compute."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
INT8 = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})
"""What /proc/cpuinfo calls the instructions, of x86 and of Arm."""


def has_instructions(names: Set[str]) -> bool:
    """Whether the processor has any of these instructions; True where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return True
    flags = [line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features"))]
    return not flags or bool(names & set(flags[0].split()))
