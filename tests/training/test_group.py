"""Several processes that train one network."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn.modules.batchnorm import _BatchNorm

from faceaudit.cli import models
from faceaudit.errors import UsageError
from faceaudit.pipeline.prepare import prepare
from faceaudit.showcase.images import photograph
from faceaudit.training import loop, objective
from faceaudit.training.batches import Batch
from faceaudit.training.data import METADATA_FILE, read_folders
from faceaudit.training.group import Group, join_norms, open_group
from faceaudit.training.recipe_files import load_recipe, recipe_from_facts
from faceaudit.training.state import new_state
from faceaudit.training.train import _find_split, train

RECIPE = """
name = "small"
licence = "none"
training_data = "one photograph"
backbone = "efficientnet_lite0"
weights = "imagenet"
norms = "folded"
batch = 8
heads = { dropout = 0.0 }
augmentation = "none"
optimizer = "sgd"
learning_rate = 1e-3
ema = 0.0
stages = [{ epochs = 2, size = 48 }]
[tasks.gender]
scheme = "gender2"
[tasks.age]
scheme = "years"
[data]
validation_share = 0.3
near_duplicates = false
[card]
intended_use = "tests"
limits = ["everything"]
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, folder = (tmp_path_factory.mktemp(name) for name in ("images", "crops"))
    for k in range(37):
        crop = photograph().crop((100 + k, 40, 360 + k, 300)).resize((140, 140))
        crop.save(images / f"{20 + k}_{k % 2}_0_201701010000000{k:02d}.jpg")
    prepare(images, folder, size=128, detector="whole")
    table = pl.read_parquet(folder / METADATA_FILE)
    unknown = pl.int_range(pl.len()) % 5 < 3  # most: processes rarely hold equally many
    known = pl.when(~unknown).then(pl.col("gender_true")).alias("gender_true")
    table.with_columns(known).write_parquet(folder / METADATA_FILE)
    return folder


@pytest.mark.parametrize("size", [2, 3, 4])
def test_shares_are_equal_and_hold_every_crop_of_each_batch_once(size: int) -> None:
    groups = [Group(rank, size) for rank in range(size)]
    count, batch = groups[0].whole(50), 12
    order = np.random.default_rng(0).permutation(50)[:count].tolist()
    shares = [group.share(order, batch) for group in groups]
    assert len({len(share) for share in shares}) == 1
    own = batch // size
    for step in range(-(-count // batch)):
        taken = [row for share in shares for row in share[step * own : (step + 1) * own]]
        assert sorted(taken) == sorted(order[step * batch : (step + 1) * batch])


def test_one_process_takes_every_crop_in_order() -> None:
    with open_group("cpu") as (group, device):
        assert (group.size, device, group.whole(7)) == (1, "cpu", 7)
        assert group.share([3, 1, 2], 2) == [3, 1, 2]


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UsageError, match=r"64 crops .* 3 processes; --set batch=66"):
        Group(0, 3).check(64)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "7", "LOCAL_RANK": "7", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(UsageError, match="2 GPUs"), open_group("cuda"):
        pass


SCHEMES = {
    "gender": {"scheme": "gender2", "label_smoothing": 0.1},
    "race": {"scheme": "utkface5"},
    "age": {"scheme": "years", "smoothness": 0.02},
}


@pytest.mark.parametrize("age", ["years", "value", "0,18,40"])
@pytest.mark.parametrize("teaches", [False, True])
def test_shares_with_missing_labels_have_the_gradient_of_the_whole_batch(
    age: str, teaches: bool
) -> None:
    facts = {**tomllib.loads(RECIPE), "tasks": {**SCHEMES, "age": {"scheme": age}}}
    recipe = recipe_from_facts(facts, "test")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 48, 48, 3), dtype=np.uint8)
    labels = {"gender": rng.integers(0, 2, 8), "race": rng.integers(0, 5, 8)}
    labels |= {"age_low": rng.integers(0, 60, 8), "age_high": rng.integers(60, 90, 8)}
    labels["race"][[0, 2, 4]] = -1  # one of four is known to the first process
    labels["gender"][::2] = -1  # none
    labels["age_low"][[1, 3]] = -1
    outputs = {one.output: max(1, len(one.classes)) for one in recipe.outputs()}
    taught = {name: rng.normal(size=(8, size)).astype(np.float32) for name, size in outputs.items()}
    network = new_state(recipe).network.eval()

    def gradient(rows: slice, faces: dict[str, float] | None) -> torch.Tensor:
        own, told = ({n: v[rows] for n, v in one.items()} for one in (labels, taught))
        batch = Batch(images[rows], own, (), told if teaches else {})
        network.zero_grad()
        losses = objective.batch_losses(network, batch, recipe, (0,), faces)
        objective.weighted(losses, recipe).backward()  # type: ignore[no-untyped-call]
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])

    shares = [slice(0, None, 2), slice(1, None, 2)]
    counts = [
        objective.faces_of({n: v[rows] for n, v in labels.items()}, recipe) for rows in shares
    ]
    faces = {name: sum(one[name] for one in counts) / 2 for name in counts[0]}
    whole = gradient(slice(None), None)
    halves = torch.stack([gradient(rows, faces) for rows in shares]).mean(0)
    assert float((whole - halves).norm() / whole.norm()) < 1e-5


