"""Details of very many subgroups are left out where they rest on next to no faces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from faceaudit.audit import conditioned, crowded
from faceaudit.audit.results import Audit
from faceaudit.audit.run import audit
from faceaudit.tables import PredictionTable

OpenTable = Callable[..., PredictionTable]
QUICK: dict[str, Any] = {"replicates": 100, "verify": "never", "by": ["site", "gender"]}


def generated(sites: int) -> pl.DataFrame:
    """Faces of sites that are of unequal size, of which site 0 has some without a prediction."""
    random = np.random.default_rng(7)
    site = np.repeat(np.arange(sites), 60 + 20 * np.arange(sites))
    age = random.integers(0, 90, len(site))
    gender = np.where(random.random(len(site)) < 0.8, "Male", "Female")
    right = random.random(len(site)) < 0.8
    missed = (site == 0) & (random.random(len(site)) < 0.2)
    return pl.DataFrame(
        {
            "site": [f"s{k}" for k in site],
            "status": np.where(missed, "no_face", "ok"),
            "gender_true": gender,
            "gender_pred": np.where(right, gender, "Male"),
            "age_true": age.astype(np.float64),
            "age_pred": age + random.normal(0, 6, len(site)).clip(-6, 6),
        }
    ).with_columns(
        gender_pred=pl.when(pl.col("status") == "ok").then("gender_pred"),
        age_pred=pl.when(pl.col("status") == "ok").then(pl.col("age_pred").clip(0, 100)),
    )


@pytest.fixture
def both(open_table: OpenTable, monkeypatch: pytest.MonkeyPatch) -> tuple[Audit, Audit]:
    """The audit in full, and the one in which seven sites are many."""
    full = audit(open_table(generated(7)), **QUICK)
    monkeypatch.setattr(crowded, "MOST_IN_FULL", 5)
    return full, audit(open_table(generated(7)), **QUICK)


def test_figures_of_a_class_stay_where_enough_faces_are_annotated_as_it(
    both: tuple[Audit, Audit],
) -> None:
    full, thinned = both
    faces = {
        (one.task, one.label, tuple(one.subgroup.items())): one.estimate.n
        for one in full.metrics
        if one.metric == "recall"
    }
    expected = [
        one
        for one in full.metrics
        if one.label is None
        or "site" not in one.subgroup
        or faces[one.task, one.label, tuple(one.subgroup.items())] >= 30
    ]
    assert list(thinned.metrics) == expected
    assert len(expected) < len(full.metrics)


def test_figures_of_an_age_group_and_with_failures_stay_where_faces_tell_of_them(
    both: tuple[Audit, Audit],
) -> None:
    full, thinned = both
    assert [
        one
        for one in full.conditioned_age
        if one.age_group is None or "site" not in one.subgroup or not one.small
    ] == list(thinned.conditioned_age)
    sites = {one.subgroup.get("site") for one in thinned.with_failures}
    assert sites == {None, "s0"}
    assert all(one.missed for one in thinned.with_failures if "site" in one.subgroup)


def test_what_is_compared_and_tested_stays_and_a_note_says_what_was_left_out(
    both: tuple[Audit, Audit],
) -> None:
    full, thinned = both
    assert thinned.comparisons == full.comparisons
    assert thinned.disparities == full.disparities
    assert thinned.notes[:-1] == full.notes
    assert "more than 5 subgroups by site and site x gender" in thinned.notes[-1]


def test_gaps_of_the_largest_subgroups_are_taken_apart(
    open_table: OpenTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditioned, "MOST_TAKEN_APART", 3)
    found = audit(open_table(generated(7)), **{**QUICK, "by": ["site"]})
    gaps = [one for one in found.decompositions if one.metric == "mae"]
    assert [one.first["site"] for one in gaps if one.second is None] == ["s4", "s5", "s6"]
    assert sum(one.second is not None for one in gaps) == 1
    assert any("the gaps of the 3 with the most faces" in note for note in found.notes)
