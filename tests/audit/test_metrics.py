"""Every metric against another library's figure, and what holds for all of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from faceaudit.audit.age import (
    AGE_METRICS,
    age_metric,
    challenge_false_negatives,
    challenge_false_positives,
    cs_at_k,
)
from faceaudit.audit.metrics import (
    METRICS,
    accuracy,
    annotated_faces,
    auc,
    auc_bound,
    average_precision,
    average_precision_bound,
    balanced_accuracy,
    ece,
    f1,
    macro_auc,
    macro_f1,
    precision,
    ratio,
    recall,
    selection_rate,
)
from faceaudit.audit.run import audit
from faceaudit.audit.tally import (
    AGE_YEARS,
    ERROR_BINS,
    SCORE_BINS,
    YearErrors,
    error_bin,
    score_bin,
    year_bin,
)
from faceaudit.audit.verify import OF_SCORES, FaceRows, reference_by_name, references
from faceaudit.errors import UnknownNameError
from faceaudit.tables import PredictionTable, score_columns

CONFUSIONS = st.integers(2, 5).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(0, 20), min_size=size, max_size=size), min_size=size, max_size=size
    ).map(np.array)
)
ON_CONFUSIONS = [metric for metric in [*METRICS, *AGE_METRICS] if metric.needs in {"classes"}]


def test_every_metric_has_a_reference() -> None:
    names = [metric.name for metric in [*METRICS, *AGE_METRICS]]
    assert sorted(names) == sorted(references())
    assert len(set(names)) == len(names)


@pytest.fixture(scope="module")
def reference_rows() -> Callable[[PredictionTable, str, bool], FaceRows]:
    """Rows of a task as plain arrays, taken from the table without any of the audit's code."""

    def found(table: PredictionTable, name: str, with_scores: bool) -> FaceRows:
        frame = table.frame.collect().filter(status="ok")
        if name == "age":
            return FaceRows(frame["age_true"].to_numpy(), frame["age_pred"].to_numpy(), None, 0)
        task = table.task(name)
        number = {label: index for index, label in enumerate(task.classes)}
        true, pred = (
            np.array([number[label] for label in frame[f"{name}_{kind}"]])
            for kind in ("true", "pred")
        )
        scores = frame.select(score_columns(task)).to_numpy() if with_scores else None
        return FaceRows(true, pred, scores, len(task.classes))

    return found


@pytest.mark.parametrize("metric", [*METRICS, *AGE_METRICS], ids=lambda metric: metric.name)
def test_agrees_with_the_reference(
    metric: object,
    audited: tuple[PredictionTable, dict[tuple[str, str, str | None], float]],
    reference_rows: Callable[[PredictionTable, str, bool], FaceRows],
) -> None:
    table, values = audited
    name = metric.name  # type: ignore[attr-defined]
    tasks = {task for task, metric_name, _ in values if metric_name == name}
    assert tasks
    for task in tasks:
        expected = references()[name](reference_rows(table, task, name in OF_SCORES))
        classes = table.task(task).classes if np.ndim(expected) else (None,)
        for label, one in zip(classes, np.atleast_1d(expected), strict=True):
            assert values[task, name, label] == pytest.approx(one, abs=1e-12)


@pytest.fixture(scope="module")
def audited(
    tmp_path_factory: pytest.TempPathFactory, rows_of: Callable[..., pl.DataFrame]
) -> tuple[PredictionTable, dict[tuple[str, str, str | None], float]]:
    """A generated table and the overall values of its audit."""
    from faceaudit.tables import read_table

    path = tmp_path_factory.mktemp("metrics") / "table.parquet"
    rows_of(900, seed=3).write_parquet(path)
    table = read_table(path)
    found = audit(table, by=[], replicates=100, verify="never")
    return table, {
        (one.task, one.metric, one.label): one.estimate.value
        for one in found.metrics
        if one.estimate.value is not None
    }


# --- degenerate tables ------------------------------------------------------------------------


