"""Comparisons of subgroups: against scipy's definitions, their properties, their edges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from faceaudit.audit.age import AGE_METRICS
from faceaudit.audit.comparisons import (
    Measurements,
    compare_subgroups,
    compare_values,
    difference_between,
)
from faceaudit.audit.estimates import Options
from faceaudit.audit.intervals import difference_interval, mean_interval, wilson
from faceaudit.audit.metrics import METRICS
from faceaudit.audit.power import equivalent_within, n_needed
from faceaudit.audit.results import Comparison, Estimate, MetricValue
from faceaudit.audit.simultaneous import (
    FARTHEST,
    critical_of,
    critical_of_pairs,
    holm,
    p_value_of_pairs,
    student,
)
from faceaudit.audit.subgroups import find_features
from faceaudit.audit.tally import Tally, tally
from faceaudit.errors import FaceauditError
from faceaudit.tables import PredictionTable

OpenTable = Callable[..., PredictionTable]
RowsOf = Callable[..., pl.DataFrame]
ACCURACY = next(metric for metric in METRICS if metric.name == "accuracy")
SIGNED = next(metric for metric in AGE_METRICS if metric.name == "mean_signed_error")
NAMES = "abcdefghi"
RIGHT_AND_FACES = st.lists(
    st.integers(30, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    min_size=2,
    max_size=6,
)


def compared(shares: Sequence[tuple[int, int]], **options: float) -> Comparison:
    """A comparison of accuracies, each given as right faces and all faces."""
    used = Options(confidence=options.pop("confidence", 0.95), **options)
    values = []
    for name, (right, faces) in zip(NAMES, shares, strict=False):
        low, high = wilson(right / faces, faces, used.confidence)
        found = Estimate(right / faces, float(low), float(high), faces)
        values.append(MetricValue("gender", "accuracy", {"race": name}, found))
    own = Measurements(values, [math.inf] * len(values))
    return compare_values(ACCURACY, own, Measurements([], []), ["race"], used)


@pytest.fixture
def counted(open_table: OpenTable, rows_of: RowsOf) -> Tally:
    table = open_table(rows_of(1500, 3))
    return tally(table, find_features(table, None))


def test_two_subgroups_have_newcombes_interval() -> None:
    pair = compared([(56, 70), (48, 80)]).pairs[0]
    bounds = [(r / n, *map(float, wilson(r / n, n, 0.95))) for r, n in ((56, 70), (48, 80))]
    assert (pair.low, pair.high) == pytest.approx(difference_interval(*bounds), abs=1e-9)
    # Newcombe 1998, table II, example (a), method 10.
    assert (pair.low, pair.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_two_means_have_a_student_test_no_bolder_than_welch() -> None:
    generator = np.random.default_rng(1)
    errors = [generator.gamma(2, 3, 40), generator.gamma(2, 4, 200)]
    values = []
    for name, one in zip("ab", errors, strict=True):
        low, high = mean_interval(one.mean(), one.var(), len(one), 0.95)
        found = Estimate(float(one.mean()), float(low), float(high), len(one))
        values.append(MetricValue("age", "mean_signed_error", {"race": name}, found))
    own = Measurements(values, [math.inf, math.inf])
    pair = compare_values(SIGNED, own, Measurements([], []), ["race"], Options()).pairs[0]
    welch = stats.ttest_ind(*errors, equal_var=False)
    assert welch.pvalue <= pair.p_value <= 2 * welch.pvalue


@settings(max_examples=30)
@given(RIGHT_AND_FACES)
def test_simultaneous_interval_excludes_zero_exactly_where_its_p_value_says_so(
    shares: list[tuple[int, int]],
) -> None:
    found = compared(shares)
    assert found.critical is not None
    level = 2 * stats.norm.sf(found.critical)
    for pair in found.pairs:
        assert pair.low <= pair.difference <= pair.high
        assert pair.low >= -1
        assert pair.high <= 1
        assert 0 <= pair.p_value <= pair.p_adjusted <= 1
        if abs(pair.p_value - level) > 1e-9:
            assert pair.shown == (pair.p_value < level)


@settings(max_examples=30)
@given(RIGHT_AND_FACES)
def test_order_of_subgroups_changes_signs_only(shares: list[tuple[int, int]]) -> None:
    found, turned = compared(shares), compared(shares[::-1])
    size = len(shares)
    there = {(p.first["race"], p.second["race"]): p for p in turned.pairs if p.second}
    names = NAMES[:size]
    for pair in found.pairs:
        assert pair.second
        one, other = (names[size - 1 - names.index(s["race"])] for s in (pair.first, pair.second))
        back = there[other, one]
        assert back.difference == pytest.approx(-pair.difference)
        assert back.p_value == pytest.approx(pair.p_value, abs=1e-12)
        assert (back.low, back.high) == pytest.approx((-pair.high, -pair.low))


@settings(max_examples=30)
@given(RIGHT_AND_FACES, st.floats(0.01, 0.5))
def test_equivalence_is_shown_exactly_where_all_bounds_are_within_the_margin(
    shares: list[tuple[int, int]], margin: float
) -> None:
    found = equivalent_within(compared(shares), margin)
    assert found.low is not None
    assert found.high is not None
    nearest = max(-found.low, found.high)
    if abs(nearest - margin) > 1e-9:
        assert found.equivalent == (nearest < margin)
    assert found.equivalent == (found.p_value is not None and found.p_value <= 0.05)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    given_, adjusted = np.array(p_values), holm(np.array(p_values))
    assert (adjusted >= given_).all()
    assert (adjusted <= 1).all()
    order = np.argsort(given_, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert adjusted[order[0]] == pytest.approx(min(1, len(p_values) * given_.min()))


def test_small_subgroup_is_shown_and_marked_and_in_no_test() -> None:
    found = compared([(10, 29), (800, 1000), (700, 1000)])
    assert [one.small for one in found.subgroups] == [True, False, False]
    assert found.subgroups[0].reason == "fewer than 30 faces"
    assert found.subgroups[0].estimate == pytest.approx(10 / 29)
    assert [(p.first["race"], p.second and p.second["race"]) for p in found.pairs] == [("b", "c")]
    assert equivalent_within(found, 0.5).left_out == ({"race": "a"},)


def test_single_ranked_subgroup_has_a_reason_and_no_test() -> None:
    found = compared([(10, 29), (800, 1000)])
    assert (found.pairs, found.any_gap, found.smallest_detectable) == ((), None, None)
    assert "fewer than two subgroups with at least 30 faces" in str(found.reason)
    assert equivalent_within(found, 0.1).equivalent is None
    assert found.needed == ()


def test_rates_of_one_have_limits_and_no_certain_difference() -> None:
    found = compared([(30, 30), (3000, 3000), (500, 500)])
    assert found.any_gap is not None
    assert found.any_gap.p_value == 1
    assert all(pair.low < 0 < pair.high for pair in found.pairs)


def test_two_misses_among_thirty_faces_are_no_gap_from_99_percent() -> None:
    # At a rate of 0.99 two misses or more come about in 4 of 100 such subgroups.
    found = compared([(2970, 3000), (28, 30), (30, 30), (30, 30), (29, 30)])
    assert not found.shown
    assert compared([(2970, 3000), (24, 30), (30, 30), (30, 30), (29, 30)]).shown


def test_many_subgroups_are_compared_without_a_list_of_pairs() -> None:
    names = [{"site": str(k)} for k in range(60)]
    values = []
    for k, subgroup in enumerate(names):
        share = 0.5 if k == 7 else 0.8
        low, high = wilson(share, 400, 0.95)
        found = Estimate(share, float(low), float(high), 400)
        values.append(MetricValue("gender", "accuracy", subgroup, found))
    own = Measurements(values, [math.inf] * 60)
    found = compare_values(ACCURACY, own, Measurements([], []), ["site"], Options())
    assert found.pairs == ()
    assert "not listed" in str(found.reason)
    pair = difference_between(found, names[0], names[7])
    assert pair is not None
    assert pair.shown
    assert difference_between(found, names[0], {"site": "none"}) is None


def needed(found: Comparison, gap: float) -> int:
    faces = np.array([one.n for one in found.ranked], np.float64)
    assert found.figures is not None
    assert found.critical is not None
    return n_needed(ACCURACY, found.figures, faces, found.critical, [gap])[0]


def shown_of(rate: float, other: float, faces: int, like: Comparison, tables: int = 200) -> float:
    """In which share of tables of so many faces two rates are shown to differ."""
    generator = np.random.default_rng(0)
    more = [(round(rate * faces), faces)] * (len(like.ranked) - 2)
    shown = 0
    for _ in range(tables):
        drawn = [(int(generator.binomial(faces, one)), faces) for one in (rate, other)]
        pair = difference_between(compared([*drawn, *more]), {"race": "a"}, {"race": "b"})
        shown += bool(pair and pair.shown)
    return shown / tables


@pytest.mark.parametrize(
    ("rate", "gap", "size"), [(0.5, 0.1, 2), (0.9, 0.1, 4), (0.99, 0.05, 2), (1.0, 0.1, 9)]
)
def test_faces_needed_show_the_gap_they_were_asked_for(rate: float, gap: float, size: int) -> None:
    found = compared([(round(rate * 1000), 1000)] * size)
    assert 0.72 <= shown_of(rate, rate - gap, needed(found, gap), found) <= 0.92


@pytest.mark.parametrize(("rate", "faces", "size"), [(0.5, 100, 2), (0.95, 40, 2), (0.99, 400, 4)])
def test_smallest_gap_is_shown_by_four_of_five_tables(rate: float, faces: int, size: int) -> None:
    found = compared([(round(rate * faces), faces)] * size)
    assert found.smallest_detectable is not None
    other = rate - found.smallest_detectable if rate > 0.5 else rate + found.smallest_detectable
    assert 0.72 <= shown_of(rate, other, faces, found) <= 0.92


@pytest.mark.parametrize("faces", [40, 400, 4000])
def test_smallest_gap_from_no_errors_is_shown_by_four_of_five_tables(faces: int) -> None:
    found = compared([(faces, faces)] * 2)
    gap = found.smallest_detectable
    fewest = next(k for k in range(faces) if compared([(faces, faces), (faces - k, faces)]).shown)
    assert 0.75 <= stats.binom.sf(fewest - 1, faces, gap) <= 0.88


def test_faces_needed_do_not_fall_with_the_faces_that_say_so() -> None:
    for share in (0.9, 1.0):
        each = [
            needed(compared([(round(share * faces), faces)] * 2), 0.05) for faces in (40, 400, 4000)
        ]
        assert each == pytest.approx([each[-1]] * 3, rel=0.02)


def test_faces_needed_are_never_fewer_than_are_compared() -> None:
    found = compared([(1000, 1000)] * 2, min_n=200)
    assert dict(found.needed)[0.1] == 200
    assert dict(found.needed)[0.02] > 200


def test_smaller_gaps_need_more_faces_and_none_needs_no_number() -> None:
    found = compared([(700, 1000), (2500, 3000)])
    few, many = needed(found, 0.1), needed(found, -0.05)
    assert 3.5 * few < many < 4 * few
    assert (few, many) == (dict(found.needed)[0.1], dict(found.needed)[0.05])
    with pytest.raises(ValueError, match="gap of 0"):
        needed(found, 0)


def test_faces_needed_follow_from_a_single_face_each() -> None:
    for name in ("f1", "average_precision"):
        metric = next(one for one in METRICS if one.name == name)
        found = [Estimate(0.0, 0.0, 0.35, 1), Estimate(0.12, 0.0, 0.44, 1)]
        values = [
            MetricValue("gender", name, {"race": race}, one, label="Male")
            for race, one in zip("ab", found, strict=True)
        ]
        one = compare_values(
            metric,
            Measurements(values, [1.0, 1.0]),
            Measurements([], []),
            ["race"],
            Options(min_n=1),
        )
        assert [n for _, n in one.needed] == sorted({n for _, n in one.needed}, reverse=True)


def test_few_faces_show_no_gap_whatever() -> None:
    found = compared([(2, 2), (2, 2)], min_n=2)
    assert found.pairs
    assert found.smallest_detectable is None


def test_steps_of_either_sign_need_faces_for_those_that_a_gap_moves() -> None:
    metric = next(one for one in AGE_METRICS if one.name == "mean_signed_step")
    values = [
        MetricValue("age_group", metric.name, {"race": name}, Estimate(0.0, -0.001, 0.001, 1000))
        for name in "ab"
    ]
    own = Measurements(values, [math.inf, math.inf])
    found = compare_values(metric, own, Measurements([], []), ["race"], Options())
    # A tenth of the faces is off by one: their spread alone, at the two quantiles.
    alone = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2 * 0.1 / 0.1**2
    assert alone <= dict(found.needed)[0.1] <= 1.2 * alone


def test_p_values_of_pairs_are_tukeys_and_never_below_that_of_one_pair() -> None:
    for size in (2, 3, 9, 40):
        critical = critical_of_pairs(size, 0.95)
        assert p_value_of_pairs(critical, size) == pytest.approx(0.05)
        assert p_value_of_pairs(0.0, size) == 1
        assert 0 < p_value_of_pairs(FARTHEST, size) < 1e-12
    assert critical_of_pairs(2, 0.95) == pytest.approx(stats.norm.ppf(0.975))
    assert critical_of(1, 0.95) == pytest.approx(stats.norm.ppf(0.975))


def test_student_quantiles_are_scipys_and_normal_at_the_end() -> None:
    found = student(np.array([1.96, 1.96]), np.array([9.0, np.inf]))
    assert found == pytest.approx([stats.t.isf(stats.norm.sf(1.96), 9), 1.96])


@pytest.mark.parametrize(
    ("task", "metric", "label"),
    [
        ("gender", "accuracy", None),
        ("gender", "macro_f1", None),
        ("race", "recall", "Black"),
        ("gender", "macro_auc", None),
        ("race", "brier", None),
        ("age_group", "one_off", None),
        ("age", "mae", None),
        ("age", "mean_signed_error", None),
        ("age", "cs_at_5", None),
        ("age", "cs_at_3", None),
    ],
)
def test_every_kind_of_metric_is_compared(
    counted: Tally, task: str, metric: str, label: str | None
) -> None:
    found = compare_subgroups(
        counted, task, metric, ["gender", "race"], label=label, options=Options(replicates=200)
    )
    if found.reason is None:
        size = len(found.ranked)
        assert len(found.pairs) == size * (size - 1) / 2
        assert len(found.versus_rest) == size
        assert found.any_gap is not None
        assert 0 < found.any_gap.p_value <= 1
        assert "any two subgroups by gender and race" in found.family
    else:
        assert found.reason.startswith("fewer than two subgroups")


def test_calibration_errors_are_told_and_no_difference_of_them_is_claimed(counted: Tally) -> None:
    found = compare_subgroups(counted, "gender", "ece", ["race"])
    assert all(one.estimate is not None for one in found.subgroups)
    assert (found.pairs, found.versus_rest, found.any_gap) == ((), (), None)
    assert "fewer faces comes out at 0 more often" in str(found.reason)


def test_subgroup_against_the_rest_is_against_all_other_faces(counted: Tally) -> None:
    found = compare_subgroups(counted, "gender", "accuracy", ["race"])
    alone = compare_subgroups(counted, "gender", "accuracy", ["gender"])
    assert alone.versus_rest == ()
    total = sum(one.n for one in found.subgroups)
    right = sum(one.n * (one.estimate or 0) for one in found.subgroups)
    for one, against in zip(found.subgroups, found.versus_rest, strict=True):
        assert against.second is None
        assert one.estimate is not None
        rest = (right - one.n * one.estimate) / (total - one.n)
        assert against.difference == pytest.approx(one.estimate - rest)


def test_control_feature_keeps_faces_of_one_value(open_table: OpenTable, rows_of: RowsOf) -> None:
    frame = rows_of(1500, 3)
    table = open_table(frame)
    whole = tally(table, find_features(table, None))
    part = open_table(frame.filter(pl.col("gender_true") == "Female"))
    alone = tally(part, find_features(part, ["race"]))
    found = compare_subgroups(whole, "race", "macro_f1", ["gender"])
    inside = compare_subgroups(whole, "gender", "accuracy", ["race"], within={"gender": "Female"})
    apart = compare_subgroups(alone, "gender", "accuracy", ["race"])
    assert found.within == {}
    assert inside.pairs == apart.pairs
    assert "among gender Female" in inside.family


def test_rows_of_one_unit_tell_less(open_table: OpenTable, rows_of: RowsOf) -> None:
    base = rows_of(500, 4)
    copies = pl.concat([base.with_columns(person=pl.col("image"))] * 4)
    table = open_table(copies)
    features = find_features(table, ["race"])
    plain = compare_subgroups(tally(table, features), "gender", "accuracy", ["race"])
    clustered = compare_subgroups(
        tally(table, features, unit="person"), "gender", "accuracy", ["race"]
    )
    ratios = [
        (one.high - one.low) / (other.high - other.low)
        for one, other in zip(clustered.pairs, plain.pairs, strict=True)
    ]
    assert np.mean(ratios) == pytest.approx(2, rel=0.2)
    assert clustered.any_gap is not None
    assert "blocks of units" in clustered.any_gap.method


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing", "accuracy", ["race"]), "no task is called 'nothing'"),
        (("gender", "nothing", ["race"]), "no metric is called 'nothing'"),
        (("gender", "accuracy", ["nothing"]), "no feature in the tally is called 'nothing'"),
        (("gender", "accuracy", []), "at least one feature"),
        (("gender", "recall", ["race"]), "name a class of gender"),
        (("gender", "mae", ["race"]), "mae of gender"),
    ],
)
def test_unknown_names_are_one_clear_line(
    counted: Tally, arguments: tuple[str, str, list[str]], words: str
) -> None:
    with pytest.raises(FaceauditError, match=words):
        compare_subgroups(counted, *arguments)


def test_unknown_class_or_value_is_one_clear_line(counted: Tally) -> None:
    with pytest.raises(FaceauditError, match="no class of gender is called 'Nobody'"):
        compare_subgroups(counted, "gender", "recall", ["race"], label="Nobody")
    with pytest.raises(FaceauditError, match="leave out the class"):
        compare_subgroups(counted, "gender", "accuracy", ["race"], label="Male")
    with pytest.raises(FaceauditError, match="no value of gender is called 'Nobody'"):
        compare_subgroups(counted, "gender", "accuracy", ["race"], within={"gender": "Nobody"})


def test_margin_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="above 0"):
        equivalent_within(compared([(800, 1000)] * 2), 0)
