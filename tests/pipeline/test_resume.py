"""Runs that end early, and what the same command makes of what they left."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from faceaudit.errors import FaceauditError, InputError, TemporaryError, UsageError
from faceaudit.models.bundle import Bundle
from faceaudit.pipeline import dataset, engines
from faceaudit.pipeline.inputs import Chunk
from faceaudit.pipeline.plan import Plan
from faceaudit.pipeline.predict import predict
from faceaudit.reporting.run import report
from faceaudit.showcase.images import photograph
from faceaudit.tables import read_table
from tests.pipeline.processes import counting_run, ending_run, in_process, run, wait_for_rows

KILLS = 30
IMAGES = 320
UNDER_WAY = (2 * 2 + 1) * 8
"""Images that two workers may have scored and nobody kept: chunks of 8 that wait, and one more."""
OUTPUTS = ("out.parquet", "out")
"""A file, and a folder of parts."""


@pytest.fixture(scope="module")
def model(random_bundle: Bundle) -> str:
    return str(random_bundle.graph.parent)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many small images in two folders, with labels in their names; one is broken."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "sub").mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
        name = f"{number % 90}_{number % 2}_{number % 5}_{number:05d}.png"
        Image.fromarray(pixels).save(folder / ("sub" if number % 3 else ".") / name)
    (folder / "30_0_0_99999.png").write_bytes(b"broken")
    return folder


def rows_in(out: Path) -> pa.Table:
    """All rows of a table; a reader of Parquet sees them without faceaudit."""
    parts = sorted(out.glob("part-*.parquet")) if out.is_dir() else [out]
    return pa.concat_tables([pq.read_table(part) for part in parts]).replace_schema_metadata(None)


@pytest.fixture(scope="module")
def whole(photos: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of a run that nothing ended early."""
    out = tmp_path_factory.mktemp("whole") / "out.parquet"
    run(photos, out, model)
    return out


def beside(out: Path) -> list[str]:
    """What lies beside an output."""
    return sorted(path.name for path in out.parent.iterdir() if path != out)


# --- killed for real --------------------------------------------------------------------------


def scored_in(log: Path) -> int:
    return sum(map(int, log.read_text().split())) if log.exists() else 0


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_loses_little_and_ends_equal(
    photos: Path, model: str, whole: Path, tmp_path: Path
) -> None:
    begun = time.monotonic()
    in_process(counting_run, tmp_path / "log", photos, tmp_path / "out.parquet", model).join()
    seconds = time.monotonic() - begun
    wanted = rows_in(whole)
    rng = random.Random(0)
    killed = 0
    for number in range(KILLS):
        folder = tmp_path / str(number)
        folder.mkdir()
        out, log = folder / OUTPUTS[number % 2], folder / "log"
        process = in_process(counting_run, log, photos, out, model)
        process.join(rng.uniform(0.1, 0.9) * seconds)
        if process.is_alive():
            killed += 1
        else:
            seconds *= 0.8  # the machine is quicker now than when the time was taken
        process.kill()
        process.join()
        in_process(counting_run, log, photos, out, model).join()
        assert rows_in(out).equals(wanted), number
        assert beside(out) == ["log"]
        assert scored_in(log) <= IMAGES + 1 + UNDER_WAY, number
    assert killed >= KILLS / 2


