"""Labels of a pixel file: codes as programs write them, and what is no code."""

from __future__ import annotations

from pathlib import Path

from faceaudit.labels import LabelTable, read_labels


def labels_of(path: Path, *rows: str) -> LabelTable:
    """The labels of a pixel file with these ages, ethnicities and genders."""
    lines = [f"{row},{number}.jpg,0 0 0 0" for number, row in enumerate(rows)]
    path.write_text("\n".join(["age,ethnicity,gender,img_name,pixels", *lines]) + "\n")
    found = read_labels(f"pixels:{path}", [f"{number}.jpg" for number in range(len(rows))], None)
    assert found is not None
    return found


def test_codes_beside_a_missing_one_are_codes(tmp_path: Path) -> None:
    found = labels_of(tmp_path / "faces.csv", "20.0,2.0,1.0", "21,4, 0 ", ",,")
    assert found.frame["gender_true"].to_list() == ["Female", "Male", None]
    assert found.frame["race_true"].to_list() == ["Asian", "Others", None]
    assert found.frame["age_true"].to_list() == [20, 21, None]
    assert found.notes == ()


def test_what_is_no_code_is_null_and_counted(tmp_path: Path) -> None:
    rows = ("20,0,0", "300,7,3", "x,1.5,-1", "22,nan,NA")
    found = labels_of(tmp_path / "faces.csv", *rows)
    assert found.frame["gender_true"].to_list() == ["Male", None, None, None]
    assert found.frame["race_true"].to_list() == ["White", None, None, None]
    assert found.frame["age_true"].to_list() == [20, None, None, 22]
    assert found.notes == (
        "2 of 3 gender labels were not understood and left empty: '3' (1), '-1' (1)",
        "2 of 3 race labels were not understood and left empty: '7' (1), '1.5' (1)",
        "2 of 4 age labels were not understood and left empty: '300' (1), 'x' (1)",
    )
