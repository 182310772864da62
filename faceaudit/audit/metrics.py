"""METRICS: what is measured, each a function from counts to values.

A function takes counts whose leading axes (subgroups, blocks, draws, or none) broadcast, and
returns NaN where it is not defined; ``Metric.undefined`` says why. To add a metric, write the
function, add it to ``METRICS`` here or to ``AGE_METRICS`` in ``age``, and its reference in
``verify``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Need = Literal[
    "classes", "groups", "scores", "losses", "calibration", "years", "ages", "images", "predicted"
]
Interval = Literal[
    "share",
    "overlap",
    "classes",
    "mean_of_classes",
    "rank",
    "curve",
    "mean",
    "positive",
    "root",
    "steps",
    "signed_steps",
    "calibration",
]
"""Kinds of intervals: see ``bounds.BOUNDS``."""
SYMMETRIC: frozenset[Interval] = frozenset({"mean", "signed_steps"})
"""Kinds of intervals that are as long below the figure as above, but where cut at a limit."""


@dataclass(frozen=True)
class Metric:
    """A metric: its function, its direction, and what a reader must know of it."""

    name: str
    title: str
    definition: str
    """One sentence: what the figure is."""
    source: str
    function: Callable[..., Values]
    faces: Callable[[Any], Values]
    """Counts to the number of faces behind the value."""
    undefined: str
    """Why the value is not defined, where it is not."""
    needs: Need = "classes"
    """What it is computed from, by the name of what the tally counts."""
    interval: Interval = "share"
    better: Literal["higher", "lower", "zero", "neither"] = "higher"
    unit: Literal["share", "score", "nats", "groups", "years"] = "share"
    per_class: bool = False
    within_own_class: bool = True
    """Whether it has a meaning among faces of a single annotated class of its own task."""
    incomparable: str | None = None
    """Why nothing is claimed of differences in it, where nothing is."""
    second_moment: Callable[[Any], Values] | None = None
    """Counts to the mean square of what a ``mean``, ``positive`` or ``root`` metric averages."""
    mean_of: str = ""
    """The metric per class whose unweighted mean over the classes it is."""
    marks: Callable[[], Any] | None = None
    """Of a share of ``ages``: the years of the faces that count and of those that are hits, each
    (AGE_YEARS, AGE_YEARS), true or false. It can then be had without tables of all years."""

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest possible value."""
        if self.unit in {"share", "score"}:
            return 0.0, 1.0
        return (-np.inf if self.better == "zero" else 0.0), np.inf


def ratio(part: Any, whole: Any) -> Values:
    """``part / whole``; NaN where ``whole`` is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole != 0, part / whole, np.nan))


def ratio_or_0(part: Any, whole: Any) -> Values:
    """``part / whole``; 0 where ``whole`` is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(whole != 0, part / whole, 0.0))


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


def mean_of_defined(values: Any, counted: Any | None = None) -> Values:
    """Mean over the last axis of the values that are not NaN, or of those that are counted."""
    chosen = ~np.isnan(values) if counted is None else np.asarray(counted)
    return ratio(np.where(chosen, values, 0).sum(axis=-1), chosen.sum(axis=-1))


def accuracy(confusion: Any) -> Values:
    """Share of faces whose predicted class is the annotated one."""
    return ratio(correct_faces(confusion).sum(axis=-1), labelled_faces(confusion))


def recall(confusion: Any) -> Values:
    """Share of the faces annotated as a class that are predicted as it, per class."""
    return ratio(correct_faces(confusion), annotated_faces(confusion))


def precision(confusion: Any) -> Values:
    """Share of the faces predicted as a class that are annotated as it, per class."""
    return ratio(correct_faces(confusion), predicted_faces(confusion))


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


def balanced_accuracy(confusion: Any) -> Values:
    """Unweighted mean of recall over the annotated classes."""
    return mean_of_defined(recall(confusion))


def macro_precision(confusion: Any, present: Any | None = None) -> Values:
    """Unweighted mean of precision over the classes that are annotated or predicted at all.

    A class that is annotated and never predicted counts 0, as in scikit-learn.

    Args:
        confusion: Counts, (..., K, K).
        present: Which classes to average, (K,); None takes those present in the counts.
    """
    present = present_classes(confusion) if present is None else present
    return mean_of_defined(np.nan_to_num(precision(confusion)), present)


def false_positive_rate(confusion: Any) -> Values:
    """Share of the faces annotated as another class that are predicted as a class, per class."""
    wrong = predicted_faces(confusion) - correct_faces(confusion)
    return ratio(wrong, faces_of_others(confusion))


def faces_of_others(confusion: Any) -> Values:
    """Faces annotated as another class, per class, from (..., K, K)."""
    return np.asarray(labelled_faces_per_class(confusion) - annotated_faces(confusion))


def selection_rate(confusion: Any) -> Values:
    """Share of labeled faces that are predicted as a class, per class."""
    return ratio(predicted_faces(confusion), labelled_faces(confusion)[..., None])


