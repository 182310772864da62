"""Searching a recipe's ranges."""

from __future__ import annotations

import errno
import importlib.util
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
import pytest
import torch
from optuna.storages.journal import JournalFileBackend

from faceaudit.cli import models
from faceaudit.errors import BundleError, InputError, MissingExtraError, TemporaryError, UsageError
from faceaudit.pipeline.prepare import prepare
from faceaudit.showcase.images import photograph
from faceaudit.training import tune as module
from faceaudit.training.data import read_crops
from faceaudit.training.loop import train as run_loop
from faceaudit.training.recipe_files import load_recipe
from faceaudit.training.study import (
    open_study,
    search,
    suggest,
)
from faceaudit.training.tune import sample, tune

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

ACCURACIES = {"gender": 0.5, "race": 0.5, "age_group": 0.5}


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


def test_a_trial_behind_the_median_of_the_others_is_given_up(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([(0.6, 0.8), (0.5, 0.9), (0.7, 0.85)])
    ended = []

    def learns(*arguments: Any) -> None:
        for epoch, value in enumerate(next(values), start=1):
            arguments[-1](epoch, dict.fromkeys(ACCURACIES, value))
        ended.append(arguments[3].name)

    monkeypatch.setattr(module, "run_loop", learns)
    found = tune(recipe, data=[crops], output=tmp_path / "out")
    assert (found.trials, found.pruned, found.failed) == (3, 1, 0)
    assert found.value == pytest.approx(0.85)  # the second would have had 0.9
    table = pl.read_csv(tmp_path / "out" / "trials.csv")
    assert table["state"].to_list() == ["complete", "pruned", "complete"]
    assert table["epochs"].to_list() == [2, 1, 2]
    assert len(ended) == 2


FULL = {
    "a disk": (OSError(errno.ENOSPC, "No space left"), TemporaryError, "No space left"),
    "a disk, as torch tells": (
        RuntimeError("PytorchStreamWriter failed writing"),
        TemporaryError,
        "disk or the memory was full",
    ),
    "a memory": (MemoryError(), TemporaryError, r"the memory was full; .* lower batch \(8\)"),
    "a limit": (InputError("larger than files may be"), InputError, "larger than files may be"),
    "a bug": (RuntimeError("shapes differ"), RuntimeError, "shapes differ"),
}


@pytest.mark.parametrize(("error", "kind", "told"), FULL.values(), ids=FULL)
def test_a_trial_that_a_failure_ended_is_taken_up_again(
    error: Exception,
    kind: type[Exception],
    told: str,
    crops: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def fails(*arguments: Any) -> None:
        calls.append(arguments[3].name)
        if len(calls) == 2:
            raise error
        arguments[-1](1, ACCURACIES)

    monkeypatch.setattr(module, "run_loop", fails)
    with pytest.raises(kind, match=told):
        tune(recipe, data=[crops], output=tmp_path / "out")
    assert pl.read_csv(tmp_path / "out" / "trials.csv")["trial"].to_list() == ["trial-0000"]
    assert load_recipe(str(tmp_path / "out" / "best.toml")).tune is None
    found = tune(recipe, data=[crops], output=tmp_path / "out")
    assert (found.trials, found.failed) == (3, 0)
    assert calls == ["trial-0000", "trial-0001", "trial-0001", "trial-0003"]
    table = pl.read_csv(tmp_path / "out" / "trials.csv")
    assert table["trial"].to_list() == ["trial-0000", "trial-0001", "trial-0003"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            "memory of cpu was full; lower batch",
        ),
        (BundleError("weights vggface: there is no such file"), "there is no such file"),
    ],
)
def test_settings_too_large_for_an_accelerator_or_without_their_files_are_a_failed_trial(
    error: Exception,
    told: str,
    crops: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def fails(*arguments: Any) -> None:
        calls.append(arguments[3].name)
        if len(calls) == 2:
            raise error
        arguments[-1](1, ACCURACIES)

    monkeypatch.setattr(module, "run_loop", fails)
    found = tune(recipe, data=[crops], output=tmp_path / "out")
    assert (found.trials, found.failed) == (3, 1)
    assert told in (tmp_path / "out" / "trials.csv").read_text()


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (MemoryError(), 1),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator"), 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 1),
        (OSError(errno.ENOSPC, "No space left"), 0),
        (RuntimeError("[enforce fail at inline_container.cc:1] PytorchStreamWriter failed"), 0),
    ],
)
def test_settings_that_fill_the_memory_twice_are_a_failed_trial_and_those_that_fill_a_disk_wait(
    error: Exception,
    failed: int,
    crops: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def fails(*arguments: Any) -> None:
        calls.append(arguments[3].name)
        if arguments[3].name == "trial-0001" and len(calls) < 4:
            raise error
        arguments[-1](1, ACCURACIES)

    monkeypatch.setattr(module, "run_loop", fails)
    with pytest.raises(TemporaryError):
        tune(recipe, data=[crops], output=tmp_path / "out")
    if failed:
        found = tune(recipe, data=[crops], output=tmp_path / "out")
        assert calls[:3] == ["trial-0000", "trial-0001", "trial-0001"]
        table = pl.read_csv(tmp_path / "out" / "trials.csv")
        assert table["reason"][1].startswith("twice, the memory was full; run again")
        assert (found.trials, found.failed) == (3, 1)
    else:
        with pytest.raises(TemporaryError):
            tune(recipe, data=[crops], output=tmp_path / "out")
        assert tune(recipe, data=[crops], output=tmp_path / "out").failed == 0


def test_a_grid_is_tried_whole_unless_fewer_trials_are_asked_for(
    crops: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = RECIPE.partition("[tune]")[0]
    ranges = (
        "[tune.ranges]\nseed = { choices = [1, 2, 3, 4, 5, 5] }\nbatch.choices = [4, 8, 16, 32, 64]"
    )
    Path(recipe).write_text(f'{text}[tune]\nsampler = "grid"\n{ranges}\n')
    monkeypatch.setattr(module, "run_loop", lambda *given: given[-1](1, ACCURACIES))
    some = tune(recipe, data=[crops], output=tmp_path / "out", trials=2)
    assert some.trials == 2
    assert "2 of the grid's 25 combinations will be tried; --trials 25" in caplog.text
    caplog.clear()
    assert tune(recipe, data=[crops], output=tmp_path / "out").trials == 25
    assert "combinations" not in caplog.text


def test_a_full_disk_while_the_journal_is_written_is_one_clear_error(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = JournalFileBackend.append_logs
    wrote = []

    def full(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        wrote.append(logs)
        if len(wrote) == 5:
            with (tmp_path / "out" / "study.log").open("a") as file:
                file.write('{"op_code"')
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, logs)

    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    monkeypatch.setattr(module, "run_loop", lambda *given: given[-1](1, ACCURACIES))
    with pytest.raises(TemporaryError, match="No space left"):
        tune(recipe, data=[crops], output=tmp_path / "out", trials=2)
    assert tune(recipe, data=[crops], output=tmp_path / "out", trials=2).trials == 2


def test_a_damaged_checkpoint_begins_its_trial_again(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*arguments: Any) -> None:
        (arguments[3] / "checkpoint.pt").write_bytes(b"PK no checkpoint")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_loop", dies)
    with pytest.raises(KeyboardInterrupt):
        tune(recipe, data=[crops], output=tmp_path / "out", trials=1)
    monkeypatch.setattr(module, "run_loop", run_loop)
    assert tune(recipe, data=[crops], output=tmp_path / "out", trials=1).failed == 0


@pytest.mark.parametrize("by", ["", "gender", "gender_loss"])
def test_a_network_of_nans_is_never_the_best(
    by: str, crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: Any) -> None:
        loss = math.nan if arguments[3].name == "trial-0001" else 0.7
        gender = 0.9 if math.isnan(loss) else 0.5
        arguments[-1](1, ACCURACIES | {"gender": gender, "gender_loss": loss})

    monkeypatch.setattr(module, "run_loop", run)
    changes = {"selection.by": by}
    found = tune(recipe, data=[crops], output=tmp_path / "out", changes=changes)
    assert (found.trials, found.failed) == (3, 1)
    table = pl.read_csv(tmp_path / "out" / "trials.csv")
    assert table["state"].to_list() == ["complete", "fail", "complete"]
    assert "is no number after epoch 1" in table["reason"][1]


def test_a_search_without_a_finished_trial_tells_the_last_reason(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any) -> None:
        raise UsageError("the loss is inf")

    monkeypatch.setattr(module, "run_loop", refuses)
    with pytest.raises(UsageError, match="no trial was finished; the last failed: the loss is"):
        tune(recipe, data=[crops], output=tmp_path / "out")


def test_trials_are_judged_by_the_weights_of_the_searched_recipe(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = '[tune.ranges]\n"tasks.gender.weight" = { choices = [0.01, 100.0] }\n'
    Path(recipe).write_text(RECIPE.partition("[tune.ranges]")[0] + ranges)
    metrics = {"gender": 0.9, "race": 0.2, "age_group": 0.1}

    def run(*arguments: Any) -> None:
        arguments[-1](1, metrics)

    monkeypatch.setattr(module, "run_loop", run)
    tune(recipe, data=[crops], output=tmp_path / "out", changes={"tune.sampler": "grid"})
    table = pl.read_csv(tmp_path / "out" / "trials.csv")
    weights = {name: task.weight for name, task in load_recipe(recipe).tasks.items()}
    wanted = np.average(
        list(metrics.values()), weights=[weights[n] for n in ("gender", "race", "age")]
    )
    assert table["value"].to_list() == pytest.approx([wanted, wanted], abs=1e-5)


def test_trials_that_ended_keep_their_history_alone(
    crops: Path, recipe: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tune(recipe, data=[crops], output=out, trials=2, changes={"selection.keep": "best"})
    for folder in ("trial-0000", "trial-0001"):
        assert [file.name for file in (out / folder).iterdir()] == ["history.csv"]


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
    assert settings.tune is not None
    tuning = settings.tune
    study = open_study(tmp_path, settings.name, tuning, {})

    def run(trial: optuna.Trial) -> float:
        for key, one in tuning.ranges.items():
            suggest(trial, key, one)
        return 0.5

    search(study, run, tuning, settings.seed, 1)
    module._write(study, recipe, settings, changes, tmp_path)
    found = module._outcome(study, tmp_path)
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


OTHERS: dict[str, dict[str, Any]] = {
    "seed": {"changes": {"seed": 7}},
    "another recipe, larger": {"changes": {"name": "larger"}},
    "tune.ranges": {"changes": {"tune.ranges": {"batch": {"choices": [8, 16]}}}},
    "crops": {"limit": 20},
    "max_steps": {"max_steps": 1},
}


@pytest.mark.parametrize(("differs", "given"), OTHERS.items(), ids=OTHERS)
def test_another_search_in_the_same_folder_is_refused(
    differs: str,
    given: dict[str, Any],
    crops: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "run_loop", lambda *given: given[-1](1, ACCURACIES))
    tune(recipe, data=[crops], output=tmp_path / "out", trials=1)
    files = [tmp_path / "out" / name for name in ("study.log", "trials.csv", "splits.parquet")]
    before = [file.read_bytes() for file in files]
    wanted = differs.replace("larger", "small") if "recipe" in differs else f"other {differs};"
    with pytest.raises(UsageError, match=f"holds (a search with|the search of) {wanted}"):
        tune(recipe, data=[crops], output=tmp_path / "out", trials=1, **given)
    assert [file.read_bytes() for file in files] == before


def test_a_recipe_without_ranges_is_one_clear_error(crops: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no table"):
        tune("fairface", data=[crops], output=tmp_path / "out")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no trials": ({"tune.trials": 0}, "tune.trials is 0; it must be at least 1"),
    "no epochs": (
        {"stages": [{"epochs": 0, "size": 32}], "start": "fairface"},
        "tune: nothing is learned in 0 epochs",
    ),
    "startup": ({"tune.startup": -1}, "tune.startup is -1"),
    "no share": ({"tune.share": 0.0}, "tune.share is 0"),
    "share": ({"tune.share": 3.0}, "tune.share is 3"),
    "no ranges": ({"tune.ranges": {}}, "tune.ranges is empty"),
    "log": (
        {"tune.ranges": {"learning_rate": {"low": 0.0, "high": 1.0, "log": True}}},
        "tune.ranges.learning_rate: low is 0; with log",
    ),
    "order": ({"tune.ranges": {"seed": {"low": 5, "high": 2}}}, "seed: .* low below high"),
    "nothing": ({"tune.ranges": {"seed": {}}}, "seed: give choices, or low and high"),
    "whole": (
        {"tune.ranges": {"batch": {"low": 16.5, "high": 16.9, "whole": True}}},
        "batch: low and high are 16.5 and 16.9",
    ),
    "both": (
        {"tune.ranges": {"batch": {"choices": [8], "low": 8, "high": 16}}},
        "batch: choices stand alone",
    ),
    "grid": (
        {"tune.sampler": "grid", "tune.ranges": {"batch": {"low": 8, "high": 16}}},
        "batch: a grid needs choices",
    ),
    "data": ({"tune.ranges": {"data.test_share": {"choices": [0.1]}}}, "same data"),
    "view": ({"tune.ranges": {"margin": {"choices": [0.1]}}}, "same data"),
    "selection": ({"tune.ranges": {"selection.by": {"choices": ["gender"]}}}, "in the same way"),
    "scheme": ({"tune.ranges": {"tasks.age.scheme": {"choices": ["value"]}}}, "cannot be compared"),
    "task": ({"tune.ranges": {"tasks.age": {"choices": [{}]}}}, "cannot be compared"),
    "loss": (
        {
            "selection.by": "gender_loss",
            "tune.ranges": {"tasks.gender.label_smoothing": {"choices": [0.0, 0.1]}},
        },
        "selection.by gender_loss could not be compared",
    ),
}


@pytest.mark.parametrize(("changes", "told"), WRONG.values(), ids=WRONG)
def test_a_search_that_cannot_be_is_one_clear_error(
    changes: dict[str, Any], told: str, recipe: str
) -> None:
    with pytest.raises(UsageError, match=told):
        load_recipe(recipe, changes)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "value": ({"batch": [8, 0]}, r"tune\.ranges\.batch: 0 cannot be: .* at least 1"),
    "key": ({"learning_rat": [1.0]}, r"tune\.ranges\.learning_rat: .*'learning_rat'"),
    "heads": (
        {"heads.kind": ["linear", "ge"]},
        r'heads\.kind: "ge" cannot be: .* embedding',
    ),
    "share": ({"heads.dropout": [0.1, 1.5]}, r"heads\.dropout: 1\.5 cannot be"),
    "file": ({"weights": ["none", "vggface"], "backbone": ["vgg16"]}, r'weights: "vggface" cannot'),
    "name": ({"backbone": ["custom_cnn", "[custom"]}, r'backbone: "\[custom" cannot be'),
}


@pytest.mark.parametrize(("ranges", "told"), REFUSED.values(), ids=REFUSED)
def test_a_value_that_cannot_be_trained_is_refused_before_anything_is_read(
    ranges: dict[str, list[Any]], told: str, recipe: str, tmp_path: Path
) -> None:
    given = {key: {"choices": choices} for key, choices in ranges.items()}
    changes = {"heads.units": [], "tune.ranges": given}
    with pytest.raises(UsageError, match=told):
        tune(recipe, data=[tmp_path / "nothing"], output=tmp_path / "out", changes=changes)
    assert not (tmp_path / "out").exists()


def test_values_that_fit_together_are_searched_together(
    crops: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_loop", lambda *given: given[-1](1, ACCURACIES))
    ranges = {"heads.kind": {"choices": ["ge", "gm"]}, "heads.units": {"choices": [[4], [8]]}}
    changes = {"heads.units": [], "tune.ranges": ranges}
    assert tune(recipe, data=[crops], output=tmp_path / "out", changes=changes).failed == 0


@pytest.mark.parametrize(
    ("command", "missing"),
    [(c, m) for c in ("train", "tune") for m in ("safetensors", "onnx")]
    + [("train", "onnxscript"), ("tune", "optuna")],
)
def test_a_module_that_is_missing_is_told_with_its_extra(
    command: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else real(name)
    )
    with pytest.raises(MissingExtraError, match=rf"faceaudit {command} .*faceaudit\[train\]"):
        getattr(models, command)("small.toml", data=[], quiet=True)


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
