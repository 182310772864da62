"""Annotations of prepared crops as heads learn them."""

from __future__ import annotations

import itertools
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from faceaudit.errors import LabelError
from faceaudit.labels.tables import recorded_tasks
from faceaudit.pipeline.prepare import prepare
from faceaudit.schema import SCHEME_MAPS, SCHEMES, Task, task_of_scheme
from faceaudit.showcase.images import photograph
from faceaudit.training.data import join_crops, read_crops
from faceaudit.training.labels import UNKNOWN, age_intervals, class_rows, class_sets
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.validation_page import annotations_of

RACES = ("utkface5", "fairface7", "fairface4")


def taught(values: list[str | None], head: str, annotated: str | None) -> list[set[str]]:
    """The classes of a head that each label says the face is one of."""
    table = pl.DataFrame({"race_true": values}, schema={"race_true": pl.String})
    recorded = None if annotated is None else task_of_scheme("race", annotated)
    rows = class_rows(table, task_of_scheme("race", head), recorded, Path("crops"))
    sets = class_sets(head)
    return [
        set() if row == UNKNOWN else set(np.asarray(SCHEMES[head])[sets[row]])
        for row in rows.tolist()
    ]


@pytest.mark.parametrize(("head", "annotated"), [*itertools.product(RACES, RACES)])
def test_a_label_of_a_recorded_scheme_stands_for_the_classes_that_the_mapping_says(
    head: str, annotated: str
) -> None:
    for name, found in zip(
        SCHEMES[annotated], taught(list(SCHEMES[annotated]), head, annotated), strict=True
    ):
        if head == annotated:
            assert found == {name}
        elif down := SCHEME_MAPS.get((head, annotated)):
            assert found == {fine for fine, coarse in down.items() if coarse == name}
        elif up := SCHEME_MAPS.get((annotated, head)):
            assert found == {up[name]}
        elif (annotated, head) == ("utkface5", "fairface4"):
            assert found == ({name} if name in SCHEMES["fairface4"] else set())
        else:  # what the classes of fairface7 that are this one of four are called among five
            seven, five = (
                SCHEME_MAPS["fairface7", "fairface4"],
                SCHEME_MAPS["fairface7", "utkface5"],
            )
            assert found == {five[fine] for fine, coarse in seven.items() if coarse == name}


