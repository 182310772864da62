"""Policies by themselves: what a rule can say, and what is refused, in one line each."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import pytest

from faceaudit.audit.policy import (
    EXCEPTION_KEYS,
    MEASURES,
    RULE_KEYS,
    STARTER,
    Rule,
    parse_rules,
    read_policy,
)
from faceaudit.errors import UsageError

RULE: dict[str, Any] = {
    "task": "gender",
    "metric": "accuracy",
    "by": ["race"],
    "measure": "worst",
    "at_least": 0.9,
    "owner": "the board",
    "reason": "a floor",
}
EXCEPTION: dict[str, Any] = {
    "subgroup": {"race": "Others"},
    "approved_by": "the board",
    "reason": "few faces",
    "expires": dt.date(2027, 3, 31),
}


def rule_with(**changes: Any) -> dict[str, Any]:
    """The rule with other values; None leaves a key out."""
    return {key: value for key, value in {**RULE, **changes}.items() if value is not None}


def parsed(**changes: Any) -> Rule:
    return parse_rules({"rule": [rule_with(**changes)]}, "p.toml")[0]


def test_a_rule_is_read_as_it_stands() -> None:
    text = b"""
[[rule]]
task = "gender"
metric = "recall"
class = "Female"
by = ["race"]
within = ["site"]
measure = "ratio"
at_least = 0.8
owner = "the board"
reason = "four fifths"
confidence = 0.9
min_n = 50

