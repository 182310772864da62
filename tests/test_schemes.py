"""Schemes: named where they are known, joined only by a mapping that can be shown."""

from __future__ import annotations

import pytest

from faceaudit.errors import SchemaError
from faceaudit.schema import AGE_GROUP, SCHEME_MAPS, age_group_task, task_of_scheme
from faceaudit.schemes import agree, coarsening, named_task, schemes_with, task_of_values

FAIRFACE = task_of_scheme("race", "fairface7")
UTKFACE = task_of_scheme("race", "utkface5")
FOUR = task_of_scheme("race", "fairface4")


@pytest.mark.parametrize("pair", SCHEME_MAPS)
def test_every_mapping_covers_both_schemes(pair: tuple[str, str]) -> None:
    source, target = (task_of_scheme("race", name) for name in pair)
    found = coarsening(source, target)
    assert found is not None
    assert set(found.classes) == set(source.classes)
    assert set(found.classes.values()) == set(target.classes)
    assert all(name in found.sentence for name in [*source.classes, *target.classes])


def test_equal_names_of_different_schemes_are_not_pooled() -> None:
    # White of fairface4 includes Latino_Hispanic and Middle Eastern; White of utkface5 does not.
    assert coarsening(FOUR, UTKFACE) is None
    with pytest.raises(SchemaError, match=r"predicted in utkface5 .* annotated in fairface4"):
        agree(UTKFACE, ["White"], declared=FOUR, wanted=None, where="t")


def test_annotations_in_five_races_meet_four_predicted_ones_only_where_asked_for() -> None:
    with pytest.raises(SchemaError, match=r"annotated in utkface5 .*; coarsen with --map race=fa"):
        agree(FOUR, ["White", "Others"], declared=UTKFACE, wanted=None, where="t")
    for predicted in (FOUR, FAIRFACE):
        found = agree(predicted, ["White", "Others"], declared=UTKFACE, wanted=FOUR, where="t")
        assert found.task == FOUR
        assert found.annotated is not None
        assert found.annotated.left_out == ("Others",)
        assert found.annotated.sentence.endswith("Indian → Indian; left out: Others")
    # No prediction is lost that way: five predicted races are not brought to four.
    with pytest.raises(SchemaError, match="known: none"):
        agree(UTKFACE, ["White"], declared=FOUR, wanted=FOUR, where="t")


def test_classes_in_another_order_are_the_named_scheme() -> None:
    assert named_task("race", list(reversed(UTKFACE.classes))) == UTKFACE
    assert named_task("race", ["a", "b"]).scheme == "custom"
    assert named_task(AGE_GROUP, ["0-17", "18+"]) == age_group_task((0, 18))


def test_values_find_the_smallest_scheme_that_holds_them() -> None:
    assert [task.scheme for task in schemes_with("race", ["Asian"])] == ["fairface4", "utkface5"]
    assert task_of_values("race", ["White"], ["Others"]) == UTKFACE
    assert task_of_values("race", ["East Asian"], ["Others"]) == FAIRFACE


def test_age_groups_of_values_are_in_the_order_of_age() -> None:
    found = task_of_values(AGE_GROUP, ["100+", "20-99", "0-4", "5-19"], [])
    assert found.classes == ("0-4", "5-19", "20-99", "100+")


def test_age_groups_merge_only_at_their_own_bounds() -> None:
    fine = age_group_task((0, 10, 20, 30))
    found = coarsening(fine, age_group_task((0, 20)))
    assert found is not None
    assert list(found.classes.values()) == ["0-19", "0-19", "20+", "20+"]
    assert coarsening(fine, age_group_task((0, 18))) is None


def test_a_mapping_on_request_must_be_known() -> None:
    with pytest.raises(SchemaError, match="known: none"):
        agree(UTKFACE, [], declared=None, wanted=FOUR, where="t")
