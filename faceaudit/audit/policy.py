"""Policies: rules that somebody decided on, as text, and what can be wrong with them by themselves.

A policy is TOML, one ``[[rule]]`` after the other; ``RULE_KEYS`` lists what a rule can say. Whether
a table has the tasks, classes and columns that a rule names is checked where it is judged
(``verdict``).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceaudit.audit.age import AGE_METRICS, age_metric
from faceaudit.audit.failures import WITH_FAILURES
from faceaudit.audit.fairness import FAIRNESS
from faceaudit.audit.metrics import METRICS, Metric
from faceaudit.audit.rates import RATES
from faceaudit.errors import UnknownNameError, UsageError
from faceaudit.schema import AGE

STARTER = Path(__file__).with_name("starter_policy.toml")
"""A commented policy to begin with: an example, no norm."""

MEASURES: dict[str, str] = {
    "overall": "the figure of all faces",
    "worst": "the figure of the worst subgroup",
    "each": "the figure of every subgroup",
    "difference": "highest minus lowest figure of the subgroups",
    "ratio": "lowest by highest figure of the subgroups",
    "equivalent": "as difference, shown by tests of equivalence",
}
"""What of a metric a rule bounds."""
BETWEEN = ("difference", "ratio", "equivalent")
"""Measures that compare subgroups with each other."""

MOST_MIN_N = 10**9
"""No table has more faces."""
LEAST_CONFIDENT = 0.5
"""A verdict that holds with less confidence is none."""

FAILURES = ("left_out", "errors")
"""What annotated faces without a prediction are to a rule."""

RULE_KEYS = (
    "task",
    "metric",
    "class",
    "by",
    "within",
    "failures",
    "measure",
    "at_least",
    "at_most",
    "owner",
    "reason",
    "confidence",
    "min_n",
    "exception",
)
EXCEPTION_KEYS = ("subgroup", "approved_by", "reason", "expires")


@dataclass(frozen=True)
class Exempt:
    """Subgroups that somebody excepted from a rule until a day, that day included."""

    subgroup: Mapping[str, str]
    """Feature -> class; subgroups that have these classes are excepted."""
    approved_by: str
    reason: str
    expires: dt.date

    def holds(self, day: dt.date) -> bool:
        return day <= self.expires

    def covers(self, subgroup: Mapping[str, str]) -> bool:
        return all(subgroup.get(name) == label for name, label in self.subgroup.items())


@dataclass(frozen=True)
class Rule:
    """One rule: what is measured, in which subgroups, and its limits."""

    where: str
    """The policy's name and the rule's number, for messages."""
    task: str | None
    """None of images."""
    name: str
    """A metric, or a named disparity of several."""
    metrics: tuple[Metric, ...]
    label: str | None
    by: tuple[str, ...]
    within: tuple[str, ...]
    """Control features: the rule must hold within each of their values."""
    only: Mapping[str, str]
    """Feature -> class: only these faces count."""
    failures: str
    measure: str
    at_least: float | None
    at_most: float | None
    owner: str
    reason: str
    confidence: float | None
    min_n: int | None
    exceptions: tuple[Exempt, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """Every feature that the rule cuts by."""
        return tuple(dict.fromkeys([*self.by, *self.within, *self.only]))

    @property
    def words(self) -> str:
        """The rule in one line.

        Example:
            >>> read_policy(STARTER.read_bytes(), "starter").rules[0].words
            'failure_rate: worst by race, at most 0.05'
        """
        what = " ".join(filter(None, [self.task, self.name]))
        of_class = f" of {self.label}" if self.label else ""
        of_class += " with failures as errors" if self.failures == "errors" else ""
        by = f" by {' x '.join(self.by)}" if self.by else ""
        within = f" within each {' x '.join(self.within)}" if self.within else ""
        only = f" within {', '.join(self.only.values())}" if self.only else ""
        limits = [
            f"{word} {limit:g}"
            for word, limit in (("at least", self.at_least), ("at most", self.at_most))
            if limit is not None
        ]
        return f"{what}{of_class}: {self.measure}{by}{within}{only}, {' and '.join(limits)}"


@dataclass(frozen=True)
class Policy:
    """Rules, the name that they were read from, and the hash of their text."""

    name: str
    sha256: str
    rules: tuple[Rule, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Every feature that any rule cuts by."""
        return tuple(dict.fromkeys(name for rule in self.rules for name in rule.features))


