"""Counts of faces by ascending score, others' first, (..., 2, B), to how well scores rank faces."""

from __future__ import annotations

from typing import Any

import numpy as np

from faceaudit.audit.metrics.metric import Values, mean_of_defined, ratio, ratio_or_0


def scored_faces(scores: Any) -> Values:
    """Faces with scores, from (..., 2, B)."""
    return np.asarray(np.asarray(scores).sum(axis=(-2, -1)))


def scored_faces_of_all(scores: Any) -> Values:
    """Faces with scores, from (..., K, 2, B): every class counts the same faces."""
    return np.asarray(scored_faces(scores)[..., 0])


def scored_faces_of_class(scores: Any) -> Values:
    """Faces of each class with scores, from (..., 2, B)."""
    return np.asarray(np.asarray(scores)[..., 1, :].sum(axis=-1))


def auc(scores: Any) -> Values:
    """Chance that a face of the class scores higher than one of another; ties count one half.

    Args:
        scores: Faces by score in ascending bins or values, others' first: (..., 2, B).
    """
    others, own = np.asarray(scores)[..., 0, :], np.asarray(scores)[..., 1, :]
    below = others.cumsum(axis=-1) - others
    # Mann-Whitney: ties count one half.
    wins = (own * (below + others / 2)).sum(axis=-1)
    return ratio(wins, own.sum(axis=-1) * others.sum(axis=-1).astype(np.float64))


def auc_influence(scores: Any) -> Values:
    """How far one more face of each kind and bin moves the AUC, (..., 2, B), from (..., 2, B).

    Source:
        DeLong, DeLong, Clarke-Pearson: Comparing the areas under two or more correlated receiver
        operating characteristic curves, Biometrics 44, 1988 (structural components).
    """
    others, own = np.moveaxis(np.asarray(scores, np.float64), -2, 0)
    faces = others.sum(axis=-1, keepdims=True), own.sum(axis=-1, keepdims=True)
    value = auc(scores)[..., None]
    beaten = ratio(others.cumsum(axis=-1) - others / 2, faces[0])
    beating = 1 - ratio(own.cumsum(axis=-1) - own / 2, faces[1])
    return np.stack([ratio(beating - value, faces[0]), ratio(beaten - value, faces[1])], axis=-2)


def auc_bound(scores: Any) -> Values:
    """How far the AUC of binned scores can be from that of the scores themselves.

    Faces of one bin count as tied; whatever their order, each pair moves by one half at most.

    Args:
        scores: Faces by ascending bin, others' first, (..., 2, B).
    """
    others, own = np.asarray(scores, np.float64)[..., 0, :], np.asarray(scores)[..., 1, :]
    pairs = own.sum(axis=-1) * others.sum(axis=-1)
    return ratio((own * others).sum(axis=-1), 2 * pairs)


def macro_auc(scores: Any) -> Values:
    """Unweighted mean of the one-vs-rest AUC over the classes that have one, (..., K, 2, B)."""
    return mean_of_defined(auc(scores))


def average_precision(scores: Any) -> Values:
    """Precision at the score of each face of the class, averaged over those faces.

    Args:
        scores: Faces by score in ascending bins or values, others' first: (..., 2, B).
    """
    own, found, wrong = _descending(scores)
    precise = ratio_or_0(found, found + wrong)
    return ratio((own * precise).sum(axis=-1), own.sum(axis=-1))


def curve_influence(scores: Any) -> Values:
    """How far one more face of each kind and bin moves the average precision, (..., 2, B).

    A face of the class adds its own precision and raises that of the faces of the class below it; a
    face of another class lowers theirs.

    Args:
        scores: Faces by ascending bin, others' first, (..., 2, B).
    """
    others, own = np.moveaxis(np.asarray(scores, np.float64), -2, 0)
    found, wrong = (part[..., ::-1].cumsum(axis=-1)[..., ::-1] for part in (own, others))
    total = own.sum(axis=-1, keepdims=True)
    precise = ratio_or_0(found, found + wrong)
    squared = np.square(found + wrong)
    raised = ratio_or_0(own * wrong, squared).cumsum(axis=-1)
    lowered = ratio_or_0(own * found, squared).cumsum(axis=-1)
    value = average_precision(scores)[..., None]
    return np.stack([ratio(-lowered, total), ratio(precise - value + raised, total)], axis=-2)


def average_precision_bound(scores: Any) -> Values:
    """How far the average precision of binned scores can be from that of the scores themselves.

    Of the faces in one bin, those of the class come first at best, with one score, and last at
    worst, one after the other.

    Args:
        scores: Faces by ascending bin, others' first, (..., 2, B).
    """
    from scipy.special import digamma

    own, found, wrong = _descending(scores)
    others = np.diff(wrong, axis=-1, prepend=0)
    first = own * ratio_or_0(found, found + wrong - others)
    # The sum of (f + i) / (f + i + wrong) over the faces i of the bin, by harmonic numbers.
    start = found - own + wrong + 1
    last = own - wrong * (digamma(start + own) - digamma(start))
    total, value = own.sum(axis=-1), average_precision(scores)
    best, worst = (ratio(part.sum(axis=-1), total) for part in (first, last))
    return np.maximum(best - value, value - worst)


def macro_average_precision(scores: Any) -> Values:
    """Unweighted mean of the average precision over the annotated classes, (..., K, 2, B)."""
    return mean_of_defined(average_precision(scores))


def _descending(scores: Any) -> tuple[Values, Values, Values]:
    """By descending score: faces of the class, and those of it and of others up to there."""
    others, own = np.moveaxis(np.asarray(scores, np.float64)[..., ::-1], -2, 0)
    return own, own.cumsum(axis=-1), others.cumsum(axis=-1)
