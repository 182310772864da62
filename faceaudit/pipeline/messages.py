"""What a run did, in words."""

from __future__ import annotations

from collections.abc import Mapping

from faceaudit.labels.annotations import counted
from faceaudit.pipeline.predict import Prediction
from faceaudit.progress import shown_rate


def prediction_message(found: Prediction) -> str:
    """One line on what a run did."""
    if found.already_complete:
        return (
            f"{found.table}: complete already, {counted(found.images, 'image')}; nothing was done"
        )
    rate = found.scored / max(found.seconds, 1e-9)
    before = found.images - found.scored
    line = (
        f"{found.table}: {counted(found.images, 'image')}, {counted(found.faces, 'face')} "
        f"({status_message(found.statuses)})"
        f"{f', {before:,} of them from before' if before else ''} in {found.seconds:.1f} s, "
        f"{shown_rate(rate)}"
    )
    if found.projected_seconds is not None:
        line += f"; all {found.available:,} would take about {duration(found.projected_seconds)}"
    return line


def duration(seconds: float) -> str:
    """A length of time, in words.

    Example:
        >>> duration(42), duration(5000), duration(200000)
        ('42 s', '83 minutes', '56 hours')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"


def status_message(statuses: Mapping[str, int]) -> str:
    """Counts by status, in words."""
    return ", ".join(f"{count:,} {status}" for status, count in statuses.items())


def failures_message(found: Prediction) -> str:
    """One line on a run in which more images failed than may."""
    return (
        f"{found.failed:,} of {counted(found.images, 'image')} failed, more than "
        f"--max-failures {found.max_failures}; the table is complete"
    )
