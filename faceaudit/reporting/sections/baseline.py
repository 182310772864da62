"""What changed against an earlier table."""

from __future__ import annotations

from pathlib import PurePath

from faceaudit.reporting.changes_view import ChangesView, view
from faceaudit.reporting.subject import Subject, label_word


def gather(subject: Subject) -> ChangesView | None:
    """The comparison with the baseline; None where none was asked for."""
    if subject.baseline is None:
        return None
    own = PurePath(subject.provenance.path).name
    name = subject.baseline.name
    if own == name:
        own, name = "this table", f"the earlier {name}"
    return view(subject.baseline.changes, name, own, label_word(subject))
