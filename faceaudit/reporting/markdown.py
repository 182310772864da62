"""A short summary of an audit as Markdown, for a pull request, a wiki or a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from faceaudit.audit.results import Estimate
from faceaudit.reporting import findings
from faceaudit.reporting import format as text
from faceaudit.reporting.glossary import Unit, metric_facts, task_title
from faceaudit.reporting.names import visible
from faceaudit.reporting.sections import verdicts
from faceaudit.reporting.subject import (
    Subject,
    confidence_percent,
    estimate_of,
    headlines,
    index_metrics,
    min_n,
    parts,
)

SPECIAL = r"\`*_{}[]<>#|~&"
"""Characters that Markdown would read as more than text."""

SMALL = " (small)"


def to_markdown(subject: Subject) -> str:
    """The summary; the same subject gives the same text."""
    audit, origin = subject.audit, subject.provenance
    leaked = f" without {text.count(audit.leaks.rows)} that are leaked" if audit.leaks else ""
    blocks = [
        f"# {escape(visible(subject.title))}",
        f"{escape(text.file_name(origin.path))}: {text.counted(audit.images, 'image')}, "
        f"{text.counted(audit.rows, 'row')}{leaked}; sha256 {text.short_hash(origin.sha256)}.",
        *_verdicts(subject),
        *_findings(subject),
        *_figures(subject),
        *_coverage(subject),
        *_notes(subject),
    ]
    return "\n\n".join(blocks) + "\n"


def escape(given: str) -> str:
    r"""Text that Markdown shows as it is, in one line.

    Example:
        >>> print(escape("a|b <i>"))
        a\|b \<i\>
    """
    line = " ".join(given.split())
    return "".join(f"\\{one}" if one in SPECIAL else one for one in line)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _verdicts(subject: Subject) -> list[str]:
    found = verdicts.gather(subject)
    if found is None:
        return []
    head = ["Rule", "Outcome", "Limit", "Value", "n", "n needed", "Why"]
    rows = []
    for one in found.rows:
        value = f"{one.value} ({one.interval})" if one.interval else one.value
        n, needed = (
            "" if number is None else text.count(number)
            for number in (one.found.n, one.found.n_needed)
        )
        told = (f"{one.what}, {one.scope}", one.word, one.limit, value, n, needed, one.explained)
        rows.append([escape(cell) for cell in told])
    return ["## Verdicts", found.sentence, _table(head, rows)]


def _findings(subject: Subject) -> list[str]:
    found = [
        f"- **{escape(one.heading)}.** {escape(f'{one.sentence} {one.hedge}'.strip())}"
        for one in findings.find(subject)
    ]
    return ["## What was found", "\n".join(found)] if found else []


def _figures(subject: Subject) -> list[str]:
    """The metric that stands for each task, in every subgroup."""
    told = headlines(subject.audit)
    if not told:
        return []
    index = index_metrics(subject.audit)
    measured = {(one.task, one.metric) for one in told}
    subgroups = [
        one.subgroup for one in subject.audit.metrics if (one.task, one.metric) in measured
    ]
    titles = [
        task_title(one.task) if one.metric == "accuracy" else metric_facts(one.metric).title
        for one in told
    ]
    rows, fewest = [], min_n(subject.audit)
    for part in parts(subject, subgroups):
        for subgroup in part.subgroups:
            found = [estimate_of(index, one.task, one.metric, subgroup) for one in told]
            units = [metric_facts(one.metric).unit for one in told]
            few = [bool(subgroup) and (one is None or one.n < fewest) for one in found]
            cells = [
                _cell(one, unit) + (SMALL if small and not all(few) else "")
                for one, unit, small in zip(found, units, few, strict=True)
            ]
            name = escape(text.subgroup_name(subgroup)) + (SMALL if all(few) else "")
            rows.append([name, *cells])
    return [
        "## Figures",
        f"Accuracy of classes, and mean absolute error of ages in years; "
        f"{confidence_percent(subject.audit)} intervals. Subgroups, or single figures, of fewer "
        f"than {fewest} faces are marked (small).",
        _table(["Subgroup", *titles], rows),
    ]


def _cell(estimate: Estimate | None, unit: Unit) -> str:
    if estimate is None or estimate.value is None:
        return "n/a"
    bounds = text.interval(estimate.low, estimate.high, unit, " to ")
    return text.number(estimate.value, unit) + (f" ({bounds})" if bounds else "")


def _coverage(subject: Subject) -> list[str]:
    """Images without a scored face, where any has none."""
    counts = subject.audit.coverage
    everybody = [one for one in counts if not one.subgroup]
    if not everybody or not everybody[0].failure_rate.value:
        return []
    by_subgroup = {frozenset(one.subgroup.items()): one for one in counts}
    rows = []
    for part in parts(subject, [one.subgroup for one in counts]):
        for subgroup in part.subgroups:
            one = by_subgroup[frozenset(subgroup.items())]
            name = escape(text.subgroup_name(subgroup)) if subgroup else "All images"
            rows.append([name, text.count(one.images), _cell(one.failure_rate, "share")])
    return ["## Who is missing", _table(["Subgroup", "Images", "Not scored"], rows)]


def _notes(subject: Subject) -> list[str]:
    notes = [f"- {escape(visible(note))}" for note in subject.audit.notes]
    return ["## Notes", "\n".join(notes)] if notes else []
