"""Prepared folders as trainings take them: damaged ones, filters, limits, terms and gaps."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from faceaudit.errors import FaceauditError, InputError, LabelError, LockedError, UsageError
from faceaudit.models.bundle import Bundle, load_bundle
from faceaudit.pipeline.prepare import prepare
from faceaudit.showcase.images import photograph
from faceaudit.storage import exclusive
from faceaudit.training import train as training
from faceaudit.training.data import METADATA_FILE, is_held_out, read_folders
from faceaudit.training.folders import folders_of, names_of
from faceaudit.training.recipe import Recipe
from faceaudit.training.recipe_files import recipe_from_facts
from faceaudit.training.terms import doubts_about_terms, sources_of, terms_of
from faceaudit.training.train import train

FACTS = {
    "name": "small",
    "licence": "MIT",
    "training_data": "one photograph",
    "backbone": "custom_cnn",
    "weights": "none",
    "batch": 4,
    "stages": [{"epochs": 1, "size": 32}],
    "augmentation": "none",
    "tasks": {
        "gender": {"scheme": "gender2"},
        "race": {"scheme": "utkface5"},
        "age": {"scheme": "0,18,40"},
    },
    "data": {"validation_share": 0.3, "near_duplicates": False},
}


def recipe_with(**changes: object) -> Recipe:
    return recipe_from_facts({**FACTS, **changes}, "small.toml")


def recipe_of(**data: object) -> Recipe:
    return recipe_with(data={"validation_share": 0.3, "near_duplicates": False, **data})


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of people of 20 to 58 years, of every race but the last, named as UTKFace does."""
    images, folder = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("crops")
    for k in range(20):
        crop = photograph().crop((120 + k, 40, 380 + k, 300)).resize((100, 100))
        crop.save(images / f"{20 + 2 * k}_{k % 2}_{k % 4}_201701010000000{k:02d}.jpg")
    prepare(images, folder, size=64, detector="whole", quiet=True)
    return folder


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"weights": "gone.pth"}, "weights gone.pth: there is no such file"),
        ({"start": "gone"}, "gone"),
        ({"distillation": {"teachers": ["gone"]}}, "gone"),
    ],
)
def test_what_is_missing_beside_the_crops_is_told_before_any_is_read(
    change: dict[str, object], missing: str, tmp_path: Path
) -> None:
    with pytest.raises(FaceauditError, match=missing):
        train(recipe_with(**change), data=[tmp_path / "no crops"], output=tmp_path / "out")


def copied(crops: Path, folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    """A copy of prepared crops whose table is changed; what it says of itself stays."""
    shutil.copytree(crops, folder)
    path = folder / METADATA_FILE
    own = {k: v for k, v in pq.read_schema(path).metadata.items() if k == b"faceaudit"}
    table = change(pl.read_parquet(path)).to_arrow()
    pq.write_table(table.replace_schema_metadata(own), path)
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop("sha256"), r"is no table of prepared crops \(.*sha256"),
        (lambda table: table.with_columns(margin=pl.lit("wide")), "is no table of prepared crops"),
        (
            lambda table: table.with_columns(sha256=pl.lit(None, pl.String)),
            "sha256 is missing of 20 crops",
        ),
        (
            lambda table: table.with_columns(sha256=pl.lit("abc")),
            "sha256 is 'abc', which is no hash",
        ),
        (lambda table: table.with_columns(view=pl.lit("oval")), "view is 'oval'; it must be one"),
    ],
)
def test_a_table_of_others_is_one_clear_error(
    crops: Path, tmp_path: Path, change: Callable[[pl.DataFrame], pl.DataFrame], message: str
) -> None:
    folder = copied(crops, tmp_path / "changed", change)
    with pytest.raises(InputError, match=rf"metadata\.parquet: {message}"):
        read_folders([folder], recipe_with())


