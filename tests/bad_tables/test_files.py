"""Files that cannot be read are refused in one line; those that can read alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.bad_tables.conftest import PRED, TRUE, assert_one_line, figures, parquet_bytes

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
