"""Tables of different images: differences of figures, distances of distributions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from faceaudit.audit.changes import Changes, Distance, judge
from faceaudit.audit.distances import TwoSamples, kolmogorov_smirnov, total_variation
from faceaudit.audit.drift import Both, compare_drift, unpaired
from faceaudit.audit.image_measures import measures
from faceaudit.audit.intervals import difference_interval, wilson
from faceaudit.audit.metrics import METRICS
from faceaudit.audit.paired_rows import pair_tables
from faceaudit.audit.results import Estimate
from faceaudit.audit.run import audit
from faceaudit.audit.subgroups import find_features
from faceaudit.audit.tally import BLOCKS, tally
from faceaudit.errors import SchemaError, UnknownNameError
from faceaudit.tables import PredictionTable

OpenTable = Callable[..., PredictionTable]
RowsOf = Callable[..., pl.DataFrame]
ACCURACY = next(metric for metric in METRICS if metric.name == "accuracy")


def quick(first: PredictionTable, second: PredictionTable, **options: object) -> Changes:
    return compare_drift(first, second, **{"replicates": 200, "by": ["gender"], **options})  # type: ignore[arg-type]


def distance(found: Changes, what: str, name: str) -> Distance:
    return next(
        one for one in found.distances if (one.what, one.name) == (what, name) and not one.subgroup
    )


def samples(first: list[int], second: list[int], *, ordered: bool = False) -> TwoSamples:
    return TwoSamples(np.array([first]), np.array([second]), 500, np.random.default_rng(0), ordered)


# --- distances --------------------------------------------------------------------------------


def test_chi_square_is_scipys() -> None:
    first, second = [30, 50, 20], [45, 40, 31]
    expected = chi2_contingency([first, second], correction=False).pvalue
    assert samples(first, second).p_value == pytest.approx(expected, rel=1e-9)


def test_rare_classes_are_permuted_and_agree_with_scipys_permutations() -> None:
    first, second = [30, 3, 1], [20, 9, 4]
    generator = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2, 0, 1, 2], [*first, *second])
    observed = chi2_contingency([first, second], correction=False).statistic
    above = 0
    for _ in range(2000):
        drawn = generator.permutation(labels)
        parts = [np.bincount(part, minlength=3) for part in (drawn[:34], drawn[34:])]
        above += chi2_contingency(parts, correction=False).statistic >= observed - 1e-9
    assert samples(first, second).p_value == pytest.approx(above / 2000, abs=0.03)


def test_what_has_an_order_is_tested_by_kolmogorov_and_smirnov() -> None:
    first, second = [10, 30, 40, 20], [25, 30, 30, 15]
    found = samples(first, second, ordered=True)
    values = [np.repeat(np.arange(4), counts) for counts in (first, second)]
    expected = ks_2samp(*values, method="asymp")
    assert found.ks == pytest.approx(expected.statistic)
    # scipy corrects for few faces; without that the test is a little more cautious.
    assert expected.pvalue <= found.p_value <= 1.2 * expected.pvalue
    assert float(kolmogorov_smirnov(found.sides)) == found.ks


def test_a_distribution_lies_no_distance_from_itself() -> None:
    value, low, high = samples([300, 400, 200], [300, 400, 200]).cross_fitted(0.95)
    assert (value, low) == (pytest.approx(0, abs=0.01), 0)
    assert high < 0.08
    assert samples([300, 400], [300, 400]).p_value == 1
    assert samples([300, 400], [300, 400]).psi == 0


def test_distances_of_equal_distributions_are_not_raised_by_chance() -> None:
    """The distance as observed is 3 to 4 points on average; what is reported is near 0."""
    generator = np.random.default_rng(3)
    share = np.full(9, 1 / 9)
    raw, found, held = [], [], 0
    for _ in range(60):
        one = samples(*(generator.multinomial(1500, share).tolist() for _ in range(2)))
        value, low, high = one.cross_fitted(0.95)
        raw.append(one.total_variation)
        found.append(value)
        held += low <= 0 <= high
    assert np.mean(raw) > 0.03
    assert np.mean(found) < 0.01
    assert held >= 55


def test_the_interval_of_a_distance_holds_it() -> None:
    generator = np.random.default_rng(4)
    first, second = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.3, 0.3, 0.2, 0.2])
    true, held = float(total_variation(first, second)), 0
    for _ in range(60):
        one = samples(*(generator.multinomial(700, share).tolist() for share in (first, second)))
        low, high = one.cross_fitted(0.95)[1:]
        held += low <= true <= high
    assert held >= 54


def test_faces_of_few_units_are_not_taken_as_many_faces() -> None:
    """Units of 50 faces that are all of one class: chi-square of the faces cries wolf."""
    generator = np.random.default_rng(5)
    alarms = naive = 0
    for _ in range(60):
        sides = [np.eye(2, dtype=np.int64)[generator.integers(0, 2, 24)] * 50 for _ in range(2)]
        one = TwoSamples(sides[0], sides[1], 200, generator)
        alarms += one.p_value < 0.05
        naive += samples(*(side.sum(axis=0).tolist() for side in sides)).p_value < 0.05
    assert alarms <= 7
    assert naive >= 30


# --- whole tables -----------------------------------------------------------------------------


def test_families_of_equal_shares_raise_few_false_alarms() -> None:
    """Of 400 families of six subgroups of 40 to 2,000 faces, at most 6 % claim a change."""
    generator = np.random.default_rng(6)
    n, alarms = np.array([40, 80, 150, 300, 900, 2000]), 0
    for _ in range(400):
        share = generator.choice([0.5, 0.8, 0.95])
        sides = []
        for _ in range(2):
            found = generator.binomial(n, share) / n
            bounds = wilson(found, n, 0.95)
            sides.append([Estimate(*part) for part in zip(found, *bounds, n.tolist(), strict=True)])
        both = [
            Both({"race": str(k)}, None, pair) for k, pair in enumerate(zip(*sides, strict=True))
        ]
        family = unpaired(ACCURACY, "gender", ("race",), both, 0.95)
        alarms += any(one.claimed for one in judge(family, 30, 0.95))
    assert alarms / 400 <= 0.06


def test_distributions_of_halves_of_one_table_rarely_differ(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    found = []
    for seed in range(40, 45):
        frame = rows_of(1000, seed=seed)
        changes = quick(open_table(frame[:500]), open_table(frame[500:]))
        assert changes.mode == "drift"
        found += changes.distances
    assert len(found) >= 100
    # Several tell of the same faces and fall together.
    assert sum(one.shifted for one in found) <= 0.07 * len(found)


def test_other_compositions_failures_and_errors_are_found(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    frame = rows_of(2400, seed=22)
    first, second = frame[:1200], frame[1200:]
    second = second.filter((pl.col("gender_true") == "Male") | (pl.int_range(pl.len()) % 3 == 0))
    failed = pl.int_range(pl.len()) % 4 == 0
    predictions = [name for name in frame.columns if "_pred" in name or "_prob_" in name]
    second = second.with_columns(
        pl.when(failed).then(pl.lit("no_face")).otherwise("status").alias("status"),
        (pl.col("age_pred") + 6).alias("age_pred"),
    ).with_columns(pl.when(~failed).then(name).alias(name) for name in predictions)
    found = quick(open_table(first), open_table(second))
    overall = {(one.task, one.metric): one for one in found.changes if not one.subgroup}
    calibrated = overall["gender", "ece"]
    assert (calibrated.low, calibrated.p_value, calibrated.claimed) == (None, None, False)
    assert "fewer faces comes out at 0" in str(calibrated.reason)
    assert overall["", "failure_rate"].verdict == "regressed"
    assert overall["age", "mae"].verdict == "regressed"
    assert overall["age", "mean_signed_error"].verdict == "changed"
    for what, name in (("subgroups", "gender"), ("annotated", "gender"), ("status", "status")):
        one = distance(found, what, name)
        assert one.shifted, (what, name)
        assert one.low is not None
        assert one.low > 0
    assert not distance(found, "annotated", "race").shifted


def test_differences_are_those_of_the_audits(open_table: OpenTable, rows_of: RowsOf) -> None:
    tables = open_table(rows_of(500, seed=23)), open_table(rows_of(400, seed=24))
    found = quick(*tables)
    one = next(
        one
        for one in found.changes
        if (one.task, one.metric, one.subgroup) == ("gender", "accuracy", {})
    )
    sides = []
    for table in tables:
        values = audit(table, by=["gender"], verify="never", replicates=200).metrics
        sides.append(
            next(
                m.estimate
                for m in values
                if (m.task, m.metric, m.subgroup) == ("gender", "accuracy", {})
            )
        )
    assert (one.first, one.second) == (sides[0].value, sides[1].value)
    bounds = [(side.value, side.low, side.high) for side in sides]
    assert (one.low, one.high) == pytest.approx(difference_interval(bounds[1], bounds[0]))
    turned = next(
        other
        for other in quick(*tables[::-1]).changes
        if (other.task, other.metric, other.subgroup) == ("gender", "accuracy", {})
    )
    assert turned.difference == pytest.approx(-one.difference)  # type: ignore[operator]
    assert (turned.low, turned.high) == pytest.approx((-one.high, -one.low))  # type: ignore[operator]


def test_tallies_tell_what_their_tables_tell_but_for_images(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    tables = [open_table(rows_of(400, seed=25)), open_table(rows_of(400, seed=26))]
    tallies = [tally(table, find_features(table, ["gender"])) for table in tables]
    found, kept = quick(*tables), quick(*tallies)  # type: ignore[arg-type]
    assert [one for one in found.distances if one.what != "measure"] == list(kept.distances)
    ranked = {"auc", "macro_auc", "average_precision", "macro_average_precision"}
    for one, other in zip(found.changes, kept.changes, strict=True):
        if one.metric not in ranked:
            assert one == other


def test_measures_of_images_are_compared(open_table: OpenTable, rows_of: RowsOf) -> None:
    frame = rows_of(300, seed=27).with_columns(
        width=pl.lit(200), height=pl.lit(260), detection_score=pl.lit(0.95)
    )
    other = frame.with_columns(width=pl.lit(90), detection_score=pl.lit(0.55))
    found = quick(open_table(frame), open_table(other))
    size, score = (
        distance(found, "measure", "shorter_side"),
        distance(found, "measure", "detection_score"),
    )
    assert size.shifted
    assert score.shifted
    assert size.medians == pytest.approx((200, 90), rel=0.06)
    assert score.medians == pytest.approx((0.95, 0.55), abs=0.01)
    assert size.total_variation == pytest.approx(1, abs=1e-9)


def test_an_image_of_many_faces_has_one_size(open_table: OpenTable, rows_of: RowsOf) -> None:
    frame = rows_of(200, seed=31).filter(status="ok")
    sized = frame.with_columns(width=pl.lit(200), height=pl.lit(260), face=pl.lit(0))
    crowd = pl.concat(
        [sized[:1].with_columns(width=pl.lit(900), face=pl.lit(at)) for at in range(99)]
    )
    crowded = pl.concat([sized[1:], crowd])
    size = distance(quick(open_table(sized), open_table(crowded), by=[]), "measure", "shorter_side")
    assert size.total_variation < 0.01
    assert not size.shifted
    later = crowded.with_columns(face=pl.col("face") + 1)  # as some number faces
    assert measures(open_table(later))["shorter_side"].sum() == sized.height


def test_measures_of_images_of_few_persons_are_not_taken_as_many_images(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    """All images of a person have one size; those of one table happen to be larger."""
    generator = np.random.default_rng(2)

    def persons(seed: int) -> pl.DataFrame:
        frame = rows_of(1200, seed=seed).filter(status="ok")
        person = np.arange(frame.height) % 40
        side = np.round(2 ** generator.uniform(6, 11, 40))[person].astype(int)
        score = generator.uniform(0.5, 1, 40)[person]
        return frame.with_columns(
            person=pl.Series(person), width=pl.Series(side), height=pl.Series(side),
            detection_score=pl.Series(score),
        )  # fmt: skip

    tables = [open_table(persons(seed)) for seed in (41, 42)]
    told, not_told = (quick(*tables, by=[], unit=unit) for unit in ("person", None))
    for name in ("shorter_side", "detection_score"):
        assert not distance(told, "measure", name).shifted
        assert distance(not_told, "measure", name).shifted
    counted = measures(tables[0], "person")["shorter_side"]
    assert counted.shape[0] == BLOCKS
    assert (counted.sum(axis=0) == measures(tables[0])["shorter_side"].sum(axis=0)).all()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(
    ("faces", "persons"), [((3000, 300), (3000, 300)), ((1500, 600), (20, 600))]
)
def test_blocks_of_unlike_sizes_raise_few_false_alarms(
    faces: tuple[int, int], persons: tuple[int, int], *, ordered: bool
) -> None:
    """Exchanging whole blocks of either side claimed a shift in 20 to 55 of 100."""
    generator = np.random.default_rng(8)
    alarms = 0
    for _ in range(100):
        sides = []
        for n, units in zip(faces, persons, strict=True):
            unit = np.arange(n) % units
            alike = generator.random(n) < (0.7 if units < n else 0)
            own = generator.integers(0, 6, units)[unit]
            values = np.where(alike, own, generator.integers(0, 6, n))
            counts = np.zeros((BLOCKS, 6), np.int64)
            np.add.at(counts, (generator.integers(0, BLOCKS, units)[unit], values), 1)
            sides.append(counts)
        alarms += TwoSamples(sides[0], sides[1], 200, generator, ordered).p_value < 0.05
    assert alarms <= 12


def test_moves_of_blocks_add_up_to_the_difference() -> None:
    generator = np.random.default_rng(9)
    first, second = (generator.integers(0, 9, (size, 4)) for size in (30, 12))
    one = TwoSamples(first, second, 10, generator)
    signs = np.repeat([1, -1], [30, 12])
    expected = first.sum(axis=0) / first.sum() - second.sum(axis=0) / second.sum()
    assert signs @ one.moves == pytest.approx(expected)


def test_the_stability_index_is_not_raised_by_few_persons() -> None:
    generator = np.random.default_rng(10)

    def side() -> np.ndarray:
        return np.eye(5, dtype=np.int64)[generator.integers(0, 5, 60)] * 20

    found = [TwoSamples(side(), side(), 10, generator).psi for _ in range(60)]
    assert np.mean(found) < 0.06  # 0.14 as if all faces were of different persons


def test_what_is_all_of_one_class_has_no_interval(open_table: OpenTable, rows_of: RowsOf) -> None:
    tables = [open_table(rows_of(200, seed=seed).filter(status="ok")) for seed in (29, 30)]
    one = distance(quick(*tables, by=[]), "status", "status")
    assert (one.total_variation, one.low, one.high, one.p_value) == (0, None, None, 1)
    assert one.reason == "no interval: all are of one class"


def test_tallies_of_other_units_are_refused(open_table: OpenTable, rows_of: RowsOf) -> None:
    table = open_table(rows_of(200, seed=28).with_columns(person=pl.col("image").str.slice(0, 4)))
    features = find_features(table, ["gender"])
    counted = tally(table, features, unit="person")
    words = "the first, a tally, has the unit none, the second, a tally, person; make both with"
    with pytest.raises(SchemaError, match=words):
        quick(tally(table, features), counted)  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="the second, a table, none; give --unit person"):
        quick(counted, table)  # type: ignore[arg-type]


def test_a_unit_without_a_name_is_refused(open_table: OpenTable, rows_of: RowsOf) -> None:
    table = open_table(rows_of(60))
    with pytest.raises(UnknownNameError, match="no column to take units from is called ''"):
        quick(table, table, unit="")


def test_tables_without_a_common_task_are_refused(open_table: OpenTable, rows_of: RowsOf) -> None:
    tables = [
        open_table(rows_of(60).select("image", f"{task}_true", f"{task}_pred"))
        for task in ("gender", "race")
    ]
    words = "the first predicts gender, the second race, and no task is in both"
    with pytest.raises(SchemaError, match=words):
        quick(*tables, by=[])
    with pytest.raises(SchemaError, match=words):
        pair_tables(*tables)


def test_images_are_counted_in_every_block_of_units(open_table: OpenTable, rows_of: RowsOf) -> None:
    """With units, no image of a status or a subgroup is left out, and fewer tell of a shift."""
    first = rows_of(600).with_columns(person=pl.int_range(600) // 20)
    second = rows_of(600).with_columns(
        person=pl.int_range(600) // 20,
        gender_true=pl.when(pl.int_range(600) // 20 < 18)
        .then(pl.lit("Female"))
        .otherwise(pl.lit("Male")),
        image=pl.lit("later/") + pl.col("image"),
    )
    found = quick(open_table(first), open_table(second), unit="person", replicates=100)
    for what, name in (("status", "status"), ("subgroups", "gender")):
        one = distance(found, what, name)
        assert (one.first, one.second) == (600, 600)
    counts = [frame["gender_true"].value_counts(sort=True)["count"] for frame in (first, second)]
    _, low, high = samples(*(side.to_list() for side in counts)).cross_fitted(0.95)
    assert (one.high or 0) - (one.low or 0) > 1.5 * (high - low)
