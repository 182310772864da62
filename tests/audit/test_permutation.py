"""The permutation test of any gap: margins, exactness, the mix of classes, what is not dealt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from faceaudit.audit.comparisons import compare_subgroups
from faceaudit.audit.estimates import Options
from faceaudit.audit.metrics import accuracy
from faceaudit.audit.permutation import deal, furthest_test
from faceaudit.audit.subgroups import find_features
from faceaudit.audit.tally import tally
from faceaudit.tables import PredictionTable

OpenTable = Callable[..., PredictionTable]
RowsOf = Callable[..., pl.DataFrame]
COUNTS = arrays.arrays(np.int64, (3, 2, 4), elements=st.integers(0, 30))


def p_value(counts: np.ndarray, draws: int, generator: np.random.Generator) -> float:
    dealt = np.concatenate([counts[None], deal(counts, draws, generator)])
    return furthest_test(np.asarray(accuracy(dealt)), "").p_value


@settings(max_examples=40)
@given(COUNTS, st.integers(0, 1000))
def test_every_draw_keeps_faces_of_subgroups_and_outcomes_of_classes(
    counts: np.ndarray, seed: int
) -> None:
    dealt = deal(counts, 5, np.random.default_rng(seed))
    assert (dealt >= 0).all()
    assert (dealt.sum(axis=-1) == counts.sum(axis=-1)).all()
    assert (dealt.sum(axis=1) == counts.sum(axis=0)).all()


def test_two_subgroups_of_one_class_have_fishers_exact_test() -> None:
    # Right and wrong of each subgroup; two-sided in the distance from the mean.
    counts = np.array([[[18, 4]], [[9, 11]]])
    table = np.zeros((2, 2, 2), np.int64)
    table[:, 0] = counts[:, 0]
    exact = stats.fisher_exact(counts[:, 0]).pvalue
    found = p_value(table, 20_000, np.random.default_rng(0))
    assert found == pytest.approx(exact, abs=0.006)


def test_mix_of_classes_alone_is_no_gap() -> None:
    # Of class 0 95 % are right and of class 1 70 %, in subgroups of opposite mixes.
    generator = np.random.default_rng(1)
    faces = np.array([[400, 100], [100, 400]])
    found = []
    for _ in range(150):
        right = generator.binomial(faces, [0.95, 0.7])
        table = np.zeros((2, 2, 2), np.int64)
        table[:, 0, 0], table[:, 0, 1] = right[:, 0], faces[:, 0] - right[:, 0]
        table[:, 1, 1], table[:, 1, 0] = right[:, 1], faces[:, 1] - right[:, 1]
        found.append(p_value(table, 200, generator))
    assert np.mean(np.array(found) <= 0.05) <= 0.11
    assert np.mean(found) == pytest.approx(0.5, abs=0.08)


def test_equal_figures_are_no_gap_and_undefined_ones_take_no_part() -> None:
    same = furthest_test(np.full((200, 3), 0.8), "")
    assert same.p_value == 1
    generator = np.random.default_rng(0)
    values = generator.normal(size=(500, 3))
    values[0] = [0, 9, np.nan]
    values[5] = np.nan
    assert furthest_test(values, "").p_value == pytest.approx(1 / 500)


def test_result_says_what_was_dealt_or_that_nothing_was(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    table = open_table(rows_of(900, 5).with_columns(person=pl.col("image")))
    features = find_features(table, None)
    counted, options = tally(table, features), Options(replicates=500)

    def method(task: str, metric: str, by: str) -> str:
        found = compare_subgroups(counted, task, metric, [by], options=options).any_gap
        return found.method if found else ""

    assert "permutation within annotated classes, 500 draws" in method("gender", "accuracy", "race")
    assert "permutation within annotated age groups" in method("age", "mae", "race")
    assert method("gender", "macro_auc", "race").startswith("studentized")
    assert method("race", "accuracy", "race").startswith("studentized")
    units = tally(table, features, unit="person")
    found = compare_subgroups(units, "gender", "accuracy", ["race"], options=options)
    assert found.any_gap is not None
    assert "blocks of units" in found.any_gap.method


def test_same_seed_gives_the_same_p_value(open_table: OpenTable, rows_of: RowsOf) -> None:
    table = open_table(rows_of(900, 5))
    counted = tally(table, find_features(table, None))
    first, again, other = (
        compare_subgroups(
            counted, "gender", "accuracy", ["race"], options=Options(replicates=500, seed=seed)
        ).any_gap
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first is not None
    assert other is not None
    assert first.p_value == pytest.approx(other.p_value, abs=0.1)
