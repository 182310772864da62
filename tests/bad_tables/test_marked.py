"""Figures of bad tables are those of the rows that make sense; a note counts the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bad_tables.conftest import (
    AGES,
    GENDER,
    PRED,
    ROWS,
    SCORES,
    TRUE,
    facts_of,
    figures,
    repeated,
    typed,
)

MARKED: dict[str, tuple[dict[str, Any], dict[tuple[str, str, str | None], float | None], str]] = {
    "a_score_not_a_number": (
        {**GENDER, **SCORES, "gender_prob_Male": [math.nan, *[0.6] * 39]},
        {
            ("gender", "accuracy", None): 0.5,
            ("gender", "brier", None): (19 * 0.16 + 20 * 0.36) / 39,
        },
        "scores of 1 of 40 faces are missing, negative or not finite",
    ),
    "an_infinite_score": (
        {**GENDER, **SCORES, "gender_prob_Male": [math.inf, *[0.6] * 39]},
        {("gender", "brier", None): (19 * 0.16 + 20 * 0.36) / 39},
        "scores of 1 of 40 faces are missing, negative or not finite",
    ),
    "a_negative_score": (
        {
            **GENDER,
            "gender_prob_Male": [-0.5, *[0.6] * 39],
            "gender_prob_Female": [1.5, *[0.4] * 39],
        },
        {("gender", "brier", None): (19 * 0.16 + 20 * 0.36) / 39},
        "scores of 1 of 40 faces are missing, negative or not finite",
    ),
    "scores_that_do_not_sum_to_1": (
        {**GENDER, **SCORES, "gender_prob_Male": [0.9, *[0.6] * 39]},
        {("gender", "brier", None): (19 * 0.16 + 20 * 0.36) / 39},
        "scores of 1 of 40 faces do not sum to 1",
    ),
    "a_score_that_is_a_word": (
        {**GENDER, "gender_prob_Male": ["?", *["0.6"] * 39], "gender_prob_Female": ["0,4"] * ROWS},
        {("gender", "brier", None): (19 * 0.16 + 20 * 0.36) / 39},
        "scores of 1 of 40 faces are missing, negative or not finite",
    ),
    "scores_and_predictions_that_disagree": (
        {**GENDER, **SCORES},
        {("gender", "accuracy", None): 0.5},
        "for 20 of 40 faces (50.0%) the highest score belongs to another class",
    ),
    "a_class_that_is_never_seen": (
        {**GENDER, **SCORES, "gender_prob_Third": [0.0] * ROWS},
        {
            ("gender", "recall", "Third"): None,
            ("gender", "precision", "Third"): None,
            ("gender", "auc", "Third"): None,
            ("gender", "macro_auc", None): 0.5,
        },
        "",
    ),
    "one_class_alone": (
        {**GENDER, **SCORES, "gender_true": ["Male"] * ROWS, "gender_pred": ["Male"] * ROWS},
        {
            ("gender", "accuracy", None): 1.0,
            ("gender", "recall", "Female"): None,
            ("gender", "auc", "Male"): None,
            ("gender", "macro_auc", None): None,
            ("gender", "false_positive_rate", "Male"): None,
        },
        "",
    ),
    "one_class_in_the_whole_table": (
        {"mood_true": ["glad"] * ROWS, "mood_pred": ["glad"] * ROWS},
        {("mood", "accuracy", None): 1.0, ("mood", "macro_f1", None): 1.0},
        "",
    ),
    "no_labels_at_all": ({**GENDER, "gender_true": [None] * ROWS}, {}, ""),
    "labels_of_type_null": ({**GENDER, "gender_true": typed([None] * ROWS, pl.Null)}, {}, ""),
    "no_prediction_at_all": (
        {**GENDER, "gender_pred": [None] * ROWS},
        {("gender", "accuracy", None): None, ("gender", "recall", "Male"): None},
        "",
    ),
    "all_rows_failed": (
        {**GENDER, "status": ["no_face"] * ROWS, "gender_pred": [None] * ROWS},
        {("gender", "accuracy", None): None},
        "",
    ),
    "predictions_of_failed_rows": (
        {**GENDER, **SCORES, "status": repeated("ok", "no_face")},
        {("gender", "accuracy", None): 0.5, ("gender", "brier", None): 0.16},
        "20 rows have a prediction although their status is not ok",
    ),
    "statuses_that_are_none": (
        {**GENDER, "status": repeated("done", "failed")},
        {("gender", "accuracy", None): 0.5},
        "The column status holds",
    ),
    "a_stray_class": (
        {**GENDER, **SCORES, "gender_true": ["femle", *TRUE[1:]]},
        {("gender", "accuracy", None): 19 / 39},
        "1 of 40 values of gender_true are not among its classes ('femle')",
    ),
    "classes_in_other_letters": (
        {**GENDER, "gender_true": repeated("male", "FEMALE", "Male ", " Female")},
        {("gender", "accuracy", None): 0.5, ("gender", "recall", "Male"): 0.5},
        "gender: 'male' was read as 'Male'",
    ),
    "classes_of_no_scheme_in_other_letters": (
        {"mood_true": repeated("Sad", "glad"), "mood_pred": repeated("sad", "glad")},
        {("mood", "accuracy", None): 1.0},
        "was read as",
    ),
    "classes_with_invisible_marks": (
        {**GENDER, "gender_true": repeated("Male\u200b", "\ufeffFemale", "Male\u00a0", "Female")},
        {("gender", "accuracy", None): 0.5, ("gender", "recall", "Female"): 0.5},
        "was read as 'Male'",
    ),
    "letters_composed_differently": (
        {"name_true": repeated("Andre\u0301", "B"), "name_pred": repeated("Andr\u00e9", "B")},
        {("name", "accuracy", None): 1.0},
        "was read as",
    ),
    "words_for_missing_values": (
        {
            **GENDER,
            "gender_true": repeated("NA", *TRUE[1:4]),
            "gender_pred": repeated(*PRED[:3], "nan"),
        },
        {("gender", "accuracy", None): 0.0},
        "10 of 40 values of gender_true ('NA') were taken as missing",
    ),
    "truth_values_as_classes": (
        {"smile_true": repeated(True, False), "smile_pred": [True] * ROWS},
        {("smile", "accuracy", None): 0.5, ("smile", "recall", "true"): 1.0},
        "",
    ),
    "dates_as_classes": (
        {
            "day_true": [date(2020, 1, 1)] * ROWS,
            "day_pred": repeated(date(2020, 1, 1), date(2021, 1, 1)),
        },
        {("day", "accuracy", None): 0.5},
        "",
    ),
    "numbers_of_two_types_as_classes": (
        {"x_true": repeated(0.0, 1.0), "x_pred": typed(repeated(0, 0), pl.UInt8)},
        {("x", "accuracy", None): 0.5, ("x", "recall", "0"): 1.0},
        "",
    ),
    "numbers_that_are_no_integers_as_classes": (
        {"x_true": repeated(math.inf, 1e300, 0.5, math.nan), "x_pred": [0.5] * ROWS},
        {("x", "accuracy", None): 1 / 3},
        "",
    ),
    "enumerations_in_another_order": (
        {
            "gender_true": typed(TRUE, pl.Enum(["Male", "Female"])),
            "gender_pred": typed(PRED, pl.Enum(["Female", "Male"])),
        },
        {("gender", "accuracy", None): 0.5, ("gender", "recall", "Male"): 0.5},
        "",
    ),
    "blanks_around_a_name": (
        {"gender_true ": TRUE, " gender_pred": PRED},
        {("gender", "accuracy", None): 0.5},
        "",
    ),
    "ages_of_mixed_types": (
        {**AGES, "age_true": repeated("30", " 30 ", "n/a", "", "30,0")},
        {("age", "mae", None): 2.0},
        "8 of 32 values of age_true are no age in years",
    ),
    "extreme_ages": (
        {**AGES, "age_true": [1e308, -5.0, 1987.0, math.inf, *[30.0] * 36]},
        {("age", "mae", None): 2.0},
        "4 of 40 values of age_true are no age in years",
    ),
    "extreme_predicted_ages": (
        {**AGES, "age_pred": [1e200, -math.inf, math.nan, *[32.0] * 37]},
        {("age", "mae", None): 2.0, ("age", "rmse", None): 2.0},
        "3 of 40 values of age_pred are no age in years",
    ),
    "ages_as_small_unsigned_integers": (
        {"age_true": typed([31] * ROWS, pl.UInt8), "age_pred": typed([30] * ROWS, pl.UInt8)},
        {("age", "mae", None): 1.0, ("age", "mean_signed_error", None): -1.0},
        "",
    ),
    "images_without_a_name": (
        {**GENDER, "image": [None] * ROWS},
        {("gender", "accuracy", None): 0.5},
        "",
    ),
    "an_image_twice": (
        {**GENDER, "image": ["0.jpg", *GENDER["image"][:-1]], "face": [0] * ROWS},
        {("gender", "accuracy", None): 0.5},
        "1 of 40 rows repeat the image and face of another row",
    ),
    "a_row_twice": (
        {name: [values[0], *values[:-1]] for name, values in GENDER.items()},
        {},
        "1 of 40 rows repeat every value of another row",
    ),
    "columns_named_as_ours": (
        {**GENDER, "_feature_0": repeated("a", "b"), "_unit": repeated("c"), "rows": repeated(1)},
        {("gender", "accuracy", None): 0.5},
        "",
    ),
    "a_class_with_a_line_break_and_a_null": (
        {"x_true": repeated("a\nb", "c\0d"), "x_pred": ["a\nb"] * ROWS},
        {("x", "accuracy", None): 0.5},
        "",
    ),
    "a_single_row": (
        {name: values[:1] for name, values in {**GENDER, **SCORES, **AGES}.items()},
        {
            ("gender", "accuracy", None): 1.0,
            ("gender", "macro_auc", None): None,
            ("age", "mae", None): 2.0,
        },
        "",
    ),
}


@pytest.mark.parametrize("name", MARKED)
def test_what_is_left_of_a_bad_table_is_right_and_the_rest_is_told(
    name: str, tmp_path: Path
) -> None:
    contents, expected, note = MARKED[name]
    path = tmp_path / "t.parquet"
    pl.DataFrame(contents, strict=False).write_parquet(path)
    facts = facts_of(path, formats=["html", "json"])
    values = {
        (one["task"], one["metric"], one.get("class")): one["value"]
        for one in facts["metrics"]
        if not one["subgroup"]
    }
    for place, value in expected.items():
        assert values[place] == (None if value is None else pytest.approx(value)), place
    if not expected:
        assert all(value is None for value in values.values()) or "twice" in name
    if note:
        assert any(note in one for one in facts["notes"]), facts["notes"]
    if facts["verification"]:
        assert facts["verification"]["largest_difference"] < 1e-9


def test_images_without_a_name_count_one_by_one(tmp_path: Path) -> None:
    pl.DataFrame({**GENDER, "image": [None] * ROWS}).write_parquet(tmp_path / "t.parquet")
    coverage = facts_of(tmp_path / "t.parquet", by=[])["coverage"]
    assert [one["images"] for one in coverage if not one["subgroup"]] == [ROWS]


DAMAGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "label missing": lambda row: row.update(gender_true=None),
    "label stray": lambda row: row.update(gender_true="?"),
    "label called NA": lambda row: row.update(gender_true="NA"),
    "prediction missing": lambda row: row.update(gender_pred=None),
    "score not a number": lambda row: row.update(gender_prob_Male=math.nan),
    "score missing": lambda row: row.update(gender_prob_Female=None),
    "scores negative": lambda row: row.update(gender_prob_Male=-1.0, gender_prob_Female=2.0),
    "age infinite": lambda row: row.update(age_true=math.inf),
    "age of birth": lambda row: row.update(age_true=1990.0),
    "predicted age not a number": lambda row: row.update(age_pred=math.nan),
    "nothing": lambda row: None,
}


@given(
    damages=st.lists(st.sampled_from(list(DAMAGES)), min_size=12, max_size=40),
    seed=st.integers(0, 10**6),
)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_cells_change_no_figure_of_the_others(
    tmp_path: Path, damages: list[str], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for damage in ["nothing"] * 2 + damages:
        male = float(generator.random())
        row = {
            "gender_true": str(generator.choice(["Male", "Female"])),
            "gender_pred": "Male" if male > 0.5 else "Female",
            "gender_prob_Male": male,
            "gender_prob_Female": 1 - male,
            "age_true": float(generator.integers(0, 90)),
            "age_pred": float(generator.normal(40, 20)),
        }
        DAMAGES[damage](row)
        rows.append(row)
    path = tmp_path / "t.parquet"
    pl.DataFrame(rows, strict=False).write_parquet(path)
    values = figures(path, by=[], verify="never")

    classes = {"Male", "Female"}
    both = [row for row in rows if {row["gender_true"], row["gender_pred"]} <= classes]
    right = [row["gender_true"] == row["gender_pred"] for row in both]
    expected = {("gender", "accuracy", None): np.mean(right) if right else None}
    losses = [
        (1 - row[f"gender_prob_{row['gender_true']}"]) ** 2
        for row in rows
        if row["gender_true"] in classes
        and (row["gender_prob_Male"] or math.nan) >= 0
        and (row["gender_prob_Female"] or math.nan) >= 0
    ]
    expected["gender", "brier", None] = np.mean(losses) if losses else None
    errors = [
        abs(row["age_pred"] - row["age_true"])
        for row in rows
        if row["age_true"] <= 130 and math.isfinite(row["age_pred"])
    ]
    expected["age", "mae", None] = np.mean(errors) if errors else None
    for place, value in expected.items():
        assert values[place] == (None if value is None else pytest.approx(value)), place
