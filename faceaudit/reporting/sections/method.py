"""How the figures were made, and what they cannot tell."""

from __future__ import annotations

from dataclasses import dataclass, replace

from faceaudit.audit.results import Verification
from faceaudit.labels.annotations import ANNOTATED
from faceaudit.reporting.glossary import UNIT_NAMES, MetricFacts, metric_facts
from faceaudit.reporting.subject import (
    Subject,
    confidence_percent,
    has_labels,
    label_word,
    labels_are,
    min_n,
)


@dataclass(frozen=True)
class Definition:
    """A metric's facts and the name of its unit."""

    facts: MetricFacts
    unit: str


@dataclass(frozen=True)
class Method:
    """Values of the section."""

    label_word: str
    labels_are: str
    has_subgroups: bool
    has_labels: bool
    has_gender: bool
    has_race: bool
    has_age: bool
    confidence: str
    unit: str | None
    min_n: int
    definitions: tuple[Definition, ...]
    verification: Verification | None


def gather(subject: Subject) -> Method:
    """Definitions, rules and limits of an audit."""
    audit = subject.audit
    tasks = {task.name for task in audit.tasks} | {f for by in audit.by for f in by}
    return Method(
        label_word(subject),
        labels_are(audit),
        bool(audit.by),
        has_labels(audit),
        any(name.startswith("gender") for name in tasks),
        any(name.startswith("race") for name in tasks),
        any(name.startswith("age") for name in tasks),
        confidence_percent(audit),
        audit.options.get("unit"),
        min_n(audit),
        tuple(Definition(facts, UNIT_NAMES[facts.unit]) for facts in _shown(subject)),
        audit.verification,
    )


def _shown(subject: Subject) -> list[MetricFacts]:
    """Facts of the metrics that the audit has, in order of first appearance."""
    word = label_word(subject)
    names = dict.fromkeys(v.metric for v in subject.audit.metrics)
    for cell in subject.audit.conditioned_age:
        names.update(dict.fromkeys(cell.estimates))
    return [
        replace(
            facts,
            definition=facts.definition.replace(ANNOTATED, word),
            interval=facts.interval.replace(ANNOTATED, word),
        )
        for facts in map(metric_facts, names)
    ]
