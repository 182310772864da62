"""Verdicts where subgroups have no faces, are excepted, or are compared inside strata."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import pytest

from faceaudit.audit.run import find_verdicts
from faceaudit.audit.subgroups import Feature
from faceaudit.audit.tally import Tally
from faceaudit.errors import UsageError
from tests.audit.judging import (
    BETWEEN,
    BY_RACE,
    CAMERA,
    DAY,
    MANY_RIGHT,
    RACE,
    SITE,
    WORST,
    OpenTable,
    RowsOf,
    faces_of,
    policy,
    sites,
    verdict,
)


def test_a_class_that_is_absent_from_the_table_is_not_passed_over(
    open_table: OpenTable, rows_of: RowsOf
) -> None:
    table = open_table(rows_of(900).filter(pl.col("race_true") != "Others"))
    rule = {**WORST, "by": ["race"], "at_least": 0.1}
    (found,), _ = find_verdicts(table, policy(rule), replicates=100)
    assert found.outcome == "insufficient"
    assert found.small == ({"race": "Others"},)
    assert "Others: none in the table" in found.explanation
    assert found.n_needed is not None
    exempt = {
        "subgroup": {"race": "Others"}, "approved_by": "the board", "reason": "not in use",
        "expires": DAY,
    }  # fmt: skip
    (excepted,), _ = find_verdicts(
        table, policy({**rule, "exception": [exempt]}), replicates=100, day=DAY
    )
    assert excepted.outcome == "pass"


AGES = Feature("age_group", "age_group_true", ("0-29", "30+"))
EXEMPT = {"approved_by": "the board", "reason": "not in use", "expires": DAY}


@pytest.fixture
def no_black_face_in_the_south() -> Tally:
    places = [("north", "White"), ("north", "Black"), ("south", "White")]
    return faces_of((SITE, RACE), dict.fromkeys(places, MANY_RIGHT))


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ({**BETWEEN, "by": ["race"], "within": ["site"], "at_most": 0.1}, "Black, south"),
        ({**BY_RACE, "within": ["site"]}, "Black, south"),
        ({**BY_RACE, "by": ["site", "race"]}, "south, Black"),
        ({**BY_RACE, "by": ["site"], "within": ["race"]}, "south, Black"),
        ({**BY_RACE, "by": ["site"], "within": {"race": "Black"}}, "south, Black"),
        ({**BY_RACE, "within": {"site": "south"}}, "Black, south"),
    ],
)
def test_a_subgroup_without_a_face_in_one_stratum_cannot_pass(
    no_black_face_in_the_south: Tally, rule: dict[str, Any], name: str
) -> None:
    found = verdict(no_black_face_in_the_south, **rule)
    assert found.outcome == "insufficient"
    assert f"{name}: none in the table" in found.explanation
    assert [dict(one) for one in found.small] == [{"site": "south", "race": "Black"}]
    assert found.n_needed is not None
    few = dict(zip(no_black_face_in_the_south.cells, [MANY_RIGHT] * 3, strict=True))
    some = verdict(faces_of((SITE, RACE), {**few, ("south", "Black"): (10, 9)}), **rule)
    assert (some.outcome, some.small) == (found.outcome, found.small)
    assert some.n_needed == found.n_needed


@pytest.mark.parametrize("subgroup", [{"site": "south"}, {"site": "south", "race": "Black"}])
def test_a_combination_without_a_face_can_be_excepted(
    no_black_face_in_the_south: Tally, subgroup: dict[str, str]
) -> None:
    rule = {**BETWEEN, "by": ["race"], "within": ["site"], "at_most": 0.1}
    exempt = {"subgroup": subgroup, **EXEMPT}
    assert verdict(no_black_face_in_the_south, **rule, exception=[exempt]).outcome == "pass"


def test_what_is_compared_must_be_in_every_stratum_also_of_plain_columns() -> None:
    places = [("A", "day"), ("B", "day"), ("A", "night")]
    counted = faces_of((SITE, CAMERA), dict.fromkeys(places, MANY_RIGHT))
    found = verdict(counted, **BETWEEN, within=["camera"], at_most=0.1)
    assert found.outcome == "insufficient"
    assert "B, night: none in the table" in found.explanation


def test_combinations_of_plain_columns_that_do_not_occur_are_not_asked_for() -> None:
    places = [("A", "1"), ("A", "2"), ("B", "3")]
    counted = faces_of((SITE, CAMERA), dict.fromkeys(places, MANY_RIGHT))
    assert verdict(counted, **{**WORST, "by": ["site", "camera"]}, at_least=0.8).outcome == "pass"
    of_one_site = {**BETWEEN, "by": ["camera"], "within": {"site": "A"}, "at_most": 0.1}
    assert verdict(counted, **of_one_site).outcome == "pass"


def test_every_combination_of_declared_classes_is_asked_for() -> None:
    places = [("White", "0-29"), ("Black", "0-29"), ("White", "30+")]
    counted = faces_of((RACE, AGES), dict.fromkeys(places, MANY_RIGHT))
    found = verdict(counted, **{**WORST, "by": ["race", "age_group"]}, at_least=0.8)
    assert (found.outcome, found.small) == (
        "insufficient",
        ({"race": "Black", "age_group": "30+"},),
    )


def test_a_declared_stratum_without_a_face_cannot_pass_and_is_told_once() -> None:
    counted = faces_of(
        (RACE, AGES), dict.fromkeys([("White", "30+"), ("Black", "30+")], MANY_RIGHT)
    )
    rule = {**BETWEEN, "by": ["race"], "within": ["age_group"], "at_most": 0.1}
    found = verdict(counted, **rule)
    assert (found.outcome, len(found.small)) == ("insufficient", 2)
    assert found.explanation == (
        "the interval keeps the limit, but not every subgroup could be judged; "
        "0-29: none in the table"
    )
    exempt = {"subgroup": {"age_group": "0-29"}, **EXEMPT}
    assert verdict(counted, **rule, exception=[exempt]).outcome == "pass"


def test_a_site_without_annotated_faces_cannot_pass() -> None:
    cells = {("A", "White"): MANY_RIGHT, ("A", "Black"): MANY_RIGHT, ("B", None): MANY_RIGHT}
    found = verdict(faces_of((SITE, RACE), cells), **BY_RACE, within=["site"])
    assert found.outcome == "insufficient"
    assert "White, B: none in the table; Black, B: none in the table" in found.explanation


def test_hundreds_of_rare_combinations_of_plain_columns_are_those_that_occur() -> None:
    cells = {(f"S{k % 41}", f"C{k % 13}"): (400, 390) for k in range(0, 533, 3)}
    found = verdict(
        faces_of((SITE, CAMERA), cells), **{**WORST, "by": ["site", "camera"]}, at_least=0.8
    )
    assert (found.outcome, found.small) == ("pass", ())


def test_an_exception_leaves_its_subgroup_out_until_it_expires() -> None:
    counted = sites([(400, 390), (400, 100)])
    exempt = {
        "subgroup": {"site": "S1"}, "approved_by": "the board", "reason": "new",
        "expires": DAY,
    }  # fmt: skip
    current = verdict(counted, **WORST, at_least=0.8, exception=[exempt])
    assert current.outcome == "pass"
    assert current.exemptions[0].current
    assert current.exemptions[0].covers == 1
    over = verdict(
        counted, **WORST, at_least=0.8, exception=[{**exempt, "expires": DAY - dt.timedelta(1)}]
    )
    assert over.outcome == "fail"
    assert not over.exemptions[0].current


def test_a_rule_whose_subgroups_are_all_excepted_does_not_pass() -> None:
    exempt = [
        {"subgroup": {"site": name}, "approved_by": "x", "reason": "y", "expires": DAY}
        for name in ("S0", "S1")
    ]
    found = verdict(sites([(400, 390), (400, 390)]), **WORST, at_least=0.8, exception=exempt)
    assert found.outcome == "insufficient"
    assert found.explanation == "every subgroup is excepted"


@pytest.mark.parametrize("expires", [DAY, DAY - dt.timedelta(1)])
def test_an_exception_for_a_site_that_left_the_table_changes_nothing_and_is_told(
    expires: dt.date,
) -> None:
    exempt = {"subgroup": {"site": "south"}, "approved_by": "x", "reason": "y", "expires": expires}
    found = verdict(sites([(400, 390), (400, 390)]), **WORST, at_least=0.8, exception=[exempt])
    assert (found.outcome, found.exemptions[0].covers) == ("pass", 0)
    unknown = {**exempt, "subgroup": {"race": "Blak"}}
    counted = faces_of((SITE, RACE), {("north", "White"): MANY_RIGHT})
    with pytest.raises(UsageError, match=r"no class of race .* is called 'Blak'"):
        verdict(counted, **BY_RACE, exception=[unknown])


def test_within_compares_inside_each_value_only(open_table: OpenTable) -> None:
    frame = pl.concat(
        [
            pl.DataFrame(
                {
                    "gender_true": ["Male"] * 300,
                    "gender_pred": ["Male"] * right + ["Female"] * (300 - right),
                    "site": [site] * 300,
                    "light": [light] * 300,
                }
            )
            for site, light, right in (
                ("A", "day", 290),
                ("B", "day", 288),
                ("A", "night", 200),
                ("B", "night", 196),
            )
        ]
    )
    table = open_table(frame)
    rule = {**BETWEEN, "at_most": 0.15}
    (each,), _ = find_verdicts(table, policy({**rule, "within": ["light"]}), replicates=100)
    assert each.outcome == "pass"
    assert each.value == pytest.approx(4 / 300)
    (pooled,), _ = find_verdicts(table, policy({**rule, "by": ["site", "light"]}), replicates=100)
    assert pooled.outcome == "fail"
    (night,), _ = find_verdicts(
        table, policy({**WORST, "at_least": 0.8, "within": {"light": "night"}}), replicates=100
    )
    assert night.outcome == "fail"
    assert night.value == pytest.approx(196 / 300)
