"""What the page says of itself and of its labels is so, and every text of it can be read."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from faceaudit.audit.results import Estimate
from faceaudit.audit.run import audit
from faceaudit.audit.suppress import suppress
from faceaudit.reporting.changes_text import lede
from faceaudit.reporting.compare import compare
from faceaudit.reporting.format import difference, number, quantity
from faceaudit.reporting.glossary import UNIT_NAMES, metric_facts
from faceaudit.reporting.html import make_environment, render
from faceaudit.reporting.markdown import escape
from faceaudit.reporting.sections import confusion
from faceaudit.reporting.subject import Provenance, Subject
from faceaudit.reporting.tables import scale_over
from faceaudit.schema import Task
from faceaudit.tables import read_table

STYLE = make_environment().get_template("style.css").render()


def subject_of(folder, rows, provenance="annotated", **options):
    path = folder / "t.parquet"
    pl.DataFrame(rows).write_parquet(path)
    found = audit(read_table(path), replicates=100, verify="never", **options)
    return Subject(found, Provenance("t.parquet", "0" * 64, found.rows, None, None, provenance), "")


def words_of(html):
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("&nbsp;", " ").split())


def ages(faces):
    years = np.random.default_rng(0).uniform(1, 90, faces)
    return {"age_true": years, "age_pred": years + np.arange(faces) % 7 - 2}


def genders(faces):
    return {"gender_true": ["Male", "Female"] * (faces // 2), "gender_pred": ["Male"] * faces}


def test_page_of_ages_speaks_of_ages_and_of_no_subgroups(tmp_path):
    page = words_of(render(subject_of(tmp_path, ages(200))))
    assert "compared with annotated ages" in page
    assert "an annotated and a predicted age." in page
    assert "The ages compared with are annotated" in page
    assert "compared with annotated classes" not in page
    assert "section Differences" not in page
    assert "Only subgroups of" not in page
    assert "over the ranked subgroups" not in page


def test_page_of_classes_speaks_of_its_differences(sample_subject):
    page = words_of(render(sample_subject))
    assert "compared with annotated classes" in page
    assert "The section Differences says" in page


def test_definitions_call_the_labels_what_they_are(tmp_path):
    page = words_of(render(subject_of(tmp_path, genders(80), "self-reported")))
    page = page[page.index("Definitions") :]
    assert "Share of faces whose predicted class is the self-reported one." in page
    assert "that is both self-reported and predicted" in page
    assert "annotated" not in page


def test_page_of_one_face_says_what_it_cannot_tell(tmp_path):
    page = render(subject_of(tmp_path, {"image": ["a"], "age_true": [30.0], "age_pred": [39.0]}))
    words = words_of(page)
    assert "for 1 image , which has a scored face" in words
    assert "n = 1; no interval: " in words
    assert "neither clearly" not in words
    assert 'aria-label="9.00 years, no interval"' in page
    assert ', interval "' not in page


def test_page_says_whether_cells_may_be_of_few_faces(tmp_path):
    subject = subject_of(tmp_path, genders(80))
    page = words_of(render(subject))
    assert "The page holds no image. Its cells may be of few faces, or of one" in page
    page = words_of(render(replace(subject, audit=suppress(subject.audit, 5))))
    assert "Cells of fewer than 5 faces or images are not shown." in page


@pytest.mark.parametrize(("below", "told"), [(0, "Its cells may be"), (5, "of fewer than 5 faces")])
def test_comparison_says_whether_cells_may_be_of_few_faces(tmp_path, below, told):
    tables = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for table in tables:
        pl.DataFrame({"image": [str(k) for k in range(80)], **genders(80)}).write_csv(table)
    page = tmp_path / "c.html"
    compare(*tables, output=page, suppress_below=below)
    assert told in words_of(page.read_text())


def test_comparison_without_a_change_says_so_once(sample_subject):
    found = sample_subject.baseline.changes
    quiet = [one for one in found.changes if not one.claimed]
    assert lede(replace(found, changes=tuple(quiet)), "a", "b", "annotated").endswith(
        "no difference is shown in the 1 headline figure, of all faces and of annotated subgroups."
    )
    told = lede(found, "a", "b", "annotated")
    assert told.endswith("1 improved and 1 regressed; in the other 1 no difference is shown.")


def test_log_loss_is_in_nats_and_has_no_upper_end():
    facts = metric_facts("log_loss")
    assert UNIT_NAMES[facts.unit].startswith("nats")
    assert number(2.5, facts.unit) == "2.500"
    assert quantity(2.5, facts.unit) == difference(2.5, facts.unit) == "2.500 nats"
    assert scale_over([Estimate(2.5, 2.0, 3.0, 9)], facts, None).high >= 3


def test_entities_of_markdown_are_text():
    assert escape("&lt; R&D") == "\\&lt; R\\&D"


def test_commands_in_a_reason_are_code(unlabelled_subject):
    note = "label a sample (`faceaudit sample`) <b>"
    found = replace(unlabelled_subject, audit=replace(unlabelled_subject.audit, notes=(note,)))
    assert "<code>faceaudit sample</code>) &lt;b&gt;</li>" in render(found)


def test_tasks_of_many_classes_have_the_matrix_of_all_faces_alone(sample_subject):
    many = Task("race", "own", tuple(f"R{k}" for k in range(confusion.MOST_CLASSES + 1)))
    matrices = tuple(
        replace(one, task=many, counts=np.eye(len(many.classes), dtype=np.int64) * 9)
        for one in sample_subject.audit.confusions
        if one.task.name == "race"
    )
    audit = replace(sample_subject.audit, confusions=matrices)
    (task,) = confusion.gather(replace(sample_subject, audit=audit)).tasks
    assert task.overall is not None
    assert not task.groups
    page = words_of(render(replace(sample_subject, audit=audit)))
    assert "matrices of subgroups have too many classes for a page" in page


# --- style ------------------------------------------------------------------------------------


def luminance(color):
    digits = color.removeprefix("#")
    shares = [int("".join(pair), 16) / 255 for pair in list(pairwise(digits))[::2]]
    linear = [s / 12.92 if s <= 0.03928 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_every_shade_of_a_heat_map_has_contrast():
    shades = re.findall(r"\.heat \.h\d+ \{ background-color: (#\w{6}); color: (#\w{6}); \}", STYLE)
    assert len(shades) == 10
    assert min(contrast(*shade) for shade in shades) >= 4.5


def test_small_subgroups_are_hatched_and_not_faded():
    (rule,) = re.findall(r"\.heat td\.few, \.heat tr\.few td:not\(\.empty\) \{([^}]*)\}", STYLE)
    assert "repeating-linear-gradient" in rule
    colors = dict(re.findall(r"(background-color|color): (#\w{6})", rule))
    assert contrast(colors["background-color"], colors["color"]) >= 4.5
    for selector, rules in re.findall(r"(\.heat[^{}]*)\{([^}]*)\}", STYLE):
        assert "opacity" not in rules, selector


def test_what_is_folded_is_printed():
    printed = STYLE[STYLE.index("@media print") :]
    (rule,) = re.findall(r"details::details-content \{([^}]*)\}", printed)
    assert "content-visibility: visible" in rule
    assert "flex-direction: column" in printed[printed.index(".pair {") :][:60]
