"""Labels that are joined to tables: what they repair, what they replace, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.bad_tables.conftest import (
    GENDER,
    PRED,
    ROWS,
    SCORES,
    TRUE,
    assert_one_line,
    facts_of,
    figures,
    repeated,
    typed,
)

RIGHT = {("gender", "accuracy", None): 0.5}
PREDICTED: dict[str, Any] = {"image": GENDER["image"], "gender_pred": PRED}


@pytest.fixture
def labels(tmp_path: Path) -> str:
    """Labels of all images, as ``--labels`` takes them."""
    path = tmp_path / "labels.csv"
    pl.DataFrame({"image": GENDER["image"], "gender": TRUE}).write_csv(path)
    return f"table:{path}"


def written(folder: Path, columns: dict[str, Any], name: str = "t.parquet") -> Path:
    frame, path = pl.DataFrame(columns, strict=False), folder / name
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


@pytest.mark.parametrize("face", [[1] * ROWS, ["1"] * ROWS, [1.0] * ROWS])
def test_labels_of_which_none_is_of_a_first_face_are_refused(
    face: list[Any],
    labels: str,
    tmp_path: Path,
    run_report: Callable[..., tuple[int, str]],
) -> None:
    path = written(tmp_path, {**PREDICTED, "face": face})
    message = "count the faces of an image in face from 0"
    assert_one_line(run_report(path, "--labels", labels), message, tmp_path)


@pytest.mark.parametrize(
    "face",
    [
        ["0"] * ROWS,
        ["0.0"] * ROWS,
        typed(["0"] * ROWS, pl.Categorical),
        typed([None] * ROWS, pl.String),
        [0.0] * ROWS,
    ],
)
def test_the_first_face_is_found_whatever_the_type_of_its_number(
    face: Any, labels: str, tmp_path: Path
) -> None:
    path = written(tmp_path, {**PREDICTED, "face": face})
    assert figures(path, labels=labels).items() >= RIGHT.items()


@pytest.mark.parametrize("face", [["0", "1"], [0, 1], ["0.0", "1.0"]])
def test_faces_after_the_first_get_no_label(face: list[Any], labels: str, tmp_path: Path) -> None:
    images = [name for name in GENDER["image"] for _ in face]
    columns = {"image": images, "face": face * ROWS, "gender_pred": ["Male", "Female"] * ROWS}
    facts = facts_of(written(tmp_path, columns), labels=labels)
    accuracy = next(one for one in facts["metrics"] if one["metric"] == "accuracy")
    assert (accuracy["n"], accuracy["value"]) == (ROWS, 0.5)


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Categorical, pl.String, pl.Float64])
def test_images_of_any_type_are_found(dtype: Any, tmp_path: Path) -> None:
    names = typed([str(number) for number in range(ROWS)], pl.String)
    images = names.cast(dtype)
    written(tmp_path, {"image": images.cast(pl.String), "gender": TRUE}, "labels.csv")
    path = written(tmp_path, {"image": images, "gender_pred": PRED})
    found = figures(path, labels=f"table:{tmp_path / 'labels.csv'}")
    assert found.items() >= RIGHT.items()


def test_numbers_as_names_in_a_csv_are_found(tmp_path: Path) -> None:
    images = [f"{number:04}" for number in range(ROWS)]
    written(tmp_path, {"image": images, "gender": TRUE}, "labels.csv")
    path = written(tmp_path, {"image": images, "gender_pred": PRED}, "t.csv")
    found = figures(path, labels=f"table:{tmp_path / 'labels.csv'}")
    assert found.items() >= RIGHT.items()


def test_a_label_file_without_rows_is_refused(
    tmp_path: Path, run_report: Callable[..., tuple[int, str]]
) -> None:
    (tmp_path / "labels.csv").write_text("image,gender\n")
    found = run_report(written(tmp_path, GENDER), "--labels", f"table:{tmp_path / 'labels.csv'}")
    assert_one_line(found, "labels.csv: no row of it names an image", tmp_path)


def test_annotations_that_labels_replace_by_nothing_are_counted(tmp_path: Path) -> None:
    kept = {"image": GENDER["image"][:30], "gender": TRUE[:30]}
    written(tmp_path, kept, "labels.csv")
    path = written(tmp_path, {**GENDER, "gender_true": [*TRUE[:35], *[None] * 5]})
    facts = facts_of(path, labels=f"table:{tmp_path / 'labels.csv'}")
    note = "5 of 35 values of gender_true that the table had were replaced by nothing"
    assert any(note in one for one in facts["notes"]), facts["notes"]
    path = written(tmp_path, {**GENDER, "gender_true": [*TRUE[:30], *[None] * 10]})
    facts = facts_of(path, labels=f"table:{tmp_path / 'labels.csv'}")
    assert not any("replaced by nothing" in one for one in facts["notes"])


def test_labels_repair_annotations_that_alone_would_be_refused(labels: str, tmp_path: Path) -> None:
    path = written(tmp_path, {**GENDER, "gender_true": repeated("x", "y")})
    assert figures(path, labels=labels).items() >= RIGHT.items()


def test_labels_go_with_classes_of_a_list_of_scores(labels: str, tmp_path: Path) -> None:
    scores = [[0.6, 0.4] if name == "Male" else [0.4, 0.6] for name in PRED]
    path = written(tmp_path, {"image": GENDER["image"], "gender_probs": scores})
    found = figures(path, labels=labels, classes={"gender": ["Male", "Female"]})
    assert found.items() >= RIGHT.items()


def test_labels_need_the_names_of_images(
    labels: str, tmp_path: Path, run_report: Callable[..., tuple[int, str]]
) -> None:
    path = written(tmp_path, {"gender_pred": PRED, **SCORES})
    message = "labels are joined by the column image, which is missing"
    assert_one_line(run_report(path, "--labels", labels), message, tmp_path)
