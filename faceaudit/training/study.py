"""The study of a search: which settings come next, and a journal that survives its end.

A trial whose process ended, for whatever reason, is still running as the journal tells it, and is
taken up again. Only settings that cannot be trained make a trial fail.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from faceaudit.errors import BundleError, InputError, UsageError
from faceaudit.training.recipe import Range, Tune

log = logging.getLogger(__name__)

STUDY = "study.log"
FOLDER, IDENTITY, REASON = "folder", "identity", "reason"
FULL = "memory was full"
"""Of a trial, at an attempt before."""
TRIALS = 20
"""Of a search that is no grid."""


def open_study(
    output: Path, name: str, settings: Tune, identity: Mapping[str, str]
) -> optuna.Study:
    """The study of a folder, new or as it was left; the caller holds the folder's lock.

    Args:
        output: The search's folder.
        name: The recipe's.
        settings: The recipe's table ``tune``.
        identity: What the study must agree in: everything that decides a trial's value, as text.

    Raises:
        UsageError: If it belongs to another search; says in what it differs.
        InputError: If its journal is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = output / STUDY
    _mend(journal)
    try:
        storage = JournalStorage(JournalFileBackend(str(journal)))
        names = [study.study_name for study in storage.get_all_studies()]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise _damaged(journal, f"{type(error).__name__}: {error}") from error
    if any(known != name for known in names):
        raise UsageError(
            f"{output}: holds the search of another recipe, {names[0]}; give another --output, or "
            "remove it"
        )
    pruner = optuna.pruners.MedianPruner(n_startup_trials=settings.startup)
    if names:
        study = optuna.load_study(study_name=name, storage=storage, pruner=pruner)
    else:
        study = optuna.create_study(
            study_name=name, storage=storage, pruner=pruner, direction="maximize"
        )
    known = json.loads(study.user_attrs.get(IDENTITY, "null"))
    if known is None:
        study.set_user_attr(IDENTITY, json.dumps(identity))
        return study
    keys = dict.fromkeys([*identity, *known])
    if differing := [key for key in keys if known.get(key) != identity.get(key)]:
        raise UsageError(
            f"{output}: holds a search with other {', '.join(differing)}; give another --output, "
            "or remove it"
        )
    return study


def _mend(journal: Path) -> None:
    """Take away what a run left that was killed, or whose disk was full, while it wrote.

    Raises:
        InputError: If a line is none of a journal.
    """
    for lock in journal.parent.glob(f"{journal.name}.lock*"):
        lock.unlink(missing_ok=True)  # of Optuna; whoever holds the folder's lock is alone
    if not journal.is_file():
        return
    *lines, half = journal.read_bytes().split(b"\n")
    if half:
        os.truncate(journal, journal.stat().st_size - len(half))
    for number, line in enumerate(lines, start=1):
        try:
            json.loads(line)
        except ValueError as error:
            raise _damaged(journal, f"line {number}: {error}") from error


def _damaged(journal: Path, reason: str) -> InputError:
    return InputError(
        f"{journal}: is damaged ({reason}); restore it from a copy, or remove {journal.parent} to "
        "search again"
    )


def search(
    study: optuna.Study,
    run: Callable[[optuna.Trial], float],
    settings: Tune,
    seed: int,
    wanted: int,
    told: Callable[[], None] = lambda: None,
) -> None:
    """Run trials until so many were tried, or nothing is left of a grid.

    Args:
        study: Where they are noted.
        run: Gives a trial's value. Settings that it refuses with ``UsageError``, or whose weights
            or bundles it does not find, make the trial fail, and the search goes on; whatever else
            it raises leaves the trial unfinished.
        settings: The recipe's table ``tune``.
        seed: The recipe's.
        wanted: Trials in all, with those of runs before.
        told: Called after every trial.
    """
    while len(tried(study)) < wanted:
        sampler = sampler_of(settings, seed, tried(study))
        if sampler is None:
            return
        study.sampler = sampler
        trial = study.ask()
        try:
            study.tell(trial, run(trial))
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        except (UsageError, BundleError) as error:
            log.warning("%s failed: %s", folder_of(trial), error)
            trial.set_user_attr(REASON, str(error))
            study.tell(trial, state=TrialState.FAIL)
        told()


