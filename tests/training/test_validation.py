"""What is told of every epoch: accuracies over all and the lowest of a subgroup."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from faceaudit.training import validation as module
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.validation import FEWEST, validate

NETWORK: Any = None  # what predicts is replaced
CROPS: Any = None


def told(
    monkeypatch: pytest.MonkeyPatch, labels: dict[str, Any], logits: dict[str, Any]
) -> dict[str, float]:
    """The figures of an epoch where the network said this."""
    recipe = load_recipe("reference/dj_custom_cnn")
    arrays = {name: np.asarray(values, np.int64) for name, values in labels.items()}
    monkeypatch.setattr(module, "predict_logits", lambda *_: (logits, arrays))
    return validate(NETWORK, recipe, CROPS, 100)


def logits_of(rows: list[int], classes: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.eye(classes, dtype=np.float32)[rows] * 5


def test_the_lowest_accuracy_is_that_of_the_worst_subgroup_that_is_large_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = [40, 50, FEWEST - 1, 6]
    gender = np.repeat([0, 1, 1, 0], sizes)
    race = np.repeat([0, 1, 2, -1], sizes)  # the last are not annotated
    said = gender.copy()
    said[:10] = 1  # 10 of 40 are wrong
    said[90:] = 1 - gender[90:]  # all of too few, and of those that are in no subgroup
    years = np.full(len(gender), 30)
    found = told(
        monkeypatch,
        {"gender": gender, "race": race, "age_low": years, "age_high": years},
        {
            "gender": logits_of(said.tolist(), 2),
            "race": logits_of(race.tolist(), 5),
            "age": logits_of([2] * len(gender), 5),
        },
    )
    assert found["gender"] == pytest.approx(80 / 125)
    assert found["gender_lowest"] == pytest.approx(0.75)
    assert (found["race"], found["race_lowest"]) == (1, 1)
    assert (found["age_group"], found["age_group_lowest"]) == (1, 1)


def test_without_a_subgroup_that_is_large_enough_no_lowest_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [k % 2 for k in range(8)]
    found = told(
        monkeypatch,
        {"gender": rows, "race": [-1] * 8, "age_low": [-1] * 8, "age_high": [-1] * 8},
        {"gender": logits_of(rows, 2), "race": logits_of(rows, 5), "age": logits_of(rows, 5)},
    )
    assert found["gender"] == 1
    assert not {"gender_lowest", "race", "race_lowest", "age_group"} & found.keys()
