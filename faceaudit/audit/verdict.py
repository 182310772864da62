"""Verdicts: the rules of a policy held against a tally, each passed, failed or undecided.

A rule bounds a quantity: a figure, the worst of several, or how far apart the farthest are. Its
interval decides: a rule passes if the whole interval keeps the limit, fails if the whole interval
breaks it, and else the evidence is insufficient. The intervals of all rules hold together with the
policy's confidence: each rule takes an equal share of what may go wrong (Bonferroni), and so does
each figure of a rule. Differences hold together as those of the section Differences do, from the
same limits. So neither a pass nor a failure comes by trying often.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from faceaudit.audit.cases import Case, exemptions_of
from faceaudit.audit.evidence import (
    ABSENT,
    Evidence,
    check_names,
    missing_evidence,
)
from faceaudit.audit.extremes import Bounded, Extreme, farthest_apart, highest, least_ratio, lowest
from faceaudit.audit.policy import BETWEEN, LEAST_CONFIDENT, Policy, Rule
from faceaudit.audit.results import Exemption, Outcome, Subgroup, Verdict
from faceaudit.audit.tally import Numbers
from faceaudit.errors import (
    EXIT_DONE,
    EXIT_INSUFFICIENT,
    EXIT_ORDER,
    EXIT_RULE_FAILED,
    UsageError,
)

MOST_FACES = 10**7
"""Where more faces a subgroup were needed, no number is named."""
MANY = 400
"""Of more subgroups ``n_needed`` looks at the lowest and the highest only."""
NAMED = 3
"""So many subgroups are named in an explanation; of the others their number is told."""
NO_RATIO = "the ratio is not defined: every value is 0"
WORST_FIRST: tuple[Outcome, ...] = ("fail", "insufficient", "pass")
EXIT_CODES: dict[Outcome, int] = {
    "fail": EXIT_RULE_FAILED,
    "insufficient": EXIT_INSUFFICIENT,
    "pass": EXIT_DONE,
}


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


def _judge(rule: Rule, rules: int, evidence: Evidence) -> Verdict:
    options = evidence.options
    confidence = rule.confidence or options.confidence
    if confidence < LEAST_CONFIDENT:
        raise UsageError(f"--confidence {confidence:g}: rules need at least {LEAST_CONFIDENT:g}")
    asked = replace(rule, confidence=confidence, min_n=rule.min_n or options.min_n)
    check_names(asked, evidence)
    missing = missing_evidence(asked, evidence)
    if missing is not None:
        return _undecided(asked, missing, exemptions_of(asked, (), evidence.day))
    return _decided(Case.of(asked, (1 - confidence) / rules, evidence))


@dataclass(frozen=True)
class _Limit:
    """One limit of a rule: the quantity that it bounds, from below or from above."""

    limit: float
    from_below: bool
    quantity: Callable[..., Extreme]

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
            most: Callable[..., Extreme] = farthest_apart
        elif signed:
            most = _farthest_from_zero
        else:
            most = highest
        found.append(_Limit(rule.at_most, False, most))
    return found


def _farthest_from_zero(
    figures: Sequence[Bounded], strata: Numbers, others: Sequence[Bounded] | None = None
) -> Extreme:
    return highest([one.without_sign() for one in figures], strata)


def _decided(case: Case) -> Verdict:
    rule, usable = case.rule, case.usable
    if not case.enough(usable):
        seen = case.faces[case.faces > 0]
        return _planned(
            case,
            replace(
                _undecided(rule, _too_few(case), case.exemptions),
                n=int(seen.min()) if len(seen) else 0,
            ),
            needs_faces=True,
        )
    strata = case.strata(usable)
    failing, passing = case.bounded(usable)
    found = []
    for limit in _limits(rule):
        extreme = _both(limit, limit.quantity(failing, strata), limit.quantity(passing, strata))
        found.append((limit, extreme, limit.outcome(extreme)))
    limit, extreme, outcome = min(found, key=lambda one: WORST_FIRST.index(one[2]))
    if math.isinf(extreme.value):
        return replace(
            _undecided(rule, NO_RATIO, case.exemptions),
            n=int(case.faces[usable].min()),
            small=_small(case),
            rests_on=tuple(case.subgroups[index] for index in usable),
            unplaced=case.unplaced_faces,
        )
    needs_faces = outcome == "insufficient"
    if outcome == "pass" and len(case.small):
        outcome, needs_faces = "insufficient", True
    elif outcome == "pass" and not _passes_wherever(case):
        outcome = "insufficient"
    named = () if outcome == "pass" else limit.shown_by(extreme, outcome)
    explanation = _explanation(case, limit, extreme, outcome)
    at = [case.subgroups[usable[index]] for index in extreme.at]
    return _planned(
        case,
        replace(
            _undecided(rule, explanation, case.exemptions),
            outcome=outcome,
            value=extreme.value,
            low=extreme.low if math.isfinite(extreme.low) else None,
            high=extreme.high if math.isfinite(extreme.high) else None,
            n=int(min(case.faces[usable[index]] for index in {*extreme.at, *named})),
            subgroups=tuple(at),
            rests_on=_at_bounds(case, extreme),
        ),
        needs_faces=needs_faces,
    )


def _at_bounds(case: Case, extreme: Extreme) -> tuple[Subgroup, ...]:
    """Subgroups that the bounds of a quantity are of, where it is not of them itself."""
    found = dict.fromkeys((*extreme.low_at, *extreme.high_at))
    return tuple(case.subgroups[case.usable[index]] for index in found if index not in extreme.at)


def _passes_wherever(case: Case) -> bool:
    """Whether a rule that passes does so wherever faces without a value of a feature belong."""
    if not case.unplaced_faces:
        return True
    ends = case.lowest_and_highest(case.usable)
    if ends is None:
        return False
    strata = case.strata(case.usable)
    found = (
        (limit, limit.quantity(main, strata, others))
        for limit in _limits(case.rule)
        for main, others in [ends if limit.from_below else ends[::-1]]
    )
    return all(limit.outcome(extreme) == "pass" for limit, extreme in found)


def _planned(case: Case, verdict: Verdict, *, needs_faces: bool) -> Verdict:
    """The verdict with what was not judged and, where faces are needed for one, how many."""
    needed = _n_needed(case) if needs_faces else None
    explanation = verdict.explanation
    if needs_faces and needed is None and case.subgroups:
        explanation = f"{explanation}; {_no_number(case)}"
    return replace(
        verdict,
        n_needed=needed,
        small=_small(case),
        unplaced=case.unplaced_faces,
        explanation=explanation,
    )


def _small(case: Case) -> tuple[Subgroup, ...]:
    return tuple(case.subgroups[index] for index in case.small)


def _both(limit: _Limit, failing: Extreme, passing: Extreme) -> Extreme:
    """The bound that shows a failure from the one, the bound that shows a pass from the other."""
    if limit.from_below:
        return replace(failing, low=passing.low, low_at=passing.low_at)
    return replace(failing, high=passing.high, high_at=passing.high_at)


def _n_needed(case: Case) -> int | None:
    """Faces that every subgroup needs for a decision, None where no number can be named.

    Bounds are taken at the normal quantile of the confidence plus that of the power, and shrink
    with the square root of the faces (those of shares: as they do).
    """
    every = np.arange(len(case.subgroups))
    if not (len(case.planned) and case.enough(every)):
        return None
    kept = _farthest_out(case)
    others = _two_of_each(case, np.setdiff1d(every, case.planned))
    strata = case.strata(np.concatenate([kept, others]))
    failing, passing = case.with_faces(kept, others)

    def decided(n: int) -> bool:
        outcomes = set()
        for limit in _limits(case.rule):
            parts = [limit.quantity([one(n) for one in way], strata) for way in (failing, passing)]
            if math.isinf(parts[0].value):
                return False
            outcomes.add(limit.outcome(_both(limit, *parts)))
        return "fail" in outcomes or outcomes == {"pass"}

    low, high = case.rule.min_n or 1, case.rule.min_n or 1
    while not decided(high):
        if high >= MOST_FACES:
            return None
        low, high = high, min(2 * high, MOST_FACES)
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return _three_digits(high)


def _farthest_out(case: Case) -> Numbers:
    """The subgroups that can decide a rule once all have many faces: of very many, both ends."""
    planned = case.planned
    if len(planned) <= MANY or case.rule.within:
        return planned
    orders = [np.argsort(one.values[planned]) for one in case.figures]
    ends = [np.concatenate([order[: MANY // 2], order[-MANY // 2 :]]) for order in orders]
    return np.asarray(planned[np.unique(np.concatenate(ends))])


def _two_of_each(case: Case, others: Numbers) -> Numbers:
    """At most two subgroups of each stratum: all that are taken to be the same decide alike."""
    seen: Counter[int] = Counter()
    kept = []
    for index, stratum in zip(others, case.strata(others).tolist(), strict=True):
        seen[stratum] += 1
        if seen[stratum] <= 2:
            kept.append(index)
    return np.array(kept, np.int64)


def _no_number(case: Case) -> str:
    """Why no number of faces is named."""
    if not len(case.planned):
        return (
            "how many faces are needed does not follow: no subgroup has a figure with an interval"
        )
    if not case.enough(np.arange(len(case.subgroups))):
        return "how many faces are needed does not follow: there is no second subgroup"
    if case.rule.measure == "ratio" and not any(
        one.values[case.planned].any() for one in case.figures
    ):
        return NO_RATIO
    return f"more than {MOST_FACES:,} {_counted(case)} of a subgroup would be needed"


def _three_digits(number: int) -> int:
    """A number rounded up to three digits that are not 0."""
    step = int(10 ** max(len(str(number)) - 3, 0))
    return -(-number // step) * step


def _explanation(case: Case, limit: _Limit, extreme: Extreme, outcome: Outcome) -> str:
    """Why the outcome is what it is."""
    unplaced = _unplaced(case)
    if outcome == "pass":
        anywhere = f", wherever the {unplaced} belong" if unplaced else ""
        return f"the whole interval keeps the limit{anywhere}"
    shown = limit.shown_by(extreme, outcome)
    told = []
    if limit.outcome(extreme) != "pass":
        fails = outcome == "fail"
        told.append(
            f"the {'whole interval breaks' if fails else 'interval reaches across'} the limit"
        )
    elif not len(case.small):
        could = "could" if case.reach_is_known else "are too many to be sure that they would not"
        return f"the interval keeps the limit, but the {unplaced} {could} change that"
    if told and set(shown) != set(extreme.at):
        names = " against ".join(_name(case.subgroups[case.usable[index]]) for index in shown)
        told[0] += f", {'shown by' if outcome == 'fail' else 'farthest for'} {names}"
    if outcome == "insufficient" and len(case.small):
        if not told:
            told.append("the interval keeps the limit, but not every subgroup could be judged")
        told.append(_not_judged(case))
    return "; ".join([*told, *([f"{unplaced} are left out"] if unplaced else [])])


def _unplaced(case: Case) -> str:
    """How many faces have no value of which features; empty where all have one."""
    if not case.unplaced_faces:
        return ""
    features = dict.fromkeys(name for one in case.unplaced for name in one.features)
    return f"{case.unplaced_faces:,} {_counted(case)} without a value of {' or '.join(features)}"


def _too_few(case: Case) -> str:
    if not case.subgroups:
        every = case.exemptions and any(one.current for one in case.exemptions)
        return "every subgroup is excepted" if every else "there is no such subgroup"
    what = "no subgroup" if case.fewest == 1 else "fewer than two subgroups to compare"
    small = f"; {_not_judged(case)}" if len(case.small) else ""
    return f"{what} with at least {case.rule.min_n} {_counted(case)}{small}"


def _not_judged(case: Case) -> str:
    """The first few subgroups that are too small, or absent, and why each is not judged."""
    told = dict.fromkeys(_why_not(case, index) for index in case.small)
    more = len(told) - NAMED
    return "; ".join([*list(told)[:NAMED], *([f"and {more:,} more"] if more > 0 else [])])


def _why_not(case: Case, index: int) -> str:
    """Why a subgroup is not judged; a class that nobody has is told as one."""
    subgroup = case.subgroups[index]
    nobody = [label for name, label in subgroup.items() if (name, label) in case.unseen]
    if nobody:
        return f"{nobody[0]}: {ABSENT}"
    reasons = [one.reasons[index] for one in case.figures if np.isnan(one.values[index])]
    few = f"{int(case.faces[index]):,} {_counted(case)}, fewer than {case.rule.min_n}"
    return f"{_name(subgroup)}: {reasons[0] if reasons else few}"


def _counted(case: Case) -> str:
    return "images" if case.figures[0].metric.needs == "images" else "faces"


def _name(subgroup: Subgroup) -> str:
    return ", ".join(subgroup.values()) or "all faces"


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
        failures=rule.failures,
    )