def test_norms_that_are_joined_keep_weights_names_and_activations() -> None:
    for name in ("efficientnet_lite0", "resnet34"):
        facts = {**tomllib.loads(RECIPE), "norms": "batch", "backbone": name, "weights": "none"}
        state = new_state(recipe_from_facts(facts, "test"))
        before, images = state.network.state_dict(), torch.rand(2, 3, 48, 48)
        wanted = state.network.eval()(images)["gender"]
        join_norms(state.network)
        after = state.network.state_dict()
        assert list(after) == list(before) == list(state.average.state_dict())
        assert all(after[key] is value or after[key].equal(value) for key, value in before.items())
        assert torch.equal(state.network.eval()(images)["gender"], wanted)
        norms = [m for m in state.network.modules() if isinstance(m, _BatchNorm)]
        assert norms
        assert all(isinstance(norm, torch.nn.SyncBatchNorm) for norm in norms)
        learned = {id(p) for each in state.optimizer.param_groups for p in each["params"]}
        assert {id(p) for p in state.network.parameters()} == learned


def test_norms_that_are_frozen_stay_as_they_are() -> None:
    recipe = recipe_from_facts({**tomllib.loads(RECIPE), "norms": "batch"}, "test")
    network = new_state(replace(recipe, frozen="all_but_last_block")).network.train()
    join_norms(network)
    kinds: dict[bool, set[bool]] = {True: set(), False: set()}
    for norm in network.train().modules():
        if isinstance(norm, _BatchNorm):
            kinds[isinstance(norm, torch.nn.SyncBatchNorm)].add(norm.training)
    assert kinds == {True: {True}, False: {False}}


def test_norms_are_joined_on_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", lambda network, **_: network)
    for device, joined in (("cpu", False), ("cuda:0", True)):
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        Group(0, 2).joined(network, torch.device(device))
        assert isinstance(network[1], torch.nn.SyncBatchNorm) == joined


def test_parameters_without_a_gradient_are_looked_for_in_trunks_of_timm(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bool] = []

    def joined(network: torch.nn.Module, **options: Any) -> torch.nn.Module:
        looked.append(options["find_unused_parameters"])
        return network

    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", joined)
    monkeypatch.setattr(loop, "batches", lambda *_, **__: iter(()))
    settings = load_recipe(recipe)
    some = read_folders([crops], settings)
    for backbone in ("custom_cnn", "timm:resnet10t"):
        own = replace(settings, backbone=backbone, weights="none", norms="batch")
        with pytest.raises(UsageError, match="no batch of epoch 1"):
            loop.train(own, some, some, tmp_path, lambda _: None, group=Group(0, 2))
    assert looked == [False, True]


@dataclass(frozen=True)
class Lacking(Group):
    """The first of two processes, of which the other has no crop."""

    def means(self, values: Mapping[str, float]) -> dict[str, float]:
        return {name: value / 2 for name, value in values.items()}


