"""Tables as sets: annotations in any spelling, and files that are odd or damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from faceaudit.errors import InputError
from faceaudit.leakage.find import Leaks, find_leaks
from faceaudit.leakage.sets import read_sets
from faceaudit.showcase.images import photograph

DIGEST = "ab" * 32


def table(path: Path, **columns: list[object]) -> str:
    """A table of copies of one image."""
    count = len(next(iter(columns.values())))
    facts = {"image": [f"{path.stem}{k}.jpg" for k in range(count)], "sha256": [DIGEST] * count}
    pl.DataFrame({**facts, **columns}, strict=False).write_parquet(path)
    return str(path)


def conflicts(found: Leaks, name: str) -> list[bool | None]:
    return found.pairs[f"{name}_conflict"].to_list()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("gender_true", ["male", "Male"]),
        ("gender_true", ["Male ", "Male"]),
        ("gender_true", ["MALE", " male"]),
        ("race_true", ["east asian", "East\u00a0Asian"]),
        ("race_true", ["light", "Light"]),
        ("age_group_true", ["20-29 ", "20-29"]),
        ("age_true", ["25,0", " 25"]),
    ],
)
def test_spellings_of_one_value_do_not_conflict(
    tmp_path: Path, column: str, values: list[object]
) -> None:
    found = find_leaks(read_sets([table(tmp_path / "a.parquet", **{column: values})]))
    task = "age" if column.startswith("age") else column.removesuffix("_true")
    assert conflicts(found, task) == [False]


def test_annotations_of_a_list_conflict_in_one_spelling(tmp_path: Path) -> None:
    lists = []
    for name, gender, race, age in (
        ("a", "female", "east asian", "25,0"),
        ("b", "Male", "East Asian", "25"),
    ):
        photograph().save(tmp_path / f"{name}.png")
        lists.append(tmp_path / f"{name}.csv")
        text = f'image,gender_true,race_true,age_true,site\n{name}.png,{gender},{race},"{age}",x\n'
        lists[-1].write_text(text, encoding="utf-8")
    sets = read_sets([str(path) for path in lists], labels="none")
    assert [one.labels for one in sets] == ["table", "table"]
    assert sets[0].annotations.row(0, named=True) == {
        "gender_true": "Female",
        "race_true": "East Asian",
        "age_true": 25.0,
    }
    found = find_leaks(sets)
    assert [conflicts(found, name) for name in ("gender", "race", "age")] == [
        [True],
        [False],
        [False],
    ]


def test_labels_that_are_named_go_before_those_of_a_list(tmp_path: Path) -> None:
    name = "21_1_0_20170101120000000.jpg"  # Female, White, 21
    photograph().save(tmp_path / name)
    listed = tmp_path / "list.csv"
    listed.write_text(f"image,gender_true,mood_true\n{name},Male,glad\n", encoding="utf-8")
    (named,) = read_sets([str(listed)], labels="utkface")
    assert named.annotations["gender_true"].to_list() == ["Female"]
    assert named.labels == "utkface"
    assert any("made way for those of utkface" in note for note in named.notes)
    (found,) = read_sets([str(listed)])
    assert found.annotations["gender_true"].to_list() == ["Male"]
    assert found.annotations["race_true"].to_list() == ["White"]
    assert "mood_true" not in found.annotations.columns


@pytest.mark.parametrize("missing", ["NA", "n/a", "", "  ", "NaN"])
def test_a_missing_value_conflicts_with_nothing(tmp_path: Path, missing: str) -> None:
    source = table(tmp_path / "a.parquet", race_true=[missing, "White"])
    assert conflicts(find_leaks(read_sets([source])), "race") == [None]


def test_a_conflict_is_found_across_tables_that_spell_differently(tmp_path: Path) -> None:
    first = table(tmp_path / "a.parquet", gender_true=["male"])
    second = table(tmp_path / "b.parquet", gender_true=["Female"])
    found = find_leaks(read_sets([first, second]))
    assert conflicts(found, "gender") == [True]
    assert f"{first}: gender: 'male' was read as 'Male'." in found.notes


def test_codes_of_one_table_are_those_of_another(tmp_path: Path) -> None:
    first = table(tmp_path / "a.parquet", gender_true=[0.0, 1.0])
    second = table(tmp_path / "b.parquet", gender_true=[0, 1])
    found = find_leaks(read_sets([first, second]))
    assert not any("was not compared" in note for note in found.notes)


def test_years_that_are_none_are_left_out_and_counted(tmp_path: Path) -> None:
    source = table(tmp_path / "a.parquet", age_true=["25", "1990", "x", "inf", ""])
    found = find_leaks(read_sets([source]))
    assert conflicts(found, "age") == [None] * 4
    assert f"{source}: 3 of 4 values of age_true are no age and were left out." in found.notes


@pytest.mark.parametrize(
    "columns",
    [
        {"image": [["a.jpg"], ["b.jpg"]]},
        {"image": [b"\xff.jpg", b"b.jpg"]},
        {"gender_true": [["Male"], ["Female"]]},
        {"gender_true": [b"\xff", b"\xfe"]},
        {"age_group_true": [{"low": 20}, {"low": 30}]},
        {"age_true": [[20], [30]]},
        {"sha256": [[DIGEST], [DIGEST]]},
        {"sha256": [b"\xff" * 32, b"\xfe" * 32]},
    ],
    ids=lambda columns: f"{next(iter(columns))} {columns[next(iter(columns))][0]}",
)
def test_a_column_of_an_odd_type_is_one_clear_error(
    tmp_path: Path, columns: dict[str, list[object]]
) -> None:
    source = table(tmp_path / "odd.parquet", **columns)
    with pytest.raises(InputError, match=r"odd\.parquet: "):
        read_sets([source])


def test_hashes_of_digits_alone_are_hashes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"image,sha256\na.jpg,{'12' * 32}\nb.jpg,{'34' * 32}\n")
    (found,) = read_sets([str(path)])
    assert found.sha256 == ("12" * 32, "34" * 32)


def test_a_damaged_table_is_one_clear_error_or_a_table(tmp_path: Path) -> None:
    source = Path(table(tmp_path / "damaged.parquet", gender_true=["Male", "Female"] * 50))
    sound = source.read_bytes()
    rng = np.random.default_rng(0)
    said = []
    for place in rng.integers(4, len(sound) - 8, 60):
        damaged = bytearray(sound)
        damaged[place] ^= int(rng.integers(1, 256))
        source.write_bytes(damaged)
        try:
            read_sets([str(source)])
        except InputError as error:
            said.append(str(error))
    assert said
    assert all(line.startswith(f"{source}: ") and "\n" not in line for line in said)
