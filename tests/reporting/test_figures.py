from __future__ import annotations

import re

import numpy as np
import pytest

from faceaudit.reporting.figures import DotPanel, draw_dots, draw_roc, thin_curve
from faceaudit.reporting.svg import ticks
from faceaudit.reporting.tables import Scale


def dot_panel(title="Gender: Accuracy"):
    return DotPanel(
        title,
        Scale(0.5, 1.0, 0.8),
        "",
        True,
        (0.9, None, 0.6),
        (0.8, None, 0.5),
        (1.0, None, 0.7),
        (False, False, True),
        0,
    )


def test_dots_carry_their_labels_as_text():
    chart = draw_dots(["Male", "Female $a$ <b>", "x"], [1], [dot_panel()], "alt")
    assert ">Male</text>" in chart.svg
    assert "$a$ &lt;b&gt;</text>" in chart.svg
    assert ">Gender: Accuracy</text>" in chart.svg
    assert "n/a" in chart.svg


def test_drawing_is_deterministic_and_self_contained():
    first, second = (draw_dots(["a", "b", "c"], [], [dot_panel()], "") for _ in range(2))
    assert first == second
    assert not re.search(r"http|<metadata|<\?xml|<!DOCTYPE|xmlns|<style", first.svg)


def test_drawings_have_no_ids_that_could_meet_on_a_page():
    assert "id=" not in draw_dots(["a", "b", "c"], [], [dot_panel()], "").svg


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.52, 0.97, [0.6, 0.8]),
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (-3, 7, [-2.5, 0, 2.5, 5]),
        (-0.004, 0.011, [0, 0.005, 0.01]),
        (0.998, 1.0, [0.998, 0.9985, 0.999, 0.9995, 1.0]),
    ],
)
def test_ticks_are_few_round_numbers_within_the_axis(low, high, expected):
    assert ticks(low, high) == expected


def test_class_name_in_any_script_is_drawn_without_a_warning():
    assert "女性" in draw_dots(["女性", "b", "c"], [], [dot_panel()], "").svg


def test_roc_has_a_panel_per_class_and_a_legend(sample_subject):
    curves = [
        c for c in sample_subject.audit.roc_curves if c.task == "race" and "race" not in c.subgroup
    ]
    chart = draw_roc(["White", "Latino_Hispanic"], curves, "alt")
    for text in ("White", "Latino Hispanic", "Male", "Female", "All faces"):
        assert f">{text}</text>" in chart.svg


@pytest.mark.parametrize("points", [2, 40, 1000])
def test_thin_curve_keeps_its_ends_and_its_area(points):
    rate = np.linspace(0, 1, points)
    x, y = thin_curve(rate, rate**0.2)
    assert len(x) <= 41
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(y, x) == pytest.approx(np.trapezoid(rate**0.2, rate), abs=0.01)


def test_thin_curve_of_steps_stays_on_the_curve():
    x, y = np.repeat(np.arange(51), 2)[1:] / 50, np.repeat(np.arange(51), 2)[:-1] / 50
    kept = set(zip(*thin_curve(x, y), strict=True))
    assert kept <= set(zip(x, y, strict=True))


def test_estimate_without_interval_is_a_dot_alone():
    panel = DotPanel("t", Scale(0, 1), "", True, (0.5,), (None,), (None,), (False,), None)
    assert "<svg" in draw_dots(["a"], [], [panel], "").svg
