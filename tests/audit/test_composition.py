from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import chisquare

from faceaudit.audit.composition import Choices, Reference, compare_shares, correct
from faceaudit.audit.corrected import CorrectedShares, correct_shares
from faceaudit.audit.coverage import find_composition
from faceaudit.audit.face_sets import (
    BY,
    UNIT,
    Calibration,
    FaceSet,
    LabelledFaces,
    calibrate,
    read_set,
)
from faceaudit.audit.intervals import wilson
from faceaudit.audit.subgroups import find_features, find_groupings
from faceaudit.audit.tally import tally
from faceaudit.schema import task_of_scheme

RACE = task_of_scheme("race", "utkface5")
GENDER = task_of_scheme("gender", "gender2")
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


def corrected(table, calibration=None, reference=None, annotated=(), by=(), **options):
    features = find_features(table, by)
    counted = tally(table, features, unit=options.get("unit"))
    shares = find_composition(counted, find_groupings(features), 0.95)
    choices = Choices(
        calibrations={} if calibration is None else {"race": calibration},
        references={} if reference is None else {"race": reference},
        annotated=frozenset(annotated),
        features=features,
        **options,
    )
    return correct(table, shares, choices)


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


def test_the_fit_sees_within_predicted_classes_what_cancels_over_all():
    """Faces predicted as one class are surer than they should be, those of the other less sure."""
    joint = np.array([[[400.0, 400], [100, 100]], [[100, 100], [400, 400]]])
    seen = np.array([[[700.0, 300], [300, 700]]])
    many = Calibration(GENDER, "labels", "x", LabelledFaces.of_counts(joint), np.array([0.8]))
    few = Calibration(GENDER, "labels", "x", LabelledFaces.of_counts(joint / 100), many.edges)
    within, over_all = (correct_shares(FaceSet(seen), one).shift for one in (many, few))
    assert within.degrees == 2
    assert within.p_value < 1e-9
    assert over_all.degrees == 1
    assert over_all.p_value > 0.9


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


def sure_and_unsure(rows=4000, rate=0.5, sites=1):
    """A sample of which faces of the second stratum have other classes than their predictions."""
    generator = np.random.default_rng(7)
    unsure = generator.random(rows) < 0.25
    others = generator.random(rows) < np.where(unsure, 0.6, 0.2)
    taken = np.where(unsure, generator.random(rows) < 0.2, others)
    names = np.array(["White", "Others"])
    frame = pl.DataFrame(
        {
            "image": [f"{index:05}.jpg" for index in range(rows)],
            "race_true": names[others.astype(int)],
            "race_pred": names[taken.astype(int)],
            "stratum": unsure.astype(int),
            "weight": np.where(unsure, 2.0, 8.0),
            "site": [str(index % sites) for index in range(rows)],
        }
    )
    drawn = generator.random(rows) < 1 / frame["weight"].to_numpy()
    return frame, frame.filter(drawn).with_columns(pl.col("site").alias(BY + "site"))


