"""Shares of classes from the scores of a set: by expectation and maximization.

The scores are recalibrated on labeled faces first. Both steps are maximum likelihood, so that how
far a face moves the shares follows from the slopes of the two likelihoods, without leaving any out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from faceaudit.audit.metrics import Values
from faceaudit.audit.moves import Moves
from faceaudit.audit.quantify import ITERATIONS, TOLERANCE, Codes

SLOPE_SPREAD, BIAS_SPREAD = 0.7, 3.0
"""How far the logarithm of the slope, and the biases, are expected from 0: a few labeled faces
that happen to be told apart without error do not make scores certain."""
MOST_PULLED = 0.9
"""Leverage of a labeled face, at most."""
SMALLEST = 1e-12
"""Scores are raised to this before their logarithm."""


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


@dataclass(frozen=True)
class Recalibration:
    """How scores are brought to labeled faces: their logarithms times a slope, plus a bias."""

    slope: float
    bias: Values  # (K,), of which the first is 0

    def apply(self, probs: Any) -> Values:
        """Recalibrated scores, (N, K)."""
        scaled = self.slope * logarithms(probs) + self.bias
        found = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return np.asarray(found / found.sum(axis=-1, keepdims=True))


def logarithms(probs: Any) -> Values:
    """Logarithms of scores, none of them infinite."""
    return np.asarray(np.log(np.maximum(np.asarray(probs, np.float64), SMALLEST)))


def recalibrate(probs: Any, true: Codes, weight: Values) -> Recalibration:
    """Slope and bias per class that make scores fit labeled faces best.

    Args:
        probs: Scores, (n, K).
        true: Annotated classes, (n,).
        weight: How many faces each stands for, (n,).

    Source:
        Alexandari, Kundaje, Shrikumar: Maximum likelihood with bias-corrected calibration is
        hard-to-beat at label shift adaptation, ICML 2020.
    """
    from scipy.optimize import minimize

    logs = logarithms(probs)
    hot = np.eye(logs.shape[1])[true]
    share = (weight / weight.sum())[:, None]
    pull = _pull(logs.shape[1]) / len(logs)

    def loss(x: Values) -> tuple[float, Values]:
        scaled = np.exp(x[0]) * logs + np.concatenate([[0.0], x[1:]])
        scaled -= scaled.max(axis=1, keepdims=True)
        normal = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        error = share * (np.exp(normal) - hot)
        slope = np.concatenate([[np.exp(x[0]) * (error * logs).sum()], error.sum(axis=0)[1:]])
        value = -(share * hot * normal).sum() + (pull * np.square(x)).sum() / 2
        return float(value), slope + pull * x

    start = np.zeros(logs.shape[1])
    bounds = [(-3.0, 3.0), *[(-10.0, 10.0)] * (logs.shape[1] - 1)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-10).x
    return Recalibration(float(np.exp(found[0])), np.concatenate([[0.0], found[1:]]))


def _pull(classes: int) -> Values:
    """Precision of what is expected of the logarithm of the slope, and of the biases, (K,)."""
    return np.array([SLOPE_SPREAD**-2.0, *[BIAS_SPREAD**-2.0] * (classes - 1)])


@dataclass(frozen=True)
class Mixture:
    """Shares by EM, and what they were found from."""

    scores: Values  # (N, K), of the set
    own: Values  # (n, K), of labeled faces
    true: Codes  # (n,)
    weight: Values  # (n,)
    prior: Values  # (K,)
    recalibration: Recalibration
    shares: Values  # (K,)

    @classmethod
    def fit(cls, scores: Values, own: Values, true: Codes, weight: Values) -> Mixture:
        """Recalibrate scores on labeled faces, then find the shares of the set by EM."""
        prior = np.bincount(true, weight, own.shape[1])
        prior = np.maximum(prior / prior.sum(), 1e-9)
        found = recalibrate(own, true, weight)
        shares = em_shares(found.apply(scores), prior)
        return cls(scores, own, true, weight, prior, found, shares)

    def moves(self, set_unit: Codes | None, unit: Codes | None) -> list[Moves]:
        """How far the faces of the set, and the labeled ones, move the shares.

        Args:
            set_unit: Block of units of each scored face of the set; None where independent.
            unit: Unit of each labeled face.
        """
        odds = likelihoods(self.recalibration.apply(self.scores), self.prior)
        odds /= np.maximum(odds @ self.shares, np.finfo(np.float64).tiny)[:, None]
        n, mean = len(odds), odds.mean(axis=0)
        curvature = odds.T @ odds / n
        # Shares sum to 1: directions within the simplex only.
        basis = np.linalg.svd(np.ones((1, len(mean))))[2][1:].T  # (K, K - 1)
        inverse = basis @ np.linalg.pinv(basis.T @ curvature @ basis) @ basis.T
        own = self._moves_of_fit() @ (self._slopes(odds, curvature, mean).T @ inverse)
        return [
            Moves.of_faces((odds - mean) @ inverse / n, set_unit),
            Moves.of_faces(self._around_classes(own), unit),
        ]

    def _slopes(self, odds: Values, curvature: Values, mean: Values) -> Values:
        """How the slope of the set's likelihood changes with the fit, (K, 1 + K)."""
        logs = logarithms(self.scores)
        likely = odds * self.shares
        by_slope = (odds * (logs - (likely * logs).sum(axis=1, keepdims=True))).mean(axis=0)
        by_bias = np.diag(mean) - curvature * self.shares
        return np.column_stack([by_slope, by_bias])

    def _moves_of_fit(self) -> Values:
        """How far labeled faces move the slope and, less the prior's logarithm, the biases.

        A face that pulls the fit to itself moves it by more than its error tells: it is divided by
        one less its leverage, which is nearly what leaving it out would change.

        Source:
            MacKinnon, White: Some heteroskedasticity-consistent covariance matrix estimators with
            improved finite sample properties, Journal of Econometrics 29, 1985 (HC3).
        """
        logs, hot = logarithms(self.own), np.eye(self.own.shape[1])[self.true]
        share = (self.weight / self.weight.sum())[:, None]
        probs = self.recalibration.apply(self.own)
        inputs = np.stack([logs, *np.repeat(np.eye(len(self.prior))[1:, None], len(logs), axis=1)])
        centered = inputs - (inputs * probs).sum(axis=-1, keepdims=True)  # (K, n, K)
        information = np.einsum("ank,bnk,nk->ab", centered, inputs, share * probs)
        # The slope itself, not its logarithm, is moved.
        pull = _pull(len(information)) / len(logs)
        pull[0] /= self.recalibration.slope**2
        information += np.diag(pull)
        scores = np.einsum("ank,nk->na", inputs, hot - probs)
        inverse = np.linalg.inv(information)
        moved = share * (scores - (share * scores).sum(axis=0)) @ inverse
        pulled = np.einsum("ank,ab,bnk,nk->n", centered, inverse, centered, share * probs)
        moved /= 1 - np.minimum(pulled / (len(self.prior) - 1), MOST_PULLED)[:, None]
        prior = share * (hot - self.prior) / self.prior
        return np.column_stack([moved[:, 0], -prior[:, 0], moved[:, 1:] - prior[:, 1:]])

    def _around_classes(self, moves: Values) -> Values:
        """Moves less their mean in the annotated class: how many faces it has is no accident."""
        share = self.weight / np.bincount(self.true, self.weight)[self.true]
        means = np.zeros((len(self.prior), moves.shape[1]))
        unweighted = moves / self.weight[:, None]
        np.add.at(means, self.true, share[:, None] * unweighted)
        return np.asarray((unweighted - means[self.true]) * self.weight[:, None])
