"""Composition without labels: shares corrected for the model's confusion, and set against others.

Labeled faces (``Calibration``) say how the model confuses classes. Which estimate follows depends
on where they come from: of a random sample of the set itself shares are estimated without any
assumption on the model; of other faces under the assumption of label shift, which is tested as far
as the confidences allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from faceaudit.audit.intervals import Bounds, generator_for, normal_quantile, wilson
from faceaudit.audit.quantify import (
    PSEUDO_FACES,
    LabelledFaces,
    Values,
    adjusted_count,
    count_draws,
    em_shares,
    em_variance,
    fit_bias,
    identified,
    inverted_count,
    joint_draws,
    post_stratified,
    rates_of,
    share_draws,
    with_bias,
)
from faceaudit.audit.results import Composition, Correction, Estimate, FitTest, ReferenceShare
from faceaudit.audit.tally import Tally, cut
from faceaudit.schema import Task
from faceaudit.tables import PredictionTable, score_columns

Source = Literal["sample", "labels", "bundle"]
CONFIDENCE_BINS = 5
EM_FACES = 20_000
"""The scores of so many faces of a larger set are used."""
JACKKNIFE_GROUPS = 20
FEWEST_REPLICATES = 4_000
"""Bounds that hold for all classes together are far out in the tails."""
FEW_EXPECTED = 5
"""With fewer expected faces in a class a chi-square statistic has not its distribution."""
DOUBTFUL = 0.01
"""Below this p value the confidences do not fit, and the page says so."""
NOT_IDENTIFIED = (
    "not identified: as far as the labeled faces tell, the classes are confused so much that "
    "different compositions would be predicted alike; label more faces, or merge classes with --map"
)
NO_CONFUSION = (
    "how the model confuses the classes is not known; label a sample (`faceaudit sample`) and "
    "give it as --calibration"
)


@dataclass(frozen=True)
class Calibration:
    """Faces of one task that are annotated and predicted: how the model confuses its classes."""

    task: Task
    source: Source
    where: str
    joint: Values  # (K, K, B): faces by annotated class, predicted class and confidence
    edges: Values  # (B - 1,): upper edges of the bins of confidence but the last
    labelled: int
    faces: LabelledFaces | None = None
    """The single faces; None where only counts are known."""
    scores: Values | None = None  # (n, K)

    def draws(self, replicates: int, generator: np.random.Generator) -> Values:
        """Faces as they might have come out, (R, K, K, B)."""
        axis = 1 if self.source == "sample" else 0
        if self.faces is None or self.faces.plain:
            return count_draws(self.joint, replicates, generator, axis=axis)
        return joint_draws(self.faces, replicates, generator, axis=axis)


@dataclass(frozen=True)
class FaceSet:
    """The scored faces whose composition is asked for."""

    counts: Values  # (K, B): faces by predicted class and confidence; B is 1 without scores
    scores: Values | None = None  # (N, K), of at most ``EM_FACES``

    @property
    def faces(self) -> int:
        return int(self.counts.sum())

    @property
    def shares(self) -> Values:
        """Shares of the predicted classes, (K,)."""
        return np.asarray(self.counts.sum(axis=1) / self.counts.sum())


@dataclass(frozen=True)
class Reference:
    """Shares that the classes of a task should have, in class order, and the file they are from."""

    shares: Values
    where: str


def calibrate(
    task: Task,
    faces: pl.DataFrame,
    where: str,
    source: Source,
) -> Calibration:
    """Calibration from single faces.

    Args:
        task: The task.
        faces: Canonical columns of the task, a row per face; ``weight`` and ``stratum`` (numbers)
            are 1 and 0 where missing. Faces without annotation or prediction are left out, and
            those of their stratum stand for them.
        where: Where the faces come from, for the page.
        source: What the faces are to the set.
    """
    every = faces.with_columns(
        pl.lit(1.0).alias(name) if name == "weight" else pl.lit(0).alias(name)
        for name in ("weight", "stratum")
        if name not in faces.columns
    )
    columns = [name for name in score_columns(task) if name in every.columns]
    known = pl.col(task.true_column).is_in(task.classes) & pl.col(task.pred_column).is_in(
        task.classes
    )
    # Faces without a label are taken to be like those of their stratum.
    total = pl.col("weight").sum().over("stratum")
    own = every.with_columns(total.alias("_total")).filter(known)
    own = own.with_columns(
        pl.col("weight") * pl.col("_total") / pl.col("weight").sum().over("stratum")
    )
    scores = own.select(columns).to_numpy() if columns else None
    if scores is not None and not np.isfinite(scores).all():
        scores = None
    confidence = None if scores is None else scores.max(axis=1)
    edges = np.zeros(0)
    if confidence is not None and len(confidence):
        cuts = np.linspace(0, 1, CONFIDENCE_BINS + 1)[1:-1]
        edges = np.unique(np.quantile(confidence, cuts).round(4))
    size, bins = len(task.classes), len(edges) + 1
    place = np.zeros(own.height, np.int64)
    if confidence is not None:
        place = np.searchsorted(edges, confidence, side="left")
    true, pred = (
        own[column].cast(pl.Enum(task.classes)).to_physical().cast(pl.Int64).to_numpy()
        for column in (task.true_column, task.pred_column)
    )
    labelled = LabelledFaces(
        (true * size + pred) * bins + place,
        own["weight"].cast(pl.Float64).to_numpy(),
        np.unique(own["stratum"].to_numpy(), return_inverse=True)[1].astype(np.int64),
        (size, size, bins),
    )
    return Calibration(task, source, where, labelled.joint, edges, own.height, labelled, scores)


def read_set(table: PredictionTable | Tally, task: Task, edges: Values) -> FaceSet:
    """The faces of a table, or of a tally, which has no confidences, by what was predicted."""
    if isinstance(table, Tally):
        counts = cut(table, ()).one(table.predicted[task.name], 0)
        return FaceSet(np.asarray(counts, np.float64)[:, None])
    scored = task.name in table.scored
    columns = score_columns(task) if scored else []
    frame = table.frame.filter(pl.col(task.pred_column).is_not_null())
    bins = len(edges) + 1 if scored else 1
    top = pl.max_horizontal(columns) if scored else pl.lit(0.0)
    above = pl.sum_horizontal([(top > edge).cast(pl.Int64) for edge in edges[: bins - 1]] or [0])
    found = (
        frame.group_by(pl.col(task.pred_column).alias("pred"), above.fill_null(0).alias("bin"))
        .len()
        .collect(engine="streaming")
    )
    counts = np.zeros((len(task.classes), bins))
    for label, place, faces in found.select("pred", "bin", "len").rows():
        if label in task.classes:
            counts[task.classes.index(label), place] += faces
    if not scored:
        return FaceSet(counts)
    stride = max(int(counts.sum()) // EM_FACES, 1)
    complete = frame.select(columns).drop_nulls()
    return FaceSet(counts, complete.gather_every(stride).collect().to_numpy())


def correct(
    table: PredictionTable | Tally,
    composition: Sequence[Composition],
    calibrations: Mapping[str, Calibration],
    references: Mapping[str, Reference],
    *,
    reasons: Mapping[str, str],
    annotated: Mapping[str, Values],
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> tuple[tuple[Composition, ...], tuple[Correction, ...]]:
    """The composition with corrected shares over all faces, and how they came about.

    Args:
        table: The set, as rows or as a tally.
        composition: Shares as predicted (``coverage.find_composition``).
        calibrations: Task name -> labeled faces.
        references: Task name -> the shares that it should have.
        reasons: Task name -> why there are no labeled faces.
        annotated: Task name -> faces by annotated class, (K,), where every face of the set is
            annotated: nothing is left to correct.
        confidence: Of all intervals.
        replicates: Number of replicates; at least ``FEWEST_REPLICATES`` are drawn.
        seed: Of the replicates.
    """
    found, corrections = list(composition), []
    for task in table.tasks:
        at = [i for i, c in enumerate(found) if c.task == task.name and not c.subgroup]
        if not at or found[at[0]].share.value is None:
            continue
        calibration, reference = calibrations.get(task.name), references.get(task.name)
        if task.name in annotated and reference is None:
            continue
        edges = np.zeros(0) if calibration is None else calibration.edges
        faces = read_set(table, task, edges)
        generator = generator_for(seed, f"composition {task.name}", {})
        drawn = max(replicates, FEWEST_REPLICATES)
        if task.name in annotated:
            corrected = _annotated(annotated[task.name], drawn, generator)
        elif calibration is None:
            corrected = Corrected(reason=reasons.get(task.name, NO_CONFUSION))
        else:
            corrected = correct_shares(faces, calibration, drawn, generator)
        parts = corrected.estimates(task, confidence)
        em = (
            shares_by_scores(faces, calibration, confidence)
            if corrected.method == "adjusted_count"
            else None
        )
        compared = compare_shares(faces, corrected, reference, confidence)
        for k, i in enumerate(at):
            found[i] = replace(
                found[i],
                corrected=parts[k],
                em=None if em is None else em[k],
                reference=compared.shares[k] if compared else None,
            )
        corrections.append(
            Correction(
                task.name,
                corrected.method,
                calibration.source if calibration else None,
                calibration.where if calibration else None,
                corrected.labelled,
                corrected.reason,
                corrected.fit,
                compared.test if compared else None,
                reference.where if reference else None,
            )
        )
    return tuple(found), tuple(corrections)


# --- corrected shares -------------------------------------------------------------------------


@dataclass(frozen=True)
class Corrected:
    """Corrected shares of one task with their replicates, or why there are none."""

    method: str | None = None
    point: Values | None = None  # (K,)
    draws: Values | None = None  # (R, K)
    center: Values | None = None
    """What the replicates vary around, (K,): of adjusted counts before negative shares are
    excluded, because only those have errors that are nearly normal."""
    labelled: int = 0
    reason: str | None = None
    fit: FitTest | None = None

    def bounds(self, confidence: float) -> Bounds:
        """Bounds of every class, each by itself."""
        assert self.point is not None
        assert self.draws is not None
        if self.center is not None:
            tail = (1 - confidence) / 2
            low, middle, high = np.quantile(self.draws, [tail, 0.5, 1 - tail], axis=0)
            # Moved, because ratios are lower in replicates than in what they come from.
            shift = self.center - middle
            return (
                np.clip(np.minimum(low + shift, self.point), 0, 1),
                np.clip(np.maximum(high + shift, self.point), 0, 1),
            )
        # As many faces as a plain sample would need to tell as much.
        mean, spread = self.draws.mean(axis=0), self.draws.var(axis=0)
        told = mean * (1 - mean) / np.maximum(spread, np.finfo(np.float64).tiny)
        return wilson(self.point, told, confidence)

    def estimates(self, task: Task, confidence: float) -> list[Estimate]:
        """One estimate per class."""
        n = self.labelled
        if self.point is None:
            return [Estimate(None, None, None, n, self.reason) for _ in task.classes]
        low, high = self.bounds(confidence)
        return [
            Estimate(float(p), float(a), float(b), n)
            for p, a, b in zip(self.point, low, high, strict=True)
        ]


def _annotated(counts: Values, replicates: int, generator: np.random.Generator) -> Corrected:
    """Shares of a set whose faces are all annotated."""
    draws = share_draws(counts + PSEUDO_FACES / len(counts), replicates, generator)
    return Corrected("annotated", counts / counts.sum(), draws, labelled=int(counts.sum()))


def correct_shares(
    faces: FaceSet, calibration: Calibration, replicates: int, generator: np.random.Generator
) -> Corrected:
    """Shares of one task corrected by labeled faces, with replicates in which both vary.

    Args:
        faces: The set.
        calibration: The labeled faces.
        replicates: How many replicates to draw.
        generator: Of the replicates.
    """
    labelled = calibration.labelled
    confusion = calibration.joint.sum(axis=-1)
    if reason := _unknown(faces, calibration, confusion):
        return Corrected(labelled=labelled, reason=reason)
    joint = calibration.draws(replicates, generator)
    seen = share_draws(faces.counts, replicates, generator)
    shares = seen.sum(axis=-1)
    if calibration.source == "sample":
        point = post_stratified(faces.shares, confusion)
        draws = post_stratified(shares, joint.sum(axis=-1))
        return Corrected("post_stratified", point, draws, labelled=labelled)
    rates = rates_of(joint.sum(axis=-1))
    if not identified(rates_of(confusion), rates):
        return Corrected(labelled=labelled, reason=NOT_IDENTIFIED)
    point = adjusted_count(faces.shares, rates_of(confusion))
    center = inverted_count(faces.shares, rates_of(confusion))
    draws = inverted_count(shares, rates)
    fit = _fit(faces, calibration, center, draws, joint, seen)
    return Corrected("adjusted_count", point, draws, center, labelled, fit=fit)


def _unknown(faces: FaceSet, calibration: Calibration, confusion: Values) -> str | None:
    """Why labeled faces cannot say anything of some class, None where they can."""
    task = calibration.task
    if not calibration.labelled:
        return f"no face in {calibration.where} has a label of this task"
    if calibration.source == "sample":
        missing = (confusion.sum(axis=0) == 0) & (faces.shares > 0)
        kind = "predicted"
    else:
        missing, kind = confusion.sum(axis=1) == 0, "annotated"
    if not missing.any():
        return None
    names = " or ".join(name for name, gone in zip(task.classes, missing, strict=True) if gone)
    what = "what such faces are" if kind == "predicted" else "how such faces are predicted"
    return f"no labeled face is {kind} {names}, so {what} is not known; label some of them"


def _fit(
    faces: FaceSet,
    calibration: Calibration,
    point: Values,
    draws: Values,
    joint: Values,
    counts: Values,
) -> FitTest:
    """Whether the set's confidences are a mixture of those of the labeled faces' classes.

    The difference of the two distributions, by its own covariance over replicates.
    """
    bins = len(calibration.edges) + 1
    if faces.counts.shape[1] != bins or bins < 2:
        return FitTest(None, None, None, "it needs the scores of the set and of labeled faces")

    def apart(shares: Values, cells: Values, seen: Values) -> Values:
        by_class = cells.sum(axis=-2)  # (..., K, B)
        given = by_class / by_class.sum(axis=-1, keepdims=True)
        return np.asarray(seen.sum(axis=-2) - np.einsum("...k,...kb->...b", shares, given))

    found = apart(point, calibration.joint, faces.counts / faces.faces)
    return _wald(found, apart(draws, joint, counts))


def _wald(found: Values, draws: Values) -> FitTest:
    """Chi-square test that differences which sum to 0 are 0, by the covariance of replicates."""
    from scipy.stats import chi2

    covariance = np.cov(draws[:, :-1], rowvar=False).reshape(len(found) - 1, -1)
    degrees = int(np.linalg.matrix_rank(covariance, hermitian=True))
    if degrees < len(found) - 1:
        return FitTest(None, None, None, "the differences have no spread")
    statistic = float(found[:-1] @ np.linalg.solve(covariance, found[:-1]))
    return FitTest(statistic, degrees, float(chi2.sf(statistic, degrees)))


# --- by scores --------------------------------------------------------------------------------


def shares_by_scores(
    faces: FaceSet, calibration: Calibration | None, confidence: float
) -> list[Estimate] | None:
    """Shares by EM over the scores of the set; None where there are no scores."""
    if calibration is None or faces.scores is None or not len(faces.scores):
        return None
    joint = calibration.joint.sum(axis=(1, 2))
    prior = joint / joint.sum()
    labelled = calibration.faces
    if labelled is None or calibration.scores is None:
        reason = "no interval: how well the scores are calibrated is known of no single faces"
        shares = em_shares(faces.scores, prior)
        return [Estimate(float(p), None, None, len(faces.scores), reason) for p in shares]
    true = labelled.cell // int(np.prod(labelled.shape[1:]))
    shares, variance = _recalibrated(
        faces.scores, calibration.scores, true, labelled.weight, calibration.labelled
    )
    half = normal_quantile(confidence) * np.sqrt(variance)
    return [
        Estimate(float(p), float(max(p - h, 0)), float(min(p + h, 1)), calibration.labelled)
        for p, h in zip(shares, half, strict=True)
    ]


def _recalibrated(
    scores: Values, own: Values, true: np.ndarray, weight: Values, labelled: int
) -> tuple[Values, Values]:
    """Shares by EM with scores recalibrated on labeled faces, and their variance.

    The variance is that of the set's scores plus that of the labeled faces, by leaving out one
    group of them at a time (a delete-a-group jackknife).
    """

    def estimate(kept: np.ndarray, start: Values | None) -> tuple[Values, Values, Values]:
        temperature, bias = fit_bias(own[kept], true[kept], weight[kept])
        prior = np.bincount(true[kept], weight[kept], own.shape[1])
        prior = np.maximum(prior / prior.sum(), 1e-9)
        probs = with_bias(scores, temperature, bias)
        return em_shares(probs, prior, start), probs, prior

    everything = np.arange(labelled)
    shares, probs, prior = estimate(everything, None)
    groups = min(JACKKNIFE_GROUPS, labelled)
    # Sorted by class, so that every group has some of each.
    rank = np.argsort(np.argsort(true, kind="stable"))
    start = np.maximum(shares, 1e-6)
    left = [estimate(everything[rank % groups != g], start / start.sum())[0] for g in range(groups)]
    moves = np.square(np.stack(left) - shares).sum(axis=0) * (groups - 1) / groups
    return shares, em_variance(probs, prior, shares) + moves


# --- reference shares -------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """Shares of one task against reference shares: each by itself, and all together."""

    shares: list[ReferenceShare]
    test: FitTest


def compare_shares(
    faces: FaceSet, corrected: Corrected, reference: Reference | None, confidence: float
) -> Compared | None:
    """The set's shares, corrected where they are, against reference shares.

    The intervals of all K classes hold together: each has the confidence 1 - (1 - confidence) / K
    (of two classes, which are off by the same, the confidence itself).

    Source:
        Goodman: On simultaneous confidence intervals for multinomial proportions, Technometrics 7,
        1965.
    """
    if reference is None:
        return None
    apart = len(reference.shares) if len(reference.shares) > 2 else 1
    together = 1 - (1 - confidence) / apart
    n = faces.faces
    if corrected.point is not None and corrected.draws is not None:
        n = corrected.labelled
        point, (low, high) = corrected.point, corrected.bounds(together)
        center = point if corrected.center is None else corrected.center
        test = _wald(center - reference.shares, corrected.draws - reference.shares)
    else:
        point = faces.shares
        low, high = wilson(point, faces.faces, together)
        test = _chi_square(faces.counts.sum(axis=1), reference.shares)
    return Compared(
        [
            ReferenceShare(
                float(share),
                Estimate(float(p - share), float(a - share), float(b - share), n),
            )
            for share, p, a, b in zip(reference.shares, point, low, high, strict=True)
        ],
        test,
    )


def _chi_square(counts: Values, shares: Values) -> FitTest:
    """Pearson's test that counts come from these shares."""
    from scipy.stats import chisquare

    expected = counts.sum() * shares / shares.sum()
    if expected.min() < FEW_EXPECTED:
        return FitTest(None, None, None, f"fewer than {FEW_EXPECTED} faces are expected in a class")
    found = chisquare(counts, expected)
    return FitTest(float(found.statistic), len(counts) - 1, float(found.pvalue))
