from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from faceaudit.leakage.conflicts import AgeLabels, ClassLabels, labels_of
from faceaudit.leakage.sets import ImageSet
from faceaudit.schema import Task, task_of_scheme


def image_set(name: str, columns: dict[str, list[object]], *tasks: Task) -> ImageSet:
    count = len(next(iter(columns.values())))
    return ImageSet(
        name,
        tuple(f"{k}.jpg" for k in range(count)),
        None,
        annotations=pl.DataFrame(columns),
        tasks={task.name: task for task in tasks},
    )


def test_classes_of_different_schemes_conflict_where_the_mapping_says_so() -> None:
    fine = image_set(
        "a",
        {"race_true": ["East Asian", "Latino_Hispanic", None]},
        task_of_scheme("race", "fairface7"),
    )
    coarse = image_set(
        "b", {"race_true": ["Asian", "White", "Others"]}, task_of_scheme("race", "utkface5")
    )
    found, notes = labels_of([fine, coarse])
    assert notes == ()
    race = found["race"]
    assert isinstance(race, ClassLabels)
    known, conflict = race.in_pairs(np.asarray([0, 1, 1, 2]), np.asarray([3, 4, 5, 5]))
    assert known.tolist() == [True, True, True, False]
    assert conflict.tolist() == [False, True, False, False]


def test_two_coarse_schemes_are_compared_in_the_finer_one_that_both_come_from() -> None:
    five = image_set("a", {"race_true": ["Others"]}, task_of_scheme("race", "utkface5"))
    four = image_set("b", {"race_true": ["White"]}, task_of_scheme("race", "fairface4"))
    found, _ = labels_of([five, four])
    _, conflict = found["race"].in_pairs(np.asarray([0]), np.asarray([1]))
    assert conflict.tolist() == [False]  # both may be Latino_Hispanic or Middle Eastern


def test_schemes_without_a_mapping_are_not_compared_and_it_is_said() -> None:
    own = image_set(
        "a", {"race_true": ["light", "dark"]}, Task("race", "custom", ("dark", "light"))
    )
    known = image_set("b", {"race_true": ["White"]}, task_of_scheme("race", "utkface5"))
    found, notes = labels_of([own, known])
    assert "race" not in found
    assert "no mapping joins the schemes custom and utkface5" in notes[0]


@pytest.mark.parametrize(
    ("years", "group", "gap"),
    [
        (25.0, "20-29", 0),
        (29.9, "20-29", 0),
        (31.0, "20-29", 2),
        (15.0, "70+", 55),
        (99.0, "70+", 0),
    ],
)
def test_an_age_and_an_age_group_conflict_where_no_year_is_common(
    years: float, group: str, gap: int
) -> None:
    found, _ = labels_of(
        [image_set("a", {"age_true": [years]}), image_set("b", {"age_group_true": [group]})]
    )
    age = found["age"]
    assert isinstance(age, AgeLabels)
    assert age.gaps(np.asarray([0]), np.asarray([1])).tolist() == [gap]
    assert age.in_pairs(np.asarray([0]), np.asarray([1]))[1].tolist() == [gap > 0]


def test_years_far_apart_are_told_from_years_that_differ() -> None:
    found, _ = labels_of([image_set("a", {"age_true": [20.0, 25.0, 40.0, 46.0, None]})])
    age, groups = found["age"], np.asarray([0, 0, 2, 2, 2])
    assert isinstance(age, AgeLabels)
    assert age.in_groups(groups).tolist() == [True] * 5
    assert age.in_groups(groups, within=5).tolist() == [False, False, True, True, True]


def test_sets_without_labels_have_none() -> None:
    assert labels_of([ImageSet("a", ("x.jpg",), None)]) == ({}, ())
