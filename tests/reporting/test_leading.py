"""Who is shown to differ from whom: the sentences say what the comparison says, and no more."""

from __future__ import annotations

import json

import polars as pl
import pytest

from faceaudit.audit.run import audit
from faceaudit.reporting import crowded
from faceaudit.reporting.findings import find
from faceaudit.reporting.html import render
from faceaudit.reporting.json_report import to_json
from faceaudit.reporting.leading import finest_gap, leading_gap
from faceaudit.reporting.markdown import to_markdown
from faceaudit.reporting.sections import differences, summary
from faceaudit.reporting.subject import Provenance, Subject
from faceaudit.tables import read_table

OTHER = {"Male": "Female", "Female": "Male"}


@pytest.fixture
def subject_of(tmp_path):
    """The subject of a table: rows of so many faces, so many of them right, in such a subgroup."""

    def made(*groups, by=None, provenance=None, **options):
        rows = []
        for n, right, subgroup in groups:
            for k in range(n):
                gender = subgroup.get("gender_true", ("Male", "Female")[k % 2])
                rows.append(
                    {
                        "image": f"{len(rows)}.jpg",
                        "status": "ok",
                        "gender_true": gender,
                        "gender_pred": gender if k < right else OTHER[gender],
                        **subgroup,
                    }
                )
        path = tmp_path / "t.parquet"
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
        found = audit(read_table(path), by=by, replicates=200, verify="never", **options)
        return Subject(
            found, Provenance("t.parquet", "ab" * 32, len(rows), None, None, provenance), "t"
        )

    return made


def gender_finding(subject):
    return next(one for one in find(subject) if one.heading.startswith("Gender"))


FEW_AND_MANY = tuple(
    (n, right, {"site": site})
    for site, n, right in (("A", 40, 28), ("B", 40, 36), ("C", 5000, 3900), ("D", 5000, 4100))
)


def test_the_pair_that_is_shown_is_named_where_the_two_ends_are_not(subject_of):
    subject = subject_of(*FEW_AND_MANY, by=["site"])
    told = gender_finding(subject)
    assert told.heading == (
        "Gender: lower accuracy for faces with site C than for faces with site D"
    )
    assert "for 78.0% (95% interval 76.8 to 79.1%, n = 5,000) of faces with site C" in told.sentence
    assert "82.0% (80.9 to 83.0%, n = 5,000) of faces with site D" in told.sentence
    assert "1 of 6 pairs of subgroups of site is told apart" in told.sentence
    assert "excludes zero" in told.hedge
    assert "faces with site A and faces with site B are farthest apart (20.0 points)" in told.hedge
    assert told.hedge.endswith("includes zero.")
    assert "1 of 6 pairs told apart" in render(subject)


def test_sentences_headings_and_differences_agree_in_html_and_markdown(subject_of):
    subject = subject_of(*FEW_AND_MANY, by=["site"])
    claimed = differences.gather(subject).tasks[0].compared[0].sentence
    assert "lower for C than for all other faces" in claimed
    for made in (render(subject), to_markdown(subject)):
        assert "lower accuracy for faces with site C" in made
        assert "no two subgroups can be told apart" not in made
        assert "annotated C" not in made
    (card,) = summary.gather(subject).cards
    assert (card.worst_word, card.worst_name) == ("Lowest as measured", "A")


def test_one_that_differs_from_the_rest_is_named_where_no_pair_is_shown(subject_of):
    sites = [(150, 132, {"site": f"s{k}"}) for k in range(8)] + [(150, 116, {"site": "odd"})]
    subject = subject_of(*sites, by=["site"])
    gap = leading_gap(subject.audit, "gender", "accuracy")
    assert gap.pair is None
    assert not gap.ends_shown
    told = gender_finding(subject)
    assert told.heading == (
        "Gender: lower accuracy for faces with site odd than for all other faces"
    )
    assert "of faces with site odd, 10.7 points less than for all other faces." in told.sentence
    assert "1 of 9 subgroups of site is told apart from all others." in told.sentence


