"""The finding about ages: what it says of directions and of the mix of ages is so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faceaudit.audit.results import ConditionedAge, Estimate, MetricValue
from faceaudit.reporting.findings.ages import age_errors

MEN, WOMEN = {"gender": "Male"}, {"gender": "Female"}


def estimate(value, n, half=0.05):
    return Estimate(value, value - half, value + half, n)


def cell(subgroup, age_group, n, off, signed=0.0, **facts):
    figures = {"exact": 0.6, "step_mae": off, "mean_signed_step": signed}
    estimates = {name: estimate(value, n) for name, value in figures.items()}
    return ConditionedAge(subgroup, age_group, estimates, **facts)


def by_age(subgroup, counts, off):
    """Rows of a subgroup: each age group, all together, and all at equal ages."""
    total, small = sum(counts.values()), sum(counts.values()) < 30
    for age_group, n in counts.items():
        yield cell(subgroup, age_group, n, off, small=n < 30)
    yield cell(subgroup, None, total, off, small=small)
    yield cell(subgroup, None, total, off, standardised=True, small=small)


def told_of(subject, *cells):
    audit = replace(subject.audit, by=(("gender",),), conditioned_age=cells)
    (found,) = age_errors(replace(subject, audit=audit))
    return found


def test_direction_at_the_hardest_ages_is_that_of_the_mean_and_no_majority(sample_subject):
    def told(signed):
        return told_of(
            sample_subject,
            cell({}, "20-29", 400, 0.78, signed),
            cell({}, "40-49", 400, 0.3),
        ).sentence

    # Three in ten are one group too young, one in eight four groups too old.
    assert "on average, faces there are predicted 0.18 age groups too old." in told(0.18)
    assert "on average, faces there are predicted 0.18 age groups too young." in told(-0.18)
    assert told(0.01).endswith("off on average (95% interval 0.73 to 0.83, n = 400).")
    assert "mostly" not in told(0.18)


def test_errors_are_largest_as_measured_where_intervals_of_other_ages_meet(sample_subject):
    cells = cell({}, "20-29", 400, 0.42), cell({}, "40-49", 400, 0.4)
    assert "Errors are largest as measured at the" in told_of(sample_subject, *cells).sentence
    cells = cell({}, "20-29", 400, 0.6), cell({}, "40-49", 400, 0.4)
    assert "Errors are largest at the" in told_of(sample_subject, *cells).sentence


def test_direction_without_an_interval_cannot_be_told(sample_subject):
    def without(value):
        why = "no interval: it needs two faces"
        found = MetricValue("age", "mean_signed_error", {}, Estimate(value, None, None, 1, why))
        audit = replace(sample_subject.audit, metrics=(found,), conditioned_age=())
        (told,) = age_errors(replace(sample_subject, audit=audit))
        return told.sentence

    assert without(9.8) == (
        "Over all faces, whether ages are predicted too high or too low cannot be told "
        "(n = 1; no interval: it needs two faces)."
    )


def test_subgroups_of_the_same_ages_are_not_said_to_differ_in_age(sample_subject):
    ages = {"20-29": 100, "40-49": 50}
    twice = {age: 2 * n for age, n in ages.items()}
    told = told_of(sample_subject, *by_age(MEN, ages, 0.1), *by_age(WOMEN, twice, 0.3)).hedge
    assert told == (
        "Subgroups of annotated gender have the same mix of ages: it does not explain that their "
        "mean distances between predicted and annotated age group are up to 0.20 age groups apart."
    )


def test_subgroups_of_other_ages_are_said_to_differ_and_by_how_much(sample_subject):
    men, women = {"20-29": 100, "40-49": 100}, {"20-29": 40, "40-49": 160}
    told = told_of(sample_subject, *by_age(MEN, men, 0.1), *by_age(WOMEN, women, 0.3)).hedge
    # Of all, 35 % are of the younger group: 15 points of each subgroup are elsewhere.
    assert told.startswith(
        "Subgroups of annotated gender differ in age: for the mix of all, up to 15.0% of the faces "
        "of one would have to be of another age. The mean distances of subgroups of annotated"
    )


def test_an_age_group_that_a_subgroup_lacks_is_one_without_faces(sample_subject):
    men, women = {"20-29": 100, "40-49": 100}, {"40-49": 200}
    told = told_of(sample_subject, *by_age(MEN, men, 0.1), *by_age(WOMEN, women, 0.3)).hedge
    assert "differ in age: for the mix of all, up to 25.0% of the faces" in told


@pytest.mark.parametrize("few", [{"20-29": 1, "40-49": 28}, {"20-29": 28, "40-49": 1}])
def test_subgroups_of_few_faces_do_not_make_the_ages_differ(sample_subject, few):
    many = {"20-29": 10_000, "40-49": 10_000}
    other = {"gender": "Other"}
    cells = [*by_age(MEN, many, 0.1), *by_age(WOMEN, many, 0.3), *by_age(other, few, 2.0)]
    assert (
        "have the same mix of ages, but for 0.03% of the faces of one: it"
        in told_of(sample_subject, *cells).hedge
    )


def test_nothing_is_said_of_the_mix_where_counts_are_kept_back(sample_subject):
    ages = {"20-29": 100, "40-49": 50}
    men, women = list(by_age(MEN, ages, 0.1)), list(by_age(WOMEN, ages, 0.3))
    told = told_of(sample_subject, *men[1:], *women).hedge
    assert told.startswith("The mean distances of subgroups of annotated gender")
    assert "differ in age" not in told
