"""AGE_METRICS: errors in years and in age groups, as functions from counts to values."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from faceaudit.audit.metrics import Metric, Values, labelled_faces, ratio
from faceaudit.audit.tally import AGE_YEARS, ERROR_LIMIT, YearErrors
from faceaudit.errors import UnknownNameError

CS_YEARS = 5
CHALLENGE_YEARS, LEGAL_YEARS = 25, 18
"""The usual age check: who looks younger than 25 must prove to be 18."""
SIGNED, ABSOLUTE, SQUARED, FOURTH = range(4)
"""Places of the sums in ``YearErrors.sums``."""


def signed_steps(size: int) -> NDArray[np.int64]:
    """Signed distance in groups of every cell of a confusion, predicted minus annotated, (K, K)."""
    return np.arange(size)[None, :] - np.arange(size)[:, None]


def _step_mean(confusion: Any, weights: Any) -> Values:
    counts = np.asarray(confusion, np.float64)
    flat = counts.reshape(*counts.shape[:-2], counts.shape[-2] * counts.shape[-1])
    # A product with a vector is several times faster than a sum over two short axes.
    return ratio(flat @ np.ravel(weights).astype(np.float64), labelled_faces(confusion))


def one_off(confusion: Any) -> Values:
    """Share of faces in the annotated age group or one beside it, from (..., K, K)."""
    return _step_mean(confusion, np.abs(signed_steps(np.shape(confusion)[-1])) <= 1)


def step_mae(confusion: Any) -> Values:
    """Mean distance between predicted and annotated age group, in groups, from (..., K, K)."""
    return _step_mean(confusion, np.abs(signed_steps(np.shape(confusion)[-1])))


def mean_signed_step(confusion: Any) -> Values:
    """Mean of predicted minus annotated age group, in groups, from (..., K, K)."""
    return _step_mean(confusion, signed_steps(np.shape(confusion)[-1]))


def step_sides(confusion: Any, power: int = 1) -> Values:
    """Mean distance in groups, to a power, of what is judged too old and too young, (..., 2).

    Every face counts on both sides, with 0 where it is not off to that one.

    Args:
        confusion: Faces by annotated and predicted age group, (..., K, K).
        power: 2 for the mean squared distance.
    """
    steps = signed_steps(np.shape(confusion)[-1])
    sides = (np.maximum(steps, 0), np.maximum(-steps, 0))
    return np.stack([_step_mean(confusion, side**power) for side in sides], axis=-1)


def mean_squared_step(confusion: Any) -> Values:
    """Mean squared distance between predicted and annotated age group, from (..., K, K)."""
    return _step_mean(confusion, np.square(signed_steps(np.shape(confusion)[-1])))


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


def cs_at_k(years: YearErrors, k: int) -> Values:
    """Share of faces whose predicted age is at most ``k`` years off, both ends included.

    Args:
        years: Age errors; leading axes are subgroups.
        k: Tolerance in whole years, 0 to 99.

    Source:
        Geng, Zhou, Smith-Miles: Automatic age estimation based on facial aging patterns, TPAMI 29,
        2007 (cumulative score).
    """
    if not 0 <= k < ERROR_LIMIT:
        raise ValueError(f"k is a tolerance of 0 to {ERROR_LIMIT - 1} whole years, got {k}")
    within = slice(ERROR_LIMIT - k, ERROR_LIMIT + k + 1)
    return ratio(years.errors[..., within].sum(axis=-1), years.faces)


def challenge_false_positives(
    ages: Any, threshold: int = CHALLENGE_YEARS, legal: int = LEGAL_YEARS, youngest: int = 0
) -> Values:
    """Share of faces annotated below the legal age that pass an age check unchallenged.

    A face passes if its predicted age is at or above the threshold, so that a false positive lets a
    minor through. NIST tabulates narrow ranges of annotated ages, such as 14 to 17: errors of
    small children say little of the check. ``youngest`` narrows the range likewise.

    Args:
        ages: Faces by annotated and predicted whole year, (..., AGE_YEARS, AGE_YEARS).
        threshold: Predicted age from which nobody is challenged, in whole years from 1.
        legal: Legal age in whole years.
        youngest: Youngest annotated age that counts.

    Source:
        Hanaoka et al.: Face analysis technology evaluation: age estimation and verification, NIST
        IR 8525, 2024 (Challenge-T; false positive: below the age limit and estimated at T or over).
    """
    minors = np.asarray(ages)[..., youngest:legal, :]
    return ratio(minors[..., threshold:].sum(axis=(-2, -1)), minors.sum(axis=(-2, -1)))


def challenge_false_negatives(
    ages: Any, threshold: int = CHALLENGE_YEARS, legal: int = LEGAL_YEARS
) -> Values:
    """Share of faces annotated at or above the legal age that an age check challenges.

    Args:
        ages: Faces by annotated and predicted whole year, (..., AGE_YEARS, AGE_YEARS).
        threshold: Predicted age below which everybody is challenged, in whole years from 1.
        legal: Legal age in whole years.

    Source:
        NIST IR 8525, as ``challenge_false_positives``.
    """
    adults = np.asarray(ages)[..., legal:, :]
    return ratio(adults[..., :threshold].sum(axis=(-2, -1)), adults.sum(axis=(-2, -1)))


def minors(ages: Any, legal: int = LEGAL_YEARS) -> Values:
    """Faces annotated below the legal age, from (..., AGE_YEARS, AGE_YEARS)."""
    return np.asarray(np.asarray(ages)[..., :legal, :].sum(axis=(-2, -1)))


def adults(ages: Any, legal: int = LEGAL_YEARS) -> Values:
    """Faces annotated at or above the legal age, from (..., AGE_YEARS, AGE_YEARS)."""
    return np.asarray(np.asarray(ages)[..., legal:, :].sum(axis=(-2, -1)))


def check_marks(annotated: slice, predicted: slice) -> NDArray[np.bool_]:
    """Whole years of the faces that count and of the hits among them, (2, AGE_YEARS, AGE_YEARS).

    Args:
        annotated: The years that a face which counts is annotated with.
        predicted: The years that a hit is predicted as.
    """
    marks = np.zeros((2, AGE_YEARS, AGE_YEARS), np.bool_)
    marks[0, annotated] = True
    marks[1, annotated, predicted] = True
    return marks


def share_of_marks(metric: Metric) -> Metric:
    """The same metric as a function of the faces that count and the hits, (..., 2)."""
    return replace(
        metric,
        function=lambda sums: ratio(np.asarray(sums)[..., 1], np.asarray(sums)[..., 0]),
        faces=lambda sums: np.asarray(sums)[..., 0],
    )


def faces_with_years(years: YearErrors) -> Values:
    """Faces with an annotated and a predicted age."""
    return np.asarray(years.faces, np.float64)


def cs_metric(k: int) -> Metric:
    """The metric CS@k."""
    return Metric(
        name=f"cs_at_{k}",
        title=f"CS@{k}",
        definition=f"Share of faces whose predicted age is at most {k} years off.",
        source="Geng, Zhou, Smith-Miles: Automatic age estimation based on facial aging patterns, "
        "TPAMI 29, 2007",
        function=partial(cs_at_k, k=k),
        faces=faces_with_years,
        undefined=NO_YEARS,
        needs="years",
    )


def challenge_metrics(threshold: int, legal: int = LEGAL_YEARS) -> tuple[Metric, Metric]:
    """False positive and false negative rate of an age check, ``challenge_25_fpr`` and ``_fnr``."""
    source = "NIST IR 8525, Face analysis technology evaluation: age estimation and verification"
    return (
        Metric(
            name=f"challenge_{threshold}_fpr",
            title=f"Challenge {threshold}: minors passed",
            definition=f"Share of faces annotated below {legal} whose predicted age is {threshold} "
            "or more: an age check would let them pass.",
            source=source,
            function=partial(challenge_false_positives, threshold=threshold, legal=legal),
            faces=partial(minors, legal=legal),
            undefined=f"no face with a predicted age is annotated below {legal} years",
            needs="ages",
            better="lower",
            marks=partial(check_marks, slice(legal), slice(threshold, None)),
        ),
        Metric(
            name=f"challenge_{threshold}_fnr",
            title=f"Challenge {threshold}: adults challenged",
            definition=f"Share of faces annotated {legal} or older whose predicted age is below "
            f"{threshold}: an age check would ask them for proof.",
            source=source,
            function=partial(challenge_false_negatives, threshold=threshold, legal=legal),
            faces=partial(adults, legal=legal),
            undefined=f"no face with a predicted age is annotated {legal} years or older",
            needs="ages",
            better="lower",
            marks=partial(check_marks, slice(legal, None), slice(threshold)),
        ),
    )


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
        interval="steps",
        better="lower",
        unit="groups",
        second_moment=mean_squared_step,
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
        interval="signed_steps",
        better="zero",
        unit="groups",
        second_moment=mean_squared_step,
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
        interval="positive",
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
    cs_metric(CS_YEARS),
    *challenge_metrics(CHALLENGE_YEARS),
]
"""Metrics of age groups (task ``age_group``) and of years (task ``age``)."""


def age_metric(name: str) -> Metric:
    """A metric by its name, ``cs_at_K`` and ``challenge_T_fpr`` or ``_fnr`` for any K and T.

    Raises:
        UnknownNameError: If no metric has this name.

    Example:
        >>> age_metric("cs_at_3").title
        'CS@3'
    """
    made = list(AGE_METRICS)
    if found := re.fullmatch(r"cs_at_(\d{1,2})", name):
        made.append(cs_metric(int(found[1])))
    if found := re.fullmatch(r"challenge_([1-9]\d{0,2})_f[pn]r", name):
        made += challenge_metrics(int(found[1]))
    for metric in made:
        if metric.name == name:
            return metric
    raise UnknownNameError("age metric", name, [metric.name for metric in AGE_METRICS])
