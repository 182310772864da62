from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from faceaudit.audit.intervals import wilson
from faceaudit.audit.results import Coverage, Decomposition, Estimate, MetricValue, WithFailures
from faceaudit.reporting.crowded import _rankings
from faceaudit.reporting.findings import MOST, find
from faceaudit.reporting.findings.classes import confused_class, largest_shares
from faceaudit.reporting.findings.coverage import missing_faces, small_subgroups
from faceaudit.reporting.findings.disparities import disparities
from faceaudit.reporting.sections import summary
from faceaudit.reporting.sections.coverage import gather
from faceaudit.reporting.subject import MIXED


def with_difference(subject, low, high, **changes):
    """The subject with these bounds of every gap, and no other comparison."""
    changed = tuple(replace(d, low=low, high=high, **changes) for d in subject.audit.disparities)
    return replace(subject, audit=replace(subject.audit, disparities=changed, comparisons=()))


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
    assert (
        next(iter(missing_faces(subject))).heading
        == "Coverage: every image of the table was scored"
    )


def with_coverage(subject, *counts, by=(("gender",),)):
    """The subject with so many images in a subgroup, and so many of them without a face."""
    found = [
        Coverage(
            subgroup,
            images,
            {"ok": images - lost, "no_face": lost},
            Estimate(lost / images, lost / images / 2, min(1.0, 2 * lost / images), images),
        )
        for images, lost, subgroup in counts
    ]
    return replace(subject, audit=replace(subject.audit, by=by, coverage=tuple(found)))


def missing_sentence(subject):
    (told,) = missing_faces(subject)
    return told.sentence


def test_where_all_subgroups_lose_as_many_images_no_share_is_largest(sample_subject):
    both = (105, 5, {"gender": "Male"}), (105, 5, {"gender": "Female"})
    told = missing_sentence(with_coverage(sample_subject, (210, 10, {}), *both))
    assert told.endswith("The share is the same in the 2 ranked subgroups of annotated gender.")
    uneven = (105, 5, {"gender": "Male"}), (105, 15, {"gender": "Female"})
    told = missing_sentence(with_coverage(sample_subject, (210, 20, {}), *uneven))
    assert "The share is largest as measured among images annotated Female: 14.3%" in told
    uneven = (1_050, 50, {"gender": "Male"}), (1_050, 250, {"gender": "Female"})
    told = missing_sentence(with_coverage(sample_subject, (2_100, 300, {}), *uneven))
    assert "The share is largest among images annotated Female: 23.8%" in told


def test_a_single_image_is_counted_as_one(sample_subject):
    (told,) = missing_faces(with_coverage(sample_subject, (1, 0, {})))
    assert told.sentence == "Its one image has a scored face."
    (told,) = missing_faces(with_coverage(sample_subject, (1, 1, {})))
    assert told.heading == "Coverage: 1 of 1 image was not scored"


def test_three_of_many_images_are_not_none_and_shares_that_differ_are_not_the_same(sample_subject):
    cuts = (10_000, 3, {"gender": "Male"}), (10_000, 0, {"gender": "Female"})
    told = missing_sentence(with_coverage(sample_subject, (20_000, 3, {}), *cuts))
    assert told.startswith("0.01% of the images have no scored face (3:")
    assert "The share is largest among images annotated Male: 0.03%" in told


def test_images_without_an_annotation_are_counted_and_not_ranked(sample_subject):
    subject = with_coverage(
        sample_subject,
        (250, 45, {}),
        (105, 5, {"gender": "Male"}),
        (105, 0, {"gender": "Female"}),
        (40, 40, {"gender": "(not annotated)"}),
    )
    told = missing_sentence(subject)
    assert "largest among images annotated Male: 4.8%" in told
    assert told.endswith("40 images lack annotated gender and are not ranked.")
    assert "annotated (not annotated)" not in told
    failed = list(_rankings(subject.audit))[-1]
    assert failed == [frozenset(), frozenset({("gender", "Male")})]


def test_images_of_a_plain_column_are_not_called_annotated(sample_subject):
    sites = (60, 1, {"site": "north"}), (60, 9, {"site": "south"}), (29, 29, {"site": "east"})
    told = missing_sentence(with_coverage(sample_subject, (149, 39, {}), *sites, by=(("site",),)))
    assert "largest among images with site south: 15.0%" in told
    assert "annotated" not in told


def test_a_single_subgroup_with_enough_images_is_not_the_largest(sample_subject):
    cuts = (60, 1, {"gender": "Male"}), (20, 9, {"gender": "Female"})
    told = missing_sentence(with_coverage(sample_subject, (80, 10, {}), *cuts))
    assert "cannot be told: fewer than two have 30 images" in told