def test_labels_without_a_counterpart_are_told_with_their_scheme(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        taught(["Others", "White", "Others", None], "fairface4", "utkface5")
    (message,) = caplog.messages
    assert message == (
        "crops: 2 values of race_true (scheme utkface5: Others) have no counterpart in the scheme "
        "fairface4"
    )


def test_four_races_teach_five_beside_a_set_of_five(crops: Path, tmp_path: Path) -> None:
    """Held-out figures of the set of four leave out its White, which may be Others."""
    four = tmp_path / "four"
    shutil.copytree(crops, four)
    path = four / "metadata.parquet"
    facts = pq.read_schema(path).metadata
    facts[b"faceaudit"] = facts[b"faceaudit"].replace(b"utkface5", b"fairface4")
    facts[b"faceaudit"] = facts[b"faceaudit"].replace(b', "Others"', b"")
    pq.write_table(pq.read_table(path).replace_schema_metadata(facts), path)
    assert recorded_tasks([path])["race"] == task_of_scheme("race", "fairface4")
    recipe = load_recipe("fairface", {"tasks.race.scheme": "utkface5"})
    found = join_crops([read_crops(folder, recipe) for folder in (crops, four)])
    sets = class_sets("utkface5")[found.labels["race"]]
    assert sets.sum(axis=1).tolist() == [1, 1, 1, 1, 2, 1, 1, 1]
    bundle = SimpleNamespace(tasks=recipe.outputs())
    labels, same = annotations_of(bundle, found, [crops, four])  # type: ignore[arg-type]
    assert labels["race_true"].to_list()[4:] == [None, "Black", "Asian", "Indian"]
    assert same["race"].scheme == "utkface5"


def test_faces_of_a_few_classes_are_not_taken_for_those_of_another_scheme() -> None:
    assert taught(["White", "Black"], "fairface7", "fairface4")[0] == {
        "White",
        "Latino_Hispanic",
        "Middle Eastern",
    }
    assert taught(["White", "Asian"], "fairface7", "utkface5") == [
        {"White"},
        {"East Asian", "Southeast Asian"},
    ]


def test_without_a_record_a_scheme_that_fits_is_taken_and_doubt_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert taught(["Others", "White", None], "fairface7", None)[1:] == [{"White"}, set()]
        assert taught(["East Asian", "White"], "utkface5", None) == [{"Asian"}, {"White"}]
        assert not caplog.messages
        assert taught(["White", "Asian"], "fairface7", None)[0] > {"White"}
    assert len(caplog.messages) == 1
    assert "race labels are of, fairface4 or utkface5; fairface4 is taken" in caplog.text


def test_classes_of_no_scheme_teach_those_that_they_are_called() -> None:
    table = pl.DataFrame({"race_true": ["White", "Roma", None]})
    custom = Task("race", "custom", ("Roma", "White"))
    for recorded in (custom, None):
        rows = class_rows(table, task_of_scheme("race", "utkface5"), recorded, Path("crops"))
        assert rows.tolist() == [0, UNKNOWN, UNKNOWN]


def test_an_age_group_says_its_years_whatever_groups_there_are() -> None:
    groups = ["3-9", "70+", None, "100+", "20-200"]
    low, high = age_intervals(pl.DataFrame({"age_group_true": groups}), Path("crops"))
    assert low.tolist() == [3, 70, UNKNOWN, 100, 20]
    assert high.tolist() == [9, 100, UNKNOWN, 100, 100]
    with pytest.raises(LabelError, match="crops: age group 'adult' does not say its years"):
        age_intervals(pl.DataFrame({"age_group_true": ["adult"]}), Path("crops"))
    with pytest.raises(LabelError, match="'39-30' ends before it begins; call it 30-39"):
        age_intervals(pl.DataFrame({"age_group_true": ["39-30"]}), Path("crops"))


@pytest.mark.parametrize("age", [-7.0, 117.0, 1e9, float("inf"), "about 30"])
def test_an_age_that_cannot_be_is_one_clear_error(age: float | str) -> None:
    table = pl.DataFrame({"age_true": [None, age]})
    with pytest.raises(LabelError, match=r"crops: age_true is .*; ages are years from 0 to 116"):
        age_intervals(table, Path("crops"))


@pytest.mark.parametrize("values", [[30.0, None, float("nan"), 116.0], ["30", None, "nan", "116"]])
def test_ages_may_be_numbers_or_text_or_missing(values: list[object]) -> None:
    low, high = age_intervals(pl.DataFrame({"age_true": values}), Path("crops"))
    assert low.tolist() == high.tolist() == [30, UNKNOWN, UNKNOWN, 116]


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops with UTKFace labels, none of which is Others: they would fit fairface4 as well."""
    images, folder = (tmp_path_factory.mktemp(name) for name in ("images", "crops"))
    for race in range(4):
        photograph().resize((100, 100)).save(images / f"{20 + race}_0_{race}_20170101{race}.jpg")
    prepare(images, folder, size=64, detector="whole")
    return folder


def test_prepare_records_the_schemes_that_a_training_takes(crops: Path) -> None:
    for name in ("metadata.parquet", "faces.parquet"):
        assert recorded_tasks([crops / name])["race"] == task_of_scheme("race", "utkface5")
    found = read_crops(crops, load_recipe("fairface", {"align": "similarity"}))
    white = class_sets("fairface7")[found.labels["race"][0]]
    assert np.asarray(SCHEMES["fairface7"])[white].tolist() == ["White"]


def test_crops_prepared_from_crops_keep_the_scheme(crops: Path, tmp_path: Path) -> None:
    prepare(crops, tmp_path / "again", size=64, detector="whole")
    first, again = (recorded_tasks([f / "metadata.parquet"]) for f in (crops, tmp_path / "again"))
    assert first == again


def test_folders_that_record_different_schemes_record_none_together(
    crops: Path, tmp_path: Path
) -> None:
    names = [path.name for path in (crops / "crops" / "0000").iterdir()]
    labels = pl.DataFrame({"file": names}).with_columns(
        race=pl.lit("East Asian"), gender=pl.lit("Male")
    )
    labels.write_csv(tmp_path / "labels.csv")
    other, spec = tmp_path / "other", f"table:{tmp_path / 'labels.csv'}"
    prepare(crops / "crops" / "0000", other, size=64, detector="whole", labels=spec)
    both = recorded_tasks([crops / "metadata.parquet", other / "metadata.parquet"])
    assert set(both) == {"gender"}
