"""Searching a recipe's ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import polars as pl
import pytest

from faceaudit.errors import UsageError
from faceaudit.pipeline.prepare import prepare
from faceaudit.showcase.images import photograph
from faceaudit.training import tune as module
from faceaudit.training.data import read_crops
from faceaudit.training.loop import train as run_loop
from faceaudit.training.recipe import Range
from faceaudit.training.recipe_files import load_recipe, recipe_from_facts
from faceaudit.training.tune import distribution_of, sample, tune

RECIPE = """
base = "reference/dj_custom_cnn"
name = "small"
batch = 8
stages = [{ epochs = 2, size = 32 }]
data = { validation_share = 0.3, test_share = 0.0, near_duplicates = false }
[reference]
[tune]
trials = 3
startup = 1
[tune.ranges]
learning_rate = { low = 1e-4, high = 1e-2, log = true }
"heads.units" = { choices = [[4], [8]] }
"""


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, folder = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("crops")
    photo = photograph()
    for k in range(24):
        crop = photo.crop((120 + k, 40, 380 + k, 300)).resize((64, 64))
        crop.save(images / f"{5 + 3 * k}_{k % 2}_{k % 5}_201701010000000{k:02d}.jpg")
    prepare(
        images, folder, size=64, detector="whole", align="none", margin=0.2, offset=0.0, quiet=True
    )
    return folder


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return str(path)


def test_a_search_ends_with_a_recipe_that_trains(crops: Path, recipe: str, tmp_path: Path) -> None:
    found = tune(recipe, data=[crops], output=tmp_path / "out")
    assert found.trials == 3
    assert set(found.best) == {"learning_rate", "heads.units"}
    best = load_recipe(str(found.recipe))
    assert best.learning_rate == found.best["learning_rate"]
    assert list(best.heads.units) == found.best["heads.units"]
    assert best.tune is None
    table = pl.read_csv(tmp_path / "out" / "trials.csv")
    assert table.height == 3
    assert table["value"].max() == pytest.approx(found.value, abs=1e-5)


def test_a_search_that_was_killed_goes_on_with_the_trial_that_it_was_in(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """Not an Exception: nothing tidies up after a kill."""

    calls = []

    def dies(*arguments: object, **named: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise KilledError
        return run_loop(*arguments, **named)  # type: ignore[arg-type]

    tell = optuna.Study.tell
    monkeypatch.setattr(module, "run_loop", dies)
    with pytest.raises(KilledError):
        tune(recipe, data=[crops], output=tmp_path / "out")
    monkeypatch.setattr(optuna.Study, "tell", tell)
    found = tune(recipe, data=[crops], output=tmp_path / "out")
    assert found.trials == 3
    assert len(calls) == 4
    assert calls[1][3] == calls[2][3]  # the same folder, so the same checkpoint


def test_a_finished_search_costs_nothing_more(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tune(recipe, data=[crops], output=tmp_path / "out", trials=1)
    monkeypatch.setattr(module, "run_loop", None)
    assert tune(recipe, data=[crops], output=tmp_path / "out", trials=1) == first


def test_another_search_in_the_same_folder_is_refused(
    crops: Path, recipe: str, tmp_path: Path
) -> None:
    tune(recipe, data=[crops], output=tmp_path / "out", trials=1)
    with pytest.raises(UsageError, match="another recipe or of other ranges"):
        tune(recipe, data=[crops], output=tmp_path / "out", trials=1, changes={"seed": 7})


def test_a_recipe_without_ranges_is_one_clear_error(crops: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no table"):
        tune("fairface", data=[crops], output=tmp_path / "out")


def test_ranges_become_distributions() -> None:
    floats = distribution_of("a", Range(low=0.1, high=1.0, log=True))
    assert isinstance(floats, optuna.distributions.FloatDistribution)
    assert floats.log
    whole = distribution_of("a", Range(low=1, high=9, whole=True))
    assert isinstance(whole, optuna.distributions.IntDistribution)
    with pytest.raises(UsageError, match="low below high"):
        distribution_of("a", Range(low=2.0, high=1.0))


def test_data_cannot_be_searched() -> None:
    facts = load_recipe("tune/dj_units").to_json()
    facts["tune"]["ranges"] = {"data.test_share": {"choices": [0.1]}}
    facts.pop("reference")
    with pytest.raises(UsageError, match="same data"):
        recipe_from_facts(facts, "x.toml")


def test_the_grids_of_the_reference_are_searched_whole() -> None:
    units, rate = load_recipe("tune/dj_units").tune, load_recipe("tune/dj_rate").tune
    assert units is not None
    assert rate is not None
    for one in (units, rate):
        sizes = [len(given.choices) for given in one.ranges.values()]
        assert np.prod(sizes) == one.trials


def test_a_share_of_crops_is_always_the_same(crops: Path, recipe: str) -> None:
    every = read_crops(crops, load_recipe(recipe))
    order = np.random.default_rng(0).permutation(len(every))
    one, other = sample(every, 0.25), sample(every.take(order), 0.25)
    assert len(one) == 6
    assert set(one.sha256) == set(other.sha256)
