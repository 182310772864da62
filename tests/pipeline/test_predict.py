from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from faceaudit.errors import (
    FaceauditError,
    InputError,
    LockedError,
    TemporaryError,
    UnknownNameError,
    UsageError,
)
from faceaudit.models.bundle import Bundle
from faceaudit.pipeline.predict import Prediction, predict
from faceaudit.pipeline.prepare import prepare
from faceaudit.schema import METADATA_KEY, STATUSES, TableMetadata
from faceaudit.showcase.images import SPECIMENS, photograph
from faceaudit.storage import exclusive
from faceaudit.tables.files import read_metadata

STATUS_OF_SPECIMEN = {
    "no face.png": "no_face",
    "cut short.jpg": "unreadable",
    "empty.jpg": "unreadable",
    "a text file.jpg": "unsupported",
}


@pytest.fixture(scope="module")
def model(random_bundle: Bundle) -> str:
    return str(random_bundle.graph.parent)


@pytest.fixture(scope="module")
def table(specimens: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "out.parquet"
    predict(specimens, out, model=model)
    return out


@pytest.fixture
def utkface(tmp_path: Path) -> Path:
    """Twelve crops of the photograph with UTKFace names, one of them malformed."""
    folder = tmp_path / "crops"
    folder.mkdir()
    crop = photograph().crop((120, 40, 380, 300)).resize((120, 120))
    for age in range(20, 31):
        crop.save(folder / f"{age}_{age % 2}_{age % 5}_20170101120000000.jpg")
    crop.save(folder / "61_1_20170101120000000.jpg")
    return folder


def test_every_image_gets_a_row_with_the_right_status(table: Path) -> None:
    rows = pl.read_parquet(table)
    assert set(rows["image"]) == set(SPECIMENS)
    for row in rows.iter_rows(named=True):
        wanted = STATUS_OF_SPECIMEN.get(row["image"], "ok")
        assert row["status"] == wanted, row
        assert row["status"] in STATUSES
        scored = wanted == "ok"
        assert (row["error"] is None) == scored
        for name in ("face", "gender_pred", "race_probs", "age_pred", "box_x0", "detection_score"):
            assert (row[name] is not None) == scored, (row["image"], name)


def test_a_turned_image_is_judged_as_the_upright_one(table: Path) -> None:
    rows = {row["image"]: row for row in pl.read_parquet(table).iter_rows(named=True)}
    upright, turned = rows["hopper.jpg"], rows["hopper turned (EXIF).jpg"]
    assert (upright["width"], upright["height"]) == (turned["width"], turned["height"])
    for name in ("box_x0", "box_y0", "box_x1", "box_y1"):
        assert turned[name] == pytest.approx(upright[name], abs=6)


def test_probabilities_are_probabilities(table: Path) -> None:
    rows = pl.read_parquet(table).filter(pl.col("status") == "ok")
    for task in ("gender", "race", "age_group"):
        probs = rows[f"{task}_probs"].struct.unnest()
        assert ((probs.sum_horizontal() - 1).abs() < 1e-5).all()
        best = [probs.columns[k] for k in probs.to_numpy().argmax(axis=1)]
        assert best == rows[f"{task}_pred"].to_list()
    assert rows["age_pred"].is_between(0, 100).all()


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"workers": 1}, {"batch_size": 5}])
def test_columns_do_not_depend_on_how_the_work_is_cut(
    table: Path, specimens: Path, model: str, tmp_path: Path, options: dict[str, int]
) -> None:
    out = tmp_path / "other.parquet"
    predict(specimens, out, model=model, **options)  # type: ignore[arg-type]
    assert pq.read_table(out).equals(pq.read_table(table))
    assert out.read_bytes() == table.read_bytes()


