"""AGE_METRICS: errors in years and in age groups, as functions from counts to values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.metrics import Metric, Values, labelled_faces, ratio
from faceaudit.audit.tally import ERROR_LIMIT, YearErrors

CS_YEARS = 5
SIGNED, ABSOLUTE, SQUARED, FOURTH = range(4)
"""Places of the sums in ``YearErrors.sums``."""


def _steps(size: int) -> NDArray[np.int64]:
    """Signed distance in groups of every cell of a confusion, predicted minus annotated, (K, K)."""
    return np.arange(size)[None, :] - np.arange(size)[:, None]


def _step_mean(confusion: Any, weights: Any) -> Values:
    return ratio((np.asarray(confusion) * weights).sum(axis=(-2, -1)), labelled_faces(confusion))


def one_off(confusion: Any) -> Values:
    """Share of faces in the annotated age group or one beside it, from (..., K, K)."""
    return _step_mean(confusion, np.abs(_steps(np.shape(confusion)[-1])) <= 1)


def step_mae(confusion: Any) -> Values:
    """Mean distance between predicted and annotated age group, in groups, from (..., K, K)."""
    return _step_mean(confusion, np.abs(_steps(np.shape(confusion)[-1])))


def mean_signed_step(confusion: Any) -> Values:
    """Mean of predicted minus annotated age group, in groups, from (..., K, K)."""
    return _step_mean(confusion, _steps(np.shape(confusion)[-1]))


def mae(years: YearErrors) -> Values:
    """Mean absolute error in years."""
    return ratio(years.sums[..., ABSOLUTE], years.faces)


def mean_squared_error(years: YearErrors) -> Values:
    """Mean squared error, in squared years."""
    return ratio(years.sums[..., SQUARED], years.faces)


def rmse(years: YearErrors) -> Values:
    """Root of the mean squared error, in years."""
    return np.sqrt(mean_squared_error(years))


def mean_signed_error(years: YearErrors) -> Values:
    """Mean of predicted minus annotated age, in years."""
    return ratio(years.sums[..., SIGNED], years.faces)


def mean_fourth_power(years: YearErrors) -> Values:
    """Mean fourth power of the error."""
    return ratio(years.sums[..., FOURTH], years.faces)


def cs_at_5(years: YearErrors) -> Values:
    """Share of faces whose predicted age is at most 5 years off."""
    within = slice(ERROR_LIMIT - CS_YEARS, ERROR_LIMIT + CS_YEARS + 1)
    return ratio(years.errors[..., within].sum(axis=-1), years.faces)


def faces_with_years(years: YearErrors) -> Values:
    """Faces with an annotated and a predicted age."""
    return np.asarray(years.faces, np.float64)


NO_GROUPS = "no face has both an annotated and a predicted age group"
NO_YEARS = "no face has both an annotated and a predicted age in years"

AGE_METRICS: list[Metric] = [
    Metric(
        name="one_off",
        title="One-off accuracy",
        definition="Share of faces in the annotated age group or one beside it.",
        source="Levi, Hassner: Age and gender classification using convolutional neural networks, "
        "CVPR workshops 2015",
        function=one_off,
        faces=labelled_faces,
        undefined=NO_GROUPS,
        needs="groups",
    ),
    Metric(
        name="step_mae",
        title="Mean distance in groups",
        definition="Mean distance between the predicted and the annotated age group, in groups.",
        source="scikit-learn, sklearn.metrics.mean_absolute_error on group numbers",
        function=step_mae,
        faces=labelled_faces,
        undefined=NO_GROUPS,
        needs="groups",
        interval="replicates",
        better="lower",
        unit="groups",
    ),
    Metric(
        name="mean_signed_step",
        title="Mean signed distance in groups",
        definition="Mean of predicted minus annotated age group; above 0 means judged too old.",
        source="mean of predicted minus annotated group number",
        function=mean_signed_step,
        faces=labelled_faces,
        undefined=NO_GROUPS,
        needs="groups",
        interval="replicates",
        better="zero",
        unit="groups",
    ),
    Metric(
        name="mae",
        title="Mean absolute error",
        definition="Mean distance between the predicted and the annotated age, in years.",
        source="scikit-learn, sklearn.metrics.mean_absolute_error",
        function=mae,
        faces=faces_with_years,
        undefined=NO_YEARS,
        needs="years",
        interval="mean",
        better="lower",
        unit="years",
        second_moment=mean_squared_error,
    ),
    Metric(
        name="rmse",
        title="Root mean squared error",
        definition="Root of the mean squared difference of predicted and annotated age, in years.",
        source="scikit-learn, sklearn.metrics.root_mean_squared_error",
        function=rmse,
        faces=faces_with_years,
        undefined=NO_YEARS,
        needs="years",
        interval="root",
        better="lower",
        unit="years",
        second_moment=mean_fourth_power,
    ),
    Metric(
        name="mean_signed_error",
        title="Mean signed error",
        definition="Mean of predicted minus annotated age, in years; above 0 means judged too old.",
        source="mean of predicted minus annotated age",
        function=mean_signed_error,
        faces=faces_with_years,
        undefined=NO_YEARS,
        needs="years",
        interval="mean",
        better="zero",
        unit="years",
        second_moment=mean_squared_error,
    ),
    Metric(
        name="cs_at_5",
        title="CS@5",
        definition="Share of faces whose predicted age is at most 5 years off.",
        source="Geng, Zhou, Smith-Miles: Automatic age estimation based on facial aging patterns, "
        "TPAMI 29, 2007",
        function=cs_at_5,
        faces=faces_with_years,
        undefined=NO_YEARS,
        needs="years",
    ),
]
"""Metrics of age groups (task ``age_group``) and of years (task ``age``)."""
