from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import jinja2
import pytest

from faceaudit.audit.results import Confusion
from faceaudit.reporting.html import TEMPLATE_FOLDERS, make_environment, render
from faceaudit.reporting.sections import SECTIONS
from faceaudit.schema import Task

VOID = {"meta", "br", "link", "img", "hr", "input"}
LOADING = {"src", "srcset", "poster", "data", "action", "background"}
HOSTILE = '<script>alert("1")</script>&'


class Outline(HTMLParser):
    """Elements with their attributes, and whether every one is closed in order."""

    def __init__(self):
        super().__init__()
        self.elements = []
        self.open = []
        self.text = []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(name for name, _ in self.open)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(name for name, _ in self.open)))

    def handle_endtag(self, tag):
        name, _ = self.open.pop()
        assert name == tag, f"<{name}> is closed by </{tag}>"

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs, _ in self.elements if name == tag]


def outline_of(html):
    outline = Outline()
    outline.feed(html)
    assert not outline.open
    return outline


@pytest.fixture(scope="session")
def page(sample_subject):
    return render(sample_subject)


@pytest.fixture(scope="session")
def outline(page):
    return outline_of(page)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.name)
def test_section_is_on_the_page_and_in_the_contents(section, outline):
    assert section.name in {s.get("id") for s in outline.all("section")}
    assert f"#{section.name}" in {a.get("href") for a in outline.all("a")}


def test_every_section_template_is_listed():
    folder = next(f for f in TEMPLATE_FOLDERS if f.is_dir()) / "sections"
    assert {p.stem for p in folder.glob("*.html")} == {s.name for s in SECTIONS}


def test_nothing_is_loaded_from_elsewhere(page, outline):
    for tag, attrs, _ in outline.elements:
        assert not LOADING & set(attrs), (tag, attrs)
        assert attrs.get("href", "#").startswith("#"), (tag, attrs)
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", page)


def test_there_is_no_script(outline):
    assert not outline.all("script")
    assert not [a for _, a, _ in outline.elements if any(name.startswith("on") for name in a)]


def test_page_is_small(page):
    assert len(page.encode()) < 2_000_000


def test_same_subject_gives_the_same_bytes(brief_subject):
    assert render(brief_subject) == render(brief_subject)


def test_headings_form_an_outline(outline):
    assert len(outline.all("h1")) == 1
    levels = [int(tag[1]) for tag, _, _ in outline.elements if tag in {"h1", "h2", "h3", "h4"}]
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_ids_are_unique_and_references_lead_somewhere(page, outline):
    ids = [attrs["id"] for _, attrs, _ in outline.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for _, a, _ in outline.elements if a.get("href", "").startswith("#")}
    assert wanted | set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)


def test_every_drawing_has_a_text_alternative(outline):
    drawings = 0
    for tag, attrs, parents in outline.elements:
        if tag == "svg" and attrs.get("role") == "img":
            assert attrs["aria-label"].strip()
            drawings += 1
        elif tag == "svg":
            assert parents[-1] == "div"
            assert parents[-3] == "figure"
    for attrs in (a for a in outline.all("div") if a.get("class") == "svg"):
        assert attrs["role"] == "img"
        assert "table" in attrs["aria-label"]
        drawings += 1
    assert drawings > 100


def test_every_figure_stands_with_a_table(page):
    for section in re.split(r"<section ", page)[1:]:
        if "<figure>" in section and 'id="summary"' not in section:
            assert "<table" in section


def test_tables_have_captions_and_scopes(outline):
    tables = outline.all("table")
    assert len(tables) == len(outline.all("caption"))
    assert len(tables) > 50
    assert all(th.get("scope") in {"col", "row", "rowgroup"} for th in outline.all("th"))


def test_headline_figures_have_interval_and_n(sample_subject, page):
    accuracy = next(
        m.estimate
        for m in sample_subject.audit.metrics
        if (m.task, m.metric, m.subgroup) == ("gender", "accuracy", {})
    )
    card = page[page.index('class="card"') :][:700]
    assert f"{100 * accuracy.value:.1f}%" in card
    assert f"{100 * accuracy.low:.1f}\N{EN DASH}{100 * accuracy.high:.1f}%" in card
    assert f"n&nbsp;=&nbsp;{accuracy.n:,}" in card


def test_undefined_figure_is_shown_with_its_reason(page):
    reason = "every face here is annotated as one gender class"
    assert f'title="{reason}">n/a</abbr>' in page
    assert f"<li>{reason}</li>" in page