def present_classes(confusion: Any) -> NDArray[np.bool_]:
    """Which classes are annotated or predicted at all, from (..., K, K)."""
    return np.asarray((annotated_faces(confusion) + predicted_faces(confusion)) > 0)


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


def macro_auc(scores: Any) -> Values:
    """Unweighted mean of the one-vs-rest AUC over the classes that have one, (..., K, 2, B)."""
    return mean_of_defined(auc(scores))


def auc_bound(scores: Any) -> Values:
    """How far the AUC of binned scores can be from that of the scores themselves.

    Faces of one bin count as tied; whatever their order, each pair moves by one half at most.

    Args:
        scores: Faces by ascending bin, others' first, (..., 2, B).
    """
    others, own = np.asarray(scores, np.float64)[..., 0, :], np.asarray(scores)[..., 1, :]
    pairs = own.sum(axis=-1) * others.sum(axis=-1)
    return ratio((own * others).sum(axis=-1), 2 * pairs)


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


def macro_average_precision(scores: Any) -> Values:
    """Unweighted mean of the average precision over the annotated classes, (..., K, 2, B)."""
    return mean_of_defined(average_precision(scores))


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


def _descending(scores: Any) -> tuple[Values, Values, Values]:
    """By descending score: faces of the class, and those of it and of others up to there."""
    others, own = np.moveaxis(np.asarray(scores, np.float64)[..., ::-1], -2, 0)
    return own, own.cumsum(axis=-1), others.cumsum(axis=-1)


def scored_faces_of_class(scores: Any) -> Values:
    """Faces of each class with scores, from (..., 2, B)."""
    return np.asarray(np.asarray(scores)[..., 1, :].sum(axis=-1))


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


def faces_with_losses(losses: Any) -> Values:
    """Annotated faces with scores, from (..., 5)."""
    return np.asarray(np.asarray(losses)[..., 0])


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


def faces_with_confidence(calibration: Any) -> Values:
    """Annotated faces with scores, from (..., bins, 3)."""
    return np.asarray(np.asarray(calibration)[..., 0].sum(axis=-1))


def scored_faces(scores: Any) -> Values:
    """Faces with scores, from (..., 2, B)."""
    return np.asarray(np.asarray(scores).sum(axis=(-2, -1)))


def scored_faces_of_all(scores: Any) -> Values:
    """Faces with scores, from (..., K, 2, B): every class counts the same faces."""
    return np.asarray(scored_faces(scores)[..., 0])


NO_FACES = "no face has both an annotated and a predicted class"
NO_SCORES = "no annotated face has scores"
SKLEARN = "scikit-learn, sklearn.metrics.{}"
FAWCETT = "Fawcett: An introduction to ROC analysis, Pattern Recognition Letters 27, 2006"

