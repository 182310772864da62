"""`faceaudit tune`: the settings of a recipe that validate best, searched over its ranges."""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import tomli_w
import torch
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from faceaudit.errors import UsageError
from faceaudit.storage import exclusive, make_folder, write_text
from faceaudit.training.ancestors import without_learned
from faceaudit.training.data import CropSet, check_labels, join_crops, read_crops
from faceaudit.training.loop import CHECKPOINT
from faceaudit.training.loop import train as run_loop
from faceaudit.training.recipe import Range, Recipe, Tune
from faceaudit.training.recipe_files import check_sizes, load_recipe
from faceaudit.training.splits import divide
from faceaudit.training.train import open_device
from faceaudit.training.validation import selection_value

log = logging.getLogger(__name__)

STUDY, TRIALS, BEST_RECIPE = "study.log", "trials.csv", "best.toml"
FOLDER, IDENTITY, INTERRUPTED = "folder", "identity", "interrupted"
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Tuned:
    """What a search found."""

    best: Mapping[str, Any]
    """Dotted key -> value."""
    value: float
    """What the recipe's selection maximises, on validation crops."""
    trials: int
    pruned: int
    recipe: Path
    """The searched recipe with the best settings, every key of it."""


def tune(
    recipe: str,
    *,
    data: Sequence[Path],
    output: Path | None = None,
    trials: int | None = None,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    max_steps: int | None = None,
    limit: int | None = None,
) -> Tuned:
    """Search the ranges in a recipe's table ``tune``; a search that was interrupted goes on.

    It tries what it would have tried without the interruption, and the trial that it was in goes on
    from its checkpoint.

    Every trial trains the recipe with one choice of settings on the same split; after each epoch
    those that are behind the median of the others at that epoch are given up. What is maximised is
    the recipe's ``selection`` on the validation crops, best epoch. The value of the best of many
    trials is too hopeful: audit the model that is trained with it on crops of its own.

    Args:
        recipe: Name of a recipe that ships or a TOML file, with a table ``tune``.
        data: Folders that ``faceaudit prepare`` wrote.
        output: Folder of the study, of ``trials.csv`` and of ``best.toml``; by default
            ``<recipe>.tuning``.
        trials: Settings to try in all; by default as many as the recipe says.
        changes: Dotted key -> value, put over those of the recipe.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        max_steps: Steps per epoch at most (a trial run).
        limit: Crops used at most (a trial run).

    Raises:
        FaceauditError: If the recipe has no ranges, or the data or the device cannot be used.
    """
    settings = load_recipe(recipe, changes)
    if settings.tune is None:
        raise UsageError(f"recipe {recipe}: has no table [tune.ranges] to search")
    check_sizes(settings)
    place = open_device(device)
    output = output or Path(f"{settings.name}.tuning")
    make_folder(output)
    crops = join_crops([read_crops(folder, settings) for folder in data])
    if limit:
        crops = crops.take(np.arange(min(limit, len(crops))))
    check_labels(crops, settings)
    with exclusive(output / STUDY):
        split = without_learned(settings, divide(crops, settings, data, output), output)
        training = sample(split.training, settings.tune.share)
        if not len(training) or not len(split.validation):
            raise UsageError(f"--data: {len(crops)} crops are too few to train and validate on")
        study = open_study(output, settings, recipe, changes)
        _take_up(study, settings.tune)
        run = partial(
            _run_trial,
            settings=settings,
            recipe=recipe,
            changes=dict(changes or {}),
            parts=(training, split.validation),
            output=output,
            device=place,
            max_steps=max_steps,
        )
        wanted = trials or settings.tune.trials
        search(study, run, settings.tune, settings.seed, wanted)
        return _written(study, recipe, settings, changes, output)


def open_study(
    output: Path, settings: Recipe, recipe: str, changes: Mapping[str, Any] | None
) -> optuna.Study:
    """The study of a folder, new or as it was left.

    Raises:
        UsageError: If it belongs to another recipe or other ranges.
    """
    if settings.tune is None:
        raise UsageError(f"recipe {recipe}: has no table [tune.ranges] to search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(output / STUDY)))
    study = optuna.create_study(
        study_name=settings.name,
        storage=storage,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=settings.tune.startup),
        direction="maximize",
        load_if_exists=True,
    )
    facts = settings.to_json()
    facts["tune"] = {key: facts["tune"][key] for key in ("ranges", "sampler", "share")}
    identity = json.dumps(facts, sort_keys=True)
    known = study.user_attrs.get(IDENTITY)
    if known is None:
        study.set_user_attr(IDENTITY, identity)
    elif known != identity:
        raise UsageError(
            f"{output}: holds the search of another recipe or of other ranges; give another "
            "--output, or remove it"
        )
    return study


