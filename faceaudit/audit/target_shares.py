"""Whether a set whose classes are known through what is predicted has given shares."""

from __future__ import annotations

import numpy as np

from faceaudit.audit.metrics import Values, ratio
from faceaudit.audit.moves import Moves, judged
from faceaudit.audit.quantify import rates_of
from faceaudit.audit.results import FitTest

STEPS, SETTLED = 5_000, 1e-9
"""Of the search for rates: how many at most, and the largest change that ends it."""
INNER = 0.5
"""Faces of every cell where the search begins: from a rate of 0 it would never move away."""


def score_test(
    seen: Values, faces: float, joint: Values, shares: Values, sources: tuple[Moves, Moves]
) -> FitTest:
    """Rao's score test that the classes of a set have these shares.

    Were they the true ones, faces would be predicted as a mixture of the labeled classes by them.
    How far the predicted shares are from that is judged by the spread that it would have if they
    were: a class of which few labeled faces happen to be mistaken for another does not make the
    distance look sure. Spreads are those of independent faces, times what units or weights raise
    them by.

    Args:
        seen: Predicted shares of the set, (K,).
        faces: Faces of the set.
        joint: Labeled faces by annotated and predicted class, (K, K).
        shares: That are tested, (K,).
        sources: How far faces of the set, and the labeled ones, move the predicted shares, and
            those expected of it, with K figures each.

    Source:
        Rao: Large sample tests of statistical hypotheses concerning several parameters, Proceedings
        of the Cambridge Philosophical Society 44, 1948.
    """
    rates, labelled = rates_of(joint), joint.sum(axis=1)
    under = restricted_rates(joint, faces * seen, shares)
    expected = shares @ under
    spreads = zip(
        _spreads(seen, rates, faces, labelled, shares),
        _spreads(expected, under, faces, labelled, shares),
        sources,
        strict=True,
    )
    covariance = np.zeros_like(rates)
    for plain, null, moves in spreads:
        of_moves, of_counts = (
            np.nan_to_num(ratio(np.diag(one), expected)).sum() for one in (moves.covariance, plain)
        )
        covariance += null * max(1.0, float(np.nan_to_num(ratio(of_moves, of_counts))))
    return judged(seen - shares @ rates, covariance, min(one.freedom for one in sources))


def restricted_rates(joint: Values, counts: Values, shares: Values) -> Values:
    """How classes are predicted, (K, K), most likely if the set has these shares.

    Args:
        joint: Labeled faces by annotated and predicted class, (K, K).
        counts: Faces of the set by predicted class, (K,).
        shares: Of the annotated classes in the set, (K,).

    Source:
        Dempster, Laird, Rubin: Maximum likelihood from incomplete data via the EM algorithm,
        Journal of the Royal Statistical Society B 39, 1977.
    """
    rates = rates_of(joint + INNER)
    for _ in range(STEPS):
        of_class = shares[:, None] * rates
        mixed = joint + np.nan_to_num(ratio(of_class, of_class.sum(axis=0))) * counts
        found = rates_of(mixed)
        if np.abs(found - rates).max() < SETTLED:
            return found
        rates = found
    return rates


def _spreads(
    seen: Values, rates: Values, faces: float, labelled: Values, shares: Values
) -> tuple[Values, Values]:
    """Covariance of predicted shares by the set's faces, and by the labeled ones, (K, K) each."""
    by_class = [
        share**2 / n * _multinomial(one)
        for share, n, one in zip(shares, labelled, rates, strict=True)
    ]
    return _multinomial(seen) / faces, np.sum(by_class, axis=0)


def _multinomial(shares: Values) -> Values:
    return np.asarray(np.diag(shares) - np.outer(shares, shares))
