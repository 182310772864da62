"""Tables of predictions: what is read, what is refused, what is said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceaudit.errors import InputError, LabelError, SchemaError
from faceaudit.schema import (
    METADATA_KEY,
    SCHEMES,
    TableMetadata,
    task_of_scheme,
)
from faceaudit.tables import PredictionTable, read_table
from faceaudit.tables.part import rows_where
from faceaudit.tables.read import ONLY_SCORED

FAIRFACE = task_of_scheme("race", "fairface7")
GENDER = task_of_scheme("gender", "gender2")


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., PredictionTable]:
    """Write columns to a file and open it."""

    def written_and_read(
        contents: dict[str, Any], name: str = "table.parquet", **options: Any
    ) -> PredictionTable:
        frame, path = pl.DataFrame(contents, strict=False), tmp_path / name
        if path.suffix == ".csv":
            frame.write_csv(path)
        else:
            frame.write_parquet(path)
        return read_table(path, **options)

    return written_and_read


def rows_of_table(table: PredictionTable) -> pl.DataFrame:
    return table.frame.collect()


def write_with_metadata(path: Path, frame: pl.DataFrame, metadata: TableMetadata) -> None:
    arrow = frame.to_arrow()
    pq.write_table(arrow.replace_schema_metadata({METADATA_KEY: metadata.to_json().encode()}), path)


def seven(**scores: float) -> dict[str, float]:
    rest = (1 - sum(scores.values())) / (7 - len(scores))
    return {name: scores.get(name.replace(" ", "_"), rest) for name in FAIRFACE.classes}


# --- rows in the middle -----------------------------------------------------------------------


def reads_a_range_alone(table: PredictionTable) -> bool:
    """Whether polars hands a range of rows down to the files, with its beginning."""
    plan = table.frame.select(table.tasks[0].pred_column).slice(3, 2).explain()
    return "SLICE: Positive { offset: 3, len: 2 }" in plan and "FILTER" not in plan


@pytest.mark.parametrize(
    "columns",
    [
        {"image": list("abcdefg")},
        {"image": ["a", None, *"cdefg"]},
        {},
        {"status": ["ok", "no_face", *["ok"] * 5]},
        {"gender_true": [" Male ", "female", *["Female"] * 5]},
        {"gender_prob_Male": [0.9, 0.8, *[1.0] * 5], "gender_prob_Female": [0.1, 0.9, *[0.0] * 5]},
    ],
)
def test_a_range_of_rows_of_a_parquet_table_is_read_without_the_others(
    read: Callable[..., PredictionTable], columns: dict[str, Any]
) -> None:
    table = read({"gender_pred": ["Male", "Female", *["Male"] * 5], **columns})
    assert table.sliceable
    assert reads_a_range_alone(table)
    whole = rows_of_table(table)
    assert table.frame.slice(3, 2).collect().equals(whole.slice(3, 2))


def test_a_range_that_needs_the_rows_before_it_is_not_asked_for(
    read: Callable[..., PredictionTable], tmp_path: Path
) -> None:
    columns = {"image": list("abcdefg"), "gender_pred": ["Male", *["Female"] * 6]}
    labels = pl.DataFrame({"image": ["a", "b"], "gender_true": ["Male", "Female"]})
    joined = read(columns, labels=labels)
    filtered = rows_where(read(columns), pl.col("image") != "b")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for number, dtype in enumerate((pl.String, pl.Categorical)):
        part = pl.DataFrame(columns).with_columns(pl.col("gender_pred").cast(dtype))
        part.write_parquet(mixed / f"part-{number}.parquet")
    for table in (joined, filtered, read_table(mixed), read(columns, "table.csv")):
        assert not table.sliceable
    assert not reads_a_range_alone(joined)
    assert not reads_a_range_alone(filtered)


# --- what is read -----------------------------------------------------------------------------


def test_a_pair_of_columns_is_a_task(read: Callable[..., PredictionTable]) -> None:
    table = read({"mood_true": ["sad", "glad", "sad"], "mood_pred": ["sad", "sad", None]})
    assert [(task.name, task.classes) for task in table.tasks] == [("mood", ("glad", "sad"))]
    assert table.annotated == {"mood"}
    assert table.scored == frozenset()
    assert table.images == table.rows == 3


def test_values_of_a_known_scheme_get_its_classes(read: Callable[..., PredictionTable]) -> None:
    table = read({"gender_true": ["Male"], "gender_pred": ["Male"]})
    assert table.tasks == (GENDER,)


def test_a_csv_reads_like_parquet(read: Callable[..., PredictionTable]) -> None:
    columns = {
        "race_true": ["White", "Others"],
        "race_pred": ["White", "Black"],
        "age_true": [3, 40],
        "age_pred": [4.5, 38.0],
    }
    tables = [read(columns, name) for name in ("t.csv", "t.parquet")]
    assert tables[0].tasks == tables[1].tasks
    chosen = ["race_true", "race_pred", "age_true", "age_pred", "age_group_true", "status"]
    assert rows_of_table(tables[0]).select(chosen).equals(rows_of_table(tables[1]).select(chosen))


def test_whole_numbers_are_classes_whatever_their_type(
    read: Callable[..., PredictionTable],
) -> None:
    table = read({"gender_true": [0.0, 1.0, None], "gender_pred": [0, 1, 1]})
    assert table.tasks[0].classes == ("0", "1")
    assert rows_of_table(table)["gender_true"].to_list() == ["0", "1", None]


def test_scores_are_read_from_struct_columns_and_list(
    read: Callable[..., PredictionTable],
) -> None:
    true = {"gender_true": ["Male", "Female"], "gender_pred": ["Male", "Female"]}
    forms: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"gender_probs": [{"Male": 0.75, "Female": 0.25}, {"Male": 0.5, "Female": 0.5}]}, {}),
        ({"gender_prob_Male": [0.75, 0.5], "gender_prob_Female": [0.25, 0.5]}, {}),
        (
            {"gender_probs": [[0.75, 0.25], [0.5, 0.5]]},
            {"classes": {"gender": ["Male", "Female"]}},
        ),
    ]
    for scores, options in forms:
        table = read({**true, **scores}, **options)
        rows = rows_of_table(table)
        assert table.scored == {"gender"}
        assert rows["gender_prob_Male"].to_list() == [0.75, 0.5]
        assert rows["gender_prob_Female"].to_list() == [0.25, 0.5]


def test_predictions_come_from_scores_where_there_are_none(
    read: Callable[..., PredictionTable],
) -> None:
    table = read({"gender_prob_Male": [0.2, 0.5], "gender_prob_Female": [0.8, 0.5]})
    assert rows_of_table(table)["gender_pred"].to_list() == ["Female", "Male"]


def test_columns_are_mapped(read: Callable[..., PredictionTable]) -> None:
    table = read(
        {"y": ["Male"], "yhat": ["Female"]},
        columns={"gender_true": "y", "gender_pred": "yhat"},
    )
    assert table.annotated == {"gender"}


def test_columns_are_swapped_but_none_is_named_twice(read: Callable[..., PredictionTable]) -> None:
    swapped = {"gender_pred": "gender_true", "gender_true": "gender_pred"}
    table = read({"gender_true": ["Male"], "gender_pred": ["Female"]}, columns=swapped)
    assert rows_of_table(table).select("gender_true", "gender_pred").row(0) == ("Female", "Male")
    with pytest.raises(SchemaError, match="one column twice"):
        read({"y": ["Male"]}, columns={"gender_true": "y", "gender_pred": "y"})


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_csv_may_have_another_separator(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "t.csv"
    pl.DataFrame({"image": ["a"], "gender_pred": ["Male"]}).write_csv(path, separator=separator)
    assert rows_of_table(read_table(path))["gender_pred"].to_list() == ["Male"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,gender_pred\na,Male\n".encode("utf-16"), "not UTF-8"),
        (b"gender_pred,gender_pred\nMale,Female\n", "'gender_pred' occurs more than once"),
    ],
)
def test_a_csv_with_another_header_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_parts_with_other_columns_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"gender_pred": ["Male"], "x": [1]}).write_parquet(tmp_path / "part-0.parquet")
    pl.DataFrame({"gender_pred": ["Male"]}).write_parquet(tmp_path / "part-1.parquet")
    with pytest.raises(SchemaError, match=r"'x' is missing in part-1.parquet but Int64 in part-0"):
        read_table(tmp_path)


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    metadata = TableMetadata(tasks=(GENDER,))
    for index, name in enumerate(["Male", "Female"]):
        frame = pl.DataFrame({"image": [f"{index}"], "status": ["ok"], "gender_pred": [name]})
        write_with_metadata(tmp_path / f"part-{index}.parquet", frame, metadata)
    table = read_table(tmp_path)
    assert table.rows == 2
    assert table.metadata == metadata
    assert rows_of_table(table)["gender_pred"].to_list() == ["Male", "Female"]


def test_parts_of_different_models_are_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"image": ["a"], "status": ["ok"], "race_pred": ["White"]})
    for index, scheme in enumerate(["fairface7", "utkface5"]):
        metadata = TableMetadata(tasks=(task_of_scheme("race", scheme),))
        write_with_metadata(tmp_path / f"part-{index}.parquet", frame, metadata)
    with pytest.raises(SchemaError, match="different tasks"):
        read_table(tmp_path)


def test_a_row_without_any_prediction_is_not_scored(
    read: Callable[..., PredictionTable],
) -> None:
    table = read({"gender_pred": ["Male", None]})
    assert rows_of_table(table)["status"].to_list() == ["ok", "not_scored"]


def test_what_subgroups_can_be_formed_by(read: Callable[..., PredictionTable]) -> None:
    table = read({"gender_prob_Male": [0.2], "gender_prob_Female": [0.8], "site": ["A"]})
    assert "site" in table.features
    assert "gender_prob_Male" not in table.features


# --- ages -------------------------------------------------------------------------------------


def test_age_groups_come_from_years(read: Callable[..., PredictionTable]) -> None:
    table = read({"age_true": [2.9, 3.0, 116.0], "age_pred": [-1.0, 9.99, 70.0]})
    rows = rows_of_table(table)
    assert rows["age_group_true"].to_list() == ["0-2", "3-9", "70+"]
    assert rows["age_group_pred"].to_list() == ["0-2", "3-9", "70+"]


def test_age_bins_merge_predicted_groups_and_their_scores(
    read: Callable[..., PredictionTable],
) -> None:
    table = read(
        {
            "age_true": [1.0, 25.0],
            "age_group_pred": ["20-29", "20-29"],
            "age_group_probs": [
                {"0-2": 0.3, "3-19": 0.3, "20-29": 0.4, "30+": 0.0},
                {"0-2": 0.0, "3-19": 0.1, "20-29": 0.5, "30+": 0.4},
            ],
        },
        age_bins=(0, 20),
    )
    rows = rows_of_table(table)
    assert table.tasks[0].classes == ("0-19", "20+")
    assert rows["age_group_pred"].to_list() == ["0-19", "20+"]
    assert rows["age_group_prob_20+"].to_list() == pytest.approx([0.4, 0.9])
    assert rows["age_group_true"].to_list() == ["0-19", "20+"]
    assert any("0-2 + 3-19 → 0-19" in note for note in table.notes)


def test_age_bins_between_the_predicted_bounds_are_refused(
    read: Callable[..., PredictionTable],
) -> None:
    with pytest.raises(SchemaError, match="--age-bins"):
        read({"age_true": [1.0], "age_group_pred": ["3-9"]}, age_bins=(0, 5))


def test_age_bins_form_annotated_groups_from_years(
    read: Callable[..., PredictionTable],
) -> None:
    table = read(
        {"age_true": [25.0], "age_group_true": ["20-29"], "age_pred": [21.0]}, age_bins=(0, 18, 65)
    )
    rows = rows_of_table(table)
    assert rows["age_group_true"].to_list() == ["18-64"]
    assert rows["age_group_pred"].to_list() == ["18-64"]


def test_groups_without_a_year_that_other_bins_lose_are_counted(
    read: Callable[..., PredictionTable],
) -> None:
    ages = {"age_true": [25.0, None, None], "age_group_true": ["20-29", "3-9", None]}
    table = read({**ages, "age_pred": [21.0, 4.0, 5.0]}, age_bins=(0, 18, 65))
    assert rows_of_table(table)["age_group_true"].to_list() == ["18-64", None, None]
    assert table.notes == (
        "age_group_true was formed anew from age_true; 1 rows that have an age group but no "
        "age_true are left without one.",
        ONLY_SCORED,
    )


def test_years_outside_their_annotated_group_are_counted(
    read: Callable[..., PredictionTable],
) -> None:
    ages = {"age_true": [25.0, 40.0, None], "age_group_true": ["20-29", "3-9", "0-2"]}
    table = read({**ages, "age_group_pred": ["20-29"] * 3})
    assert rows_of_table(table)["age_group_true"].to_list() == ["20-29", "3-9", "0-2"]
    note, _ = table.notes  # the other is of a table without statuses
    assert note.startswith("In 1 of 2 rows with both, age_true lies outside age_group_true")


def test_years_that_are_joined_replace_older_groups(read: Callable[..., PredictionTable]) -> None:
    labels = pl.DataFrame({"image": ["a", "b"], "age_true": [25.0, 40.0]})
    rows = {"image": ["a", "b"], "age_group_true": ["3-9", "40-49"]}
    table = read({**rows, "age_group_pred": ["20-29", "40-49"]}, labels=labels)
    assert rows_of_table(table)["age_group_true"].to_list() == ["20-29", "40-49"]


def test_predicted_years_are_grouped_as_the_annotations_are(
    read: Callable[..., PredictionTable],
) -> None:
    table = read({"age_group_true": ["15-25", "61+"], "age_pred": [14.0, 90.0]})
    assert table.task("age_group").scheme == "dj5"
    assert rows_of_table(table)["age_group_pred"].to_list() == ["0-14", "61+"]


def test_annotated_age_groups_that_are_wider_merge_the_predicted(
    read: Callable[..., PredictionTable],
) -> None:
    table = read(
        {
            "age_group_true": ["0-14", "15-25"],
            "age_group_probs": [
                {"0-9": 0.3, "10-14": 0.3, "15-25": 0.4, "26-40": 0, "41-60": 0, "61+": 0},
                {"0-9": 0.0, "10-14": 0.1, "15-25": 0.9, "26-40": 0, "41-60": 0, "61+": 0},
            ],
        }
    )
    assert table.tasks[0].scheme == "dj5"
    assert rows_of_table(table)["age_group_pred"].to_list() == ["0-14", "15-25"]


def test_ages_that_are_none_are_left_out_and_counted(
    read: Callable[..., PredictionTable],
) -> None:
    table = read({"age_true": ["3", "old", "-1"], "age_pred": [3.0, 4.0, float("nan")]})
    assert rows_of_table(table)["age_true"].to_list() == [3.0, None, None]
    assert [note.split(" ")[0] for note in table.notes] == ["2", "1"]


def test_annotated_years_of_birth_are_no_ages(read: Callable[..., PredictionTable]) -> None:
    table = read({"age_true": [1987.0, 36.0], "age_pred": [36.0, 1987.0]})
    assert rows_of_table(table)["age_true"].to_list() == [None, 36.0]
    assert rows_of_table(table)["age_pred"].to_list() == [36.0, 1987.0]


def test_ages_are_read_from_text_and_not_from_dates(read: Callable[..., PredictionTable]) -> None:
    table = read({"age_true": [" 3", "4 "], "age_pred": [3.0, 4.0]})
    assert rows_of_table(table)["age_true"].to_list() == [3.0, 4.0]
    for value in (date(2000, 1, 1), True):
        with pytest.raises(SchemaError, match="give numbers"):
            read({"age_true": [value], "age_pred": [3.0]})


# --- schemes ----------------------------------------------------------------------------------


def test_predictions_are_coarsened_to_the_annotated_scheme(
    read: Callable[..., PredictionTable],
) -> None:
    # White was predicted, though the two Asian classes together have a higher score.
    scores = seven(White=0.4, East_Asian=0.3, Southeast_Asian=0.3)
    table = read(
        {"race_true": ["Asian", "Others"], "race_pred": ["White"] * 2, "race_probs": [scores] * 2}
    )
    rows = rows_of_table(table)
    assert table.task("race") == task_of_scheme("race", "utkface5")
    assert rows["race_pred"].to_list() == ["White", "White"]
    assert rows["race_prob_Asian"].to_list() == pytest.approx([0.6, 0.6])
    assert not any("East Asian" in name for name in rows.columns)
    (note,) = [note for note in table.notes if "East Asian + Southeast Asian → Asian" in note]
    assert note.endswith(
        "Probabilities were summed; a face keeps the class that race_pred names, also where "
        "another has a higher sum."
    )


def test_wider_age_groups_make_no_predictions_of_rows_without_one(
    read: Callable[..., PredictionTable],
) -> None:
    scores = [{"0-2": 0.1, "3-19": 0.4, "20+": 0.5}] * 2
    table = read(
        {"age_true": [1.0, 4.0], "age_group_pred": ["20+", None], "age_group_probs": scores},
        age_bins=(0, 3),
    )
    assert rows_of_table(table)["age_group_pred"].to_list() == ["3+", None]


def test_predictions_without_scores_are_coarsened_by_name(
    read: Callable[..., PredictionTable],
) -> None:
    table = read(
        {
            "race_true": ["Others", "Asian", "White"],
            "race_pred": ["Middle Eastern", "East Asian", "Latino_Hispanic"],
        }
    )
    assert rows_of_table(table)["race_pred"].to_list() == ["Others", "Asian", "Others"]


def test_an_ambiguous_scheme_is_refused_until_it_is_named(
    read: Callable[..., PredictionTable],
) -> None:
    columns = {"race_true": ["Asian"], "race_pred": ["East Asian"]}
    with pytest.raises(SchemaError, match="--map race=utkface5 or race=fairface4"):
        read(columns)
    table = read(columns, scheme_map={"race": "fairface4"})
    assert table.task("race").scheme == "fairface4"


def test_the_table_names_the_annotated_scheme(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"image": ["a"], "status": ["ok"], "race_true": ["White"], "race_pred": ["Indian"]}
    )
    declared = {"name": "race", "scheme": "utkface5", "classes": list(SCHEMES["utkface5"])}
    metadata = TableMetadata(tasks=(FAIRFACE,), labels={"tasks": [declared]})
    write_with_metadata(tmp_path / "t.parquet", frame, metadata)
    assert read_table(tmp_path / "t.parquet").task("race").scheme == "utkface5"


def test_annotations_are_coarsened_on_request(read: Callable[..., PredictionTable]) -> None:
    columns = {"race_true": ["Latino_Hispanic", "White"], "race_pred": ["Others", "White"]}
    with pytest.raises(SchemaError, match="--map race=utkface5"):
        read(columns)
    table = read(columns, scheme_map={"race": "utkface5"})
    assert rows_of_table(table)["race_true"].to_list() == ["Others", "White"]
    assert any("annotated classes were merged" in note for note in table.notes)


def test_schemes_without_a_mapping_are_refused(read: Callable[..., PredictionTable]) -> None:
    probs = [dict.fromkeys(SCHEMES["fairface4"], 0.25)]
    with pytest.raises(SchemaError, match=r"fairface4 .* annotated in utkface5"):
        read({"race_true": ["Others"], "race_probs": probs})


def test_disjoint_values_are_refused(read: Callable[..., PredictionTable]) -> None:
    probs = [{"Male": 0.5, "Female": 0.5}]
    with pytest.raises(SchemaError, match="Herr"):
        read({"gender_true": ["Herr"], "gender_probs": probs})


@pytest.mark.parametrize("coding", [["M", "F"], ["male", "female"], ["1", "0"]])
def test_two_codings_of_one_thing_are_refused(
    read: Callable[..., PredictionTable], coding: list[str]
) -> None:
    columns = {"smile_true": ["Yes", "No"], "smile_pred": coding}
    with pytest.raises(SchemaError, match=r"no value of smile_pred .* --classes smile="):
        read(columns)
    table = read(columns, classes={"smile": ["Yes", "No", *coding]})
    assert table.task("smile").classes == ("Yes", "No", *coding)


def test_spellings_of_a_class_are_one_class(read: Callable[..., PredictionTable]) -> None:
    true = ["M", "f", "woman", "Man", None]
    forms: list[dict[str, Any]] = [
        {"gender_true": true, "gender_pred": ["Male", "Female"] * 2 + ["Male"]},
        {"gender_true": true, "gender_probs": [{"Male": 0.5, "Female": 0.5}] * 5},
    ]
    for columns in forms:
        table = read(columns)
        assert table.tasks == (GENDER,)
        found = rows_of_table(table)["gender_true"].to_list()
        assert found == ["Male", "Female", "Female", "Male", None]
        assert any("was read as 'Male'" in note for note in table.notes)
    both = read({"gender_true": ["M", "F"], "gender_pred": ["M", "M"]})
    assert both.tasks[0].classes == ("F", "M")


def test_a_letter_that_may_mean_something_else_is_no_spelling(
    read: Callable[..., PredictionTable],
) -> None:
    """Of M and W one is no spelling of Male and Female, so that M may be none either."""
    with pytest.raises(SchemaError, match="no value of gender_pred"):
        read({"gender_true": ["Male", "Female"], "gender_pred": ["M", "W"]})


def test_marks_between_words_make_no_other_class(read: Callable[..., PredictionTable]) -> None:
    true = ["East_Asian", "middle-eastern", "Latino Hispanic", "WHITE"]
    probs = [seven(White=0.7)] * 4
    table = read({"race_true": true, "race_probs": probs})
    assert rows_of_table(table)["race_true"].to_list() == [
        "East Asian",
        "Middle Eastern",
        "Latino_Hispanic",
        "White",
    ]


AGE_GROUPS = {
    "3\N{EN DASH}9": "3-9",
    "9-Mar": "3-9",
    "19-Oct": "10-19",
    "(20, 29)": "20-29",
    "more than 70": "70+",
    "70 +": "70+",
    "70+": "70+",
}


@pytest.mark.parametrize("column", ["age_group_true", "age_group_pred"])
def test_age_groups_are_read_as_labels_are(
    read: Callable[..., PredictionTable], column: str
) -> None:
    other = {"age_group_true": "age_group_pred", "age_group_pred": "age_group_true"}[column]
    table = read({column: [*AGE_GROUPS], other: [*AGE_GROUPS.values()]})
    assert table.tasks == (task_of_scheme("age_group", "fairface9"),)
    assert rows_of_table(table)[column].to_list() == [*AGE_GROUPS.values()]
    assert "age_group: '70 +', 'more than 70' was read as '70+'." in table.notes


def test_predicted_years_are_grouped_by_annotations_in_any_spelling(
    read: Callable[..., PredictionTable],
) -> None:
    groups = ["0\N{EN DASH}14", "15 - 25", "26-40", "41-60", "61 +"]
    table = read({"age_group_true": groups, "age_pred": [3.0, 20.0, 30.0, 50.0, 80.0]})
    assert table.task("age_group") == task_of_scheme("age_group", "dj5")
    rows = rows_of_table(table)
    assert rows["age_group_true"].to_list() == rows["age_group_pred"].to_list()


def test_stray_values_are_left_out_and_counted(read: Callable[..., PredictionTable]) -> None:
    probs = [{"Male": 0.5, "Female": 0.5}] * 3
    table = read({"gender_true": ["Male", "Female", "femle"], "gender_probs": probs})
    assert rows_of_table(table)["gender_true"].to_list() == ["Male", "Female", None]
    assert "1 of 3 values of gender_true" in table.notes[0]
    assert "'femle'" in table.notes[0]


# --- scores -----------------------------------------------------------------------------------


def test_scores_that_are_no_probabilities_are_left_out_and_counted(
    read: Callable[..., PredictionTable],
) -> None:
    table = read(
        {
            "gender_pred": ["Male"] * 6,
            "gender_prob_Male": [0.9, float("nan"), 0.9, -0.1, None, float("inf")],
            "gender_prob_Female": [0.1, 0.5, 0.5, 1.1, None, 0.0],
        }
    )
    rows = rows_of_table(table)
    assert rows["gender_prob_Male"].to_list() == [0.9, None, None, None, None, None]
    assert rows["gender_prob_Female"].null_count() == 5
    assert [note for note in table.notes if "3 of 5" in note]
    assert [note for note in table.notes if "1 of 5" in note]


def test_a_column_of_logits_is_refused(read: Callable[..., PredictionTable]) -> None:
    with pytest.raises(SchemaError, match="softmax"):
        read({"gender_prob_Male": [3.0, 2.0], "gender_prob_Female": [-3.0, 5.0]})


def test_scores_that_contradict_the_prediction_are_counted(
    read: Callable[..., PredictionTable],
) -> None:
    table = read(
        {
            "gender_pred": ["Male", "Male"],
            "gender_prob_Male": [0.9, 0.1],
            "gender_prob_Female": [0.1, 0.9],
        }
    )
    assert "1 of 2 faces (50.0%)" in table.notes[0]


def test_a_bare_list_is_refused(read: Callable[..., PredictionTable]) -> None:
    with pytest.raises(SchemaError, match="--classes gender="):
        read({"gender_probs": [[0.5, 0.5]]})


def test_a_list_of_another_length_is_refused(read: Callable[..., PredictionTable]) -> None:
    with pytest.raises(SchemaError, match="holds 2 scores"):
        read({"race_probs": [[0.5, 0.5]]}, classes={"race": SCHEMES["utkface5"]})


def test_a_single_score_column_is_refused(read: Callable[..., PredictionTable]) -> None:
    with pytest.raises(SchemaError, match="for every class"):
        read({"gender_pred": ["Male"], "gender_prob_Female": [0.1]})


def test_scores_as_text_are_refused(read: Callable[..., PredictionTable]) -> None:
    with pytest.raises(SchemaError, match="give a struct"):
        read({"race_pred": ["White"], "race_probs": ["[0.1, 0.9]"]}, "t.csv")


# --- labels -----------------------------------------------------------------------------------


def test_labels_are_joined_to_the_first_face(read: Callable[..., PredictionTable]) -> None:
    labels = pl.DataFrame({"image": ["a", "b"], "gender_true": ["Male", "Female"]})
    table = read(
        {"image": ["a", "a", "c"], "face": [0, 1, 0], "gender_pred": ["Male"] * 3}, labels=labels
    )
    assert rows_of_table(table)["gender_true"].to_list() == ["Male", None, None]
    assert table.images == 2


@pytest.mark.parametrize(
    ("images", "message"), [(["a", "a"], "more than once"), (["x", "y"], "no image")]
)
def test_labels_that_cannot_be_joined_are_refused(
    read: Callable[..., PredictionTable], images: list[str], message: str
) -> None:
    labels = pl.DataFrame({"image": images, "gender_true": ["Male", "Female"]})
    with pytest.raises(LabelError, match=message):
        read({"image": ["a"], "gender_pred": ["Male"]}, labels=labels)


# --- what cannot be read ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": ["a"]}, "no predictions found"),
        ({"gender_pred": pl.Series([], dtype=pl.String)}, "no rows"),
        ({"gender_pred": [["Male"]]}, "give class names"),
        ({"age_true": ["old"], "age_pred": [3.0]}, "no value of age_true"),
    ],
)
def test_a_table_that_cannot_be_audited_is_refused(
    read: Callable[..., PredictionTable], columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        read(columns)


def test_a_prediction_with_very_many_values_is_no_task(
    read: Callable[..., PredictionTable],
) -> None:
    table = read({"id_pred": [f"{i}" for i in range(150)], "gender_pred": ["Male"] * 150})
    assert [task.name for task in table.tasks] == ["gender"]
    assert "id_pred has 150 different values" in table.notes[0]


@pytest.mark.parametrize("form", ["columns", "struct", "list"])
def test_scores_of_very_many_classes_are_no_task_and_are_not_read(
    read: Callable[..., PredictionTable], form: str
) -> None:
    names, score = [f"c{k}" for k in range(3_000)], 1 / 3_000
    forms: dict[str, dict[str, Any]] = {
        "columns": {f"id_prob_{name}": [score] for name in names},
        "struct": {"id_probs": [dict.fromkeys(names, score)]},
        "list": {"id_probs": [[score] * len(names)]},
    }
    classes = {"id": names} if form == "list" else None
    table = read({"gender_pred": ["Male"], **forms[form]}, classes=classes)
    assert [task.name for task in table.tasks] == ["gender"]
    assert table.notes[0] == "id has scores of 3,000 classes, too many; it was not audited."
    with pytest.raises(SchemaError, match="scores of 3,000 classes, too many"):
        read(forms[form], classes=classes)


def test_options_that_name_no_task_or_column_are_refused(
    read: Callable[..., PredictionTable],
) -> None:
    columns = {"gender_pred": ["Male"]}
    with pytest.raises(SchemaError, match="--map names the task 'race'"):
        read(columns, scheme_map={"race": "utkface5"})
    with pytest.raises(SchemaError, match="--columns names 'yhat'"):
        read(columns, columns={"race_pred": "yhat"})
    for labels in (["Male"], ["Male", "Female", "Male"]):
        with pytest.raises(SchemaError, match="two classes or more, each once"):
            read(columns, classes={"gender": labels})


@pytest.mark.parametrize(
    ("name", "content"),
    [("t.parquet", b"PAR1 no"), ("t.csv", b""), ("t.txt", b"x"), ("t.csv", b'a,b\n"1,2\n3')],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / "none.parquet")
    with pytest.raises(InputError, match=r"no part-\*.parquet"):
        read_table(tmp_path)


def test_a_table_is_known_by_the_hash_of_its_bytes(tmp_path: Path) -> None:
    frame = pl.DataFrame({"gender_pred": ["Male"]})
    frame.write_parquet(tmp_path / "a.parquet")
    pa.parquet.write_table(frame.to_arrow(), tmp_path / "b.parquet", compression="none")
    hashes = {read_table(tmp_path / name).sha256 for name in ("a.parquet", "b.parquet")}
    assert len(hashes) == 2
    assert {len(value) for value in hashes} == {64}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_name_with_brackets_or_stars_is_no_pattern(suffix: str, tmp_path: Path) -> None:
    rows = pl.DataFrame({"gender_true": ["Male"], "gender_pred": ["Male"]})
    for name, size in (("a1", 5), ("a[1]", 3), ("a*", 2)):
        path = tmp_path / f"{name}.{suffix}"
        several = pl.concat([rows] * size)
        several.write_csv(path) if suffix == "csv" else several.write_parquet(path)
    assert read_table(tmp_path / f"a[1].{suffix}").rows == 3
    assert read_table(tmp_path / f"a*.{suffix}").rows == 2
