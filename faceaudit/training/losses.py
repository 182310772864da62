"""Losses: one per kind of head, each ignoring faces without the label it needs.

A label is a set of classes: one class where the annotation is as fine as the head, several where it
is coarser (another scheme, a wider age group). A set trains the sum of its classes' probabilities.

Every loss is a mean over faces: over those of the batch that have the label, or over a number that
is given. Processes that share a batch each divide by an equal share of all faces with the label.
"""

from __future__ import annotations

import torch
from torch import Tensor


def set_loss(
    logits: Tensor, allowed: Tensor, label_smoothing: float = 0.0, faces: float | None = None
) -> Tensor:
    """Mean negative log-probability of the classes that a label allows.

    For sets of one class this is cross-entropy.

    Args:
        logits: Shape (N, K).
        allowed: Which classes the label of each face stands for, (N, K) bool; a face whose row
            is all False has no label and does not count.
        label_smoothing: Share of probability spread over all classes, 0 to 1.
        faces: What the sum over faces is divided by; by default how many have a label.
    """
    known = allowed.any(dim=1)
    logs = logits[known].log_softmax(dim=1)
    within = logs.masked_fill(~allowed[known], float("-inf")).logsumexp(dim=1)
    each = (1 - label_smoothing) * within + label_smoothing * logs.mean(dim=1)
    return -_mean(each, faces)


def classes_between(low: Tensor, high: Tensor, bounds: Tensor) -> Tensor:
    """Classes of age that a face may belong to, (N, K) bool; all False where it is not known.

    Args:
        low: First possible year of each face (N,); negative where the age is unknown.
        high: Last possible year (N,), included.
        bounds: First year of each class, ascending, (K,); the last class has no end.
    """
    ends = torch.cat([bounds[1:] - 1, bounds.new_full((1,), 1000)])
    inside = (ends >= low[:, None]) & (bounds <= high[:, None])
    return inside & (low >= 0)[:, None]


def roughness(logits: Tensor, faces: float | None = None) -> Tensor:
    """Sum of squared second differences of the logits of neighboring years, averaged over faces.

    Without it, years within an annotated group would be arbitrary.

    Args:
        logits: Shape (N, K).
        faces: What the sum over faces is divided by; by default N.
    """
    return _mean(logits.diff(n=2, dim=1).square().sum(dim=1), faces)


def distillation_loss(
    logits: Tensor, teachers_logits: Tensor, temperature: float, faces: float | None = None
) -> Tensor:
    """Mean cross-entropy of softened probabilities with the teachers', times temperature squared.

    The square keeps the size of the gradient at any temperature.

    Args:
        logits: Of the network that learns, (N, K).
        teachers_logits: What it learns from, (N, K).
        temperature: Divides the logits of both; above 0.
        faces: What the sum over faces is divided by; by default N.

    Source:
        Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, section 2.
    """
    wanted = (teachers_logits / temperature).softmax(dim=1)
    logs = (logits / temperature).log_softmax(dim=1)
    return -(temperature**2) * _mean((wanted * logs).sum(dim=1), faces)


def value_loss(
    values: Tensor, low: Tensor, high: Tensor, scale: float, faces: float | None = None
) -> Tensor:
    """Mean squared distance from the years in which an age may lie, in units of ``scale``.

    For an exact age this is the mean squared error of age / ``scale``.

    Args:
        values: Predicted ages divided by ``scale``, (N, 1).
        low: First possible year (N,); negative where the age is unknown.
        high: Last possible year (N,), included.
        scale: Years.
        faces: What the sum over faces is divided by; by default how many have an age.
    """
    known = low >= 0
    years = values[known, 0] * scale
    outside = (low[known] - years).clamp(min=0) + (years - high[known]).clamp(min=0)
    return _mean((outside / scale).square(), faces)


def _mean(values: Tensor, faces: float | None) -> Tensor:
    """Sum of values (N,) by a number of faces, or by N; 0 where there are none."""
    return values.sum() / (faces or max(1, len(values)))
