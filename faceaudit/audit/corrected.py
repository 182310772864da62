"""Shares of one task in one set of faces: as counted, or corrected by labeled faces.

Both kinds answer the same questions: the shares, their bounds, and whether they fit others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from faceaudit.audit.estimates import Options, estimate
from faceaudit.audit.face_sets import Calibration, FaceSet, LabelledFaces, merged_strata
from faceaudit.audit.intervals import Bounds, wilson
from faceaudit.audit.metrics import Values, ratio
from faceaudit.audit.mixture import Mixture, em_shares
from faceaudit.audit.moves import Moves, skewed_interval, wald
from faceaudit.audit.quantify import (
    PSEUDO_FACES,
    adjusted_count,
    inverted_count,
    not_identified,
    post_stratified,
    rates_of,
)
from faceaudit.audit.rates import RATES
from faceaudit.audit.results import Estimate, FitTest, Subgroup
from faceaudit.audit.target_shares import score_test

FEW_EXPECTED = 5
"""With fewer expected faces in a class a chi-square statistic has not its distribution."""
FEW = f"fewer than {FEW_EXPECTED} faces are expected in a class"
FEW_LABELLED = 20
"""With fewer labeled faces of a subgroup its own shares are not estimated from a sample."""
SMALLEST_SHARE = 1e-6
PREDICTED_SHARE = next(metric for metric in RATES if metric.name == "predicted_share")
MANY_IN_CELL = 10
"""So many labeled faces on average of every annotated and predicted class and bin of confidence."""
ONE_UNIT = "all faces are of one unit"
NO_SCORES = "it needs the scores of the set and of labeled faces"
NO_SPREAD = "no interval: too few faces or units tell how far it varies"
EM_WITHOUT_FACES = (
    "no interval: the model's card has counts of held-out faces, not the scores of single ones"
)


@dataclass(frozen=True)
class Unknown:
    """Why shares could not be corrected, and of how many faces."""

    reason: str
    n: int


@dataclass(frozen=True)
class CountedShares:
    """Shares of the classes as counted, predicted or annotated."""

    faces: FaceSet
    method = "annotated"

    @property
    def point(self) -> Values:
        """The shares, (K,)."""
        return self.faces.shares

    @property
    def n(self) -> int:
        """Faces that they stand on."""
        return self.faces.faces

    def bounds(self, confidence: float) -> Bounds:
        """Bounds of every class, each by itself."""
        by_block = self.faces.blocks.sum(axis=-1)
        blocks = [by_block] if len(by_block) > 1 else None
        counts = self.faces.counts.sum(axis=-1)[None]
        found = estimate(PREDICTED_SHARE, counts, Options(confidence=confidence), blocks=blocks)
        low, high = (
            np.array([np.nan if bound is None else bound for bound in side])
            for side in zip(*((one.low, one.high) for one in found), strict=True)
        )
        return low, high

    def fit(self, shares: Values) -> FitTest:
        """Pearson's test that the faces come from these shares; with units by their effect.

        Source:
            Rao, Scott: The analysis of categorical data from complex sample surveys, JASA 76, 1981;
            Thomas, Rao: Small-sample comparisons of level and power for simple goodness-of-fit
            statistics under cluster sampling, JASA 82, 1987 (an F of few units).
        """
        from scipy.stats import chi2, f

        counts = self.faces.counts.sum(axis=-1)
        expected = counts.sum() * shares / shares.sum()
        if expected.min() < FEW_EXPECTED:
            return FitTest(None, None, None, FEW)
        statistic = float((np.square(counts - expected) / expected).sum())
        moves = set_moves(self.faces, np.eye(len(counts)))
        if moves.freedom < 1:
            return FitTest(None, None, None, ONE_UNIT)
        degrees = len(counts) - 1
        if moves.units is None:
            return FitTest(statistic, degrees, float(chi2.sf(statistic, degrees)))
        covariance = np.diag(moves.covariance) * counts.sum()
        statistic /= max(float((covariance / shares).sum() / degrees), 1.0)
        sizes = self.faces.blocks.sum(axis=(1, 2))
        # Of units of unlike sizes, the largest tell the spread (Kish's effective number).
        freedom = sizes.sum() ** 2 / np.square(sizes).sum() - 1
        p_value = f.sf(statistic / degrees, degrees, freedom)
        return FitTest(statistic, degrees, float(p_value))


@dataclass(frozen=True)
class CorrectedShares:
    """Shares of the classes corrected by labeled faces."""

    method: str
    point: Values  # (K,)
    center: Values
    """The same before negative shares are excluded, (K,): its errors are nearly normal."""
    sources: Sequence[Moves]
    """How far the faces of the set and the labeled ones move it."""
    n: int
    """Labeled faces; of a sample, those of the subgroup."""
    shift: FitTest | None = None
    """Whether the set's confidences fit label shift, where that is assumed."""
    faces: float = np.inf
    """Faces of the set."""
    tested: Callable[[Values], FitTest] | None = None
    """Tests whether given shares are the true ones, by other labeled faces."""
    below: Values | float = 0.0
    """How much lower the shares may be, as no face of some strata is labeled, (K,)."""
    above: Values | float = 0.0
    """How much higher."""

    @property
    def unseen(self) -> bool:
        """Whether some strata have no labeled face."""
        return bool(np.any(self.above))

    def bounds(self, confidence: float) -> Bounds:
        """Bounds of every class, each by itself."""
        low, high = skewed_interval(self.center, self.sources, confidence)
        low, high = low - self.below, high + self.above
        # Where the center is no share, as far from the nearest one: no bound is sure of 0 or 1.
        outside = np.clip(self.center, 0, 1) - self.center
        low, high = low + np.minimum(outside, 0), high + np.maximum(outside, 0)
        return (
            np.clip(np.minimum(low, self.point), 0, 1),
            np.clip(np.maximum(high, self.point), 0, 1),
        )

    def fit(self, shares: Values) -> FitTest:
        """Test that these are the true shares: Rao's for other labeled faces, Wald's for own."""
        if (self.faces * shares).min() < FEW_EXPECTED * shares.sum():
            return FitTest(None, None, None, FEW)
        if self.tested is not None:
            return self.tested(shares / shares.sum())
        return wald(self.center - shares, self.sources)


