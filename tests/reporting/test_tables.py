from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceaudit.audit.measure import EVERY_METRIC
from faceaudit.audit.results import Estimate
from faceaudit.reporting.format import described, difference, interval, number, prints_as_zero, tick
from faceaudit.reporting.glossary import (
    BY_NAME,
    feature_title,
    grouping_title,
    metric_facts,
    subgroup_kind,
)
from faceaudit.reporting.tables import (
    SHADES,
    Cell,
    Footnotes,
    Row,
    Scale,
    estimate_cell,
    fold_undefined,
    scale_over,
    shade,
)

shares = st.floats(0, 1)


@given(st.integers(0, 10**7), st.integers(1, 10**7))
def test_a_share_reads_as_none_or_all_only_if_it_is(part, more):
    share = part / (part + more - 1) if part + more > 1 else 0.0
    assert (number(share, "share") == "0.0%") == (share == 0)
    assert (number(share, "share") == "100.0%") == (share == 1)
    assert prints_as_zero(share, "share") == (share == 0)


@given(st.lists(st.tuples(shares, shares, shares).map(sorted), min_size=1))
def test_scale_holds_every_interval(bounds):
    estimates = [Estimate(value, low, high, 10) for low, value, high in bounds]
    scale = scale_over(estimates, BY_NAME["accuracy"], None)
    assert 0 <= scale.low < scale.high <= 1
    for low, _, high in bounds:
        assert scale.low - 1e-6 <= low
        assert high <= scale.high + 1e-6


def test_scale_of_a_signed_metric_marks_zero():
    scale = scale_over([Estimate(2.0, 1.0, 3.0, 9)], BY_NAME["mean_signed_error"], 2.0)
    assert scale.mark == 0.0
    assert scale.low <= 0.0


def test_scale_without_any_value_is_the_whole_range():
    assert scale_over([Estimate(None, None, None, 0, "r")], BY_NAME["accuracy"], None) == Scale(
        0.0, 1.0
    )


def test_position_is_cut_at_the_ends():
    scale = Scale(0.5, 1.0)
    assert [scale.position(v) for v in (0.2, 0.5, 0.75, 1.0, 3.0)] == [0, 0, 50, 100, 100]


@pytest.mark.parametrize(
    ("value", "darkest", "wanted"), [(0, 1, 0), (1, 1, SHADES), (9, 1, SHADES), (1, 0, 0)]
)
def test_shade_runs_from_none_to_darkest(value, darkest, wanted):
    assert shade(value, darkest) == wanted


def test_shade_of_an_undefined_value_is_none():
    assert shade(None, 1.0) is None


def test_equal_reasons_share_a_footnote():
    notes = Footnotes()
    cells = [
        estimate_cell(Estimate(None, None, None, 0, reason), "share", notes)
        for reason in ("one class", "no face", "one class")
    ]
    assert [c.note for c in cells] == [1, 2, 1]
    assert notes.texts == ("one class", "no face")


def test_figure_that_was_not_computed_has_a_reason():
    notes = Footnotes()
    assert estimate_cell(None, "share", notes).note == 1
    assert notes.texts == ("not computed for this subgroup",)


def test_rows_without_any_value_are_folded():
    rows = [Row(name, (Cell(note=1),)) for name in "abc"]
    assert [row.header for row in fold_undefined(rows)] == ["All 3 subgroups"]
    assert len(fold_undefined([*rows, Row("d", (Cell(0.5),))])) == 4
    assert len(fold_undefined([*rows, Row("d", (Cell(note=2),))])) == 4


def test_number_of_nothing_is_not_a_number():
    assert number(None, "share") == difference(None, "share") == "n/a"
    assert interval(None, 0.5, "share") == interval(0.5, None, "share") == ""


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (-0.0004, "signed_years", "\N{MINUS SIGN}0.0004"),
        (0.0004, "signed_years", "+0.0004"),
        (-1e-12, "signed_years", "0.00"),
        (1.5, "signed_years", "+1.50"),
        (-1.5, "signed_groups", "\N{MINUS SIGN}1.50"),
        (0.99999, "share", "99.999%"),
        (0.9994, "share", "99.9%"),
        (1.0, "share", "100.0%"),
        (1 - 1e-12, "share", "100.0%"),
        (3 / 20_000, "share", "0.01%"),
        (0.0, "share", "0.0%"),
        (0.00002, "points", "0.002"),
        (0.99996, "index", "0.99996"),
        (0.00004, "index", "0.00004"),
        (12345, "count", "12,345"),
    ],
)
def test_number_in_its_unit(value, unit, text):
    assert number(value, unit) == text


@pytest.mark.parametrize("metric", EVERY_METRIC, ids=lambda m: m.name)
def test_every_metric_of_the_audit_is_described(metric):
    facts = metric_facts(metric.name)
    assert facts.definition == metric.definition
    assert facts.better == metric.better
    assert facts.interval


def test_unknown_metric_keeps_its_name():
    assert metric_facts("equal_error_rate").title == "equal error rate"


def test_features_say_where_their_classes_come_from():
    assert feature_title("race", "annotated") == "annotated race"
    assert feature_title("race_true", "self-reported") == "self-reported race"
    assert feature_title("race_pred", "annotated") == "predicted race"
    assert feature_title("site", "annotated") == "site"
    times = "\N{MULTIPLICATION SIGN}"
    assert grouping_title(("gender", "race"), "annotated") == f"annotated gender {times} race"


@pytest.mark.parametrize(
    ("subgroup", "said"),
    [
        ({"gender": "Female", "race_true": "Latino_Hispanic"}, "word Female and Latino Hispanic"),
        ({"site": "B"}, "with site B"),
        (
            {"race_pred": "Black", "site": "B", "ward": "3"},
            "predicted Black with site B and ward 3",
        ),
        (
            {"site": "B", "gender": "Male", "race_pred": "Black"},
            "word Male and predicted Black with site B",
        ),
    ],
)
def test_a_subgroup_in_a_sentence_says_where_each_class_comes_from(subgroup, said):
    assert described(subgroup, "word") == said


def test_subgroups_are_called_annotated_where_annotations_alone_form_them():
    crossed = (("gender",), ("race",), ("gender", "race"))
    assert subgroup_kind(crossed, "annotated") == "annotated subgroup"
    assert subgroup_kind((*crossed, ("site",)), "annotated") == "subgroup"
    assert subgroup_kind((("race_pred",),), "annotated") == "predicted subgroup"
    assert subgroup_kind((), "annotated") == "subgroup"


def test_ends_of_an_axis_keep_the_digits_that_tell_them_apart():
    assert (tick(0.9995, "share"), tick(1.0, "share")) == ("99.95%", "100%")