[[rule.exception]]
subgroup = { race = "Others" }
approved_by = "the board"
reason = "few faces"
expires = 2027-03-31
"""
    policy = read_policy(text, "p.toml")
    rule = policy.rules[0]
    assert (rule.task, rule.name, rule.label) == ("gender", "recall", "Female")
    assert (rule.by, rule.within, rule.only) == (("race",), ("site",), {})
    assert (rule.measure, rule.at_least, rule.at_most) == ("ratio", 0.8, None)
    assert (rule.confidence, rule.min_n) == (0.9, 50)
    assert rule.exceptions[0].expires == dt.date(2027, 3, 31)
    assert rule.words == "gender recall of Female: ratio by race within each site, at least 0.8"
    assert policy.features == ("race", "site")


def test_the_starter_policy_says_that_it_is_no_norm_and_is_valid() -> None:
    text = STARTER.read_text(encoding="utf-8")
    assert "no norm" in text
    policy = read_policy(text.encode(), "starter")
    assert all("example" in rule.owner and "example" in rule.reason for rule in policy.rules)
    assert {rule.measure for rule in policy.rules} >= {"worst", "difference", "ratio", "equivalent"}


def test_every_key_is_explained_in_the_starter_policy() -> None:
    text = STARTER.read_text(encoding="utf-8")
    assert all(key in text for key in (*RULE_KEYS, *EXCEPTION_KEYS, *MEASURES))


def test_every_key_and_measure_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in text for key in (*RULE_KEYS, *MEASURES) if key != "exception")
    assert all(f"{key} = " in text for key in EXCEPTION_KEYS)


def test_policy_in_the_documentation_is_valid() -> None:
    text = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(read_policy(block.encode(), "docs").rules[0].exceptions) == 1


def test_hash_is_that_of_the_file_s_bytes() -> None:
    one = read_policy(STARTER.read_bytes(), "a")
    other = read_policy(STARTER.read_bytes() + b"\n# more", "a")
    assert one.sha256 != other.sha256
    assert len(one.sha256) == 64


def test_an_exception_holds_up_to_its_last_day() -> None:
    exempt = parsed(exception=[EXCEPTION]).exceptions[0]
    assert exempt.holds(dt.date(2027, 3, 31))
    assert not exempt.holds(dt.date(2027, 4, 1))
    assert exempt.covers({"race": "Others", "gender": "Male"})
    assert not exempt.covers({"race": "Black"})


def test_a_named_disparity_stands_for_its_metrics() -> None:
    rule = parsed(
        metric="equalized_odds",
        **{"class": "Female"},
        measure="difference",
        at_least=None,
        at_most=0.1,
    )
    assert [metric.name for metric in rule.metrics] == ["recall", "false_positive_rate"]


@pytest.mark.parametrize("name", ["cs_at_3", "challenge_30_fpr"])
def test_metrics_at_any_age_are_known(name: str) -> None:
    better = {"at_least": 0.3} if name == "cs_at_3" else {"at_least": None, "at_most": 0.3}
    assert parsed(task="age", metric=name, **better).metrics[0].name == name


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"treshold": 0.9}, "no key of p.toml, rule 1 is called 'treshold'"),
    "unknown metric": ({"metric": "acuracy"}, "no metric is called 'acuracy'"),
    "unknown measure": ({"measure": "gap"}, "measure is 'gap'; give one of: overall, worst"),
    "no measure": ({"measure": None}, "measure is missing"),
    "no owner": ({"owner": None}, "owner is missing"),
    "empty reason": ({"reason": " "}, "reason is ' '; give a text"),
    "no task": ({"task": None}, "task is missing"),
    "task of images": ({"metric": "failure_rate", "at_least": None, "at_most": 0.1}, "of images"),
    "years of classes": ({"metric": "mae", "at_least": None, "at_most": 3}, "the task 'age'"),
    "classes of years": ({"task": "age"}, "a task with classes"),
    "failures of a score": ({"metric": "macro_f1", "failures": "errors"}, "failures can be errors"),
    "unknown failures": (
        {"failures": "wrong"},
        "failures is 'wrong'; give one of: left_out, errors",
    ),
    "no class": ({"metric": "recall"}, "class is missing"),
    "class of all": ({"class": "Male"}, "leave class out"),
    "no subgroups": ({"by": None}, "by is missing"),
    "subgroups of all": ({"measure": "overall"}, "leave by out"),
    "by and within": ({"within": ["race"]}, "'race' is in by and in within"),
    "by is a number": ({"by": 3}, "by is 3; give a list of columns"),
    "empty within": ({"within": {}}, "within is {}"),
    "no limit": ({"at_least": None}, "a limit is missing; give at_least"),
    "limit as text": ({"at_least": "90%"}, "at_least is '90%'; give a number"),
    "limit is not finite": ({"at_least": float("nan")}, "at_least is nan; give a number"),
    "limit of hundreds of digits": ({"at_least": 10**400}, "at_least is 1000"),
    "limit as list": ({"at_least": [0.9]}, "at_least is [0.9]; give a number"),
    "subgroups too large": ({"min_n": 10**400}, "give a whole number from 1 to 1,000,000,000"),
    "limit is a truth value": ({"at_least": True}, "at_least is True; give a number"),
    "percent": ({"at_least": 90}, "at_least is 90; worst of accuracy lies between 0 and 1"),
    "wrong side": ({"at_least": None, "at_most": 0.9}, "takes at_least, not at_most"),
    "worst of neither": (
        {"metric": "selection_rate", "class": "Male"},
        "no value of selection_rate is the worst",
    ),
    "ratio of signed": (
        {"task": "age", "metric": "mean_signed_error", "measure": "ratio"},
        "a ratio of mean_signed_error has no meaning",
    ),
    "difference of calibration errors": (
        {"metric": "ece", "measure": "difference", "at_least": None, "at_most": 0.1},
        "subgroups are not compared in ece",
    ),
    "crossed limits": ({"measure": "each", "at_most": 0.8}, "at_least 0.9 is above at_most 0.8"),
    "confidence": ({"confidence": 95}, "confidence is 95"),
    "min_n": ({"min_n": 0}, "min_n is 0; give a whole number"),
    "exception is a table": ({"exception": EXCEPTION}, "[[rule.exception]]"),
    "exception without day": (
        {"exception": [{**EXCEPTION, "expires": "soon"}]},
        "rule 1, exception: expires is 'soon'; give a day",
    ),
    "exception of a time": (
        {"exception": [{**EXCEPTION, "expires": dt.datetime(2027, 1, 1)}]},
        "give a day",
    ),
    "exception without name": (
        {"exception": [{**EXCEPTION, "approved_by": ""}]},
        "approved_by is ''",
    ),
    "exception elsewhere": (
        {"exception": [{**EXCEPTION, "subgroup": {"site": "A"}}]},
        "no column of the rule (p.toml, rule 1, exception) is called 'site'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_in_one_line(case: str) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(UsageError) as error:
        parsed(**changes)
    told = str(error.value)
    assert message in told
    assert "p.toml, rule 1" in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "holds no rule"),
        (b"rule = 3", "holds no rule"),
        (b"rule = [3]", "rule 1: is 3; give a table"),
        (b"[[rules]]", "no key of p.toml is called 'rules'; choose one of: rule"),
        (b"[[rule]\n", "is not valid TOML"),
        (b"\xff", "is not valid TOML"),
        (b"rule = " + b"[" * 5_000, "is not valid TOML"),
    ],
)
def test_text_that_is_no_policy_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=r"p\.toml") as error:
        read_policy(text, "p.toml")
    assert message in str(error.value)