@pytest.mark.parametrize(("group", "learns"), [(Group(), True), (Lacking(0, 2), False)])
def test_a_batch_of_which_a_process_has_no_crop_is_left_out(group: Group, learns: bool) -> None:
    recipe = recipe_from_facts({**tomllib.loads(RECIPE), "schedule": {"warmup": 0.0}}, "test")
    state = new_state(recipe)
    before = {name: value.clone() for name, value in state.network.state_dict().items()}
    labels = {name: np.array([1, 0]) for name in ("gender", "age_low", "age_high")}
    batch = Batch(np.zeros((2, 48, 48, 3), np.uint8), labels)
    loop._take_step(recipe, state, state.network, batch, 9, group)
    after = state.network.state_dict()
    assert any(not torch.equal(after[name], value) for name, value in before.items()) == learns
    assert (state.step, state.total, bool(state.sums)) == (1, 1, learns)


@dataclass(frozen=True)
class Unable(Group):
    """The first of two processes, of which the other has a crop, but cannot normalize it."""

    def means(self, values: Mapping[str, float]) -> dict[str, float]:
        return {name: value / 2 for name, value in values.items()} if len(values) == 1 else values


def test_a_batch_that_a_process_cannot_normalize_is_left_out_of_all() -> None:
    recipe = recipe_from_facts({**tomllib.loads(RECIPE), "schedule": {"warmup": 0.0}}, "test")
    state = new_state(recipe)
    before = {name: value.clone() for name, value in state.network.named_parameters()}
    labels = {name: np.array([1, 0]) for name in ("gender", "age_low", "age_high")}
    batch = Batch(np.zeros((2, 48, 48, 3), np.uint8), labels)
    loop._take_step(recipe, state, state.network, batch, 9, Unable(0, 2))
    assert all(torch.equal(before[name], now) for name, now in state.network.named_parameters())
    assert (state.step, state.sums) == (1, {})


def test_one_process_records_the_split(crops: Path, recipe: str, tmp_path: Path) -> None:
    settings = load_recipe(recipe)
    for group in (Group(1, 1), Group(0, 1)):
        _find_split(settings, [crops], tmp_path, None, group)
        assert (tmp_path / "splits.parquet").is_file() == group.leads


@pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("1", False)])
def test_one_process_speaks(
    rank: str, speaks: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = SimpleNamespace(name="small", graph=Path("small/model.onnx"), card={"metrics": {}})

    def run(*_: object, **__: object) -> SimpleNamespace:
        logging.getLogger("faceaudit.training").warning("said")
        return bundle

    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("faceaudit.training.train.train", run)
    models.train("small.toml", data=[])
    told = capsys.readouterr()
    assert bool(told.out) == bool(told.err) == speaks


@pytest.mark.parametrize("together", [7, 9])
def test_a_batch_that_cannot_be_shared_is_told_before_crops_are_read(
    together: int, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("faceaudit.training.train")
    group = nullcontext((Group(0, together), "cpu"))
    monkeypatch.setattr(module, "open_group", lambda _: group)
    with pytest.raises(UsageError, match=rf"8 crops cannot be shared evenly by {together} pro"):
        train(recipe, data=[tmp_path / "absent"], output=tmp_path / "none")


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(crops: Path, recipe: str, tmp_path: Path) -> None:
    alone = train(recipe, data=[crops], output=tmp_path / "alone")
    together = tmp_path / "together"
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "faceaudit.cli", "train", recipe, "--data", str(crops)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command, "-o", str(together), "--set", "batch=8", "--verbose"],
        env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 2/2") == 1
    assert done.stdout.count("bundle small in ") == 1
    one, other = (load_file(path) for path in (alone.weights, together / "weights.safetensors"))
    begun = train(recipe, data=[crops], output=tmp_path / "begun", changes={"learning_rate": 1e-12})
    first = load_file(begun.weights)
    moved = max(np.abs(one[name] - first[name]).max() for name in one)
    assert moved > 1e-4
    for name, values in one.items():
        # What is stored in half precision may have been rounded to the next number.
        step = np.spacing(np.abs(values)) if values.dtype == np.float16 else 0
        apart = np.abs(values.astype(np.float64) - other[name])
        assert (apart <= step + 1e-3 * float(moved)).all()
    losses, others = (
        pl.read_csv(tmp_path / f"{name}.training" / "history.csv")["training_gender_loss"]
        for name in ("alone", "together")
    )
    assert others.to_list() == pytest.approx(losses.to_list(), rel=1e-3)
    assert (tmp_path / "together.training" / "validation.html").is_file()
