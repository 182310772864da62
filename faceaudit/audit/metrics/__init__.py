"""METRICS: what is measured, each a function from counts to values.

A function takes counts whose leading axes (subgroups, blocks, draws, or none) broadcast, and
returns NaN where it is not defined; ``Metric.undefined`` says why. To add a metric, write the
function beside those of its kind (``confusions``, ``ranks``, ``probabilities``), add it to
``METRICS`` in ``registry`` (or both in ``age``), and its reference to ``verify``.
"""

from faceaudit.audit.metrics.confusions import (
    accuracy,
    annotated_faces,
    balanced_accuracy,
    correct_faces,
    f1,
    labelled_faces,
    macro_f1,
    macro_precision,
    precision,
    predicted_faces,
    present_classes,
    recall,
    selection_rate,
)
from faceaudit.audit.metrics.metric import Interval, Metric, Need, Values, ratio
from faceaudit.audit.metrics.probabilities import ece, log_loss
from faceaudit.audit.metrics.ranks import (
    auc,
    auc_bound,
    auc_influence,
    average_precision,
    average_precision_bound,
    curve_influence,
    macro_auc,
)
from faceaudit.audit.metrics.registry import METRICS, NO_SCORES

__all__ = [
    "METRICS",
    "NO_SCORES",
    "Interval",
    "Metric",
    "Need",
    "Values",
    "accuracy",
    "annotated_faces",
    "auc",
    "auc_bound",
    "auc_influence",
    "average_precision",
    "average_precision_bound",
    "balanced_accuracy",
    "correct_faces",
    "curve_influence",
    "ece",
    "f1",
    "labelled_faces",
    "log_loss",
    "macro_auc",
    "macro_f1",
    "macro_precision",
    "precision",
    "predicted_faces",
    "present_classes",
    "ratio",
    "recall",
    "selection_rate",
]
