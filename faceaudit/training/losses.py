"""Losses: one per kind of head, each ignoring faces without the label it needs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def class_loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the faces with a label.

    Args:
        logits: Shape (N, K).
        labels: Class indices (N,); negative where unknown.
        label_smoothing: Share of probability spread over all classes, 0 to 1.
    """
    known = labels >= 0
    if not bool(known.any()):
        return logits.sum() * 0.0
    return functional.cross_entropy(logits[known], labels[known], label_smoothing=label_smoothing)


def years_loss(logits: Tensor, low: Tensor, high: Tensor, smoothness: float = 0.0) -> Tensor:
    """Mean negative log-likelihood of an age known to lie between two years.

    An exact age is an interval of one year; a group trains the sum of its years' probabilities
    (interval censoring). ``smoothness`` weighs the mean squared second difference of the logits,
    without which years within a group would be arbitrary.

    Args:
        logits: Over the years 0, 1, ...; shape (N, Y).
        low: First possible year (N,); negative where the age is unknown.
        high: Last possible year (N,), included.
        smoothness: Weight of the penalty, at least 0.
    """
    known = low >= 0
    if not bool(known.any()):
        return logits.sum() * 0.0
    logits, low, high = logits[known], low[known], high[known]
    years = torch.arange(logits.shape[1], device=logits.device)  # (Y,)
    inside = (years >= low[:, None]) & (years <= high[:, None])  # (N, Y)
    total = torch.logsumexp(logits, dim=1)
    within = torch.logsumexp(logits.masked_fill(~inside, float("-inf")), dim=1)
    loss = (total - within).mean()
    if smoothness:
        loss = loss + smoothness * logits.diff(n=2, dim=1).square().sum(dim=1).mean()
    return loss