@pytest.mark.slow
@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_run_that_ends_before_any_change_to_a_file_is_gone_on_with(
    photos: Path, model: str, tmp_path: Path, name: str, before: int
) -> None:
    few, first = tmp_path / "few", tmp_path / "first" / name
    few.mkdir()
    first.parent.mkdir()
    for number, path in enumerate(sorted(photos.glob("*.png"))[:7]):
        if number and number == before:
            run(few, first, model, part_rows=5)
        (few / path.name).write_bytes(path.read_bytes())
    run(few, tmp_path / "whole.parquet", model)
    wanted = rows_in(tmp_path / "whole.parquet")
    for step in range(200):
        out = tmp_path / str(step) / name
        shutil.copytree(first.parent, out.parent)
        process = in_process(ending_run, step, few, out, model)
        process.join()
        run(few, out, model, batch_size=4, part_rows=5)
        assert rows_in(out).equals(wanted), step
        assert beside(out) == [], step
        if process.exitcode == 0:
            break
    assert process.exitcode == 0
    assert step > 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_images_under_way_finish_and_exits_with_75(
    photos: Path, model: str, whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out.parquet"
    command = [sys.executable, "-m", "faceaudit.cli", "predict", str(photos), str(out)]
    command += ["--model", model, "--detector", "whole", "--batch-size", "2", "--quiet"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for_rows(process, out)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    assert f"Error: {number.name}: the run ended after" in said
    assert "the same command goes on" in said
    assert not out.exists()
    found = run(photos, out, model)
    assert 0 < found.scored < IMAGES
    assert rows_in(out).equals(rows_in(whole))


# --- failures within a run --------------------------------------------------------------------


class BrokenError(Exception):
    """What a test lets happen."""


def break_after(monkeypatch: pytest.MonkeyPatch, chunks: int, error: Exception) -> None:
    """Let the scoring of a chunk of this number fail."""
    score_rows, left = engines.rows_of, [chunks]

    def rows_of(plan: Plan, chunk: Chunk) -> pa.Table:
        left[0] -= 1
        if left[0] < 0:
            raise error
        return score_rows(plan, chunk)

    monkeypatch.setattr(engines, "rows_of", rows_of)


@pytest.fixture
def interrupted(photos: Path, model: str, tmp_path: Path) -> Callable[[str], Path]:
    """An output whose run failed after some chunks."""

    def begin(name: str, chunks: int = 9) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            break_after(patch, chunks, BrokenError())
            with pytest.raises(BrokenError):
                run(photos, tmp_path / name, model, workers=1)
        return tmp_path / name

    return begin


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_run_that_failed_is_gone_on_with_whatever_the_batch_size(
    interrupted: Callable[[str], Path], photos: Path, model: str, whole: Path, name: str
) -> None:
    out = interrupted(name)
    found = run(photos, out, model, batch_size=5)
    assert found.images == IMAGES + 1
    assert 9 * 8 - 16 <= found.images - found.scored <= 9 * 8
    assert rows_in(out).equals(rows_in(whole))
    assert beside(out) == []


def test_a_resumed_file_is_the_same_to_the_byte(
    interrupted: Callable[[str], Path], photos: Path, model: str, whole: Path
) -> None:
    out = interrupted("out.parquet")
    run(photos, out, model)
    assert out.read_bytes() == whole.read_bytes()


def test_a_damaged_segment_is_scored_again(
    interrupted: Callable[[str], Path], photos: Path, model: str, whole: Path
) -> None:
    out = interrupted("out.parquet")
    segments = sorted((out.parent / ".out.parquet.run" / dataset.SEGMENTS).iterdir())
    data = bytearray(segments[3].read_bytes())
    data[len(data) // 2] ^= 1
    segments[3].write_bytes(data)
    found = run(photos, out, model)
    assert found.images - found.scored == 3 * 8
    assert rows_in(out).equals(rows_in(whole))


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_unfinished_run_with_other_options_is_refused_until_restart(
    interrupted: Callable[[str], Path], photos: Path, model: str, name: str
) -> None:
    out = interrupted(name)
    with pytest.raises(UsageError, match=r"--margin 0.0 \(now 0.5\); --restart"):
        run(photos, out, model, margin=0.5)
    found = run(photos, out, model, margin=0.5, restart=True)
    assert found.scored == found.images == IMAGES + 1
    assert beside(out) == []


def test_a_table_stays_until_its_replacement_is_complete(
    photos: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.parquet"
    run(photos, out, model, limit=20)
    before = out.read_bytes()
    with monkeypatch.context() as patch:
        break_after(patch, 5, BrokenError())
        with pytest.raises(BrokenError):
            run(photos, out, model, margin=0.5, restart=True)
    assert out.read_bytes() == before
    found = run(photos, out, model, margin=0.5)  # goes on with the replacement
    assert 0 < found.scored < found.images == IMAGES + 1


def test_a_folder_that_is_not_complete_is_not_reported_on(
    interrupted: Callable[[str], Path], photos: Path, model: str
) -> None:
    out = interrupted("out", chunks=20)
    assert list(out.glob("part-*.parquet"))
    with pytest.raises(TemporaryError, match="has not ended"):
        report(out)
    run(photos, out, model)
    assert report(out, replicates=100).paths[0].exists()


def test_a_full_disk_ends_a_run_that_can_be_gone_on_with(
    photos: Path, model: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, left = tmp_path / "out.parquet", [5]
    write = dataset.atomic_write

    @contextmanager
    def full(path: Path, **named: Any) -> Iterator[IO[bytes]]:
        left[0] -= 1
        with write(path, **named) as file:
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            yield file

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "atomic_write", full)
        with pytest.raises(TemporaryError, match="the disk is full"):
            run(photos, out, model)
    assert not out.exists()
    found = run(photos, out, model)
    assert found.scored < found.images
    assert rows_in(out).equals(rows_in(whole))


def test_images_that_vanish_with_their_folder_end_the_run(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, away = tmp_path / "in", tmp_path / "away"
    folder.mkdir()
    for number in range(40):
        photograph().resize((64, 64)).save(folder / f"{number:02d}.png")
    score_rows, left = engines.rows_of, [3]

    def rows_of(plan: Plan, chunk: Chunk) -> pa.Table:
        left[0] -= 1
        if not left[0]:
            folder.rename(away)
        return score_rows(plan, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(engines, "rows_of", rows_of)
        with pytest.raises(TemporaryError, match="are gone since the run began"):
            run(folder, tmp_path / "out.parquet", model, batch_size=4, workers=1)
    away.rename(folder)
    found = run(folder, tmp_path / "out.parquet", model)
    assert found.statuses == {"ok": 40}
    assert found.scored < 40


@pytest.mark.parametrize("error", [MemoryError, pa.ArrowMemoryError])
def test_a_batch_that_does_not_fit_in_memory_is_halved_with_the_same_rows(
    photos: Path,
    model: str,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    score_rows, sizes = engines.rows_of, []

    def rows_of(plan: Plan, chunk: Chunk) -> pa.Table:
        sizes.append(len(chunk))
        if len(chunk) > 3:
            raise error
        return score_rows(plan, chunk)

    monkeypatch.setattr(engines, "rows_of", rows_of)
    run(photos, tmp_path / "out.parquet", model)
    assert {8, 4, 2} <= set(sizes)
    assert rows_in(tmp_path / "out.parquet").equals(rows_in(whole))


def test_an_image_that_does_not_fit_in_memory_is_named(
    photos: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_after(monkeypatch, 0, MemoryError())
    with pytest.raises(TemporaryError, match=r"0_0_0_00000.png: the memory does not suffice"):
        run(photos, tmp_path / "out.parquet", model, workers=1)
    assert list(tmp_path.iterdir()) == []


# --- images that come later -------------------------------------------------------------------


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Ten images with labels in their names."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for age in range(20, 40, 2):
        draw(folder, age)
    return folder


def draw(folder: Path, age: int, value: int | None = None) -> None:
    pixels = np.full((40, 40, 3), value or age, np.uint8)
    Image.fromarray(pixels).save(folder / f"{age}_{age % 2}_0_{age}.png")


def names_in(out: Path) -> list[str]:
    return rows_in(out)["image"].to_pylist()


def test_new_images_are_added_to_a_file_in_the_order_of_the_folder(
    faces: Path, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    run(faces, out, model)
    for age in (19, 27, 50):
        draw(faces, age)
    found = run(faces, out, model)
    assert (found.scored, found.images) == (3, 13)
    assert names_in(out) == sorted(path.name for path in faces.iterdir())
    fresh = tmp_path / "fresh.parquet"
    run(faces, fresh, model)
    assert out.read_bytes() == fresh.read_bytes()


def test_a_folder_whose_parts_are_not_those_of_its_manifest_is_no_table(
    faces: Path, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(faces, out, model, part_rows=4)
    first, *_, last = sorted(out.glob("part-*.parquet"))
    stray = out / "part-00099.parquet"
    shutil.copy(last, stray)
    with pytest.raises(InputError, match=r"part-00099\.parquet: is no part that _manifest"):
        read_table(out)
    stray.unlink()
    assert read_table(out).rows
    first.unlink()
    with pytest.raises(InputError, match=r"part-00000\.parquet: is missing, and _manifest"):
        read_table(out)


def test_new_images_are_appended_to_a_folder_as_further_parts(
    faces: Path, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(faces, out, model, part_rows=4)
    sizes = [pq.read_metadata(part).num_rows for part in sorted(out.glob("part-*"))]
    assert sizes == [4, 4, 2]
    before = {part.name: part.read_bytes() for part in out.glob("part-*")}
    for age in (19, 27, 50):
        draw(faces, age)
    found = run(faces, out, model, part_rows=4)
    assert (found.scored, found.images) == (3, 13)
    assert names_in(out)[-3:] == ["19_1_0_19.png", "27_1_0_27.png", "50_0_0_50.png"]
    assert before.items() <= {part.name: part.read_bytes() for part in out.glob("part-*")}.items()
    assert run(faces, out, model).already_complete


def test_a_folder_whose_additions_ended_early_is_not_complete_until_they_are_made(
    faces: Path, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(faces, out, model, part_rows=100)
    for age in (50, 52, 54, 56):
        draw(faces, age)
    with pytest.MonkeyPatch.context() as patch:
        break_after(patch, 1, BrokenError())
        with pytest.raises(BrokenError):
            run(faces, out, model, part_rows=100, batch_size=2, workers=1)
    with pytest.raises(TemporaryError, match="has not ended"):
        read_table(out)
    found = run(faces, out, model, part_rows=100)
    assert found.images == 14
    assert found.scored == 2
    assert names_in(out)[-4:] == [f"{age}_0_0_{age}.png" for age in (50, 52, 54, 56)]


@pytest.mark.parametrize("name", OUTPUTS)
def test_rows_of_images_that_are_gone_stay(
    faces: Path, model: str, tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    run(faces, out, model, part_rows=4)
    before = names_in(out)
    (faces / "24_0_0_24.png").unlink()
    assert run(faces, out, model).already_complete
    draw(faces, 50)
    assert run(faces, out, model).scored == 1
    assert names_in(out) == [*before, "50_0_0_50.png"]


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_image_that_changed_is_named(faces: Path, model: str, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    run(faces, out, model, part_rows=4)
    before = rows_in(out)
    draw(faces, 24, value=200)
    with pytest.raises(UsageError, match=r"other images of 1 of its images, such as 24_0_0_24.png"):
        run(faces, out, model)
    assert rows_in(out).equals(before)
    assert beside(out) == ["faces"]


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_image_that_was_only_touched_is_the_same(
    faces: Path, model: str, tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    run(faces, out, model, part_rows=4)
    os.utime(faces / "24_0_0_24.png", ns=(1, 1))
    assert run(faces, out, model).already_complete


def test_a_trial_is_gone_on_with_by_the_whole_run(faces: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    trial = run(faces, out, model, limit=3)
    assert (trial.scored, trial.available) == (3, 10)
    assert trial.projected_seconds is not None
    assert 0 < trial.projected_seconds < trial.seconds * 10 / 3
    found = run(faces, out, model)
    assert (found.scored, found.images) == (7, 10)


@pytest.mark.parametrize("rows", [1, 3, 7, 10, 1000])
def test_parts_have_the_rows_that_were_asked_for(
    faces: Path, model: str, tmp_path: Path, rows: int
) -> None:
    out = tmp_path / "out"
    run(faces, out, model, batch_size=4, part_rows=rows)
    sizes = [pq.read_metadata(part).num_rows for part in sorted(out.glob("part-*"))]
    assert sizes == [rows] * (10 // rows) + [10 % rows] * (10 % rows > 0)


def test_an_image_is_never_split_over_two_parts(model: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    photo = photograph().resize((150, 180))
    both = Image.new("RGB", (300, 180))
    both.paste(photo, (0, 0))
    both.paste(photo, (150, 0))
    for number in range(3):
        both.save(tmp_path / "in" / f"{number}.png")
    out = tmp_path / "out"
    predict(tmp_path / "in", out, model=model, faces="all", part_rows=3)
    parts = [pl.read_parquet(part)["image"].to_list() for part in sorted(out.glob("part-*"))]
    assert parts == [["0.png"] * 2 + ["1.png"] * 2, ["2.png"] * 2]
    found = predict(tmp_path / "in", out, model=model, faces="all", part_rows=3)
    assert (found.images, found.faces, found.already_complete) == (3, 6, True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda out: (out.mkdir(), (out / "mine.txt").touch()), "did not write"),
        (lambda out: out.touch(), "is a file; the table would be a folder"),
        (lambda out: (out.mkdir(), (out / "_manifest.json").write_text("{}")), "is damaged"),
    ],
)
def test_an_output_that_is_something_else_is_refused(
    faces: Path, model: str, tmp_path: Path, make: Callable[[Path], Any], message: str
) -> None:
    out = tmp_path / "out"
    make(out)
    with pytest.raises(FaceauditError, match=message):
        run(faces, out, model)


def test_what_labels_lack_is_said_of_a_folder_as_of_a_file(
    faces: Path, model: str, tmp_path: Path
) -> None:
    for name in OUTPUTS:
        photograph().resize((40, 40)).save(faces / "61_1_20170101120000000.png")
        run(faces, tmp_path / name, model, labels="utkface")
    found = [read_table(tmp_path / name).metadata for name in OUTPUTS]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].labels["notes"] == found[1].labels["notes"]
    assert "has no race" in found[0].labels["notes"][0]


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_list_with_categories_is_the_same_list_the_next_time(
    name: str, photos: Path, model: str, tmp_path: Path
) -> None:
    images = sorted(map(str, photos.glob("*.png")))[:3]
    given = pl.DataFrame({"image": images, "site": ["a", "b", None], "tags": [["x"], [], None]})
    given = given.cast({"site": pl.Enum(["a", "b"]), "tags": pl.List(pl.Categorical)})
    given.write_parquet(tmp_path / "list.parquet")
    for images_now in (3, 0):
        found = predict(
            tmp_path / "list.parquet", tmp_path / name, model=model, detector="whole", labels="none"
        )
        assert found.scored == images_now
    rows = rows_in(tmp_path / name)
    assert rows["site"].to_pylist() == ["a", "b", None]
    assert rows["tags"].to_pylist() == [["x"], [], None]


def test_a_tar_with_members_of_one_name_is_resumed(
    photos: Path, model: str, tmp_path: Path
) -> None:
    images = sorted(photos.glob("*.png"))[:4]
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for image, member in zip(images, ("x.png", "y.png", "x.png", "z.png"), strict=True):
            tar.add(image, member)
    of = {"model": model, "detector": "whole", "labels": "none"}
    for limit in (1, None, None):
        predict(tmp_path / "in.tar", tmp_path / "out.parquet", limit=limit, **of)
    rows = rows_in(tmp_path / "out.parquet")
    assert rows["image"].to_pylist() == ["x.png", "y.png", "x.png#3", "z.png"]
    whole = [hashlib.sha256(image.read_bytes()).hexdigest() for image in images]
    assert rows["sha256"].to_pylist() == whole
