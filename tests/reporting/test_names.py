"""Names of classes: none changes a figure beside it, and two that print alike stay apart."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from faceaudit.audit.results import Comparison, Estimate, PairwiseDifference, RocCurve
from faceaudit.reporting.figures import MOST_LINES, draw_dots, draw_roc
from faceaudit.reporting.format import class_name, file_name, subgroup_name
from faceaudit.reporting.glossary import feature_title, task_title
from faceaudit.reporting.html import render
from faceaudit.reporting.markdown import to_markdown
from faceaudit.reporting.names import END, ISOLATE, MARK
from faceaudit.reporting.sections.curves import gather
from faceaudit.reporting.sections.differences import _panel
from faceaudit.reporting.svg import shortened

OVERRIDE, ARABIC, HEBREW = "\u202e", "\u0639\u0631\u0628\u064a", "\u05e9\u05d7\u05d5\u05e8"


@pytest.mark.parametrize("control", [OVERRIDE, "\u2067", "\u200f", "\u061c", "\x1b", "\x85"])
def test_characters_that_turn_or_control_text_are_marked(control):
    for name in (class_name, file_name, task_title):
        assert name(f"A{control}b") == f"A{MARK}b"


def test_names_read_from_the_right_are_isolated_and_others_are_as_they_were():
    assert class_name(ARABIC) == f"{ISOLATE}{ARABIC}{END}"
    assert subgroup_name({"race": HEBREW, "site": "x"}) == f"{ISOLATE}{HEBREW}{END}, x"
    assert feature_title(HEBREW, "annotated") == f"{ISOLATE}{HEBREW}{END}"
    for name in ("Latino Hispanic", "日本人", "é", "0-2", "\u0905"):
        assert class_name(name) == name


def test_figures_stand_outside_of_names_on_the_page_and_in_the_summary(brief_subject):
    rename = {"Male": ARABIC, "Female": f"{OVERRIDE}evil"}

    def renamed(found):
        change = {"label": rename.get(found.label, found.label)} if hasattr(found, "label") else {}
        subgroup = {k: rename.get(v, v) for k, v in found.subgroup.items()}
        return replace(found, subgroup=subgroup, **change)

    audit = brief_subject.audit
    parts = ("metrics", "coverage", "composition", "with_failures")
    changed = {name: tuple(map(renamed, getattr(audit, name))) for name in parts}
    others = ("comparisons", "confusions", "disparities", "conditioned_age", "calibration")
    empty = dict.fromkeys((*others, "roc_curves"), ())
    notes = (f"read {OVERRIDE}evil",)
    subject = replace(brief_subject, audit=replace(audit, **changed, **empty, notes=notes))
    for text in (render(subject), to_markdown(subject)):
        assert OVERRIDE not in text
        assert f"{MARK}evil" in text
        assert text.count(ARABIC) == text.count(f"{ISOLATE}{ARABIC}{END}") > 0


def curve(race, power, label="Male"):
    rate = np.linspace(0, 1, 20)
    subgroup = {"race": race} if race else {}
    auc = Estimate(1 / (1 + power), None, None, 50)
    return RocCurve("gender", label, subgroup, rate, rate**power, auc)


def test_lines_of_subgroups_with_one_name_differ_in_style():
    drawn = draw_roc(["Male"], [curve("", 0.5), curve("A_B", 0.2), curve("A B", 0.9)], "").svg
    assert drawn.count(">A B</text>") == 2
    dashed = re.findall(r'<path [^>]*stroke="(#\w+)" stroke-width="1.5"', drawn)
    assert len(dashed) == len(set(dashed)) == 3


def test_difference_is_that_of_the_subgroup_and_not_of_one_with_its_name():
    subgroups = [{"race": "A_B"}, {"race": "A B"}]
    rests = tuple(
        PairwiseDifference(one, None, gap, gap - 0.01, gap + 0.01, 0.001, 0.001)
        for one, gap in zip(subgroups, (-0.2, 0.3), strict=True)
    )
    found = replace(a_comparison(), versus_rest=rests)
    panel = _panel(found, subgroups)
    assert panel.values == pytest.approx((-20.0, 30.0))
    assert not panel.percent
    assert panel.unit_label == "points"
    drawn = draw_dots(["A B", "A B"], (), [panel], "").svg
    assert ">points</text>" in drawn
    assert "%" not in drawn


def a_comparison():
    names = dict.fromkeys(("pairs", "versus_rest", "subgroups", "needed"), ())
    none = dict.fromkeys(("label", "within", "any_gap", "family", "smallest_detectable"))
    return Comparison(
        task="gender", metric="accuracy", by=("race",), confidence=0.95, **names, **none
    )


def test_more_subgroups_than_styles_have_no_line_and_are_named(brief_subject):
    races = [f"R{k}" for k in range(MOST_LINES + 4)]
    curves = [curve(race, 0.2, label) for race in ["", *races] for label in ("Male", "Female")]
    audit = replace(brief_subject.audit, by=(("race",),), roc_curves=tuple(curves))
    (task,) = gather(replace(brief_subject, audit=audit)).tasks
    (group,) = task.charts
    assert group.left_out == "R24; R25; R26; R27"
    styles = re.findall(r'stroke="(#\w+)" stroke-width="1.5"([^/]*)/>', group.chart.svg)
    assert len(styles) == len(set(styles)) == MOST_LINES + 1
    assert "for want of room: R24; R25; R26; R27" in render(replace(brief_subject, audit=audit))


@pytest.mark.parametrize("letter", ["x", "日"])
def test_long_names_are_shortened_and_told_in_full(letter):
    name = f"{letter * 200}"
    drawn = draw_roc([name, "b", "c"], [curve("", 0.2, name), curve(name, 0.2, name)], "")
    assert f"<title>{name}</title>" in drawn.svg
    assert max(map(len, re.findall(r">([^<]*…)</text>", drawn.svg))) < 80
    assert drawn.width < 1_000
    assert draw_dots([name], (), [_panel(a_comparison(), [{"race": "a"}])], "").width < 700


def test_a_shortened_name_closes_what_it_isolates():
    short = shortened(f"{ISOLATE}{ARABIC * 9}{END}", 60.0)
    assert short.count(ISOLATE) == short.count(END) == 1
    assert short.endswith("…")
