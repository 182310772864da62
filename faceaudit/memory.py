"""How the process holds its memory."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let the C library keep large blocks that are freed, for those that are asked for next.

    A network's activations are many megabytes and live for a moment. By default each is taken from
    the system and given back to it, which fills it with zeros again: a quarter of the processor
    time of a training. The process keeps its peak memory from then on.

    Returns:
        Whether it could be set: with glibc alone.

    Source:
        mallopt(3), Linux man-pages.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
