from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from faceaudit.audit.run import audit
from faceaudit.models.bundle import Bundle
from faceaudit.models.card import card_text
from faceaudit.pipeline.prepare import prepare
from faceaudit.schema import METADATA_KEY, TableMetadata, task_of_scheme
from faceaudit.showcase.images import photograph
from faceaudit.tables import read_table
from faceaudit.training.card_figures import (
    SMALL_NAMED,
    calibration_error,
    too_small,
    weakest,
    weakest_ages,
)
from faceaudit.training.data import CropSet
from faceaudit.training.validation_page import (
    HeldOut,
    annotations_of,
    audit_held_out,
    with_age_groups,
    write_table,
)

COUNT = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared crops of the photograph with UTKFace labels; the last one is damaged."""
    images = tmp_path_factory.mktemp("images")
    for k in range(COUNT):
        crop = photograph().crop((120 + k, 40, 380 + k, 300)).resize((140, 140))
        crop.save(images / f"{20 + 2 * k}_{k % 2}_{k % 5}_201701010000000{k:02d}.jpg")
    made = tmp_path_factory.mktemp("crops")
    prepare(images, made, size=96)
    last = pl.read_parquet(made / "metadata.parquet")["file_name"][-1]
    (made / last).write_bytes(b"no picture")
    return made


@pytest.fixture(scope="module")
def crops(folder: Path) -> CropSet:
    table = pl.read_parquet(folder / "metadata.parquet")
    files = tuple(folder / name for name in table["file_name"])
    return CropSet(files, np.full(len(files), 1.4 / 0.95), {}, tuple(table["sha256"]))


@pytest.fixture(scope="module")
def found(
    random_bundle: Bundle, crops: CropSet, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> HeldOut:
    work = tmp_path_factory.mktemp("work")
    return audit_held_out(random_bundle, crops, [folder], work, "validation")


def test_the_card_has_the_figures_of_every_folder_by_itself(
    random_bundle: Bundle, crops: CropSet, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    rows = range(0, COUNT - 1, 2)  # their race is White, Asian or Others, of UTKFace's five
    files = (*crops.files, *(other / crops.files[row].relative_to(folder) for row in rows))
    views = np.full(len(files), crops.views[0])
    both = CropSet(files, views, {}, (*crops.sha256, *(crops.sha256[row] for row in rows)))
    found = audit_held_out(random_bundle, both, [folder, other], tmp_path, "validation")
    for task, metric in {"gender": "accuracy", "race": "accuracy", "age": "mae"}.items():
        pooled, sets = found.metrics[task], found.metrics[task]["sets"]
        assert list(sets) == [folder.name, "other"]
        assert [one["n"] for one in sets.values()] == [COUNT - 1, len(rows)]
        mean = sum(one["n"] * one[metric] for one in sets.values()) / pooled["n"]
        assert pooled[metric] == pytest.approx(mean, abs=2e-4)
    card = card_text(replace(random_bundle, card={"metrics": found.metrics}))
    assert f"on {len(files) - 1} validation crops; {folder.name}: accuracy" in card
    assert f"on {len(rows)} validation crops" in card


def test_folders_of_the_same_name_have_figures_of_their_own(
    random_bundle: Bundle, crops: CropSet, folder: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / name / "crops" for name in ("first", "second")]
    for one in folders:
        shutil.copytree(folder, one)
    files = tuple(one / file.relative_to(folder) for one in folders for file in crops.files[:12])
    both = CropSet(files, np.full(len(files), crops.views[0]), {}, crops.sha256[:12] * 2)
    found = audit_held_out(random_bundle, both, folders, tmp_path, "validation")
    names = ["first_crops", "second_crops"]
    assert {
        name: one["n"] for name, one in found.metrics["gender"]["sets"].items()
    } == dict.fromkeys(names, 12)
    assert all((tmp_path / f"validation.{name}.parquet").is_file() for name in names)
    assert pl.read_parquet(found.table)["image"].n_unique() == 24


def test_the_card_names_the_annotated_classes_that_a_figure_leaves_out(
    random_bundle: Bundle, crops: CropSet, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    table = pl.read_parquet(other / "metadata.parquet")
    finer = ["East Asian"] * 5 + ["Middle Eastern"] * 7 + ["White"] * (COUNT - 12)  # the network's
    table.with_columns(race_true=pl.Series(finer)).write_parquet(other / "metadata.parquet")
    rows = range(COUNT - 1)
    files = (*crops.files, *(other / crops.files[row].relative_to(folder) for row in rows))
    both = CropSet(files, np.full(len(files), crops.views[0]), {}, (*crops.sha256,) * 2)
    both = replace(both, sha256=both.sha256[: len(files)])
    found = audit_held_out(random_bundle, both, [folder, other], tmp_path, "validation")
    race = found.metrics["race"]
    assert race["left_out"] == {"Asian": 5, "Others": 4}
    assert race["n"] + 9 == found.metrics["gender"]["n"] == 2 * (COUNT - 1)
    assert [one["n"] for one in race["sets"].values()] == [COUNT - 1] * 2
    assert not [one for one in race["sets"].values() if "left_out" in one]
    assert not [one for name, one in found.metrics.items() if name != "race" and "left_out" in one]
    card = card_text(replace(random_bundle, card={"metrics": found.metrics}))
    assert "a recipe or an epoch may have been chosen by them" in card
    assert "0.000 is not told apart from none" in card
    assert (
        f"crops, without those annotated Asian (5) or Others (4); {folder.name}: accuracy" in card
    )
    assert all(s.startswith((f"{folder.name}: ", "other: ")) for s in found.weakest)
    one = next(s for s in weakest(found.audit, 1, ["race"]) if s.startswith("Race"))
    assert one.endswith(f" of the {race['n']} faces annotated with one of its classes.")


def test_every_held_out_crop_has_a_row(found: HeldOut, crops: CropSet) -> None:
    table = pl.read_parquet(found.table)
    assert table["sha256"].to_list() == list(crops.sha256)
    assert table["image"].n_unique() == COUNT
    assert table["status"].to_list() == ["ok"] * (COUNT - 1) + ["unreadable"]
    assert table.filter(pl.col("status") == "ok")["age_pred"].null_count() == 0
    assert table["age_group_true"][0] == "20-29"


def test_page_and_numbers_stand_beside_the_table(found: HeldOut) -> None:
    assert found.page.name == "validation.html"
    assert "on its validation crops" in found.page.read_text()
    assert json.loads(found.page.with_suffix(".json").read_text())["table"]["rows"] == COUNT
    assert read_table(found.table).rows == COUNT


def test_the_card_has_an_interval_and_a_count_for_every_task(found: HeldOut) -> None:
    table = pl.read_parquet(found.table).filter(pl.col("status") == "ok")
    share = (table["gender_true"] == table["gender_pred"]).mean()
    gender = found.metrics["gender"]
    assert gender["accuracy"] == pytest.approx(share, abs=1e-4)
    assert 0 <= gender["low"] < gender["accuracy"] < gender["high"] <= 1
    assert (gender["n"], gender["on"]) == (COUNT - 1, "validation crops")
    errors = (table["age_true"] - table["age_pred"]).abs()
    assert found.metrics["age"]["mae"] == pytest.approx(errors.mean(), abs=1e-3)
    assert {"gender", "race", "age_group", "age"} == set(found.metrics)


def test_the_weakest_subgroup_is_said_with_its_interval(found: HeldOut) -> None:
    assert weakest(found.audit) == []  # no subgroup has a hundred faces
    sentences = weakest(found.audit, min_faces=1)
    accuracies: dict[str, set[float | None]] = {}
    for value in found.audit.metrics:
        if value.metric == "accuracy" and len(value.subgroup) == 2:
            accuracies.setdefault(value.task, set()).add(value.estimate.value)
    assert len(sentences) == sum(len(values) > 1 for values in accuracies.values())
    for sentence in sentences:
        assert "is least often right for faces annotated gender" in sentence
        assert " faces), against " in sentence
    worst = min(
        (v for v in found.audit.metrics if (v.task, v.metric) == ("race", "accuracy")),
        key=lambda v: v.estimate.value if len(v.subgroup) == 2 else 2,
    )
    race = next(s for s in sentences if s.startswith("Race"))
    assert f"{worst.estimate.value:.1%} ({worst.estimate.low:.1%} to" in race


def test_the_age_group_that_a_task_is_least_often_right_for_is_said(found: HeldOut) -> None:
    by_age = audit(read_table(found.table), by=["age_group"], verify="never")
    assert weakest_ages(by_age) == []  # no age group has a hundred faces
    (sentence,) = (one for one in weakest_ages(by_age, 1) if "gender" in one)
    table = pl.read_parquet(found.table).filter(pl.col("status") == "ok")
    right = (pl.col("gender_true") == pl.col("gender_pred")).mean()
    shares = table.group_by("age_group_true").agg(right.alias("share"), n=pl.len())
    worst = shares.sort("share", "age_group_true").row(0, named=True)
    assert f"for {worst['age_group_true']}: {worst['share']:.1%} (" in sentence
    assert sentence.endswith(f"{worst['n']} faces).")


def test_groups_too_small_to_be_looked_at_are_named_with_their_faces(found: HeldOut) -> None:
    by_age = audit(read_table(found.table), by=["age_group"], verify="never")
    table = pl.read_parquet(found.table).filter(pl.col("status") == "ok")
    (sentence,) = too_small(found.audit, by_age)
    assert sentence == found.weakest[-1]
    assert sentence.startswith("Not looked at, having fewer than 100 annotated faces: ")
    pairs = table.group_by("gender_true", "race_true").len().rows()
    ages = table["age_group_true"].value_counts().rows()
    groups = [f"{gender}, {race} ({n})" for gender, race, n in pairs]
    groups += [f"{age} ({n})" for age, n in ages]
    named = set(sentence.partition(": ")[2].removesuffix(".").split("; "))
    more = {one for one in named if one.startswith("and ")}
    assert named - more <= set(groups)
    assert len(named - more) == min(len(groups), SMALL_NAMED)
    assert bool(more) == (len(groups) > SMALL_NAMED)
    assert too_small(found.audit, None, min_faces=1) == []


def test_an_age_group_is_least_often_right_by_its_own_recall(found: HeldOut) -> None:
    by_age = audit(read_table(found.table), by=["age_group"], verify="never")
    metrics = tuple(
        replace(one, estimate=replace(one.estimate, value=0.5 if one.label == "30-39" else 0.9))
        if (one.task, one.metric) == ("age_group", "recall") and one.estimate.n
        else one
        for one in by_age.metrics
    )
    sentences = weakest_ages(replace(by_age, metrics=metrics), 1)
    said = [one for one in sentences if "the age group is" in one]
    assert len(said) == 1
    assert "is least often right for 30-39: 50.0% (" in said[0]


def test_of_equal_subgroups_none_is_least_often_right(found: HeldOut) -> None:
    alike = tuple(
        replace(value, estimate=replace(value.estimate, value=0.9))
        if value.metric == "accuracy" and value.task != "race"
        else value
        for value in found.audit.metrics
    )
    (sentence,) = weakest(replace(found.audit, metrics=alike), min_faces=1)
    assert sentence.startswith("Race is least often right")


def test_the_card_counts_how_classes_are_confused(found: HeldOut) -> None:
    table = read_table(found.table)
    faces = table.frame.collect()
    for name in ("gender", "age_group"):
        known = found.confusion[name]
        counts = np.array(known["counts"])
        size = len(known["classes"])
        assert tuple(known["classes"]) == table.task(name).classes
        assert counts.shape == (size, size, len(known["edges"]) + 1)
        both = faces.drop_nulls([f"{name}_true", f"{name}_pred"])
        right = both.filter(pl.col(f"{name}_true") == pl.col(f"{name}_pred"))
        assert counts.sum() == both.height
        assert np.trace(counts.sum(axis=-1)) == right.height
        assert json.loads(json.dumps(known)) == known


def test_groups_are_formed_from_years_and_kept_where_there_are_none() -> None:
    given = pl.DataFrame(
        {"age_group_true": [None, "20-29", None], "age_true": [35.0, None, None]},
        schema_overrides={"age_true": pl.Float32},
    )
    assert with_age_groups(given, (0, 30))["age_group_true"].to_list() == ["30+", "20-29", None]


def test_folders_with_different_annotations_are_joined(
    random_bundle: Bundle, crops: CropSet, folder: Path, tmp_path: Path
) -> None:
    table = pl.read_parquet(folder / "metadata.parquet")
    other = table.drop("age_true", "race_true").with_columns(age_group_true=pl.lit("20-29"))
    other.write_parquet(tmp_path / "metadata.parquet")
    both = CropSet(
        (crops.files[2], tmp_path / table["file_name"][0]), crops.views[:2], {}, crops.sha256[:2]
    )
    found, _ = annotations_of(random_bundle, both, [folder, tmp_path])
    assert found["gender_true"].null_count() == 0
    assert found["race_true"].to_list() == [table["race_true"][2], None]
    assert found["age_group_true"].to_list() == [None, "20-29"]


def test_finer_annotations_become_the_classes_of_the_bundle(
    random_bundle: Bundle, crops: CropSet, folder: Path, tmp_path: Path
) -> None:
    """As a head of five classes is trained on seven, and by itself has its figures audited."""
    given = ["East Asian", "Southeast Asian", "Middle Eastern", "Latino_Hispanic", "Black"]
    table = pl.read_parquet(folder / "metadata.parquet")
    finer = table.with_columns(race_true=pl.Series([given[k % 5] for k in range(len(table))]))
    fine = task_of_scheme("race", "fairface7")
    facts = TableMetadata((), labels={"tasks": [vars(fine)]}).to_json()
    written = finer.to_arrow().replace_schema_metadata({METADATA_KEY: facts})
    pq.write_table(written, tmp_path / "metadata.parquet")
    heads = tuple(
        replace(one, scheme="utkface5", classes=task_of_scheme("race", "utkface5").classes)
        if one.name == "race"
        else one
        for one in random_bundle.tasks
    )
    moved = replace(crops, files=tuple(tmp_path / name for name in table["file_name"]))
    five = replace(random_bundle, tasks=heads)
    found, tasks = annotations_of(five, moved, [tmp_path])
    assert set(found["race_true"]) == {"Asian", "Others", "Black"}
    assert tasks["race"] == task_of_scheme("race", "utkface5")
    as_they_are, tasks = annotations_of(random_bundle, moved, [tmp_path])
    assert set(as_they_are["race_true"]) == set(given)
    assert tasks["race"] == fine


def test_crops_without_annotations_still_make_a_table(
    random_bundle: Bundle, crops: CropSet, tmp_path: Path
) -> None:
    none = pl.DataFrame(schema={"file_name": pl.String}).select([])
    path = write_table(random_bundle, crops, none, tmp_path / "validation.parquet")
    assert not [name for name in pl.read_parquet(path).columns if name.endswith("_true")]


def test_calibration_error_is_near_zero_for_a_calibrated_model_of_any_size() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(200):
        confidence = generator.uniform(0.5, 1, 150)
        right = generator.random(150) < confidence
        found.append(calibration_error(confidence, right) ** 2)
    assert np.mean(found) < 0.003  # without the correction about 0.02
    confidence = generator.uniform(0.6, 1, 20_000)
    right = generator.random(20_000) < confidence - 0.1
    assert calibration_error(confidence, right) == pytest.approx(0.1, abs=0.01)
