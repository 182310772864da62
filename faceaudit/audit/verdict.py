"""Verdicts: the rules of a policy held against a tally, each passed, failed or undecided.

A rule bounds a quantity: a figure, the worst of several, or how far apart the farthest are. Its
interval decides: a rule passes if the whole interval keeps the limit, fails if the whole interval
breaks it, and else the evidence is insufficient. The intervals of all rules hold together with the
policy's confidence: each rule takes an equal share of what may go wrong (Bonferroni), and so does
each figure or pair of a rule. So neither a pass nor a failure comes by trying often.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np

from faceaudit.audit.estimates import Options, estimate
from faceaudit.audit.extremes import Bounded, Extreme, farthest_apart, highest, least_ratio, lowest
from faceaudit.audit.intervals import normal_quantile, wilson
from faceaudit.audit.measure import measure
from faceaudit.audit.metrics import Metric, Values
from faceaudit.audit.policy import BETWEEN, Exempt, Policy, Rule
from faceaudit.audit.rates import images_by_outcome
from faceaudit.audit.results import Estimate, Exemption, Outcome, Subgroup, Verdict
from faceaudit.audit.scores import EXACT_ROWS, ScoreRows, read_scores
from faceaudit.audit.subgroups import Feature, chosen_features, find_features
from faceaudit.audit.tally import Cut, Numbers, Tally, cut
from faceaudit.errors import (
    EXIT_DONE,
    EXIT_INSUFFICIENT,
    EXIT_ORDER,
    EXIT_RULE_FAILED,
    UnknownNameError,
    UsageError,
)
from faceaudit.schema import AGE, Task
from faceaudit.tables import PredictionTable

POWER = 0.8
"""Chance with which ``n_needed`` faces decide a rule if the figures seen are the true ones."""
MOST_FACES = 10**7
"""Where more faces a subgroup were needed, no number is named."""
NAMED = 3
"""So many subgroups are named in an explanation; of the others their number is told."""
NO_RATIO = "the ratio is not defined: every value is 0"
WORST_FIRST: tuple[Outcome, ...] = ("fail", "insufficient", "pass")
EXIT_CODES: dict[Outcome, int] = {
    "fail": EXIT_RULE_FAILED,
    "insufficient": EXIT_INSUFFICIENT,
    "pass": EXIT_DONE,
}


@dataclass(frozen=True)
class Evidence:
    """What rules are held against."""

    counted: Tally
    options: Options
    day: dt.date
    """On which exceptions are current."""
    rows: Mapping[str, ScoreRows] = field(default_factory=dict)
    """Task -> scores row by row, where the table fits."""
    unlabelled: frozenset[str] = frozenset()
    """Features that a rule names and that nobody annotated."""


def judge(policy: Policy, evidence: Evidence) -> tuple[Verdict, ...]:
    """The verdict on every rule, in the policy's order.

    The cost grows with rules and, where subgroups are compared, with the square of their number.

    Raises:
        UsageError: If a rule names a task, class or column that there is not.
    """
    return tuple(_judge(rule, len(policy.rules), evidence) for rule in policy.rules)


def outcome_of(verdicts: Sequence[Verdict]) -> Outcome:
    """The outcome of a whole policy: failed if any rule is, passed only if all are."""
    found = {verdict.outcome for verdict in verdicts}
    return next((outcome for outcome in WORST_FIRST if outcome in found), "pass")


def exit_codes(verdicts: Sequence[Verdict]) -> list[int]:
    """Every exit code that applies, the one to end with first; ``[0]`` where all rules pass."""
    found = {EXIT_CODES[verdict.outcome] for verdict in verdicts}
    return sorted(found - {EXIT_DONE}, key=EXIT_ORDER.index) or [EXIT_DONE]


def policy_features(
    source: PredictionTable | Tally, policy: Policy
) -> tuple[tuple[Feature, ...], frozenset[str]]:
    """The features that the rules cut by, and those of them that nobody annotated.

    Raises:
        UnknownNameError: If a rule names a column that there is not.
        SchemaError: If a column has too many values for subgroups.
    """
    missing = frozenset(name for name in policy.features if _is_unlabelled(source, name))
    for rule in policy.rules:
        names = [name for name in rule.features if name not in missing]
        try:
            _find(source, names)
        except UnknownNameError as error:
            raise UsageError(f"{rule.where}: {error}") from error
    return _find(source, [name for name in policy.features if name not in missing]), missing


def scores_for(
    table: PredictionTable, features: Sequence[Feature], policy: Policy
) -> Mapping[str, ScoreRows]:
    """Scores row by row of the tasks whose rules need them, where the table fits."""
    if table.rows > EXACT_ROWS:
        return {}
    wanted = {rule.task for rule in policy.rules if rule.metrics[0].needs == "scores"}
    usable = wanted & table.scored & table.annotated
    tasks = [task for task in table.tasks if task.name in usable]
    return read_scores(table, features, tasks) if tasks else {}


def _find(source: PredictionTable | Tally, names: Sequence[str]) -> tuple[Feature, ...]:
    if isinstance(source, Tally):
        return chosen_features(source.features, names)
    return find_features(source, names)


def _is_unlabelled(source: PredictionTable | Tally, name: str) -> bool:
    """Whether a feature is a task that is predicted, and that no face is annotated for."""
    task = name.removesuffix("_true")
    if task not in {one.name for one in source.tasks}:
        return False
    if isinstance(source, Tally):
        known = {feature.name for feature in source.features}
        return name not in known and not _labelled(source, task)
    return task not in source.annotated and task not in source.features


def _labelled(counted: Tally, task: str | None) -> bool:
    if task == AGE:
        return counted.errors.any()
    return task in counted.confusion and counted.confusion[str(task)].any()


# --- one rule -----------------------------------------------------------------------------------


def _judge(rule: Rule, rules: int, evidence: Evidence) -> Verdict:
    options = evidence.options
    confidence = rule.confidence or options.confidence
    asked = replace(rule, confidence=confidence, min_n=rule.min_n or options.min_n)
    _check_names(asked, evidence)
    missing = _missing(asked, evidence)
    if missing is not None:
        return _undecided(asked, missing, _exemptions(asked, (), evidence.day))
    return _decided(_Case.of(asked, (1 - confidence) / rules, evidence))


def _check_names(rule: Rule, evidence: Evidence) -> None:
    """Whether the task, the class and the values that a rule names exist.

    Raises:
        UsageError: If one does not.
    """
    counted = evidence.counted
    tasks = {task.name: task for task in counted.tasks}
    if rule.task is not None and rule.task != AGE:
        if rule.task not in tasks:
            raise UnknownNameError(f"task of the table ({rule.where})", rule.task, tasks)
        task = tasks[rule.task]
        if rule.label is not None and rule.label not in task.classes:
            raise UnknownNameError(f"class of {rule.task} ({rule.where})", rule.label, task.classes)
        if rule.metrics[0].needs == "groups" and not task.ordinal:
            raise UsageError(f"{rule.where}: {rule.name} is of age groups, not of {rule.task!r}")
    for feature in (one for one in counted.features if one.name in rule.features):
        stem = feature.column.removesuffix("_true")
        own = feature.column.endswith("_true") and stem == rule.task
        if own and not all(metric.within_own_class for metric in rule.metrics):
            raise UsageError(
                f"{rule.where}: {rule.name} of {rule.task} has no meaning by {feature.name}: among "
                "faces of one annotated class only accuracy and recall do"
            )
    _check_values(counted, rule.only, rule.where)
    for exempt in rule.exceptions:
        _check_values(counted, exempt.subgroup, f"{rule.where}, exception")


def _check_values(counted: Tally, subgroup: Mapping[str, str], where: str) -> None:
    for index, feature in enumerate(counted.features):
        if feature.name in subgroup:
            seen = (str(cell[index]) for cell in counted.cells if cell[index] is not None)
            known = list(dict.fromkeys([*feature.order, *seen]))
            if subgroup[feature.name] not in known:
                kind = f"class of {feature.name} ({where})"
                raise UnknownNameError(kind, subgroup[feature.name], known)


def _missing(rule: Rule, evidence: Evidence) -> str | None:
    """Why there is nothing to judge by, None where there is."""
    bare = [name for name in rule.features if name in evidence.unlabelled]
    if bare:
        return f"no face has an annotated {bare[0].removesuffix('_true').replace('_', ' ')}"
    metric, counted = rule.metrics[0], evidence.counted
    if metric.needs in {"images", "predicted"}:
        return None
    if not _labelled(counted, rule.task):
        return f"no face has both an annotated and a predicted {str(rule.task).replace('_', ' ')}"
    if metric.needs in {"scores", "losses", "calibration"} and rule.task not in counted.scores:
        return f"the table has no scores of {rule.task}"
    return None


@dataclass(frozen=True)
class _Figures:
    """One metric in the subgroups of a rule, at whatever confidence is asked for."""

    metric: Metric
    values: Values
    faces: Values
    reasons: tuple[str | None, ...]
    measured: Callable[[float], tuple[Values, Values]]
    """Confidence to low and high; NaN where there is none."""
    is_share: bool
    """Whether Wilson's interval holds, whatever the confidence and number of faces."""

    def bounded(self, confidence: float, kept: Numbers) -> Bounded:
        """Values of some subgroups with their intervals."""
        values, faces = self.values[kept], self.faces[kept]
        if self.is_share:
            return Bounded(values, *wilson(values, faces, confidence))
        low, high = self.measured(confidence)
        return Bounded(values, *_without_nan(low[kept], high[kept], self.metric))

    def with_faces(
        self, confidence: float, kept: Numbers, others: Numbers
    ) -> Callable[[int], Bounded]:
        """The intervals if every subgroup had so many faces at least, as a function of the number.

        Args:
            confidence: Of each interval.
            kept: Subgroups whose figures are taken as they are.
            others: Subgroups too small for that, which are taken to have the mean figure.
        """
        values = self.values[kept]
        every = np.concatenate([values, np.full(len(others), values.mean())])
        faces = np.concatenate([self.faces[kept], np.zeros(len(others))])
        if self.is_share:
            return lambda n: Bounded(every, *wilson(every, np.maximum(faces, n), confidence))
        found = self.bounded(confidence, kept)
        roots = np.sqrt(self.faces[kept])
        spreads = [(values - found.low) * roots, (found.high - values) * roots]
        below, above = (np.concatenate([s, np.full(len(others), s.mean())]) for s in spreads)

        def bounded(n: int) -> Bounded:
            by = np.sqrt(np.maximum(faces, n))
            return Bounded(every, every - below / by, every + above / by)

        return bounded