def take_up(study: optuna.Study, settings: Tune) -> None:
    """Queue trials that were left unfinished; they go on from their checkpoints."""
    latest = _latest(study)
    for trial in study.trials:
        if trial.state != TrialState.RUNNING:
            continue
        folder = folder_of(trial)
        # The old attempt is ended last: killed in between, the trial is not lost.
        if latest[folder].number == trial.number:
            # Without all of its settings it had not begun: they are chosen again, and the same.
            known = trial.params if set(trial.params) == set(settings.ranges) else {}
            full = {FULL: True} if trial.user_attrs.get(FULL) else {}
            study.enqueue_trial(known, user_attrs={FOLDER: folder, **full})
        study.tell(trial.number, state=TrialState.FAIL)


def tried(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that ended, or failed for their settings, each once."""
    return [trial for trial in _latest(study).values() if trial.state.is_finished()]


def _latest(study: optuna.Study) -> dict[str, FrozenTrial]:
    """The last attempt at every trial, by its folder."""
    return {folder_of(trial): trial for trial in study.trials}


def folder_of(trial: FrozenTrial | optuna.Trial) -> str:
    """The name of a trial's folder, the same for all attempts at it."""
    return str(trial.user_attrs.get(FOLDER, f"trial-{trial.number:04}"))


def sampler_of(
    settings: Tune, seed: int, before: Sequence[FrozenTrial]
) -> optuna.samplers.BaseSampler | None:
    """How the next settings are chosen; None where a grid has no more.

    It follows from the seed and the trials before alone, so that a search that goes on in another
    process chooses what it would have chosen in the first: Optuna does not store the state of a
    sampler's random numbers with a study.
    """
    if settings.sampler == "grid":
        known = [trial.params for trial in before]
        left = [one for one in _grid(settings, seed) if one not in known]
        return Given(left[0]) if left else None
    own = int(np.random.SeedSequence((seed, len(before))).generate_state(1)[0])
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=own)
    return optuna.samplers.TPESampler(seed=own, n_startup_trials=settings.startup)


def trials_of(settings: Tune) -> int:
    """How many settings are tried where nothing is said of it: of a grid every combination."""
    if settings.sampler != "grid":
        return TRIALS
    return math.prod(len(set(map(_stored, one.choices))) for one in settings.ranges.values())


def _grid(settings: Tune, seed: int) -> list[dict[str, Any]]:
    """Every combination of choices, in an order that follows from the seed."""
    choices = {
        key: [_stored(choice) for choice in one.choices] for key, one in settings.ranges.items()
    }
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


def distribution_of(given: Range) -> BaseDistribution:
    """A range as Optuna's distribution."""
    if given.low is None or given.high is None:
        return CategoricalDistribution([_stored(choice) for choice in given.choices])
    if given.whole:
        return IntDistribution(int(given.low), int(given.high), log=given.log)
    return FloatDistribution(given.low, given.high, log=given.log)


def suggest(trial: optuna.Trial, key: str, given: Range) -> Any:
    """The value of a range that a trial tries."""
    space = distribution_of(given)
    if isinstance(space, CategoricalDistribution):
        return value_of(trial.suggest_categorical(key, space.choices))
    if isinstance(space, IntDistribution):
        return trial.suggest_int(key, space.low, space.high, log=space.log)
    if isinstance(space, FloatDistribution):
        return trial.suggest_float(key, space.low, space.high, log=space.log)
    raise ValueError(f"no suggestion is known for {space}")


MARKS = ("[", "{", '"')
"""What the JSON of a list, a table or a text begins with."""


def _stored(choice: Any) -> Any:
    """A choice as Optuna can store it: lists, tables, and texts that look like them, as JSON."""
    is_like = isinstance(choice, str) and choice.startswith(MARKS)
    return json.dumps(choice) if is_like or isinstance(choice, (list, dict)) else choice


def value_of(stored: Any) -> Any:
    """What a stored choice or number stands for."""
    is_json = isinstance(stored, str) and stored.startswith(MARKS)
    return json.loads(stored) if is_json else stored