@dataclass(frozen=True)
class ScoredShares:
    """Shares of the classes by the scores of the faces (EM)."""

    point: Values  # (K,)
    sources: Sequence[Moves]
    n: int
    """Labeled faces."""

    def bounds(self, confidence: float) -> Bounds:
        """Bounds of every class, each by itself: on either side the further of two intervals.

        Near 0 the variance grows with the share by more than its skewness says, because what a
        labeled face moves does so too: a score interval of as many faces as tell as much has that.
        """
        low, high = skewed_interval(self.point, self.sources, confidence)
        variance = sum(one.variance * one.effect(confidence) for one in self.sources)
        told = ratio(np.maximum(self.point, SMALLEST_SHARE) * (1 - self.point), variance)
        score = wilson(self.point, told, confidence)
        return np.clip(np.fmin(low, score[0]), 0, 1), np.clip(np.fmax(high, score[1]), 0, 1)


Shares = CountedShares | CorrectedShares | ScoredShares


def estimates_of(shares: Shares | Unknown, classes: int, confidence: float) -> list[Estimate]:
    """One estimate per class."""
    if isinstance(shares, Unknown):
        return [Estimate(None, None, None, shares.n, shares.reason)] * classes
    low, high = shares.bounds(confidence)
    return [
        Estimate(float(p), None, None, shares.n, NO_SPREAD)
        if np.isnan(a)
        else Estimate(float(p), float(a), float(b), shares.n)
        for p, a, b in zip(shares.point, low, high, strict=True)
    ]


def correct_shares(
    faces: FaceSet, calibration: Calibration, subgroup: Subgroup | None = None
) -> CorrectedShares | Unknown:
    """Shares of one task corrected by labeled faces, or why they cannot be.

    Args:
        faces: The set, or those of one of its subgroups.
        calibration: The labeled faces, of all of the set or of others.
        subgroup: The subgroup that ``faces`` are.
    """
    if not calibration.labelled:
        return Unknown(f"no face in {calibration.where} has a label of this task", 0)
    if calibration.source == "sample":
        return _by_sample(faces, calibration, subgroup or {})
    return _by_label_shift(faces, calibration)


# --- a sample of the set itself ---------------------------------------------------------------