@given(
    st.integers(1, 4).flatmap(
        lambda size: st.lists(
            st.lists(st.integers(0, 2), min_size=size, max_size=size), min_size=size, max_size=size
        ).map(np.array)
    )
)
@settings(deadline=None, max_examples=60)
def test_few_faces_and_empty_classes_agree_with_the_references(confusion: np.ndarray) -> None:
    if not confusion.sum():
        return
    size = len(confusion)
    true, pred = (np.repeat(axis.ravel(), confusion.ravel()) for axis in np.indices((size, size)))
    rows = FaceRows(true, pred, None, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for metric in ON_CONFUSIONS:
            expected = references()[metric.name](rows)
            np.testing.assert_allclose(
                metric.function(confusion), expected, atol=1e-12, err_msg=metric.name
            )


CERTAIN = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.5, 0.5), (0.25, 0.25, 0.5), (1 / 3,) * 3]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(CERTAIN)), min_size=1, max_size=25),
)
@settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_certain_and_tied_scores_agree_with_the_references(
    open_table: Callable[..., PredictionTable], faces: list[tuple[int, tuple[float, ...]]]
) -> None:
    true, scores = np.array([one for one, _ in faces]), np.array([given for _, given in faces])
    columns = {f"x_prob_{k}": scores[:, k] for k in range(3)}
    table = open_table(pl.DataFrame({"x_true": true.astype(str), **columns}))
    rows = FaceRows(true, scores.argmax(axis=1), scores, 3)
    values = {
        (one.metric, one.label): one.estimate.value
        for one in audit(table, by=[], replicates=100, verify="never").metrics
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in {name for name, _ in values}:
            expected = np.atleast_1d(references()[name](rows))
            labels = ["0", "1", "2"] if len(expected) > 1 else [None]
            for label, one in zip(labels, expected, strict=True):
                value = values[name, label]
                # The root of what may cancel to 0: rounding by 1e-17 is 3e-9 in it.
                error = 1e-8 if name == "ece" else 1e-12
                assert np.isnan(one) if value is None else value == pytest.approx(one, abs=error)


def test_metrics_that_are_asked_for_by_name_are_verified_too(
    open_table: Callable[..., PredictionTable], rows_of: Callable[..., pl.DataFrame]
) -> None:
    names = ["cs_at_3", "challenge_30_fpr", "challenge_21_fnr"]
    found = audit(open_table(rows_of(300)), also=names, replicates=100, verify="always")
    assert {one.metric for one in found.metrics} >= set(names)
    assert found.verification is not None
    assert found.verification.largest_difference < 1e-12
    with pytest.raises(UnknownNameError, match="'cs_at_x'"):
        reference_by_name("cs_at_x")


# --- properties -------------------------------------------------------------------------------


@given(CONFUSIONS)
@settings(deadline=None)
def test_leading_axes_broadcast(confusion: np.ndarray) -> None:
    stacked = np.stack([confusion, confusion.T, confusion + 1])
    for function in (accuracy, balanced_accuracy, f1, macro_f1, precision, recall, selection_rate):
        apart = np.stack([function(one) for one in stacked])
        np.testing.assert_array_equal(function(stacked), apart)


@given(CONFUSIONS, st.randoms())
@settings(deadline=None)
def test_relabelled_classes_change_no_mean(confusion: np.ndarray, random: object) -> None:
    order = list(range(len(confusion)))
    random.shuffle(order)  # type: ignore[attr-defined]
    relabelled = confusion[np.ix_(order, order)]
    for function in (accuracy, balanced_accuracy, macro_f1):
        np.testing.assert_allclose(function(relabelled), function(confusion), atol=1e-12)
    for function in (f1, recall, precision, selection_rate):
        np.testing.assert_allclose(function(relabelled), function(confusion)[order], atol=1e-12)


@given(CONFUSIONS, CONFUSIONS)
@settings(deadline=None)
def test_overall_accuracy_is_the_mean_weighted_by_faces(
    first: np.ndarray, second: np.ndarray
) -> None:
    if first.shape != second.shape or not first.sum() or not second.sum():
        return
    weighted = (accuracy(first) * first.sum() + accuracy(second) * second.sum()) / (
        first.sum() + second.sum()
    )
    assert accuracy(first + second) == pytest.approx(float(weighted))


@given(CONFUSIONS)
@settings(deadline=None)
def test_values_are_shares_or_undefined(confusion: np.ndarray) -> None:
    for metric in ON_CONFUSIONS:
        values = np.atleast_1d(metric.function(confusion))
        defined = values[~np.isnan(values)]
        assert ((defined >= 0) & (defined <= 1)).all()
        if confusion.sum() == 0:
            assert np.isnan(values).all()


# --- undefined and exact cases ----------------------------------------------------------------


def test_ratio_by_zero_is_undefined() -> None:
    np.testing.assert_array_equal(ratio([1, 0], [2, 0]), [0.5, np.nan])


def test_a_class_that_is_never_found_scores_0_and_an_absent_one_nothing() -> None:
    confusion = np.array([[5, 0, 0], [2, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(f1(confusion), [10 / 12, 0.0, np.nan])
    assert macro_f1(confusion) == pytest.approx((10 / 12 + 0) / 2)
    assert balanced_accuracy(confusion) == pytest.approx(0.5)
    np.testing.assert_array_equal(annotated_faces(confusion), [5, 2, 0])


def test_macro_f1_averages_the_classes_it_is_told_to() -> None:
    drawn = np.array([[4.0, 1.0, 0.1], [0.5, 3.0, 0.1], [0.0, 0.0, 0.0]])
    two = macro_f1(drawn, np.array([True, True, False]))
    assert two == pytest.approx(f1(drawn)[:2].mean())


def test_auc_of_a_single_class_is_undefined() -> None:
    assert np.isnan(auc(np.array([[0, 0], [3, 4]])))
    assert np.isnan(macro_auc(np.zeros((2, 2, 4))))


def test_auc_counts_ties_one_half() -> None:
    assert auc(np.array([[5], [3]])) == 0.5
    assert auc(np.array([[4, 0], [0, 2]])) == 1.0
    assert auc(np.array([[1, 1], [1, 1]])) == 0.5


# --- scores in bins ---------------------------------------------------------------------------


@pytest.mark.parametrize("faces", [60, 3000])
def test_binned_scores_stay_within_the_bounds_that_are_stated(faces: int) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    generator = np.random.default_rng(faces)
    for spread in (0.2, 1, 6):
        own = generator.random(faces) < 0.3
        logits = generator.normal(spread * own, spread)
        scores = 1 / (1 + np.exp(-logits))
        # A few bins, so that the bounds are put to the test.
        bins = score_bin(scores) // 64
        counts = np.stack([np.bincount(bins[own == side], minlength=16) for side in (False, True)])
        for value, bound, exact in (
            (auc(counts), auc_bound(counts), roc_auc_score(own, scores)),
            (
                average_precision(counts),
                average_precision_bound(counts),
                average_precision_score(own, scores),
            ),
        ):
            assert abs(value - exact) <= bound
            assert 0 < bound < 1


SATURATED = st.one_of(
    st.sampled_from([0.0, 1.0, 1e-12, 1 - 1e-7, 0.5]),
    st.floats(0, 1, allow_nan=False),
    st.floats(0, 1e-6, allow_nan=False),
    st.floats(0, 1e-6, allow_nan=False).map(lambda score: 1 - score),
)


@given(st.lists(st.tuples(st.booleans(), SATURATED), min_size=2, max_size=80))
@example([(False, 0.0), (False, 1.0), (True, 1e-12), (True, 1e-12)])
@settings(deadline=None, max_examples=100)
def test_scores_of_any_kind_stay_within_the_bounds_that_are_stated(
    faces: list[tuple[bool, float]],
) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    own, scores = np.array([one for one, _ in faces]), np.array([score for _, score in faces])
    if own.all() or not own.any():
        return
    bins = score_bin(scores)
    counts = np.stack(
        [np.bincount(bins[own == side], minlength=SCORE_BINS) for side in (False, True)]
    )
    exact = roc_auc_score(own, scores), average_precision_score(own, scores)
    assert abs(auc(counts) - exact[0]) <= auc_bound(counts) + 1e-12
    assert abs(average_precision(counts) - exact[1]) <= average_precision_bound(counts) + 1e-12


def test_bounds_are_0_where_no_order_is_lost() -> None:
    assert auc_bound(np.array([[3, 0, 2, 0], [0, 4, 0, 1]])) == 0
    counts = np.array([[3, 0, 2, 0], [0, 1, 0, 1]])
    assert average_precision_bound(counts) == pytest.approx(0, abs=1e-12)


def test_the_calibration_error_of_a_calibrated_model_is_not_what_chance_adds() -> None:
    generator = np.random.default_rng(0)
    plain, debiased = [], []
    for _ in range(200):
        faces = np.full(20, 10)
        confidence = (np.arange(20) + 0.5) / 20
        right = generator.binomial(faces, confidence)
        bins = np.stack([faces, faces * confidence, right], axis=-1)
        debiased.append(ece(bins) ** 2)
        plain.append(np.mean((right / faces - confidence) ** 2))
    assert np.mean(plain) > 0.014
    assert np.mean(debiased) < np.mean(plain) / 3


def test_bins_of_a_single_face_do_not_count() -> None:
    alone = np.array([[1.0, 0.9, 0.0], [0.0, 0.0, 0.0]])
    assert np.isnan(ece(alone))
    both = np.array([[1.0, 0.9, 0.0], [50.0, 45.0, 20.0]])
    assert ece(both) == ece(both[1:])


# --- ages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, 1, 3, 12])
def test_cs_at_any_k_counts_errors_up_to_k_years(k: int) -> None:
    generator = np.random.default_rng(k)
    error = np.round(generator.normal(0, 8, 500) * 4) / 4
    years = YearErrors(np.bincount(error_bin(error), minlength=ERROR_BINS), np.zeros(4))
    assert cs_at_k(years, k) == (np.abs(error) <= k).mean()
    assert age_metric(f"cs_at_{k}").function(years) == cs_at_k(years, k)


@pytest.mark.parametrize(("threshold", "legal"), [(25, 18), (18, 18), (30, 21), (1, 13)])
def test_challenges_agree_with_fairlearn(threshold: int, legal: int) -> None:
    from fairlearn.metrics import false_negative_rate, false_positive_rate

    generator = np.random.default_rng(threshold)
    true = generator.integers(0, 90, 600).astype(float)
    pred = np.clip(true + generator.normal(2, 6, 600), -3, 140)
    ages = np.zeros((AGE_YEARS, AGE_YEARS), np.int64)
    np.add.at(ages, (year_bin(true), year_bin(pred)), 1)
    for function, reference in (
        (challenge_false_positives, false_positive_rate),
        (challenge_false_negatives, false_negative_rate),
    ):
        expected = reference(true >= legal, pred >= threshold, pos_label=True)
        assert function(ages, threshold, legal) == pytest.approx(expected, abs=1e-12)
    older = true[(true >= 10) & (true < legal)]
    passed = pred[(true >= 10) & (true < legal)] >= threshold
    if len(older):
        found = challenge_false_positives(ages, threshold, legal, youngest=10)
        assert found == pytest.approx(passed.mean())


def test_without_minors_no_minor_passes() -> None:
    ages = np.zeros((AGE_YEARS, AGE_YEARS), np.int64)
    ages[30, 40] = 5
    assert np.isnan(challenge_false_positives(ages))
    assert challenge_false_negatives(ages) == 0


def test_an_unknown_age_metric_is_refused() -> None:
    assert age_metric("challenge_30_fnr").name == "challenge_30_fnr"
    for name in ("cs_at_", "cs_at_100", "challenge_0_fpr", "challenge_25_fxr"):
        with pytest.raises(UnknownNameError, match="cs_at_5"):
            age_metric(name)
    with pytest.raises(ValueError, match="tolerance"):
        cs_at_k(YearErrors(np.zeros(ERROR_BINS), np.zeros(4)), -1)
