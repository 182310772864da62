"""The sentences of the section Differences: nothing is claimed that its test does not support."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faceaudit.audit.comparisons import Measurements, compare_values
from faceaudit.audit.estimates import Options
from faceaudit.audit.intervals import wilson
from faceaudit.audit.measure import EVERY_METRIC
from faceaudit.audit.results import AnyGapTest, Estimate, MetricValue
from faceaudit.reporting.sections.differences import gather, sentence

ACCURACY = next(metric for metric in EVERY_METRIC if metric.name == "accuracy")
PERMUTED = "permutation within annotated classes, 2,000 draws"


def comparison_of(*shares, p_value=None, method=PERMUTED):
    """Accuracies as right faces and all faces, with a test that gives this p value."""

    def values(given):
        found = []
        for name, (right, n) in zip(("White", "Black", "Indian"), given, strict=False):
            low, high = wilson(right / n, n, 0.95)
            estimate = Estimate(right / n, float(low), float(high), n)
            found.append(MetricValue("gender", "accuracy", {"race": name}, estimate))
        return Measurements(found, [float("inf")] * len(found))

    total = [sum(part) for part in zip(*shares, strict=True)]
    rest = [(total[0] - right, total[1] - n) for right, n in shares]

    def test(*_):
        return None if p_value is None else AnyGapTest(3.0, p_value, method)

    return compare_values(ACCURACY, values(shares), values(rest), ["race"], Options(), test=test)


def test_equal_subgroups_are_not_told_apart_and_the_detectable_gap_is_named():
    found = comparison_of((905, 1000), (895, 1000), (450, 500), p_value=0.6)
    told = sentence(found, "annotated")
    assert told.startswith("No difference in gender accuracy between subgroups of annotated race")
    assert "told apart from chance (p = 0.60)" in told
    assert f"a gap of {100 * found.smallest_detectable:.1f} points" in told
    assert "lower for" not in told


def test_shown_difference_is_told_with_who_and_the_simultaneous_bounds():
    found = comparison_of((950, 1000), (940, 1000), (400, 500), p_value=0.0005)
    told = sentence(found, "annotated")
    worst = max(found.versus_rest, key=lambda one: abs(one.difference))
    assert worst.first == {"race": "Indian"}
    bounds = f"by {-100 * worst.high:.1f} to {-100 * worst.low:.1f} points"
    assert f"lower for Indian than for all other faces {bounds}" in told
    assert "Their mix of annotated classes does not explain it (p < 0.001)." in told


def test_difference_that_the_mix_of_classes_explains_says_so():
    found = comparison_of((950, 1000), (940, 1000), (400, 500), p_value=0.4)
    assert "At the same annotated classes no gap can be told apart" in sentence(found, "annotated")
    plain = comparison_of((950, 1000), (940, 1000), (400, 500))
    assert "same annotated" not in sentence(plain, "annotated")


def test_gap_without_a_pair_names_nobody():
    found = comparison_of((905, 1000), (895, 1000), (450, 500), p_value=0.03)
    told = sentence(found, "self-reported")
    assert "subgroups of self-reported race differ" in told
    assert "no two of them can be told apart" in told
    assert "Indian" not in told
    assert "At the same self-reported classes, subgroups" in told


def test_two_subgroups_are_compared_with_each_other():
    told = sentence(comparison_of((950, 1000), (800, 1000)), "annotated")
    assert "higher for White than for Black by" in told


def test_lower_bound_that_rounds_to_zero_is_not_written_as_zero():
    told = sentence(comparison_of((10000, 12000), (9883, 12000)), "annotated")
    assert "by up to" in told
    assert "0.0 to" not in told


def test_untested_grouping_says_why():
    told = sentence(comparison_of((20, 25), (500, 600)), "annotated")
    assert "were not tested: fewer than two subgroups with at least 30 faces" in told


def test_small_subgroup_is_listed_as_not_tested(sample_subject):
    found = gather(sample_subject)
    told = [one.not_tested for task in found.tasks for one in task.compared if one.not_tested]
    assert any("Female, Middle Eastern (fewer than 30 faces)" in one for one in told)
    rows = [r for task in found.tasks for one in task.compared for r in (*one.pairs, *one.rests)]
    assert not any("Female, Middle Eastern" in (row.first, row.second) for row in rows)


@pytest.mark.parametrize("number", range(3))
def test_rows_shown_exclude_zero_and_stand_first(sample_subject, number):
    compared = gather(sample_subject).tasks[0].compared[number]
    shown = [row.shown for row in compared.pairs]
    assert shown == sorted(shown, reverse=True)
    assert compared.pairs_in_all >= compared.pairs_shown >= sum(shown)


def test_audit_without_comparisons_has_no_section(unlabelled_subject, sample_subject):
    assert gather(unlabelled_subject) is None
    audit = replace(sample_subject.audit, comparisons=())
    assert gather(replace(sample_subject, audit=audit)) is None
