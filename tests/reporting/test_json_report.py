from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest

from faceaudit.audit.results import Estimate
from faceaudit.reporting.json_report import SCHEMA_FILE, to_json


@pytest.fixture(scope="session")
def validator():
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="session")
def facts(sample_subject):
    return json.loads(to_json(sample_subject))


def test_json_fits_the_schema_that_ships(facts, unlabelled_subject, validator):
    validator.validate(facts)
    validator.validate(json.loads(to_json(unlabelled_subject)))


def test_schema_refuses_an_undefined_figure_without_a_reason(brief_subject, validator):
    broken = json.loads(to_json(brief_subject))
    assert validator.is_valid(broken)
    broken["metrics"][0] |= {"value": None, "reason": None}
    assert not validator.is_valid(broken)


def test_schema_refuses_an_unknown_key(brief_subject, validator):
    assert not validator.is_valid({**json.loads(to_json(brief_subject)), "extra": 1})


def test_figures_are_those_of_the_audit(sample_subject, facts):
    audit = sample_subject.audit
    assert len(facts["metrics"]) == len(audit.metrics)
    for found, value in zip(facts["metrics"], audit.metrics, strict=True):
        assert found["value"] == value.estimate.value
        assert found["subgroup"] == value.subgroup
        assert found.get("class") == value.label
        assert found["reason"] == value.estimate.reason
    cells = sum(len(cell.estimates) for cell in audit.conditioned_age)
    assert len(facts["conditioned_age"]) == cells


def test_figure_that_is_nan_is_refused(sample_subject):
    metric = sample_subject.audit.metrics[0]
    broken = replace(metric, estimate=Estimate(float("nan"), None, None, 3))
    subject = replace(sample_subject, audit=replace(sample_subject.audit, metrics=(broken,)))
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(subject)


def test_same_subject_gives_the_same_json(sample_subject):
    assert to_json(sample_subject) == to_json(sample_subject)


def test_every_figure_has_its_own_line(sample_subject, facts):
    lines = to_json(sample_subject).splitlines()
    figures = sum(len(value) for value in facts.values() if isinstance(value, list))
    assert len(lines) >= figures


def test_table_of_another_program_has_no_model(brief_subject, validator):
    provenance = replace(brief_subject.provenance, metadata=None)
    facts = json.loads(to_json(replace(brief_subject, provenance=provenance)))
    validator.validate(facts)
    assert facts["model"] is None
