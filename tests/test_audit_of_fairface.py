"""What docs/audit-of-fairface.md says of the shipped bundle, held against its audit."""

from __future__ import annotations

import pytest

from faceaudit.audit.results import Decomposition, Estimate
from faceaudit.models.bundle import load_bundle
from scripts import audit_of_fairface as document

OTHERS = "Others"


def bounds(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


def taken_apart(*by: str) -> Decomposition:
    return next(
        one
        for one in document.found().decompositions
        if (one.task, one.metric, one.by) == ("age", "mae", by) and one.second
    )


def steps_off(age_group: str, gender: str) -> tuple[float, float]:
    found = document.found().conditioned_age
    cell = next(c for c in found if (c.subgroup, c.age_group) == ({"gender": gender}, age_group))
    return bounds(cell.estimates["step_mae"])


def test_the_tables_of_the_reading_are_current() -> None:
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert document.filled(text) == text, "run python -m scripts.audit_of_fairface"


def test_gender_is_right_most_often_and_the_worst_subgroups_are_those_that_are_named() -> None:
    gender, race = (document.figure(task, "accuracy", {}) for task in ("gender", "race"))
    assert bounds(gender)[0] > bounds(race)[1]
    worst = {
        (d.task, d.metric): tuple((d.worst or {}).values())
        for d in document.found().disparities
        if len(d.by) == 2 and d.label is None
    }
    assert worst["gender", "accuracy"] == ("Female", "Asian")
    assert worst["race", "accuracy"] == ("Female", "Indian")
    assert worst["age", "mae"] == ("Female", "White")


def test_faces_annotated_female_are_made_too_young_and_others_about_right() -> None:
    female, male = (
        document.figure("age", "mean_signed_error", {"gender": gender})
        for gender in ("Female", "Male")
    )
    assert bounds(female)[1] < 0
    assert bounds(male)[0] < 0 < bounds(male)[1]


def test_from_the_thirties_to_the_sixties_errors_are_larger_for_faces_annotated_female() -> None:
    for age_group in ("30-39", "40-49", "50-59", "60-69"):
        assert steps_off(age_group, "Female")[0] > steps_off(age_group, "Male")[1], age_group
    assert steps_off("20-29", "Female")[1] < steps_off("20-29", "Male")[0]


def test_ages_hide_a_part_of_the_gap_by_gender_and_are_the_widest_gaps_by_race() -> None:
    gender = taken_apart("gender")
    assert bounds(gender.mix)[1] < 0 < bounds(gender.rate)[0]
    for one in (taken_apart("race"), taken_apart("gender", "race")):
        assert bounds(one.mix)[0] > 0
        assert bounds(one.rate)[0] < 0 < bounds(one.rate)[1]


def test_gaps_to_all_other_faces_are_left_at_the_same_ages_for_those_that_are_named() -> None:
    left = {
        tuple(one.first.values()): one.rate
        for one in document.found().decompositions
        if (one.task, one.metric) == ("age", "mae") and not one.second and "race" in one.by
    }
    for larger in (("Black",), ("Female", "Black"), ("Female", "White")):
        assert bounds(left[larger])[0] > 0, larger
    assert bounds(left["Asian",])[1] < 0
    assert max(left, key=lambda name: left[name].value or 0.0) == ("Female", "Black")


def test_of_its_own_seven_races_it_is_worst_where_the_document_says() -> None:
    race = next(one for one in load_bundle("fairface").card["weakest"] if one.startswith("Race is"))
    assert "gender Female, race Middle Eastern" in race


def test_most_errors_of_race_are_others_and_whoever_is_predicted_others_mostly_is_not() -> None:
    one = next(c for c in document.found().confusions if c.task.name == "race" and not c.subgroup)
    others = one.task.classes.index(OTHERS)
    wrong = int(one.counts.sum() - one.counts.trace())
    taken = int(one.counts[:, others].sum() - one.counts[others, others])
    assert taken > wrong / 2
    assert bounds(document.figure("race", "precision", {}, OTHERS))[1] < 0.5
    recall = document.figure("race", "recall", {}, "Indian")
    low, high = bounds(recall)
    assert 0.45 < low < high < 0.6


def test_gender_is_wrong_most_often_for_small_children_and_race_for_the_youngest() -> None:
    groups = next(task.classes for task in document.found().tasks if task.name == "age_group")
    gender, race = (
        {group: document.right_at(task, group) for group in groups} for task in ("gender", "race")
    )
    low, _ = bounds(document.figure("gender", "accuracy", {}))
    worst = sorted(groups, key=lambda group: gender[group].value or 0.0)
    assert worst[:2] == ["0-2", "3-9"]
    assert all(bounds(gender[group])[1] < low for group in worst[:2])
    assert 1 - (gender["0-2"].value or 0.0) == pytest.approx(1 / 3, abs=0.03)
    assert 1 - (gender["3-9"].value or 0.0) == pytest.approx(1 / 6, abs=0.02)
    assert min(groups, key=lambda group: race[group].value or 0.0) == "0-2"


def test_every_image_was_scored_and_most_rules_of_the_example_stay_undecided_by_others() -> None:
    everybody = next(c for c in document.found().coverage if not c.subgroup)
    assert everybody.statuses == {"ok": everybody.images}
    verdicts = document.found().verdicts
    undecided = [v for v in verdicts if v.outcome == "insufficient"]
    assert len(undecided) > len(verdicts) / 2
    for verdict in undecided:
        named = [name for subgroup in verdict.subgroups for name in subgroup.values()]
        assert OTHERS in named or OTHERS in verdict.explanation
