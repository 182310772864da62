"""Whether ages are predicted too high or too low, and where errors are largest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from faceaudit.audit.results import ConditionedAge, Estimate
from faceaudit.reporting import format as text
from faceaudit.reporting.findings.finding import Finding
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
    if years.low is None or years.high is None or years.low <= 0 <= years.high:
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
        (estimate.value, position, cell)
        for position, cell in enumerate(subject.audit.conditioned_age)
        if not cell.subgroup and cell.age_group and not cell.small
        if (estimate := cell.estimates.get("step_mae")) and estimate.value is not None
        if estimate.n >= min_n(subject.audit)
    ]
    if len(ranked) < 2:
        return []
    least, (most, _, hardest) = min(ranked)[0], max(ranked)
    if text.prints_as_zero(most - least, "groups"):
        return [
            f"Errors are alike at the {len(ranked)} {label_word(subject)} ages with enough faces: "
            f"{text.quantity(most, 'groups')} off on average."
        ]
    return [_largest_at(hardest, label_word(subject))]


def _largest_at(hardest: ConditionedAge, word: str) -> str:
    estimate = hardest.estimates["step_mae"]
    signed = hardest.estimates.get("mean_signed_step")
    sentence = (
        f"Errors are largest at the {word} ages {hardest.age_group}, "
        f"{text.quantity(estimate.value, 'groups')} off on average (n = {text.count(estimate.n)})"
    )
    if signed is None or signed.low is None or signed.high is None:
        return f"{sentence}."
    if signed.high < 0:
        return f"{sentence}, mostly predicted too young."
    return f"{sentence}, mostly predicted too old." if signed.low > 0 else f"{sentence}."


def _age_mix(subject: Subject) -> str:
    """How much of the differences between subgroups is left at equal ages."""
    totals = [c for c in subject.audit.conditioned_age if not c.age_group and not c.small]
    grouped = groupings(subject, [c.subgroup for c in totals if c.subgroup])
    if not grouped:
        return ""
    raw = _spread(totals, grouped[-1], standardised=False)
    same_ages = _spread(totals, grouped[-1], standardised=True)
    if raw is None or same_ages is None:
        return ""
    if text.prints_as_zero(raw, "groups") and text.prints_as_zero(same_ages, "groups"):
        return ""
    title = grouped[-1].title
    return (
        f"Subgroups of {title[:1].lower()}{title[1:]} differ in age. Their mean distance between "
        f"predicted and {label_word(subject)} age group is up to {text.quantity(raw, 'groups')} "
        f"apart as measured, and up to {text.quantity(same_ages, 'groups')} once every subgroup "
        "is re-weighted to the same ages."
    )


def _spread(
    totals: Sequence[ConditionedAge], grouping: Grouping, *, standardised: bool
) -> float | None:
    """Highest minus lowest step error over the subgroups of one grouping."""
    values = [
        estimate.value
        for cell in totals
        if cell.standardised == standardised and set(cell.subgroup) == set(grouping.by)
        if (estimate := cell.estimates.get("step_mae")) and estimate.value is not None
    ]
    return max(values) - min(values) if len(values) > 1 else None
