"""Tables and options that make no sense are refused: exit code 2 and one line that says why."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from faceaudit.schema import SCHEMES
from tests.bad_tables.conftest import (
    AGES,
    GENDER,
    PRED,
    ROWS,
    SCORES,
    TRUE,
    assert_one_line,
    repeated,
    typed,
)

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no_predictions": ({"image": ["a"], "gender_true": ["Male"]}, "no column ends in _pred"),
    "zero_rows": ({name: values[:0] for name, values in GENDER.items()}, "has no rows"),
    "contradictory_schemes": (
        {
            "race_true": ["Others"] * ROWS,
            **{f"race_prob_{name}": [0.25] * ROWS for name in SCHEMES["fairface4"]},
        },
        "predicted in fairface4 (White, Black, Asian, Indian) but annotated in utkface5",
    ),
    "contradictory_age_groups": (
        {"age_group_true": repeated("0-4", "5+"), "age_group_pred": repeated("0-2", "3-9")},
        "annotated in (0-4, 5+)",
    ),
    "two_codings": ({**GENDER, "gender_pred": repeated("M", "W")}, "no value of gender_pred"),
    "predictions_outside_the_scored_classes": (
        {**GENDER, **SCORES, "gender_pred": repeated("Herr", "Frau")},
        "is among the classes that are scored (Male, Female)",
    ),
    "scores_that_sum_to_more": (
        {**GENDER, "gender_prob_Male": [0.9] * ROWS, "gender_prob_Female": [0.9] * ROWS},
        "probabilities that sum to 1, such as 1.8",
    ),
    "scores_in_percent": (
        {**GENDER, "gender_prob_Male": [60.0] * ROWS, "gender_prob_Female": [40.0] * ROWS},
        "sum to 1, such as 100",
    ),
    "scores_that_are_no_numbers": (
        {**GENDER, **SCORES, "gender_prob_Male": ["high"] * ROWS},
        "no face's gender scores are probabilities",
    ),
    "scores_all_not_a_number": (
        {**GENDER, **SCORES, "gender_prob_Male": [math.nan] * ROWS},
        "no face's gender scores are probabilities",
    ),
    "scores_as_dates": (
        {**GENDER, **SCORES, "gender_prob_Male": [date(2020, 1, 1)] * ROWS},
        "gender_prob_Male is of type Date; give numbers",
    ),
    "scores_as_truth_values": (
        {**GENDER, "gender_prob_Male": [True] * ROWS, "gender_prob_Female": [False] * ROWS},
        "gender_prob_Male is of type Boolean; give numbers",
    ),
    "scores_as_lists_in_columns": (
        {**GENDER, **SCORES, "gender_prob_Male": [[0.6]] * ROWS},
        "gender_prob_Male is of type List(Float64); give numbers",
    ),
    "scores_as_a_bare_list": ({**GENDER, "gender_probs": [[0.6, 0.4]] * ROWS}, "--classes gender="),
    "scores_as_text": ({**GENDER, "gender_probs": ["{}"] * ROWS}, "give a struct with one field"),
    "scores_of_one_class": (
        {**GENDER, "gender_probs": [{"Male": 1.0}] * ROWS},
        "gender has scores for Male only",
    ),
    "scores_of_a_class_without_a_name": (
        {**GENDER, "gender_prob_": [1.0] * ROWS},
        "gender has scores for no class only",
    ),
    "scores_twice": (
        {**GENDER, **SCORES, "gender_probs": [{"Male": 0.1, "Female": 0.9}] * ROWS},
        "gender has scores twice",
    ),
    "classes_as_lists": ({**GENDER, "gender_pred": [["Male"]] * ROWS}, "give class names"),
    "classes_as_structs": ({**GENDER, "gender_true": [{"a": 1}] * ROWS}, "give class names"),
    "classes_as_bytes": ({**GENDER, "gender_true": [b"Male"] * ROWS}, "give class names"),
    "very_many_classes": (
        {"id_true": ["1"] * 150, "id_pred": [str(index) for index in range(150)]},
        "id_pred has 150 different values, too many for classes",
    ),
    "names_in_capitals": (
        {"Gender_True": TRUE, "Gender_Pred": PRED},
        "map it with --columns gender_true=Gender_True",
    ),
    "one_name_in_capitals": (
        {"Gender_true": TRUE, "gender_pred": PRED},
        "map it with --columns gender_true=Gender_true",
    ),
    "names_that_differ_in_blanks": ({**GENDER, "gender_true ": TRUE}, "one name but for blanks"),
    "images_as_lists": ({**GENDER, "image": [["a"]] * ROWS}, "give names of images"),
    "ages_as_words": ({**AGES, "age_true": ["young"] * ROWS}, "no value of age_true is an age"),
    "ages_as_dates": ({**AGES, "age_true": [date(1990, 1, 1)] * ROWS}, "age_true is of type Date"),
    "ages_as_durations": ({**AGES, "age_true": [timedelta(1)] * ROWS}, "is of type Duration"),
    "ages_as_truth_values": ({**AGES, "age_pred": [True] * ROWS}, "age_pred is of type Boolean"),
    "ages_as_lists": ({**AGES, "age_pred": [[3]] * ROWS}, "age_pred is of type List"),
    "ages_all_not_a_number": ({**AGES, "age_true": [math.nan] * ROWS}, "no value of age_true"),
    "ages_beyond_all_bounds": ({**AGES, "age_pred": [1e200] * ROWS}, "no value of age_pred"),
    "ages_as_groups": ({**AGES, "age_pred": ["20-29"] * ROWS}, "no value of age_pred is an age"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_cannot_be_right_is_refused_in_one_line(
    name: str, tmp_path: Path, run_report: Callable[..., tuple[int, str]]
) -> None:
    contents, message = REFUSED[name]
    path = tmp_path / f"{name}.parquet"
    pl.DataFrame(contents, strict=False).write_parquet(path)
    assert_one_line(run_report(path), message, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "site"], "no column to form subgroups by is called 'site'"),
        (["--by", "tags"], "'tags' is of type List(String); give a column of texts"),
        (["--by", "nothing"], "'nothing' has no value in any row"),
        (["--unit", "nothing"], "'nothing' has no value in any row"),
        (["--by", "blank"], "'blank' has no value in any row"),
        (["--within", "nan"], "'nan' has no value in any row"),
        (["--replicates", "1000000000"], "give at least 100 and at most 100000"),
        (["--unit", "tags"], "'tags' is of type List(String); give a column of texts"),
        (["--by", "image"], "'image' has 300 different values, too many for subgroups"),
        (["--columns", "race_pred=yhat"], "--columns names 'yhat', which is no column"),
        (["--columns", "gender_prd=gender_pred"], "gender_pred=gender_pred would be"),
        (["--columns", "gender_truth=blank"], "gender_true=blank would be"),
        (["--classes", "gender=Male,Male"], "two classes or more, each once"),
        (["--map", "race=utkface5"], "which is not predicted"),
    ],
)
def test_an_option_that_names_what_is_not_there_is_refused_in_one_line(
    options: list[str],
    message: str,
    tmp_path: Path,
    run_report: Callable[..., tuple[int, str]],
) -> None:
    frame = pl.DataFrame(
        {
            "image": [str(index) for index in range(300)],
            "gender_pred": ["Male"] * 300,
            "nothing": typed([None] * 300, pl.String),
            "blank": ["", " ", "  "] * 100,
            "nan": [math.nan] * 300,
            "tags": [["a"]] * 300,
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    assert_one_line(run_report(tmp_path / "t.parquet", *options), message, tmp_path)
