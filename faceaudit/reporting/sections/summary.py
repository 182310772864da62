"""What was audited, the headline figures, and the findings in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from faceaudit.audit.results import Audit, Estimate, MetricValue
from faceaudit.reporting.figures import Chart, DotPanel, draw_dots
from faceaudit.reporting.findings import Finding, find
from faceaudit.reporting.format import counted, prints_as_zero, quantity, subgroup_name
from faceaudit.reporting.glossary import MetricFacts, grouping_title, metric_facts, task_title
from faceaudit.reporting.leading import finest_gap, leading_gap
from faceaudit.reporting.sections import verdicts
from faceaudit.reporting.subject import (
    Grouping,
    Headline,
    Key,
    Subject,
    confidence_percent,
    estimate_of,
    groupings,
    headlines,
    index_metrics,
    key,
    label_word,
    labels_are,
    min_n,
)
from faceaudit.reporting.tables import scale_over
from faceaudit.schema import OK

MOST_PANELS = 4
MOST_ROWS = 40
"""Above this many subgroups the overview is left to the tables."""


@dataclass(frozen=True)
class Card:
    """The headline figure of one task, and the subgroup where it is worst, or that none is."""

    task: str
    facts: MetricFacts
    overall: Estimate
    worst_word: str
    worst_name: str | None
    worst: Estimate | None
    alike: int
    """So many subgroups are ranked, and all have the same figure; 0 where they differ."""


@dataclass(frozen=True)
class Summary:
    """Values of the section."""

    images: int
    left_out: int
    """Further images, which were not audited because their picture is in several sets."""
    rows: int
    scored: int | None
    labelled: tuple[tuple[str, int], ...]
    has_labels: bool
    label_word: str
    labels_are: str
    has_subgroups: bool
    several_compared: bool
    """Whether the section Differences compares more than two subgroups of a headline figure."""
    labels_format: str | None
    model: str | None
    confidence: str
    min_n: int
    cards: tuple[Card, ...]
    chart: Chart | None
    chart_grouping: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    policy: verdicts.Verdicts | None


def gather(subject: Subject) -> Summary:
    """The summary of an audit."""
    audit, provenance = subject.audit, subject.provenance
    everybody = next((c for c in audit.coverage if not c.subgroup), None)
    index = index_metrics(audit)
    grouped = groupings(subject, [v.subgroup for v in audit.metrics])
    return Summary(
        images=audit.images,
        left_out=audit.leaks.images if audit.leaks else 0,
        rows=audit.rows,
        scored=everybody.statuses.get(OK, 0) if everybody else None,
        labelled=tuple((task_title(task), n) for task, n in audit.labelled.items() if n),
        has_labels=any(audit.labelled.values()),
        label_word=label_word(subject),
        labels_are=labels_are(audit),
        has_subgroups=bool(audit.by),
        several_compared=any(
            (one.task, one.metric) == (headline.task, headline.metric)
            for one in audit.comparisons
            if one.label is None and not one.within and len(one.ranked) > 2
            for headline in headlines(audit)
        ),
        labels_format=provenance.labels_format,
        model=_model_name(subject),
        confidence=confidence_percent(audit),
        min_n=min_n(audit),
        cards=tuple(
            _card(subject.in_full.audit, headline, label_word(subject))
            for headline in headlines(audit)
        ),
        chart=_overview(subject, index, grouped[-1]) if grouped else None,
        chart_grouping=grouped[-1].title if grouped else "",
        findings=find(subject.in_full),
        notes=audit.notes,
        policy=verdicts.gather(subject),
    )


def _model_name(subject: Subject) -> str | None:
    metadata = subject.provenance.metadata
    return str(metadata.model["name"]) if metadata and "name" in metadata.model else None


def _card(audit: Audit, headline: Headline, word: str) -> Card:
    task, metric, index = headline.task, headline.metric, index_metrics(audit)
    facts = metric_facts(metric)
    overall = estimate_of(index, task, metric, {}) or Estimate(
        None, None, None, 0, "no figure for all faces together"
    )
    gap = leading_gap(audit, task, metric)
    alike = gap.disparity.n_ranked if gap and gap.alike else 0
    worst = gap.disparity.worst if gap and not alike else None
    measured = "" if gap and gap.worst_alone else " as measured"
    finest = finest_gap(audit, task, metric)
    coarser = gap and finest and gap.disparity.by != finest.disparity.by
    among = f" by {grouping_title(gap.disparity.by, word)}" if gap and coarser else ""
    return Card(
        task_title(task),
        facts,
        overall,
        f"{'Highest' if facts.better == 'lower' else 'Lowest'}{measured}{among}",
        None if worst is None else subgroup_name(worst),
        None if worst is None else estimate_of(index, task, metric, worst),
        alike,
    )


def _overview(
    subject: Subject, index: Mapping[Key, MetricValue], grouping: Grouping
) -> Chart | None:
    """Every headline metric over the finest subgroups, side by side."""
    chosen = headlines(subject.audit)[:MOST_PANELS]
    if not chosen or len(grouping.subgroups) > MOST_ROWS:
        return None
    panels = [_panel(subject.audit, index, headline, grouping) for headline in chosen]
    names = [subgroup_name(s) for s in grouping.subgroups]
    first = [s[grouping.by[0]] for s in grouping.subgroups]
    breaks = [k for k in range(1, len(first)) if first[k] != first[k - 1]]
    told = [_told(p, c, names) for p, c in zip(panels, chosen, strict=True)]
    alt = (
        f"Dots with intervals for {counted(len(names), 'subgroup')} of {grouping.title.lower()}. "
        + " ".join(told)
        + " The same figures are in the tables of the next section."
    )
    return draw_dots(names, breaks if len(grouping.by) > 1 else (), panels, alt)


def _panel(
    audit: Audit, index: Mapping[Key, MetricValue], headline: Headline, grouping: Grouping
) -> DotPanel:
    facts = metric_facts(headline.metric)
    values = [index.get(key(headline.task, headline.metric, s)) for s in grouping.subgroups]
    estimates = [v.estimate if v else Estimate(None, None, None, 0) for v in values]
    overall = estimate_of(index, headline.task, headline.metric, {})
    mark = overall.value if overall else None
    gap = finest_gap(audit, headline.task, headline.metric)
    worst = dict(gap.disparity.worst or {}) if gap and not gap.alike else None
    rows = [k for k, s in enumerate(grouping.subgroups) if dict(s) == worst]
    return DotPanel(
        f"{task_title(headline.task).removesuffix(' in years')}: {facts.title}",
        scale_over(estimates, facts, mark),
        "years" if facts.unit == "years" else "",
        facts.unit == "share",
        tuple(e.value for e in estimates),
        tuple(e.low for e in estimates),
        tuple(e.high for e in estimates),
        tuple(bool(v and v.small) for v in values),
        rows[0] if rows else None,
    )


def _told(panel: DotPanel, headline: Headline, names: list[str]) -> str:
    facts = metric_facts(headline.metric)
    known = [(v, k) for k, v in enumerate(panel.values) if v is not None]
    if not known:
        return f"{panel.title}: not available."
    (low, first), (high, last) = min(known), max(known)
    ends = quantity(low, facts.unit), quantity(high, facts.unit)
    if len(known) > 1 and prints_as_zero(high - low, facts.unit):
        return f"{panel.title} {ends[0]} in every subgroup."
    return f"{panel.title} from {ends[0]} ({names[first]}) to {ends[1]} ({names[last]})."
