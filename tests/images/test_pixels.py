"""Images in a CSV of grey values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faceaudit.errors import InputError, LabelError
from faceaudit.images.decode import decode
from faceaudit.images.find import find_images
from faceaudit.images.pixels import as_image
from faceaudit.images.refs import read_bytes
from faceaudit.labels import read_labels
from faceaudit.pipeline.predict import predict

HEADER = "age,ethnicity,gender,img_name,pixels"


def grey(seed: int, side: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side))


def written(path: Path, *rows: str, header: str = HEADER, end: str = "\n") -> Path:
    path.write_bytes(end.join([header, *rows]).encode() + end.encode())
    return path


def row(seed: int, name: str = "") -> str:
    values = " ".join(map(str, grey(seed).ravel()))
    return f"{20 + seed},{seed % 5},{seed % 2},{name},{values}"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_row_is_an_image_with_exactly_its_values(tmp_path: Path, end: str) -> None:
    path = written(tmp_path / "faces.csv", *(row(k, f"{k}.jpg") for k in range(5)), end=end)
    found = find_images(f"pixels:{path}")
    assert [ref.name for ref in found] == [f"{k}.jpg" for k in range(5)]
    for k, ref in enumerate(found):
        pixels = decode(read_bytes(ref)).image
        assert pixels is not None
        assert np.array_equal(pixels, np.repeat(grey(k)[:, :, None], 3, axis=2))


def test_rows_without_or_with_equal_names_stay_apart(tmp_path: Path) -> None:
    path = written(tmp_path / "faces.csv", row(0), row(1, "a.jpg"), row(2, "a.jpg"))
    names = [ref.name for ref in find_images(f"pixels:{path}")]
    assert names == ["row-000001", "a.jpg", "a.jpg#3"]


def test_a_name_with_a_number_that_is_given_too_stays_apart(tmp_path: Path) -> None:
    path = written(tmp_path / "faces.csv", row(0, "a#3"), row(1, "a"), row(2, "a"), row(3, "a"))
    names = [ref.name for ref in find_images(f"pixels:{path}")]
    assert names == ["a#3", "a", "a#3#3", "a#4"]


@pytest.mark.parametrize("field", ["10\t20  30 40", '"[10 20 30 40]"', " 10 20 30 40 "])
def test_blanks_brackets_and_quotes_are_no_values(tmp_path: Path, field: str) -> None:
    path = written(tmp_path / "faces.csv", f"30,1,0,a.jpg,{field}", f"30,1,0,b.jpg,{field}")
    for ref in find_images(f"pixels:{path}"):
        pixels = decode(read_bytes(ref)).image
        assert pixels is not None
        assert pixels[:, :, 0].tolist() == [[10, 20], [30, 40]]


@pytest.mark.parametrize(
    "field",
    [
        "0 1 2 3 -1 5 6 7 8",
        "0.5 0.25 0.75 1.0",
        '"12,34,56,78"',
        "7 nan 3 4",
        "1 2 3 4 n/a",
        "+1 2 3 4",
        "1_0 2 3 4",
        '"1 2 3 4',
        '"1 2 ""3"" 4"',
    ],
)
def test_values_that_are_no_whole_gray_values_are_never_left_out(
    tmp_path: Path, field: str
) -> None:
    path = written(tmp_path / "faces.csv", f"30,1,0,a.jpg,{field}", row(0))
    first, second = map(decode, map(read_bytes, find_images(f"pixels:{path}")))
    assert (first.status, first.image) == ("unsupported", None)
    assert first.error == "not an image of a supported format: text"
    assert second.status == "ok"


def test_images_may_be_larger_than_a_field_that_the_csv_reader_expects(tmp_path: Path) -> None:
    values = grey(1, side=200)
    text = " ".join(map(str, values.ravel()))
    path = written(tmp_path / "faces.csv", f"20,0,0,large.jpg,{text}")
    (ref,) = find_images(f"pixels:{path}")
    image = decode(read_bytes(ref)).image
    assert image is not None
    assert np.array_equal(image[:, :, 0], values)


def test_damaged_rows_get_a_row_that_says_so(tmp_path: Path) -> None:
    path = written(
        tmp_path / "faces.csv",
        row(0, "good.jpg"),
        "30,1,0,short.jpg,1 2 3",
        "30,1,0,large.jpg,1 2 3 999",
        "30,1,0,text.jpg,nothing",
        "30,1,0",
    )
    run = predict(f"pixels:{path}", tmp_path / "out.parquet", detector="whole", quiet=True)
    assert run.images == 5
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table["status"].to_list()[0] == "ok"
    assert set(table["status"].to_list()[1:]) <= {"unreadable", "unsupported"}
    assert table["error"].to_list()[1:].count(None) == 0


def test_labels_are_found_by_themselves(tmp_path: Path) -> None:
    path = written(tmp_path / "faces.csv", *(row(k) for k in range(3)), "x,9,7,,1 2 3 4")
    predict(f"pixels:{path}", tmp_path / "out.parquet", detector="whole", quiet=True)
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table["gender_true"].to_list() == ["Male", "Female", "Male", None]
    assert table["race_true"].to_list() == ["White", "Black", "Asian", None]
    assert table["age_true"].to_list() == [20, 21, 22, None]


def test_labels_can_be_named(tmp_path: Path) -> None:
    path = written(tmp_path / "faces.csv", row(0, "a.jpg"), row(1, "b.jpg"))
    found = read_labels(f"pixels:{path}", ["b.jpg"], None)
    assert found is not None
    assert found.frame.row(0) == ("b.jpg", "Female", "Black", 21.0)


def test_a_file_without_pixels_is_one_clear_error(tmp_path: Path) -> None:
    path = written(tmp_path / "faces.csv", header="age,gender")
    with pytest.raises(InputError, match="has no column 'pixels' of gray values; it has: age, gen"):
        find_images(f"pixels:{path}")
    with pytest.raises(InputError, match="cannot be read"):
        find_images(f"pixels:{tmp_path / 'none.csv'}")
    with pytest.raises(LabelError, match="give the file"):
        read_labels("pixels", ["a.jpg"], None)


@given(st.integers(1, 12), st.randoms())
def test_a_square_of_grey_values_becomes_an_image(side: int, random: object) -> None:
    values = [random.randrange(256) for _ in range(side * side)]  # type: ignore[attr-defined]
    image = as_image(" ".join(map(str, values)).encode())
    assert image == b"P5 %d %d 255\n" % (side, side) + bytes(values)


@pytest.mark.parametrize("values", [b"", b"1 2 3", b"1 2 3 256", b"1 2 3 -1", b"a b c d"])
def test_what_is_no_square_of_grey_values_stays_as_it_is(values: bytes) -> None:
    assert as_image(values) == values
