"""A training that needs more memory than there is, told in one line."""

from __future__ import annotations

import errno

import torch

from faceaudit.errors import FaceauditError, TemporaryError, UsageError
from faceaudit.training.recipe import Recipe

SIGNS = ("out of memory", "allocate memory", "alloc_cpu", "bad_alloc")
"""What libraries say by a general type of error when the memory of a CPU is full."""


def out_of_memory(error: Exception, recipe: Recipe, device: str) -> FaceauditError | None:
    """What an error says of a full memory; None where it tells of something else.

    An accelerator has no more memory the next time, a machine that others share may.

    Args:
        error: That a training raised.
        recipe: What was trained.
        device: Where.
    """
    sizes = ", ".join(str(size) for size in sorted({stage.size for stage in recipe.stages}))
    advice = f"lower batch ({recipe.batch}) or the sizes of stages ({sizes})"
    if isinstance(error, torch.OutOfMemoryError):
        return UsageError(f"the memory of {device} was full; {advice}")
    if is_memory(error):
        return TemporaryError(
            f"the memory was full; run again where more of it is free, or {advice}"
        )
    return None


def is_memory(error: Exception) -> bool:
    """Whether an error tells of a memory that was full."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)
    return isinstance(error, MemoryError) or said
