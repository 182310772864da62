"""Age: errors in years and in age groups, by subgroup, and by subgroup and annotated age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from faceaudit.audit.results import ConditionedAge, Estimate, Subgroup
from faceaudit.audit.suppress import REASON
from faceaudit.reporting.format import subgroup_name
from faceaudit.reporting.gaps import AT_SAME_MIX, Gaps, gather_gaps
from faceaudit.reporting.glossary import metric_facts, subgroup_kind
from faceaudit.reporting.sections.performance import Spread, metric_table, spreads_of
from faceaudit.reporting.subject import Subject, label_word, min_n, parts
from faceaudit.reporting.tables import (
    Cell,
    Column,
    Footnotes,
    Row,
    RowGroup,
    Scale,
    Table,
    count_cell,
    estimate_cell,
    scale_over,
    shade,
)
from faceaudit.schema import AGE, AGE_GROUP

YEARS = ("mae", "mean_signed_error", "cs_at_5", "rmse")
STEPS = ("step_mae", "mean_signed_step", "one_off")
CELL_METRICS = ("step_mae", "mean_signed_step", "exact", "one_off", "mae", "mean_signed_error")
GAPS = ((AGE_GROUP, "accuracy"), (AGE, "mae"))
"""Tasks and metrics whose gaps are taken apart on the page; the JSON has all."""
COLOR = "step_mae"
"""The metric that colors the heat map."""
REFERENCE = Estimate(None, None, None, 0, AT_SAME_MIX)
NO_FACES = "no face of this age group in this subgroup"


@dataclass(frozen=True)
class AgeError:
    """Values of the section."""

    label_word: str
    min_n: int
    years: Table | None
    steps: Table | None
    spreads: tuple[Spread, ...]
    heat: Table | None
    cells: Table | None
    standardised: Table | None
    gaps: tuple[Gaps, ...]


def gather(subject: Subject) -> AgeError | None:
    """Age errors, None where there are no ages to compare."""
    audit, word = subject.audit, label_word(subject)
    kind = subgroup_kind(audit.by, word)
    shown = {(v.task, v.metric) for v in audit.metrics}
    has_years = any(task == AGE for task, _ in shown)
    has_steps = any(task == AGE_GROUP and metric in STEPS for task, metric in shown)
    if not (has_years or has_steps or audit.conditioned_age):
        return None
    cells = [c for c in audit.conditioned_age if c.age_group is not None]
    gaps = [gather_gaps(subject, AGE_GROUP, task, metric) for task, metric in GAPS]
    return AgeError(
        word,
        min_n(audit),
        metric_table(subject, AGE, YEARS, f"Age in years by {kind}") if has_years else None,
        metric_table(subject, AGE_GROUP, STEPS, f"Age groups by {kind}") if has_steps else None,
        (*spreads_of(subject, AGE, YEARS), *spreads_of(subject, AGE_GROUP, STEPS)),
        _heat(subject, cells) if cells else None,
        _cell_table(subject, cells) if cells else None,
        _standardised(subject),
        tuple(gap for gap in gaps if gap is not None),
    )


def _heat(subject: Subject, cells: Sequence[ConditionedAge]) -> Table:
    """Subgroups by annotated age group, colored by the step error."""
    ages, footnotes = _ages(subject, cells), Footnotes()
    by_place = {(_frozen(c.subgroup), c.age_group): c for c in cells}
    below = subject.audit.options.get("suppress_below")
    absent = REASON.format(below) if below else NO_FACES
    values = [c.estimates[COLOR].value for c in cells if COLOR in c.estimates and not c.small]
    darkest = max([v for v in values if v is not None], default=1.0)
    groups = []
    for part in parts(subject, [c.subgroup for c in cells]):
        rows = [
            Row(
                subgroup_name(s),
                tuple(
                    _heat_cell(by_place.get((_frozen(s), a)), darkest, footnotes, absent)
                    for a in ages
                ),
            )
            for s in part.subgroups
        ]
        groups.append(RowGroup(part.title, tuple(rows)))
    return Table(
        f"Step error by {label_word(subject)} age group and subgroup: mean distance between "
        f"predicted and {label_word(subject)} age group, in groups",
        "Subgroup",
        tuple(Column(age) for age in ages),
        tuple(groups),
        footnotes.texts,
        "heat",
        min_n(subject.audit),
    )


def _heat_cell(
    cell: ConditionedAge | None, darkest: float, footnotes: Footnotes, absent: str
) -> Cell:
    if cell is None or COLOR not in cell.estimates:
        return Cell(unit="groups", n=0, reason=absent, note=footnotes.number(absent))
    found = cell.estimates[COLOR]
    note = footnotes.number(found.reason)
    return Cell(
        found.value,
        "groups",
        found.low,
        found.high,
        found.n,
        found.reason,
        note,
        shade(found.value, darkest),
        cell.small,
    )


def _cell_table(subject: Subject, cells: Sequence[ConditionedAge]) -> Table:
    """Every figure of every cell, with its interval."""
    footnotes = Footnotes()
    metrics = [m for m in CELL_METRICS if any(m in c.estimates for c in cells)]
    own: dict[frozenset[tuple[str, str]], list[ConditionedAge]] = {}
    for cell in cells:
        own.setdefault(_frozen(cell.subgroup), []).append(cell)
    groups = []
    for part in parts(subject, [c.subgroup for c in cells]):
        for subgroup in part.subgroups:
            if _frozen(subgroup) not in own:
                continue  # none of its ages is shown (--suppress-below)
            rows = [
                _metric_row(str(c.age_group), metrics, [c.estimates] * len(metrics), footnotes, c)
                for c in own[_frozen(subgroup)]
            ]
            groups.append(RowGroup(subgroup_name(subgroup), tuple(rows)))
    return Table(
        f"Age error by subgroup and {label_word(subject)} age group",
        f"{label_word(subject).capitalize()} ages",
        (Column("n", "faces"), *(_plain_column(m) for m in metrics)),
        tuple(groups),
        footnotes.texts,
        min_n=min_n(subject.audit),
    )


def _standardised(subject: Subject) -> Table | None:
    """All ages together: as measured, and re-weighted to the same ages, side by side."""
    totals = [c for c in subject.audit.conditioned_age if c.age_group is None]
    raw = {_frozen(c.subgroup): c for c in totals if not c.standardised}
    same = {_frozen(c.subgroup): c for c in totals if c.standardised}
    if not same:
        return None
    metrics = [m for m in ("step_mae", "mae") if any(m in c.estimates for c in totals)]
    footnotes, groups = Footnotes(), []
    for part in parts(subject, [c.subgroup for c in totals]):
        rows = [
            _side_by_side(s, metrics, raw.get(_frozen(s)), same.get(_frozen(s)), footnotes)
            for s in part.subgroups
        ]
        groups.append(RowGroup(part.title, tuple(rows)))
    columns = [
        _pair_column(m, how, _shared_scale(totals, m) if m == COLOR else None)
        for m in metrics
        for how in ("as measured", "same ages")
    ]
    return Table(
        "Age error of all ages together: as measured, and re-weighted to the same ages",
        "Subgroup",
        (Column("n", "faces"), *columns),
        tuple(groups),
        footnotes.texts,
        min_n=min_n(subject.audit),
    )


def _side_by_side(
    subgroup: Subgroup,
    metrics: Sequence[str],
    raw: ConditionedAge | None,
    same: ConditionedAge | None,
    footnotes: Footnotes,
) -> Row:
    if same is None and raw is not None and not subgroup:
        same = replace(raw, estimates=dict.fromkeys(metrics, REFERENCE), standardised=True)
    pairs = [(m, c.estimates if c else {}) for m in metrics for c in (raw, same)]
    names = [m for m, _ in pairs]
    return _metric_row(
        subgroup_name(subgroup), names, [e for _, e in pairs], footnotes, raw or same
    )


def _metric_row(
    header: str,
    metrics: Sequence[str],
    estimates: Sequence[Mapping[str, Estimate]],
    footnotes: Footnotes,
    cell: ConditionedAge | None,
) -> Row:
    found = [e.get(m) for e, m in zip(estimates, metrics, strict=True)]
    n = max((e.n for e in found if e), default=0)
    cells = [
        estimate_cell(e, metric_facts(m).unit, footnotes)
        for e, m in zip(found, metrics, strict=True)
    ]
    return Row(header, (count_cell(n), *cells), bool(cell and cell.small))


def _pair_column(metric: str, how: str, scale: Scale | None) -> Column:
    facts = metric_facts(metric)
    return Column(f"{facts.title}, {how}", scale=scale, unit=facts.unit)


def _shared_scale(totals: Sequence[ConditionedAge], metric: str) -> Scale:
    """One axis for both columns of a metric; its line marks all faces as measured."""
    estimates = [c.estimates[metric] for c in totals if metric in c.estimates]
    everybody = [c for c in totals if not c.subgroup and not c.standardised]
    marks = [c.estimates[metric].value for c in everybody if metric in c.estimates]
    return scale_over(estimates, metric_facts(metric), marks[0] if marks else None)


def _ages(subject: Subject, cells: Sequence[ConditionedAge]) -> list[str]:
    """Age groups of the cells in the order of the scheme; cells may be hidden."""
    held = {str(c.age_group): None for c in cells}
    order = next((t.classes for t in subject.audit.tasks if t.name == AGE_GROUP), ())
    return [*(age for age in order if age in held), *(age for age in held if age not in order)]


def _plain_column(metric: str) -> Column:
    facts = metric_facts(metric)
    return Column(facts.title, unit=facts.unit)


def _frozen(subgroup: Subgroup) -> frozenset[tuple[str, str]]:
    return frozenset(subgroup.items())
