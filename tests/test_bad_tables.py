"""Bad tables: each gives one clear line, or figures of what is left with a mark; never a wrong one.

``REFUSED`` and ``BAD_FILES`` cannot be audited: exit code 2 and one line that says why. ``MARKED``
can: their figures are those of the rows that make sense, and a note counts the others.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faceaudit import cli
from faceaudit.reporting import report
from faceaudit.schema import SCHEMES

ROWS = 40
TRUE, PRED = ["Male", "Female"] * 20, ["Male", "Male", "Female", "Female"] * 10
GENDER: dict[str, Any] = {
    "image": [f"{index}.jpg" for index in range(ROWS)],
    "gender_true": TRUE,
    "gender_pred": PRED,
}
SCORES: dict[str, Any] = {"gender_prob_Male": [0.6] * ROWS, "gender_prob_Female": [0.4] * ROWS}
AGES: dict[str, Any] = {"age_true": [30.0] * ROWS, "age_pred": [32.0] * ROWS}


def repeated(*values: Any) -> list[Any]:
    return list(values) * (ROWS // len(values))


def typed(values: list[Any], dtype: Any) -> pl.Series:
    return pl.Series(values, dtype=dtype)


@pytest.fixture
def run_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """``faceaudit report`` in this process: its exit code and what it wrote to stderr."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["faceaudit", "report", *map(str, arguments)])
        try:
            cli.main()
            code: Any = 0
        except SystemExit as done:
            code = done.code or 0
        return int(code), capsys.readouterr().err

    return run


def assert_one_line(found: tuple[int, str], message: str, folder: Path) -> None:
    code, stderr = found
    assert code == 2, stderr
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("Error: ")
    assert message in lines[0]
    assert not list(folder.rglob("*.html"))


# --- what is refused --------------------------------------------------------------------------

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
        {**GENDER, **SCORES, "gender_pred": repeated("Man", "Woman")},
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
        (["--by", "tags"], "no column to form subgroups by is called 'tags'"),
        (["--by", "nothing"], "'nothing' has no value in any row"),
        (["--unit", "nothing"], "'nothing' has no value in any row"),
        (["--by", "blank"], "'blank' has no value in any row"),
        (["--within", "nan"], "'nan' has no value in any row"),
        (["--replicates", "1000000000"], "give at least 100 and at most 100000"),
        (["--unit", "tags"], "no column to take units from is called 'tags'"),
        (["--by", "image"], "'image' has 300 different values, too many for subgroups"),
        (["--columns", "race_pred=yhat"], "--columns names 'yhat', which is no column"),
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


# --- files ------------------------------------------------------------------------------------

CSV = "image,gender_true,gender_pred,age_true,age_pred\n" + "".join(
    f"{index}.jpg,{true},{pred},{index},{index + 1}.5\n"
    for index, (true, pred) in enumerate(zip(TRUE, PRED, strict=True))
)


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pl.DataFrame({**GENDER, **AGES}).to_arrow(), sink)
    found: bytes = sink.getvalue().to_pybytes()
    return found


BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "an_empty_csv": ("t.csv", b"", "empty CSV"),
    "blanks_alone": ("t.csv", b"  \n\n", "no predictions found"),
    "a_header_alone": ("t.csv", CSV.splitlines()[0].encode(), "has no rows"),
    "a_web_page": ("t.csv", b"<html><body>404 not found</body></html>", "single column"),
    "another_separator": ("t.csv", CSV.replace(",", " ").encode(), "names a single column"),
    "carriage_returns_alone": ("t.csv", CSV.replace("\n", "\r").encode(), "carriage returns"),
    "latin_1": ("t.csv", CSV.replace("Male", "M\xe4le").encode("latin1"), "CSV UTF-8"),
    "latin_1_in_the_header": ("t.csv", CSV.replace("im", "\xefm").encode("latin1"), "CSV UTF-8"),
    "utf_16": ("t.csv", CSV.encode("utf-16"), "CSV UTF-8"),
    "compressed": ("t.csv", b"\x1f\x8b\x08\x00" + bytes(range(256)), "CSV UTF-8"),
    "a_row_with_more_fields": ("t.csv", f"{CSV}a,b.jpg,Male,Male,3,4\n".encode(), "more fields"),
    "an_open_quote": ("t.csv", f'{CSV}"a,Male,Male,3,4\n'.encode(), "cannot be read"),
    "one_name_twice": ("t.csv", CSV.replace("age_true", "gender_true").encode(), "more than once"),
    "a_comment_first": ("t.csv", f"# by hand\n{CSV}".encode(), "names a single column"),
    "csv_called_parquet": ("t.parquet", CSV.encode(), "not a readable Parquet file"),
    "an_empty_parquet": ("t.parquet", b"", "not a readable Parquet file"),
    "half_a_parquet": ("t.parquet", parquet_bytes()[:900], "not a readable Parquet file"),
    "parquet_without_its_end": ("t.parquet", parquet_bytes()[:-9], "not a readable Parquet file"),
    "parquet_without_its_start": ("t.parquet", parquet_bytes()[9:], "t.parquet: "),
    "an_excel_file": ("t.xlsx", b"PK\x03\x04", "ends in .parquet, .pq, .csv, .tsv"),
    "json": ("t.json", b"{}", "ends in .parquet, .pq, .csv, .tsv"),
    "no_suffix": ("t", CSV.encode(), "ends in .parquet, .pq, .csv, .tsv"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(
    name: str, tmp_path: Path, run_report: Callable[..., tuple[int, str]]
) -> None:
    file, content, message = BAD_FILES[name]
    (tmp_path / file).write_bytes(content)
    assert_one_line(run_report(tmp_path / file), message, tmp_path)


GOOD_FILES: dict[str, bytes] = {
    "plain.csv": CSV.encode(),
    "with_a_mark_of_its_encoding.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "with_the_mark_before_a_task.csv": b"\xef\xbb\xbf"
    + "\n".join(line.split(",", 1)[1] for line in CSV.splitlines()).encode(),
    "of_windows.csv": CSV.replace("\n", "\r\n").encode(),
    "with_semicolons.csv": CSV.replace(",", ";").encode(),
    "with_decimal_commas.csv": CSV.replace(",", ";").replace(".5", ",5").encode(),
    "with_bars.csv": CSV.replace(",", "|").encode(),
    "with_tabs.tsv": CSV.replace(",", "\t").encode(),
    "with_blanks.csv": CSV.replace(",", " , ").encode(),
    "with_quotes.csv": "\n".join(
        ",".join(f'"{field}"' for field in line.split(",")) for line in CSV.splitlines()
    ).encode(),
    "with_an_empty_column.csv": "\n".join(f"{line}," for line in CSV.splitlines()).encode(),
    "with_an_index.csv": "\n".join(
        f"{number or ''},{line}" for number, line in enumerate(CSV.splitlines())
    ).encode(),
    "with_a_row_cut_short.csv": f"{CSV}late.jpg,Male\n".encode(),
    "in_capitals.CSV": CSV.encode(),
}


@pytest.mark.parametrize("name", GOOD_FILES)
def test_a_csv_reads_alike_however_it_was_written(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(GOOD_FILES[name])
    values = figures(tmp_path / name)
    assert values["gender", "accuracy", None] == 0.5
    assert values["age", "mae", None] == pytest.approx(1.5)


def test_a_damaged_byte_never_ends_in_a_traceback(
    tmp_path: Path, run_report: Callable[..., tuple[int, str]]
) -> None:
    content, path = parquet_bytes(), tmp_path / "t.parquet"
    generator = np.random.default_rng(0)
    places = generator.integers(4, len(content) - 8, 30)
    for place, flip in zip(places, generator.integers(1, 256, 30), strict=True):
        damaged = bytearray(content)
        damaged[place] ^= int(flip)
        path.write_bytes(damaged)
        code, stderr = run_report(path, "--replicates", "100", "--format", "json")
        assert code in {0, 2}
        assert "Traceback" not in stderr


# --- parts ------------------------------------------------------------------------------------


def written_parts(folder: Path, *parts: pl.DataFrame | pa.Table | bytes) -> Path:
    for number, part in enumerate(parts):
        path = folder / f"part-{number}.parquet"
        if isinstance(part, bytes):
            path.write_bytes(part)
        else:
            pq.write_table(part.to_arrow() if isinstance(part, pl.DataFrame) else part, path)
    return folder


BASE = pl.DataFrame({**GENDER, **AGES})
PROBS = pl.struct(Male=pl.lit(0.75, pl.Float32), Female=pl.lit(0.25, pl.Float32))
SWAPPED = pl.struct(Female=pl.lit(0.25, pl.Float64), Male=pl.lit(0.75, pl.Float64))
ENCODINGS: dict[str, tuple[pl.DataFrame, pl.DataFrame]] = {
    "a_dictionary": (BASE, BASE.with_columns(pl.col("gender_true").cast(pl.Categorical))),
    "an_enumeration": (
        BASE,
        BASE.with_columns(pl.col("gender_pred").cast(pl.Enum(["Female", "Male"]))),
    ),
    "whole_years": (BASE, BASE.with_columns(pl.col("age_true").cast(pl.Int16))),
    "single_precision": (BASE, BASE.with_columns(pl.col("age_pred").cast(pl.Float32))),
    "fields_in_another_order": (
        BASE.with_columns(gender_probs=PROBS),
        BASE.with_columns(gender_probs=SWAPPED),
    ),
    "columns_in_another_order": (BASE, BASE.select(reversed(BASE.columns))),
    "no_rows": (BASE, BASE.head(0)),
}


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("turned", [False, True])
def test_parts_may_encode_a_column_differently(name: str, turned: bool, tmp_path: Path) -> None:
    parts = ENCODINGS[name][:: -1 if turned else 1]
    values = figures(written_parts(tmp_path, *parts))
    assert values["gender", "accuracy", None] == 0.5
    assert values["age", "mae", None] == 2.0
    if "gender_probs" in parts[0].columns:
        expected = (0.25**2 + 0.75**2) / 2
        assert values["gender", "brier", None] == pytest.approx(expected)


def test_a_part_without_annotations_counts_as_not_annotated(tmp_path: Path) -> None:
    nothing = BASE.with_columns(gender_true=pl.lit(None))
    values = figures(written_parts(tmp_path, BASE, nothing))
    assert values["gender", "accuracy", None] == 0.5
    rows = json.loads(tmp_path.with_suffix(".json").read_text())["metrics"]
    assert {one["n"] for one in rows if one["metric"] == "accuracy" and not one["subgroup"]} == {
        ROWS,
        2 * ROWS,
    }


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (BASE.with_columns(age_true=pl.lit("thirty")), "'age_true' is String in part-1.parquet"),
        (BASE.drop("age_true"), "'age_true' is missing in part-1.parquet but Float64"),
        (BASE.with_columns(site=1), "'site' is Int32 in part-1.parquet but missing in part-0"),
        (b"PAR1 no", "part-1.parquet: not a readable Parquet file"),
        (b"", "part-1.parquet: not a readable Parquet file"),
        (parquet_bytes()[:-20], "part-1.parquet: not a readable Parquet file"),
        (pa.table([["a"], ["M"], ["F"]], names=["image", "gender_pred", "gender_pred"]), "gender_"),
    ],
)
def test_a_part_that_does_not_fit_is_named_in_one_line(
    part: pl.DataFrame | pa.Table | bytes,
    message: str,
    tmp_path: Path,
    run_report: Callable[..., tuple[int, str]],
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    assert_one_line(run_report(written_parts(folder, BASE, part)), message, tmp_path)


def test_other_fields_of_scores_in_a_part_are_refused(
    tmp_path: Path, run_report: Callable[..., tuple[int, str]]
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    other = pl.struct(Male=pl.lit(0.75), Woman=pl.lit(0.25))
    written_parts(
        folder, BASE.with_columns(gender_probs=PROBS), BASE.with_columns(gender_probs=other)
    )
    assert_one_line(run_report(folder), "'gender_probs' is Struct", tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is readable to the superuser")
def test_a_part_that_may_not_be_read_is_named_in_one_line(
    tmp_path: Path, run_report: Callable[..., tuple[int, str]]
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    written_parts(folder, BASE, BASE)
    (folder / "part-1.parquet").chmod(0)
    assert_one_line(run_report(folder), "part-1.parquet", tmp_path)


def test_folders_and_links_in_the_place_of_files_are_refused_in_one_line(
    tmp_path: Path, run_report: Callable[..., tuple[int, str]]
) -> None:
    (tmp_path / "t.parquet").mkdir()
    assert_one_line(run_report(tmp_path / "t.parquet"), "no part-*.parquet", tmp_path)
    (tmp_path / "t.parquet" / "part-0.parquet").mkdir()
    assert_one_line(run_report(tmp_path / "t.parquet"), "part-0.parquet", tmp_path)
    (tmp_path / "link.parquet").symlink_to(tmp_path / "nowhere.parquet")
    assert_one_line(run_report(tmp_path / "link.parquet"), "no such file", tmp_path)


def test_a_parquet_that_is_a_folder_of_parts_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "t.parquet"
    folder.mkdir()
    assert figures(written_parts(folder, BASE))["gender", "accuracy", None] == 0.5


# --- what is left is right --------------------------------------------------------------------

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


def refuse_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} in the JSON")


def facts_of(table: Path, **options: Any) -> dict[str, Any]:
    """The JSON of a quick report, in which nothing is NaN or infinite."""
    files = report(table, replicates=100, **{"formats": ["json"], **options})
    text = files.paths[-1].read_text()
    found: dict[str, Any] = json.loads(text, parse_constant=refuse_constant)
    for one in found["metrics"]:
        assert one["value"] is not None or one["reason"], one
    return found


def figures(table: Path, **options: Any) -> dict[tuple[str, str, str | None], float | None]:
    """Overall values of a quick report."""
    return {
        (one["task"], one["metric"], one.get("class")): one["value"]
        for one in facts_of(table, **options)["metrics"]
        if not one["subgroup"]
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


# --- subgroups --------------------------------------------------------------------------------


def test_a_subgroup_of_one_face_is_shown_marked_and_not_ranked(tmp_path: Path) -> None:
    frame = pl.DataFrame({**GENDER, "site": ["A"] * 39 + ["B"]})
    frame.write_parquet(tmp_path / "t.parquet")
    facts = facts_of(tmp_path / "t.parquet", by=["site"])
    alone = [
        one
        for one in facts["metrics"]
        if one["subgroup"] == {"site": "B"} and one["metric"] == "accuracy"
    ]
    assert [(one["n"], one["value"]) for one in alone] == [(1, 1.0)]
    assert alone[0]["low"] < 0.3
    ranked = [one for one in facts["disparities"] if one["metric"] == "accuracy"]
    assert all(one["difference"] is None and one["reason"] for one in ranked)


def test_values_of_a_feature_that_differ_in_blanks_are_one_subgroup(tmp_path: Path) -> None:
    values = typed(repeated("a", "a ", " a", "", " "), pl.String)
    pl.DataFrame({**GENDER, "site": values}).write_parquet(tmp_path / "t.parquet")
    facts = facts_of(tmp_path / "t.parquet", by=["site"])
    groups = [
        (one["subgroup"], one["n"])
        for one in facts["metrics"]
        if one["subgroup"] and one["metric"] == "accuracy"
    ]
    assert groups == [({"site": "a"}, 24)]


@pytest.mark.parametrize(
    "values",
    [
        repeated(math.nan, 1.0),
        repeated(math.inf, 1.0),
        repeated(True, False),
        repeated(date(2020, 1, 1), date(2021, 1, 1)),
        typed(repeated("a", "b"), pl.Categorical),
        repeated(None, "a"),
    ],
    ids=["nan", "infinite", "truth", "dates", "dictionary", "missing"],
)
def test_features_of_any_type_cut_the_rows_they_have(values: Any, tmp_path: Path) -> None:
    pl.DataFrame({**GENDER, "f": values}, strict=False).write_parquet(tmp_path / "t.parquet")
    facts = facts_of(tmp_path / "t.parquet", by=["f"])
    faces = [
        one["n"] for one in facts["metrics"] if one["subgroup"] and one["metric"] == "accuracy"
    ]
    assert set(faces) == {20}
    assert facts["verification"]["largest_difference"] < 1e-12


MARKUP = "<script>alert(1)</script>", "<img src=x onerror=alert(2)>", '"><b onclick="x">&amp;'


@pytest.mark.parametrize("markup", MARKUP)
def test_markup_in_names_and_values_stays_text(markup: str, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            **GENDER,
            markup: repeated(markup, "b"),
            f"{markup}_true": repeated(markup, "b"),
            f"{markup}_pred": repeated("b", markup, markup, markup),
            "age_true": [30.0] * ROWS,
            "age_pred": repeated(30.0, 31.0),
        }
    )
    path = tmp_path / "t.parquet"
    frame.write_parquet(path)
    files = report(path, by=[markup, "gender"], replicates=100, title=markup)
    page = files.paths[0].read_text()
    assert markup not in page
    for piece in ("<script>alert", "<img src=x", '<b onclick="x"'):
        assert piece not in page
    facts = json.loads(files.paths[1].read_text())
    assert {one["task"] for one in facts["metrics"]} >= {markup, "gender"}