def search(
    study: optuna.Study,
    run: Callable[[optuna.Trial], float],
    settings: Tune,
    seed: int,
    wanted: int,
) -> None:
    """Run trials until so many are done, or nothing is left of a grid."""

    def attempt(trial: optuna.Trial) -> float:
        try:
            return run(trial)
        except KeyboardInterrupt:  # Optuna ends the trial as if it had failed
            trial.set_user_attr(INTERRUPTED, True)
            raise

    for _ in range(wanted - sum(trial.state in DONE for trial in study.trials)):
        sampler = sampler_of(settings, seed, _tried(study))
        if sampler is None:
            return
        study.sampler = sampler
        study.optimize(attempt, n_trials=1)


def sampler_of(
    settings: Tune, seed: int, tried: Sequence[FrozenTrial]
) -> optuna.samplers.BaseSampler | None:
    """How the next settings are chosen; None where a grid has no more.

    It follows from the seed and the trials before alone, so that a search that goes on in another
    process chooses what it would have chosen in the first: Optuna does not store the state of a
    sampler's random numbers with a study.
    """
    if settings.sampler == "grid":
        known = [trial.params for trial in tried]
        left = [one for one in _grid(settings, seed) if one not in known]
        return Given(left[0]) if left else None
    own = int(np.random.SeedSequence((seed, len(tried))).generate_state(1)[0])
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=own)
    return optuna.samplers.TPESampler(seed=own, n_startup_trials=settings.startup)


def _grid(settings: Tune, seed: int) -> list[dict[str, Any]]:
    """Every combination of choices, in an order that follows from the seed."""
    choices = {key: _choices(key, one) for key, one in settings.ranges.items()}
    every = [
        dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())
    ]
    return [every[position] for position in np.random.default_rng(seed).permutation(len(every))]


class Given(optuna.samplers.BaseSampler):
    """Settings that are known before: name -> value."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: Any, name: str, _: Any) -> Any:
        return self.values[name]


def distribution_of(key: str, given: Range) -> BaseDistribution:
    """A range as Optuna's distribution; lists travel as JSON, which is what it can store."""
    if given.choices:
        return CategoricalDistribution(_choices(key, given))
    if given.low is None or given.high is None or given.low >= given.high:
        raise UsageError(f"tune.ranges.{key}: give choices, or low and high with low below high")
    if given.whole:
        return IntDistribution(int(given.low), int(given.high), log=given.log)
    return FloatDistribution(given.low, given.high, log=given.log)


def _choices(key: str, given: Range) -> list[Any]:
    if not given.choices:
        raise UsageError(f"tune.ranges.{key}: a grid needs choices")
    return [json.dumps(choice) if isinstance(choice, list) else choice for choice in given.choices]


def sample(crops: CropSet, share: float) -> CropSet:
    """A share of crops, the same in every run: those whose hashes come first."""
    count = max(1, math.ceil(share * len(crops))) if len(crops) else 0
    return crops.take(np.sort(np.argsort(np.asarray(crops.sha256), kind="stable")[:count]))


def _take_up(study: optuna.Study, settings: Tune) -> None:
    """Queue trials that an interruption left unfinished; they go on from their checkpoints."""
    for folder, trial in _latest(study).items():
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        elif trial.state != TrialState.FAIL or INTERRUPTED not in trial.user_attrs:
            continue
        # Without all of its settings a trial had not begun: they are chosen again, and the same.
        known = trial.params if set(trial.params) == set(settings.ranges) else {}
        study.enqueue_trial(known, user_attrs={FOLDER: folder})


def _latest(study: optuna.Study) -> dict[str, FrozenTrial]:
    """The last attempt at every trial, by its folder."""
    return {_folder_of(trial): trial for trial in study.trials}


