"""Faces that a rule is about and leaves out, because a feature has no value for them.

Which subgroup they are of is not known. A pass must hold wherever they belong.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

from faceaudit.audit.evidence import Evidence, estimates_of
from faceaudit.audit.metrics import Metric
from faceaudit.audit.policy import Rule
from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally import Tally, cut

MOST = 0.05
"""So many unplaced faces, as a share of the smallest subgroup's, change no figure that is no share
of faces by enough to matter."""
MARK = "unplaced"
MEANS = ("positive", "steps")
"""Intervals of means of what is never negative."""


@dataclass(frozen=True)
class Unplaced:
    """Faces (of metrics of images: images) that have no value of a rule's features."""

    faces: int
    """How many of them the metric is of."""
    hits: float | None
    """How many of them count for a share; None of other figures."""
    features: tuple[str, ...]
    """Which features they have no value of."""
    total: float | None = None
    """The sum of their errors or losses, of means of what is never negative; None of others."""

    @property
    def known(self) -> bool:
        """Whether it is known how far they could move a figure."""
        return self.hits is not None or self.total is not None

    @property
    def misses(self) -> float:
        """How many of them count against a share."""
        return self.faces - (self.hits or 0.0)


def find_unplaced(rule: Rule, metric: Metric, evidence: Evidence) -> Unplaced:
    """What one metric of a rule leaves out for want of a value."""
    counted = evidence.counted
    known = [_known(rule, counted, cell) for cell in counted.cells]
    out = [_is_unplaced(rule, one, evidence.day) for one in known]
    if not any(out):
        return Unplaced(0, None, ())
    # The same numbers, where all that cells tell is whether they are unplaced.
    cells = tuple((MARK if one else None,) for one in out)
    marked = replace(counted, features=(Feature(MARK, MARK),), cells=cells)
    alone = replace(evidence, counted=marked, rows={})
    found = estimates_of(rule, metric, alone, cut(marked, [MARK]), evidence.options)[0]
    missing = {name for one in compress(known, out) for name in rule.features if name not in one}
    total = found.n * (found.value or 0.0)
    return Unplaced(
        found.n,
        total if metric.interval == "share" else None,
        tuple(name for name in rule.features if name in missing),
        total if metric.interval in MEANS else None,
    )


def _known(rule: Rule, counted: Tally, cell: Sequence[str | None]) -> dict[str, str]:
    """The values that a cell has of a rule's features."""
    told = zip(counted.features, cell, strict=True)
    return {
        one.name: value for one, value in told if one.name in rule.features and value is not None
    }


def _is_unplaced(rule: Rule, known: Mapping[str, str], day: dt.date) -> bool:
    """Whether a feature has no value, and those that have one speak for the rule."""
    asked = all(known.get(name, label) == label for name, label in rule.only.items())
    excepted = any(one.holds(day) and one.covers(known) for one in rule.exceptions)
    return len(known) < len(rule.features) and asked and not excepted
