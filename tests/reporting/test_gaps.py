"""Gaps in words: what is mix, what is left, and where it comes from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faceaudit.audit.results import Contribution, Decomposition, Estimate
from faceaudit.reporting.gaps import gather_gaps
from faceaudit.reporting.html import render

FEMALE, MALE = {"gender": "Female"}, {"gender": "Male"}


def part(value, half=0.005, reason=None):
    return Estimate(value, value - half, value + half, 400, reason)


def decomposition(gap, mix, rate, second=None, within="age_group", task="age_group"):
    share = Estimate(None, None, None, 400, "cannot be told apart from 0")
    if abs(gap.value) > 0.005:
        share = Estimate(mix.value / gap.value, None, None, 400, "no interval")
    each = (
        Contribution("60-69", part(0.8 * rate.value)),
        Contribution("20-29", part(0.3 * rate.value)),
        Contribution("0-2", part(-0.1 * rate.value)),
    )
    first = FEMALE if second else MALE
    return Decomposition(
        task, "accuracy", within, ("gender",), first, second, gap, mix, rate, share, each
    )


@pytest.fixture
def with_gap(sample_subject):
    def subject_of(*found, within=None):
        rest = decomposition(part(0.03), part(0.01), part(0.02))
        kept = tuple(replace(rest, within=one.within, task=one.task) for one in found)
        audit = replace(sample_subject.audit, decompositions=(*kept, *found), within=within)
        return replace(sample_subject, audit=audit)

    return subject_of


def sentence_of(subject, within="age_group", task="age_group"):
    return gather_gaps(subject, within, task, "accuracy").sentences[0]


def test_a_gap_names_its_mix_its_rest_and_the_ages_that_drive_it(with_gap):
    one = decomposition(part(-0.09), part(-0.05), part(-0.04), MALE)
    assert sentence_of(with_gap(one)) == (
        "Age group: accuracy: the gap between faces annotated Female and faces annotated "
        "Male, the farthest apart, is 9.0 points. Of the gap 5.0 points (4.5 to 5.5 points) are "
        "age mix. At the same ages 4.0 points (3.5 to 4.5 points) are left. More than that "
        "comes from annotated age 60-69 (3.2 points) and 20-29 (1.2 points); at others it is the "
        "other way."
    )


def test_a_mix_that_hides_a_gap_is_said_to(with_gap):
    one = decomposition(part(0.02), part(-0.03), part(0.05), MALE)
    said = sentence_of(with_gap(one))
    assert "Age mix hides 3.0 points (2.5 to 3.5 points)." in said
    assert "At the same ages 5.0 points (4.5 to 5.5 points) are left." in said


@pytest.mark.parametrize("sign", [1, -1])
def test_a_mix_larger_than_the_gap_is_no_part_of_it(with_gap, sign):
    one = decomposition(part(sign * 0.02), part(sign * 0.05), part(-sign * 0.03), MALE)
    said = sentence_of(with_gap(one))
    assert "is 2.0 points. By age mix alone the gap would be 5.0 points (4.5 to 5.5" in said
    assert "At the same ages the gap is 3.0 points (2.5 to 3.5 points) the other way." in said
    assert "Of the gap" not in said


def test_a_gap_that_may_be_none_is_not_taken_apart(with_gap):
    one = decomposition(part(0.002), part(0.001), part(0.001), MALE)
    said = sentence_of(with_gap(one))
    assert said.endswith("it cannot be told apart from 0, and is not taken apart.")


def test_a_control_feature_is_called_by_its_name(with_gap):
    one = decomposition(part(0.06), part(0.055), part(0.004), MALE, "site", "gender")
    said = sentence_of(with_gap(one, within="site"), "site", "gender")
    assert "are mix of site." in said
    assert "What is left at the same site (\N{MINUS SIGN}0.1 to 0.9 points) cannot" in said


def test_the_page_shows_gaps_of_age_and_of_the_control_feature(with_gap):
    ages = decomposition(part(-0.09), part(-0.05), part(-0.04), MALE)
    sites = decomposition(part(0.06), part(0.055), part(0.004), MALE, "site", "gender")
    page = render(with_gap(ages, sites, within="site"))
    assert 'id="within"' in page
    assert "are age mix" in page
    assert "are mix of site" in page


def test_without_gaps_there_is_nothing_to_show(brief_subject):
    assert gather_gaps(brief_subject, "age_group", "age_group", "accuracy") is None