def _tried(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that ended, each once; those of which an interruption was the end are still to do."""
    return [
        trial
        for trial in _latest(study).values()
        if trial.state.is_finished() and INTERRUPTED not in trial.user_attrs
    ]


def _folder_of(trial: FrozenTrial | optuna.Trial) -> str:
    return str(trial.user_attrs.get(FOLDER, f"trial-{trial.number:04}"))


def _run_trial(
    trial: optuna.Trial,
    *,
    settings: Recipe,
    recipe: str,
    changes: dict[str, Any],
    parts: tuple[CropSet, CropSet],
    output: Path,
    device: str,
    max_steps: int | None,
) -> float:
    """Train once with the settings that a trial proposes; the best epoch's value."""
    if settings.tune is None:
        raise UsageError(f"recipe {recipe}: has no table [tune.ranges] to search")
    chosen = {
        key: _value(_suggest(trial, key, distribution_of(key, one)))
        for key, one in settings.tune.ranges.items()
    }
    one = _recipe_of(recipe, changes, chosen)
    check_sizes(one)
    work = output / _folder_of(trial)
    make_folder(work)
    values: list[float] = []

    def told(epoch: int, metrics: Mapping[str, float]) -> None:
        values.append(selection_value(metrics, one))
        trial.report(values[-1], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    log.info("trial %d: %s", trial.number, json.dumps(chosen))
    for row in _epochs_before(work / CHECKPOINT):
        told(int(row["epoch"]), row)
    state = run_loop(one, *parts, work, log.debug, max_steps, device, told)
    best = max([state.best, *values])
    log.info("trial %d: %.4f", trial.number, best)
    return best


def _epochs_before(checkpoint: Path) -> list[dict[str, float]]:
    """What an interrupted trial found in each epoch, for the trial that goes on with it."""
    if not checkpoint.is_file():
        return []
    found = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return list(found["history"])


def _recipe_of(recipe: str, changes: Mapping[str, Any] | None, chosen: Mapping[str, Any]) -> Recipe:
    """The searched recipe with settings of a trial."""
    return replace(load_recipe(recipe, {**(changes or {}), **chosen}), tune=None)


def _suggest(trial: optuna.Trial, key: str, given: BaseDistribution) -> Any:
    if isinstance(given, CategoricalDistribution):
        return trial.suggest_categorical(key, given.choices)
    if isinstance(given, IntDistribution):
        return trial.suggest_int(key, given.low, given.high, log=given.log)
    if isinstance(given, FloatDistribution):
        return trial.suggest_float(key, given.low, given.high, log=given.log)
    raise ValueError(f"no suggestion is known for {given}")


def _value(given: Any) -> Any:
    """A suggested value; text that is a JSON list is that list."""
    return json.loads(given) if isinstance(given, str) and given.startswith("[") else given


def _written(
    study: optuna.Study,
    recipe: str,
    settings: Recipe,
    changes: Mapping[str, Any] | None,
    output: Path,
) -> Tuned:
    """The outcome, with its table of trials and its recipe."""
    finished = [trial for trial in study.trials if trial.state in DONE]
    write_text(
        output / TRIALS, _table(finished, list(settings.tune.ranges if settings.tune else ()))
    )
    if not any(trial.state == TrialState.COMPLETE for trial in finished):
        raise UsageError(f"{output}: no trial was finished; see {output / TRIALS}")
    best = {key: _value(value) for key, value in study.best_params.items()}
    path = output / BEST_RECIPE
    facts = _without_none(_recipe_of(recipe, changes, best).to_json())
    told = f"# The best of {len(finished)} trials: {study.best_value:.4f} on validation crops.\n"
    write_text(path, told + tomli_w.dumps(facts))
    load_recipe(str(path))
    pruned = sum(trial.state == TrialState.PRUNED for trial in finished)
    return Tuned(best, study.best_value, len(finished), pruned, path)


def _without_none(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts without keys that have no value, for which TOML has no word."""
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in facts.items()
        if value is not None
    }


def _table(trials: Sequence[FrozenTrial], keys: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "value", "epochs", *keys])
    for trial in trials:
        value = "" if trial.value is None else f"{trial.value:.6g}"
        settings = [trial.params.get(key, "") for key in keys]
        epochs = len(trial.intermediate_values)
        writer.writerow([trial.number, trial.state.name.lower(), value, epochs, *settings])
    return text.getvalue()
