"""Two shares of the same faces: the test of McNemar and the score interval of Tango."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.intervals import BISECTIONS, Bounds, normal_quantile
from faceaudit.audit.metrics import Values


def mcnemar(only_first: Any, only_second: Any, *, exact: bool = False) -> Values:
    """Two-sided p value of "as many faces are right in the first alone as in the second alone".

    The mid-p form counts the probability of what was observed once, not twice: it holds its level
    in practice and has more power than the exact form, which is too cautious with few faces.

    Args:
        only_first: Faces that only the first has right; any shape.
        only_second: Faces that only the second has right.
        exact: Whether to give the exact binomial p value.

    Source:
        Fagerland, Lydersen, Laake: The McNemar test for binary matched-pairs data: mid-p and
        asymptotic are better than exact conditional, BMC Medical Research Methodology 13, 2013.
    """
    from scipy.special import bdtr

    b, c = np.asarray(only_first, np.int64), np.asarray(only_second, np.int64)
    fewer, total = np.minimum(b, c), b + c
    below = np.where(fewer > 0, bdtr(np.maximum(fewer - 1, 0.0), total, 0.5), 0)
    up_to = bdtr(fewer.astype(np.float64), total, 0.5)
    twice = 2 * up_to if exact else up_to + below
    return np.asarray(np.minimum(np.where(total > 0, twice, 1.0), 1.0))


def tango_interval(only_first: Any, only_second: Any, n: Any, confidence: float) -> Bounds:
    """Score interval of the difference of two shares of the same faces, second minus first.

    It does not shrink to a point where the two never differ. NaN where there are no faces.

    Args:
        only_first: Faces that only the first has right; any shape.
        only_second: Faces that only the second has right.
        n: All faces.
        confidence: Such as 0.95.

    Source:
        Tango: Equivalence test and confidence interval for the difference in proportions for the
        paired-sample design, Statistics in Medicine 17, 1998.
    """
    z = normal_quantile(confidence)
    b, c, n = np.broadcast_arrays(
        *(np.asarray(part, np.float64) for part in (only_first, only_second, n))
    )
    n = np.where(n > 0, n, np.nan)
    observed = (c - b) / n

    def outside(delta: Values) -> NDArray[np.bool_]:
        return np.asarray(np.abs(c - b - n * delta) > z * np.sqrt(_variance(b, c, n, delta)))

    low = _edge(outside, np.full_like(n, -1.0), observed)
    high = _edge(outside, np.full_like(n, 1.0), observed)
    return np.where(np.isnan(n), np.nan, low), np.where(np.isnan(n), np.nan, high)


def _variance(b: Values, c: Values, n: Values, delta: Values) -> Values:
    """Variance of c - b if the difference were ``delta``, with the likeliest shares."""
    linear = -b - c + (2 * n - c + b) * delta
    constant = -b * delta * (1 - delta)
    root = np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0))
    share = (root - linear) / (4 * n)  # of faces that only the first has right
    return np.asarray(np.maximum(n * (2 * share + delta * (1 - delta)), 0))


def _edge(outside: Any, far: Values, near: Values) -> Values:
    """Where the inside begins, between ``far`` and ``near``; ``far`` where that is inside too."""
    outermost = far
    with np.errstate(invalid="ignore"):
        inside = ~outside(far)
        for _ in range(BISECTIONS):
            middle = (far + near) / 2
            beyond = outside(middle)
            far, near = np.where(beyond, middle, far), np.where(beyond, near, middle)
    return np.where(inside, outermost, (far + near) / 2)