def read_policy(text: bytes, name: str) -> Policy:
    """A policy from TOML.

    Args:
        text: The file's bytes.
        name: The file's name, for messages.

    Raises:
        UsageError: If it is no TOML, or a key or value in it cannot be used.
    """
    try:
        facts = tomllib.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: is not valid TOML: {error}") from error
    return Policy(name, hashlib.sha256(text).hexdigest(), parse_rules(facts, name))


def parse_rules(facts: Mapping[str, Any], name: str) -> tuple[Rule, ...]:
    """The rules of a policy that was parsed already.

    Args:
        facts: ``{"rule": [...]}``, as in the file.
        name: The policy's name, for messages.

    Raises:
        UsageError: If a key or value cannot be used.
    """
    _known_keys(facts, ("rule",), name)
    rules = facts.get("rule")
    if not isinstance(rules, list) or not rules:
        raise UsageError(f"{name}: holds no rule; begin one with a line [[rule]]")
    return tuple(
        _rule(_Table(one, RULE_KEYS, f"{name}, rule {number}"))
        for number, one in enumerate(rules, 1)
    )


def policy_metrics(name: str) -> tuple[Metric, ...]:
    """The metrics that a rule names: one, or those of a named disparity.

    Raises:
        UnknownNameError: If there is no such metric.

    Example:
        >>> [metric.name for metric in policy_metrics("equalized_odds")]
        ['recall', 'false_positive_rate']
    """
    known = {metric.name: metric for metric in (*METRICS, *AGE_METRICS, *RATES)}
    named = {fairness.name: fairness.of for fairness in FAIRNESS}
    if name in known:
        return (known[name],)
    if name in named:
        return tuple(known[part] for part in named[name])
    if re.fullmatch(r"cs_at_\d+|challenge_\d+_f[pn]r", name):
        return (age_metric(name),)
    raise UnknownNameError("metric", name, [*known, *named])


def _rule(given: _Table) -> Rule:
    name = given.text("metric")
    try:
        metrics = policy_metrics(name)
    except UnknownNameError as error:
        raise UsageError(f"{given.where}: {error}") from error
    label = given.text("class") if "class" in given.facts else None
    within, only = given.within()
    rule = Rule(
        where=given.where,
        task=given.text("task") if "task" in given.facts else None,
        name=name,
        metrics=metrics,
        label=label,
        by=given.names("by"),
        within=within,
        only=only,
        failures=given.one_of("failures", FAILURES) if "failures" in given.facts else FAILURES[0],
        measure=given.one_of("measure", MEASURES),
        at_least=given.number("at_least"),
        at_most=given.number("at_most"),
        owner=given.text("owner"),
        reason=given.text("reason"),
        confidence=given.number("confidence"),
        min_n=given.count("min_n"),
        exceptions=tuple(_exempt(one, given.where) for one in given.tables("exception")),
    )
    _check_task(rule)
    _check_failures(rule)
    _check_subgroups(rule)
    _check_limits(rule)
    return rule


def _exempt(facts: Any, where: str) -> Exempt:
    given = _Table(facts, EXCEPTION_KEYS, f"{where}, exception")
    subgroup = given.mapping("subgroup")
    return Exempt(subgroup, given.text("approved_by"), given.text("reason"), given.day("expires"))


