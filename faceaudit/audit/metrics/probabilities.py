"""Sums of losses, and faces by confidence, to how far scores are probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from faceaudit.audit.metrics.metric import Values, ratio


def faces_with_losses(losses: Any) -> Values:
    """Annotated faces with scores, from (..., 5)."""
    return np.asarray(np.asarray(losses)[..., 0])


def log_loss(losses: Any) -> Values:
    """Mean of minus the logarithm of the annotated class's probability, from (..., 5)."""
    losses = np.asarray(losses)
    return ratio(losses[..., 1], losses[..., 0])


def squared_log_loss(losses: Any) -> Values:
    """Mean square of what the log loss averages, from (..., 5)."""
    losses = np.asarray(losses)
    return ratio(losses[..., 2], losses[..., 0])


def brier(losses: Any) -> Values:
    """Mean of half the squared distance from the probabilities to the annotated class, (..., 5)."""
    losses = np.asarray(losses)
    return ratio(losses[..., 3], losses[..., 0])


def squared_brier(losses: Any) -> Values:
    """Mean square of what the Brier score averages, from (..., 5)."""
    losses = np.asarray(losses)
    return ratio(losses[..., 4], losses[..., 0])


def faces_with_confidence(calibration: Any) -> Values:
    """Annotated faces with scores, from (..., bins, 3)."""
    return np.asarray(np.asarray(calibration)[..., 0].sum(axis=-1))


def ece(calibration: Any) -> Values:
    """Root mean square of confidence minus share of right predictions, over bins of confidence.

    The chance in small bins makes that look larger than it is; what it adds on average is taken
    off. What would be negative then is 0. Bins of a single face do not count.

    Args:
        calibration: Faces, sum of confidence and right predictions by bin, (..., bins, 3).

    Source:
        Kumar, Liang, Ma: Verified uncertainty calibration, NeurIPS 2019 (debiased estimator, after
        Brocker 2012 and Ferro and Fricker 2012); the confidence is the highest probability.
    """
    faces, confidence, right = np.moveaxis(np.asarray(calibration, np.float64), -1, 0)
    counted = np.where(faces > 1, faces, 0)
    share = ratio(right, counted)
    chance = ratio(share * (1 - share), counted - 1)
    squares = np.nan_to_num(np.square(ratio(confidence - right, counted)) - chance)
    return np.sqrt(np.maximum(ratio((counted * squares).sum(axis=-1), counted.sum(axis=-1)), 0))