def test_a_truncated_table_is_one_clear_error(crops: Path, tmp_path: Path) -> None:
    path = tmp_path / METADATA_FILE
    path.write_bytes((crops / METADATA_FILE).read_bytes()[:1000])
    with pytest.raises(InputError, match=r"metadata\.parquet: is no table of prepared crops"):
        read_folders([tmp_path], recipe_with())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"where": {"gender": "Femal"}}, "data.where gender = 'Femal' keeps no crop; .* Female, M"),
        ({"ages": [70, 80]}, "data.ages 70 to 80 keep no crop; its ages are 20 to 58"),
        (
            {"where": {"gender": "Male"}, "ages": [22, 22]},
            "data.ages 22 to 22 keep no crop that data.where keeps",
        ),
        ({"where": {"gender": "Male", "race": "Black"}}, "no crop is all that data.where names"),
    ],
)
def test_a_filter_that_keeps_nothing_says_what_there_is(
    crops: Path, data: dict[str, object], message: str
) -> None:
    with pytest.raises(LabelError, match=message):
        read_folders([crops], recipe_of(**data))


def test_ages_beyond_those_that_are_learned_can_be_chosen(crops: Path, tmp_path: Path) -> None:
    ages = [
        101.0 + row if row < 3 else 30.0
        for row in range(len(pl.read_parquet(crops / METADATA_FILE)))
    ]
    folder = copied(
        crops, tmp_path / "old", lambda table: table.with_columns(age_true=pl.Series(ages))
    )
    assert len(read_folders([folder], recipe_of(ages=[101, 116]))) == 3
    assert len(read_folders([folder], recipe_of(ages=[0, 100]))) == len(ages) - 3


def test_folders_have_names_of_their_own_also_where_their_last_names_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("a/x/crops", "b/x/crops", "y/crops", "mine")]
    assert names_of(folders) == ["a_x_crops", "b_x_crops", "y_crops", "mine"]
    assert names_of([Path("/crops"), Path("/a/crops")]) == ["crops", "a_crops"]
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    assert names_of([Path()]) == ["mine"]


def test_crops_of_folders_in_one_another_are_of_one_each(crops: Path, tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "a" / "crops"]
    for folder in folders:
        shutil.copytree(crops, folder, dirs_exist_ok=True)
    files = [*(["a/crops/0/1.jpg"] * 2), "a/crops/crops/0/1.jpg", "a/1.jpg", "a/crops/1.jpg", "1"]
    places = [tmp_path / name for name in files]
    assert folders_of(places, folders) == [0, 0, 1, 0, 1, -1]
    found = sources_of(folders, map(str, places))
    assert [(one["folder"], one["crops"]) for one in found] == [("a", 3), ("crops", 2)]
    assert folders_of([Path("crops/0/1.jpg")], [Path()]) == [0]


def test_a_folder_given_twice_is_refused(crops: Path) -> None:
    again = crops / ".." / crops.name
    with pytest.raises(UsageError, match=f"--data {crops}: is given twice"):
        read_folders([crops, again], recipe_with())


def test_a_limit_takes_of_all_folders_and_of_both_sides(crops: Path, tmp_path: Path) -> None:
    other = copied(crops, tmp_path / "other", changed_hashes)
    whole = read_folders([crops, other], recipe_with())
    some = read_folders([crops, other], recipe_with(), limit=20)
    assert len(some) == 20
    assert [file for file in whole.files if file in some.files] == list(some.files)
    assert {file.is_relative_to(other) for file in some.files} == {True, False}
    assert {is_held_out(digest, 0.3) for digest in some.sha256} == {True, False}
    assert len(read_folders([crops], recipe_with(), limit=100)) == 20


def changed_hashes(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.col("sha256").str.reverse())


def trained(crops: Path, output: Path, recipe: Recipe, **options: object) -> Bundle:
    return train(recipe, data=[crops], output=output, max_steps=1, **options)  # type: ignore[arg-type]


def test_crops_that_are_gone_are_said_to_be_gone(crops: Path, tmp_path: Path) -> None:
    folder = copied(crops, tmp_path / "gone", lambda table: table)
    shutil.rmtree(folder / "crops")
    with pytest.raises(InputError, match=r"none of 20 crops can be decoded, such as .*jpg"):
        trained(folder, tmp_path / "out", recipe_of(near_duplicates=True))


@pytest.mark.parametrize("name", [".", "/", "..", "a/.."])
def test_an_output_without_a_name_is_refused(crops: Path, name: str) -> None:
    with pytest.raises(UsageError, match="has no name; give a new folder's"):
        trained(crops, Path(name), recipe_with())