@dataclass(frozen=True)
class _Table:
    """One table of the file, whose values are checked as they are taken."""

    facts: Mapping[str, Any]
    keys: tuple[str, ...]
    where: str

    def __post_init__(self) -> None:
        if not isinstance(self.facts, Mapping):
            raise UsageError(f"{self.where}: is {self.facts!r}; give a table of keys and values")
        _known_keys(self.facts, self.keys, self.where)

    def refuse(self, key: str, what: str) -> UsageError:
        if key not in self.facts:
            return UsageError(f"{self.where}: {key} is missing; give {what}")
        return UsageError(f"{self.where}: {key} is {self.facts[key]!r}; give {what}")

    def text(self, key: str) -> str:
        value = self.facts.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(key, "a text that is not empty")
        return value.strip()

    def one_of(self, key: str, known: Collection[str]) -> str:
        value = self.facts.get(key)
        if not isinstance(value, str) or value not in known:
            raise self.refuse(key, f"one of: {', '.join(known)}")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        value = self.facts.get(key, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(n, str) and n for n in value):
            raise self.refuse(key, 'a list of columns, such as ["gender", "race"]')
        return tuple(dict.fromkeys(value))

    def mapping(self, key: str) -> dict[str, str]:
        value = self.facts.get(key)
        if (
            not isinstance(value, Mapping)
            or not value
            or not all(isinstance(n, str) for n in value.values())
        ):
            raise self.refuse(key, 'columns and classes, such as { race = "Black" }')
        return dict(value)

    def within(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Control features, or the classes that faces are kept of."""
        if isinstance(self.facts.get("within"), Mapping):
            return (), self.mapping("within")
        return self.names("within"), {}

    def number(self, key: str) -> float | None:
        value = self.facts.get(key)
        if value is None:
            return None
        try:
            found = math.nan if isinstance(value, bool | str) else float(value)
        except (TypeError, OverflowError):  # of a list; of a whole number of hundreds of digits
            found = math.nan
        if not math.isfinite(found):
            raise self.refuse(key, "a number")
        return found

    def count(self, key: str) -> int | None:
        value = self.facts.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_MIN_N:
            raise self.refuse(key, f"a whole number from 1 to {MOST_MIN_N:,}")
        return value

    def day(self, key: str) -> dt.date:
        value = self.facts.get(key)
        if isinstance(value, str):
            try:
                value = dt.date.fromisoformat(value)
            except ValueError as error:
                raise self.refuse(key, "a day, such as 2027-03-31") from error
        if not isinstance(value, dt.date) or isinstance(value, dt.datetime):
            raise self.refuse(key, "a day, such as 2027-03-31")
        return value

    def tables(self, key: str) -> Sequence[Any]:
        value = self.facts.get(key, [])
        if not isinstance(value, list):
            raise self.refuse(key, f"tables that each begin with [[rule.{key}]]")
        return value


def _known_keys(facts: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in facts:
        if key not in known:
            raise UnknownNameError(f"key of {where}", str(key), known)


def _check_task(rule: Rule) -> None:
    """Whether task, class and metric go together, as far as the policy alone tells."""
    metric = rule.metrics[0]
    if metric.needs == "images":
        if rule.task is not None:
            raise UsageError(
                f"{rule.where}: {rule.name} is of images, not of the task {rule.task!r}; "
                "leave task out"
            )
    elif rule.task is None:
        raise UsageError(f"{rule.where}: task is missing; {rule.name} is of a task, such as gender")
    elif (metric.needs in {"years", "ages"}) != (rule.task == AGE):
        fits = f"the task {AGE!r}" if metric.needs in {"years", "ages"} else "a task with classes"
        raise UsageError(f"{rule.where}: {rule.name} is of {fits}, not of {rule.task!r}")
    if metric.per_class and rule.label is None:
        raise UsageError(f"{rule.where}: class is missing; {rule.name} is of one class of the task")
    if not metric.per_class and rule.label is not None:
        raise UsageError(f"{rule.where}: {rule.name} is of all classes; leave class out")


def _check_failures(rule: Rule) -> None:
    if rule.failures == "errors" and rule.name not in WITH_FAILURES:
        raise UsageError(
            f"{rule.where}: failures can be errors of {', '.join(WITH_FAILURES)}, not of "
            f"{rule.name}"
        )


def _check_subgroups(rule: Rule) -> None:
    if rule.measure == "overall" and rule.by:
        raise UsageError(
            f"{rule.where}: measure overall is of all faces; leave by out, or choose each or worst"
        )
    if rule.measure != "overall" and not rule.by:
        raise UsageError(
            f"{rule.where}: by is missing; measure {rule.measure} is over subgroups, "
            'such as by = ["race"]'
        )
    for name in (*rule.within, *rule.only):
        if name in rule.by:
            raise UsageError(f"{rule.where}: {name!r} is in by and in within; keep one")
    for exempt in rule.exceptions:
        for name in exempt.subgroup:
            if name not in rule.features:
                raise UnknownNameError(
                    f"column of the rule ({rule.where}, exception)", name, rule.features
                )


def _check_limits(rule: Rule) -> None:
    given = {
        key: limit
        for key, limit in (("at_least", rule.at_least), ("at_most", rule.at_most))
        if limit is not None
    }
    allowed = _limits_of(rule)
    for key in given:
        if key not in allowed:
            raise UsageError(
                f"{rule.where}: {rule.measure} of {rule.name} takes {' or '.join(allowed)}, "
                f"not {key}"
            )
    if not given:
        raise UsageError(f"{rule.where}: a limit is missing; give {' or '.join(allowed)}")
    low, high = _range_of(rule)
    for key, limit in given.items():
        if not low <= limit <= high:
            raise UsageError(
                f"{rule.where}: {key} is {limit:g}; {rule.measure} of {rule.name} lies between "
                f"{low:g} and {high:g}"
            )
    if len(given) == 2 and given["at_least"] > given["at_most"]:
        raise UsageError(
            f"{rule.where}: at_least {rule.at_least:g} is above at_most {rule.at_most:g}"
        )
    if rule.confidence is not None and not LEAST_CONFIDENT <= rule.confidence < 1:
        raise UsageError(
            f"{rule.where}: confidence is {rule.confidence:g}; give a share from 0.5 to below 1, "
            "such as 0.95"
        )


def _limits_of(rule: Rule) -> tuple[str, ...]:
    """The limits that a measure takes."""
    if rule.measure in BETWEEN and rule.metrics[0].incomparable:
        raise UsageError(
            f"{rule.where}: subgroups are not compared in {rule.name}: "
            f"{rule.metrics[0].incomparable}; choose overall, each or worst"
        )
    if rule.measure in {"overall", "each"} and len(rule.metrics) == 1:
        return ("at_least", "at_most")
    if rule.measure == "ratio":
        if rule.metrics[0].better == "zero":
            raise UsageError(
                f"{rule.where}: a ratio of {rule.name} has no meaning, its values have a sign; "
                "choose difference"
            )
        return ("at_least",)
    if rule.measure in BETWEEN:
        return ("at_most",)
    if len(rule.metrics) > 1:
        raise UsageError(
            f"{rule.where}: {rule.name} compares subgroups; choose {', '.join(BETWEEN)}"
        )
    better = rule.metrics[0].better
    if better == "neither":
        raise UsageError(
            f"{rule.where}: no value of {rule.name} is the worst; choose each, with at_least, "
            "at_most or both"
        )
    return ("at_least",) if better == "higher" else ("at_most",)


def _range_of(rule: Rule) -> tuple[float, float]:
    """Lowest and highest limit that makes sense."""
    if rule.measure == "ratio":
        return 0.0, 1.0
    low, high = rule.metrics[0].limits
    if rule.measure in BETWEEN or rule.measure == "worst":
        return 0.0, high
    return low, high
