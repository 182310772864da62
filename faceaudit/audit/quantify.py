"""Shares of classes in a set of faces, corrected for how the model confuses them.

Two ways, which rest on different things:

* ``post_stratified``: faces of the set itself were sampled at random and labeled. Nothing is
  assumed of the model.
* ``adjusted_count`` and ``em_shares``: other faces were labeled. Both assume label shift: a face
  of a class is predicted and scored in the set as it was among the labeled faces, and only how
  frequent the classes are differs.

How far single faces move these estimates, which is what their intervals rest on, is here too.
Functions take plain arrays; leading axes of shares and rates are sets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.metrics import ratio

Values = NDArray[np.float64]
Codes = NDArray[np.int64]
ITERATIONS = 2_000
TOLERANCE = 1e-7
"""Estimates have converged when no share moves by more than this in a step."""
PSEUDO_FACES = 0.5
"""Faces added to every class for the spread alone, so that a confusion not seen is possible."""
SURE = 1.96
"""Standard errors that a determinant must be from 0 for its matrix to be inverted."""


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


def not_identified(joint: Values) -> tuple[int, int] | None:
    """The two classes that are confused most, where a confusion cannot surely be inverted.

    It cannot where its determinant is less than ``SURE`` standard errors from 0: some mixture of
    classes is then predicted like another, as far as the labeled faces tell.

    Args:
        joint: Labeled faces by annotated and predicted class, (K, K).
    """
    size, faces = len(joint), joint.sum(axis=1, keepdims=True)
    smooth = (joint + PSEUDO_FACES / size) / (faces + PSEUDO_FACES)
    rates = rates_of(joint)
    if np.linalg.cond(rates) < 1 / np.finfo(np.float64).eps:
        # d log det(M) = trace(M^-1 dM): a face of class i, predicted j, moves it by (M^-1)_ji.
        moves = np.linalg.inv(rates).T
        mean = (smooth * moves).sum(axis=1, keepdims=True)
        variance = (smooth * np.square(moves - mean)).sum(axis=1) / faces[:, 0]
        if variance.sum() * SURE**2 < 1:
            return None
    apart = np.abs(rates[:, None] - rates).sum(axis=-1) + 2 * np.eye(size)
    first, second = np.unravel_index(apart.argmin(), apart.shape)
    return int(first), int(second)
