"""Learning rates and input sizes over a training: a recipe's stages and schedule."""

from __future__ import annotations

import math

from faceaudit.training.recipe import Recipe


def rate_at(recipe: Recipe, epoch: int, share: float) -> float:
    """Learning rate as a share of its peak at a moment of a training.

    Args:
        recipe: Whose stages make the cycles.
        epoch: Epochs finished.
        share: Share of the running epoch's steps done, 0 to 1.
    """
    begin = end = 0  # epochs of the cycle that holds this one
    peak = 1.0
    for stage in recipe.stages:
        if stage.restart or end == 0:
            if end > epoch:
                break
            begin, peak = end, stage.rate
        end += stage.epochs
    done = (epoch - begin + share) / (end - begin)
    schedule = recipe.schedule
    if schedule.kind == "cosine":
        return peak * rate_factor(done, schedule.warmup)
    if done < schedule.warmup:
        return peak * done / schedule.warmup
    if schedule.kind == "step":
        return float(peak * schedule.factor ** ((epoch - begin) // schedule.every))
    if schedule.kind == "exponential":
        return float(peak * schedule.factor ** max(0, epoch - begin + 1 - schedule.after))
    return peak


def rate_factor(done: float, warmup: float) -> float:
    """Learning rate as a share of its peak: linear warm-up, then half a cosine to zero.

    Args:
        done: Share of all steps done, 0 to 1.
        warmup: Share of all steps that warm up.
    """
    if done < warmup:
        return done / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def stage_sizes(recipe: Recipe) -> list[int]:
    """Input size of every epoch, in pixels."""
    return [stage.size for stage in recipe.stages for _ in range(stage.epochs)]
