"""Numbers to plain sentences, each with what may and what may not be concluded from it.

To add a finding, write a function from ``Subject`` to sentences and list it in ``FINDERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from faceaudit.audit.composition import DOUBTFUL
from faceaudit.audit.results import (
    Audit,
    ConditionedAge,
    Confusion,
    Correction,
    Coverage,
    Disparity,
    Estimate,
    Subgroup,
)
from faceaudit.reporting import format as text
from faceaudit.reporting.gaps import mix_and_rest
from faceaudit.reporting.glossary import MetricFacts, grouping_title, metric_facts, task_title
from faceaudit.reporting.subject import (
    Grouping,
    Headline,
    Subject,
    confidence_percent,
    estimate_of,
    groupings,
    headlines,
    index_metrics,
    label_word,
    leading_disparity,
    min_n,
)
from faceaudit.schema import AGE, AGE_GROUP, OK, STATUSES

MOST = 7
"""Findings that the summary shows; the tables hold everything."""


@dataclass(frozen=True)
class Finding:
    """One thing a reader should know: a heading, the figures, and how far they carry."""

    heading: str
    sentence: str
    hedge: str = ""


def find(subject: Subject) -> tuple[Finding, ...]:
    """The findings of an audit, the most important first."""
    found = [finding for finder in FINDERS for finding in finder(subject)]
    return tuple(found[:MOST])


def disparities(subject: Subject) -> Iterator[Finding]:
    """For every task, the subgroup with the worst figure against the one with the best."""
    told = headlines(subject.audit)
    if Headline(AGE, "mae") in told:  # Years say what age groups say, more finely.
        told = [headline for headline in told if headline.task != AGE_GROUP]
    for headline in told:
        disparity = leading_disparity(subject.audit, headline.task, headline.metric)
        if disparity is not None:
            yield _gap(subject, headline, disparity)
        elif subject.audit.by:
            yield Finding(
                f"{task_title(headline.task)}: subgroups cannot be ranked",
                _no_ranking(subject.audit, headline),
            )


def confused_class(subject: Subject) -> Iterator[Finding]:
    """The class that is recognized least, and what it is taken for."""
    overall = [c for c in subject.audit.confusions if not c.subgroup and len(c.task.classes) > 2]
    for confusion in overall:
        if not confusion.task.ordinal:
            yield from _confused(subject, confusion)


def age_errors(subject: Subject) -> Iterator[Finding]:
    """Whether ages are predicted too high or too low, where errors are largest, and for whom."""
    index = index_metrics(subject.audit)
    years = estimate_of(index, AGE, "mean_signed_error", {})
    ages = [c for c in subject.audit.conditioned_age if not c.subgroup and c.age_group]
    hardest = _largest(ages, "step_mae", min_n(subject.audit))
    parts = [
        *_direction(years, confidence_percent(subject.audit)),
        *_hardest_age(hardest, label_word(subject)),
    ]
    if parts:
        yield Finding("Age: direction of the errors", " ".join(parts), _age_mix(subject))


def missing_faces(subject: Subject) -> Iterator[Finding]:
    """Images without a scored face, and the subgroup that loses most of its images."""
    overall = next((c for c in subject.audit.coverage if not c.subgroup), None)
    if overall is None:
        return
    scored = overall.statuses.get(OK, 0)
    if scored is None:
        return
    missing = overall.images - scored
    if missing == 0:
        yield Finding(
            "Coverage: every image was scored",
            f"All {text.count(overall.images)} images have a scored face.",
        )
        return
    yield Finding(
        f"Coverage: {text.count(missing)} of {text.count(overall.images)} images were not scored",
        f"{_percent(overall.failure_rate)} of the images have no scored face "
        f"({_statuses(overall)}). {_most_missing(subject)}".strip(),
        "The figures on this page say nothing about images that were not scored.",
    )


def small_subgroups(subject: Subject) -> Iterator[Finding]:
    """Subgroups with too few faces to be ranked."""
    held, told = subject.audit.within, headlines(subject.audit)
    figures = {(headline.task, headline.metric) for headline in told}
    values = [
        v
        for v in subject.audit.metrics
        if v.subgroup and held not in v.subgroup and (v.task, v.metric) in figures
    ]
    small = {
        text.subgroup_name(v.subgroup): v.estimate.n for v in values if v.small and not v.label
    }
    if not small:
        return
    total = len({text.subgroup_name(v.subgroup) for v in values})
    named = ", ".join(f"{name} (n = {text.count(n)})" for name, n in list(small.items())[:6])
    more = f" and {len(small) - 6} more" if len(small) > 6 else ""
    one = len(small) == 1
    yield Finding(
        f"Insufficient evidence for {len(small)} of {total} subgroups",
        f"{named}{more} {'has' if one else 'have'} fewer than {min_n(subject.audit)} "
        f"{label_word(subject)} faces. {'It is' if one else 'They are'} shown and marked, and "
        "never named as best or worst.",
        "No difference found in a small subgroup is not evidence of no difference.",
    )


def no_labels(subject: Subject) -> Iterator[Finding]:
    """What a page without annotated labels can and cannot tell."""
    if any(subject.audit.labelled.values()):
        return
    yield Finding(
        "Accuracy cannot be audited: no labels",
        "The table has no annotated classes, so this page reports only which classes the model "
        "predicted, and how often"
        + (
            ", and what labeled faces tell of how often it confuses them."
            if any(c.method for c in subject.audit.corrections)
            else "."
        ),
        "Predicted shares are not shares of people: every error of the model is in them.",
    )


def largest_shares(subject: Subject) -> Iterator[Finding]:
    """Without labels: the most and the least frequent class of each task, corrected if possible."""
    if any(subject.audit.labelled.values()):
        return
    corrections = {one.task: one for one in subject.audit.corrections}
    for task in subject.audit.tasks:
        shares = [c for c in subject.audit.composition if c.task == task.name and not c.subgroup]
        hedge = ""
        if all(c.corrected and c.corrected.value is not None for c in shares):
            known = [(c.label, c.corrected) for c in shares if c.corrected]
            verb, most_of = "are estimated to be", "most frequent is"
            hedge = _doubt(corrections.get(task.name))
        else:
            known = [(c.label, c.share) for c in shares if c.share.value is not None]
            verb, most_of = "were predicted", "most often predicted"
        if len(known) > 1:
            most = max(known, key=lambda found: found[1].value or 0.0)
            least = min(known, key=lambda found: found[1].value or 0.0)
            yield Finding(
                f"{task_title(task.name)}: {most_of} {text.class_name(most[0])}",
                f"{_percent(most[1])} of the scored faces {verb} "
                f"{text.class_name(most[0])}{_bounds(most[1])}; least often "
                f"{text.class_name(least[0])}, {_percent(least[1])}{_bounds(least[1])}.",
                hedge,
            )


def _doubt(correction: Correction | None) -> str:
    """What speaks against corrected shares."""
    if correction is None:
        return ""
    fit = correction.fit
    if fit is not None and fit.p_value is not None and fit.p_value < DOUBTFUL:
        return "What this estimate assumes does not hold here (see Composition): label a sample."
    return "Not calibrated for these images." if correction.source == "bundle" else ""


FINDERS: list[Callable[[Subject], Iterator[Finding]]] = [
    no_labels,
    disparities,
    missing_faces,
    age_errors,
    confused_class,
    small_subgroups,
    largest_shares,
]


def _gap(subject: Subject, headline: Headline, disparity: Disparity) -> Finding:
    facts = metric_facts(headline.metric)
    worst, best = disparity.worst or {}, disparity.best or {}
    index = index_metrics(subject.audit)
    low = estimate_of(index, headline.task, headline.metric, worst)
    high = estimate_of(index, headline.task, headline.metric, best)
    return Finding(
        _gap_heading(headline, disparity, facts, label_word(subject)),
        f"{_measured(headline, facts, low, confidence_percent(subject.audit))}, against "
        f"{_with_bounds(high, facts)} for faces {_described(best, label_word(subject))}: a "
        f"difference of {text.difference(disparity.difference, facts.unit)}, the largest among "
        f"{disparity.n_ranked} subgroups of "
        f"{grouping_title(disparity.by, label_word(subject))}.",
        f"{_hedge(disparity, facts)} {_taken_apart(subject.audit, disparity)}".strip(),
    )


def _taken_apart(audit: Audit, disparity: Disparity) -> str:
    """How much of a gap in ages is due to other ages, so that nobody reads it as a cause."""
    if disparity.task != AGE:
        return ""
    ends = (disparity.worst, disparity.best)
    return next(
        (
            mix_and_rest(one)
            for one in audit.decompositions
            if (one.task, one.metric) == (disparity.task, disparity.metric)
            and one.within == AGE_GROUP
            and (one.first, one.second) == ends
        ),
        "",
    )


def _gap_heading(headline: Headline, disparity: Disparity, facts: MetricFacts, word: str) -> str:
    """Who is worst, where the interval of the difference says that somebody is."""
    if disparity.low is None or disparity.high is None or disparity.low <= 0 <= disparity.high:
        return (
            f"{task_title(headline.task)}: no two subgroups can be told apart in "
            f"{_metric_word(facts)}"
        )
    return (
        f"{task_title(headline.task)}: {_worst_word(facts)} {_metric_word(facts)} for faces "
        f"{_described(disparity.worst or {}, word)}"
    )


def _hedge(disparity: Disparity, facts: MetricFacts) -> str:
    """What the interval of a difference allows to be said."""
    if disparity.low is None or disparity.high is None:
        why = f" ({disparity.reason})" if disparity.reason else ""
        return f"The difference has no interval{why}: insufficient evidence for a conclusion."
    bounds = text.difference_interval(disparity.low, disparity.high, facts.unit)
    if disparity.low <= 0 <= disparity.high:
        return (
            f"The interval of the difference ({bounds}), which allows for having looked at all "
            "pairs, includes zero: insufficient evidence that they differ."
        )
    return (
        f"The interval of the difference ({bounds}), which allows for having looked at all pairs, "
        "excludes zero: chance alone is an unlikely explanation."
    )


def _measured(
    headline: Headline, facts: MetricFacts, estimate: Estimate | None, confidence: str
) -> str:
    if headline.metric == "accuracy":
        lead = f"{task_title(headline.task)} was predicted as annotated for "
    else:
        lead = f"Predicted {headline.task}s are off on average by "
    return lead + _with_bounds(estimate, facts, confidence)


def _with_bounds(estimate: Estimate | None, facts: MetricFacts, confidence: str = "") -> str:
    if estimate is None:
        return text.NOT_AVAILABLE
    said = text.quantity(estimate.value, facts.unit)
    bounds = text.interval(estimate.low, estimate.high, facts.unit, " to ")
    word = f"{confidence} interval " if confidence else ""
    inside = ", ".join([f"{word}{bounds}"] * bool(bounds) + [f"n = {text.count(estimate.n)}"])
    return f"{said} ({inside})"


def _described(subgroup: Subgroup, word: str) -> str:
    """A subgroup after "faces": annotated Female and Black."""
    predicted = any(feature.endswith("_pred") for feature in subgroup)
    names = " and ".join(text.class_name(value) for value in subgroup.values())
    return f"{'predicted' if predicted else word} {names}" if names else "of all subgroups"


def _worst_word(facts: MetricFacts) -> str:
    return "largest" if facts.better == "lower" else "lowest"


def _metric_word(facts: MetricFacts) -> str:
    return "error" if facts.name == "mae" else facts.title.lower()


def _no_ranking(audit: Audit, headline: Headline) -> str:
    reasons = [
        d.reason
        for d in audit.disparities
        if (d.task, d.metric) == (headline.task, headline.metric) and d.reason and not d.within
    ]
    return f"Insufficient evidence: {reasons[0]}." if reasons else "Insufficient evidence."


def _confused(subject: Subject, confusion: Confusion) -> Iterator[Finding]:
    totals = confusion.counts.sum(axis=1)
    enough = [k for k, n in enumerate(totals) if n >= min_n(subject.audit)]
    if not enough:
        return
    counts = confusion.counts
    worst = min(enough, key=lambda k: float(counts[k, k] / totals[k]))
    wrong = [k for k in range(len(totals)) if k != worst]
    taken = max(wrong, key=lambda k: int(counts[worst, k]))
    if confusion.hidden is not None and confusion.hidden[worst, [worst, taken]].any():
        return
    names = [text.class_name(name) for name in confusion.task.classes]
    yield Finding(
        f"{task_title(confusion.task.name)}: {names[worst]} is recognized least often",
        f"Of {text.count(int(totals[worst]))} faces {label_word(subject)} {names[worst]}, "
        f"{text.number(counts[worst, worst] / totals[worst], 'share')} were predicted as such; "
        f"{text.number(counts[worst, taken] / totals[worst], 'share')} were predicted "
        f"{names[taken]}, the most frequent mistake.",
        f"The {label_word(subject)} classes are a labeling scheme's view of a face, and classes "
        "that the scheme draws close together are confused more often.",
    )


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
    return (
        f"Subgroups of {_lower(grouped[-1].title)} differ in age. Their mean distance between "
        f"predicted and {label_word(subject)} age group is up to {text.quantity(raw, 'groups')} "
        f"apart as measured, and up to {text.quantity(same_ages, 'groups')} once every subgroup "
        "is re-weighted to the same ages."
    )


def _hardest_age(hardest: ConditionedAge | None, word: str) -> list[str]:
    if hardest is None:
        return []
    estimate = hardest.estimates["step_mae"]
    signed = hardest.estimates.get("mean_signed_step")
    sentence = (
        f"Errors are largest at the {word} ages {hardest.age_group}, "
        f"{text.quantity(estimate.value, 'groups')} off on average (n = {text.count(estimate.n)})"
    )
    if signed is None or signed.low is None or signed.high is None:
        return [f"{sentence}."]
    if signed.high < 0:
        return [f"{sentence}, mostly predicted too young."]
    return [f"{sentence}, mostly predicted too old." if signed.low > 0 else f"{sentence}."]


def _largest(cells: Sequence[ConditionedAge], metric: str, fewest: int) -> ConditionedAge | None:
    ranked = [
        (estimate.value, position)
        for position, cell in enumerate(cells)
        if (estimate := cell.estimates.get(metric)) and estimate.value is not None
        if not cell.small and estimate.n >= fewest
    ]
    return cells[max(ranked)[1]] if ranked else None


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


def _most_missing(subject: Subject) -> str:
    """The subgroup whose images were lost most often, if any differs from the others."""
    cuts = [c for c in subject.audit.coverage if c.subgroup]
    ranked = [
        c for c in cuts if c.failure_rate.value is not None and c.images >= min_n(subject.audit)
    ]
    grouped = groupings(subject, [c.subgroup for c in ranked])
    if not grouped:
        return "Whether some subgroups are missed more often cannot be told: no annotated labels."
    finest = [c for c in ranked if set(c.subgroup) == set(grouped[-1].by)]
    most = max(finest, key=lambda c: c.failure_rate.value or 0.0)
    return (
        f"The share is largest among images {_described(most.subgroup, label_word(subject))}: "
        f"{_percent(most.failure_rate)}{_bounds(most.failure_rate)} of "
        f"{text.count(most.images)} images."
    )


def _statuses(coverage: Coverage) -> str:
    lost = [(s, n) for s, n in coverage.statuses.items() if s != OK and n]
    named = {str(status): meaning for status, meaning in STATUSES.items()}
    return "; ".join(f"{text.count(n)}: {named.get(s, s.replace('_', ' '))}" for s, n in lost)


def _percent(estimate: Estimate) -> str:
    return text.number(estimate.value, "share")


def _bounds(estimate: Estimate) -> str:
    bounds = text.interval(estimate.low, estimate.high, "share", " to ")
    return f" ({bounds})" if bounds else ""


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]
