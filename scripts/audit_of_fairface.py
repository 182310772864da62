"""Fill the tables of docs/audit-of-fairface.md: ``python -m scripts.audit_of_fairface [--check]``.

They are made from the audit that ``faceaudit report`` writes of the shipped predictions on UTKFace.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from pathlib import Path

from faceaudit.audit.policy import STARTER, read_policy
from faceaudit.audit.results import Audit, Estimate, Subgroup
from faceaudit.audit.run import audit
from faceaudit.reporting import format as text
from faceaudit.reporting.glossary import Unit, metric_facts, task_title
from faceaudit.showcase.run import PREDICTIONS
from faceaudit.tables import read_table
from scripts.readme import fill, rewrite, table

DOCUMENT = Path(__file__).parent.parent / "docs" / "audit-of-fairface.md"
DAY = dt.date(2026, 11, 25)
"""On which the exceptions of the policy are looked at."""
HEADLINES = [
    ("gender", "accuracy"),
    ("race", "accuracy"),
    ("age_group", "accuracy"),
    ("age", "mae"),
]


@functools.cache
def found() -> Audit:
    """The audit of the shipped predictions, with the policy that ``check --init`` writes."""
    policy = read_policy(STARTER.read_bytes(), STARTER.name)
    return audit(read_table(PREDICTIONS), verify="never", policy=policy, day=DAY)


@functools.cache
def found_by_age() -> Audit:
    """The audit of the same predictions by annotated age group."""
    return audit(read_table(PREDICTIONS), by=["age_group"], verify="never")


def figures() -> str:
    """All faces, the worst and the best subgroup of gender x race, and how far they are apart."""
    rows = []
    for task, metric in HEADLINES:
        gap = next(
            d
            for d in found().disparities
            if (d.task, d.metric, len(d.by), d.label) == (task, metric, 2, None)
        )
        unit = metric_facts(metric).unit
        ends = [_named(one, figure(task, metric, one), unit) for one in (gap.worst, gap.best)]
        apart = text.difference(gap.difference, unit)
        if gap.low is not None and gap.high is not None:
            apart += f" ({text.difference_interval(gap.low, gap.high, unit)})"
        name = f"{task_title(task)}, {'mean error' if metric == 'mae' else metric}"
        rows.append((name, _shown(figure(task, metric, {}), unit), *ends, apart))
    return table(("figure", "all faces", "worst subgroup", "best subgroup", "apart by"), rows)


def direction() -> str:
    """Mean error and mean signed error of ages in years, by gender and by race."""
    rows = []
    subgroups = [m.subgroup for m in found().metrics if (m.task, m.metric) == ("age", "mae")]
    for subgroup in subgroups:
        if len(subgroup) > 1:
            continue
        cells = [
            _shown(figure("age", metric, subgroup), metric_facts(metric).unit)
            for metric in ("mae", "mean_signed_error", "cs_at_5")
        ]
        rows.append((text.subgroup_name(subgroup), *cells))
    return table(
        ("annotated", "mean error, years", "too old (+) or young (-)", "within five"), rows
    )


def ages() -> str:
    """How many age groups predictions are off, by annotated age group and gender."""
    subgroups: list[Subgroup] = [{}, {"gender": "Male"}, {"gender": "Female"}]
    rows = []
    groups = next(task.classes for task in found().tasks if task.name == "age_group")
    for group in groups:
        cells = []
        for subgroup in subgroups:
            one = next(
                c
                for c in found().conditioned_age
                if c.subgroup == subgroup and c.age_group == group and not c.standardised
            )
            cells.append(_shown(one.estimates["step_mae"], "groups"))
        rows.append((group, *cells))
    return table(("annotated age", "all", "annotated Male", "annotated Female"), rows)


def mix() -> str:
    """What the widest gaps of age errors consist of, and those to all others that ages leave."""
    rows = []
    taken = [
        d
        for d in found().decompositions
        if (d.task, d.metric, d.within) == ("age", "mae", "age_group")
    ]
    left = [d for d in taken if not d.second and "race" in d.by and leaves_out_zero(d.rate)]
    for one in (*(d for d in taken if d.second), *left):
        second = text.subgroup_name(one.second) if one.second else "all others"
        sides = [text.subgroup_name(one.first), second]
        parts = [_shown(part, "signed_years") for part in (one.gap, one.mix, one.rate)]
        rows.append((" against ".join(sides), *parts))
    return table(("error in years", "gap", "of it age mix", "left at the same ages"), rows)


def race() -> str:
    """How often each annotated race is predicted, and what it is most often taken for."""
    one = next(c for c in found().confusions if c.task.name == "race" and not c.subgroup)
    rows = []
    for k, name in enumerate(one.task.classes):
        faces = int(one.counts[k].sum())
        wrong = max(
            (i for i in range(len(one.task.classes)) if i != k), key=one.counts[k].__getitem__
        )
        share = text.number(float(one.counts[k, wrong]) / faces, "share")
        recall = _shown(figure("race", "recall", {}, name), "share")
        precision = _shown(figure("race", "precision", {}, name), "share")
        rows.append((name, recall, f"{one.task.classes[wrong]} ({share})", precision))
    return table(
        ("annotated", "predicted as such", "most often taken for", "right when predicted"), rows
    )


def by_age() -> str:
    """How often gender and race are right, by annotated age group."""
    rows = []
    for group in next(task.classes for task in found().tasks if task.name == "age_group"):
        cells = [right_at(task, group) for task in ("gender", "race")]
        rows.append((group, text.count(cells[0].n), *(_shown(cell, "share") for cell in cells)))
    return table(("annotated age", "faces", "gender right", "race right"), rows)


def right_at(task: str, group: str) -> Estimate:
    """How often a task is right for faces of an annotated age group."""
    return next(
        m.estimate
        for m in found_by_age().metrics
        if (m.task, m.metric, m.subgroup) == (task, "accuracy", {"age_group": group})
    )


def verdicts() -> str:
    """The example policy, rule by rule."""
    rows = []
    for one in found().verdicts:
        needed = "" if one.n_needed is None else text.count(one.n_needed)
        rows.append((one.rule, one.outcome, one.explanation, needed))
    return table(("rule of the example", "outcome", "why", "faces needed in every subgroup"), rows)


PARTS: dict[str, Callable[[], str]] = {
    part.__name__: part for part in (figures, direction, ages, mix, race, by_age, verdicts)
}


def filled(document: str) -> str:
    """The document with every table made anew."""
    return fill(document, PARTS, DOCUMENT.name)


def leaves_out_zero(estimate: Estimate) -> bool:
    """Whether chance alone is an unlikely explanation of a difference."""
    return (
        estimate.low is not None
        and estimate.high is not None
        and not estimate.low <= 0 <= estimate.high
    )


def figure(task: str, metric: str, subgroup: Subgroup, label: str | None = None) -> Estimate:
    """One figure of the audit."""
    key = (task, metric, subgroup, label)
    return next(
        m.estimate for m in found().metrics if (m.task, m.metric, m.subgroup, m.label) == key
    )


def _named(subgroup: Subgroup | None, estimate: Estimate, unit: Unit) -> str:
    return f"{text.subgroup_name(subgroup or {})}: {_shown(estimate, unit)}"


def _shown(estimate: Estimate, unit: Unit) -> str:
    bounds = text.interval(estimate.low, estimate.high, unit, " to ")
    return text.number(estimate.value, unit) + (f" ({bounds})" if bounds else "")


def main() -> None:
    """Write the document, or say that it is stale."""
    rewrite(DOCUMENT, filled, "scripts.audit_of_fairface")


if __name__ == "__main__":
    main()
