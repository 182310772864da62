"""Paired comparisons: against scipy's and the audit's own figures, and as properties."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, ttest_rel

from faceaudit.audit.changes import Change, Changes, Family, holm, judge
from faceaudit.audit.compare import compare_pairs, compare_tally
from faceaudit.audit.paired import load_paired, paired_tally, save_paired
from faceaudit.audit.paired_rows import pair_tables
from faceaudit.audit.paired_shares import mcnemar, tango_interval
from faceaudit.audit.run import audit
from faceaudit.errors import InputError, SchemaError, UnknownNameError, UsageError
from faceaudit.tables import PredictionTable

OpenTable = Callable[..., PredictionTable]
RowsOf = Callable[..., pl.DataFrame]
COUNTS = st.integers(0, 60)


def other_model(frame: pl.DataFrame, seed: int = 5, share: float = 0.2) -> pl.DataFrame:
    """The same images as a slightly different model scores them."""
    generator = np.random.default_rng(seed)
    moved = generator.random(frame.height) < share
    classes = ["Male", "Female"]
    flipped = pl.Series(np.array(classes)[generator.integers(0, 2, frame.height)])
    shift = pl.Series(generator.normal(-0.5, 2, frame.height))
    failed = pl.Series(generator.random(frame.height) < 0.03)
    found = frame.with_columns(
        pl.when(pl.Series(moved)).then(flipped).otherwise("gender_pred").alias("gender_pred"),
        (pl.col("age_pred") + shift).alias("age_pred"),
        *(pl.col(f"gender_prob_{label}") * 0.9 + 0.05 for label in classes),
    )
    failures = pl.when(failed | (pl.col("status") != "ok"))
    found = found.with_columns(
        failures.then(pl.lit("no_face")).otherwise("status").alias("status"),
        *(
            failures.then(None).otherwise(name).alias(name)
            for name in frame.columns
            if "_pred" in name or "_prob_" in name
        ),
    )
    return found.sample(fraction=1, shuffle=True, seed=seed)


@pytest.fixture(scope="module")
def frame(rows_of: RowsOf) -> pl.DataFrame:
    return rows_of(700, seed=3)


@pytest.fixture(scope="module")
def second_frame(frame: pl.DataFrame) -> pl.DataFrame:
    return other_model(frame)


def changed(
    found: Changes, task: str, metric: str, failures: str = "left out", **where: str
) -> Change:
    label = where.pop("label", None)
    return next(
        one
        for one in found.changes
        if (one.task, one.metric, one.failures, one.label, dict(one.subgroup))
        == (task, metric, failures, label, where)
    )


# --- shares of the same faces -----------------------------------------------------------------


@given(COUNTS, COUNTS)
def test_the_exact_test_is_scipys_binomial_test(b: int, c: int) -> None:
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert float(mcnemar(b, c, exact=True)) == pytest.approx(expected, abs=1e-12)


@given(COUNTS, COUNTS)
def test_the_mid_p_value_counts_what_was_observed_once(b: int, c: int) -> None:
    both = float(mcnemar(b, c)), float(mcnemar(b, c, exact=True))
    assert both[0] <= both[1]
    assert both[0] == float(mcnemar(c, b))
    if b != c:
        observed = binomtest(b, b + c, alternative="less").pvalue
        observed -= binomtest(b - 1, b + c, alternative="less").pvalue if b else 0
        assert both[0] == pytest.approx(both[1] - observed, abs=1e-12)


@pytest.mark.parametrize(("b", "c", "n"), [(12, 2, 50), (0, 3, 40), (25, 31, 300), (1, 0, 35)])
def test_the_interval_holds_the_differences_that_a_score_test_does_not_reject(
    b: int, c: int, n: int
) -> None:
    low, high = (float(bound) for bound in tango_interval(b, c, n, 0.95))

    def statistic(delta: float) -> float:
        def cost(q: float) -> float:
            shares = np.array([q, q + delta, 1 - 2 * q - delta])
            counts = np.array([b, c, n - b - c])
            return -(counts * np.log(np.maximum(shares, 1e-300))).sum()

        least, most = max(0.0, -delta), (1 - delta) / 2
        q = minimize_scalar(
            cost, bounds=(least, most), method="bounded", options={"xatol": 1e-10}
        ).x
        return (c - b - n * delta) / np.sqrt(n * (2 * q + delta * (1 - delta)))

    assert statistic(low) == pytest.approx(1.96, abs=2e-3)
    assert statistic(high) == pytest.approx(-1.96, abs=2e-3)


@given(COUNTS, COUNTS, st.integers(0, 100))
def test_the_interval_holds_the_difference_and_turns_with_it(b: int, c: int, same: int) -> None:
    n = b + c + same
    if not n:
        return
    low, high = (float(bound) for bound in tango_interval(b, c, n, 0.95))
    turned = tango_interval(c, b, n, 0.95)
    assert -1 <= low <= (c - b) / n <= high <= 1
    assert low == pytest.approx(-float(turned[1]), abs=1e-9)
    assert low < high


def test_a_share_without_faces_has_no_interval() -> None:
    assert np.isnan(tango_interval(0, 0, 0, 0.95)).all()


# --- the whole comparison ---------------------------------------------------------------------


def test_a_table_does_not_differ_from_itself(open_table: OpenTable, frame: pl.DataFrame) -> None:
    table = open_table(frame)
    found = compare_pairs(pair_tables(table, table, ["gender"]))
    assert found.changes
    assert not any(one.claimed for one in found.changes)
    assert {one.difference for one in found.changes} <= {0.0, None}
    assert {one.p_value for one in found.changes} <= {1.0, None}
    assert all(one.share.value in {1.0, None} for one in found.agreement)


def test_turning_the_tables_turns_every_difference(
    open_table: OpenTable, frame: pl.DataFrame, second_frame: pl.DataFrame
) -> None:
    first, second = open_table(frame), open_table(second_frame)
    ahead = compare_pairs(pair_tables(first, second, ["gender"])).changes
    back = compare_pairs(pair_tables(second, first, ["gender"])).changes
    turned = {"improved": "regressed", "regressed": "improved"}
    for one, other in zip(ahead, back, strict=True):
        assert (one.task, one.metric, one.subgroup) == (other.task, other.metric, other.subgroup)
        assert (one.first, one.second) == (other.second, other.first)
        assert one.n == other.n
        assert other.verdict == turned.get(one.verdict, one.verdict)
        if one.low is not None and other.high is not None:
            assert one.low == pytest.approx(-other.high, abs=1e-9)
            assert one.p_adjusted == pytest.approx(other.p_adjusted, abs=1e-9)


def test_both_figures_are_those_of_the_audit_of_the_faces_that_both_scored(
    open_table: OpenTable, frame: pl.DataFrame, second_frame: pl.DataFrame
) -> None:
    pairs = pair_tables(open_table(frame), open_table(second_frame), ["race"])
    found = compare_pairs(pairs)
    sides = [
        audit(side, by=["race"], verify="never", replicates=100)
        for side in (pairs.first, pairs.second)
    ]
    values = [
        {
            (m.task, m.metric, m.label, frozenset(m.subgroup.items())): m.estimate.value
            for m in side.metrics
        }
        for side in sides
    ]
    compared = 0
    for one in found.changes:
        key = (one.task, one.metric, one.label, frozenset(one.subgroup.items()))
        if key in values[0] and one.failures == "left out":
            assert one.first == pytest.approx(values[0][key], abs=1e-12), key
            assert one.second == pytest.approx(values[1][key], abs=1e-12), key
            compared += 1
    assert compared == len(values[0])


def test_the_spread_of_a_mean_is_that_of_a_paired_t_test(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    frame = rows_of(200, seed=8).filter(pl.col("status") == "ok")
    second = frame.with_columns(
        age_pred=pl.col("age_pred")
        + pl.Series(np.random.default_rng(1).normal(0.4, 2, frame.height))
    )
    pairs = pair_tables(open_table(frame), open_table(second), [])
    found = changed(compare_pairs(pairs), "age", "mae")
    errors = [(one["age_pred"] - one["age_true"]).abs() for one in (frame, second)]
    expected = ttest_rel(errors[1], errors[0])
    assert found.difference == pytest.approx(errors[1].mean() - errors[0].mean())
    # Faces share 256 blocks, so that both rest on slightly different sums.
    assert found.p_value == pytest.approx(expected.pvalue, rel=0.5)
    low, high = expected.confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_faces_that_one_table_did_not_score_count_as_its_errors(
    open_table: OpenTable, frame: pl.DataFrame
) -> None:
    right = frame["gender_pred"] == frame["gender_true"]
    # The second table does not score what the first has wrong, and so has no errors.
    second = frame.with_columns(
        pl.when(right).then("gender_pred").alias("gender_pred"),
        pl.when(right).then(pl.col("status")).otherwise(pl.lit("no_face")).alias("status"),
    )
    found = compare_pairs(pair_tables(open_table(frame), open_table(second), []))
    scored = changed(found, "gender", "accuracy")
    everybody = changed(found, "gender", "accuracy", "errors")
    assert (scored.first, scored.second, scored.difference) == (1.0, 1.0, 0.0)
    assert everybody.n == frame["gender_true"].len()
    assert everybody.first == everybody.second == right.fill_null(value=False).mean()
    failures = changed(found, "", "failure_rate")
    assert failures.verdict == "regressed"
    assert failures.only_second == (~right.fill_null(value=True)).sum()


def test_a_subgroup_that_got_worse_is_found_and_the_others_are_not_blamed(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    frame = rows_of(1500, seed=4)
    worse = (frame["race_true"] == "Indian") & (pl.Series(np.arange(1500) % 3) == 0)
    flipped = (
        pl.when(pl.col("gender_pred") == "Male").then(pl.lit("Female")).otherwise(pl.lit("Male"))
    )
    second = frame.with_columns(
        pl.when(worse & pl.col("gender_pred").is_not_null())
        .then(flipped)
        .otherwise("gender_pred")
        .alias("gender_pred")
    )
    found = compare_pairs(pair_tables(open_table(frame), open_table(second), ["race"]))
    claims = {
        one.subgroup["race"]: one.verdict
        for one in found.changes
        if (one.task, one.metric) == ("gender", "accuracy") and one.subgroup
    }
    assert claims.pop("Indian") == "regressed"
    assert set(claims.values()) == {"no difference shown"}


def test_small_subgroups_are_shown_and_nothing_is_claimed_of_them(
    open_table: OpenTable, frame: pl.DataFrame, second_frame: pl.DataFrame
) -> None:
    pairs = pair_tables(open_table(frame), open_table(second_frame), [])
    found = compare_pairs(pairs, min_n=10**6)
    assert {one.verdict for one in found.changes} == {"few faces"}
    assert {one.p_adjusted for one in found.changes} == {None}
    assert any(one.low is not None for one in found.changes)


def test_units_widen_the_intervals_of_faces_that_err_together(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    frame = rows_of(100, seed=6).filter(pl.col("status") == "ok")
    second = other_model(frame, share=0.3).filter(pl.col("status") == "ok")
    tables = []
    for one in (frame, second):
        copies = [
            one.with_columns(person="image", image=pl.col("image") + f"/{k}") for k in range(6)
        ]
        tables.append(open_table(pl.concat(copies)))
    widths = []
    for unit in (None, "person"):
        pairs = pair_tables(*tables, [], unit=unit)
        for metric in ("accuracy", "macro_f1"):
            one = changed(compare_pairs(pairs, unit=unit), "gender", metric)
            assert one.low is not None
            assert one.high is not None
            widths.append(one.high - one.low)
    # Six copies of a face tell what one tells: intervals are wider by the root of six.
    assert widths[2] / widths[0] == pytest.approx(6**0.5, rel=0.25)
    assert widths[3] / widths[1] == pytest.approx(6**0.5, rel=0.25)


def test_classes_that_differ_are_refused_in_one_line(open_table: OpenTable) -> None:
    one = pl.DataFrame({"image": ["1", "2"], "mood_pred": ["glad", "sad"]})
    other = pl.DataFrame({"image": ["1", "2"], "mood_pred": ["calm", "sad"]})
    with pytest.raises(SchemaError, match="mood has the classes glad, sad in the first and calm"):
        pair_tables(open_table(one), open_table(other))


def test_tables_without_labels_tell_agreement_and_predicted_shares(open_table: OpenTable) -> None:
    one = pl.DataFrame(
        {"image": [str(k) for k in range(90)], "gender_pred": ["Male", "Female"] * 45}
    )
    other = one.with_columns(gender_pred=pl.lit("Male"))
    found = compare_pairs(pair_tables(open_table(one), open_table(other)))
    assert found.agreement[0].share.value == 0.5
    share = changed(found, "gender", "predicted_share", label="Male")
    assert (share.first, share.second, share.verdict) == (0.5, 1.0, "changed")
    assert {change.metric for change in found.changes} == {"failure_rate", "predicted_share"}


# --- the paired tally -------------------------------------------------------------------------


def test_paired_tallies_add(
    open_table: OpenTable, frame: pl.DataFrame, second_frame: pl.DataFrame
) -> None:
    second = second_frame.sort("image")
    whole = paired_tally(pair_tables(open_table(frame), open_table(second), ["gender"]))
    halves = [
        paired_tally(pair_tables(open_table(frame[part]), open_table(second[part]), ["gender"]))
        for part in (slice(0, 311), slice(311, 700))
    ]
    added = halves[0] + halves[1]
    assert added.matching == whole.matching
    assert added.images == whole.images == (700, 700)
    for one, other in zip(compare_tally(added).changes, compare_tally(whole).changes, strict=True):
        assert one.difference == pytest.approx(other.difference, abs=1e-12)
        assert one.p_value == pytest.approx(other.p_value, abs=1e-9)
        assert (one.n, one.only_first, one.verdict) == (other.n, other.only_first, other.verdict)


def test_a_saved_paired_tally_is_read_as_it_was(
    open_table: OpenTable, frame: pl.DataFrame, second_frame: pl.DataFrame, tmp_path: Path
) -> None:
    counted = paired_tally(pair_tables(open_table(frame), open_table(second_frame), []))
    for name in ("a", "b"):
        save_paired(counted, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert compare_tally(load_paired(tmp_path / "a")) == compare_tally(counted)
    (tmp_path / "c").write_bytes(b"no tally")
    with pytest.raises(InputError, match="not a paired tally"):
        load_paired(tmp_path / "c")


# --- families ---------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_p_values_are_those_of_the_stepwise_procedure(p_values: list[float]) -> None:
    adjusted = holm(np.array(p_values))
    for alpha in (0.01, 0.05, 0.3):
        rejected, ordered = set(), sorted(range(len(p_values)), key=p_values.__getitem__)
        for step, index in enumerate(ordered):
            if p_values[index] * (len(p_values) - step) >= alpha:
                break
            rejected.add(index)
        assert {k for k, p in enumerate(adjusted) if p < alpha} == rejected


def test_families_of_equal_shares_raise_few_false_alarms() -> None:
    """Of 300 families of eight subgroups of 30 to 2,000 faces, at most 6 % claim a change."""
    generator = np.random.default_rng(0)
    alarms, families = 0, 300
    n = np.array([30, 40, 60, 100, 200, 400, 900, 2000])
    for _ in range(families):
        differing = generator.choice([0.01, 0.05, 0.2])
        only = generator.multinomial(n, [differing / 2, differing / 2, 1 - differing])[:, :2]
        b, c = only.T.astype(float)

        def bounds(confidence: float, b: np.ndarray = b, c: np.ndarray = c) -> tuple:
            return tango_interval(b, c, n, confidence)

        family = Family(
            "gender",
            "accuracy",
            ("race",),
            "higher",
            [({"race": str(k)}, None) for k in range(8)],
            n.astype(float),
            b / n,
            c / n,
            mcnemar(b, c),
            bounds,
            "",
        )
        alarms += any(one.claimed for one in judge(family, 30, 0.95))
    assert alarms / families <= 0.06


def test_columns_of_either_table_are_offered_and_those_without_agreement_named(
    open_table: OpenTable, frame: pl.DataFrame, second_frame: pl.DataFrame
) -> None:
    mine = frame.with_columns(shift=pl.lit("day"), _unit=pl.lit("x"))
    theirs = second_frame.with_columns(shift=pl.lit("night"), _unit=pl.lit("x"))
    tables = open_table(mine), open_table(theirs)
    with pytest.raises(UnknownNameError, match=r"'nothing'.*_unit.*image.*shift"):
        pair_tables(*tables, ["nothing"])
    with pytest.raises(SchemaError, match="'shift' differs on every matched face"):
        pair_tables(*tables, ["shift"])
    pairs = pair_tables(*tables, ["_unit"])
    assert [one.name for one in pairs.features] == ["_unit"]


def several_faces(frame: pl.DataFrame, second_frame: pl.DataFrame) -> list[pl.DataFrame]:
    """Both models on images of two faces, with a column that names the image again."""
    order = second_frame.sort("image")
    faces = [
        pl.col("image").str.slice(0, 4).alias("image"),
        (pl.col("image").cum_count().over(pl.col("image").str.slice(0, 4)) - 1)
        .cast(pl.Int32)
        .alias("face"),
        pl.col("image").str.slice(0, 4).alias("photo"),
        pl.col("status").alias("outcome"),
    ]
    return [one.with_columns(faces) for one in (frame.sort("image"), order)]


@pytest.mark.parametrize(("name", "copy"), [("image", "photo"), ("status", "outcome")])
def test_units_and_subgroups_may_be_columns_that_every_table_has(
    open_table: OpenTable,
    frame: pl.DataFrame,
    second_frame: pl.DataFrame,
    name: str,
    copy: str,
) -> None:
    tables = [open_table(one) for one in several_faces(frame, second_frame)]
    pairs = [pair_tables(*tables, ["gender"], unit=unit) for unit in (name, copy)]
    mine, theirs = (
        compare_pairs(one, unit=unit).changes for one, unit in zip(pairs, (name, copy), strict=True)
    )
    assert mine == theirs
    short = [one.filter(pl.int_range(pl.len()) < 40) for one in several_faces(frame, second_frame)]
    tables = [open_table(one) for one in short]
    by = [compare_pairs(pair_tables(*tables, [feature])).changes for feature in (name, copy)]
    assert [one.n for one in by[0]] == [one.n for one in by[1]]
    assert {one.by for one in by[0]} == {(), (name,)}


def test_images_of_many_faces_are_counted_once(
    open_table: OpenTable, frame: pl.DataFrame, second_frame: pl.DataFrame
) -> None:
    mine, theirs = several_faces(frame, second_frame)
    found = compare_pairs(pair_tables(open_table(mine), open_table(theirs.head(605))))
    assert (mine["image"].n_unique(), found.images) == (70, (70, 61))


def test_predicted_units_are_refused_in_one_line(
    open_table: OpenTable, frame: pl.DataFrame, second_frame: pl.DataFrame
) -> None:
    tables = open_table(frame), open_table(second_frame)
    with pytest.raises(UsageError, match="--unit age_pred: the two tables predict different units"):
        pair_tables(*tables, unit="age_pred")
    with pytest.raises(UnknownNameError) as refused:
        pair_tables(*tables, unit="nothing")
    assert "_pred" not in str(refused.value)


def test_a_text_names_one_feature(
    open_table: OpenTable, frame: pl.DataFrame, second_frame: pl.DataFrame
) -> None:
    pairs = pair_tables(open_table(frame), open_table(second_frame), "gender")
    assert [one.name for one in pairs.features] == ["gender"]
