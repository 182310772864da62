from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import chisquare

from faceaudit.audit.composition import (
    Calibration,
    FaceSet,
    Reference,
    calibrate,
    correct,
    read_set,
)
from faceaudit.audit.coverage import find_composition
from faceaudit.audit.intervals import wilson
from faceaudit.audit.tally import tally
from faceaudit.schema import task_of_scheme

RACE = task_of_scheme("race", "utkface5")
SHARES = np.array([0.5, 0.2, 0.15, 0.1, 0.05])


def faces_like(shares, rows, seed=0, signal=2.4):
    """Faces whose scores depend on their class alone: label shift holds between any two sets."""
    generator = np.random.default_rng(seed)
    true = generator.choice(5, rows, p=shares)
    logits = signal * np.eye(5)[true] + generator.normal(size=(rows, 5))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    columns = {f"race_prob_{name}": probs[:, k] for k, name in enumerate(RACE.classes)}
    return pl.DataFrame(
        {
            "image": [f"{index:05}.jpg" for index in range(rows)],
            "race_true": np.array(RACE.classes)[true],
            "race_pred": np.array(RACE.classes)[probs.argmax(axis=1)],
            **columns,
        }
    )


def corrected(table, calibration=None, reference=None, annotated=None, **options):
    shares = find_composition(tally(table), [], 0.95)
    return correct(
        table,
        shares,
        {} if calibration is None else {"race": calibration},
        {} if reference is None else {"race": reference},
        reasons={},
        annotated=annotated or {},
        **options,
    )


@pytest.fixture
def table(open_table):
    return open_table(faces_like(SHARES, 4000).drop("race_true"))


@pytest.fixture
def labels():
    return faces_like(np.full(5, 0.2), 800, seed=1)


def test_shares_corrected_by_other_faces_hold_the_truth_where_predicted_ones_do_not(table, labels):
    shares, (found,) = corrected(table, calibrate(RACE, labels, "labels", "labels"))
    assert found.method == "adjusted_count"
    assert found.labelled == 800
    assert shares[0].share.high < SHARES[0]
    assert shares[4].share.low > SHARES[4]
    for one, p in zip(shares, SHARES, strict=True):
        assert one.corrected.low <= p <= one.corrected.high
        assert one.em.low - 0.01 <= p <= one.em.high + 0.01
    assert sum(one.corrected.value for one in shares) == pytest.approx(1)
    assert found.fit.p_value > 0.001


def test_the_fit_contradicts_label_shift_where_faces_look_otherwise(open_table, labels):
    blurred = open_table(faces_like(SHARES, 4000, signal=1.6).drop("race_true"))
    _, (found,) = corrected(blurred, calibrate(RACE, labels, "labels", "labels"))
    assert found.fit.p_value < 1e-6


def test_a_sample_of_the_set_itself_needs_no_label_shift(open_table):
    frame = faces_like(SHARES, 4000, signal=1.6)
    drawn = frame.sample(600, seed=3).with_columns(weight=pl.lit(4000 / 600))
    table = open_table(frame.drop("race_true"))
    shares, (found,) = corrected(table, calibrate(RACE, drawn, "labels", "sample"))
    assert found.method == "post_stratified"
    assert found.fit is None
    for one, p in zip(shares, SHARES, strict=True):
        assert one.corrected.low <= p <= one.corrected.high
        assert one.em is None


def test_without_labelled_faces_the_reason_says_what_to_do(table):
    shares, (found,) = corrected(table)
    assert found.method is None
    assert "faceaudit sample" in found.reason
    assert {one.corrected.reason for one in shares} == {found.reason}
    assert {one.corrected.value for one in shares} == {None}


def test_a_class_without_labelled_faces_leaves_the_correction_undefined(table, labels):
    few = labels.filter(pl.col("race_true") != "Indian")
    _, (found,) = corrected(table, calibrate(RACE, few, "labels", "labels"))
    assert found.method is None
    assert found.reason.startswith("no labeled face is annotated Indian,")


def test_a_predicted_class_without_labelled_faces_leaves_a_sample_undefined(table, labels):
    few = labels.filter(pl.col("race_pred") != "Indian")
    _, (found,) = corrected(table, calibrate(RACE, few, "labels", "sample"))
    assert found.reason.startswith("no labeled face is predicted Indian,")


def test_classes_that_are_confused_completely_are_not_identified(table, labels):
    guesses = labels.with_columns(pl.Series("race_pred", labels["race_pred"].shuffle(seed=0)))
    _, (found,) = corrected(table, calibrate(RACE, guesses, "labels", "labels"))
    assert found.method is None
    assert found.reason.startswith("not identified")


def test_labels_without_any_label_of_the_task_say_so(table, labels):
    none = labels.with_columns(race_true=pl.lit(None, pl.String))
    _, (found,) = corrected(table, calibrate(RACE, none, "mine.csv", "labels"))
    assert found.reason == "no face in mine.csv has a label of this task"


def test_faces_left_without_a_label_are_taken_as_the_others_of_their_stratum():
    frame = pl.DataFrame(
        {
            "race_true": ["White", None, "Black", "Black"],
            "race_pred": ["White", "White", "Black", "Black"],
            "weight": [10.0, 10.0, 3.0, 3.0],
            "stratum": [0, 0, 1, 1],
        }
    )
    found = calibrate(RACE, frame, "labels", "sample")
    assert found.joint.sum() == pytest.approx(26)
    assert found.joint[0, 0, 0] == pytest.approx(20)
    assert found.labelled == 3


