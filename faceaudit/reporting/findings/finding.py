"""What a finding is, and figures as its sentences write them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from faceaudit.audit.results import Estimate
from faceaudit.reporting import format as text


@dataclass(frozen=True)
class Finding:
    """One thing a reader should know: a heading, the figures, and how far they carry."""

    heading: str
    sentence: str
    hedge: str = ""


def percent(estimate: Estimate) -> str:
    """A share as a sentence writes it."""
    return text.number(estimate.value, "share")


def apart(one: Estimate, others: Iterable[Estimate]) -> bool:
    """Whether the interval of an estimate meets none of the others'."""
    return all(
        one.low is not None
        and one.high is not None
        and other.low is not None
        and other.high is not None
        and (one.high < other.low or other.high < one.low)
        for other in others
    )


def bounds(estimate: Estimate) -> str:
    """The interval of a share in brackets after a blank, empty where there is none."""
    found = text.interval(estimate.low, estimate.high, "share", " to ")
    return f" ({found})" if found else ""
