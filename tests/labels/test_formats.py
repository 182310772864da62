"""Label formats, and which of them is recognized."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import faceaudit.labels
from faceaudit.errors import LabelError, UnknownNameError, UsageError
from faceaudit.labels import LABEL_FORMATS, LabelTable, read_labels

DATA = Path(os.environ.get("FACEAUDIT_DATA", "~/faceaudit-data")).expanduser()
NEEDS_DATA = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data at {DATA}; set FACEAUDIT_DATA")
RACES = ("White", "Black", "Asian", "Indian", "Others")


def labels_of(spec: str, images: list[str], folder: Path | None = None) -> LabelTable:
    found = read_labels(spec, images, folder)
    assert found is not None
    assert found.frame["image"].to_list() == images
    assert {task.true_column for task in found.tasks} == set(found.frame.columns) - {
        "image",
        "age_true",
    }
    return found


def test_every_module_with_a_reader_is_listed() -> None:
    names = [module.name for module in iter_modules(faceaudit.labels.__path__)]
    modules = {name: import_module(f"faceaudit.labels.{name}") for name in names}
    readers = {name: module for name, module in modules.items() if hasattr(module, "read")}
    assert {name: hasattr(module, "find") for name, module in readers.items()} == {
        name: known.found for name, known in LABEL_FORMATS.items()
    }


def test_listing_the_formats_imports_nothing_heavy() -> None:
    code = "import sys, faceaudit.labels; print(*{'polars', 'numpy', 'pyarrow'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_unknown_names() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no label format is called 'utk'; choose one of: auto"
    ):
        read_labels("utk", ["1.jpg"], None)
    with pytest.raises(UnknownNameError, match="provenance"):
        read_labels("utkface", ["1.jpg"], None, provenance="guessed")


def test_provenance_is_kept() -> None:
    found = read_labels("utkface", ["1_0_0_20170101.jpg"], None, provenance="self-reported")
    assert found is not None
    assert found.provenance == "self-reported"


# --- utkface ----------------------------------------------------------------------------------


def test_utkface_names() -> None:
    found = labels_of(
        "utkface",
        [
            "26_1_2_20170116220224657 .jpg.chip.jpg",
            "in/folder_1/1_0_4_2017.jpg",
            "61_1_20170109150557335.jpg.chip.jpg",
            "30_3_0_20170109150557335.jpg",
            "117_0_0_20170109150557335.jpg",
            "53__0_20170116184028385.jpg",
            "holiday.jpg",
            "26_1_2",
            "\N{ARABIC-INDIC DIGIT TWO}_1_2_x.jpg",
            "1_1_1\n_1.jpg",
        ],
    )
    assert found.frame.rows() == [
        (found.frame["image"][0], "Female", "Asian", 26.0),
        (found.frame["image"][1], "Male", "Others", 1.0),
        (found.frame["image"][2], "Female", None, 61.0),
        (found.frame["image"][3], None, "White", 30.0),
        (found.frame["image"][4], "Male", "White", None),
        (found.frame["image"][5], None, "White", 53.0),
        (found.frame["image"][6], None, None, None),
        (found.frame["image"][7], "Female", "Asian", 26.0),
        (found.frame["image"][8], "Female", "Asian", None),
        (found.frame["image"][9], "Female", None, 1.0),
    ]
    assert found.frame["age_true"].dtype == pl.Float32
    assert [task.scheme for task in found.tasks] == ["gender2", "utkface5"]
    assert found.notes == (
        "1 of 10 file names has no label (for example 'holiday.jpg')",
        "2 of 10 file names have no gender (for example '30_3_0_20170109150557335.jpg')",
        "2 of 10 file names have no race (for example '61_1_20170109150557335.jpg.chip.jpg')",
        "2 of 10 file names have no age (for example '117_0_0_20170109150557335.jpg')",
    )


@settings(max_examples=40)
@given(st.integers(0, 116), st.integers(0, 1), st.integers(0, 4), st.from_regex(r"\A[0-9]{17}\Z"))
def test_utkface_names_say_what_was_written(age: int, gender: int, race: int, date: str) -> None:
    found = labels_of("utkface", [f"x/{age}_{gender}_{race}_{date}.jpg.chip.jpg"])
    assert found.frame.row(0)[1:] == (["Male", "Female"][gender], RACES[race], float(age))
    assert found.notes == ()


@settings(max_examples=40)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8"), max_size=12)
        | st.from_regex(r"\A[0-9]{1,3}_[0-9]_[0-9]_.{0,3}\Z")
    )
)
def test_any_name_gives_one_row(names: list[str]) -> None:
    frame = labels_of("utkface", names).frame
    assert set(frame["gender_true"].drop_nulls()) <= {"Male", "Female"}
    assert set(frame["race_true"].drop_nulls()) <= set(RACES)
    assert frame["age_true"].drop_nulls().is_between(0, 116).all()


def test_utkface_takes_no_file() -> None:
    with pytest.raises(UsageError, match="give no file"):
        read_labels("utkface:labels.csv", ["1.jpg"], None)


# --- fairface ---------------------------------------------------------------------------------

FAIRFACE = """file,age,gender,race,service_test\r
train/1.jpg,50-59,Male,East Asian,True\r
train/2.jpg,3-Sep,Female,Latino_Hispanic,False\r
train/3.jpg,more than 70,male,Middle Eastern,False\r
train/4.jpg,Oct-19,Femal,Martian,False\r
"""


def test_fairface_table(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + FAIRFACE.encode())
    images = ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]
    found = labels_of(f"fairface:{tmp_path}/labels.csv", images, tmp_path / "train")
    assert found.source == f"{tmp_path}/labels.csv"
    assert found.frame.to_dict(as_series=False) == {
        "image": images,
        "gender_true": ["Male", "Female", "Male", None, None],
        "race_true": ["East Asian", "Latino_Hispanic", "Middle Eastern", None, None],
        "age_group_true": ["50-59", "3-9", "70+", "10-19", None],
    }
    assert [task.scheme for task in found.tasks] == ["gender2", "fairface7", "fairface9"]
    assert found.notes == (
        "1 of 4 gender labels was not understood and left empty: 'Femal' (1)",
        "1 of 4 race labels was not understood and left empty: 'Martian' (1)",
        "2 age groups were repaired from spreadsheet dates (such as '3-Sep' to 3-9)",
        "1 image has no label (for example '5.jpg')",
    )


def test_fairface_tables_of_a_folder_are_found_and_joined(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("file,notes\n")
    (tmp_path / "train.csv").write_text(FAIRFACE)
    (tmp_path / "val.csv").write_text(FAIRFACE.replace("train/", "val/").replace("Male", "Female"))
    found = labels_of("auto", ["train/1.jpg", "val/1.jpg"], tmp_path)
    assert found.format == "fairface"
    assert found.frame["gender_true"].to_list() == ["Male", "Female"]


def test_fairface_without_its_columns(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,age\n1.jpg,3-9\n")
    with pytest.raises(LabelError, match=r"the columns gender, race are missing.*table:"):
        read_labels("fairface:labels.csv", ["1.jpg"], tmp_path)
    with pytest.raises(LabelError, match="no CSV with the columns file, age, gender, race there"):
        read_labels("fairface", ["1.jpg"], tmp_path)


# --- imagefolder and table --------------------------------------------------------------------

ROWS: list[dict[str, Any]] = [
    {"file_name": 'a/q"uo, te.jpg', "gender": "M", "Age": 25, "extra": {"nested": [1]}},
    {"file_name": "a/日本\n.jpg", "gender": None, "Age": 31.5, "extra": None},
]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_imagefolder_in_every_kind(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"metadata.{suffix}"
    if suffix == "csv":
        pl.DataFrame(ROWS, strict=False).drop("extra").write_csv(path)
    elif suffix == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    else:
        pl.DataFrame(ROWS, strict=False).write_parquet(path)
    images = [row["file_name"] for row in ROWS]
    for spec in (
        "auto",
        "imagefolder",
        f"imagefolder:{path}",
        f"imagefolder:{tmp_path}",
        f"table:{path}",
    ):
        found = labels_of(spec, images, tmp_path)
        assert found.frame["gender_true"].to_list() == ["Male", None]
        assert found.frame["age_true"].to_list() == [25.0, 31.5]


def test_metadata_in_folders_of_splits(tmp_path: Path) -> None:
    for split, gender in (("train", "F"), ("test", "M")):
        (tmp_path / split).mkdir()
        (tmp_path / split / "metadata.csv").write_text(f"file_name,gender\n1.jpg,{gender}\n")
    found = labels_of("auto", ["test/1.jpg", "train/1.jpg"], tmp_path)
    assert found.format == "imagefolder"
    assert found.frame["gender_true"].to_list() == ["Male", "Female"]


@pytest.mark.parametrize("key", ["image", "file", "file_name", "path", "filename", "Image"])
def test_table_key_columns(tmp_path: Path, key: str) -> None:
    (tmp_path / "t.csv").write_text(f"x;{key};race_true\n1;./a.jpg;black\n")
    found = labels_of("table:t.csv", ["a.jpg"], tmp_path)
    assert found.frame.to_dict(as_series=False) == {"image": ["a.jpg"], "race_true": ["Black"]}


def test_table_keys_as_other_systems_write_them(tmp_path: Path) -> None:
    keys = ["a\\1.jpg", " a/2.jpg ", "./a/3.jpg", "x\\y.jpg", " odd .jpg"]
    (tmp_path / "t.csv").write_text("image,gender\n" + "".join(f"{key},F\n" for key in keys))
    images = ["a/1.jpg", "a/2.jpg", "a/3.jpg", "x\\y.jpg", " odd .jpg"]
    found = labels_of("table:t.csv", images, tmp_path)
    assert found.frame["gender_true"].to_list() == ["Female"] * 5


def test_table_with_years_and_groups(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,age,age_group\na,25,20-29\nb,,3-Sep\n")
    found = labels_of("table:t.csv", ["a", "b"], tmp_path)
    assert found.frame["age_true"].to_list() == [25.0, None]
    assert found.frame["age_group_true"].to_list() == ["20-29", "3-9"]


def test_table_whose_age_is_groups(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,age\na,0-14\nb,61+\n")
    found = labels_of("table:t.csv", ["a", "b"], tmp_path)
    assert [task.scheme for task in found.tasks] == ["dj5"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"name,race\na,x\n", "no column of image names.*'name', 'race'"),
        ("t.csv", b"image,shade\na,x\n", "no labels among the columns.*'shade'"),
        ("t.csv", b"image,race\nb,White\n", "no label is of an image here.*'b'.*'a'"),
        ("t.csv", b"image,race\nb,Wh\xefte\n", "UTF-8"),
        ("t.csv", b"", "cannot be read as CSV"),
        ("t.jsonl", b"{broken\n", "is no JSON, as each line must be"),
        ("t.jsonl", b"[1]\n", "JSON object"),
        ("t.parquet", b"PAR1", r"t\.parquet"),
        ("t.xlsx", b"PK", "a label file ends in"),
        ("missing.csv", None, "there is no such label file"),
    ],
)
def test_tables_that_cannot_be_used(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LabelError, match=words) as caught:
        read_labels(f"table:{tmp_path}/{name}", ["a"], tmp_path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_table_without_a_file() -> None:
    with pytest.raises(UsageError, match="name the file"):
        read_labels("table", ["a"], None)


# --- auto -------------------------------------------------------------------------------------


def test_none_and_nothing_to_find(tmp_path: Path) -> None:
    assert read_labels("none", ["1_0_0_20170101.jpg"], tmp_path) is None
    assert read_labels("auto", ["a.jpg"], tmp_path) is None
    assert read_labels("auto", [], tmp_path) is None


@pytest.mark.parametrize(("foreign", "taken"), [(1, True), (2, False)])
def test_nine_in_ten_names_must_parse(foreign: int, taken: bool) -> None:
    images = [f"{age}_0_0_20170101120000000.jpg" for age in range(10 - foreign)]
    images += [f"holiday{number}.jpg" for number in range(foreign)]
    found = read_labels("auto", images, None)
    assert (found is not None) == taken
    if found:
        assert (found.format, found.source) == ("utkface", "file names")


def test_metadata_without_labels_or_of_other_images_is_passed_over(tmp_path: Path) -> None:
    images = ["1_0_0_20170101120000000.jpg"]
    for content in ("file_name,text\nx,y\n", "name,race\nx,White\n", "file_name,race\nx,White\n"):
        (tmp_path / "metadata.csv").write_text(content)
        assert labels_of("auto", images, tmp_path).format == "utkface"


@pytest.mark.parametrize("spec", ["auto", "utkface"])
def test_a_number_before_other_words_is_no_age(spec: str) -> None:
    images = [f"{age}_0_0_20170101120000000.jpg" for age in range(9)]
    others = ["12_holiday.jpg", "12_34_56.jpg", "12.jpg"]
    for other in others:
        found = labels_of(spec, [*images, other])
        assert found.frame.row(-1) == (other, None, None, None)
        assert found.notes == (f"1 of 10 file names has no label (for example {other!r})",)


def test_damaged_metadata_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text("{broken")
    with pytest.raises(LabelError, match=r"metadata\.jsonl"):
        read_labels("auto", ["a"], tmp_path)


# --- data sets --------------------------------------------------------------------------------


def relative_names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


@pytest.mark.data
@NEEDS_DATA
@pytest.mark.parametrize(("split", "number", "notes"), [("val", 2413, 0), ("train", 18923, 1)])
def test_utkface_data(split: str, number: int, notes: int) -> None:
    folder = DATA / "utkface" / split
    found = labels_of("auto", relative_names(folder), folder)
    assert (found.format, found.frame.height, len(found.notes)) == ("utkface", number, notes)
    assert found.frame["race_true"].null_count() == 3 * notes


@pytest.mark.data
@NEEDS_DATA
@pytest.mark.parametrize("place", ["fairface", "fairface/train"])
def test_fairface_data(place: str) -> None:
    folder = DATA / place
    spec = f"fairface:{DATA}/fairface_train_labels.csv"
    found = labels_of(spec, relative_names(folder), folder)
    assert (found.frame.height, found.notes) == (39_994, ())
    assert sum(found.frame.null_count().row(0)) == 0


def test_a_column_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("image,gender,gender\n1.jpg,Male,Female\n")
    with pytest.raises(LabelError, match="'gender' occurs more than once"):
        read_labels(f"table:{path}", ["1.jpg"], None)


def test_columns_may_be_separated_by_bars(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("image|gender\n1.jpg|Male\n")
    assert labels_of(f"table:{path}", ["1.jpg"]).frame["gender_true"].to_list() == ["Male"]
