"""Choices of a recipe undone one at a time."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.ablations import (
    ABLATIONS,
    CONFLICTS,
    RECIPE,
    SHORT,
    WHOLE,
    changes_of,
    check_splits,
    file_name,
    finished,
    questions,
    run,
    same_images,
    table_of,
)
from benchmarks.paired_runs import TASKS, Comparison, collect, training_folder
from faceaudit.models.bundle import FACTS
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.splits import SPLITS
from tests.paired import finish


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name != WHOLE])
def test_every_ablation_is_a_recipe_of_its_own(name: str) -> None:
    whole = load_recipe(RECIPE, dict(SHORT))
    assert load_recipe(RECIPE, {**SHORT, **ABLATIONS[name]}) != whole
    assert file_name(name).replace("_", "").isalnum()


def test_the_table_marks_what_differs_beyond_chance() -> None:
    one = Comparison("mixup", "race", ("mixup",), (WHOLE,), 9, 2, 0.6, 0.7, -0.1, -0.2, -0.05, 0.0)
    rows = [
        replace(one, task=task, p_adjusted=p)
        for task, p in zip(TASKS, (0.01, 0.5, 1.0), strict=True)
    ]
    text = table_of(rows)
    assert text.count("-10.0 (-20.0 to -5.0)") == 3
    assert text.count(" *") == 1
    assert text.count("0.700") == 3
    assert " *" not in table_of([replace(row, seeds=1) for row in rows])


def trained(work: Path, name: str, seed: int, right: list[int], **changes: object) -> None:
    """A variant that is trained and tested, with changes that are not today's."""
    finish(work, file_name(name), seed, dict.fromkeys(TASKS, right))
    (work / f"{file_name(name)}-{seed}").mkdir()
    recipe = load_recipe(RECIPE, {**changes_of(name, seed), **changes})
    facts = json.dumps({"recipe": asdict(recipe)})
    (work / f"{file_name(name)}-{seed}" / FACTS).write_text(facts)


def test_variants_count_with_all_seeds_of_the_whole_recipe(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="the whole recipe and another must be finished"):
        finished(tmp_path)
    for seed in (0, 1):
        trained(tmp_path, WHOLE, seed, [1, 0])
    with pytest.raises(SystemExit, match="the whole recipe and another must be finished"):
        finished(tmp_path)
    trained(tmp_path, "mixup", 0, [1, 0])
    trained(tmp_path, "random weights", 0, [1, 0])
    trained(tmp_path, "random weights", 1, [1, 0])
    assert finished(tmp_path) == ([WHOLE, "random weights"], [0, 1])
    assert [one.text for one in questions([WHOLE, "random weights"])] == ["random weights"] * len(
        TASKS
    )


def test_images_that_only_a_variant_has_are_left_out(tmp_path: Path) -> None:
    trained(tmp_path, WHOLE, 0, [1, 0])
    trained(tmp_path, CONFLICTS, 0, [1, 1, 1])
    runs = [(file_name(name), 0) for name in (WHOLE, CONFLICTS)]
    right = same_images(collect(tmp_path, runs, "split", tmp_path / "right.parquet"))
    assert right.group_by("recipe").len()["len"].to_list() == [2, 2]


def test_variants_of_another_split_are_not_compared(tmp_path: Path) -> None:
    trained(tmp_path, WHOLE, 0, [1, 0])
    for name in (CONFLICTS, "mixup"):
        trained(tmp_path, name, 0, [1, 0, 1])
    check_splits(tmp_path, [WHOLE, CONFLICTS], [0])
    assert (training_folder(tmp_path, "mixup", 0) / SPLITS).is_file()
    with pytest.raises(SystemExit, match="mixup with seed 0 has another split"):
        check_splits(tmp_path, [WHOLE, "mixup"], [0])


def test_runs_of_another_recipe_are_neither_taken_for_finished_nor_compared(tmp_path: Path) -> None:
    trained(tmp_path, WHOLE, 0, [1, 0])
    trained(tmp_path, "mixup", 0, [1, 0], norms="folded")
    told = "mixup-0 was trained with another norms; remove it and mixup-0.training"
    with pytest.raises(SystemExit, match=told):
        run(tmp_path / "absent", tmp_path, [0], [WHOLE, "mixup"])
    with pytest.raises(SystemExit, match=told):
        check_splits(tmp_path, [WHOLE, "mixup"], [0])
