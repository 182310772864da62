"""A subject as one self-contained page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

import faceaudit
from faceaudit.reporting.crowded import for_page
from faceaudit.reporting.format import FILTERS
from faceaudit.reporting.sections import SECTIONS, Section
from faceaudit.reporting.subject import Subject

HERE = Path(__file__).parent
TEMPLATE_FOLDERS = [HERE / "templates", HERE.parents[1] / "reports" / "templates"]
"""Where a wheel and where a checkout keep the templates."""


@dataclass(frozen=True)
class Part:
    """One section that the page has, rendered."""

    section: Section
    html: Markup


def render(subject: Subject) -> str:
    """The page of an audit; the same subject gives the same text."""
    subject = for_page(subject)
    environment = make_environment()
    parts = []
    for section in SECTIONS:
        values = section.gather(subject)
        if values is not None:
            body = environment.get_template(section.template).render(v=values, section=section)
            parts.append(Part(section, Markup(body)))
    page = environment.get_template("report.html")
    return page.render(subject=subject, parts=parts, version=faceaudit.__version__)


def make_environment() -> jinja2.Environment:
    """The template environment: everything is escaped, and an unknown name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([str(folder) for folder in TEMPLATE_FOLDERS]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS)
    return environment
