"""Shares of classes in a set of faces, corrected for how the model confuses them.

Two ways, which rest on different things:

* ``post_stratified``: faces of the set itself were sampled at random and labeled. Nothing is
  assumed of the model.
* ``adjusted_count`` and ``em_shares``: other faces were labeled. Both assume label shift: a face
  of a class is predicted and scored in the set as it was among the labeled faces, and only how
  frequent the classes are differs.

Every function takes plain arrays; leading axes are replicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.metrics import ratio

Values = NDArray[np.float64]
Codes = NDArray[np.int64]
ITERATIONS = 2_000
TOLERANCE = 1e-7
"""Estimates have converged when no share moves by more than this in a step."""
DRAWN_AT_ONCE = 2**23
"""Random weights that are held in memory at a time."""
PSEUDO_FACES = 0.5
"""Faces added to every class in replicates, so that a confusion not seen is possible."""
FEW_IN_STRATUM = 3
"""Strata with fewer labeled faces than this are taken together with their neighbor."""


@dataclass(frozen=True)
class LabelledFaces:
    """Labeled faces of one task, with what the model made of them; n faces.

    ``cell`` is the face's place among ``shape``: annotated class, predicted class and bin of
    confidence. ``weight`` is how many faces it stands for and ``stratum`` what it was drawn from.
    """

    cell: Codes  # (n,)
    weight: Values  # (n,)
    stratum: Codes  # (n,), from 0
    shape: tuple[int, int, int]  # K, K, bins of confidence

    @property
    def plain(self) -> bool:
        """Whether they are one sample in which every face stands for as many."""
        return bool(np.ptp(self.weight) == 0 and np.ptp(self.stratum) == 0)

    @property
    def joint(self) -> Values:
        """Faces that they stand for by annotated class, predicted class and bin, (K, K, B)."""
        size = int(np.prod(self.shape))
        totals = np.bincount(self.cell, self.weight, size).astype(np.float64)
        return np.asarray(totals.reshape(self.shape))


def post_stratified(shares: Any, joint: Any) -> Values:
    """Shares of the annotated classes: those among each predicted class, by how frequent it is.

    Args:
        shares: Shares of the predicted classes in the set, (..., K).
        joint: Labeled faces by annotated and predicted class, (..., K, K), any scale.

    Returns:
        Shares of the annotated classes, (..., K); NaN where a predicted class that occurs has no
        labeled face.

    Source:
        Holt, Smith: Post stratification, JRSS A 142, 1979.
    """
    shares, joint = np.asarray(shares, np.float64), np.asarray(joint, np.float64)
    given = ratio(joint, joint.sum(axis=-2, keepdims=True))
    given = np.where((shares > 0)[..., None, :], given, 0.0)
    return np.asarray((given * shares[..., None, :]).sum(axis=-1))


def rates_of(joint: Any) -> Values:
    """Of every annotated class, how it is predicted, (..., K, K): rows sum to 1 or are NaN."""
    joint = np.asarray(joint, np.float64)
    return ratio(joint, joint.sum(axis=-1, keepdims=True))


def adjusted_count(shares: Any, rates: Any) -> Values:
    """Shares of the classes that make the predicted shares most likely.

    Where the confusion can be inverted to shares that are none of them negative, these are the
    inverse's (the adjusted count); elsewhere the most likely ones on the simplex.

    Args:
        shares: Shares of the predicted classes in the set, (..., K).
        rates: Share of each annotated class (rows) predicted as each class, (..., K, K).

    Returns:
        Shares that are not negative and sum to 1, (..., K).

    Source:
        Forman: Quantifying counts and costs via classification, Data Mining and Knowledge
        Discovery 17, 2008 (adjusted count); Saerens, Latinne, Decaestecker: Adjusting the outputs
        of a classifier to new a priori probabilities, Neural Computation 14, 2002 (the confusion
        matrix method, and the iteration, here with predicted classes in the place of scores).
    """
    found = inverted_count(shares, rates)
    outside = ~(np.nan_to_num(found, nan=-1.0) >= 0).all(axis=-1)
    if outside.any():
        q, m = _aligned(shares, rates)
        found[outside] = _most_likely(q[outside], m[outside])
    return found


def inverted_count(shares: Any, rates: Any) -> Values:
    """Shares that are predicted as given, which may be negative; their errors are nearly normal.

    Args:
        shares: Shares of the predicted classes in the set, (..., K).
        rates: Share of each annotated class (rows) predicted as each class, (..., K, K).

    Returns:
        Numbers that sum to 1, (..., K); NaN where the confusion cannot be inverted.
    """
    q, m = _aligned(shares, rates)
    found = np.full(q.shape, np.nan)
    possible = np.linalg.cond(m) < 1 / np.finfo(np.float64).eps
    if possible.any():
        columns = q[possible][..., None]
        found[possible] = np.linalg.solve(np.swapaxes(m[possible], -1, -2), columns)[..., 0]
    return found


def _aligned(shares: Any, rates: Any) -> tuple[Values, Values]:
    """Both with the same leading axes."""
    rates = np.asarray(rates, np.float64)
    shares = np.asarray(shares, np.float64)
    leading = np.broadcast_shapes(shares.shape[:-1], rates.shape[:-2])
    return (
        np.broadcast_to(shares, (*leading, shares.shape[-1])),
        np.broadcast_to(rates, (*leading, *rates.shape[-2:])),
    )


def _most_likely(q: Values, m: Values) -> Values:
    """Shares on the simplex that make predicted shares most likely; of (R, K) and (R, K, K)."""
    p = np.full(q.shape, 1.0 / q.shape[-1])
    moving = np.arange(len(q))
    for _ in range(ITERATIONS):
        old, rates = p[moving], m[moving]
        expected = np.einsum("rk,rkj->rj", old, rates)
        pull = q[moving] / np.maximum(expected, np.finfo(np.float64).tiny)
        new = old * np.einsum("rkj,rj->rk", rates, pull)
        new /= new.sum(axis=-1, keepdims=True)
        p[moving] = new
        moving = moving[np.abs(new - old).max(axis=-1) > TOLERANCE]
        if not len(moving):
            break
    return p


def em_shares(probs: Any, prior: Any, start: Any | None = None) -> Values:
    """Shares of the classes from the scores of a set, by expectation and maximization.

    Args:
        probs: Scores of the faces of the set, calibrated where the classes are as frequent as in
            ``prior``; (N, K).
        prior: Shares of the classes that the scores were calibrated with, (K,).
        start: Shares to start from; None is ``prior``.

    Returns:
        Shares, (K,).

    Source:
        Saerens, Latinne, Decaestecker: Adjusting the outputs of a classifier to new a priori
        probabilities, Neural Computation 14, 2002.
    """
    prior = np.asarray(prior, np.float64)
    odds = likelihoods(probs, prior)
    p: Values = np.asarray(prior if start is None else start, np.float64)
    for _ in range(ITERATIONS):
        pull = (odds / np.maximum(odds @ p, np.finfo(np.float64).tiny)[:, None]).mean(axis=0)
        new = np.asarray(p * pull / (p @ pull), np.float64)
        done = float(np.abs(new - p).max()) <= TOLERANCE
        p = new
        if done:
            break
    return np.asarray(p, np.float64)


def likelihoods(probs: Any, prior: Any) -> Values:
    """How likely each face looks as it does in each class, up to a factor per face, (N, K)."""
    probs, prior = np.asarray(probs, np.float64), np.asarray(prior, np.float64)
    return np.asarray(np.divide(probs, prior, out=np.zeros_like(probs), where=prior > 0))


def em_variance(probs: Any, prior: Any, shares: Values) -> Values:
    """Variance of ``em_shares`` because the set is finite, (K,); from the observed information."""
    odds = likelihoods(probs, prior)
    odds = odds / np.maximum(odds @ shares, np.finfo(np.float64).tiny)[:, None]
    # Shares sum to 1: directions within the simplex only.
    basis = np.linalg.svd(np.ones((1, len(shares))))[2][1:].T  # (K, K - 1)
    scores = odds @ basis
    information = scores.T @ scores
    return np.asarray(np.diag(basis @ np.linalg.pinv(information) @ basis.T))


def with_bias(probs: Any, temperature: float, bias: Values) -> Values:
    """Scores whose logarithms were divided by a temperature and moved by a bias per class."""
    logs = np.log(np.maximum(np.asarray(probs, np.float64), 1e-12)) / temperature + bias
    logs -= logs.max(axis=-1, keepdims=True)
    found = np.exp(logs)
    return np.asarray(found / found.sum(axis=-1, keepdims=True))


def fit_bias(probs: Any, true: Codes, weight: Values) -> tuple[float, Values]:
    """Temperature and bias per class that make scores fit labeled faces best.

    Args:
        probs: Scores, (n, K).
        true: Annotated classes, (n,).
        weight: How many faces each stands for, (n,).

    Returns:
        The temperature, and biases (K,) of which the first is 0.

    Source:
        Alexandari, Kundaje, Shrikumar: Maximum likelihood with bias-corrected calibration is
        hard-to-beat at label shift adaptation, ICML 2020.
    """
    from scipy.optimize import minimize

    logs = np.log(np.maximum(np.asarray(probs, np.float64), 1e-12))
    hot = np.eye(logs.shape[1])[true]
    share = (weight / weight.sum())[:, None]

    def loss(x: Values) -> tuple[float, Values]:
        scaled = x[0] * logs + np.concatenate([[0.0], x[1:]])
        scaled -= scaled.max(axis=1, keepdims=True)
        normal = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        error = share * (np.exp(normal) - hot)
        # A weak pull to the scores as they are keeps classes without faces finite.
        pull = 1e-4 * (x - start)
        slope = np.concatenate([[(error * logs).sum()], error.sum(axis=0)[1:]])
        value = -(share * hot * normal).sum() + 0.5e-4 * ((x - start) ** 2).sum()
        return float(value), slope + pull

    start = np.concatenate([[1.0], np.zeros(logs.shape[1] - 1)])
    bounds = [(0.05, 20.0), *[(-10.0, 10.0)] * (logs.shape[1] - 1)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(1 / found[0]), np.concatenate([[0.0], found[1:]])


# --- replicates -------------------------------------------------------------------------------


def share_draws(counts: Any, replicates: int, generator: np.random.Generator) -> Values:
    """Shares as they might have come out for other faces from the same source; (R, ...)."""
    drawn = generator.standard_gamma(np.asarray(counts, np.float64), (replicates, *counts.shape))
    return np.asarray(drawn / drawn.sum(axis=tuple(range(1, drawn.ndim)), keepdims=True))


def joint_draws(
    faces: LabelledFaces, replicates: int, generator: np.random.Generator, *, axis: int
) -> Values:
    """Labeled faces as they might have come out; (R, K, K, B), any scale.

    Every face gets a random weight, within its stratum, such that the variance of a total is that
    of stratified sampling. ``PSEUDO_FACES`` are added to every class along ``axis`` (0: annotated,
    1: predicted), spread evenly over the other axis, so that a confusion that was not seen is not
    impossible.

    Source:
        Rubin: The Bayesian bootstrap, Annals of Statistics 9, 1981; Rao, Wu: Resampling inference
        with complex survey data, JASA 83, 1988 (the scale for small strata).
    """
    from scipy.sparse import csr_array

    stratum = merged_strata(faces.stratum)
    order = np.argsort(stratum, kind="stable")
    sizes = np.bincount(stratum)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    n, size = sizes[stratum[order]], int(np.prod(faces.shape))
    # Sums over the faces of one place, as a product with their weights.
    places = csr_array(
        (faces.weight[order], (faces.cell[order], np.arange(len(order)))), (size, len(order))
    )
    step, parts = max(DRAWN_AT_ONCE // len(order), 1), []
    for first in range(0, replicates, step):
        rows = min(step, replicates - first)
        drawn = generator.standard_gamma(np.maximum(n - 2, 0.5) / n, (rows, len(order)))
        totals = np.maximum(np.add.reduceat(drawn, starts, axis=1), np.finfo(np.float64).tiny)
        drawn *= np.repeat(sizes / totals, sizes, axis=1)
        parts.append(np.asarray((places @ drawn.T).T))
    joint = np.concatenate(parts).reshape(replicates, *faces.shape)
    return joint + _pseudo(faces.shape, axis, generator, joint) * np.mean(faces.weight)


def count_draws(
    counts: Any, replicates: int, generator: np.random.Generator, *, axis: int = 0
) -> Values:
    """Counts by annotated class, predicted class and bin as they might have come out.

    The same as ``joint_draws`` for faces that stand for one each, whatever their number.
    """
    counts = np.asarray(counts, np.float64)
    joint = generator.standard_gamma(counts, (replicates, *counts.shape))
    return joint + _pseudo(counts.shape, axis, generator, joint)


def _pseudo(
    shape: tuple[int, ...], axis: int, generator: np.random.Generator, joint: Values
) -> Values:
    """Pseudo-faces, for the classes along an axis that have any face."""
    spread = PSEUDO_FACES * shape[axis] / np.prod(shape)
    others = tuple(place for place in (1, 2, 3) if place != axis + 1)
    present = joint.sum(axis=others, keepdims=True) > 0
    return np.asarray(generator.standard_gamma(spread, joint.shape) * present)


def merged_strata(stratum: Codes) -> Codes:
    """Strata of which each has a few faces: small ones are joined with the next."""
    sizes = np.bincount(stratum)
    place, new, filled = np.zeros(len(sizes), np.int64), 0, 0
    for old, size in enumerate(sizes):
        place[old] = new
        filled += size
        if filled >= FEW_IN_STRATUM:
            new, filled = new + 1, 0
    if filled and new:  # What is left over belongs to the last one that is complete.
        place[place == new] = new - 1
    return np.asarray(np.unique(place[stratum], return_inverse=True)[1], np.int64)


def identified(rates: Values, draws: Values) -> bool:
    """Whether a confusion can be told from one that cannot be inverted.

    It cannot where the determinant has the other sign in more than 2.5 % of the replicates: some
    mixture of classes is then predicted like another, as far as the labeled faces tell.
    """
    sign = np.sign(np.linalg.det(rates))
    return bool(sign != 0 and (np.sign(np.linalg.det(draws)) != sign).mean() <= 0.025)