def _by_sample(
    faces: FaceSet, calibration: Calibration, subgroup: Subgroup
) -> CorrectedShares | Unknown:
    """Shares after stratification by predicted class; of a subgroup with its own residuals.

    What faces of a predicted class are is taken from the whole sample; how far that is off in the
    subgroup is estimated from its labeled faces, so that nothing is assumed to be alike in it.

    Strata without a labeled face may be of any class, for which the bounds leave room.

    Source:
        Särndal, Swensson, Wretman: Model assisted survey sampling, 1992, chapter 10 (the regression
        estimator of a domain; of everybody it is the post-stratified one).
        Manski: Partial identification of probability distributions, 2003, chapter 1 (bounds with
        values that are missing).
    """
    own, q = calibration.faces, faces.shares
    joint = own.joint.sum(axis=-1)
    missing = (joint.sum(axis=0) == 0) & (q > 0)
    if missing.any():
        return _unknown(calibration, missing, "predicted", "what such faces are")
    among = own.among(subgroup)
    if among.sum() < FEW_LABELLED and subgroup:
        found = int(among.sum())
        few = f"only {found} labeled faces of this subgroup; label at least {FEW_LABELLED}"
        return Unknown(few, found)
    given = np.nan_to_num(ratio(joint, joint.sum(axis=0)))  # (K true, K predicted)
    residual = np.eye(len(q))[own.true] - given.T[own.pred]  # (n, K)
    weight = own.weight * among / (own.weight @ among)
    rest = weight @ residual
    center = post_stratified(q, joint) + rest
    point = np.maximum(center, 0) / np.maximum(center, 0).sum()
    within = np.bincount(own.pred, weight, len(q))
    pooled = ratio(q - within, joint.sum(axis=0))[own.pred] * own.weight
    each = np.nan_to_num(pooled)[:, None] * residual + weight[:, None] * (residual - rest)
    each = _around_strata(each, merged_strata(own.stratum))
    labelled = _with_pseudo_faces(each, own, q, given, among)
    moves = [set_moves(faces, given.T), labelled]
    if own.unit is not None:
        # A unit whose faces are of one class counts once, whether they are labeled or not.
        moves = [moves[0].with_same_units(labelled)]
    # Faces of strata without a label were taken to be as others of their predicted class.
    unseen = calibration.unseen.by_class(len(q), subgroup)
    unseen /= unseen.sum() + own.weight @ among
    below = np.clip(given @ unseen + unseen.sum() * rest, 0, unseen.sum())
    return CorrectedShares(
        "post_stratified",
        point,
        center,
        moves,
        int(among.sum()),
        faces=faces.faces,
        below=below,
        above=unseen.sum() - below,
    )


def _around_strata(each: Values, stratum: np.ndarray) -> Values:
    """Moves less their mean in the stratum, for a sum whose variance is that of the strata."""
    sizes = np.bincount(stratum)
    means = np.zeros((len(sizes), each.shape[1]))
    np.add.at(means, stratum, each / sizes[stratum, None])
    scale = np.sqrt(sizes / np.maximum(sizes - 1, 1))
    return np.asarray((each - means[stratum]) * scale[stratum, None])


def _with_pseudo_faces(
    each: Values, own: LabelledFaces, q: Values, given: Values, among: Values
) -> Moves:
    """Moves of labeled faces and of ``PSEUDO_FACES`` per predicted class, spread evenly."""
    seen = np.maximum(np.bincount(own.pred, among, len(q)), 1)
    more = (np.eye(len(q)) - given.T[:, None, :]) * (q / seen)[:, None, None]  # (K, K, K)
    plain = Moves.of_faces(each, own.unit)
    return replace(
        plain,
        each=np.concatenate([each, more.reshape(-1, len(q))]),
        times=np.concatenate([plain.times, np.full(more.shape[0] ** 2, PSEUDO_FACES / len(q))]),
    )


# --- other labeled faces ---------------------------------------------------------------------


def _by_label_shift(faces: FaceSet, calibration: Calibration) -> CorrectedShares | Unknown:
    """Adjusted counts, with the test of what they assume."""
    joint = calibration.joint.sum(axis=-1)
    if (absent := joint.sum(axis=1) == 0).any():
        return _unknown(calibration, absent, "annotated", "how such faces are predicted")
    if (never := joint.sum(axis=0) == 0).any():
        return Unknown(
            f"not identified: no labeled face is predicted {_names(calibration, never)}, so such "
            "faces cannot be told from others by what is predicted; label more faces, or merge "
            "classes (--map, of ages --age-bins)",
            calibration.labelled,
        )
    if (alike := not_identified(joint)) is not None:
        first, second = (calibration.task.classes[k] for k in alike)
        return Unknown(
            "not identified: as far as the labeled faces tell, the classes are confused so much "
            f"(most of all {first} and {second}) that different compositions would be predicted "
            "alike; label more faces, or merge classes (--map, of ages --age-bins)",
            calibration.labelled,
        )
    rates = rates_of(joint)
    point, center = adjusted_count(faces.shares, rates), inverted_count(faces.shares, rates)
    inverse = np.asarray(np.linalg.inv(rates), np.float64)
    sources = shift_moves(faces, calibration, point, inverse)
    shift = _shift_test(faces, calibration, point, inverse)
    n = calibration.labelled

    def tested(shares: Values) -> FitTest:
        moves = shift_moves(faces, calibration, shares, np.eye(len(shares)))
        return score_test(faces.shares, faces.faces, joint, shares, (moves[0], moves[1]))

    return CorrectedShares("adjusted_count", point, center, sources, n, shift, faces.faces, tested)


def _unknown(calibration: Calibration, missing: Values, kind: str, what: str) -> Unknown:
    names = _names(calibration, missing)
    return Unknown(
        f"no labeled face is {kind} {names}, so {what} is not known; label some of them",
        calibration.labelled,
    )