def test_intervals_narrow_with_more_labelled_faces_and_stay_with_a_larger_set(open_table):
    def width(rows, labelled):
        table = open_table(faces_like(SHARES, rows).drop("race_true"))
        own = faces_like(np.full(5, 0.2), labelled, seed=1)
        shares, _ = corrected(table, calibrate(RACE, own, "labels", "labels"))
        return shares[0].corrected.high - shares[0].corrected.low

    few, many, larger = width(2000, 300), width(2000, 3000), width(20_000, 300)
    assert many < 0.6 * few
    assert larger > 0.6 * few


def test_counts_of_a_card_correct_as_single_faces_do(table, labels):
    faces = calibrate(RACE, labels, "labels", "labels")
    card = Calibration(RACE, "bundle", "model", faces.joint, faces.edges, faces.labelled)
    by_faces, _ = corrected(table, faces)
    by_card, (found,) = corrected(table, card)
    assert found.source == "bundle"
    for one, other in zip(by_faces, by_card, strict=True):
        assert one.corrected == other.corrected
        assert other.em.low is None
        assert "calibrated" in other.em.reason


def test_a_tally_is_corrected_without_confidences(table, labels):
    counted, calibration = tally(table), calibrate(RACE, labels, "labels", "labels")
    shares = find_composition(counted, [], 0.95)
    found, (how,) = correct(counted, shares, {"race": calibration}, {}, reasons={}, annotated={})
    whole, _ = corrected(table, calibration)
    assert [c.corrected.value for c in found] == pytest.approx([c.corrected.value for c in whole])
    assert found[0].em is None
    assert how.fit.p_value is None
    assert "scores" in how.fit.reason


def test_a_set_is_counted_by_class_and_confidence(table):
    edges = np.array([0.5, 0.9])
    found = read_set(table, RACE, edges)
    rows = table.frame.collect()
    top = rows.select(pl.max_horizontal("^race_prob_.*$")).to_series()
    assert found.counts.sum(axis=1).tolist() == [
        (rows["race_pred"] == name).sum() for name in RACE.classes
    ]
    assert found.counts.sum(axis=0).tolist() == [
        (top <= 0.5).sum(),
        ((top > 0.5) & (top <= 0.9)).sum(),
        (top > 0.9).sum(),
    ]
    assert found.faces == 4000


def test_equal_seeds_give_equal_shares(table, labels):
    calibration = calibrate(RACE, labels, "labels", "labels")
    assert corrected(table, calibration, seed=4) == corrected(table, calibration, seed=4)
    assert corrected(table, calibration, seed=4) != corrected(table, calibration, seed=5)


def test_predicted_shares_are_compared_as_scipy_and_wilson_do(table):
    target = np.array([0.55, 0.2, 0.12, 0.08, 0.05])
    shares, (found,) = corrected(table, reference=Reference(target, "shares.csv"))
    counts = np.round([one.share.value * one.share.n for one in shares])
    theirs = chisquare(counts, target * counts.sum())
    assert found.reference.statistic == pytest.approx(theirs.statistic)
    assert found.reference.p_value == pytest.approx(theirs.pvalue)
    low, _ = wilson(counts[0] / 4000, 4000, 1 - 0.05 / 5)
    assert shares[0].reference.difference.low == pytest.approx(low - 0.55)
    assert shares[0].reference.difference.value == pytest.approx(counts[0] / 4000 - 0.55)


def test_a_target_of_zero_has_differences_but_no_test(table):
    target = np.array([0.6, 0.2, 0.15, 0.05, 0.0])
    shares, (found,) = corrected(table, reference=Reference(target, "shares.csv"))
    assert found.reference.p_value is None
    assert "expected" in found.reference.reason
    assert shares[4].reference.difference.value > 0


def test_annotated_shares_are_compared_where_all_faces_are_annotated(open_table):
    frame = faces_like(SHARES, 3000, seed=6)
    counts = np.array([(frame["race_true"] == name).sum() for name in RACE.classes], float)
    shares, (found,) = corrected(
        open_table(frame), reference=Reference(SHARES, "shares.csv"), annotated={"race": counts}
    )
    assert found.method == "annotated"
    assert found.reference.p_value > 0.001
    assert shares[0].corrected.value == pytest.approx(counts[0] / 3000)
    low, high = wilson(counts[0] / 3000, 3000, 0.95)
    assert (shares[0].corrected.low, shares[0].corrected.high) == pytest.approx(
        (low, high), abs=2e-3
    )


def test_false_alarms_against_a_target_are_as_rare_as_they_should_be():
    """The corrected shares' test rejects a true target in about 5 % of the cases."""
    from faceaudit.audit.composition import compare_shares, correct_shares

    generator = np.random.default_rng(0)
    rates = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    true, found = np.array([0.5, 0.3, 0.2]), []
    task = task_of_scheme("race", "utkface5")
    for _ in range(200):
        seen = generator.multinomial(200, rates)[..., None].astype(float)
        faces = FaceSet(generator.multinomial(2000, true @ rates)[:, None].astype(float))
        calibration = Calibration(task, "bundle", "model", seen, np.zeros(0), 600)
        shares = correct_shares(faces, calibration, 1000, generator)
        found.append(compare_shares(faces, shares, Reference(true, "target"), 0.95))
    assert np.mean([one.test.p_value < 0.05 for one in found]) < 0.1
    together = [
        all(s.difference.low <= 0 <= s.difference.high for s in one.shares) for one in found
    ]
    assert np.mean(together) > 0.9
