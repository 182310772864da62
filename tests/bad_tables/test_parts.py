"""Parts of a table may encode a column differently; what does not fit is named in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bad_tables.conftest import AGES, GENDER, ROWS, assert_one_line, figures, parquet_bytes

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


def written_parts(folder: Path, *parts: pl.DataFrame | pa.Table | bytes) -> Path:
    for number, part in enumerate(parts):
        path = folder / f"part-{number}.parquet"
        if isinstance(part, bytes):
            path.write_bytes(part)
        else:
            pq.write_table(part.to_arrow() if isinstance(part, pl.DataFrame) else part, path)
    return folder


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
