"""The study of a search: what comes next, whatever ended the search before."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from faceaudit.errors import InputError, UsageError
from faceaudit.training.recipe import Range, Tune
from faceaudit.training.study import (
    distribution_of,
    folder_of,
    open_study,
    search,
    suggest,
    take_up,
    tried,
)

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
    sampler: str, end: type[BaseException] | None, after: int, tmp_path: Path
) -> None:
    """Stopped between trials, or in one after some of its settings were chosen."""
    tuning = Tune(ranges=SPACES[sampler], sampler=sampler, startup=2)  # type: ignore[arg-type]
    ends = [end] if end else []

    def run(trial: optuna.Trial) -> float:
        chosen: list[Any] = []
        for key, one in tuning.ranges.items():
            chosen.append(suggest(trial, key, one))
            if trial.number == 3 and ends and len(chosen) == after:
                raise ends.pop()
        return -abs(math.log(chosen[0] / 1e-3))

    def go_on(folder: str, wanted: int) -> list[dict[str, Any]]:
        (tmp_path / folder).mkdir(exist_ok=True)
        study = open_study(tmp_path / folder, "small", tuning, {})
        take_up(study, tuning)
        search(study, run, tuning, 0, wanted)
        return [t.params for t in study.trials if t.state == TrialState.COMPLETE]

    with pytest.raises(end) if end else nullcontext():
        go_on("stopped", 8 if end else 3)
    found, wanted = go_on("stopped", 8), go_on("whole", 8)
    assert found == wanted
    assert len({str(one) for one in found}) == 8


def test_a_grid_ends_when_every_combination_was_tried(tmp_path: Path) -> None:
    settings = Tune(ranges={"batch": Range((8, 16, 16))}, sampler="grid")
    study = open_study(tmp_path, "small", settings, {})

    def run(trial: optuna.Trial) -> float:
        return float(trial.suggest_categorical("batch", (8, 16, 16)))

    search(study, run, settings, 0, 10)
    assert sorted(trial.params["batch"] for trial in study.trials) == [8, 16]


def test_settings_that_cannot_be_trained_are_noted_and_the_search_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Tune(ranges=SPACES["random"], sampler="random")

    def run(trial: optuna.Trial) -> float:
        rate = float(trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True))
        if trial.number == 1:
            raise UsageError("the loss is nan")
        return rate

    search(open_study(tmp_path, "small", settings, {}), run, settings, 0, 4)
    assert "trial-0001 failed: the loss is nan" in caplog.text
    study = open_study(tmp_path, "small", settings, {})
    take_up(study, settings)
    search(study, run, settings, 0, 4)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL"] + ["COMPLETE"] * 2
    assert study.trials[1].user_attrs["reason"] == "the loss is nan"


@pytest.mark.parametrize("killed", ["enqueue_trial", "tell"])
def test_a_trial_is_not_lost_where_its_resume_is_killed(
    killed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Tune(ranges=SPACES["grid"], sampler="grid")
    ends: list[type[BaseException]] = [SystemExit, KeyboardInterrupt]
    seen = []

    def run(trial: optuna.Trial) -> float:
        seen.append((folder_of(trial), suggest(trial, "batch", SPACES["grid"]["batch"])))
        if trial.number == 1:
            raise ends.pop(0)
        return 0.5

    def dies(*_: object, **__: object) -> None:
        raise ends.pop()

    with pytest.raises(SystemExit):
        search(open_study(tmp_path, "small", settings, {}), run, settings, 0, 3)
    with monkeypatch.context() as patched:
        patched.setattr(optuna.Study, killed, dies)
        with pytest.raises(KeyboardInterrupt):
            take_up(open_study(tmp_path, "small", settings, {}), settings)
    study = open_study(tmp_path, "small", settings, {})
    take_up(study, settings)
    search(study, run, settings, 0, 3)
    ended = tried(study)
    assert [folder_of(trial) for trial in ended] == ["trial-0000", "trial-0001", "trial-0003"]
    assert all(trial.state == TrialState.COMPLETE for trial in ended)
    assert seen[1] == seen[2]


def test_half_a_line_of_a_journal_is_cut_away(tmp_path: Path) -> None:
    settings = Tune(ranges=SPACES["random"], sampler="random")
    search(open_study(tmp_path, "small", settings, {}), lambda trial: 0.5, settings, 0, 1)
    journal = tmp_path / "study.log"
    *_, last = journal.read_bytes().splitlines(keepends=True)
    with journal.open("ab") as file:
        file.write(last[: len(last) // 2])
    study = open_study(tmp_path, "small", settings, {})
    search(study, lambda trial: 0.5, settings, 0, 2)
    assert len(tried(open_study(tmp_path, "small", settings, {}))) == 2


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"op_code": 4, "worker_id": "x"}'])
def test_a_damaged_journal_is_one_clear_error(line: str, tmp_path: Path) -> None:
    settings = Tune(ranges=SPACES["random"])
    (tmp_path / "study.log").write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"study\.log: is damaged"):
        open_study(tmp_path, "small", settings, {})


def test_a_lock_that_a_killed_search_left_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "study.log.lock").symlink_to(tmp_path / "study.log")
    begun = time.monotonic()
    open_study(tmp_path, "small", Tune(ranges=SPACES["random"]), {})
    assert time.monotonic() - begun < 10
    assert not (tmp_path / "study.log.lock").is_symlink()


def test_ranges_become_distributions() -> None:
    floats = distribution_of(Range(low=0.1, high=1.0, log=True))
    assert isinstance(floats, optuna.distributions.FloatDistribution)
    assert floats.log
    whole = distribution_of(Range(low=1, high=9, whole=True))
    assert isinstance(whole, optuna.distributions.IntDistribution)


@pytest.mark.parametrize("choice", [[8], {"kind": "dense", "units": [8]}, "[custom", '"a"', "a", 3])
def test_a_choice_is_what_was_given(choice: Any, tmp_path: Path) -> None:
    study = open_study(tmp_path, "small", Tune(ranges={"a": Range((choice,))}), {})
    assert suggest(study.ask(), "a", Range((choice,))) == choice
