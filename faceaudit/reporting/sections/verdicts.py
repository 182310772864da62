"""Verdicts: what became of every rule of the policy, with its figures, owner and exceptions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from faceaudit.audit.fairness import FAIRNESS
from faceaudit.audit.policy import BETWEEN, policy_metrics
from faceaudit.audit.results import Outcome, PolicyFacts, Verdict
from faceaudit.audit.verdict import outcome_of
from faceaudit.reporting.check import OUTCOMES
from faceaudit.reporting.format import (
    class_name,
    difference,
    quantity,
    ratio,
    subgroup_name,
)
from faceaudit.reporting.glossary import MetricFacts, facts_of, grouping_title, task_title
from faceaudit.reporting.subject import Subject, label_word

NO_BREAK = "\N{NO-BREAK SPACE}"
MARKS: dict[Outcome, str] = {
    "pass": "\N{CHECK MARK}",
    "fail": "\N{MULTIPLICATION X}",
    "insufficient": "?",
}
"""Before the word, so that the outcome is told without color and at a glance."""


@dataclass(frozen=True)
class Judged:
    """One rule in words, with its figures as text."""

    mark: str
    outcome: Outcome
    word: str
    what: str
    scope: str
    limit: str
    value: str
    interval: str
    explained: str
    found: Verdict


@dataclass(frozen=True)
class Verdicts:
    """Values of the section."""

    policy: PolicyFacts
    outcome: Outcome
    mark: str
    word: str
    sentence: str
    rows: tuple[Judged, ...]
    confidence: str
    has_between: bool


def gather(subject: Subject) -> Verdicts | None:
    """The verdicts of an audit, None where no policy was given."""
    audit = subject.audit
    if audit.policy is None or not audit.verdicts:
        return None
    outcome = outcome_of(audit.verdicts)
    return Verdicts(
        audit.policy,
        outcome,
        MARKS[outcome],
        OUTCOMES[outcome],
        sentence(audit.verdicts),
        tuple(_judged(verdict, label_word(subject)) for verdict in audit.verdicts),
        _confidence(audit.verdicts),
        any(verdict.measure in BETWEEN for verdict in audit.verdicts),
    )


def sentence(verdicts: tuple[Verdict, ...]) -> str:
    """How many of at least one rule have which outcome, in a sentence."""
    found = [verdict.outcome for verdict in verdicts]
    rules = len(verdicts)
    parts = [
        f"{found.count(outcome)} {verb if found.count(outcome) == 1 else verbs}"
        for outcome, verb, verbs in (
            ("fail", "fails", "fail"),
            ("insufficient", "cannot be decided", "cannot be decided"),
            ("pass", "passes", "pass"),
        )
        if outcome in found
    ]
    said = ", ".join(parts[:-1]) + (" and " if parts[1:] else "") + parts[-1]
    return f"Of {rules} {'rule' if rules == 1 else 'rules'}, {said}."


def _confidence(verdicts: tuple[Verdict, ...]) -> str:
    """The confidence of the verdicts, such as ``95%``; the least, where rules ask for several."""
    return f"{100 * min((verdict.confidence for verdict in verdicts), default=0.95):g}%"


def _judged(verdict: Verdict, word: str) -> Judged:
    facts = _facts(verdict.metric)
    low, high = _written(verdict, facts, verdict.low), _written(verdict, facts, verdict.high)
    bounds = (verdict.low, verdict.high)
    return Judged(
        MARKS[verdict.outcome],
        verdict.outcome,
        OUTCOMES[verdict.outcome],
        _what(verdict, facts),
        _scope(verdict, word),
        _limit(verdict, facts),
        _written(verdict, facts, verdict.value),
        "" if bounds == (None, None) else f"{low.split(NO_BREAK)[0]} to {high}",
        _explained(verdict),
        verdict,
    )


def _facts(name: str) -> MetricFacts:
    """Facts of a rule's metric, or of its named disparity."""
    facts = facts_of(policy_metrics(name)[0])
    named = next((fairness for fairness in FAIRNESS if fairness.name == name), None)
    return facts if named is None else replace(facts, name=name, title=named.title)


def _explained(verdict: Verdict) -> str:
    """The subgroups that the value is of, and why the outcome is what it is."""
    names = " against ".join(map(subgroup_name, verdict.subgroups)) if verdict.by else ""
    told = f"{names}: {verdict.explanation}" if names else verdict.explanation
    return f"{told[0].upper()}{told[1:]}"


def _what(verdict: Verdict, facts: MetricFacts) -> str:
    title = facts.title
    of_class = f" of {class_name(verdict.label)}" if verdict.label else ""
    if verdict.task is None:
        return f"{title}{of_class}"
    told = title if title[:2].isupper() else title[0].lower() + title[1:]
    return f"{task_title(verdict.task)}: {told}{of_class}"


def _scope(verdict: Verdict, word: str) -> str:
    by = grouping_title(verdict.by, word) if verdict.by else ""
    scope = {
        "overall": "all faces",
        "worst": f"worst by {by}",
        "each": f"each by {by}",
        "difference": f"largest difference by {by}",
        "ratio": f"smallest ratio by {by}",
        "equivalent": f"equivalence by {by}",
    }[verdict.measure]
    if verdict.within:
        scope += f", within each {grouping_title(verdict.within, word)}"
    if verdict.only:
        scope += f", {subgroup_name(verdict.only)} only"
    if verdict.failures == "errors":
        scope += ", faces without a prediction counted as errors"
    return scope


def _limit(verdict: Verdict, facts: MetricFacts) -> str:
    limits = (("at least", verdict.at_least), ("at most", verdict.at_most))
    return ", ".join(
        f"{word} {_written(verdict, facts, limit)}" for word, limit in limits if limit is not None
    )


def _written(verdict: Verdict, facts: MetricFacts, value: float | None) -> str:
    if verdict.measure == "ratio":
        return ratio(value)
    text = (difference if verdict.measure in BETWEEN else quantity)(value, facts.unit)
    return text.replace(" ", NO_BREAK)
