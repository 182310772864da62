"""Counts of annotated by predicted class, (..., K, K), to the figures of a classification."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.metrics.metric import Values, mean_of_defined, ratio


def annotated_faces(confusion: Any) -> Values:
    """Faces annotated as each class, from (..., K, K)."""
    return np.asarray(np.asarray(confusion).sum(axis=-1))


def predicted_faces(confusion: Any) -> Values:
    """Faces predicted as each class, from (..., K, K)."""
    return np.asarray(np.asarray(confusion).sum(axis=-2))


def correct_faces(confusion: Any) -> Values:
    """Faces of each class that are predicted as it, from (..., K, K)."""
    return np.asarray(np.diagonal(confusion, axis1=-2, axis2=-1))


def labelled_faces(confusion: Any) -> Values:
    """All faces, from (..., K, K)."""
    return np.asarray(np.asarray(confusion).sum(axis=(-2, -1)))


def labelled_faces_per_class(confusion: Any) -> Values:
    """All faces, once per class, from (..., K, K)."""
    predicted = predicted_faces(confusion)
    return np.asarray(np.broadcast_to(predicted.sum(axis=-1, keepdims=True), predicted.shape))


def faces_of_others(confusion: Any) -> Values:
    """Faces annotated as another class, per class, from (..., K, K)."""
    return np.asarray(labelled_faces_per_class(confusion) - annotated_faces(confusion))


def present_classes(confusion: Any) -> NDArray[np.bool_]:
    """Which classes are annotated or predicted at all, from (..., K, K)."""
    return np.asarray((annotated_faces(confusion) + predicted_faces(confusion)) > 0)


def accuracy(confusion: Any) -> Values:
    """Share of faces whose predicted class is the annotated one."""
    return ratio(correct_faces(confusion).sum(axis=-1), labelled_faces(confusion))


def recall(confusion: Any) -> Values:
    """Share of the faces annotated as a class that are predicted as it, per class."""
    return ratio(correct_faces(confusion), annotated_faces(confusion))


def balanced_accuracy(confusion: Any) -> Values:
    """Unweighted mean of recall over the annotated classes."""
    return mean_of_defined(recall(confusion))


def precision(confusion: Any) -> Values:
    """Share of the faces predicted as a class that are annotated as it, per class."""
    return ratio(correct_faces(confusion), predicted_faces(confusion))


def macro_precision(confusion: Any, present: Any | None = None) -> Values:
    """Unweighted mean of precision over the classes that are annotated or predicted at all.

    A class that is annotated and never predicted counts 0, as in scikit-learn.

    Args:
        confusion: Counts, (..., K, K).
        present: Which classes to average, (K,); None takes those present in the counts.
    """
    present = present_classes(confusion) if present is None else present
    return mean_of_defined(np.nan_to_num(precision(confusion)), present)


def f1(confusion: Any) -> Values:
    """Harmonic mean of precision and recall, per class; 0 where no face of it is found."""
    both = annotated_faces(confusion) + predicted_faces(confusion)
    return ratio(2 * correct_faces(confusion), both)


def macro_f1(confusion: Any, present: Any | None = None) -> Values:
    """Unweighted mean of F1 over the classes that are annotated or predicted at all.

    Args:
        confusion: Counts, (..., K, K).
        present: Which classes to average, (K,); None takes those present in the counts. Replicates
            of a table average the classes of the table.
    """
    return mean_of_defined(f1(confusion), present)


def false_positive_rate(confusion: Any) -> Values:
    """Share of the faces annotated as another class that are predicted as a class, per class."""
    wrong = predicted_faces(confusion) - correct_faces(confusion)
    return ratio(wrong, faces_of_others(confusion))


def selection_rate(confusion: Any) -> Values:
    """Share of labeled faces that are predicted as a class, per class."""
    return ratio(predicted_faces(confusion), labelled_faces(confusion)[..., None])
