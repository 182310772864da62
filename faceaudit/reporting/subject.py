"""What a page is about: an audit, its table's provenance, and lookups that the sections share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from faceaudit.audit.changes import Changes
from faceaudit.audit.results import (
    Audit,
    Estimate,
    MetricKey,
    MetricValue,
    Subgroup,
)
from faceaudit.labels.annotations import ANNOTATED, PREDICTED, SELF_REPORTED
from faceaudit.reporting.glossary import grouping_title
from faceaudit.schema import AGE, TableMetadata

MIXED = "several (see the notes)"
"""What is known of labels that tallies with labels of different provenance were summed of."""
LABEL_WORDS = {
    ANNOTATED: "annotated",
    SELF_REPORTED: "self-reported",
    PREDICTED: "model-labeled",
    MIXED: "labeled",
}
"""Provenance of labels -> the word before a class; "predicted" is said of the audited model."""
Key = MetricKey


@dataclass(frozen=True)
class Provenance:
    """Where the audited rows come from.

    ``labels_format`` and ``labels_provenance`` describe the labels that were audited, whether the
    table brought them or the report joined them; None is not known.
    """

    path: str
    sha256: str
    rows: int
    metadata: TableMetadata | None = None
    labels_format: str | None = None
    labels_provenance: str | None = None


@dataclass(frozen=True)
class Baseline:
    """What changed against an earlier table, and the name of its file."""

    changes: Changes
    name: str


@dataclass(frozen=True)
class Subject:
    """An audit, the provenance of its table, and the page's title."""

    audit: Audit
    provenance: Provenance
    title: str
    baseline: Baseline | None = None
    whole: Audit | None = None
    """The audit of all subgroups, where ``audit`` has only those that a page shows."""

    @property
    def in_full(self) -> Subject:
        """The same with all subgroups, of which findings tell."""
        return self if self.whole is None else replace(self, audit=self.whole, whole=None)


@dataclass(frozen=True)
class Grouping:
    """One way of cutting the faces: its features, a title, and its subgroups in order."""

    by: tuple[str, ...]
    title: str
    subgroups: tuple[Subgroup, ...]


@dataclass(frozen=True)
class Headline:
    """The one metric that stands for a task."""

    task: str
    metric: str


def label_word(subject: Subject) -> str:
    """The word before a class or a feature's name, one of ``LABEL_WORDS``."""
    return word_of(subject.provenance.labels_provenance)


def word_of(provenance: str | None) -> str:
    """The word of a provenance; where none is known, that of annotations."""
    known = provenance or ANNOTATED
    return LABEL_WORDS.get(known, known)


def min_n(audit: Audit) -> int:
    """Fewest faces that a ranked subgroup has."""
    return int(audit.options.get("min_n", 30))


def confidence_percent(audit: Audit) -> str:
    """The confidence of the intervals, such as ``95%``."""
    return f"{100 * float(audit.options.get('confidence', 0.95)):g}%"


def has_labels(audit: Audit) -> bool:
    """Whether any task has a face with both an annotated and a predicted value."""
    return any(audit.labelled.values())


def labels_are(audit: Audit) -> str:
    """What labels are, "ages" where there are no other tasks."""
    return "classes" if any(not task.ordinal for task in audit.tasks) else "ages"


def no_subgroups(subject: Subject) -> str:
    """Why images that were not scored cannot be told apart by subgroup, where they cannot."""
    if subject.audit.options.get("suppress_below"):
        return "images of subgroups are not shown (--suppress-below)"
    if subject.audit.by:
        return "the subgroups are of predicted classes, which an image without a face does not have"
    if has_labels(subject.audit):
        return "no subgroups are compared"
    return f"no {label_word(subject)} labels"


def key(task: str, metric: str, subgroup: Subgroup, label: str | None = None) -> Key:
    """Key of a metric in ``index_metrics``."""
    return task, metric, label, frozenset(subgroup.items())


def index_metrics(audit: Audit) -> Mapping[Key, MetricValue]:
    """Every metric of the audit by task, metric, class and subgroup."""
    return audit.metrics_by_key


def headlines(audit: Audit) -> list[Headline]:
    """The metric that stands for each audited task, in the tasks' order."""
    present = {(value.task, value.metric) for value in audit.metrics}
    candidates = [(task.name, "accuracy") for task in audit.tasks] + [(AGE, "mae")]
    return [Headline(*candidate) for candidate in candidates if candidate in present]


def groupings(subject: Subject, subgroups: Iterable[Subgroup]) -> list[Grouping]:
    """The given subgroups by the audit's groupings, in order of first appearance."""
    distinct: dict[frozenset[tuple[str, str]], Subgroup] = {}
    for subgroup in subgroups:
        distinct.setdefault(frozenset(subgroup.items()), subgroup)
    found = []
    for by in subject.audit.by:
        members = tuple(s for s in distinct.values() if set(s) == set(by))
        if members:
            title = _capital(grouping_title(by, label_word(subject)))
            found.append(Grouping(by, title, tuple(_ordered(s, by) for s in members)))
    return found


def parts(subject: Subject, subgroups: Iterable[Subgroup]) -> list[Grouping]:
    """Everybody under no title, then the groupings of the given subgroups."""
    return [Grouping((), "", ({},)), *groupings(subject, subgroups)]


def estimate_of(
    index: Mapping[Key, MetricValue], task: str, metric: str, subgroup: Subgroup
) -> Estimate | None:
    """The estimate of a metric in a subgroup, None where the audit has none."""
    found = index.get(key(task, metric, subgroup))
    return found.estimate if found else None


def _ordered(subgroup: Subgroup, by: tuple[str, ...]) -> Subgroup:
    return {feature: subgroup[feature] for feature in by}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
