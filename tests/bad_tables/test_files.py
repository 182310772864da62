"""Files that cannot be read are refused in one line; those that can read alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from faceaudit.tables import read_table
from tests.bad_tables.conftest import (
    PRED,
    ROWS,
    TRUE,
    assert_one_line,
    facts_of,
    figures,
    parquet_bytes,
    repeated,
)

CSV = "image,gender_true,gender_pred,age_true,age_pred\n" + "".join(
    f"{index}.jpg,{true},{pred},{index},{index + 1}.5\n"
    for index, (true, pred) in enumerate(zip(TRUE, PRED, strict=True))
)

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
    "cut_off_within_a_row": ("t.csv", CSV[:-12].encode(), "is cut off: its last row"),
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
    "with_empty_cells_last.csv": CSV.replace("\n", ",\n").replace(",\n", ",note\n", 1).encode(),
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


def test_rows_with_fewer_fields_are_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"{CSV}late.jpg,Male\nlater.jpg\n", encoding="utf-8")
    assert (
        "The table has rows with fewer fields than the header, such as row 42 with 2 of 5; "
        "the missing ones count as empty."
    ) in facts_of(tmp_path / "t.csv")["notes"]


@pytest.mark.parametrize("blank", ["\n", "\n\n\n", ",,,,\n"])
def test_blank_lines_are_no_images(blank: str, tmp_path: Path) -> None:
    lines = CSV.splitlines(keepends=True)
    (tmp_path / "t.csv").write_text("".join([*lines[:9], blank, *lines[9:], blank]))
    facts = facts_of(tmp_path / "t.csv")
    assert facts["table"]["rows"] == 40
    count = 2 * blank.count("\n")
    assert f"{count} blank lines of the table were left out." in facts["notes"]
    assert read_table(tmp_path / "t.csv").frame.select("status").collect().n_unique() == 1


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (["02134", "2134"], True),
        (["1.10", "1.1"], True),
        (["12e4", "120e3"], True),
        (["1E5", "2E3"], True),
        (["+5", "5"], True),
        (["inf", "1.0"], True),
        (["1e+05", "100000"], True),
        (["99999999999999999999", "1"], True),
        (["7", "-12"], False),
        (["0.50", "1.25"], False),
        (["1e-05", "0.25"], False),
        (["NaN", "0.25"], False),
    ],
)
def test_a_column_of_codes_is_kept_as_it_is_written(
    written: list[str], kept: bool, tmp_path: Path
) -> None:
    lines = ["site,gender_pred", *(f"{code},Male" for code in repeated(*written)), ",Male"]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    found = read_table(tmp_path / "t.csv").frame.collect()["site"]
    assert found.dtype.is_numeric() != kept
    assert not kept or found.to_list() == [*repeated(*written), None]


def test_codes_that_look_like_one_number_are_subgroups_of_their_own(tmp_path: Path) -> None:
    codes = repeated("02134", "2134")
    rows = [f"{c},{t},{p}" for c, t, p in zip(codes, TRUE, PRED, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["zip,gender_true,gender_pred", *rows]))
    facts = facts_of(tmp_path / "t.csv", by=["zip"])
    assert {one["subgroup"].get("zip") for one in facts["metrics"]} == {None, "02134", "2134"}


@pytest.mark.parametrize("column", ["image", "file"])
@pytest.mark.parametrize("form", ["{:04}", "{}.0", "{}.50", "1e{}"])
def test_names_of_images_are_text_in_a_csv_as_in_parquet(
    column: str, form: str, tmp_path: Path
) -> None:
    names = [form.format(number) for number in range(ROWS)]
    frame = pl.DataFrame({column: names, "gender_pred": PRED})
    frame.write_csv(tmp_path / "t.csv")
    frame.write_parquet(tmp_path / "t.parquet")
    for file in ("t.csv", "t.parquet"):
        table = read_table(tmp_path / file, columns={"image": column})
        assert table.frame.collect()["image"].to_list() == names


def test_what_measures_is_a_number_however_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "face,age_true,age_pred,gender_prob_Male,gender_prob_Female\n"
        "00,030,3e1,1.0,0\n01,07.50,+8,0.750,.25\n"
    )
    rows = read_table(tmp_path / "t.csv").frame.collect()
    assert rows["face"].to_list() == [0, 1]
    assert rows["age_true"].to_list() == [30.0, 7.5]
    assert rows["age_pred"].to_list() == [30.0, 8.0]
    assert rows["gender_prob_Male"].to_list() == [1.0, 0.75]


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