def test_torch_writes_the_same_table_within_a_thousandth(
    table: Path, specimens: Path, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "torch.parquet"
    predict(specimens, out, model=model, runtime="torch", device="cpu")
    found, wanted = pl.read_parquet(out), pl.read_parquet(table)
    assert found["image"].to_list() == wanted["image"].to_list()
    difference = (
        found["race_probs"].struct.unnest().to_numpy()
        - wanted["race_probs"].struct.unnest().to_numpy()
    )
    assert abs(difference[found["status"].to_numpy() == "ok"]).max() < 1e-3


def test_labels_that_some_names_hold_are_told_of(
    specimens: Path, random_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(specimens, tmp_path / "images")
    first = min(path for path in (tmp_path / "images").iterdir() if path.suffix == ".jpg")
    first.rename(first.with_name("30_0_0_20170101.jpg"))
    model = str(random_bundle.graph.parent)
    with caplog.at_level("INFO"):
        predict(tmp_path / "images", tmp_path / "out.parquet", model=model)
    assert (
        "labels: none found; 1 of 13 file names is UTKFace's, name --labels utkface" in caplog.text
    )


def test_metadata_says_what_made_the_table(table: Path, random_bundle: Bundle) -> None:
    found = read_metadata(table)
    assert found is not None
    assert found.model["sha256"] == random_bundle.sha256
    assert found.detector["name"] == "retinaface"
    assert found.precision == "float32"
    assert [task.name for task in found.tasks] == ["gender", "race", "age_group"]
    assert json.loads(pq.read_schema(table).metadata[METADATA_KEY])["schema_version"] == 1


def test_a_complete_table_costs_no_work(table: Path, specimens: Path, model: str) -> None:
    before = table.stat().st_mtime_ns
    again = predict(specimens, table, model=model)
    assert again.already_complete
    assert again.images == len(SPECIMENS)
    assert table.stat().st_mtime_ns == before


def test_other_options_are_refused_by_name_until_restart(
    specimens: Path, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    predict(specimens, out, model=model, limit=3)
    with pytest.raises(
        UsageError, match=r"--detector retinaface \(now whole\); --restart replaces it"
    ):
        predict(specimens, out, model=model, limit=3, detector="whole")
    replaced = predict(specimens, out, model=model, limit=3, detector="whole", restart=True)
    assert not replaced.already_complete
    found = read_metadata(out)
    assert found is not None
    assert found.detector["name"] == "whole"


def test_changed_images_are_noticed(utkface: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    predict(utkface, out, model=model, detector="whole")
    photograph().save(utkface / "20_0_0_20170101120000000.jpg")
    with pytest.raises(UsageError, match="other images of 1 of its images, such as 20_0_0"):
        predict(utkface, out, model=model, detector="whole")


def test_a_foreign_file_is_not_overwritten(specimens: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "mine.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(out)
    with pytest.raises(UsageError, match="not a faceaudit table"):
        predict(specimens, out, model=model)
    said = TableMetadata((), options={"images": 1, "inputs": "no number", "labels": "0"})
    table = pa.table({"image": ["a.jpg"]})
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: said.to_json()}), out)
    with pytest.raises(UsageError, match="not a faceaudit table"):
        predict(specimens, out, model=model)


def test_a_task_left_out_leaves_no_trace(specimens: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    predict(specimens, out, model=model, tasks=("gender", "age"), limit=4)
    schema = pq.read_schema(out)
    assert not [name for name in schema.names if name.startswith("race")]
    assert "age_group_pred" in schema.names
    with pytest.raises(UnknownNameError, match="no task is called 'hair'"):
        predict(specimens, out, model=model, tasks=("hair",))


def test_age_groups_follow_the_bins(specimens: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    predict(specimens, out, model=model, age_bins=(0, 18, 65), limit=4)
    rows = pl.read_parquet(out)
    assert rows["age_group_probs"].struct.fields == ["0-17", "18-64", "65+"]


def test_utkface_names_become_labels_and_a_malformed_one_null(
    utkface: Path, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    found = predict(utkface, out, model=model, detector="whole")
    assert found.labels == "utkface"
    rows = {row["image"]: row for row in pl.read_parquet(out).iter_rows(named=True)}
    row = rows["21_1_1_20170101120000000.jpg"]
    assert (row["gender_true"], row["race_true"], row["age_true"]) == ("Female", "Black", 21.0)
    assert row["age_group_true"] == "20-29"
    assert row["detection_score"] is None
    assert row["status"] == "ok"
    assert rows["61_1_20170101120000000.jpg"]["race_true"] is None


def test_columns_of_a_list_travel_with_the_images(
    utkface: Path, model: str, tmp_path: Path
) -> None:
    names = sorted(path.name for path in utkface.iterdir())[:3]
    listing = tmp_path / "list.csv"
    pl.DataFrame(
        {"image": [str(utkface / name) for name in names], "prompt": ["a", "b", None]}
    ).write_csv(listing)
    out = tmp_path / "out.parquet"
    predict(listing, out, model=model, detector="whole", labels="none")
    assert pl.read_parquet(out)["prompt"].to_list() == ["a", "b", None]


def test_all_faces_of_an_image_get_rows_in_order(model: str, tmp_path: Path) -> None:
    photo = photograph()
    both = Image.new("RGB", (photo.width + photo.width // 2, photo.height))
    both.paste(photo.resize((photo.width // 2, photo.height // 2)), (0, 0))
    both.paste(photo, (photo.width // 2, 0))
    both.save(tmp_path / "two.png")
    out = tmp_path / "out.parquet"
    found = predict(tmp_path / "two.png", out, model=model, faces="all")
    assert (found.images, found.faces) == (1, 2)
    rows = pl.read_parquet(out)
    assert rows["face"].to_list() == [0, 1]
    width = rows["box_x1"] - rows["box_x0"]
    assert width[0] > width[1]
    assert predict(tmp_path / "two.png", tmp_path / "one.parquet", model=model).faces == 1


def test_a_bomb_is_too_large_and_never_decoded(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("1", (12000, 9000)).save(folder / "bomb.png")
    found = predict(folder, tmp_path / "out.parquet", model=model)
    assert found.statuses == {"too_large": 1}
    row = pl.read_parquet(tmp_path / "out.parquet").row(0, named=True)
    assert (row["width"], row["height"]) == (12000, 9000)


def test_odd_files_beside_good_ones_get_a_row_each(
    specimens: Path, model: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(specimens, tmp_path / "images"))
    photo = photograph()
    photo.convert("RGBA").save(folder / "alpha.png")
    photo.quantize(16).save(folder / "palette.gif")
    frames = [photo.resize((256, 300)), Image.new("RGB", (256, 300))]
    frames[0].save(folder / "animated.webp", save_all=True, append_images=frames[1:])
    photo.save(folder / "new\nline \"quoted\" 'name'.png")
    photo.save(folder / "名前 и имя.bmp")
    photo.save(folder / "scan.tiff")
    Image.new("RGB", (1, 1)).save(folder / "one pixel.png")
    Image.new("1", (12000, 9000)).save(folder / "huge.png")
    (folder / "page.jpg").write_text("<html></html>")
    (folder / "noise.png").write_bytes(bytes(range(256)) * 40)
    (folder / "sub").mkdir()
    photo.save(folder / "sub" / "hopper.jpg")
    found = predict(folder, tmp_path / "out.parquet", model=model)
    rows = {row["image"]: row for row in pl.read_parquet(tmp_path / "out.parquet").to_dicts()}
    wanted = {
        **{name: STATUS_OF_SPECIMEN.get(name, "ok") for name in SPECIMENS},
        "alpha.png": "ok",
        "palette.gif": "ok",
        "animated.webp": "ok",
        "new\nline \"quoted\" 'name'.png": "ok",
        "名前 и имя.bmp": "ok",
        "scan.tiff": "ok",
        "sub/hopper.jpg": "ok",
        "one pixel.png": "no_face",
        "huge.png": "too_large",
        "page.jpg": "unsupported",
        "noise.png": "unsupported",
    }
    assert {name: row["status"] for name, row in rows.items()} == wanted
    assert found.images == len(wanted)
    assert all(len((row["error"] or "").splitlines()) <= 1 for row in rows.values())


def test_a_run_that_fails_leaves_no_output(
    specimens: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(plan: object, chunk: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr("faceaudit.pipeline.engines.rows_of", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        predict(specimens, tmp_path / "out.parquet", model=model)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_on_one_output_exclude_each_other(
    specimens: Path, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    with exclusive(out), pytest.raises(LockedError, match="another run"):
        predict(specimens, out, model=model)


@pytest.mark.parametrize(
    ("out", "message"),
    [("out.csv", "name it"), ("no/such/out.parquet", "no folder"), (".parquet", "Parquet file")],
)
def test_an_output_that_cannot_be_is_refused_at_once(
    specimens: Path, model: str, tmp_path: Path, out: str, message: str
) -> None:
    with pytest.raises((UsageError, InputError), match=message):
        predict(specimens, tmp_path / out, model=model)


def test_a_folder_without_images_is_one_clear_error(model: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(InputError, match="no image"):
        predict(tmp_path / "images", tmp_path / "out.parquet", model=model)


def test_failures_are_counted_per_image(table: Path, specimens: Path, model: str) -> None:
    found: Prediction = predict(specimens, table, model=model)
    assert found.failed == len(STATUS_OF_SPECIMEN)
    assert sum(found.statuses.values()) == found.images


@pytest.mark.data
@pytest.mark.slow
def test_no_utkface_image_is_lost(data_folder: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    found = predict(data_folder / "utkface" / "val", out, model=model, limit=400)
    assert found.images == 400
    assert found.labels == "utkface"
    assert found.statuses.get("ok", 0) >= 396


def labelled(folder: Path, rows: str) -> Path:
    """Two copies of the photograph with a metadata.csv."""
    folder.mkdir(exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        photograph().save(folder / name)
    (folder / "metadata.csv").write_text(f"file_name,gender,age\n{rows}", encoding="utf-8")
    return folder


def test_an_image_without_an_age_label_has_no_age_group(model: str, tmp_path: Path) -> None:
    images = labelled(tmp_path / "in", "a.jpg,Female,40\nb.jpg,Female,\n")
    predict(images, tmp_path / "out.parquet", model=model)
    assert pl.read_parquet(tmp_path / "out.parquet")["age_group_true"].to_list() == ["40-49", None]


def test_changed_labels_are_noticed(model: str, tmp_path: Path) -> None:
    images, out = tmp_path / "in", tmp_path / "out.parquet"
    predict(labelled(images, "a.jpg,Male,40\nb.jpg,Female,30\n"), out, model=model)
    labelled_again = "a.jpg,Female,40\nb.jpg,Female,30\n"
    (images / "metadata.csv").write_text(f"file_name,gender,age\n{labelled_again}")
    with pytest.raises(UsageError, match=r"other labels of 1 of its images, such as a\.jpg"):
        predict(images, out, model=model)


def test_a_label_belongs_to_the_first_face(model: str, tmp_path: Path) -> None:
    from faceaudit.pipeline.prepare import prepare

    (tmp_path / "in").mkdir()
    one = photograph()
    two = Image.new("RGB", (2 * one.width, one.height))
    two.paste(one, (0, 0))
    two.paste(one, (one.width, 0))
    two.save(tmp_path / "in" / "two.png")
    (tmp_path / "in" / "metadata.csv").write_text("file_name,gender\ntwo.png,Female\n")
    predict(tmp_path / "in", tmp_path / "out.parquet", model=model, faces="all")
    assert pl.read_parquet(tmp_path / "out.parquet")["gender_true"].to_list() == ["Female", None]
    prepare(tmp_path / "in", tmp_path / "crops", faces="all")
    crops = pl.read_parquet(tmp_path / "crops" / "metadata.parquet")
    assert crops["gender_true"].to_list() == ["Female", None]


def test_annotations_in_a_list_are_carried_wherever_they_stand(
    specimens: Path, model: str, tmp_path: Path
) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text(
        f"file,seed,gender_true,age_true\n{specimens / 'hopper.jpg'},7,0,50\n"
        f"{specimens / 'hopper gray.png'},8,1,unknown\n"
    )
    predict(listed, tmp_path / "out.parquet", model=model, labels="none")
    rows = pl.read_parquet(tmp_path / "out.parquet")
    assert rows["gender_true"].to_list() == ["0", "1"]
    assert rows["age_true"].to_list() == [50, None]
    assert rows["seed"].to_list() == [7, 8]


@pytest.mark.parametrize("margin", [float("nan"), float("inf"), -5, -1, -0.5, 1e9])
def test_a_margin_that_leaves_no_crop_is_refused(
    specimens: Path, model: str, tmp_path: Path, margin: float
) -> None:
    with pytest.raises(UsageError, match="--margin"):
        predict(specimens, tmp_path / "out.parquet", model=model, margin=margin)


def test_the_list_of_images_is_never_replaced(specimens: Path, model: str, tmp_path: Path) -> None:
    listed = tmp_path / "list.parquet"
    pl.DataFrame({"image": [str(specimens / "hopper.jpg")]}).write_parquet(listed)
    with pytest.raises(UsageError, match="is what holds the images"):
        predict(listed, listed, model=model, restart=True)


def test_a_name_that_is_too_long_is_one_clear_error(
    specimens: Path, model: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="too long"):
        predict(specimens, tmp_path / f"{'x' * 300}.parquet", model=model)


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    left, other = tmp_path / ".out.parquet.abc_0123.part", tmp_path / ".other.parquet.abc_0123.part"
    left.touch()
    other.touch()
    with exclusive(tmp_path / "out.parquet"):
        assert not left.exists()
    assert other.exists()


def test_preparing_again_leaves_no_crop_of_before(specimens: Path, tmp_path: Path) -> None:
    from faceaudit.pipeline.prepare import prepare

    crops = tmp_path / "crops"
    prepare(specimens, crops)
    prepare(specimens, crops, limit=3)
    named = pl.read_parquet(crops / "metadata.parquet")["file_name"].to_list()
    assert sorted(p.relative_to(crops).as_posix() for p in crops.rglob("*.jpg")) == sorted(named)


def test_crops_never_lie_among_images(specimens: Path, tmp_path: Path) -> None:
    from faceaudit.pipeline.prepare import prepare

    with pytest.raises(UsageError, match="give a folder outside"):
        prepare(specimens, specimens / "crops")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made a folder"):
        prepare(specimens, tmp_path / "file")


@pytest.mark.parametrize("part_rows", [0, -1])
def test_a_part_without_rows_is_refused(
    specimens: Path, model: str, tmp_path: Path, part_rows: int
) -> None:
    with pytest.raises(UsageError, match=f"--part-rows {part_rows}: a part has at least 1 row"):
        predict(specimens, tmp_path / "out", model=model, part_rows=part_rows)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (errno.ENOSPC, TemporaryError, "the disk is full"),
        (errno.EACCES, InputError, "cannot write there"),
    ],
)
def test_crops_that_cannot_be_written_are_one_clear_error(
    specimens: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    error: type[FaceauditError],
    words: str,
) -> None:
    make = tempfile.mkstemp

    def refuse(*given: str, prefix: str, **options: Any) -> Any:
        if prefix.endswith(".jpg."):
            raise OSError(code, os.strerror(code))
        return make(*given, prefix=prefix, **options)

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(error, match=words):
        prepare(specimens, tmp_path / "crops", detector="whole", workers=1)
