"""Tallies add, and their bins are what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceaudit.audit.subgroups import Feature, find_features
from faceaudit.audit.tally import (
    ERROR_BINS,
    ERROR_LIMIT,
    SCORE_BINS,
    Tally,
    cut,
    error_bin,
    score_bin,
    score_edges,
    tally,
)
from faceaudit.tables import PredictionTable, read_table

FEATURES = (Feature("gender", "gender_true"), Feature("race", "race_true"), Feature("site", "site"))


def tally_of(frame: pl.DataFrame, path: Path) -> Tally:
    frame.write_parquet(path)
    return tally(read_table(path), FEATURES)


def assert_equal_tallies(first: Tally, second: Tally) -> None:
    assert first.cells == second.cells
    assert first.statuses == second.statuses
    assert first.rows == second.rows
    np.testing.assert_array_equal(first.images, second.images)
    for name in ("confusion", "predicted", "scores"):
        mine, theirs = getattr(first, name), getattr(second, name)
        assert mine.keys() == theirs.keys()
        for task in mine:
            np.testing.assert_array_equal(mine[task], theirs[task])
    np.testing.assert_array_equal(first.years.errors, second.years.errors)
    np.testing.assert_allclose(first.years.sums, second.years.sums, rtol=1e-12, atol=1e-9)


@given(seed=st.integers(0, 10**6), split=st.integers(1, 119), sites=st.integers(1, 3))
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_tallies_add(
    tmp_path: Path,
    rows_of: Callable[..., pl.DataFrame],
    seed: int,
    split: int,
    sites: int,
) -> None:
    frame = rows_of(120, seed=seed).with_columns(
        site=pl.int_range(pl.len()) % sites,
        gender_true=pl.when(pl.int_range(pl.len()) % 7 > 0).then("gender_true"),
    )
    path = tmp_path / "t.parquet"
    parts = [tally_of(part, path) for part in (frame[:split], frame[split:])]
    assert_equal_tallies(parts[0] + parts[1], tally_of(frame, path))
    shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
    assert_equal_tallies(parts[1] + parts[0], tally_of(shuffled, path))


def test_a_table_without_annotations_adds(
    rows_of: Callable[..., pl.DataFrame], tmp_path: Path
) -> None:
    frame, site = rows_of(90), pl.lit("A").alias("site")
    nothing = frame.with_columns(
        pl.lit(None, pl.String).alias(f"{name}_true") for name in ("gender", "race")
    )
    nothing = nothing.with_columns(age_true=pl.lit(None, pl.Float64))
    parts = [tally_of(part.with_columns(site), tmp_path / "t.parquet") for part in (frame, nothing)]
    both = parts[0] + parts[1]
    assert both.rows == 180
    assert both.confusion["gender"].sum() == parts[0].confusion["gender"].sum()
    np.testing.assert_array_equal(
        both.predicted["race"].sum(axis=0), 2 * parts[0].predicted["race"].sum(axis=0)
    )


def test_tallies_of_different_features_do_not_add(
    open_table: Callable[..., PredictionTable], rows_of: Callable[..., pl.DataFrame]
) -> None:
    table = open_table(rows_of(50))
    with pytest.raises(ValueError, match="cannot be added"):
        tally(table) + tally(table, find_features(table, ["race"]))


def test_counts_are_those_of_the_rows(
    open_table: Callable[..., PredictionTable], rows_of: Callable[..., pl.DataFrame]
) -> None:
    frame = rows_of(400, seed=5)
    table = open_table(frame)
    counted = tally(table, find_features(table, None))
    cells = cut(counted, ["race", "gender"])
    task = table.task("gender")
    for subgroup, confusion in zip(
        cells.subgroups, cells.of(counted.confusion["gender"]), strict=True
    ):
        rows = frame.filter(race_true=subgroup["race"], gender_true=subgroup["gender"])
        for k, true in enumerate(task.classes):
            for j, pred in enumerate(task.classes):
                expected = rows.filter(gender_true=true, gender_pred=pred).height
                assert confusion[k, j] == expected
    assert counted.images.sum() == 400


def test_several_faces_of_an_image_are_one_image(
    open_table: Callable[..., PredictionTable],
) -> None:
    table = open_table(
        pl.DataFrame(
            {
                "image": ["a", "a", "b", "c"],
                "status": ["ok", "ok", "no_face", "unreadable"],
                "gender_pred": ["Male", "Female", None, None],
                "gender_true": ["Male", None, "Female", None],
            }
        )
    )
    counted = tally(table, find_features(table, ["gender"]))
    images = {
        (cell, status): int(n)
        for cell, row in zip(counted.cells, counted.images, strict=True)
        for status, n in zip(counted.statuses, row, strict=True)
        if n
    }
    assert images == {
        (("Male",), "ok"): 1,
        (("Female",), "no_face"): 1,
        ((None,), "unreadable"): 1,
    }


def test_subgroups_come_in_the_order_of_the_classes(
    open_table: Callable[..., PredictionTable], rows_of: Callable[..., pl.DataFrame]
) -> None:
    table = open_table(rows_of(200))
    counted = tally(table, find_features(table, ["race"]))
    found = [subgroup["race"] for subgroup in cut(counted, ["race"]).subgroups]
    assert found == ["White", "Black", "Asian", "Indian", "Others"]


def test_score_bins_are_dense_near_0_and_1_and_keep_the_order() -> None:
    scores = np.concatenate([[0.0], np.geomspace(1e-9, 0.5, 300), 1 - np.geomspace(0.5, 1e-7, 300)])
    bins = score_bin(scores)
    assert (np.diff(bins) >= 0).all()
    assert bins[0] == 0
    assert score_bin(np.array([1.0, 1.0005])).tolist() == [SCORE_BINS - 1] * 2
    edges = score_edges()
    inside = (scores > 1e-5) & (scores < 1 - 1e-5)
    assert (edges[bins[inside]] <= scores[inside] * (1 + 1e-4)).all()
    assert (scores[inside] * (1 - 1e-4) <= edges[bins[inside] + 1]).all()


def test_error_bins_are_exact_at_whole_years() -> None:
    errors = np.array([0.0, 0.2, 1.0, 1.01, 5.0, 5.001, -5.0, -5.001, 500.0, -500.0])
    found = error_bin(errors) - ERROR_LIMIT
    assert found.tolist() == [0, 1, 1, 2, 5, 6, -5, -6, ERROR_LIMIT, -ERROR_LIMIT]
    assert error_bin(np.array([999.0])) == ERROR_BINS - 1
