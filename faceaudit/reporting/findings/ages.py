"""Whether ages are predicted too high or too low, and where errors are largest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from faceaudit.audit.results import ConditionedAge, Estimate
from faceaudit.reporting import format as text
from faceaudit.reporting.findings.finding import Finding, apart
from faceaudit.reporting.subject import (
    Grouping,
    Subject,
    confidence_percent,
    estimate_of,
    groupings,
    index_metrics,
    label_word,
    min_n,
)
from faceaudit.schema import AGE

SAME_MIX = 0.005
"""Mixes of ages are the same where fewer faces of a subgroup are of other ages."""
Place = frozenset[tuple[str, str]]


def age_errors(subject: Subject) -> Iterator[Finding]:
    """Whether ages are predicted too high or too low, where errors are largest, and for whom."""
    index = index_metrics(subject.audit)
    years = estimate_of(index, AGE, "mean_signed_error", {})
    parts = [*_direction(years, confidence_percent(subject.audit)), *_hardest_age(subject)]
    if parts:
        yield Finding("Age: direction of the errors", " ".join(parts), _age_mix(subject))


def _direction(years: Estimate | None, confidence: str) -> list[str]:
    if years is None or years.value is None:
        return []
    if years.low is None or years.high is None:
        why = years.reason or "the mean signed error has no interval"
        return [
            "Over all faces, whether ages are predicted too high or too low cannot be told "
            f"(n = {text.count(years.n)}; {why})."
        ]
    if years.low <= 0 <= years.high:
        return ["Over all faces, ages are predicted neither clearly too high nor too low."]
    word = "too old" if years.value > 0 else "too young"
    bounds = text.interval(years.low, years.high, "signed_years", " to ")
    return [
        f"Faces are predicted {text.quantity(abs(years.value), 'years')} {word} on average "
        f"({confidence} interval of the signed error {bounds}, n = {text.count(years.n)})."
    ]


def _hardest_age(subject: Subject) -> list[str]:
    """The annotated age group with the largest errors, where they are not the same at all ages."""
    ranked = [
        (estimate.value, position, cell, estimate)
        for position, cell in enumerate(subject.audit.conditioned_age)
        if not cell.subgroup and cell.age_group and not cell.small
        if (estimate := cell.estimates.get("step_mae")) and estimate.value is not None
        if estimate.n >= min_n(subject.audit)
    ]
    if len(ranked) < 2:
        return []
    least, (most, first, hardest, _) = min(ranked)[0], max(ranked)
    if text.prints_as_zero(most - least, "groups"):
        return [
            f"Errors are alike at the {len(ranked)} {label_word(subject)} ages with enough faces: "
            f"{text.quantity(most, 'groups')} off on average."
        ]
    others = [estimate for _, position, _, estimate in ranked if position != first]
    return [_largest_at(subject, hardest, others)]


def _largest_at(subject: Subject, hardest: ConditionedAge, others: Sequence[Estimate]) -> str:
    estimate, word = hardest.estimates["step_mae"], label_word(subject)
    bounds = text.interval(estimate.low, estimate.high, "groups", " to ")
    interval = f"{confidence_percent(subject.audit)} interval {bounds}, " if bounds else ""
    measured = "" if apart(estimate, others) else " as measured"
    signed = hardest.estimates.get("mean_signed_step")
    sentence = (
        f"Errors are largest{measured} at the {word} ages {hardest.age_group}, "
        f"{text.quantity(estimate.value, 'groups')} off on average "
        f"({interval}n = {text.count(estimate.n)})"
    )
    if signed is None or signed.value is None or signed.low is None or signed.high is None:
        return f"{sentence}."
    off = abs(signed.value)
    if signed.low <= 0 <= signed.high or text.prints_as_zero(off, "groups"):
        return f"{sentence}."
    word = "too old" if signed.value > 0 else "too young"
    return (
        f"{sentence}; on average, faces there are predicted {text.quantity(off, 'groups')} {word}."
    )


def _age_mix(subject: Subject) -> str:
    """Whether subgroups differ in age, and how much of their differences is left at equal ages."""
    cells = subject.audit.conditioned_age
    totals = [c for c in cells if not c.age_group and not c.small]
    grouped = groupings(subject, [c.subgroup for c in totals if c.subgroup])
    if not grouped:
        return ""
    grouping = grouped[-1]
    raw, same_ages = _steps_off(totals, grouping)
    if len(raw) < 2:
        return ""
    spreads = [max(one) - min(one) for one in (raw, same_ages)]
    if all(text.prints_as_zero(one, "groups") for one in spreads):
        return ""
    who = f"ubgroups of {grouping.title[:1].lower()}{grouping.title[1:]}"
    what = f"predicted and {label_word(subject)} age group"
    raw_said, same_said = (text.quantity(one, "groups") for one in spreads)
    other = _of_other_ages(cells, grouping)
    if other is not None and other < SAME_MIX:
        but = f", but for {text.number(other, 'share')} of the faces of one" if other else ""
        return (
            f"S{who} have the same mix of ages{but}: it does not explain that their mean distances "
            f"between {what} are up to {raw_said} apart."
        )
    lead = (
        ""
        if other is None
        else f"S{who} differ in age: for the mix of all, up to {text.number(other, 'share')} of "
        "the faces of one would have to be of another age. "
    )
    return (
        f"{lead}The mean distances of s{who} between {what} are up to {raw_said} apart as "
        f"measured, and up to {same_said} once every subgroup is re-weighted to the same ages, "
        "those that all ranked ones have."
    )


def _steps_off(
    totals: Sequence[ConditionedAge], grouping: Grouping
) -> tuple[list[float], list[float]]:
    """Step errors of the subgroups of a grouping that have both, as measured and at equal ages."""
    found: dict[bool, dict[Place, float]] = {False: {}, True: {}}
    for cell in totals:
        estimate = cell.estimates.get("step_mae")
        if set(cell.subgroup) == set(grouping.by) and estimate and estimate.value is not None:
            found[cell.standardised][_place(cell)] = estimate.value
    both = [place for place in found[False] if place in found[True]]
    return [found[False][place] for place in both], [found[True][place] for place in both]


def _of_other_ages(cells: Sequence[ConditionedAge], grouping: Grouping) -> float | None:
    """The largest share of a ranked subgroup's faces that are of other ages than those of all.

    That is half the sum of the differences between its shares of the age groups and those of all
    subgroups together; None where counts are kept back.
    """
    mine = [c for c in cells if set(c.subgroup) == set(grouping.by) and not c.standardised]
    together = {_place(cell): cell for cell in mine if not cell.age_group}
    row = {place: number for number, place in enumerate(together)}
    ages = list(dict.fromkeys(cell.age_group for cell in mine if cell.age_group))
    faces = np.zeros((len(row), len(ages)))
    for cell in mine:
        if cell.age_group and _place(cell) in row:
            faces[row[_place(cell)], ages.index(cell.age_group)] = _faces(cell)
    if not (faces.sum(axis=1) == [_faces(cell) for cell in together.values()]).all():
        return None
    shares = faces[[not cell.small for cell in together.values()]]
    shares = shares / shares.sum(axis=1, keepdims=True)
    return float(np.abs(shares - faces.sum(axis=0) / faces.sum()).sum(axis=1).max() / 2)


def _faces(cell: ConditionedAge) -> int:
    return cell.estimates["exact"].n


def _place(cell: ConditionedAge) -> Place:
    return frozenset(cell.subgroup.items())