def test_of_more_subgroups_than_pairs_are_listed_one_is_told_against_the_rest(subject_of):
    sites = [(40, 36, {"site": f"s{k:02}"}) for k in range(50)]
    told = gender_finding(subject_of(*sites, (900, 700, {"site": "big"}), by=["site"]))
    assert told.heading == "Gender: lower accuracy for faces with site big than for all other faces"
    told = gender_finding(subject_of(*sites, (40, 34, {"site": "low"}), by=["site"]))
    assert told.heading == "Gender: no subgroup can be told apart from all others in accuracy"


def test_findings_and_cards_tell_of_all_subgroups_where_the_page_shows_some(
    subject_of, monkeypatch
):
    monkeypatch.setattr(crowded, "PAGE_SUBGROUPS", 2)
    small = [(12, 11, {"site": f"small {k}"}) for k in range(9)]
    subject = subject_of(*FEW_AND_MANY, (9000, 7200, {"site": "E"}), *small, by=["site"])
    paged = crowded.for_page(subject)
    assert len(paged.audit.metrics) < len(subject.audit.metrics)
    shown = [m.subgroup.get("site") for m in paged.audit.metrics if m.metric == "accuracy"]
    assert {"A", "B", "C", "D"} <= set(shown)
    assert summary.gather(paged).findings == find(subject)
    assert summary.gather(paged).cards == summary.gather(subject).cards
    assert "Insufficient evidence for 9 of 14 subgroups" in render(subject)


def test_only_where_nothing_is_shown_no_two_can_be_told_apart(subject_of):
    subject = subject_of(
        (118, 98, {"race_true": "Black"}), (240, 200, {"race_true": "White"}), by=["race"]
    )
    told = gender_finding(subject)
    assert told.heading == "Gender: no two subgroups can be told apart in accuracy"
    assert "83.1% (95% interval 75.3 to 88.8%, n = 118) of faces annotated Black" in told.sentence
    assert "83.3% (78.1 to 87.5%, n = 240) of faces annotated White" in told.sentence
    assert "between the two ranked subgroups of annotated race" in told.sentence
    assert "largest" not in told.sentence


def test_both_ends_are_named_where_they_are_shown_to_differ(subject_of):
    told = gender_finding(
        subject_of(
            (400, 300, {"race_true": "Black", "site": "north"}),
            (400, 390, {"race_true": "White", "site": "north"}),
            by=["race", "site"],
            provenance="self-reported",
        )
    )
    assert told.heading == ("Gender: lowest accuracy for faces self-reported Black with site north")
    assert told.sentence.startswith("Gender was predicted as self-reported for 75.0%")
    assert "annotated" not in told.heading + told.sentence + told.hedge


def test_of_equal_subgroups_none_is_worst_on_page_in_markdown_and_in_json(subject_of):
    subject = subject_of(
        (100, 100, {"race_true": "White", "race_pred": "White"}),
        (60, 60, {"race_true": "Black", "race_pred": "Black"}),
        by=["race"],
    )
    told = gender_finding(subject)
    assert told.heading == "Gender: no error was seen in any ranked subgroup"
    assert "for 100.0% of the faces of each of 2 subgroups of annotated race." in told.sentence
    assert "a gap of" in told.hedge
    assert "would have shown with a chance of 80%" in told.hedge
    page, short = render(subject), to_markdown(subject)
    assert "Race: no class was taken for another" in page
    for word in ("lowest accuracy", "largest among", "recognized least", ">Lowest"):
        assert word not in page
        assert word not in short
    assert page.count("The same in all 2 ranked subgroups") == 2
    assert "none, all are equal" in page
    gaps = [
        one
        for one in json.loads(to_json(subject))["disparities"]
        if one["metric"] == "accuracy" and one["difference"] == 0
    ]
    assert gaps
    for one in gaps:
        assert one["worst"] is one["best"] is None
        assert one["reason"].startswith("all ranked subgroups have the same value")
        assert one["low"] < 0 < one["high"]


