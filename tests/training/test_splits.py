from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import simplejpeg

from faceaudit.errors import InputError
from faceaudit.leakage.duplicates import NEAR
from faceaudit.leakage.find import CANDIDATE
from faceaudit.training import splits
from faceaudit.training.data import CropSet, is_held_out
from faceaudit.training.recipe import Data, Recipe
from faceaudit.training.recipe_files import recipe_from_facts
from faceaudit.training.splits import LEFT_OUT, VALIDATION, divide, smallest_hashes

COUNT = 12


def recipe_with(**data: object) -> Recipe:
    facts = {
        "name": "small",
        "licence": "none",
        "training_data": "none",
        "backbone": "custom_cnn",
        "weights": "none",
        "stages": [{"epochs": 1, "size": 32}],
        "tasks": {"race": {"scheme": "fairface7"}, "age": {"scheme": "years"}},
        "data": {"validation_share": 0.3, **data},
    }
    return recipe_from_facts(facts, "small.toml")


@pytest.fixture
def crops(tmp_path: Path) -> CropSet:
    """Twelve different pictures in two folders; 1 is a smaller copy of 0, 11 a mirrored 2."""
    files = []
    pictures = [
        cv2.resize(np.random.default_rng(k).integers(0, 256, (7, 7, 3), np.uint8), (96, 96))
        for k in range(COUNT)
    ]
    pictures[1] = cv2.resize(pictures[0], (90, 90))
    pictures[11] = np.ascontiguousarray(pictures[2][:, ::-1])
    for number, picture in enumerate(pictures):
        folder = tmp_path / ("first" if number < 6 else "second")
        folder.mkdir(exist_ok=True)
        files.append(folder / f"{number}.jpg")
        files[-1].write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(picture), 80))
    labels = {
        "race": np.zeros(COUNT, np.int64),
        "age_low": np.full(COUNT, 30),
        "age_high": np.full(COUNT, 39),
    }
    digests = tuple(f"{(37 * k + 5) % 256:02x}" + "0" * 62 for k in range(COUNT))
    return CropSet(tuple(files), np.full(COUNT, 1.2), labels, digests)


def test_near_pictures_lie_on_one_side_that_the_smallest_hash_decides(
    crops: CropSet, tmp_path: Path
) -> None:
    found = divide(crops, recipe_with(), [], tmp_path)
    group = found.table["group"].to_list()
    assert (group[0], group[2]) == (group[1], group[11])
    assert len(set(group)) == COUNT - 2
    smallest = smallest_hashes(crops.sha256, found.table["group"].to_numpy())
    assert smallest[1] == min(crops.sha256[:2])
    for digest, part in zip(smallest, found.table["part"], strict=True):
        assert (part == VALIDATION) == is_held_out(digest, 0.3)
    assert found.facts()["crops_with_duplicates"] == 4
    assert pl.read_parquet(tmp_path / "splits.parquet").equals(found.table)
    alone = divide(crops, recipe_with(near_duplicates=False), [], tmp_path)
    assert alone.table["group"].n_unique() == COUNT


def test_a_picture_cropped_otherwise_is_found_by_its_pixels(crops: CropSet, tmp_path: Path) -> None:
    picture = cv2.resize(np.random.default_rng(40).integers(0, 256, (9, 9, 3), np.uint8), (96, 96))
    moved = cv2.warpAffine(
        picture,
        np.array([[1.04, 0, -1.0], [0, 1.04, -3.0]]),
        (96, 96),
        borderMode=cv2.BORDER_REFLECT,
    )
    for number, one in ((3, picture), (8, moved)):
        crops.files[number].write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(one), 80))
    first, second = (splits.hashes_of(crops.files[number], 1.2)[0] for number in (3, 8))
    assert NEAR < np.unpackbits(first ^ second).sum() <= CANDIDATE
    group = divide(crops, recipe_with(), [], tmp_path).table["group"]
    assert group[3] == group[8]
    assert group.n_unique() == COUNT - 3


@pytest.mark.parametrize(
    ("race", "years", "conflict"),
    [(0, (30, 39), False), (3, (30, 39), True), (0, (35, 35), False), (0, (40, 40), True)],
    ids=["equal", "another class", "a year of the group", "a year outside"],
)
def test_duplicates_with_different_labels_are_left_out_of_training(
    crops: CropSet, tmp_path: Path, race: int, years: tuple[int, int], conflict: bool
) -> None:
    labels = {name: values.copy() for name, values in crops.labels.items()}
    labels["race"][1], labels["age_low"][1], labels["age_high"][1] = race, *years
    changed = replace(crops, labels=labels)
    for choice in ("drop", "keep"):
        recipe = recipe_with(validation_share=0.001, conflicts=choice)
        found = divide(changed, recipe, [], tmp_path).table
        left = found.with_row_index().filter(part=LEFT_OUT)["index"].to_list()
        assert left == ([0, 1] if conflict and choice == "drop" else [])