METRICS: list[Metric] = [
    Metric(
        name="accuracy",
        title="Accuracy",
        definition="Share of faces whose predicted class is the annotated one.",
        source=SKLEARN.format("accuracy_score"),
        function=accuracy,
        faces=labelled_faces,
        undefined=NO_FACES,
    ),
    Metric(
        name="balanced_accuracy",
        title="Balanced accuracy",
        definition="Unweighted mean of recall over the annotated classes.",
        source=SKLEARN.format("balanced_accuracy_score"),
        function=balanced_accuracy,
        faces=labelled_faces,
        undefined=NO_FACES,
        interval="classes",
        mean_of="recall",
        within_own_class=False,
    ),
    Metric(
        name="macro_f1",
        title="Macro F1",
        definition="Unweighted mean of F1 over the classes that are annotated or predicted.",
        source=SKLEARN.format("f1_score(average='macro')"),
        function=macro_f1,
        faces=labelled_faces,
        undefined=NO_FACES,
        interval="classes",
        mean_of="f1",
        unit="score",
        within_own_class=False,
    ),
    Metric(
        name="macro_precision",
        title="Macro precision",
        definition="Unweighted mean of precision over the classes that are annotated or predicted.",
        source=SKLEARN.format("precision_score(average='macro', zero_division=0)"),
        function=macro_precision,
        faces=labelled_faces,
        undefined=NO_FACES,
        interval="classes",
        mean_of="precision",
        unit="score",
        within_own_class=False,
    ),
    Metric(
        name="macro_recall",
        title="Macro recall",
        definition="Unweighted mean of recall over the annotated classes: balanced accuracy.",
        source=SKLEARN.format("recall_score(average='macro', zero_division=nan)"),
        function=balanced_accuracy,
        faces=labelled_faces,
        undefined=NO_FACES,
        interval="classes",
        mean_of="recall",
        within_own_class=False,
    ),
    Metric(
        name="macro_auc",
        title="Macro AUC",
        definition="Unweighted mean of the one-vs-rest AUC over the annotated classes.",
        source=SKLEARN.format("roc_auc_score(multi_class='ovr', average='macro')"),
        function=macro_auc,
        faces=scored_faces_of_all,
        undefined="the scored faces are annotated as fewer than two classes",
        needs="scores",
        interval="mean_of_classes",
        mean_of="auc",
        unit="score",
        within_own_class=False,
    ),
    Metric(
        name="macro_average_precision",
        title="Macro average precision",
        definition="Unweighted mean of the average precision over the annotated classes.",
        source=SKLEARN.format("average_precision_score(average='macro')"),
        function=macro_average_precision,
        faces=scored_faces_of_all,
        undefined=NO_SCORES,
        needs="scores",
        interval="mean_of_classes",
        mean_of="average_precision",
        unit="score",
        within_own_class=False,
    ),
    Metric(
        name="log_loss",
        title="Log loss",
        definition="Mean of minus the natural logarithm of the annotated class's probability.",
        source=SKLEARN.format("log_loss"),
        function=log_loss,
        faces=faces_with_losses,
        undefined=NO_SCORES,
        needs="losses",
        interval="positive",
        better="lower",
        unit="nats",
        within_own_class=False,
        second_moment=squared_log_loss,
    ),
    Metric(
        name="brier",
        title="Brier score",
        definition="Mean of half the squared distance between the probabilities and the annotated "
        "class; from 0 to 1, for two classes the usual squared error.",
        source=SKLEARN.format("brier_score_loss(scale_by_half=True)"),
        function=brier,
        faces=faces_with_losses,
        undefined=NO_SCORES,
        needs="losses",
        interval="positive",
        better="lower",
        unit="score",
        within_own_class=False,
        second_moment=squared_brier,
    ),
    Metric(
        name="ece",
        title="Calibration error",
        definition="Root mean square of confidence minus share of right predictions, over 20 bins "
        "of confidence, less what chance adds in small bins.",
        source="Kumar, Liang, Ma: Verified uncertainty calibration, NeurIPS 2019; "
        + SKLEARN.format("calibration_curve").replace("metrics", "calibration"),
        function=ece,
        faces=faces_with_confidence,
        undefined="no bin of confidence holds two scored faces with annotations",
        needs="calibration",
        interval="calibration",
        better="lower",
        within_own_class=False,
        incomparable="of equally calibrated subgroups the one with fewer faces comes out at 0 more "
        "often, and further off elsewhere",
    ),
    Metric(
        name="f1",
        title="F1",
        definition="Harmonic mean of the precision and the recall of a class.",
        source=SKLEARN.format("f1_score(average=None)"),
        function=f1,
        faces=annotated_faces,
        undefined="no face is annotated or predicted as this class",
        interval="overlap",
        unit="score",
        per_class=True,
        within_own_class=False,
    ),
    Metric(
        name="recall",
        title="Recall",
        definition="Share of the faces annotated as a class that are predicted as it.",
        source=SKLEARN.format("recall_score(average=None)"),
        function=recall,
        faces=annotated_faces,
        undefined="no face is annotated as this class",
        per_class=True,
    ),
    Metric(
        name="precision",
        title="Precision",
        definition="Share of the faces predicted as a class that are annotated as it.",
        source=SKLEARN.format("precision_score(average=None)"),
        function=precision,
        faces=predicted_faces,
        undefined="no face is predicted as this class",
        per_class=True,
        within_own_class=False,
    ),
    Metric(
        name="selection_rate",
        title="Selection rate",
        definition="Share of labeled faces that are predicted as a class.",
        source="fairlearn, fairlearn.metrics.selection_rate",
        function=selection_rate,
        faces=labelled_faces_per_class,
        undefined=NO_FACES,
        better="neither",
        per_class=True,
        within_own_class=False,
    ),
    Metric(
        name="false_positive_rate",
        title="False positive rate",
        definition="Share of the faces annotated as another class that are predicted as a class.",
        source="fairlearn, fairlearn.metrics.false_positive_rate",
        function=false_positive_rate,
        faces=faces_of_others,
        undefined="no face is annotated as another class",
        better="lower",
        per_class=True,
        within_own_class=False,
    ),
    Metric(
        name="auc",
        title="AUC",
        definition="Chance that a face of the class scores higher for it than a face of another.",
        source=f"{FAWCETT}; {SKLEARN.format('roc_auc_score')}",
        function=auc,
        faces=scored_faces,
        undefined="the scored faces are all of this class, or none is",
        needs="scores",
        interval="rank",
        unit="score",
        per_class=True,
        within_own_class=False,
    ),
    Metric(
        name="average_precision",
        title="Average precision",
        definition="Precision at the score of each face of the class, averaged over those faces.",
        source=SKLEARN.format("average_precision_score"),
        function=average_precision,
        faces=scored_faces_of_class,
        undefined="no scored face is annotated as this class",
        needs="scores",
        interval="curve",
        unit="score",
        per_class=True,
        within_own_class=False,
    ),
]
"""Metrics of every task with classes; those of age groups and years are ``age.AGE_METRICS``."""
