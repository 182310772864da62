"""Numbers to plain sentences, each with what may and what may not be concluded from it.

To add a finding, write a function from ``Subject`` to sentences and list it in ``FINDERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from faceaudit.reporting.findings.ages import age_errors
from faceaudit.reporting.findings.classes import confused_class, largest_shares, no_labels
from faceaudit.reporting.findings.coverage import missing_faces, small_subgroups
from faceaudit.reporting.findings.disparities import disparities
from faceaudit.reporting.findings.finding import Finding
from faceaudit.reporting.subject import Subject

__all__ = ["FINDERS", "MOST", "Finding", "find"]

MOST = 7
"""Findings that the summary shows; the tables hold everything."""
FINDERS: list[Callable[[Subject], Iterator[Finding]]] = [
    no_labels,
    disparities,
    missing_faces,
    age_errors,
    confused_class,
    small_subgroups,
    largest_shares,
]


def find(subject: Subject) -> tuple[Finding, ...]:
    """The findings of an audit, the most important first."""
    found = [finding for finder in FINDERS for finding in finder(subject)]
    return tuple(found[:MOST])