def race_finding(subject, counts):
    matrix = next(c for c in subject.audit.confusions if c.task.name == "race" and not c.subgroup)
    found, metrics = (replace(matrix, counts=np.array(counts)),), list(recalls(matrix.task, counts))
    audit = replace(subject.audit, confusions=found, metrics=tuple(metrics))
    return list(confused_class(replace(subject, audit=audit)))


def recalls(task, counts):
    """The recall of every class that has faces, with Wilson's interval."""
    for label, row, right in zip(task.classes, counts, np.diag(counts), strict=True):
        n = int(np.sum(row))
        low, high = wilson(right / max(n, 1), max(n, 1), 0.95)
        estimate = Estimate(right / max(n, 1), float(low), float(high), n)
        yield MetricValue(task.name, "recall", {}, estimate, label)


def test_a_class_is_recognized_least_only_where_its_interval_is_apart(sample_subject):
    counts = 90 * np.eye(7, dtype=int)
    counts[1, :2] = 10, 80
    (told,) = race_finding(sample_subject, counts)
    assert told.heading == "Race: Black is recognized least often"
    assert "88.9% (95% interval 80.7 to 93.9%) were predicted as such" in told.sentence
    counts[2, 1:3] = 8, 82
    (told,) = race_finding(sample_subject, counts)
    assert told.heading == "Race: Black is recognized least often as measured"
    assert told.hedge.startswith(
        "Which class is least may be chance: the interval of Black meets that of Latino Hispanic. "
    )


def test_classes_without_a_mistake_or_with_as_many_have_none_recognized_least(sample_subject):
    size = 7
    (told,) = race_finding(sample_subject, 100 * np.eye(size, dtype=int))
    assert told.heading == "Race: no class was taken for another"
    assert told.sentence.startswith("All 700 faces annotated as one of the 7 classes")
    (told,) = race_finding(sample_subject, 90 * np.eye(size, dtype=int) + 10)
    assert told.heading == "Race: all classes are recognized equally often"
    assert "62.5% were predicted as such, and so of each class." in told.sentence
    one_class = np.zeros((size, size), int)
    one_class[0] = [50, 10, 0, 0, 0, 0, 0]
    assert race_finding(sample_subject, one_class) == []


@pytest.mark.parametrize(
    ("provenance", "word", "view"),
    [
        ("annotated", "annotated", "classes are a labeling scheme's view of a face"),
        ("self-reported", "self-reported", "classes are what people said of themselves"),
        ("predicted", "model-labeled", "another model's predictions"),
        (MIXED, "labeled", "of several provenances"),
    ],
)
def test_sentences_fit_the_provenance_of_the_labels(sample_subject, provenance, word, view):
    origin = replace(sample_subject.provenance, labels_provenance=provenance)
    subject = replace(sample_subject, provenance=origin)
    counts = 90 * np.eye(7, dtype=int)
    counts[1, 0] = 10
    (told,) = race_finding(subject, counts)
    assert told.sentence.startswith(f"Of 100 faces {word} Black, 90.0% (95% interval ")
    assert view in told.hedge
    gender = next(iter(disparities(subject)))
    assert gender.sentence.startswith(f"Gender was predicted as {word} for")
    told = " ".join(f.heading + f.sentence + f.hedge for f in find(subject))
    assert "predicted as predicted" not in told
    assert ("annotated" in told) is (provenance == "annotated")


def test_one_mistake_of_many_faces_is_told(sample_subject):
    counts = 6_666 * np.eye(7, dtype=int)
    counts[1, :2] = 1, 6_665
    (told,) = race_finding(sample_subject, counts)
    assert told.heading == "Race: Black is recognized least often as measured"
    assert "99.98% (95% interval " in told.sentence
    assert "were predicted as such; 0.02% were predicted White" in told.sentence


def test_accuracies_that_differ_by_less_than_a_rounding_are_not_the_same(brief_subject):
    subject = with_difference(brief_subject, -0.001, 0.002, difference=0.0003)
    (told,) = disparities(subject)
    assert "the same accuracy" not in told.heading
    assert "a difference of 0.03 points" in told.sentence
    (card,) = summary.gather(subject).cards
    assert not card.alike


def test_mistakes_that_are_as_frequent_are_all_named(sample_subject):
    counts = 50 * np.eye(7, dtype=int)
    counts[0] = [40, 5, 0, 5, 0, 0, 0]
    (told,) = race_finding(sample_subject, counts)
    names = [told.sentence.split("were predicted ")[k] for k in (1, 2)]
    assert names[0].endswith("10.0% each ")
    assert names[1].count(" and ") == 1
    assert names[1].endswith(", the most frequent mistakes.")
    counts[0, 1] += 1
    (told,) = race_finding(sample_subject, counts)
    assert told.sentence.endswith(", the most frequent mistake.")
    assert " and " not in told.sentence


