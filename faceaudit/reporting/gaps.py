"""Gaps taken apart, as sentences and tables: how much is mix, and where the rest comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faceaudit.audit.results import Decomposition, Estimate, Subgroup
from faceaudit.reporting import format as text
from faceaudit.reporting.glossary import DIFFERENCES, Unit, feature_title, metric_facts, task_title
from faceaudit.reporting.subject import Subject, groupings, index_metrics, key, label_word, min_n
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

MOST_NAMED = 2
AT_SAME_MIX = "all faces of a known subgroup are what the subgroups are re-weighted to"
"""Why a table of figures at the same mix has none of all faces."""
"""Values of the control feature that a sentence names."""
UNIT_HINTS: dict[Unit, str] = {
    "signed_points": "points",
    "signed_years": "years",
    "signed_groups": "groups",
}
ONLY_HERE = "only one of the two has faces with this value; it belongs to the mix"


@dataclass(frozen=True)
class Gaps:
    """The gaps of one figure: what the widest consists of, and every subgroup against the rest."""

    title: str
    sentences: tuple[str, ...]
    table: Table
    drivers: Table


def gather_gaps(subject: Subject, within: str, task: str, metric: str) -> Gaps | None:
    """The gaps of a figure over a control feature; None where the audit took none apart."""
    found = [
        one
        for one in subject.audit.decompositions
        if (one.within, one.task, one.metric) == (within, task, metric)
    ]
    against_rest = [one for one in found if one.second is None]
    if not against_rest:
        return None
    return Gaps(
        _figure(task, metric),
        tuple(_sentence(one, label_word(subject)) for one in found if one.second is not None),
        _table(subject, against_rest),
        _drivers(subject, against_rest),
    )


def _figure(task: str, metric: str) -> str:
    if metric == "accuracy":
        return f"{task_title(task)}: accuracy"
    facts = metric_facts(metric)
    same = task in (AGE, AGE_GROUP)
    return facts.title if same else f"{task_title(task)}: {facts.title.lower()}"


def _mix_of(within: str) -> str:
    return "age mix" if within == AGE_GROUP else f"mix of {within.replace('_', ' ')}"


def _same(within: str) -> str:
    return "the same ages" if within == AGE_GROUP else f"the same {within.replace('_', ' ')}"


# --- words ------------------------------------------------------------------------------------


def _sentence(one: Decomposition, word: str) -> str:
    """What the gap between the worst and the best subgroup consists of."""
    unit, lead = metric_facts(one.metric).unit, _lead(one, word)
    if one.gap.value is None or one.mix.value is None or one.rate.value is None:
        return f"{lead} is not defined: {one.gap.reason}."
    size = text.difference(abs(one.gap.value), unit)
    if one.mix_share.value is None:
        return f"{lead} is {size}; it cannot be told apart from 0, and is not taken apart."
    sign = 1.0 if one.gap.value > 0 else -1.0
    return f"{lead} is {size}. {mix_and_rest(one)} {_of_drivers(one, sign, unit, word)}".strip()


def mix_and_rest(one: Decomposition) -> str:
    """How much of a gap is mix and what is left, after a sentence that names the gap.

    Empty where the gap is not defined or cannot be told apart from 0.
    """
    if one.mix_share.value is None or one.gap.value is None:
        return ""
    unit, sign = metric_facts(one.metric).unit, 1.0 if one.gap.value > 0 else -1.0
    mix, rate = (_turned(part, sign) for part in (one.mix, one.rate))
    return f"{_of_mix(one, mix, unit)} {_of_rate(one, rate, unit)}"


def _lead(one: Decomposition, word: str) -> str:
    pair = [f"faces {text.described(side, word)}" for side in (one.first, one.second or {})]
    same = text.prints_as_zero(one.gap.value, metric_facts(one.metric).unit)
    apart = "" if same else ", the farthest apart,"
    return f"{_figure(one.task, one.metric)}: the gap between {pair[0]} and {pair[1]}{apart}"


def _turned(part: Estimate, sign: float) -> tuple[float, float | None, float | None]:
    """Value and bounds as if the gap were positive."""
    value = sign * (part.value or 0.0)
    if part.low is None or part.high is None:
        return value, None, None
    low, high = sorted((sign * part.low, sign * part.high))
    return value, low, high


def _of_mix(one: Decomposition, mix: tuple[float, float | None, float | None], unit: Unit) -> str:
    value, low, high = mix
    what = _mix_of(one.within)
    if low is None or high is None or low <= 0 <= high:
        bounds = _bounds(low, high, unit)
        return f"{_capital(what)} explains no part that can be told apart from 0{bounds}."
    if value < 0:
        return (
            f"{_capital(what)} hides {text.difference(-value, unit)}{_bounds(-high, -low, unit)}."
        )
    size = f"{text.difference(value, unit)}{_bounds(low, high, unit)}"
    if value > abs(one.gap.value or 0.0):
        return f"By {what} alone the gap would be {size}."
    return f"Of the gap {size} {_verb(unit)} {what}."


def _of_rate(one: Decomposition, rate: tuple[float, float | None, float | None], unit: Unit) -> str:
    value, low, high = rate
    if low is None or high is None or low <= 0 <= high:
        what = f"What is left at {_same(one.within)}"
        return f"{what}{_bounds(low, high, unit)} cannot be told apart from 0."
    if value < 0:
        size = f"{text.difference(-value, unit)}{_bounds(-high, -low, unit)}"
        return f"At {_same(one.within)} the gap is {size} the other way."
    size = f"{text.difference(value, unit)}{_bounds(low, high, unit)}"
    return f"At {_same(one.within)} {size} {_verb(unit)} left."


def _verb(unit: Unit) -> str:
    return "is" if unit == "index" else "are"


def _of_drivers(one: Decomposition, sign: float, unit: Unit, word: str) -> str:
    """The values that add most to what is left, where there is something left."""
    low, high = one.rate.low, one.rate.high
    if low is None or high is None or low <= 0 <= high or one.rate.value is None:
        return ""
    towards = [part for part in one.contributions if _adds(part.estimate, one.rate.value)]
    named = [
        f"{text.class_name(part.value)} ({text.difference(abs(part.estimate.value or 0.0), unit)})"
        for part in towards[:MOST_NAMED]
    ]
    if not named:
        return ""
    said = sum(abs(part.estimate.value or 0.0) for part in towards[:MOST_NAMED])
    feature = feature_title(one.within, word).replace(" group", "")
    if said > abs(one.rate.value):
        parts = f"{feature} {' and '.join(named)}"
        return f"More than that comes from {parts}; at others it is the other way."
    lead = "Most of that comes" if said > abs(one.rate.value) / 2 else "Shown parts of that come"
    return f"{lead} from {feature} {' and '.join(named)}."


def _adds(part: Estimate, rate: float) -> bool:
    """Whether a part is shown to be on the side of the whole; few faces may put it there."""
    if part.value is None or part.low is None or part.high is None:
        return False
    return part.value * rate > 0 and not part.low <= 0 <= part.high


def _bounds(low: float | None, high: float | None, unit: Unit) -> str:
    if low is None or high is None:
        return ""
    return f" ({text.difference_interval(low, high, unit)})"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


# --- tables -----------------------------------------------------------------------------------


def _table(subject: Subject, found: Sequence[Decomposition]) -> Table:
    """Every ranked subgroup against all other faces: gap, mix and what is left."""
    first = found[0]
    unit, footnotes = DIFFERENCES.get(metric_facts(first.metric).unit, "signed_index"), Footnotes()
    scale = _scale(found)
    by_place = {_frozen(one.first): one for one in found}
    groups = []
    for cut in groupings(subject, [one.first for one in found]):
        rows = []
        for subgroup in cut.subgroups:
            one = by_place[_frozen(subgroup)]
            cells = [estimate_cell(part, unit, footnotes) for part in (one.gap, one.mix, one.rate)]
            faces = count_cell(_faces(subject, one))
            rows.append(Row(text.subgroup_name(subgroup), (faces, *cells)))
        groups.append(RowGroup(cut.title, tuple(rows)))
    hint = UNIT_HINTS.get(unit, "")
    titles = (
        "Gap to all others",
        _capital(_mix_of(first.within)),
        f"Left at {_same(first.within)}",
    )
    return Table(
        f"{_figure(first.task, first.metric)}: every ranked subgroup against all other faces",
        "Subgroup",
        (
            Column("n", "faces"),
            Column(titles[0], hint, scale, unit),
            Column(titles[1], hint, None, unit),
            Column(titles[2], hint, scale, unit),
        ),
        tuple(groups),
        footnotes.texts,
        min_n=min_n(subject.audit),
    )


def _faces(subject: Subject, one: Decomposition) -> int:
    """Faces of the first side: those behind its own figure."""
    found = index_metrics(subject.audit).get(key(one.task, one.metric, one.first))
    return one.gap.n if found is None else found.estimate.n


def _scale(found: Sequence[Decomposition]) -> Scale:
    """One axis for the gap and what is left of it; its line marks no difference."""
    estimates = [part for one in found for part in (one.gap, one.rate)]
    facts = metric_facts(found[0].metric)
    signed = type(facts)(facts.name, facts.title, "signed_groups", "zero", facts.definition)
    return scale_over(estimates, signed, None)


def _drivers(subject: Subject, found: Sequence[Decomposition]) -> Table:
    """What each value of the control feature adds to what is left, subgroup by subgroup."""
    first, footnotes = found[0], Footnotes()
    unit = DIFFERENCES.get(metric_facts(first.metric).unit, "signed_index")
    seen = {part.value for one in found for part in one.contributions}
    order = [value for value in _values(subject, first.within) if value in seen]
    order += sorted(seen - set(order))
    largest = max(
        (abs(part.estimate.value or 0.0) for one in found for part in one.contributions),
        default=1.0,
    )
    by_place = {_frozen(one.first): one for one in found}
    groups = []
    for cut in groupings(subject, [one.first for one in found]):
        rows = []
        for subgroup in cut.subgroups:
            added = {p.value: p.estimate for p in by_place[_frozen(subgroup)].contributions}
            cells = [_driver(added.get(value), unit, largest, footnotes) for value in order]
            rows.append(Row(text.subgroup_name(subgroup), tuple(cells)))
        groups.append(RowGroup(cut.title, tuple(rows)))
    return Table(
        f"{_figure(first.task, first.metric)}: what each value adds to what is left at "
        f"{_same(first.within)}",
        "Subgroup",
        tuple(Column(text.class_name(value), unit=unit) for value in order),
        tuple(groups),
        footnotes.texts,
        min_n=min_n(subject.audit),
    )


def _driver(estimate: Estimate | None, unit: Unit, largest: float, footnotes: Footnotes) -> Cell:
    if estimate is None:
        return Cell(unit=unit, reason=ONLY_HERE, note=footnotes.number(ONLY_HERE))
    cell = estimate_cell(estimate, unit, footnotes)
    return Cell(
        cell.value,
        unit,
        cell.low,
        cell.high,
        cell.n,
        cell.reason,
        cell.note,
        shade(abs(estimate.value or 0.0), largest),
    )


def _values(subject: Subject, within: str) -> list[str]:
    """Values of the control feature in the order to show them."""
    classes = next((task.classes for task in subject.audit.tasks if task.name == within), ())
    held = [m.subgroup[within] for m in subject.audit.metrics if set(m.subgroup) == {within}]
    return list(dict.fromkeys([*classes, *held]))


def _frozen(subgroup: Subgroup) -> frozenset[tuple[str, str]]:
    return frozenset(subgroup.items())
