"""The page's sections.

To add one: a module here with a ``gather`` function from ``Subject`` to a frozen dataclass (None
leaves the section out), a template of the same name in ``reports/templates/sections``, and one
entry in ``SECTIONS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from faceaudit.reporting.sections import (
    age_error,
    baseline,
    calibration,
    classes,
    composition,
    confusion,
    coverage,
    curves,
    differences,
    leaks,
    method,
    origin,
    performance,
    summary,
    verdicts,
    within,
)
from faceaudit.reporting.subject import Subject


@dataclass(frozen=True)
class Section:
    """One part of the page: its anchor and template name, its title, and its values."""

    name: str
    title: str
    gather: Callable[[Subject], object | None]

    @property
    def template(self) -> str:
        """The template that renders the section."""
        return f"sections/{self.name}.html"


SECTIONS: list[Section] = [
    Section("summary", "Summary", summary.gather),
    Section("verdicts", "Verdicts", verdicts.gather),
    Section("baseline", "Change against the baseline", baseline.gather),
    Section("performance", "Performance by subgroup", performance.gather),
    Section("differences", "Differences", differences.gather),
    Section("age_error", "Age", age_error.gather),
    Section("within", "Within a control feature", within.gather),
    Section("coverage", "Coverage", coverage.gather),
    Section("composition", "Composition", composition.gather),
    Section("classes", "Performance by class", classes.gather),
    Section("curves", "ROC curves", curves.gather),
    Section("calibration", "Calibration", calibration.gather),
    Section("confusion", "Confusion matrices", confusion.gather),
    Section("leaks", "Leaked rows", leaks.gather),
    Section("origin", "Data and model", origin.gather),
    Section("method", "Method and limits", method.gather),
]
"""In the page's order."""
