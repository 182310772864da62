"""Named disparities against fairlearn's, and the spread of errors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from faceaudit.audit.fairness import FAIRNESS, over_geometric_mean
from faceaudit.audit.measure import EVERY_METRIC
from faceaudit.audit.results import Disparity, Estimate, MetricValue
from faceaudit.audit.run import audit
from faceaudit.tables import PredictionTable


@pytest.fixture(scope="module")
def frame(rows_of: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    return rows_of(900, seed=21).filter(status="ok")


@pytest.fixture
def disparities(
    open_table: Callable[..., PredictionTable], frame: pl.DataFrame
) -> tuple[Disparity, ...]:
    table = open_table(frame)
    return audit(table, by=["gender"], min_n=1, replicates=100, verify="never").disparities


@pytest.mark.parametrize("fairness", FAIRNESS, ids=lambda one: one.name)
def test_named_disparities_agree_with_fairlearn(
    fairness: object, frame: pl.DataFrame, disparities: tuple[Disparity, ...]
) -> None:
    import fairlearn.metrics

    name = fairness.name  # type: ignore[attr-defined]
    labels = {one.label for one in disparities if (one.task, one.metric) == ("race", name)}
    assert labels == set(frame["race_true"])
    for label in labels:
        found = next(
            one for one in disparities if (one.task, one.metric, one.label) == ("race", name, label)
        )
        for kind in ("difference", "ratio"):
            expected = getattr(fairlearn.metrics, f"{name}_{kind}")(
                (frame["race_true"] == label).to_numpy(),
                (frame["race_pred"] == label).to_numpy(),
                sensitive_features=frame["gender_true"].to_numpy(),
            )
            assert getattr(found, kind) == pytest.approx(expected, abs=1e-12)


def test_a_disparity_without_a_part_is_not_defined(disparities: tuple[Disparity, ...]) -> None:
    # Among faces of one annotated gender nobody is wrongly predicted as that gender.
    odds = [one for one in disparities if (one.task, one.metric) == ("gender", "equalized_odds")]
    assert len(odds) == 2
    for one in odds:
        assert one.difference is None
        assert one.reason


def values(*given: tuple[float | None, int]) -> list[MetricValue]:
    return [
        MetricValue("race", "m", {"g": str(index)}, Estimate(value, None, None, n))
        for index, (value, n) in enumerate(given)
    ]


def metric_named(name: str) -> object:
    return next(metric for metric in EVERY_METRIC if metric.name == name)


def test_the_highest_error_over_the_geometric_mean() -> None:
    accuracy, mae = metric_named("accuracy"), metric_named("mae")
    found = over_geometric_mean(accuracy, values((0.9, 50), (0.6, 50), (0.1, 5)), 30)
    assert found == pytest.approx(0.4 / np.sqrt(0.1 * 0.4))
    assert over_geometric_mean(mae, values((3.0, 50), (3.0, 50)), 30) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("accuracy", [(1.0, 50), (0.9, 50)]),
        ("accuracy", [(0.8, 50), (None, 50)]),
        ("mean_signed_error", [(1.0, 50), (2.0, 50)]),
        ("selection_rate", [(0.2, 50), (0.4, 50)]),
    ],
)
def test_without_errors_to_compare_there_is_no_geometric_mean(
    name: str, given: list[tuple[float | None, int]]
) -> None:
    assert over_geometric_mean(metric_named(name), values(*given), 30) is None