def test_intervals_leave_room_for_strata_of_which_no_face_is_labelled(open_table):
    frame, sample = sure_and_unsure(sites=2)
    table = open_table(frame.drop("race_true", "stratum", "weight"))
    target = Reference(np.array([0.7, 0, 0, 0, 0.3]), "shares.csv")

    def shares_with(left_empty):
        label = pl.when(~left_empty).then(pl.col("race_true")).alias("race_true")
        found = calibrate(RACE, sample.with_columns(label), "sample", "sample", ["site"])
        assert found.joint.sum() + found.unseen.weight.sum() == pytest.approx(
            sample["weight"].sum()
        )
        return corrected(table, found, target, by=["site"])

    truth = (frame["race_true"] == "Others").mean()
    shares, (how,) = shares_with(pl.lit(value=False))
    assert shares[4].corrected.low < truth < shares[4].corrected.high
    assert (how.unlabelled, how.unseen_share) == (0, 0)
    unsure = pl.col("stratum") == 1
    shares, (how,) = shares_with(unsure)
    assert how.unlabelled == sample.filter(unsure).height
    assert how.unseen_share == pytest.approx(0.25, abs=0.03)
    assert how.reference.reason == "some strata of the sample have no labeled face"
    assert how.reference.p_value is None
    others = [one for one in shares if one.label == "Others"]
    assert len(others) == 3
    for one in others:
        assert one.corrected.value < truth - 0.05
        assert one.corrected.low < truth < one.corrected.high
        assert 0.25 < one.corrected.high - one.corrected.low < 0.5


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
    counts = LabelledFaces.of_counts(faces.joint)
    card = Calibration(RACE, "bundle", "model", counts, faces.edges)
    by_faces, _ = corrected(table, faces)
    by_card, (found,) = corrected(table, card)
    assert found.source == "bundle"
    for one, other in zip(by_faces, by_card, strict=True):
        assert one.corrected.value == pytest.approx(other.corrected.value)
        assert one.corrected.low == pytest.approx(other.corrected.low)
        assert one.corrected.n == other.corrected.n == 800
        assert other.em.low is None
        assert "the scores of single ones" in other.em.reason


def test_a_tally_is_corrected_without_confidences(table, labels):
    counted, calibration = tally(table), calibrate(RACE, labels, "labels", "labels")
    shares = find_composition(counted, [], 0.95)
    found, (how,) = correct(counted, shares, Choices({"race": calibration}))
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


def test_intervals_repeat_exactly(table, labels):
    calibration = calibrate(RACE, labels, "labels", "labels")
    assert corrected(table, calibration) == corrected(table, calibration)


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
        open_table(frame), reference=Reference(SHARES, "shares.csv"), annotated=["race"]
    )
    assert found.method == "annotated"
    assert found.reference.p_value > 0.001
    assert shares[0].corrected.value == pytest.approx(counts[0] / 3000)
    low, high = wilson(counts[0] / 3000, 3000, 0.95)
    assert (shares[0].corrected.low, shares[0].corrected.high) == pytest.approx((low, high))


def test_false_alarms_against_a_target_are_as_rare_as_they_should_be():
    """The corrected shares' test rejects a true target in about 5 % of the cases."""
    generator = np.random.default_rng(0)
    rates = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    true, found = np.array([0.5, 0.3, 0.2]), []
    task = task_of_scheme("race", "utkface5")
    for _ in range(200):
        seen = generator.multinomial(200, rates)[..., None].astype(float)
        faces = FaceSet(generator.multinomial(2000, true @ rates)[None, :, None].astype(float))
        counts = LabelledFaces.of_counts(seen)
        calibration = Calibration(task, "bundle", "model", counts, np.zeros(0))
        shares = correct_shares(faces, calibration)
        assert isinstance(shares, CorrectedShares)
        found.append(compare_shares(shares, Reference(true, "target"), 0.95))
    assert np.mean([one.test.p_value < 0.05 for one in found]) < 0.1
    together = [
        all(s.difference.low <= 0 <= s.difference.high for s in one.shares) for one in found
    ]
    assert np.mean(together) > 0.9


# --- units ------------------------------------------------------------------------------------


def people(frame, images=4):
    """The same faces as images of persons: each row is there several times."""
    persons = frame.with_row_index("person").with_columns(pl.col("person").cast(pl.String))
    return pl.concat([persons] * images).with_columns(
        image=pl.concat([frame["image"] + f"-{n}" for n in range(images)])
    )


def width(one):
    return one.high - one.low


