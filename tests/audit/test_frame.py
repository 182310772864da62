"""Figures as frames, and fairlearn's MetricFrame of the same rows."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
from sklearn.metrics import accuracy_score, mean_absolute_error

from faceaudit.audit.age import AGE_METRICS
from faceaudit.audit.frame import to_metric_frame
from faceaudit.audit.metrics import METRICS
from faceaudit.audit.results import Audit
from faceaudit.audit.run import audit
from faceaudit.audit.suppress import suppress
from faceaudit.errors import SchemaError, UnknownNameError, UsageError
from faceaudit.tables import PredictionTable

RowsOf = Callable[..., pl.DataFrame]
OpenTable = Callable[..., PredictionTable]
QUICK = {"replicates": 100, "verify": "never"}
OF_CLASSES = [m.name for m in METRICS if not m.per_class]
OF_YEARS = [m.name for m in AGE_METRICS if m.needs in {"years", "ages"}]
BOUND = {"macro_auc", "macro_average_precision"}


def value_of(found: Audit, task: str, metric: str, **subgroup: str) -> float | None:
    (only,) = [
        one.estimate.value
        for one in found.metrics
        if (one.task, one.metric, one.subgroup) == (task, metric, subgroup)
    ]
    return only


@pytest.mark.parametrize(("task", "names"), [("race", OF_CLASSES), ("age", OF_YEARS)])
def test_metric_frame_holds_the_figures_of_the_audit(
    task: str, names: list[str], rows_of: RowsOf, open_table: OpenTable
) -> None:
    table = open_table(rows_of(500))
    found = audit(table, by=["gender"], **QUICK)
    frame = to_metric_frame(table, names, task=task, by=["gender"])
    for gender in ("Female", "Male"):
        for name in names:
            expected = value_of(found, task, name, gender=gender)
            assert frame.by_group.loc[gender, name] == pytest.approx(expected, abs=1e-9)
    (difference,) = [
        one.difference for one in found.disparities if (one.task, one.metric) == (task, names[0])
    ]
    assert frame.difference()[names[0]] == pytest.approx(difference)


def test_metric_frame_takes_own_functions_intersections_and_a_control_feature(
    rows_of: RowsOf, open_table: OpenTable
) -> None:
    table = open_table(rows_of(600).with_columns(site=pl.int_range(600) % 2))
    found = audit(table, by=["gender", "race"], within="site", **QUICK)
    frame = to_metric_frame(
        table, accuracy_score, task="gender", by=["gender", "race"], within="site"
    )
    assert frame.control_levels == ["site"]
    for site, gender, race in [("0", "Female", "Black"), ("1", "Male", "Asian")]:
        expected = value_of(found, "gender", "accuracy", site=site, gender=gender, race=race)
        assert frame.by_group[site, gender, race] == pytest.approx(expected)
    several = to_metric_frame(table, {"error": mean_absolute_error}, task="age", by=["race"])
    expected = value_of(found, "age", "mae", race="Indian")
    assert several.by_group.loc["Indian", "error"] == pytest.approx(expected)


def test_what_a_metric_frame_cannot_hold_is_refused(rows_of: RowsOf, open_table: OpenTable) -> None:
    table = open_table(rows_of(60).drop(pl.col("^race_prob_.*$")))
    with pytest.raises(UnknownNameError, match="no metric of a whole subgroup is called 'recall'"):
        to_metric_frame(table, "recall", task="race")
    with pytest.raises(UnknownNameError, match="no task is called 'hair'"):
        to_metric_frame(table, "accuracy", task="hair")
    with pytest.raises(SchemaError, match="has no scores"):
        to_metric_frame(table, "macro_auc", task="race")
    with pytest.raises(UsageError, match="give task=age"):
        to_metric_frame(table, "mae", task="race")
    bare = open_table(rows_of(60).drop("gender_true", "race_true", "age_true"))
    with pytest.raises((SchemaError, UsageError), match="no annotated"):
        to_metric_frame(bare, "accuracy", task="race")


def test_frames_hold_every_figure_with_its_place(rows_of: RowsOf, open_table: OpenTable) -> None:
    table = open_table(rows_of(300).with_columns(n=pl.int_range(300) % 2))
    found = audit(table, by=["gender", "n"], **QUICK)
    frame = found.to_polars()
    assert frame.height == len(found.metrics)
    assert frame.columns == [
        "task",
        "metric",
        "class",
        "gender",
        "subgroup_n",
        "n",
        "value",
        "low",
        "high",
        "reason",
        "small",
    ]
    one = frame.filter(
        pl.col("gender") == "Female",
        subgroup_n="1",
        task="race",
        metric="recall",
        **{"class": "Black"},
    )
    (expected,) = [
        m.estimate
        for m in found.metrics
        if (m.task, m.metric, m.label) == ("race", "recall", "Black")
        and m.subgroup == {"gender": "Female", "n": "1"}
    ]
    assert one["value"].item() == expected.value
    assert one["n"].item() == expected.n
    assert frame.filter(pl.col("value").is_null())["reason"].null_count() == 0
    pandas = found.to_pandas()
    assert list(pandas.columns) == frame.columns
    assert pandas["value"].sum() == pytest.approx(frame["value"].sum())
    hidden = suppress(found, 40).to_polars()
    assert hidden["n"].drop_nulls().filter(hidden["n"].drop_nulls() > 0).min() >= 40