def _names(calibration: Calibration, marked: Values) -> str:
    classes = calibration.task.classes
    return " or ".join(name for name, gone in zip(classes, marked, strict=True) if gone)


def set_moves(faces: FaceSet, functions: Values) -> Moves:
    """How far the faces of a set move the means of functions of what is predicted.

    Args:
        faces: The set.
        functions: Values at each predicted class (K, F), or class and bin of confidence (K, B, F).
    """
    cells, by_block, size = _cells(faces.counts, faces.blocks, functions)
    values = functions.reshape(size, -1)
    each = (values - cells @ values / cells.sum()) / cells.sum()
    units = by_block @ each if len(by_block) > 1 else None
    return Moves(each, cells + PSEUDO_FACES / size, units)


def _cells(counts: Values, blocks: Values, functions: Values) -> tuple[Values, Values, int]:
    """Counts (K, B), and by block, as one axis of what a function is given for."""
    if functions.ndim == 2:
        counts, blocks = counts.sum(axis=-1), blocks.sum(axis=-1)
    return counts.ravel(), blocks.reshape(len(blocks), -1), counts.size


def shift_moves(
    faces: FaceSet, calibration: Calibration, shares: Values, functions: Values
) -> list[Moves]:
    """How far both sources move the means of functions over a set, less those expected of it.

    Under label shift a set whose classes have ``shares`` has the mean of the labeled classes'
    means; either source moves the difference.

    Args:
        faces: The set.
        calibration: The labeled faces.
        shares: Of the classes in the set, (K,).
        functions: As ``set_moves`` takes them.
    """
    own = calibration.faces
    size, _, bins = own.shape
    values = functions if functions.ndim == 3 else np.repeat(functions[:, None], bins, axis=1)
    values = values.reshape(size * bins, -1)  # (cells, F)
    joint = own.joint.reshape(size, -1)
    total = joint.sum(axis=1)
    around = values - (joint @ values / total[:, None])[:, None]  # (K, cells, F)
    around *= -(shares / total)[:, None, None]
    each = around[own.true, own.cell % (size * bins)] * own.weight[:, None]
    plain = Moves.of_faces(each, own.unit)
    mean_weight = total / np.bincount(own.true, own.times, size)
    more = (around * mean_weight[:, None, None]).reshape(-1, values.shape[1])
    spread = np.full(len(more), PSEUDO_FACES / (size * bins))
    labelled = replace(
        plain,
        each=np.concatenate([each, more]),
        times=np.concatenate([own.times, spread]),
    )
    return [set_moves(faces, functions), labelled]


def _shift_test(
    faces: FaceSet, calibration: Calibration, shares: Values, inverse: Values
) -> FitTest:
    """Whether the set's confidences are a mixture of those of the labeled faces' classes.

    Where labeled faces are many, within every predicted class, which sees more; else over all.
    """
    bins = len(calibration.edges) + 1
    if faces.counts.shape[1] != bins or bins < 2:
        return FitTest(None, None, None, NO_SCORES)
    joint = calibration.joint
    given = joint / joint.sum(axis=(1, 2))[:, None, None]  # (K, K, B)
    # The share of each class and bin, less what the corrected shares make it.
    size = len(given) * bins
    functions = np.eye(size) - np.repeat(inverse @ given.reshape(-1, size), bins, axis=0)
    functions = functions.reshape(len(given), bins, len(given), bins)
    if calibration.labelled < MANY_IN_CELL * joint.size:
        functions = functions.sum(axis=2)
    else:
        # Those of a predicted class sum to 0: its share is what was corrected by.
        last = functions[..., -1:, -1:].reshape(len(given), bins, 1)
        rest = functions[..., :-1].reshape(len(given), bins, -1)
        functions = np.concatenate([rest, last], axis=-1)
    found = (faces.counts / faces.faces).ravel() @ functions.reshape(size, -1)
    return wald(found, shift_moves(faces, calibration, shares, functions))


# --- by scores --------------------------------------------------------------------------------


def shares_by_scores(
    faces: FaceSet, calibration: Calibration, confidence: float
) -> list[Estimate] | None:
    """Shares by EM over the scores of the set; None where there are no scores."""
    if faces.scores is None or not len(faces.scores):
        return None
    own = calibration.faces
    if calibration.scores is None:
        joint = calibration.joint.sum(axis=(1, 2))
        shares = em_shares(faces.scores, joint / joint.sum())
        n = len(faces.scores)
        return [Estimate(float(p), None, None, n, EM_WITHOUT_FACES) for p in shares]
    found = Mixture.fit(faces.scores, calibration.scores, own.true, own.weight)
    given = ScoredShares(found.shares, found.moves(faces.unit, own.unit), calibration.labelled)
    return estimates_of(given, len(found.shares), confidence)