def test_another_training_gives_its_split_whatever_the_tasks_and_choices(
    crops: CropSet, tmp_path: Path
) -> None:
    labels = {name: values.copy() for name, values in crops.labels.items()}
    labels["race"][11] = 3
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    found = divide(replace(crops, labels=labels), recipe_with(), [], first).table
    assert found["reason"].to_list().count("conflicting labels") == 2
    some = crops.take(np.arange(1, COUNT))
    recipe = recipe_with(split=str(first / "splits.parquet"), validation_share=0.9)
    parts = divide(some, recipe, [], second)
    assert parts.table.equals(found[1:].select(parts.table.columns))
    assert pl.read_parquet(second / "splits.parquet").equals(parts.table)
    assert len(parts.training) == found[1:].filter(part="training").height
    strange = replace(crops, sha256=("f" * 64, *crops.sha256[1:]))
    with pytest.raises(InputError, match=r"says nothing of 1 of 12 crops, such as .*0\.jpg"):
        divide(strange, recipe, [], second)
    with pytest.raises(InputError, match="no split can be read from it"):
        divide(some, recipe_with(split=str(crops.files[0])), [], second)


@pytest.mark.parametrize("known", ["by name", "by number", "by image"])
def test_faces_of_one_image_keep_what_the_recorded_split_says_of_each(
    crops: CropSet, tmp_path: Path, known: str
) -> None:
    files = tuple(tmp_path / name for name in ("7_0.jpg", "7_1.jpg"))
    both = CropSet(files, np.ones(2), {}, ("ab" * 32,) * 2)
    there = ["old/7_0.jpg", "old/7_1.jpg"] if known == "by name" else ["o/3_0.jpg", "o/3_1.jpg"]
    table = pl.DataFrame(
        {
            "file": there,
            "sha256": both.sha256,
            "group": [0, 0],
            "part": ["training", LEFT_OUT],
            "reason": ["", "cannot be decoded"],
        }
    )
    path = tmp_path / "known.parquet"
    (table.drop("file") if known == "by image" else table).write_parquet(path)
    for order in ([0, 1], [1, 0]):
        recipe = recipe_with(split=str(path))
        found = divide(both.take(np.asarray(order)), recipe, [], tmp_path).table
        wanted = ["training"] * 2 if known == "by image" else table["part"].gather(order).to_list()
        assert found["part"].to_list() == wanted
        assert found["reason"].to_list() == [
            "cannot be decoded" if part == LEFT_OUT else "" for part in wanted
        ]


def test_what_is_wrong_with_the_data_is_said_in_a_line_each(
    crops: CropSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crops.files[5].write_bytes(b"no picture")
    labels = {name: values.copy() for name, values in crops.labels.items()}
    labels["race"][1] = 2
    folders = [tmp_path / "first", tmp_path / "second"]
    with caplog.at_level(logging.WARNING):
        found = divide(replace(crops, labels=labels), recipe_with(), folders, tmp_path)
    said = "\n".join(caplog.messages)
    assert f"1 crops cannot be decoded, such as {crops.files[5]}" in said
    assert f"2 crops are duplicates with different labels, such as {crops.files[0]}" in said
    assert "1 pictures are in several of the folders" in said  # 2, and mirrored 11
    assert len(caplog.messages) == 3
    assert found.table["reason"][5] == "cannot be decoded"


def test_pictures_are_hashed_once_while_files_stay_the_same(
    crops: CropSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = divide(crops, recipe_with(), [], tmp_path)

    def fail(*_: object) -> None:
        raise AssertionError("hashed again")

    with monkeypatch.context() as patch:
        patch.setattr(splits, "hashes_of", fail)
        assert divide(crops, recipe_with(), [], tmp_path).table.equals(first.table)
    crops.files[1].write_bytes(crops.files[4].read_bytes())
    again = divide(crops, recipe_with(), [], tmp_path).table["group"]
    assert again[1] == again[4] != again[0]


def test_near_duplicates_count_by_default() -> None:
    assert Data().near_duplicates
