"""The sentences of the section Differences: nothing is claimed that its test does not support."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from faceaudit.audit.comparisons import Measurements, compare_values
from faceaudit.audit.estimates import Options
from faceaudit.audit.intervals import wilson
from faceaudit.audit.measure import EVERY_METRIC
from faceaudit.audit.results import (
    AnyGapTest,
    ConditionedAge,
    Confusion,
    Disparity,
    Estimate,
    MetricValue,
    PairwiseDifference,
)
from faceaudit.audit.run import audit
from faceaudit.reporting.findings.disparities import disparities
from faceaudit.reporting.sections.differences import gather
from faceaudit.reporting.subject import Provenance, Subject
from faceaudit.reporting.told_apart import ToldApart, in_brief, mix_apart, sentence, told_apart
from faceaudit.tables import read_table

ACCURACY = next(metric for metric in EVERY_METRIC if metric.name == "accuracy")
NAMES = ("White", "Black", "Indian")
PERMUTED = "permutation within annotated classes, 2,000 draws"


def comparison_of(*shares, p_value=None, method=PERMUTED):
    """Accuracies as right faces and all faces, with a test that gives this p value."""

    def values(given):
        found = []
        names = [f"s{k}" for k in range(len(given))] if len(given) != 3 else NAMES
        for name, (right, n) in zip(names, given, strict=True):
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
    told = sentence(ToldApart(found, "annotated"))
    assert told.startswith("No difference in gender accuracy between subgroups of annotated race")
    assert "told apart from chance (p = 0.60)" in told
    assert f"a gap of {100 * found.smallest_detectable:.1f} points" in told
    assert "lower for" not in told


def test_shown_difference_is_told_with_who_and_the_simultaneous_bounds():
    found = comparison_of((950, 1000), (940, 1000), (400, 500), p_value=0.0005)
    told = sentence(ToldApart(found, "annotated"))
    worst = max(found.versus_rest, key=lambda one: abs(one.difference))
    assert worst.first == {"race": "Indian"}
    bounds = f"by {-100 * worst.high:.1f} to {-100 * worst.low:.1f} points"
    assert f"lower for Indian than for all other faces {bounds}" in told
    assert "Not all of this comes from their mix of annotated classes (p < 0.001)." in told


@pytest.mark.parametrize(
    ("mix", "told", "not_told"),
    [
        (0.6, "in their mix of classes, by up to 60.0 points, which may be all there is", "alike"),
        (
            0.0,
            "mixes of classes are too alike to be why: one test finds what the other does not",
            "may be",
        ),
        (0.05, "too alike to be why", "may be"),  # An accuracy cannot differ by more for it.
        (None, "does not show one (p = 0.40).", "mix"),
    ],
)
def test_mix_of_classes_is_named_only_as_what_may_be_why_and_where_it_can_be(mix, told, not_told):
    found = comparison_of((950, 1000), (940, 1000), (400, 500), p_value=0.4)
    said = sentence(ToldApart(found, "annotated", mix=mix))
    assert "lower for Indian than for all other faces" in said
    assert "The test of any gap at the same annotated classes does not show one (p = 0.40)" in said
    assert told in said
    assert not_told not in said


def test_where_no_classes_are_held_fixed_nothing_is_said_of_their_mix():
    plain = sentence(ToldApart(comparison_of((950, 1000), (940, 1000), (400, 500)), "annotated"))
    assert "same annotated" not in plain
    assert "mix" not in plain


EIGHT = ((74, 100), *[(86, 100)] * 7)
"""One subgroup that is told apart from all others, and no pair."""


@pytest.mark.parametrize(
    ("p_value", "found"),
    [
        (0.25, "does not show one (p = 0.25)"),
        (0.03, "Not all of this comes from their mix of annotated classes (p = 0.030)"),
    ],
)
def test_subgroup_told_apart_from_all_others_is_told_where_no_pair_is(p_value, found):
    compared = comparison_of(*EIGHT, p_value=p_value)
    assert not compared.shown
    tests = ToldApart(compared, "annotated", mix=0.0)
    said = sentence(tests)
    assert said.startswith("Gender accuracy is lower for s0 than for all other faces by")
    assert "no two subgroups can be told apart from each other" in said
    assert found in said
    assert "No difference" not in said
    assert "differs: lower for s0 than for all other faces" in in_brief(tests)
    assert "(1 of 8 subgroups, no pair told apart)" in in_brief(tests)


@pytest.fixture(scope="module")
def sites_subject(tmp_path_factory):
    """Eight sites of 100 faces, half of each gender; one has 74 right, the others 86."""
    path = tmp_path_factory.mktemp("sites") / "t.csv"
    faces = [(site, k) for site in range(8) for k in range(100)]
    gender = np.array(["Male", "Female"])
    wrong = [k // 2 < (13 if site == 0 else 7) for site, k in faces]
    pl.DataFrame(
        {
            "site": [f"s{site}" for site, _ in faces],
            "gender_true": [gender[k % 2] for _, k in faces],
            "gender_pred": [gender[(k + w) % 2] for (_, k), w in zip(faces, wrong, strict=True)],
        }
    ).write_csv(path)
    found = audit(read_table(path), by=["site"], verify="never")
    return Subject(found, Provenance(str(path), "", 800), "Sites")


def test_section_and_findings_name_the_same_subgroup(sites_subject):
    (told,) = disparities(sites_subject)
    assert "lower accuracy for faces with site s0 than for all other faces" in told.heading
    (task,) = gather(sites_subject).tasks
    (compared,) = task.compared
    assert "Gender accuracy is lower for s0 than for all other faces" in compared.sentence
    assert "does not show one (p = 0.2" in compared.sentence
    assert compared.sentence.endswith(
        "are too alike to be why: one test finds what the other does not."
    )
    brief = [said for _, metric, _, said in gather(sites_subject).others if metric == "Macro F1"]
    assert brief[0].startswith("differs: lower for s0 than for all other faces")


def test_test_of_any_gap_calls_the_labels_what_they_are(sites_subject):
    origin = replace(sites_subject.provenance, labels_provenance="self-reported")
    (task,) = gather(replace(sites_subject, provenance=origin)).tasks
    assert "permutation within self-reported classes" in task.compared[0].test
    assert "annotated" not in task.compared[0].test


def test_ends_told_apart_are_told_where_pairs_are_not_listed(sample_subject):
    compared = replace(comparison_of(*EIGHT, p_value=0.25), pairs=(), versus_rest=())
    ends = {"race": "s0"}, {"race": "s7"}
    gap = Disparity("gender", "accuracy", ("race",), *ends, 0.12, None, 0.01, 0.23, 8)
    audit = replace(sample_subject.audit, disparities=(gap,), comparisons=(compared,))
    told = told_apart(audit, compared, "annotated")
    assert told.ends == PairwiseDifference(ends[1], ends[0], 0.12, 0.01, 0.23, 0.0, 0.0)
    assert sentence(told).startswith("Gender accuracy is higher for s7 than for s0 by 1.0 to 23.0")
    unshown = replace(audit, disparities=(replace(gap, low=-0.01),))
    assert sentence(told_apart(unshown, compared, "annotated")).startswith("No difference")


def test_mixes_are_as_far_apart_as_their_total_variation_distance(sample_subject):
    task = sample_subject.audit.tasks[0]
    compared = comparison_of((80, 100), (80, 100))
    counts = ([[40, 10], [0, 50]], [[25, 0], [30, 45]])
    found = tuple(
        Confusion(task, {"race": name}, np.array(one))
        for name, one in zip(("s0", "s1"), counts, strict=True)
    )
    audit = replace(sample_subject.audit, confusions=found)
    assert mix_apart(audit, compared) == pytest.approx(0.25)
    same = replace(audit, confusions=tuple(replace(one, counts=found[0].counts) for one in found))
    assert mix_apart(same, compared) == 0
    assert mix_apart(replace(audit, confusions=found[:1]), compared) is None
    hidden = replace(found[0], hidden=np.array([[True, False], [False, False]]))
    assert mix_apart(replace(audit, confusions=(hidden, found[1])), compared) is None


def test_mixes_of_ages_come_from_annotated_age_groups(sample_subject):
    found = replace(comparison_of((80, 100), (80, 100)), task="age", metric="mae")
    faces = {("s0", "0-2"): 30, ("s0", "3-9"): 70, ("s1", "3-9"): 50, ("s1", "70+"): 50}
    ages = tuple(
        ConditionedAge({"race": name}, group, {"exact": Estimate(0.5, 0.4, 0.6, n)})
        for (name, group), n in faces.items()
    )
    audit = replace(sample_subject.audit, conditioned_age=ages)
    assert mix_apart(audit, found) == pytest.approx(0.5)


def test_gap_without_a_pair_names_nobody():
    found = comparison_of((905, 1000), (895, 1000), (450, 500), p_value=0.03)
    told = sentence(ToldApart(found, "self-reported"))
    assert "subgroups of self-reported race differ" in told
    assert "no two of them can be told apart, and none from all others" in told
    assert "Indian" not in told
    assert "At the same self-reported classes, subgroups" in told


def test_two_subgroups_are_compared_with_each_other():
    told = sentence(ToldApart(comparison_of((950, 1000), (800, 1000)), "annotated"))
    assert "higher for s0 than for s1 by" in told


def test_lower_bound_that_rounds_to_zero_is_not_written_as_zero():
    told = sentence(ToldApart(comparison_of((10000, 12000), (9883, 12000)), "annotated"))
    assert "by 0.02 to 1.9 points" in told


def test_untested_grouping_says_why():
    told = sentence(ToldApart(comparison_of((20, 25), (500, 600)), "annotated"))
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
