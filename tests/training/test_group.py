"""Several processes that train one network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from faceaudit.errors import UsageError
from faceaudit.pipeline.prepare import prepare
from faceaudit.showcase.images import photograph
from faceaudit.training import loop, objective
from faceaudit.training.data import Batch
from faceaudit.training.group import Group, open_group
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.state import new_state
from faceaudit.training.train import train

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


def test_an_empty_share_adds_nothing_to_the_gradients(recipe: str) -> None:
    settings = load_recipe(recipe)
    network = new_state(settings).network
    labels = {name: np.empty(0, np.int64) for name in ("gender", "age_low", "age_high")}
    batch = loop._blank(Batch(np.empty((0, 48, 48, 3), np.uint8), labels, ()), 48)
    losses = objective.batch_losses(network, batch, settings, (0,))
    sum(losses.values()).backward()
    found = [parameter.grad for parameter in network.parameters()]
    assert all(one is not None and not one.any() for one in found)


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
    one, other = (load_file(path) for path in (alone.weights, together / "weights.safetensors"))
    begun = train(recipe, data=[crops], output=tmp_path / "begun", changes={"learning_rate": 1e-12})
    first = load_file(begun.weights)
    moved = max(np.abs(one[name] - first[name]).max() for name in one)
    apart = max(np.abs(one[name] - other[name]).max() for name in one)
    assert moved > 1e-4
    assert apart < 0.01 * moved
    assert (tmp_path / "together.training" / "validation.html").is_file()
