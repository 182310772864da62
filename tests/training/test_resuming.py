"""What a training leaves in its work folder, and what becomes of it where that is not as it was."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
import simplejpeg
import torch

from faceaudit.errors import InputError, TemporaryError, UsageError
from faceaudit.storage import files
from faceaudit.training import loop, splits
from faceaudit.training import state as states
from faceaudit.training.data import CropSet
from faceaudit.training.labels import UNKNOWN
from faceaudit.training.limits import out_of_memory
from faceaudit.training.recipe import Recipe, Stage
from faceaudit.training.recipe_files import recipe_from_facts
from faceaudit.training.splits import divide
from faceaudit.training.state import (
    State,
    identity_of,
    new_state,
    read_tensors,
    restore,
    save,
)

COUNT = 12
FACTS = {
    "name": "small",
    "licence": "none",
    "training_data": "noise",
    "backbone": "custom_cnn",
    "weights": "none",
    "batch": 4,
    "stages": [{"epochs": 1, "size": 32}],
    "augmentation": "none",
    "tasks": {"gender": {"scheme": "gender2"}, "race": {"scheme": "utkface5"}},
}


def recipe_with(**changes: object) -> Recipe:
    return recipe_from_facts({**FACTS, **changes}, "small.toml")


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> CropSet:
    folder = tmp_path_factory.mktemp("crops")
    files = []
    for number in range(COUNT):
        noise = np.random.default_rng(number).integers(0, 256, (7, 7, 3), np.uint8)
        picture = np.ascontiguousarray(cv2.resize(noise, (48, 48)))
        files.append(folder / f"{number}.jpg")
        files[-1].write_bytes(simplejpeg.encode_jpeg(picture, 80))
    labels = {"gender": np.arange(COUNT) % 2, "race": np.arange(COUNT) % 5}
    digests = tuple(f"{number:02x}" * 32 for number in range(COUNT))
    return CropSet(tuple(files), np.full(COUNT, 1.2), labels, digests)


def run(recipe: Recipe, crops: CropSet, work: Path, **options: object) -> State:
    """Train on all crops but four, which validate."""
    training, validation = crops.take(np.arange(4, len(crops))), crops.take(np.arange(4))
    return loop.train(recipe, training, validation, work, lambda _: None, **options)  # type: ignore[arg-type]


class KilledError(Exception):
    pass


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next training be killed before a step, with a checkpoint after each before it."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1)
    original = loop._take_step

    def take(recipe: Recipe, state: State, *others: object) -> None:
        if state.total == step:
            raise KilledError
        original(recipe, state, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_take_step", take)


def test_the_time_before_an_interruption_counts(
    crops: CropSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_at(1, patch)
        with pytest.raises(KilledError):
            run(recipe_with(), crops, tmp_path)
    found = read_tensors(tmp_path / loop.CHECKPOINT)
    assert found["step"] == 1
    assert found["seconds"] > 0
    assert run(recipe_with(), crops, tmp_path).seconds > found["seconds"]


def changed_view(crops: CropSet) -> CropSet:
    return replace(crops, views=crops.views * 1.1)


def changed_file(crops: CropSet) -> CropSet:
    other = crops.files[5].with_name("5") / crops.files[5].name
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(crops.files[5].read_bytes() + b"\0")
    return replace(crops, files=(*crops.files[:5], other, *crops.files[6:]))


@pytest.mark.parametrize("changed", [changed_view, changed_file])
def test_crops_that_were_prepared_anew_do_not_go_on_with_a_training(
    crops: CropSet, tmp_path: Path, changed: Callable[[CropSet], CropSet]
) -> None:
    run(recipe_with(), crops, tmp_path)
    with pytest.raises(UsageError, match="belongs to a training with other crop files"):
        run(recipe_with(), changed(crops), tmp_path)


@pytest.mark.parametrize("bytes_kept", [0, 100, 2000])
def test_a_damaged_file_is_one_clear_error(crops: CropSet, tmp_path: Path, bytes_kept: int) -> None:
    recipe = recipe_with(selection={"keep": "best"})
    run(recipe, crops, tmp_path)
    path = tmp_path / loop.CHECKPOINT
    path.write_bytes(path.read_bytes()[:bytes_kept])
    with pytest.raises(InputError, match=r"checkpoint.pt: is damaged.*remove .* to start again"):
        run(recipe, crops, tmp_path)


def test_a_file_of_other_facts_is_no_checkpoint(crops: CropSet, tmp_path: Path) -> None:
    torch.save([1.0], tmp_path / loop.CHECKPOINT)
    with pytest.raises(InputError, match=r"checkpoint\.pt: is damaged"):
        run(recipe_with(), crops, tmp_path)


@pytest.mark.parametrize("missing", ["identity", "network", "optimizer", "epoch", "history"])
def test_a_checkpoint_that_lacks_something_is_damaged(
    missing: str, crops: CropSet, tmp_path: Path
) -> None:
    run(recipe_with(), crops, tmp_path)
    path = tmp_path / loop.CHECKPOINT
    found = read_tensors(path)
    del found[missing]
    torch.save(found, path)
    with pytest.raises(InputError, match=r"checkpoint\.pt: is damaged"):
        run(recipe_with(), crops, tmp_path)


def test_the_best_epoch_is_not_replaced_by_the_last(
    crops: CropSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor by one that was run again after a kill: the checkpoint has the weights of the best."""
    values = iter([0.5, 0.9, 0.2, 0.2])
    monkeypatch.setattr(loop, "selection_value", lambda *_: next(values))
    stages = [{"epochs": 4, "size": 32}]
    ended = run(recipe_with(selection={"keep": "best"}, stages=stages), crops, tmp_path)
    assert ended.best_epoch == 2
    found = read_tensors(tmp_path / loop.CHECKPOINT)
    best, last = found["best_weights"], found["average"]
    for name, value in ended.average.state_dict().items():
        assert torch.equal(value, best[name])
    assert any(not torch.equal(value, last[name]) for name, value in best.items())
    again = run(recipe_with(selection={"keep": "best"}, stages=stages), crops, tmp_path)
    for name, value in again.average.state_dict().items():
        assert torch.equal(value, best[name])