def test_images_of_one_person_tell_as_much_as_one_of_them(open_table):
    """Four copies of every image: intervals of a quarter of the faces, not of all of them."""
    frame, labels = faces_like(SHARES, 1500), people(faces_like(np.full(5, 0.2), 500, seed=1))
    once, (_,) = corrected(
        open_table(frame.drop("race_true")),
        calibrate(RACE, faces_like(np.full(5, 0.2), 500, seed=1), "labels", "labels"),
    )
    table = open_table(people(frame).drop("race_true"))
    copies = calibrate(RACE, labels.rename({"person": UNIT}), "labels", "labels")
    by_units, (found,) = corrected(table, copies, unit="person")
    naive, (other,) = corrected(table, calibrate(RACE, labels, "labels", "labels"))
    for alone, unit, none in zip(once, by_units, naive, strict=True):
        for kind in ("corrected", "em"):
            single, known, blind = (getattr(one, kind) for one in (alone, unit, none))
            assert known.value == pytest.approx(single.value, abs=2e-3)
            assert width(known) == pytest.approx(width(single), rel=0.3)
            assert width(blind) < 0.65 * width(single)
    assert found.fit.statistic < other.fit.statistic


def test_a_sample_of_persons_counts_each_of_them_once(open_table):
    frame = people(faces_like(SHARES, 1000, seed=2))
    table = open_table(frame.drop("race_true"))
    drawn = frame.sample(1200, seed=3).with_columns(weight=pl.lit(4000 / 1200))
    plain, _ = corrected(table, calibrate(RACE, drawn, "labels", "sample"))
    own = calibrate(RACE, drawn.rename({"person": UNIT}), "labels", "sample")
    by_units, _ = corrected(table, own, unit="person")
    # Persons have one class each: no interval is shorter than that of so many persons.
    low, high = wilson(by_units[0].corrected.value, 1000, 0.95)
    assert width(by_units[0].corrected) > 0.95 * (high - low)
    assert width(plain[0].corrected) < 0.8 * width(by_units[0].corrected)


def test_shares_against_a_target_take_units_as_units(open_table):
    target = np.array([0.55, 0.2, 0.12, 0.08, 0.05])
    frame = faces_like(SHARES, 1000, seed=4).drop("race_true")
    once, (alone,) = corrected(open_table(frame), reference=Reference(target, "shares.csv"))
    table = open_table(people(frame))
    units, (known,) = corrected(table, reference=Reference(target, "shares.csv"), unit="person")
    _, (blind,) = corrected(table, reference=Reference(target, "shares.csv"))
    assert blind.reference.statistic == pytest.approx(4 * alone.reference.statistic)
    assert known.reference.statistic == pytest.approx(alone.reference.statistic, rel=0.3)
    for one, other in zip(once, units, strict=True):
        single, by_unit = one.reference.difference, other.reference.difference
        assert width(by_unit) == pytest.approx(width(single), rel=0.3)


# --- subgroups --------------------------------------------------------------------------------


def two_sites(rows=3000):
    """Two sites of different composition, and whose labeled faces are told apart equally well."""
    here = faces_like(SHARES, rows, seed=7).with_columns(site=pl.lit("here"))
    there = faces_like(SHARES[::-1], rows, seed=8).with_columns(
        site=pl.lit("there"), image=pl.lit("there/") + pl.col("image")
    )
    return pl.concat([here, there])


def test_every_subgroup_has_its_own_corrected_shares(open_table, labels):
    table = open_table(two_sites().drop("race_true"))
    calibration = calibrate(RACE, labels, "labels", "labels")
    # Ten intervals: at 99.9 % all of them hold.
    shares, (found,) = corrected(table, calibration, by=["site"], confidence=0.999)
    for site, truth in (("here", SHARES), ("there", SHARES[::-1])):
        own = [one for one in shares if one.subgroup == {"site": site}]
        for one, p in zip(own, truth, strict=True):
            assert one.corrected.low <= p <= one.corrected.high
            assert one.em is None
    assert found.doubtful == ()


def test_subgroups_whose_faces_look_otherwise_are_named(open_table, labels):
    blurred = faces_like(SHARES, 3000, seed=9, signal=1.6).with_columns(site=pl.lit("blurred"))
    sharp = two_sites().filter(pl.col("site") == "here")
    table = open_table(pl.concat([sharp, blurred]).drop("race_true"))
    _, (found,) = corrected(table, calibrate(RACE, labels, "labels", "labels"), by=["site"])
    assert found.doubtful == ({"site": "blurred"},)


