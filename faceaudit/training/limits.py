"""A training that needs more memory than there is, told in one line."""

from __future__ import annotations

import torch

from faceaudit.errors import FaceauditError, TemporaryError, UsageError
from faceaudit.runtimes.torch_runtime import is_out_of_memory
from faceaudit.training.recipe import Recipe


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
    if "shared memory" in str(error):
        return UsageError(
            "the shared memory that hands batches over was full (in a container: --shm-size); give "
            f"more of it, or {advice}"
        )
    if is_out_of_memory(error):
        return TemporaryError(
            f"the memory was full; run again where more of it is free, or {advice}"
        )
    return None