def test_small_subgroup_is_marked(page):
    header = page.index("Female, Middle Eastern <abbr")
    assert "fewer than 30 faces" in page[header : header + 200]
    assert 'class="few"' in page[header - 60 : header]


def test_undefined_is_never_written_as_nan_or_none(outline):
    text = " ".join(outline.text).replace("(average=None)", "")  # scikit-learn's own words
    words = set(re.findall(r"[\w/]+", text))
    assert not words & {"nan", "NaN", "None", "inf", "Undefined"}


def test_class_names_are_escaped_everywhere(brief_subject):
    task = brief_subject.audit.tasks[0]
    hostile = Task(task.name, task.scheme, (HOSTILE, "$x^2$"))
    rename = dict(zip(task.classes, hostile.classes, strict=True))

    def renamed(subgroup):
        return {k: rename.get(v, v) for k, v in subgroup.items()}

    audit = brief_subject.audit
    changed = replace(
        audit,
        tasks=(hostile, *audit.tasks[1:]),
        by=(("gender",),),
        metrics=tuple(
            replace(m, subgroup=renamed(m.subgroup), label=rename.get(m.label, m.label))
            for m in audit.metrics
        ),
        coverage=tuple(replace(c, subgroup=renamed(c.subgroup)) for c in audit.coverage),
        confusions=tuple(
            Confusion(hostile, renamed(c.subgroup), c.counts)
            for c in audit.confusions
            if c.task.name == task.name
        ),
        disparities=tuple(
            replace(d, worst=renamed(d.worst), best=renamed(d.best)) for d in audit.disparities
        ),
        conditioned_age=tuple(
            replace(c, subgroup=renamed(c.subgroup)) for c in audit.conditioned_age
        ),
        roc_curves=tuple(
            replace(c, subgroup=renamed(c.subgroup), label=rename.get(c.label, c.label))
            for c in audit.roc_curves
        ),
        notes=(HOSTILE,),
    )
    html = render(replace(brief_subject, audit=changed, title=HOSTILE))
    assert not outline_of(html).all("script")
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_page_without_labels_is_a_composition_page(unlabelled_subject):
    html = render(unlabelled_subject)
    sections = [s["id"] for s in outline_of(html).all("section")]
    assert sections == ["summary", "coverage", "composition", "origin", "method"]
    assert "Accuracy cannot be audited" in html
    assert "annotated subgroup" not in html


def test_page_names_the_provenance_of_the_labels(brief_subject):
    provenance = replace(brief_subject.provenance, labels_provenance="self-reported")
    html = render(replace(brief_subject, provenance=provenance))
    assert "<strong>self-reported</strong> classes" in html
    assert "Self-reported gender" in html
    assert "annotated gender" not in html.lower()


def test_table_of_another_program_has_no_model_facts(brief_subject):
    provenance = replace(brief_subject.provenance, metadata=None)
    assert "states nothing about its model" in render(replace(brief_subject, provenance=provenance))


def test_unknown_name_in_a_template_is_an_error():
    template = make_environment().from_string("{{ summary.typo }}")
    with pytest.raises(jinja2.UndefinedError):
        template.render(summary=object())


def test_facts_of_the_model_stand_first_and_the_rest_of_its_card_is_folded(sample_subject):
    card = {
        "limits": ["Knows faces from afar.", "Knows none in the dark."],
        "recipe": {"stages": [{"epochs": 3, "size": 80}, {"epochs": 1, "size": 112}]},
    }
    metadata = sample_subject.provenance.metadata
    metadata = replace(metadata, model={**metadata.model, "card": card})
    provenance = replace(sample_subject.provenance, metadata=metadata)
    (section,) = [one for one in SECTIONS if one.name == "origin"]
    values = section.gather(replace(sample_subject, provenance=provenance))
    template = make_environment().get_template(section.template)
    shown, folded = template.render(v=values, section=section).split("<details>")
    assert "<td>Knows faces from afar. Knows none in the dark.</td>" in shown
    assert "<td>epochs 3, size 80; epochs 1, size 112</td>" in folded
    assert "{&#39;" not in shown + folded


def test_cells_of_stacked_tables_say_what_they_are_on_narrow_screens(page):
    for table in re.findall(r'<table class="[^"]*stacked">.*?</table>', page, re.DOTALL):
        columns = re.findall(r"<th scope=\"col\"", table)
        for row in re.findall(r"<tr>\n?<th scope=\"row\".*?</tr>", table, re.DOTALL):
            # The row's header and a rule or definition beneath it speak for themselves.
            assert row.count("data-head=") >= len(columns) - 2
            assert row.count("<td") - row.count("data-head=") <= 1