def test_classes_predicted_equally_often_have_none_that_is_least(unlabelled_subject):
    alike = tuple(
        replace(c, share=Estimate(1 / 2, 0.45, 0.55, 400))
        for c in unlabelled_subject.audit.composition
        if c.task == "gender"
    )
    audit = replace(unlabelled_subject.audit, composition=alike)
    (told,) = largest_shares(replace(unlabelled_subject, audit=audit))
    assert told.heading == "Gender: all 2 classes are equally frequent"
    assert "least often" not in told.sentence


def test_class_recognized_least_comes_from_the_confusion_matrix(sample_subject):
    matrix = next(
        c for c in sample_subject.audit.confusions if c.task.name == "race" and not c.subgroup
    )
    counts = matrix.counts.copy()
    counts[2] = [60, 0, 40, 0, 0, 0, 0]
    (told,) = race_finding(sample_subject, counts)
    assert told.heading == "Race: Latino Hispanic is recognized least often"
    assert "were predicted as such; 60.0% were predicted White" in told.sentence


def test_small_subgroups_are_insufficient_evidence(sample_subject):
    (told,) = small_subgroups(sample_subject)
    assert told.heading == "Insufficient evidence for 1 of 23 subgroups"
    assert "annotated Female and Middle Eastern (n = 21)" in told.sentence
    assert told.sentence.endswith("never named as best or worst.")


def with_metrics(subject, *values, by):
    """The subject with accuracies of a task in a subgroup over so many faces."""
    metrics = tuple(
        MetricValue(task, "accuracy", subgroup, Estimate(0.9, 0.8, 0.95, n), small=n < 30)
        for task, subgroup, n in values
    )
    return replace(subject, audit=replace(subject.audit, by=by, metrics=metrics, within=None))


def test_subgroup_that_is_small_in_one_task_alone_is_said_to_be_small_there(sample_subject):
    values = [("race", {"site": site}, 400) for site in "abc"]
    values += [("gender", {"site": site}, n) for site, n in (("a", 400), ("b", 12), ("c", 400))]
    subject = with_metrics(sample_subject, *values, by=(("site",),))
    (told,) = small_subgroups(subject)
    assert told.heading == "Insufficient evidence for 1 of 3 subgroups in some tasks"
    assert "with site b (gender: n = 12)." in told.sentence
    assert told.sentence.endswith("never named as best or worst there.")


def test_figures_with_failures_say_of_each_task_how_many_faces_it_has(sample_subject):
    values = [("gender", {}, 812), ("race", {}, 1200), ("gender", {"site": "b"}, 12)]
    found = tuple(
        WithFailures(task, "accuracy", subgroup, share, share, share, 0, small=n < 30)
        for task, subgroup, n in [*values, ("race", {"site": "b"}, 400)]
        for share in [Estimate(0.9, 0.8, 0.95, n)]
    )
    audit = replace(sample_subject.audit, by=(("site",),), with_failures=found)
    table = gather(replace(sample_subject, audit=audit)).twice
    assert [c.hint for c in table.columns if c.title == "n"] == [
        "annotated gender",
        "annotated race",
    ]
    row = table.groups[-1].rows[0]
    assert (row.header, row.small) == ("b", False)
    gender, race = row.cells[:4], row.cells[4:]
    assert (gender[0].value, race[0].value) == (12, 400)
    assert all(cell.small for cell in gender)
    assert not any(cell.small for cell in race)


def test_values_of_two_features_with_one_name_are_two_subgroups(sample_subject):
    sizes = {"1": 108, "2": 20, "3": 60}
    values = [("gender", {f: v}, n) for f in ("site", "camera") for v, n in sizes.items()]
    values += [("gender", {"site": "1", "camera": "2"}, 8)]
    by = (("site",), ("camera",), ("site", "camera"))
    (told,) = small_subgroups(with_metrics(sample_subject, *values, by=by))
    assert told.heading == "Insufficient evidence for 3 of 7 subgroups"
    assert (
        "with site 2 (n = 20); with camera 2 (n = 20); with site 1 and camera 2 (n = 8)."
        in told.sentence
    )


def test_failures_by_predicted_subgroups_are_not_blamed_on_missing_labels(sample_subject):
    overall = tuple(c for c in sample_subject.audit.coverage if not c.subgroup)
    audit = replace(sample_subject.audit, by=(("race_pred",),), coverage=overall)
    subject = replace(sample_subject, audit=audit)
    told = missing_sentence(subject)
    assert "cannot be told: the subgroups are of predicted classes, which an image" in told
    assert "labels" not in told
    assert gather(subject).no_subgroups in told
    unlabelled = replace(audit, by=(), labelled={})
    assert "no annotated labels" in missing_sentence(replace(subject, audit=unlabelled))


@pytest.mark.parametrize("word", ["the person's race", "actual race", "real race", "true race"])
def test_findings_speak_of_annotations(sample_subject, unlabelled_subject, word):
    for subject in (sample_subject, unlabelled_subject):
        assert word not in " ".join(f.heading + f.sentence + f.hedge for f in find(subject))
