"""What a list says of its images itself: annotations, and names that would mislead."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceaudit.errors import InputError, SchemaError, UsageError
from faceaudit.models.bundle import Bundle
from faceaudit.pipeline.extra import check_names
from faceaudit.pipeline.predict import predict
from faceaudit.pipeline.prepare import prepare
from faceaudit.schema import Task, table_schema
from faceaudit.showcase.images import photograph
from faceaudit.tables import read_table
from faceaudit.tables.files import read_metadata

NAMES = ("21_1_0_20170101120000000.jpg", "43_0_2_20170101120000000.jpg")
"""Images whose names say Female, White, 21 and Male, Asian, 43."""


@pytest.fixture(scope="module")
def model(random_bundle: Bundle) -> str:
    return str(random_bundle.graph.parent)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    for name in NAMES:
        photograph().save(tmp_path / name)
    return tmp_path / "list.csv"


def rows_of(listed: Path, model: str, *lines: str, labels: str = "auto") -> pl.DataFrame:
    """The table of a list with these lines."""
    listed.write_text("\n".join(lines) + "\n", encoding="utf-8")
    out = listed.with_name("out.parquet")
    predict(listed, out, model=model, detector="whole", labels=labels)
    return pl.read_parquet(out)


def test_annotations_of_a_list_go_before_labels_that_are_only_found(
    listed: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ("image,age_true,gender_true", f"{NAMES[0]},30,Male", f"{NAMES[1]},,Female")
    with caplog.at_level(logging.INFO):
        rows = rows_of(listed, model, *lines)
    assert rows["gender_true"].to_list() == ["Male", "Female"]
    assert rows["age_true"].to_list() == [30, None]
    assert "age_group_true" not in rows.columns  # the names' years would contradict the list's
    assert rows["race_true"].to_list() == ["White", "Asian"]
    note = f"{listed}: its age_true, gender_true were taken, and not those of utkface (file names)"
    assert f"labels: {note}" in caplog.text
    metadata = read_metadata(listed.with_name("out.parquet"))
    assert metadata is not None
    assert metadata.labels["notes"][0] == note
    assert list(metadata.annotated_tasks) == ["race"]


def test_annotations_of_a_list_are_prepared_with_the_crops(listed: Path) -> None:
    header = "image,split,gender_true,age_true"
    lines = (header, f"{NAMES[0]},a,Male,31", f"{NAMES[1]},b,Female,unknown")
    listed.write_text("\n".join(lines), encoding="utf-8")
    crops = listed.with_name("crops")
    prepare(listed, crops, detector="whole", size=32)
    for name in ("metadata.parquet", "faces.parquet"):
        rows = pl.read_parquet(crops / name)
        assert rows["gender_true"].to_list() == ["Male", "Female"]
        assert rows["age_true"].to_list() == [31, None]
        assert rows["race_true"].to_list() == ["White", "Asian"]  # of the file names
        assert "split" not in rows.columns
    prepare(listed, crops, detector="whole", size=32, labels="utkface")
    assert pl.read_parquet(crops / "metadata.parquet")["age_true"].to_list() == [21, 43]
    prepare(listed, crops, detector="whole", size=32, labels="none", limit=1)
    table = pl.read_parquet(crops / "metadata.parquet")
    assert (table["age_true"].to_list(), "race_true" in table.columns) == ([31], False)


def test_of_a_task_that_is_left_out_no_annotation_is_kept(listed: Path, model: str) -> None:
    listed.write_text(f"image,age_true\n{NAMES[0]},31\n", encoding="utf-8")
    out = listed.with_name("gender.parquet")
    predict(listed, out, model=model, detector="whole", tasks=("gender",))
    names = [name for name in pl.read_parquet(out).columns if name.endswith("_true")]
    assert names == ["gender_true"]
    metadata = read_metadata(out)
    assert metadata is not None
    assert list(metadata.annotated_tasks) == ["gender"]


def test_a_folder_with_labels_of_somebody_takes_no_crops(listed: Path, tmp_path: Path) -> None:
    listed.write_text(f"image\n{NAMES[0]}\n", encoding="utf-8")
    folder = tmp_path / "theirs"
    folder.mkdir()
    pl.DataFrame({"file_name": ["a.jpg"], "gender": ["Male"]}).write_parquet(
        folder / "metadata.parquet"
    )
    before = (folder / "metadata.parquet").read_bytes()
    with pytest.raises(UsageError, match=r"metadata\.parquet: was not written by `faceaudit prep"):
        prepare(listed, folder, detector="whole", size=32)
    assert (folder / "metadata.parquet").read_bytes() == before


def test_a_list_that_annotates_everything_needs_no_labels(
    listed: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ("image,age_true,gender_true,race_true", f"{NAMES[0]},30,Male,Indian")
    with caplog.at_level(logging.INFO):
        rows = rows_of(listed, model, *lines)
    assert rows.select("gender_true", "race_true", "age_true").row(0) == ("Male", "Indian", 30)
    assert f"labels: age_true, gender_true, race_true, from {listed} itself" in caplog.text
    assert "none found" not in caplog.text
    metadata = read_metadata(listed.with_name("out.parquet"))
    assert metadata is not None
    assert metadata.labels == {}


def test_labels_that_are_named_go_before_a_list_and_say_so(
    listed: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ("image,age_true,gender_true,site", f"{NAMES[0]},x,Male,1")
    rows = rows_of(listed, model, *lines, labels="utkface")
    assert rows.select("gender_true", "age_true", "site").row(0) == ("Female", 21, 1)
    assert rows["age_group_true"].to_list() == ["20-29"]
    assert "its age_true, gender_true made way for those of utkface (file names)" in caplog.text
    assert "no age" not in caplog.text


def test_years_of_a_list_are_read_or_counted(
    listed: Path, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    ages = ("44,5", "unknown", "forty", "300", " 20 ", "")
    for number in range(len(ages)):
        photograph().save(listed.with_name(f"{number}.jpg"))
    lines = [f'{number}.jpg,"{age}"' for number, age in enumerate(ages)]
    with caplog.at_level(logging.INFO):
        rows = rows_of(listed, model, "image,age_true", *lines)
    assert rows["age_true"].to_list() == [44.5, None, None, None, 20, None]
    assert (
        "2 values of age_true beside the images were no age and left empty (such as 'forty')"
    ) in caplog.text
    assert "none found" not in caplog.text


def test_annotations_that_are_lists_are_refused_before_the_first_image(
    listed: Path, model: str
) -> None:
    source = listed.with_suffix(".parquet")
    for column, what in (("gender_true", "class names"), ("age_true", "years")):
        pl.DataFrame({"image": [NAMES[0]], column: [[1]]}).write_parquet(source)
        with pytest.raises(InputError, match=rf"{column} is of type List\(Int64\); give {what}"):
            predict(source, listed.with_name("out.parquet"), model=model)


GENDER = Task("gender", "gender2", ("Male", "Female"))
WRITTEN = table_schema([GENDER], with_age=False)
PREDICTION_NAMES = ("race_pred", "Race_Pred", "mood_probs", "age_pred", "race_prob_x", " x_pred")
MISLEADING = ("Gender_True", "GENDER_TRUE", "mood_True", "Age_true", "face ", "gender_true ")


@pytest.mark.parametrize("name", [*PREDICTION_NAMES, *MISLEADING, "status", "gender_pred"])
def test_a_name_that_would_be_read_as_something_else_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"column '{name}' beside the images: .*; rename it"):
        check_names(["site", name], WRITTEN.names, ["gender"])


@pytest.mark.parametrize("name", ["race_pred", "race_prob_x", "Gender_True", "face "])
def test_names_are_checked_before_the_first_image(listed: Path, model: str, name: str) -> None:
    listed.write_text(f"image,{name}\n{NAMES[0]},White\n")
    out = listed.with_name("out.parquet")
    with pytest.raises(InputError, match=name.strip()):
        predict(listed, out, model=model, tasks=["gender"])
    assert not out.exists()


def with_column(path: Path, name: str) -> Path:
    """A table of one prediction that carries a column of this name."""
    fields = [*WRITTEN, pa.field(name, pa.string())]
    row = {
        "image": "a.jpg",
        "status": "ok",
        "gender_pred": "Male",
        "gender_probs": {"Male": 1.0, "Female": 0.0},
        name: "x",
    }
    pq.write_table(pa.Table.from_pylist([row], pa.schema(fields)), path)
    return path


@pytest.mark.parametrize("name", ["site", "Mood_true", "truest", "prob", "predicted", "True"])
def test_a_name_that_is_taken_is_one_that_a_report_takes(tmp_path: Path, name: str) -> None:
    check_names(["site", name], WRITTEN.names, ["gender"])
    assert name in read_table(with_column(tmp_path / "t.parquet", name)).features


@pytest.mark.parametrize("name", ["Gender_True", "mood_True", "face ", "race_prob_x"])
def test_a_name_that_a_report_refuses_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SchemaError):
        read_table(with_column(tmp_path / "t.parquet", name))
    with pytest.raises(InputError):
        check_names([name], WRITTEN.names, ["gender"])