def test_a_subgroup_is_estimated_from_a_sample_though_the_model_errs_more_in_it(open_table):
    """What faces of a predicted class are differs between the sites; nothing is assumed alike."""
    here = faces_like(SHARES, 3000, seed=10).with_columns(site=pl.lit("here"))
    there = faces_like(SHARES, 3000, seed=11, signal=1.0).with_columns(site=pl.lit("there"))
    frame = pl.concat([here, there.with_columns(image=pl.lit("t") + pl.col("image"))])
    table = open_table(frame.drop("race_true"))
    drawn = frame.sample(1000, seed=3).with_columns(
        pl.col("site").alias(BY + "site"), weight=pl.lit(6.0)
    )
    own = calibrate(RACE, drawn, "labels", "sample", ["site"])
    shares, _ = corrected(table, own, by=["site"], confidence=0.999)
    for site in ("here", "there"):
        found = [one for one in shares if one.subgroup == {"site": site}]
        assert sum(one.corrected.value for one in found) == pytest.approx(1)
        for one, p in zip(found, SHARES, strict=True):
            assert one.corrected.low <= p <= one.corrected.high


def test_shares_of_subgroups_add_up_to_those_of_all(open_table):
    frame = two_sites()
    table = open_table(frame.drop("race_true"))
    drawn = frame.sample(900, seed=5).with_columns(
        pl.col("site").alias(BY + "site"), weight=pl.lit(6000 / 900)
    )
    own = calibrate(RACE, drawn, "labels", "sample", ["site"])
    shares, _ = corrected(table, own, by=["site"])
    whole = [one.corrected.value for one in shares if not one.subgroup]
    parts = [one.corrected.value for one in shares if one.subgroup]
    assert (np.array(parts).reshape(2, 5).mean(axis=0)) == pytest.approx(whole, abs=0.005)


def test_subgroups_of_few_faces_are_null_with_the_reason(open_table, labels):
    few = faces_like(SHARES, 20, seed=12).with_columns(site=pl.lit("small"))
    table = open_table(pl.concat([two_sites(), few]).drop("race_true"))
    shares, _ = corrected(table, calibrate(RACE, labels, "labels", "labels"), by=["site"])
    (reason,) = {one.corrected.reason for one in shares if one.subgroup == {"site": "small"}}
    assert reason == "not corrected: fewer than 30 scored faces"


def test_subgroups_of_few_labelled_faces_are_null_with_the_reason(open_table):
    frame = two_sites(400)
    table = open_table(frame.drop("race_true"))
    rows = pl.concat([frame.filter(pl.col("site") == "here")[:300], frame[-7:]])
    drawn = rows.with_columns(pl.col("site").alias(BY + "site"), weight=pl.lit(800 / 307))
    shares, _ = corrected(table, calibrate(RACE, drawn, "l", "sample", ["site"]), by=["site"])
    (reason,) = {one.corrected.reason for one in shares if one.subgroup == {"site": "there"}}
    assert reason == "only 7 labeled faces of this subgroup; label at least 20"


def test_subgroups_that_are_predictions_are_not_corrected_by_other_faces(open_table, labels):
    table = open_table(faces_like(SHARES, 3000).drop("race_true"))
    shares, _ = corrected(table, calibrate(RACE, labels, "labels", "labels"), by=["race_pred"])
    (reason,) = {one.corrected.reason for one in shares if one.subgroup}
    assert reason.startswith("not identified: the subgroup is formed by predictions")


def test_a_class_that_no_labelled_face_is_predicted_as_is_said(table, labels):
    never = labels.with_columns(race_pred=pl.col("race_pred").replace("Indian", "White"))
    _, (found,) = corrected(table, calibrate(RACE, never, "labels", "labels"))
    assert found.method is None
    assert found.reason.startswith("not identified: no labeled face is predicted Indian")