def test_equal_figures_with_errors_are_said_to_be_the_same(subject_of):
    told = gender_finding(
        subject_of((100, 90, {"site": "A"}), (50, 45, {"site": "B"}), by=["site"])
    )
    assert told.heading == "Gender: the same accuracy in every ranked subgroup"
    assert "90.0% of the faces of each of 2 subgroups of site." in told.sentence


def test_a_gap_that_only_a_coarser_cut_shows_leads(subject_of):
    few = [
        (40, right, {"race_true": race, "site": site})
        for race, right in (("White", 39), ("Black", 32))
        for site in "abcdef"
    ]
    audited = subject_of(*few, by=["race", "site"]).audit
    assert leading_gap(audited, "gender", "accuracy").disparity.by == ("race",)
    assert finest_gap(audited, "gender", "accuracy").disparity.by == ("race", "site")
    same = [(n, 36, subgroup) for n, _, subgroup in few]
    audited = subject_of(*same, by=["race", "site"]).audit
    assert leading_gap(audited, "gender", "accuracy").disparity.by == ("race", "site")


def test_a_pair_shown_in_a_finer_cut_leads_though_its_ends_are_not(subject_of):
    rows = [(n, right, {**subgroup, "race_true": "White"}) for n, right, subgroup in FEW_AND_MANY]
    rows += [(60, 50, {"site": "D", "race_true": "Black"})]
    gap = leading_gap(subject_of(*rows, by=["race", "site"]).audit, "gender", "accuracy")
    assert gap.disparity.by == ("race", "site")
    assert not gap.ends_shown
    assert gap.pair.first == {"race": "White", "site": "C"}
    assert gap.pair.difference < 0


def test_years_that_are_all_right_have_no_largest_error(tmp_path):
    rows = [
        {
            "image": f"{k}.jpg",
            "race_true": ("White", "Black")[k % 2],
            "age_true": age,
            "age_pred": age,
        }
        for k, age in enumerate([25.0, 25.0, 45.0, 45.0] * 40)
    ]
    path = tmp_path / "ages.parquet"
    pl.DataFrame(rows).write_parquet(path)
    found = audit(read_table(path), replicates=200, verify="never")
    told = find(Subject(found, Provenance("t", "ab" * 32, len(rows)), "t"))
    words = " ".join(one.heading + one.sentence + one.hedge for one in told)
    assert "Age in years: no error was seen in any ranked subgroup" in words
    assert "off on average by 0.00 years for the faces of each of 2 subgroups" in words
    assert "largest" not in words
    assert ", the farthest apart" not in render(
        Subject(found, Provenance("t", "ab" * 32, len(rows)), "t")
    )


def test_a_subgroup_is_the_lowest_only_where_it_differs_from_every_other(subject_of):
    def told(second):
        found = (("A", 2000, 1200), ("B", 2000, second), ("C", 2000, 1700))
        groups = [(n, right, {"site": site}) for site, n, right in found]
        subject = subject_of(*groups, by=["site"])
        (card,) = summary.gather(subject).cards
        return gender_finding(subject).heading, card.worst_word

    assert told(1500) == ("Gender: lowest accuracy for faces with site A", "Lowest")
    assert told(1220) == (
        "Gender: lower accuracy for faces with site A than for faces with site C",
        "Lowest as measured",
    )


def test_a_card_of_a_coarser_grouping_says_which(subject_of):
    groups = [
        (12, right, {"site": site, "camera": f"{site}{k}"})
        for site, right in (("A", 9), ("B", 12))
        for k in range(8)
    ]
    subject = subject_of(*groups, by=["site", "camera"], min_n=10)
    (card,) = summary.gather(subject).cards
    assert (card.worst_word, card.worst_name) == ("Lowest by site", "A")
