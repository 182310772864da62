from __future__ import annotations

from dataclasses import replace

import pytest

from faceaudit.audit.results import Decomposition, Estimate
from faceaudit.reporting.findings import (
    MOST,
    confused_class,
    disparities,
    find,
    missing_faces,
    small_subgroups,
)
from faceaudit.reporting.subject import finest_disparity, leading_disparity


def with_difference(subject, low, high, **changes):
    changed = tuple(replace(d, low=low, high=high, **changes) for d in subject.audit.disparities)
    return replace(subject, audit=replace(subject.audit, disparities=changed))


def test_findings_are_few_and_end_as_sentences(sample_subject):
    found = find(sample_subject)
    assert 3 <= len(found) <= MOST
    assert all(finding.sentence.endswith(".") for finding in found)
    assert all(not finding.heading.endswith(".") for finding in found)


def test_worst_subgroup_is_named_with_figures_from_the_audit(sample_subject):
    disparity = next(
        d
        for d in sample_subject.audit.disparities
        if d.task == "gender" and d.by == ("gender", "race")
    )
    worst = next(
        m.estimate
        for m in sample_subject.audit.metrics
        if (m.task, m.metric, m.subgroup) == ("gender", "accuracy", disparity.worst)
    )
    told = next(iter(disparities(sample_subject)))
    assert f"annotated {disparity.worst['gender']} and {disparity.worst['race']}" in told.heading
    assert f"{100 * worst.value:.1f}%" in told.sentence
    assert f"n = {worst.n}" in told.sentence
    assert f"{100 * disparity.difference:.1f} points" in told.sentence


def test_difference_whose_interval_holds_zero_is_insufficient_evidence(sample_subject):
    for told in disparities(with_difference(sample_subject, -0.01, 0.2)):
        assert "includes zero: insufficient evidence" in told.hedge
        assert "no two subgroups can be told apart" in told.heading


def test_difference_whose_interval_excludes_zero_says_so(sample_subject):
    for told in disparities(with_difference(sample_subject, 0.01, 0.2)):
        assert "excludes zero" in told.hedge
        assert "insufficient" not in told.hedge


def test_gap_in_ages_says_how_much_of_it_is_age_mix(sample_subject):
    gap = next(
        d
        for d in sample_subject.audit.disparities
        if (d.task, d.metric, len(d.by)) == ("age", "mae", 2) and not d.within
    )
    parts = (
        Estimate(900, value, value - 0.5, value + 0.5)
        for value in (gap.difference, gap.difference - 0.1, 0.1, 0.9)
    )
    one = Decomposition("age", "mae", "age_group", gap.by, gap.worst, gap.best, *parts, ())
    for found, told in ((one,), True), ((), False):
        audit = replace(sample_subject.audit, decompositions=found)
        (finding,) = [
            f
            for f in disparities(replace(sample_subject, audit=audit))
            if f.heading.startswith("Age in years")
        ]
        assert ("are age mix" in finding.hedge) is told
        assert finding.hedge.endswith("cannot be told apart from 0.") is told


def test_difference_without_an_interval_draws_no_conclusion(sample_subject):
    for told in disparities(with_difference(sample_subject, None, None, reason="one face")):
        assert "no interval (one face)" in told.hedge


def test_unranked_subgroups_are_told_with_the_reason(sample_subject):
    subject = with_difference(
        sample_subject, None, None, worst=None, best=None, reason="only one has 30 faces"
    )
    told = next(iter(disparities(subject)))
    assert told.heading == "Gender: subgroups cannot be ranked"
    assert "only one has 30 faces" in told.sentence


def test_missing_faces_are_counted_and_their_subgroup_named(sample_subject):
    told = next(iter(missing_faces(sample_subject)))
    overall = next(c for c in sample_subject.audit.coverage if not c.subgroup)
    assert f"6 of {overall.images:,} images" in told.heading
    assert "annotated Female and Middle Eastern" not in told.sentence  # 27 images are too few


def test_full_coverage_is_told(sample_subject):
    full = tuple(
        replace(c, statuses={"ok": c.images}, failure_rate=Estimate(0.0, 0.0, 0.01, c.images))
        for c in sample_subject.audit.coverage
    )
    subject = replace(sample_subject, audit=replace(sample_subject.audit, coverage=full))
    assert next(iter(missing_faces(subject))).heading == "Coverage: every image was scored"


def test_class_recognized_least_comes_from_the_confusion_matrix(sample_subject):
    matrix = next(
        c for c in sample_subject.audit.confusions if c.task.name == "race" and not c.subgroup
    )
    counts = matrix.counts.copy()
    counts[2] = [60, 0, 40, 0, 0, 0, 0]
    subject = replace(
        sample_subject,
        audit=replace(sample_subject.audit, confusions=(replace(matrix, counts=counts),)),
    )
    (told,) = confused_class(subject)
    assert told.heading == "Race: Latino Hispanic is recognized least often"
    assert "40.0% were predicted as such; 60.0% were predicted White" in told.sentence


def test_small_subgroups_are_insufficient_evidence(sample_subject):
    (told,) = small_subgroups(sample_subject)
    assert told.heading == "Insufficient evidence for 1 of 23 subgroups"
    assert "Female, Middle Eastern (n = 21)" in told.sentence


@pytest.mark.parametrize("word", ["the person's race", "actual race", "real race", "true race"])
def test_findings_speak_of_annotations(sample_subject, unlabelled_subject, word):
    for subject in (sample_subject, unlabelled_subject):
        assert word not in " ".join(f.heading + f.sentence + f.hedge for f in find(subject))


def test_a_gap_that_only_a_coarser_cut_shows_leads(sample_subject):
    def bounded(one):
        told_apart = one.by == ("race",)
        return replace(one, low=0.01 if told_apart else -0.1, high=0.3)

    audit = sample_subject.audit
    changed = replace(audit, disparities=tuple(map(bounded, audit.disparities)))
    assert leading_disparity(changed, "gender", "accuracy").by == ("race",)
    assert len(finest_disparity(changed, "gender", "accuracy").by) > 1
    nowhere = replace(
        audit, disparities=tuple(replace(one, low=-0.1, high=0.1) for one in audit.disparities)
    )
    found = leading_disparity(nowhere, "gender", "accuracy")
    assert found == finest_disparity(nowhere, "gender", "accuracy")
