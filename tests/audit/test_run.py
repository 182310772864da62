"""The whole audit: subgroups, disparities, conditioned ages, coverage, what is not defined."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from faceaudit.audit import run as run_module
from faceaudit.audit import scores as scores_module
from faceaudit.audit.comparisons import Measurements, compare_values
from faceaudit.audit.disparity import ALL_EQUAL, find_disparity, without_order
from faceaudit.audit.estimates import Options
from faceaudit.audit.intervals import share_interval
from faceaudit.audit.measure import EVERY_METRIC
from faceaudit.audit.metrics import METRICS
from faceaudit.audit.results import Audit, Disparity, Estimate, MetricValue
from faceaudit.audit.run import audit
from faceaudit.audit.simultaneous import GRID, Figures, Pairs, every_pair
from faceaudit.audit.subgroups import find_features
from faceaudit.audit.tally import tally
from faceaudit.audit.verify import references
from faceaudit.errors import SchemaError, UnknownNameError, UsageError
from faceaudit.tables import PredictionTable

OpenTable = Callable[..., PredictionTable]
RowsOf = Callable[..., pl.DataFrame]


def quick_audit(table: PredictionTable, **options: Any) -> Audit:
    return audit(table, **{"replicates": 100, "verify": "never", **options})


def found_value(
    found: Audit, task: str, metric: str, label: str | None = None, **subgroup: str
) -> MetricValue:
    return next(
        value
        for value in found.metrics
        if (value.task, value.metric, value.label, dict(value.subgroup))
        == (task, metric, label, subgroup)
    )


@pytest.fixture(scope="module")
def frame(rows_of: RowsOf) -> pl.DataFrame:
    return rows_of(700, seed=11)


# --- figures ----------------------------------------------------------------------------------


def test_every_figure_agrees_with_scikit_learn_and_fairlearn(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    found = quick_audit(open_table(frame), verify="always")
    assert found.verification is not None
    assert found.verification.largest_difference < 1e-12
    defined = sum(value.estimate.value is not None for value in found.metrics)
    assert found.verification.compared > defined
    assert "fairlearn" in found.verification.against


def test_scores_that_round_above_one_are_recomputed(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    # A softmax in float32 gives 1.0000001 here and there, which scikit-learn refuses.
    female = (pl.col("gender_pred") == "Female").cast(pl.Float32)
    rounded = frame.drop("^gender_prob.*$").with_columns(
        gender_prob_Female=female * pl.lit(1.0000001, pl.Float32), gender_prob_Male=1 - female
    )
    found = quick_audit(open_table(rounded), by=[], verify="always").verification
    assert found is not None
    assert found.largest_difference < 1e-6


def test_verification_finds_a_wrong_figure(
    open_table: OpenTable, frame: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = references()
    wrong = {**true, "macro_f1": lambda rows: true["macro_f1"](rows) + 0.25}
    monkeypatch.setattr("faceaudit.audit.verify.references", lambda: wrong)
    found = quick_audit(open_table(frame), by=[], verify="always").verification
    assert found is not None
    assert found.largest_difference == pytest.approx(0.25)
    assert "macro_f1, overall" in found.where


def test_of_many_subgroups_some_are_verified_unless_all_are_asked_for(
    open_table: OpenTable, frame: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faceaudit.audit.run.VERIFY_SUBGROUPS", 3)
    some, every = (
        quick_audit(open_table(frame), verify=verify).verification for verify in ("auto", "always")
    )
    assert some is not None
    assert every is not None
    assert (some.subgroups, some.of_subgroups) == (3, every.of_subgroups)
    assert every.subgroups == every.of_subgroups > 3
    assert 0 < some.compared < every.compared


def test_subgroups_agree_with_fairlearns_metric_frame(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score, f1_score

    rows = frame.filter(status="ok")
    expected = MetricFrame(
        metrics={
            "accuracy": accuracy_score,
            "macro_f1": lambda y, p: f1_score(y, p, average="macro"),
        },
        y_true=rows["race_true"].to_numpy(),
        y_pred=rows["race_pred"].to_numpy(),
        sensitive_features=rows["gender_true"].to_numpy(),
    )
    found = quick_audit(open_table(frame))
    for name in ("accuracy", "macro_f1"):
        for gender, value in expected.by_group[name].items():
            estimate = found_value(found, "race", name, gender=gender).estimate
            assert estimate.value == pytest.approx(value, abs=1e-12)
            assert estimate.low < estimate.value < estimate.high
        disparity = next(
            one
            for one in found.disparities
            if (one.task, one.metric, one.by) == ("race", name, ("gender",))
        )
        assert disparity.difference == pytest.approx(expected.difference()[name], abs=1e-12)
        assert disparity.ratio == pytest.approx(expected.ratio()[name], abs=1e-12)


def test_the_order_of_rows_changes_nothing(open_table: OpenTable, frame: pl.DataFrame) -> None:
    found = quick_audit(open_table(frame))
    again = quick_audit(open_table(frame.reverse()))
    for one, other in zip(found.metrics, again.metrics, strict=True):
        assert (one.task, one.metric, one.label, one.subgroup) == (
            (other.task, other.metric, other.label, other.subgroup)
        )
        for name in ("value", "low"):
            first, second = (getattr(part.estimate, name) for part in (one, other))
            assert first == pytest.approx(second, abs=1e-7)
    assert found.coverage == again.coverage


def test_histograms_of_scores_come_close_to_exact_ranks(
    open_table: OpenTable, frame: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = open_table(frame)
    exact = quick_audit(table)
    monkeypatch.setattr(run_module, "EXACT_ROWS", 10)
    binned = quick_audit(table)
    assert any("histograms" in note for note in binned.notes)
    pairs = [
        (one.estimate.value, other.estimate.value)
        for one, other in zip(exact.metrics, binned.metrics, strict=True)
        if one.metric.endswith("auc")
        and one.task != "age_group"
        and one.estimate.n > 300
        and one.estimate.value is not None
    ]
    assert len(pairs) > 10
    assert max(abs(one - other) for one, other in pairs) < 1e-3
    assert any(one != other for one, other in pairs)


def test_every_interval_holds_its_value(open_table: OpenTable, frame: pl.DataFrame) -> None:
    found = quick_audit(open_table(frame))
    assert {metric.name for metric in EVERY_METRIC} == {value.metric for value in found.metrics}
    for value in found.metrics:
        one = value.estimate
        if one.value is None:
            assert one.reason
            assert one.low is one.high is None
        elif one.low is None:
            assert one.reason
        else:
            assert one.low <= one.value <= one.high
            assert one.low < one.high


# --- subgroups --------------------------------------------------------------------------------


def test_default_subgroups_are_gender_race_and_both(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    assert quick_audit(open_table(frame)).by == (("gender",), ("race",), ("gender", "race"))
    only_race = quick_audit(open_table(frame.drop("gender_true")))
    assert only_race.by == (("race",),)
    assert only_race.labelled["gender"] == 0
    assert not [value for value in only_race.metrics if value.task == "gender"]


def test_race_means_the_column_race_if_there_is_one(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    table = open_table(frame.with_columns(race=pl.lit("asked")))
    assert {value.subgroup.get("race") for value in quick_audit(table, by=["race"]).metrics} == {
        None,
        "asked",
    }


def test_a_predicted_group_goes_by_its_full_name_and_warns(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    found = quick_audit(open_table(frame), by=["race_pred"])
    assert any("race_pred" in note for note in found.notes)
    assert all(not part.subgroup for part in found.coverage)
    assert found_value(found, "gender", "accuracy", race_pred="White").estimate.value


def test_numbers_form_subgroups(open_table: OpenTable, frame: pl.DataFrame) -> None:
    seeds = frame.with_columns(seed=(pl.int_range(pl.len()) % 3).cast(pl.Float64))
    found = quick_audit(open_table(seeds), by=["seed"])
    assert [part.subgroup for part in found.coverage] == [
        {},
        {"seed": "0"},
        {"seed": "1"},
        {"seed": "2"},
    ]


def test_unknown_and_unusable_features_are_refused(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    table = open_table(frame.with_columns(nothing=pl.lit(None, pl.String)))
    with pytest.raises(UnknownNameError, match=r"'ethnicity'.*gender, race"):
        quick_audit(table, by=["ethnicity"])
    with pytest.raises(SchemaError, match=r"700 different values.*up to 200"):
        quick_audit(table, by=["image"])
    with pytest.raises(SchemaError, match="no value"):
        quick_audit(table, by=["nothing"])


def test_hundreds_of_rare_combinations_are_audited(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    place = pl.int_range(pl.len())
    table = open_table(frame.with_columns(a=place % 41, b=place % 13))
    found = quick_audit(table, by=["a", "b"], min_n=1)
    subgroups = {tuple(value.subgroup.items()) for value in found.metrics}
    assert len(subgroups) == 1 + 41 + 13 + 533
    assert found_value(found, "gender", "accuracy", a="7", b="7").estimate.n <= 2


@pytest.mark.parametrize(
    "options",
    [
        {"confidence": 95},
        {"confidence": 1 - 1e-16},
        {"replicates": 5},
        {"min_n": 0},
        {"min_n": 29.5},
    ],
)
def test_options_that_cannot_work_are_refused(
    open_table: OpenTable, options: dict[str, Any]
) -> None:
    table = open_table(pl.DataFrame({"gender_pred": ["Male"]}))
    with pytest.raises(UsageError, match="give"):
        quick_audit(table, **options)


# --- tallies ----------------------------------------------------------------------------------


def test_a_tally_gives_the_figures_of_its_table(
    open_table: OpenTable, frame: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "EXACT_ROWS", 10)
    table = open_table(frame)
    features = find_features(table, None)
    whole, kept = quick_audit(table), quick_audit(tally(table, features))
    for part in ("metrics", "disparities", "conditioned_age", "coverage", "composition", "notes"):
        assert getattr(whole, part) == getattr(kept, part)
    for one, other in zip(whole.confusions, kept.confusions, strict=True):
        np.testing.assert_array_equal(one.counts, other.counts)
    fewer = quick_audit(tally(table, features), by=["race"])
    assert fewer.by == (("race",),)
    assert [value for value in whole.metrics if set(value.subgroup) <= {"race"}] == [*fewer.metrics]


def test_what_a_tally_does_not_hold_is_refused(open_table: OpenTable, frame: pl.DataFrame) -> None:
    table = open_table(frame)
    counted = tally(table, find_features(table, ["race"]))
    with pytest.raises(UsageError, match="holds no rows"):
        quick_audit(counted, verify="always")
    with pytest.raises(UnknownNameError, match="'gender'; choose one of: race"):
        quick_audit(counted, by=["gender"])
    with pytest.raises(UsageError, match="without --unit"):
        quick_audit(counted, unit="image")


def test_metrics_can_be_added_by_name(open_table: OpenTable, frame: pl.DataFrame) -> None:
    found = quick_audit(open_table(frame), by=["gender"], also=["cs_at_3", "challenge_30_fpr"])
    rows = frame.filter(status="ok")
    error = (rows["age_pred"] - rows["age_true"]).abs()
    assert found_value(found, "age", "cs_at_3").estimate.value == pytest.approx((error <= 3).mean())
    minors = rows.filter(pl.col("age_true") < 18)
    passed = found_value(found, "age", "challenge_30_fpr").estimate
    assert (passed.value, passed.n) == ((minors["age_pred"] >= 30).mean(), minors.height)
    assert any(one.metric == "cs_at_3" for one in found.disparities)


# --- what is not defined ----------------------------------------------------------------------


def test_within_an_annotated_class_only_accuracy_and_recall_have_a_meaning(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    found = quick_audit(open_table(frame), by=["race"])
    accuracy = found_value(found, "race", "accuracy", race="Asian").estimate
    assert (
        accuracy.value == found_value(found, "race", "recall", "Asian", race="Asian").estimate.value
    )
    for metric in METRICS:
        if not metric.within_own_class:
            label = "Asian" if metric.per_class else None
            one = found_value(found, "race", metric.name, label, race="Asian").estimate
            assert one.value is None
            assert "only accuracy and recall" in str(one.reason)
    assert not [curve for curve in found.roc_curves if curve.task == "race" and curve.subgroup]


def test_an_absent_class_has_no_recall_and_no_auc(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    found = quick_audit(open_table(frame.filter(pl.col("race_true") != "Others")), by=[])
    for metric in ("recall", "auc"):
        one = found_value(found, "race", metric, "Others").estimate
        assert (one.value, one.n if metric == "recall" else 0) == (None, 0)
        assert one.reason
    assert found_value(found, "race", "macro_auc").estimate.value is not None


def test_a_table_of_one_face_is_audited(open_table: OpenTable) -> None:
    table = open_table(
        pl.DataFrame(
            {
                "gender_true": ["Male"],
                "gender_pred": ["Male"],
                "age_true": [30.0],
                "age_pred": [33.0],
            }
        )
    )
    found = quick_audit(table)
    mae = found_value(found, "age", "mae").estimate
    assert (mae.value, mae.low) == (3.0, None)
    assert "two faces" in str(mae.reason)
    assert found_value(found, "gender", "accuracy").small


def test_without_annotations_there_is_a_composition(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    bare = frame.drop("gender_true", "race_true", "age_true").with_columns(
        prompt=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("a")).otherwise(pl.lit("b"))
    )
    found = quick_audit(open_table(bare), by=["prompt"])
    assert found.metrics == found.confusions == found.conditioned_age == ()
    shares = [part for part in found.composition if part.task == "race" and not part.subgroup]
    assert sum(part.share.value or 0 for part in shares) == pytest.approx(1)
    expected = bare.filter(prompt="a", status="ok")["gender_pred"].value_counts(normalize=True)
    for label, share in expected.rows():
        part = next(
            one
            for one in found.composition
            if (one.label, one.subgroup) == (label, {"prompt": "a"})
        )
        assert part.share.value == pytest.approx(share)


# --- disparities ------------------------------------------------------------------------------


def values_of(name: str, *given: tuple[float | None, int]) -> list[MetricValue]:
    return [
        MetricValue(
            "race",
            name,
            {"site": str(index)},
            Estimate(
                value,
                None if value is None else value - 0.1,
                None if value is None else max(value + 0.1, 0.2),
                n,
            ),
        )
        for index, (value, n) in enumerate(given)
    ]


def metric_named(name: str) -> Any:
    return next(metric for metric in EVERY_METRIC if metric.name == name)


def disparity_of(name: str, *given: tuple[float | None, int]) -> Disparity:
    values, metric = values_of(name, *given), metric_named(name)
    own = Measurements(values, [math.inf] * len(values))
    compared = compare_values(metric, own, Measurements([], []), ("site",), Options())
    return find_disparity(metric, ("site",), values, compared, min_n=30)


def test_small_and_undefined_subgroups_are_not_ranked() -> None:
    found = disparity_of("accuracy", (0.1, 29), (0.5, 30), (0.8, 100), (None, 500))
    assert (found.worst, found.best, found.n_ranked) == ({"site": "1"}, {"site": "2"}, 2)
    assert found.difference == pytest.approx(0.3)
    assert found.ratio == pytest.approx(0.625)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < 0.3 < found.high < 0.5
    assert found.p_value is not None
    assert found.p_value < 0.001


def test_interval_of_the_largest_of_many_differences_is_wider_than_that_of_two() -> None:
    two = disparity_of("mae", (3.0, 50), (5.0, 50))
    many = disparity_of("mae", (3.0, 50), (5.0, 50), *[(4.0, 50)] * 6)
    assert two.difference == many.difference
    assert many.low is not None
    assert two.low is not None
    assert many.low < two.low


def test_the_worst_is_the_highest_error_and_the_furthest_from_0() -> None:
    assert disparity_of("mae", (3.0, 50), (5.0, 50)).worst == {"site": "1"}
    signed = disparity_of("mean_signed_error", (-3.0, 50), (1.0, 50), (0.5, 50))
    assert (signed.worst, signed.best) == ({"site": "0"}, {"site": "2"})
    assert signed.difference == 4.0
    assert signed.low is not None
    assert signed.high is not None
    assert signed.low < 4.0 < signed.high
    assert signed.ratio is None
    assert signed.reason


def test_of_equal_subgroups_none_is_worst_and_their_difference_keeps_its_interval() -> None:
    for name, value in (("accuracy", 1.0), ("mae", 0.0), ("accuracy", 0.9)):
        found = without_order(disparity_of(name, (value, 50), (value, 80), (value, 29)))
        assert found.worst is found.best is None
        assert found.all_equal
        assert (found.difference, found.n_ranked) == (0.0, 2)
        assert str(found.reason).startswith(ALL_EQUAL)
        assert found.low is not None
        assert found.high is not None
        assert found.low <= 0 <= found.high
    apart = disparity_of("mae", (3.0, 50), (5.0, 50))
    assert without_order(apart) == apart
    single = disparity_of("accuracy", (0.5, 50))
    assert without_order(single) == single


def test_a_ratio_by_0_and_a_single_subgroup_are_not_defined() -> None:
    zero = disparity_of("mae", (0.0, 50), (0.0, 50))
    assert (zero.difference, zero.ratio) == (0.0, None)
    single = disparity_of("accuracy", (0.5, 50))
    assert single.difference is None
    assert single.p_value is None
    assert "fewer than two" in str(single.reason)


# --- ages -------------------------------------------------------------------------------------


def test_age_errors_are_conditioned_on_gender_race_and_age_group(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    found = quick_audit(open_table(frame))
    subgroup = {"gender": "Female", "race": "Black"}
    rows = frame.filter(
        pl.col("age_true").is_between(20, 29.9),
        gender_true="Female",
        race_true="Black",
        status="ok",
    )
    part = next(
        one
        for one in found.conditioned_age
        if one.subgroup == subgroup and one.age_group == "20-29"
    )
    error = (rows["age_pred"] - rows["age_true"]).to_numpy()
    assert part.estimates["mae"].n == len(error)
    assert part.estimates["mae"].value == pytest.approx(np.abs(error).mean())
    assert part.estimates["mean_signed_error"].value == pytest.approx(error.mean())
    exact = (rows["age_group_pred"] == "20-29").mean()
    assert part.estimates["exact"].value == pytest.approx(exact)


def test_standardised_ages_remove_a_difference_that_is_only_of_ages(
    open_table: OpenTable,
) -> None:
    # Both genders err alike at each age; the women are older, and errors grow with age.
    def faces(gender: str, age: float, error: float, n: int) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "gender_true": [gender] * n,
                "gender_pred": [gender] * n,
                "age_true": [age] * n,
                "age_pred": [age + error * (1 + 0.01 * (k % 3 - 1)) for k in range(n)],
            }
        )

    frame = pl.concat(
        [
            faces("Male", 25, 2, 90),
            faces("Male", 65, 12, 30),
            faces("Female", 25, 2, 30),
            faces("Female", 65, 12, 90),
        ]
    )
    found = quick_audit(open_table(frame), by=["gender"])

    def mae_of(gender: str, standardised: bool) -> Estimate:
        return next(
            one.estimates["mae"]
            for one in found.conditioned_age
            if (one.subgroup, one.age_group, one.standardised)
            == ({"gender": gender}, None, standardised)
        )

    assert mae_of("Male", False).value == pytest.approx(4.5)
    assert mae_of("Female", False).value == pytest.approx(9.5)
    for gender in ("Male", "Female"):
        one = mae_of(gender, True)
        assert one.value == pytest.approx(7.0)
        assert one.low < 7 < one.high


def test_ages_that_a_ranked_subgroup_lacks_are_left_out_and_said(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    young = frame.filter((pl.col("gender_true") == "Male") | (pl.col("age_true") < 60))
    found = quick_audit(open_table(young), by=["gender"])
    note = next(note for note in found.notes if "standardized" in note)
    assert "60-69, 70+" in note


def test_ages_left_out_are_one_note_for_all_groupings(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    young = frame.filter((pl.col("gender_true") == "Male") | (pl.col("age_true") < 60))
    found = quick_audit(open_table(young), by=["gender", "race"])
    assert sum("standardized" in note for note in found.notes) == 1


def test_a_negative_seed_is_refused(open_table: OpenTable, frame: pl.DataFrame) -> None:
    with pytest.raises(UsageError, match="--seed -1"):
        quick_audit(open_table(frame), seed=-1)


def test_only_ages_are_advised_to_be_grouped(open_table: OpenTable, frame: pl.DataFrame) -> None:
    names = frame.with_columns(image=pl.int_range(pl.len()).cast(pl.String))
    with pytest.raises(SchemaError) as caught:
        quick_audit(open_table(names), by=["image"])
    assert "ages can be" not in str(caught.value)


# --- coverage, curves and cost ----------------------------------------------------------------


def test_failures_are_counted_by_annotated_subgroup(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    unknown = frame.with_columns(
        gender_true=pl.when(pl.int_range(pl.len()) >= 5).then("gender_true")
    )
    found = quick_audit(open_table(unknown), by=["gender"]).coverage
    assert [part.subgroup for part in found] == [
        {},
        {"gender": "Male"},
        {"gender": "Female"},
        {"gender": "(not annotated)"},
    ]
    men = unknown.filter(gender_true="Male")
    failed = men.filter(status="no_face").height
    assert found[1].images == men.height
    assert found[1].statuses["no_face"] == failed
    assert found[1].failure_rate.value == pytest.approx(failed / men.height)
    assert found[0].images == 700 == sum(part.images for part in found[1:])


def test_curves_rise_from_0_to_1_and_keep_their_area(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    found = quick_audit(open_table(rows_of(4000)), by=["gender"])
    assert {tuple(curve.subgroup) for curve in found.roc_curves} == {(), ("gender",)}
    for curve in found.roc_curves:
        falls, rises = curve.false_positive_rate, curve.true_positive_rate
        assert len(falls) == len(rises) <= scores_module.CURVE_POINTS
        assert (falls[0], rises[0], falls[-1], rises[-1]) == (0, 0, 1, 1)
        assert (np.diff(falls) >= 0).all()
        assert (np.diff(rises) >= 0).all()
        assert np.trapezoid(rises, falls) == pytest.approx(curve.auc.value, abs=0.005)


def test_importing_the_audit_imports_nothing_heavy() -> None:
    code = (
        "import sys, faceaudit.audit.run, faceaudit.audit.results; "
        "heavy = 'sklearn', 'scipy', 'fairlearn', 'torch', 'pandas'; "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_unit_of_most_faces_bounds_nothing_and_breaks_nothing(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    one = pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("one"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = quick_audit(
            open_table(frame.with_columns(person=one)), unit="person", by=["gender"]
        )
    for comparison in found.comparisons:
        for pair in comparison.pairs:
            assert math.isfinite(pair.difference + pair.low + pair.high + pair.p_value)
            assert pair.low <= pair.difference <= pair.high


@pytest.mark.parametrize("size", [3, 12])
def test_the_quantile_of_a_difference_is_where_its_limits_on_the_grid_pass_0(size: int) -> None:
    random = np.random.default_rng(size)
    metric = next(one for one in METRICS if one.name == "accuracy")
    values = random.choice([0.0, 0.5, 0.9, 0.97, 1.0], size)
    low, high = share_interval(values, random.integers(30, 400, size), 0.95)
    figures = Figures.of_bounds(metric, values, low, high, 0.95)
    for pairs in (
        Pairs(figures, *every_pair(size)),
        Pairs(figures, np.array([0]), np.array([size - 1])),
    ):
        below, above = figures.on_grid
        down = np.hypot(below[:, pairs.first], above[:, pairs.second])
        up = np.hypot(above[:, pairs.first], below[:, pairs.second])
        expected = [
            np.interp(abs(apart), down[:, k] if apart >= 0 else up[:, k], GRID)
            for k, apart in enumerate(pairs.differences)
        ]
        assert np.allclose(np.abs(pairs.from_zero), expected, atol=1e-9)


def test_limits_from_0_to_1_stay_so_at_every_confidence() -> None:
    metric = next(one for one in METRICS if one.name == "accuracy")
    values, low, high = np.array([0.5, 0.8]), np.zeros(2), np.ones(2)
    figures = Figures.of_bounds(metric, values, low, high, 0.95)
    below, above = figures.on_grid
    assert np.allclose((values - below)[1:], 0, atol=1e-5)
    assert np.allclose((values + above)[1:], 1, atol=1e-5)
    assert np.isfinite(figures.standard_errors).all()
