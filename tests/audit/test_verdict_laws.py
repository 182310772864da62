"""What holds for any table and rule: more faces, tighter limits, more rules, chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceaudit.audit.estimates import Options
from faceaudit.audit.evidence import Evidence
from faceaudit.audit.run import find_verdicts
from faceaudit.audit.tally import Tally
from faceaudit.audit.verdict import exit_codes, judge, outcome_of
from tests.audit.judging import (
    BETWEEN,
    DAY,
    RACE,
    SITE,
    WORST,
    OpenTable,
    faces_of,
    policy,
    sites,
    verdict,
    verdicts,
)

COUNTS = st.lists(st.tuples(st.integers(30, 400), st.floats(0, 1)), min_size=2, max_size=4)


ANY_RULE = st.one_of(
    st.floats(0.05, 0.95).map(lambda limit: {**WORST, "at_least": limit}),
    st.floats(0.05, 0.95).map(lambda limit: {**BETWEEN, "at_most": limit}),
    st.floats(0.05, 0.95).map(lambda limit: {**WORST, "measure": "ratio", "at_least": limit}),
    st.floats(0.05, 0.95).map(lambda limit: {**WORST, "measure": "equivalent", "at_most": limit}),
)


def made(counts: Sequence[tuple[int, float]], times: int = 1) -> Tally:
    return sites([(times * n, times * round(n * rate)) for n, rate in counts])


@settings(max_examples=40, deadline=None)
@given(COUNTS, ANY_RULE, st.integers(2, 30))
def test_more_faces_of_the_same_rates_only_ever_decide(
    counts: list[tuple[int, float]], rule: dict[str, Any], times: int
) -> None:
    few, many = (verdict(made(counts, k), **rule).outcome for k in (1, times))
    assert few in {"insufficient", many}


@settings(max_examples=40, deadline=None)
@given(COUNTS, ANY_RULE, st.floats(0, 1))
def test_a_tighter_limit_never_turns_a_failure_into_a_pass(
    counts: list[tuple[int, float]], rule: dict[str, Any], by: float
) -> None:
    order = ("fail", "insufficient", "pass")
    if "at_least" in rule:
        tight = {**rule, "at_least": rule["at_least"] + by * (1 - rule["at_least"])}
    else:
        tight = {**rule, "at_most": rule["at_most"] * (1 - by)}
    loose_found, tight_found = (verdict(made(counts), **one).outcome for one in (rule, tight))
    assert order.index(tight_found) <= order.index(loose_found)


@settings(max_examples=40, deadline=None)
@given(COUNTS, ANY_RULE)
def test_so_many_faces_as_needed_decide_the_rule(
    counts: list[tuple[int, float]], rule: dict[str, Any]
) -> None:
    found = verdict(made(counts), **rule)
    if found.n_needed is not None:
        times = -(-found.n_needed // min(n for n, _ in counts))
        assert found.n_needed > min(n for n, _ in counts)
        assert verdict(made(counts, times), **rule).outcome != "insufficient"


CROSSED = [(site, race) for site in ("north", "south") for race in RACE.order]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1)), min_size=4, max_size=4),
    ANY_RULE,
    st.sampled_from(
        [
            {"by": ["race"], "within": ["site"]},
            {"by": ["site", "race"]},
            {"by": ["site"], "within": ["race"]},
            {"by": ["site"], "within": {"race": "Black"}},
        ]
    ),
    st.lists(st.integers(0, 400), min_size=4, max_size=4),
)
def test_a_subgroup_that_loses_its_faces_never_lets_a_rule_pass(
    counts: list[tuple[int, float]],
    rule: dict[str, Any],
    subgroups: dict[str, Any],
    removed: list[int],
) -> None:
    def left(taken: Sequence[int]) -> Tally:
        cells = {
            cell: (n, round(rate * n))
            for cell, (was, rate), less in zip(CROSSED, counts, taken, strict=True)
            if (n := max(was - less, 0))
        }
        # Both sites stay known: others saw faces there whose race nobody annotated.
        return faces_of((SITE, RACE), {**cells, ("north", None): (1, 1), ("south", None): (1, 1)})

    asked = {**rule, **subgroups, "min_n": 10}
    many, few = (verdict(left(taken), **asked) for taken in ([0] * 4, removed))
    faces = [max(was - less, 0) for (was, _), less in zip(counts, removed, strict=True)]
    counted = faces[1::2] if subgroups.get("within") == {"race": "Black"} else faces
    if min(counted) < 10:
        assert few.outcome != "pass"
        assert few.small
    assert not (many.small and few.outcome == "pass")


@settings(max_examples=30, deadline=None)
@given(COUNTS, ANY_RULE, st.integers(1, 8))
def test_more_rules_never_make_a_verdict_easier(
    counts: list[tuple[int, float]], rule: dict[str, Any], more: int
) -> None:
    counted = made(counts)
    alone, among = verdict(counted, **rule), verdicts(counted, *[rule] * (1 + more))[0]
    assert among.outcome in {"insufficient", alone.outcome}


def test_wrong_verdicts_of_a_whole_policy_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every rule is exactly at its limit: whichever side counts as wrong, it is rarely shown.
    monkeypatch.setattr("faceaudit.audit.verdict._n_needed", lambda case: None)
    rates, sizes = np.array([0.85, 0.9, 0.9, 0.9]), np.array([150, 400, 80, 250])
    rules = policy(
        {**WORST, "at_least": 0.85},
        {**BETWEEN, "at_most": 0.05},
        {**WORST, "measure": "ratio", "at_least": 0.85 / 0.9},
        {**WORST, "measure": "equivalent", "at_most": 0.05},
        {**WORST, "measure": "each", "at_most": 0.9},
    )
    generator = np.random.default_rng(5)
    trials = 500
    shown = {"pass": 0, "fail": 0}
    for right in generator.binomial(sizes, rates, (trials, len(sizes))):
        counted = sites(list(zip(sizes.tolist(), right.tolist(), strict=True)))
        found = judge(rules, Evidence(counted, Options(replicates=100), DAY))
        for outcome in shown:
            shown[outcome] += any(one.outcome == outcome for one in found)
    allowed = 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)
    assert shown["pass"] / trials <= allowed
    assert shown["fail"] / trials <= allowed


def test_large_samples_are_decided_rightly() -> None:
    generator = np.random.default_rng(6)
    rates, sizes = np.array([0.85, 0.95]), np.array([5000, 5000])
    right = generator.binomial(sizes, rates)
    counted = sites(list(zip(sizes.tolist(), right.tolist(), strict=True)))
    found = verdicts(
        counted,
        {**WORST, "at_least": 0.8},
        {**WORST, "at_least": 0.9},
        {**BETWEEN, "at_most": 0.15},
        {**BETWEEN, "at_most": 0.05},
    )
    assert [one.outcome for one in found] == ["pass", "fail", "pass", "fail"]
    assert outcome_of(found) == "fail"
    assert exit_codes(found) == [10]
    assert outcome_of(found[::2]) == "pass"
    assert exit_codes(found[::2]) == [0]


def test_clustered_faces_decide_less(open_table: OpenTable) -> None:
    persons = np.repeat(np.arange(60), 20)
    right = np.repeat(np.arange(60) % 10 != 0, 20)
    frame = pl.DataFrame(
        {
            "gender_true": ["Male"] * 1200,
            "gender_pred": np.where(right, "Male", "Female"),
            "person": [f"p{person}" for person in persons],
        }
    )
    rule = {"task": "gender", "metric": "accuracy", "measure": "overall", "at_least": 0.85}
    table = open_table(frame)
    (alone,), _ = find_verdicts(table, policy(rule), replicates=100)
    (together,), _ = find_verdicts(table, policy(rule), replicates=100, unit="person")
    assert (alone.outcome, together.outcome) == ("pass", "insufficient")
    assert together.n_needed is not None
