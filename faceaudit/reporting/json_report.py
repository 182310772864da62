"""The figures of an audit as JSON, for programs; ``report.schema.json`` describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faceaudit.audit.power import POWER
from faceaudit.audit.results import (
    Audit,
    Comparison,
    Composition,
    ConditionedAge,
    Correction,
    Coverage,
    Decomposition,
    Disparity,
    Estimate,
    Exemption,
    FitTest,
    LeaksLeftOut,
    MetricValue,
    PairwiseDifference,
    PolicyFacts,
    Reliability,
    Standardised,
    Subgroup,
    Verdict,
    Verification,
    WithFailures,
)
from faceaudit.audit.verdict import exit_codes
from faceaudit.reporting.changes import changes_facts
from faceaudit.reporting.subject import MIXED, Provenance, Subject
from faceaudit.schema import SCHEMA_VERSION

SCHEMA_FILE = Path(__file__).parent / "report.schema.json"


def to_json(subject: Subject) -> str:
    """The JSON of an audit; the same subject gives the same text.

    Raises:
        ValueError: If a figure is NaN or infinite; an undefined figure must be None.
    """
    return written(report_facts(subject))


def written(facts: Mapping[str, Any]) -> str:
    """Facts as JSON text, one key a line and one entry of a list a line.

    Raises:
        ValueError: If a figure is NaN or infinite.
    """
    parts = [f"{_dumps(name)}: {_lines(value)}" for name, value in facts.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def report_facts(subject: Subject) -> dict[str, Any]:
    """What the JSON holds, as plain values in the order of the file."""
    audit, provenance = subject.audit, subject.provenance
    return {
        "schema_version": SCHEMA_VERSION,
        "table": table_facts(provenance),
        "model": _model(provenance),
        "labels": label_facts(provenance),
        "options": _options(audit),
        "policy": None if audit.policy is None else policy_facts(audit.policy),
        "coverage": [_coverage(found) for found in audit.coverage],
        "with_failures": [_with_failures(found) for found in audit.with_failures],
        "metrics": [_metric(found) for found in audit.metrics],
        "disparities": [_disparity(found) for found in audit.disparities],
        "tests": [_comparison(found) for found in audit.comparisons if found.label is None],
        "conditioned_age": [
            _conditioned(found, name, estimate)
            for found in audit.conditioned_age
            for name, estimate in found.estimates.items()
        ],
        "standardized": [_standardised(found) for found in audit.standardised],
        "decompositions": [_decomposition(found) for found in audit.decompositions],
        "calibration": [_reliability(found) for found in audit.calibration],
        "composition": [_composition(found) for found in audit.composition],
        "corrections": [_correction(found) for found in audit.corrections],
        "verdicts": [verdict_facts(found) for found in audit.verdicts],
        "leaks": _leaks(audit.leaks),
        "verification": _verification(audit.verification),
        "baseline": _baseline(subject),
        "exit_codes": exit_codes(audit.verdicts),
        "notes": list(audit.notes),
    }


def table_facts(provenance: Provenance) -> dict[str, Any]:
    """The table, as a report and a check name it."""
    return {
        "path": provenance.path,
        "sha256": provenance.sha256,
        "rows": provenance.rows,
    }


def label_facts(provenance: Provenance) -> dict[str, Any]:
    """The labels, as a report and a check name them."""
    whose = provenance.labels_provenance
    return {"format": provenance.labels_format, "provenance": None if whose == MIXED else whose}


def policy_facts(policy: PolicyFacts) -> dict[str, Any]:
    """The policy, as a report and a check name it."""
    return {"name": policy.name, "sha256": policy.sha256, "day": policy.day.isoformat()}


def leaks_facts(leaks: LeaksLeftOut) -> dict[str, Any]:
    """The rows that were left out, as a report and a check name them."""
    return {name: value for name, value in vars(leaks).items() if name != "effects"}


def verdict_facts(found: Verdict) -> dict[str, Any]:
    """One verdict, as a report and a check write it."""
    label = {} if found.label is None else {"class": found.label}
    return {
        "rule": found.rule,
        "owner": found.owner,
        "reason": found.reason,
        "outcome": found.outcome,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "n_needed": found.n_needed,
        "explanation": found.explanation,
        "subgroups": [dict(subgroup) for subgroup in found.subgroups],
        "small": [dict(subgroup) for subgroup in found.small],
        "unplaced": found.unplaced,
        "task": found.task,
        "metric": found.metric,
        **label,
        "by": list(found.by),
        "within": dict(found.only) or list(found.within),
        "failures": found.failures,
        "measure": found.measure,
        "at_least": found.at_least,
        "at_most": found.at_most,
        "confidence": found.confidence,
        "min_n": found.min_n,
        "exceptions": [_exemption(one) for one in found.exemptions],
    }


def _exemption(found: Exemption) -> dict[str, Any]:
    return {
        "subgroup": dict(found.subgroup),
        "approved_by": found.approved_by,
        "reason": found.reason,
        "expires": found.expires.isoformat(),
        "current": found.current,
        "covers": found.covers,
    }


def _baseline(subject: Subject) -> Mapping[str, object] | None:
    """What changed against the baseline, as in the JSON of a comparison."""
    if subject.baseline is None:
        return None
    return {"table": subject.baseline.name, **changes_facts(subject.baseline.changes)}


def _model(provenance: Provenance) -> dict[str, Any] | None:
    """The model, detector and preprocessing that the table states; None where it states none."""
    metadata = provenance.metadata
    if metadata is None:
        return None
    return {
        **_sorted(metadata.model),
        "detector": _sorted(metadata.detector),
        "preprocessing": _sorted(metadata.preprocessing),
        "precision": metadata.precision,
    }


def _options(audit: Audit) -> dict[str, Any]:
    return {
        **_sorted(audit.options),
        "groupings": [list(by) for by in audit.by],
        "schemes": {task.name: list(task.classes) for task in audit.tasks},
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {
        "n": None if estimate.suppressed else estimate.n,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "reason": estimate.reason,
    }


def _metric(found: MetricValue) -> dict[str, Any]:
    label = {} if found.label is None else {"class": found.label}
    return {
        "task": found.task,
        "metric": found.metric,
        **label,
        "subgroup": dict(found.subgroup),
        **_estimate(found.estimate),
        "small": found.small,
    }


def _disparity(found: Disparity) -> dict[str, Any]:
    label = {} if found.label is None else {"class": found.label}
    return {
        "task": found.task,
        "metric": found.metric,
        **label,
        "by": list(found.by),
        "within": dict(found.within),
        "worst": _subgroup(found.worst),
        "best": _subgroup(found.best),
        "difference": found.difference,
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "p_adjusted": found.p_adjusted,
        "n_ranked": found.n_ranked,
        "over_geometric_mean": found.over_geometric_mean,
        "reason": found.reason,
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    gap = found.any_gap
    return {
        "task": found.task,
        "metric": found.metric,
        "by": list(found.by),
        "within": dict(found.within),
        "family": found.family,
        "confidence": found.confidence,
        "any_gap": None if gap is None else vars(gap),
        "pairs": [_pair(pair) for pair in found.pairs],
        "versus_rest": [_pair(pair) for pair in found.versus_rest],
        "not_tested": [
            {"subgroup": dict(one.subgroup), "reason": one.reason}
            for one in found.subgroups
            if one.reason is not None
        ],
        "smallest_detectable": found.smallest_detectable,
        "n_needed": [{"gap": gap, "n": n} for gap, n in found.needed],
        "power": POWER,
        "reason": found.reason,
    }


def _pair(found: PairwiseDifference) -> dict[str, Any]:
    return {
        "first": dict(found.first),
        "second": _subgroup(found.second),
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "p_adjusted": found.p_adjusted,
    }


def _conditioned(found: ConditionedAge, metric: str, estimate: Estimate) -> dict[str, Any]:
    return {
        "metric": metric,
        "subgroup": dict(found.subgroup),
        "age_group": found.age_group,
        "standardized": found.standardised,
        **_estimate(estimate),
        "small": found.small,
    }


def _standardised(found: Standardised) -> dict[str, Any]:
    return {
        "task": found.task,
        "metric": found.metric,
        "within": found.within,
        "subgroup": dict(found.subgroup),
        **_estimate(found.estimate),
        "small": found.small,
    }


def _decomposition(found: Decomposition) -> dict[str, Any]:
    return {
        "task": found.task,
        "metric": found.metric,
        "within": found.within,
        "by": list(found.by),
        "first": dict(found.first),
        "second": _subgroup(found.second),
        "gap": _estimate(found.gap),
        "mix": _estimate(found.mix),
        "rate": _estimate(found.rate),
        "mix_share": _estimate(found.mix_share),
        "contributions": [
            {"value_of_feature": one.value, **_estimate(one.estimate)}
            for one in found.contributions
        ],
    }


def _reliability(found: Reliability) -> dict[str, Any]:
    bins = [
        {
            "lower": place.lower,
            "upper": place.upper,
            "confidence": place.confidence,
            **_estimate(place.right),
        }
        for place in found.bins
    ]
    return {
        "task": found.task,
        "subgroup": dict(found.subgroup),
        "n": found.n,
        "bins": bins or None,
        "reason": found.reason,
        "small": found.small,
    }


def _coverage(found: Coverage) -> dict[str, Any]:
    return {
        "subgroup": dict(found.subgroup),
        "images": found.images,
        "statuses": {str(status): n for status, n in found.statuses.items()},
        "failure_rate": _estimate(found.failure_rate),
        "rates": {name: _estimate(rate) for name, rate in found.rates.items()},
    }


def _with_failures(found: WithFailures) -> dict[str, Any]:
    label = {} if found.label is None else {"class": found.label}
    return {
        "task": found.task,
        "metric": found.metric,
        **label,
        "subgroup": dict(found.subgroup),
        "missed": found.missed,
        "scored": _estimate(found.scored),
        "with_failures": _estimate(found.with_failures),
        "difference": _estimate(found.difference),
        "small": found.small,
    }


def _composition(found: Composition) -> dict[str, Any]:
    return {
        "task": found.task,
        "class": found.label,
        "subgroup": dict(found.subgroup),
        **_estimate(found.share),
        "corrected": None if found.corrected is None else _estimate(found.corrected),
        "em": None if found.em is None else _estimate(found.em),
        "reference": None
        if found.reference is None
        else {"share": found.reference.share, "difference": _estimate(found.reference.difference)},
    }


def _correction(found: Correction) -> dict[str, Any]:
    return {
        "task": found.task,
        "method": found.method,
        "source": found.source,
        "where": found.where,
        "labeled": found.labelled,
        "unlabeled": found.unlabelled,
        "unseen_share": found.unseen_share,
        "reason": found.reason,
        "fit": _fit_test(found.fit),
        "reference": _fit_test(found.reference),
        "reference_source": found.reference_source,
        "doubtful": [dict(subgroup) for subgroup in found.doubtful],
    }


def _fit_test(found: FitTest | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "statistic": found.statistic,
        "degrees": found.degrees,
        "p_value": found.p_value,
        "reason": found.reason,
    }


def _verification(found: Verification | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "rows": found.rows,
        "compared": found.compared,
        "largest_difference": found.largest_difference,
        "where": found.where,
        "against": found.against,
        "subgroups": found.subgroups,
        "of_subgroups": found.of_subgroups,
    }


def _leaks(found: LeaksLeftOut | None) -> dict[str, Any] | None:
    if found is None:
        return None
    effects = [
        {
            "task": effect.task,
            "metric": effect.metric,
            "all": _estimate(effect.every),
            "leaked": _estimate(effect.leaked),
            "without": _estimate(effect.without),
            "difference": _estimate(effect.difference),
        }
        for effect in found.effects
    ]
    return {**leaks_facts(found), "effects": effects}


def _subgroup(subgroup: Subgroup | None) -> dict[str, str] | None:
    return None if subgroup is None else dict(subgroup)


def _lines(value: Any) -> str:
    """A value as JSON; of a list, one entry a line, so that two reports can be compared."""
    if not isinstance(value, list) or not value:
        return _dumps(value)
    return "[\n" + ",\n".join(_dumps(entry) for entry in value) + "\n]"


_dumps = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


def _sorted(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts in the order of their names, at every level."""
    return {
        name: _sorted(value) if isinstance(value, Mapping) else value
        for name, value in sorted(facts.items())
    }