def test_a_task_without_validation_labels_is_in_no_figure_and_selects_nothing(
    crops: CropSet, tmp_path: Path
) -> None:
    unknown = np.where(np.arange(COUNT) < 4, UNKNOWN, crops.labels["race"])
    some = replace(crops, labels={**crops.labels, "race": unknown})
    state = run(recipe_with(selection={"keep": "best"}), some, tmp_path)
    (row,) = state.history
    assert {"gender", "gender_loss"} <= row.keys()
    assert not {"race", "race_loss"} & row.keys()
    assert state.best == pytest.approx(row["gender"])
    for by in ("race", "race_loss"):
        with pytest.raises(UsageError, match=f"no validation crop has a label of {by}, by which"):
            run(recipe_with(selection={"keep": "best", "by": by}), some, tmp_path)
    none = replace(some, labels={name: np.full(COUNT, UNKNOWN) for name in some.labels})
    with pytest.raises(UsageError, match="no validation crop has a label of a task, by which"):
        run(recipe_with(selection={"patience": 1}), none, tmp_path)


def test_what_a_training_began_with_is_part_of_what_its_checkpoint_is_of(
    crops: CropSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = {"sha256": "a" * 64}
    monkeypatch.setattr(states, "load_bundle", lambda _: SimpleNamespace(**digest))
    monkeypatch.setattr(states, "hash_of_weights", lambda _: digest["sha256"])
    recipe = replace(recipe_with(), start="./begun")
    identity = identity_of(recipe, crops, crops, None)
    state = new_state(recipe_with())
    save(state, tmp_path / loop.CHECKPOINT, identity)
    restore(state, tmp_path / loop.CHECKPOINT, identity_of(recipe, crops, crops, None))
    digest["sha256"] = "b" * 64
    with pytest.raises(UsageError, match="with other starts, weights file; give another"):
        restore(state, tmp_path / loop.CHECKPOINT, identity_of(recipe, crops, crops, None))


def test_full_shared_memory_is_told_with_what_helps() -> None:
    said = "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory."  # noqa: E501
    found = out_of_memory(RuntimeError(said), recipe_with(), "cuda")
    assert isinstance(found, UsageError)
    assert "--shm-size" in str(found)
    assert "lower batch (4)" in str(found)
    assert out_of_memory(RuntimeError("another"), recipe_with(), "cuda") is None


def test_damaged_hashes_are_made_again(crops: CropSet, tmp_path: Path) -> None:
    recipe = recipe_with(data={"validation_share": 0.3})
    first = divide(crops, recipe, [], tmp_path).table
    path = tmp_path / splits.HASHES
    whole = path.read_bytes()
    for damaged in (b"", b"no archive", whole[:200]):
        path.write_bytes(damaged)
        assert divide(crops, recipe, [], tmp_path).table.equals(first)
        assert path.stat().st_size == len(whole)


def test_a_full_disk_is_said_so(
    crops: CropSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = run(recipe_with(), crops, tmp_path)

    def full(**_: object) -> tuple[int, str]:
        return os.open("/dev/full", os.O_WRONLY), str(tmp_path / ".part")

    monkeypatch.setattr(files.tempfile, "mkstemp", full)
    with pytest.raises(TemporaryError, match="the disk is full"):
        save(state, tmp_path / loop.CHECKPOINT, {})
    with pytest.raises(TemporaryError, match="the disk is full"):
        divide(crops, recipe_with(), [], tmp_path)


def test_a_validation_that_is_no_number_is_one_clear_error(
    crops: CropSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step of an epoch diverges: no training loss shows it."""
    original = loop.update_average

    def diverge(state: State, decay: float) -> None:
        original(state, decay)
        if state.step == 1:
            for values in state.average.parameters():
                values.data.fill_(float("nan"))

    monkeypatch.setattr(loop, "update_average", diverge)
    message = r"recipe small: gender_loss of the validation is nan in epoch 1; lower learning_rate"
    with pytest.raises(UsageError, match=message):
        run(recipe_with(), crops, tmp_path)


def test_a_last_batch_too_small_for_batch_norms_is_left_out(crops: CropSet, tmp_path: Path) -> None:
    recipe = recipe_with(backbone="mobilenet_v2")
    work, same = tmp_path / "nine", tmp_path / "eight"
    work.mkdir()
    same.mkdir()
    nine = crops.take(np.asarray([0, 1, 2, 3, *range(3, 12)]))
    assert run(recipe, nine, work).total == 3
    history = pl.read_csv(work / loop.HISTORY)
    assert history["loss"][0] > 0
    single = replace(recipe, batch=1, stages=(Stage(1, 32),))
    with pytest.raises(UsageError, match=r"batch norms need more than one crop .* --set batch=2"):
        run(single, crops, same)


def test_an_epoch_that_learns_nothing_is_one_clear_error(crops: CropSet, tmp_path: Path) -> None:
    recipe = recipe_with(backbone="mobilenet_v2")
    with pytest.raises(UsageError, match="no batch of epoch 1 could be learned from"):
        run(recipe, crops.take(np.arange(5)), tmp_path)
    gone = replace(crops, files=(*crops.files[:4], *(tmp_path / f"{k}.jpg" for k in range(8))))
    with pytest.raises(UsageError, match="no batch of epoch 1 could be learned from"):
        run(recipe_with(), gone, tmp_path)


def test_a_task_is_judged_by_the_batches_that_have_its_labels(
    crops: CropSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch of two has labels of race: its loss is the epoch's."""
    labels = {**crops.labels, "race": np.full(COUNT, UNKNOWN)}
    labels["race"][4] = 2
    original, found = loop.batch_losses, []

    def noted(*arguments: Any) -> dict[str, torch.Tensor]:
        found.append(original(*arguments))
        return found[-1]

    monkeypatch.setattr(loop, "batch_losses", noted)
    run(recipe_with(), replace(crops, labels=labels), tmp_path)
    gender, race = ([one[name].item() for one in found] for name in ("gender", "race"))
    history = pl.read_csv(tmp_path / loop.HISTORY)
    assert history["training_gender_loss"][0] == pytest.approx(sum(gender) / 2, rel=1e-4)
    assert history["training_race_loss"][0] == pytest.approx(sum(race), rel=1e-4)
    assert history["loss"][0] == pytest.approx(sum(gender) / 2 + sum(race), rel=1e-4)
