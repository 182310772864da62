"""The counts that the rules of a policy tell, for privacy."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from faceaudit.audit.coverage import find_composition, find_coverage
from faceaudit.audit.estimates import Options
from faceaudit.audit.evidence import Evidence, missing_evidence, policy_features
from faceaudit.audit.failures import count_failures_as_errors
from faceaudit.audit.measure import EVERY_METRIC, measure
from faceaudit.audit.policy import Policy, Rule
from faceaudit.audit.results import Audit, Composition, Coverage, MetricValue, WithFailures
from faceaudit.audit.tally import Tally, cut, tally
from faceaudit.audit.told import BASES, of_adults
from faceaudit.tables import PredictionTable

OF_CLASSES = ("recall", "precision", "selection_rate")
"""Metrics that tell how many faces are annotated, and predicted, as a class."""


def audit_of_rules(table: PredictionTable | Tally, policy: Policy) -> Audit:
    """What the rules of a policy stand on, by their features: faces, classes and failures.

    An audit of nothing else, with the counts that a verdict tells and those it follows from.

    Raises:
        UsageError: If a rule names a column that there is not.
        SchemaError: If the table cannot be cut as a rule asks.
    """
    features, bare = policy_features(table, policy)
    counted = table if isinstance(table, Tally) else tally(table, features)
    evidence = Evidence(counted, Options(), dt.date.min, unlabelled=bare)
    rules = [one for one in policy.rules if missing_evidence(one, evidence) is None]
    return Audit(
        tasks=counted.tasks,
        by=tuple(dict.fromkeys(one.features for one in rules)),
        rows=counted.rows,
        images=0,
        labelled={},
        coverage=tuple(_coverage(counted, rules)),
        metrics=tuple(_metrics(counted, rules)),
        disparities=(),
        conditioned_age=(),
        confusions=(),
        roc_curves=(),
        composition=tuple(_composition(counted, rules)),
        notes=(),
        with_failures=tuple(_with_failures(counted, rules)),
    )


def _metrics(counted: Tally, rules: list[Rule]) -> Iterator[MetricValue]:
    """Metrics that count labeled faces, of rules of labeled faces."""
    for rule in rules:
        if rule.metrics[0].needs in ("images", "predicted"):
            continue
        named = (*BASES, *(() if rule.label is None else OF_CLASSES))
        counting = [one for one in EVERY_METRIC if one.name in named or of_adults(one.name)]
        chosen = {one.name: one for one in (*counting, *rule.metrics)}
        for by in dict.fromkeys([(), rule.features]):
            cells = cut(counted, by)
            yield from measure(
                counted, cells, {}, Options(), list(chosen.values()), rule.task
            ).values


def _composition(counted: Tally, rules: list[Rule]) -> Iterator[Composition]:
    for rule in (one for one in rules if one.metrics[0].needs == "predicted"):
        found = find_composition(counted, [rule.features] * bool(rule.features), 0.95)
        yield from (one for one in found if one.task == rule.task)


def _coverage(counted: Tally, rules: list[Rule]) -> Iterator[Coverage]:
    for rule in rules:
        if rule.metrics[0].needs == "images" or rule.failures == "errors":
            yield from find_coverage(counted, [rule.features] * bool(rule.features), 0.95)


def _with_failures(counted: Tally, rules: list[Rule]) -> Iterator[WithFailures]:
    for rule in (one for one in rules if one.failures == "errors"):
        groupings = [rule.features] * bool(rule.features)
        found = count_failures_as_errors(counted, groupings, Options())
        yield from (one for one in found if one.task == rule.task)
