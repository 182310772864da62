"""Searching a recipe's ranges."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
import pytest
from optuna.trial import TrialState

from faceaudit.errors import UsageError
from faceaudit.pipeline.prepare import prepare
from faceaudit.showcase.images import photograph
from faceaudit.training import tune as module
from faceaudit.training.data import read_crops
from faceaudit.training.loop import train as run_loop
from faceaudit.training.recipe import Range, Tune
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


SPACES = {
    "random": {"learning_rate": Range(low=1e-4, high=1e-2, log=True), "batch": Range((8, 16))},
    "tpe": {"learning_rate": Range(low=1e-4, high=1e-2, log=True), "batch": Range((8, 16))},
    "grid": {"batch": Range((8, 16, 32, 64)), "heads.units": Range(([4], [8]))},
}


@pytest.mark.parametrize(
    ("end", "after"), [(None, 0), (KeyboardInterrupt, 2), (SystemExit, 2), (SystemExit, 1)]
)
@pytest.mark.parametrize("sampler", SPACES)
def test_a_search_that_was_stopped_tries_what_it_would_have_tried(
    sampler: str, end: type[BaseException] | None, after: int, recipe: str, tmp_path: Path
) -> None:
    """Stopped between trials, or in one after some of its settings were chosen.

    SystemExit leaves the trial running, as a kill does.
    """
    tuning = Tune(ranges=SPACES[sampler], sampler=sampler, startup=2)  # type: ignore[arg-type]
    settings = replace(load_recipe(recipe), tune=tuning)
    ends = [end] if end else []

    def run(trial: optuna.Trial) -> float:
        chosen: list[float] = []
        for key, one in tuning.ranges.items():
            chosen.append(module._suggest(trial, key, distribution_of(key, one)))
            if trial.number == 3 and ends and len(chosen) == after:
                raise ends.pop()
        return -abs(math.log(chosen[0] / 1e-3))

    def go_on(folder: str, wanted: int) -> list[dict[str, Any]]:
        (tmp_path / folder).mkdir(exist_ok=True)
        study = module.open_study(tmp_path / folder, settings, recipe, None)
        module._take_up(study, tuning)
        module.search(study, run, tuning, settings.seed, wanted)
        return [t.params for t in study.trials if t.state == TrialState.COMPLETE]

    with pytest.raises(end) if end else nullcontext():
        go_on("stopped", 8 if end else 3)
    found, wanted = go_on("stopped", 8), go_on("whole", 8)
    assert found == wanted
    assert len({str(one) for one in found}) == 8


def test_a_grid_ends_when_every_combination_was_tried(recipe: str, tmp_path: Path) -> None:
    settings = Tune(ranges={"batch": Range((8, 16, 16))}, sampler="grid")
    study = module.open_study(tmp_path, replace(load_recipe(recipe), tune=settings), recipe, None)

    def run(trial: optuna.Trial) -> float:
        return float(trial.suggest_categorical("batch", (8, 16, 16)))

    module.search(study, run, settings, 0, 10)
    assert sorted(trial.params["batch"] for trial in study.trials) == [8, 16]


def test_settings_that_cannot_be_trained_are_not_tried_again(recipe: str, tmp_path: Path) -> None:
    settings = Tune(ranges=SPACES["random"], sampler="random")
    one = replace(load_recipe(recipe), tune=settings)

    def run(trial: optuna.Trial) -> float:
        rate = float(trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True))
        if trial.number == 1:
            raise UsageError("the loss is nan")
        return rate

    with pytest.raises(UsageError, match="nan"):
        module.search(module.open_study(tmp_path, one, recipe, None), run, settings, 0, 4)
    study = module.open_study(tmp_path, one, recipe, None)
    module._take_up(study, settings)
    module.search(study, run, settings, 0, 4)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL"] + ["COMPLETE"] * 3
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 5


def test_a_trial_that_goes_on_is_judged_by_all_of_its_epochs(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*arguments: Any) -> object:
        *others, told = arguments

        def once(epoch: int, metrics: Any) -> None:
            told(epoch, metrics)
            raise KeyboardInterrupt

        return run_loop(*others, once)

    monkeypatch.setattr(module, "run_loop", dies)
    with pytest.raises(KeyboardInterrupt):
        tune(recipe, data=[crops], output=tmp_path / "out", trials=1)
    monkeypatch.setattr(module, "run_loop", run_loop)
    tune(recipe, data=[crops], output=tmp_path / "out", trials=1)
    tune(recipe, data=[crops], output=tmp_path / "whole", trials=1)
    found, wanted = (pl.read_csv(tmp_path / name / "trials.csv") for name in ("out", "whole"))
    assert found.drop("trial").equals(wanted.drop("trial"))
    assert found["epochs"].to_list() == [2]


CHANGES: dict[str, dict[str, Any]] = {
    "none": {},
    "a list of tables": {"stages": [{"epochs": 1, "size": 32}]},
    "a table and a key of it": {"heads": {"kind": "dense"}, "heads.dropout": 0.3},
    "a key of the search": {"tune.trials": 1},
    "a table that a recipe replaces whole": {"data.where.gender": "Male"},
    "text with quotes": {"card.intended_use": 'a "quoted"\nline'},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_the_best_recipe_is_the_searched_one_with_the_best_settings(
    changes: dict[str, Any], recipe: str, tmp_path: Path
) -> None:
    Path(recipe).write_text(f'{RECIPE}"heads.dropout" = {{ low = 0.0, high = 0.5 }}\n')
    settings = load_recipe(recipe, changes)
    study = module.open_study(tmp_path, settings, recipe, changes)

    def run(trial: optuna.Trial) -> float:
        assert settings.tune is not None
        for key, one in settings.tune.ranges.items():
            module._suggest(trial, key, distribution_of(key, one))
        return 0.5

    assert settings.tune is not None
    module.search(study, run, settings.tune, settings.seed, 1)
    found = module._written(study, recipe, settings, changes, tmp_path)
    wanted = replace(load_recipe(recipe, {**changes, **found.best}), tune=None)
    assert load_recipe(str(found.recipe)) == wanted
    assert set(found.best) == {"learning_rate", "heads.units", "heads.dropout"}
    assert wanted.heads.dropout == found.best["heads.dropout"]


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