def test_an_output_that_is_a_file_is_refused_before_the_training(
    crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").write_text("mine")
    monkeypatch.setattr(training, "run_loop", None)
    with pytest.raises(UsageError, match="out: is no folder; give another name"):
        trained(crops, tmp_path / "out", recipe_with())


def test_an_output_that_holds_an_export_is_refused_before_the_training(
    crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.json").write_text("{}")
    monkeypatch.setattr(training, "run_loop", None)
    with pytest.raises(UsageError, match=r"out: holds an exported graph \(model.json\); give"):
        trained(crops, tmp_path / "out", recipe_with())


def test_what_a_killed_training_left_half_written_is_removed(crops: Path, tmp_path: Path) -> None:
    left = [
        tmp_path / "out" / ".weights.safetensors.abcdefgh.part",
        tmp_path / "out.training" / ".hashes.npz.abcdefgh.part",
    ]
    for file in left:
        file.parent.mkdir()
        file.write_text("half")
    trained(crops, tmp_path / "out", recipe_with())
    assert [file for file in left if file.exists()] == []


def test_two_trainings_cannot_share_a_work_folder(crops: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with (
        exclusive(work / "checkpoint.pt"),
        pytest.raises(LockedError, match="another run is writing it"),
    ):
        trained(crops, tmp_path / "out", recipe_with(), work=work)


def unlabeled(column: str, held_out: bool) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """A change that takes the labels of one side of the split away."""

    def change(table: pl.DataFrame) -> pl.DataFrame:
        gone = pl.Series([is_held_out(digest, 0.3) == held_out for digest in table["sha256"]])
        return table.with_columns(pl.when(~gone).then(column).alias(column))

    return change


def test_what_labels_cannot_teach_or_calibrate_is_said_before_and_on_the_card(
    crops: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(crops, tmp_path / "few", unlabeled("gender_true", held_out=True))
    with caplog.at_level(logging.WARNING):
        card = trained(folder, tmp_path / "out", recipe_with(card={"limits": ["Small."]})).card
    assert card["never_seen"] == {"race": ["Others"], "age_group": ["0-17"]}
    assert card["not_calibrated"] == ["gender"]
    assert card["temperatures"]["gender"] == 1.0
    assert card["temperatures"]["race"] != 1.0
    said = [
        "No training crop is labeled Others (race): labels taught nothing of it.",
        "No training crop is labeled 0-17 (age group): labels taught nothing of it.",
        "No validation crop has a label of gender: its probabilities are not calibrated.",
    ]
    assert card["limits"] == ["Small.", *said]
    assert set(said) <= set(caplog.messages)


def test_a_training_without_gaps_says_nothing_of_them(crops: Path, tmp_path: Path) -> None:
    recipe = recipe_with(tasks={"gender": {"scheme": "gender2"}})
    card = trained(crops, tmp_path / "out", recipe).card
    assert not {"never_seen", "not_calibrated", "limits"} & set(card)
    assert card["data"] == [{"folder": crops.name, "labels": "utkface", "crops": 20}]


def test_labels_of_research_only_data_need_a_recipe_that_says_so(
    crops: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (doubt,) = doubts_about_terms(recipe_with(), [crops])
    assert doubt.startswith(f"{crops} has the labels of UTKFace, which allows research only")
    assert "license 'MIT', trained on 'one photograph'" in doubt
    assert not doubts_about_terms(recipe_with(research_only=True), [crops])
    with caplog.at_level(logging.WARNING):
        trained(crops, tmp_path / "out", recipe_with())
    assert doubt in caplog.messages


def test_a_card_counts_the_crops_of_each_folder(crops: Path, tmp_path: Path) -> None:
    other = copied(crops, tmp_path / "crops0", lambda table: table)
    pl.read_parquet(other / METADATA_FILE).write_parquet(other / METADATA_FILE)
    files = [str(crops / "crops" / "a.jpg"), *[str(other / "crops" / f"{k}.jpg") for k in range(3)]]
    assert [(one["labels"], one["crops"]) for one in sources_of([crops, other], files)] == [
        ("utkface", 1),
        ("not recorded", 3),
    ]


@pytest.mark.parametrize(
    "role", [{"start": "research"}, {"distillation": {"teachers": ["research"]}}]
)
def test_the_license_of_what_is_for_research_only_stays(role: dict[str, object]) -> None:
    research = load_bundle("research").licence
    licence, research_only = terms_of(recipe_with(research_only=False, **role))
    assert licence == f"MIT; bundle research: {research}"
    assert research_only
    assert terms_of(recipe_with(licence=research, **role)) == (research, True)