def _without_nan(low: Values, high: Values, metric: Metric) -> tuple[Values, Values]:
    """Bounds, the widest possible where there are none."""
    least, most = metric.limits
    return np.where(np.isnan(low), least, low), np.where(np.isnan(high), most, high)


@dataclass(frozen=True)
class _Case:
    """A rule with its figures."""

    rule: Rule
    error: float
    """What may go wrong in this rule."""
    subgroups: tuple[Subgroup, ...]
    figures: tuple[_Figures, ...]
    exemptions: tuple[Exemption, ...]

    @classmethod
    def of(cls, rule: Rule, error: float, evidence: Evidence) -> _Case:
        cells = cut(evidence.counted, rule.features)
        day = evidence.day
        current = [exempt for exempt in rule.exceptions if exempt.holds(day)]
        kept = [
            index
            for index, subgroup in enumerate(cells.subgroups)
            if all(subgroup[name] == label for name, label in rule.only.items())
            and not any(exempt.covers(subgroup) for exempt in current)
        ]
        at = np.array(kept, np.int64)
        return cls(
            rule,
            error,
            tuple(cells.subgroups[index] for index in kept),
            tuple(_figures(rule, metric, evidence, cells, at) for metric in rule.metrics),
            _exemptions(rule, cells.subgroups, day),
        )

    @property
    def faces(self) -> Values:
        """Faces of every subgroup: the fewest that any metric has."""
        return np.asarray(np.min([one.faces for one in self.figures], axis=0))

    @property
    def usable(self) -> Numbers:
        """Numbers of the subgroups that are large enough and have a value."""
        defined = np.all([~np.isnan(one.values) for one in self.figures], axis=0)
        return np.flatnonzero(defined & (self.faces >= (self.rule.min_n or 1)))

    @property
    def small(self) -> Numbers:
        """Numbers of the other subgroups."""
        return np.setdiff1d(np.arange(len(self.subgroups)), self.usable)

    def strata(self, kept: Numbers) -> Numbers:
        """A number for each value of the control features, per subgroup."""
        keys = [tuple(self.subgroups[i].get(name) for name in self.rule.within) for i in kept]
        place = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        return np.array([place[key] for key in keys], np.int64)

    def confidences(self, kept: Numbers) -> tuple[float, float]:
        """Confidence of each interval that shows a failure, and of each that shows a pass."""
        statements = len(kept)
        if self.rule.measure in BETWEEN:
            sizes = np.bincount(self.strata(kept)) if len(kept) else np.zeros(1)
            statements = int((sizes * (sizes - 1) // 2).sum())
        each = 1 - self.error / max(statements * len(self.figures), 1)
        if self.rule.measure == "equivalent":
            # All pairs must pass, so that none needs a share (intersection-union test).
            return each, 1 - 2 * self.error
        return each, each


def _figures(rule: Rule, metric: Metric, evidence: Evidence, cells: Cut, kept: Numbers) -> _Figures:
    counted, options = evidence.counted, evidence.options

    def estimates(confidence: float) -> list[Estimate]:
        asked = replace(options, confidence=confidence)
        found = _estimates(rule, metric, evidence, cells, asked)
        return [found[index] for index in kept]

    def measured(confidence: float) -> tuple[Values, Values]:
        low, high = _arrays(estimates(confidence), "low", "high")
        if metric.interval == "replicates" and confidence > options.confidence:
            # So far out there may be no replicate: the usual interval, widened like a normal one.
            by = normal_quantile(confidence) / normal_quantile(options.confidence)
            near_low, near_high = _arrays(usual, "low", "high")
            low = np.fmin(low, np.maximum(values - by * (values - near_low), metric.limits[0]))
            high = np.fmax(high, np.minimum(values + by * (near_high - values), metric.limits[1]))
        return low, high

    usual = estimates(options.confidence)
    (values,) = _arrays(usual, "value")
    faces = np.array([one.n for one in usual], np.float64)
    reasons = tuple(one.reason for one in usual)
    is_share = metric.interval == "share" and counted.unit is None
    return _Figures(metric, values, faces, reasons, measured, is_share)


def _arrays(estimates: Sequence[Estimate], *names: str) -> tuple[Values, ...]:
    """Fields of estimates, NaN for None."""
    return tuple(
        np.array([getattr(one, name) for one in estimates], dtype=np.float64) for name in names
    )


def _estimates(
    rule: Rule, metric: Metric, evidence: Evidence, cells: Cut, options: Options
) -> list[Estimate]:
    """The metric in every subgroup of the cut."""
    counted = evidence.counted
    if metric.needs == "images":
        return estimate(
            metric,
            images_by_outcome(cells.of(counted.images), counted.statuses),
            options,
            blocks=None
            if counted.unit is None
            else [
                images_by_outcome(cells.blocks(counted.images, index), counted.statuses)
                for index in range(len(cells.subgroups))
            ],
        )
    if metric.needs == "predicted":
        task = _task(counted, rule)
        numbers = counted.predicted[task.name]
        found = estimate(
            metric,
            cells.of(numbers),
            options,
            blocks=None
            if counted.unit is None
            else [cells.blocks(numbers, index) for index in range(len(cells.subgroups))],
        )
        return found[task.classes.index(str(rule.label)) :: len(task.classes)]
    measured = measure(counted, cells, evidence.rows, options, [metric], rule.task)
    return [one.estimate for one in measured.values if one.label == rule.label]


def _task(counted: Tally, rule: Rule) -> Task:
    return next(task for task in counted.tasks if task.name == rule.task)


# --- from figures to a verdict --------------------------------------------------------------------


@dataclass(frozen=True)
class _Limit:
    """One limit of a rule: the quantity that it bounds, from below or from above."""

    limit: float
    from_below: bool
    quantity: Callable[[Sequence[Bounded], Numbers], Extreme]

    def outcome(self, found: Extreme) -> Outcome:
        if self.from_below:
            keeps, breaks = found.low >= self.limit, found.high < self.limit
        else:
            keeps, breaks = found.high <= self.limit, found.low > self.limit
        return "pass" if keeps else "fail" if breaks else "insufficient"

    def shown_by(self, found: Extreme, outcome: Outcome) -> tuple[int, ...]:
        """The figures that a failure, or the lack of a decision, rests on."""
        return found.high_at if (outcome == "fail") == self.from_below else found.low_at


def _limits(rule: Rule) -> list[_Limit]:
    """The limits of a rule with the quantities that they bound."""
    signed = rule.measure == "worst" and rule.metrics[0].better == "zero"
    found = []
    if rule.at_least is not None:
        least = least_ratio if rule.measure == "ratio" else lowest
        found.append(_Limit(rule.at_least, True, least))
    if rule.at_most is not None:
        if rule.measure in BETWEEN:
            most: Callable[[Sequence[Bounded], Numbers], Extreme] = farthest_apart
        elif signed:
            most = _farthest_from_zero
        else:
            most = highest
        found.append(_Limit(rule.at_most, False, most))
    return found


def _farthest_from_zero(figures: Sequence[Bounded], strata: Numbers) -> Extreme:
    return highest([one.without_sign() for one in figures], strata)


def _decided(case: _Case) -> Verdict:
    rule, usable, small = case.rule, case.usable, case.small
    strata = case.strata(usable)
    fewest = 2 if rule.measure in BETWEEN else 1
    if np.bincount(strata, minlength=1).max() < fewest:
        return replace(
            _undecided(rule, _too_few(case, fewest), case.exemptions),
            n=int(case.faces.min()) if len(case.faces) else 0,
            n_needed=rule.min_n if case.subgroups else None,
            small=tuple(case.subgroups[index] for index in small),
        )
    to_fail, to_pass = case.confidences(usable)
    failing = [one.bounded(to_fail, usable) for one in case.figures]
    passing = (
        failing if to_fail == to_pass else [one.bounded(to_pass, usable) for one in case.figures]
    )
    found = []
    for limit in _limits(rule):
        extreme = _both(limit, limit.quantity(failing, strata), limit.quantity(passing, strata))
        found.append((limit, extreme, limit.outcome(extreme)))
    limit, extreme, outcome = min(found, key=lambda one: WORST_FIRST.index(one[2]))
    if math.isinf(extreme.value):
        return replace(_undecided(rule, NO_RATIO, case.exemptions), n=int(case.faces.min()))
    if outcome == "pass" and len(small):
        outcome = "insufficient"
    explanation = _explanation(case, usable, small, limit, extreme, outcome)
    at = [case.subgroups[usable[index]] for index in extreme.at]
    return replace(
        _undecided(rule, explanation, case.exemptions),
        outcome=outcome,
        value=extreme.value,
        low=extreme.low if math.isfinite(extreme.low) else None,
        high=extreme.high if math.isfinite(extreme.high) else None,
        n=int(min(case.faces[usable[index]] for index in extreme.at)),
        n_needed=_n_needed(case) if outcome == "insufficient" else None,
        subgroups=tuple(at),
        small=tuple(case.subgroups[index] for index in small),
    )


def _both(limit: _Limit, failing: Extreme, passing: Extreme) -> Extreme:
    """The bound that shows a failure from the one, the bound that shows a pass from the other."""
    if limit.from_below:
        return replace(failing, low=passing.low, low_at=passing.low_at)
    return replace(failing, high=passing.high, high_at=passing.high_at)


def _n_needed(case: _Case) -> int | None:
    """Faces that every subgroup needs for a decision, None where no number can be named.

    Bounds are taken at the normal quantile of the confidence plus that of the power, and shrink
    with the square root of the faces (Wilson's: as they do).
    """
    usable, small = case.usable, case.small
    every = np.concatenate([usable, small])
    strata = case.strata(every)
    confidences = [_with_power(one) for one in case.confidences(every)]
    failing, passing = (
        [one.with_faces(confidence, usable, small) for one in case.figures]
        for confidence in confidences
    )

    def decided(n: int) -> bool:
        outcomes = set()
        for limit in _limits(case.rule):
            parts = [limit.quantity([one(n) for one in way], strata) for way in (failing, passing)]
            outcomes.add(limit.outcome(_both(limit, *parts)))
        return "fail" in outcomes or outcomes == {"pass"}

    low, high = case.rule.min_n or 1, case.rule.min_n or 1
    while not decided(high):
        low, high = high, 2 * high
        if high > MOST_FACES:
            return None
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return _three_digits(high)


def _three_digits(number: int) -> int:
    """A number rounded up to three digits that are not 0."""
    step = int(10 ** max(len(str(number)) - 3, 0))
    return -(-number // step) * step


def _with_power(confidence: float) -> float:
    normal = NormalDist()
    return 2 * normal.cdf(normal_quantile(confidence) + normal.inv_cdf(POWER)) - 1


# --- words ----------------------------------------------------------------------------------------


def _explanation(
    case: _Case,
    usable: Numbers,
    small: Numbers,
    limit: _Limit,
    extreme: Extreme,
    outcome: Outcome,
) -> str:
    """Why the outcome is what it is."""
    if outcome == "pass":
        return "the whole interval keeps the limit"
    crossing = limit.outcome(extreme) == "insufficient"
    names = " and ".join(
        _name(case.subgroups[usable[index]]) for index in limit.shown_by(extreme, outcome)
    )
    if outcome == "fail":
        return f"the whole interval breaks the limit; shown by {names}"
    told = [f"the interval reaches across the limit, farthest for {names}"] * crossing
    return "; ".join([*told, *([_too_small(case, small)] if len(small) else [])])


def _too_few(case: _Case, fewest: int) -> str:
    if not case.subgroups:
        every = case.exemptions and any(one.current for one in case.exemptions)
        return "every subgroup is excepted" if every else "there is no such subgroup"
    what = "no subgroup" if fewest == 1 else "fewer than two subgroups to compare"
    small = f"; {_too_small(case, case.small)}" if len(case.small) else ""
    return f"{what} with at least {case.rule.min_n} faces{small}"


def _too_small(case: _Case, small: Numbers) -> str:
    told = []
    for index in small[:NAMED]:
        reasons = [one.reasons[index] for one in case.figures if np.isnan(one.values[index])]
        faces = int(case.faces[index])
        what = reasons[0] if reasons else f"{faces:,} faces, fewer than {case.rule.min_n}"
        told.append(f"{_name(case.subgroups[index])}: {what}")
    more = f"; and {len(small) - NAMED} more subgroups" if len(small) > NAMED else ""
    return "; ".join(told) + more


def _name(subgroup: Subgroup) -> str:
    return ", ".join(subgroup.values()) or "all faces"


def _exemptions(rule: Rule, subgroups: Sequence[Subgroup], day: dt.date) -> tuple[Exemption, ...]:
    def told(exempt: Exempt) -> Exemption:
        return Exemption(
            exempt.subgroup,
            exempt.approved_by,
            exempt.reason,
            exempt.expires,
            exempt.holds(day),
            sum(exempt.covers(subgroup) for subgroup in subgroups),
        )

    return tuple(map(told, rule.exceptions))


def _undecided(rule: Rule, explanation: str, exemptions: tuple[Exemption, ...]) -> Verdict:
    """A verdict without figures."""
    return Verdict(
        rule=rule.words,
        task=rule.task,
        metric=rule.name,
        label=rule.label,
        by=rule.by,
        within=rule.within,
        only=rule.only,
        measure=rule.measure,
        at_least=rule.at_least,
        at_most=rule.at_most,
        owner=rule.owner,
        reason=rule.reason,
        confidence=rule.confidence or 0.0,
        min_n=rule.min_n or 0,
        outcome="insufficient",
        value=None,
        low=None,
        high=None,
        n=0,
        n_needed=None,
        subgroups=(),
        explanation=explanation,
        exemptions=exemptions,
    )
