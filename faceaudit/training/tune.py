"""`faceaudit tune`: the settings of a recipe that validate best, searched over its ranges."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from faceaudit.errors import FaceauditError, InputError, TemporaryError, UsageError
from faceaudit.models.bundle import load_bundle
from faceaudit.runtimes.torch_runtime import is_out_of_memory
from faceaudit.storage import exclusive, make_folder, sha256_of_file, write_text
from faceaudit.training.ancestors import without_learned
from faceaudit.training.data import CropSet, check_labels, read_folders, some_of
from faceaudit.training.limits import out_of_memory
from faceaudit.training.loop import CHECKPOINT
from faceaudit.training.loop import train as run_loop
from faceaudit.training.recipe import Range, Recipe, Tune
from faceaudit.training.recipe_files import check_files, check_sizes, load_recipe, recipe_text
from faceaudit.training.splits import divide
from faceaudit.training.state import digest_of, hash_of_weights, read_tensors, with_heads
from faceaudit.training.study import (
    FULL,
    REASON,
    STUDY,
    folder_of,
    open_study,
    search,
    suggest,
    take_up,
    trials_of,
    tried,
    value_of,
)
from faceaudit.training.train import open_device
from faceaudit.training.validation import selection_value

log = logging.getLogger(__name__)

TRIALS, BEST_RECIPE = "trials.csv", "best.toml"
SEARCHED_BY = ("ranges", "sampler", "share", "startup")
"""Keys of the table ``tune`` that decide what is tried."""
LEARNED_FROM = {"backbone", "weights", "start", "distillation.teachers"}
"""Keys whose values may need files."""
PASSING = ("PytorchStreamWriter failed", "enforce fail")
"""What torch says, by the one type of error that it has, when a disk is full."""


@dataclass(frozen=True)
class Tuned:
    """What a search found."""

    best: Mapping[str, Any]
    """Dotted key -> value."""
    value: float
    """What the recipe's selection maximizes, on validation crops."""
    trials: int
    """Settings that were tried, with the pruned and the failed ones."""
    pruned: int
    failed: int
    """Settings that cannot be trained: ``trials.csv`` has the reasons."""
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
    from its checkpoint. Settings that cannot be trained, as with a loss that is no number any more,
    are a failed trial with its reason, and the search goes on. So are those that fill the memory
    of a CPU a second time: the first time may be the doing of others.

    Every trial trains the recipe with one choice of settings on the same split; after each epoch
    those that are behind the median of the others at that epoch are given up. What is maximized is
    the recipe's ``selection`` on the validation crops, best epoch. The value of the best of many
    trials is too hopeful: audit the model that is trained with it on crops of its own.

    Args:
        recipe: Name of a recipe that ships or a TOML file, with a table ``tune``.
        data: Folders that ``faceaudit prepare`` wrote.
        output: Folder of the study, of ``trials.csv`` and of ``best.toml``; by default
            ``<recipe>.tuning``.
        trials: Settings to try in all; by default as many as the recipe says, or all of a grid.
        changes: Dotted key -> value, put over those of the recipe.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        max_steps: Steps per epoch at most (a trial run).
        limit: Crops used at most (a trial run).

    Raises:
        FaceauditError: If the recipe has no ranges or no value of one can be trained, the data or
            the device cannot be used, or the folder holds another search.
        TemporaryError: If a disk or a memory was full; the same command goes on.
    """
    settings = load_recipe(recipe, changes)
    tuning = _tuning(settings)
    _check_ranges(recipe, changes, tuning)
    check_sizes(settings)
    check_files(settings)
    place = open_device(device)
    wanted = trials or tuning.trials or trials_of(tuning)
    if tuning.sampler == "grid" and wanted < trials_of(tuning):
        log.warning(
            "%d of the grid's %d combinations will be tried; --trials %d tries them all",
            wanted,
            trials_of(tuning),
            trials_of(tuning),
        )
    output = output or Path(f"{settings.name}.tuning")
    make_folder(output)
    crops = read_folders(data, settings, limit)
    check_labels(crops, settings)
    with exclusive(output / STUDY), _one_line(output):
        identity = _identity_of(settings, crops, max_steps)
        study = open_study(output, settings.name, tuning, identity)
        split = without_learned(settings, divide(crops, settings, data, output), output)
        training = sample(split.training, tuning.share)
        if not len(training) or not len(split.validation):
            raise UsageError(f"--data: {len(crops)} crops are too few to train and validate on")
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
        write = partial(_write, study, recipe, settings, changes, output)
        take_up(study, tuning)
        write()
        search(study, run, tuning, settings.seed, wanted, write)
        return _outcome(study, output)


def _tuning(settings: Recipe) -> Tune:
    """What a recipe searches.

    Raises:
        UsageError: If it has nothing to search.
    """
    if settings.tune is None:
        raise UsageError(f"recipe {settings.name}: has no table [tune.ranges] to search")
    return settings.tune


def _check_ranges(recipe: str, changes: Mapping[str, Any] | None, tuning: Tune) -> None:
    """Build the recipe with the values of every range, before anything is read.

    Raises:
        UsageError: If a value can be trained neither with the first values of the other ranges nor
            with their last.
    """
    values = {key: _values(one) for key, one in tuning.ranges.items()}
    for key, own in values.items():
        others = [{k: every[end] for k, every in values.items()} for end in (0, -1)]
        for value in own:
            refused = [_refused(recipe, changes, {**rest, key: value}) for rest in others]
            if all(refused):
                raise UsageError(f"tune.ranges.{key}: {json.dumps(value)} cannot be: {refused[0]}")


def _values(given: Range) -> list[Any]:
    """The choices of a range, or its ends."""
    if given.low is None or given.high is None:
        return list(given.choices)
    ends = (given.low, given.high)
    return [int(end) for end in ends] if given.whole else list(ends)


def _refused(
    recipe: str, changes: Mapping[str, Any] | None, chosen: Mapping[str, Any]
) -> Exception | None:
    """Why settings cannot be trained, as far as that shows without training them."""
    try:
        settings = _recipe_of(recipe, changes, chosen)
        with torch.device("meta"):  # shapes alone
            with_heads(torch.nn.Identity(), settings)
        if set(chosen) & LEARNED_FROM:
            check_files(settings)
    except (FaceauditError, RuntimeError, ValueError) as error:  # torch refuses widths and shares
        return error
    return None


def _identity_of(settings: Recipe, crops: CropSet, max_steps: int | None) -> dict[str, str]:
    """What a study must agree in: everything that decides the trials and their values, as text."""
    facts = settings.to_json()
    facts |= {f"tune.{key}": facts["tune"][key] for key in SEARCHED_BY}
    del facts["tune"]
    bundles = [*settings.distillation.teachers, *settings.starts]
    weights = hash_of_weights(settings)
    recorded = settings.data.split
    return {key: json.dumps(value, sort_keys=True, default=str) for key, value in facts.items()} | {
        "crops": digest_of(crops),
        "max_steps": str(max_steps),
        "bundles": " ".join(load_bundle(name).sha256 for name in bundles),
        "split": sha256_of_file(Path(recorded)) if Path(recorded).is_file() else "",
        **({"weights file": weights} if weights else {}),
    }


@contextmanager
def _one_line(output: Path) -> Iterator[None]:
    """Tell in one line of a disk or a memory that was full, or that failed.

    Raises:
        TemporaryError: In place of such an error.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        if isinstance(error, FaceauditError) or not _is_passing(error):
            raise
        full = "the disk or the memory was full"  # torch does not say it better
        said = str(error) if isinstance(error, OSError) else full
        raise TemporaryError(
            f"{output}: the search was interrupted: {said}; run again, and it goes on"
        ) from error


def sample(crops: CropSet, share: float) -> CropSet:
    """A share of crops, the same in every run: those whose hashes come first."""
    count = max(1, math.ceil(share * len(crops))) if len(crops) else 0
    return some_of(crops, count)


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
    """Train once with the settings that a trial proposes; the best epoch's value.

    The searched recipe's own selection and weights of tasks judge every trial: with those that a
    trial proposes, the weights that look best would win.

    Raises:
        UsageError: If the settings cannot be trained, or not in the memory of the accelerator, or
            filled that of the CPU a second time.
        TemporaryError: If they filled the memory of the CPU.
    """
    chosen = {key: suggest(trial, key, one) for key, one in _tuning(settings).ranges.items()}
    one = _recipe_of(recipe, changes, chosen)
    check_sizes(one)
    work = output / folder_of(trial)
    make_folder(work)
    values: list[float] = []

    def told(epoch: int, metrics: Mapping[str, float]) -> None:
        values.append(selection_value(metrics, settings))
        losses = [value for name, value in metrics.items() if name.endswith("loss")]
        if not all(math.isfinite(value) for value in (*losses, values[-1])):
            raise UsageError(
                f"the loss on validation crops is no number after epoch {epoch}; lower "
                f"learning_rate ({one.learning_rate:g}) or set clip_norm"
            )
        trial.report(values[-1], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    log.info("%s: %s", work.name, json.dumps(chosen))
    for row in _epochs_before(work / CHECKPOINT):
        told(int(row["epoch"]), row)
    try:
        run_loop(one, *parts, work, log.debug, max_steps, device, told)
    except (MemoryError, OSError, RuntimeError) as error:
        full = out_of_memory(error, one, device)
        if full is None:
            raise
        if trial.user_attrs.get(FULL):
            raise UsageError(f"twice, {full}") from error
        trial.set_user_attr(FULL, True)
        raise full from error
    log.info("%s: %.4f", work.name, max(values))
    return max(values)


def _epochs_before(checkpoint: Path) -> list[dict[str, float]]:
    """What an interrupted trial found in each epoch, for the trial that goes on with it.

    A checkpoint that is damaged is removed: the trial begins again.
    """
    if not checkpoint.is_file():
        return []
    try:
        return list(read_tensors(checkpoint)["history"])
    except (InputError, LookupError, TypeError):
        log.warning("%s: is damaged; %s begins again", checkpoint, checkpoint.parent.name)
        checkpoint.unlink()
        return []


def _is_passing(error: Exception) -> bool:
    """Whether an error tells of a disk or a memory, which may be well again, and not of a bug."""
    said = any(sign in str(error) for sign in PASSING)
    return said or isinstance(error, OSError) or is_out_of_memory(error)


def _recipe_of(recipe: str, changes: Mapping[str, Any] | None, chosen: Mapping[str, Any]) -> Recipe:
    """The searched recipe with settings of a trial."""
    return replace(load_recipe(recipe, {**(changes or {}), **chosen}), tune=None)


def _write(
    study: optuna.Study,
    recipe: str,
    settings: Recipe,
    changes: Mapping[str, Any] | None,
    output: Path,
) -> None:
    """Write what was found so far, and remove what trials that ended do not need any more."""
    ended = tried(study)
    write_text(output / TRIALS, _table(ended, list(_tuning(settings).ranges)))
    if any(trial.state == TrialState.COMPLETE for trial in ended):
        best = _recipe_of(recipe, changes, _best(study))
        told = f"# The best of {len(ended)} trials: {study.best_value:.4f} on validation crops.\n"
        write_text(output / BEST_RECIPE, told + recipe_text(best))
    for trial in ended:
        for file in (output / folder_of(trial)).glob(f"*{CHECKPOINT}*"):  # also half-written ones
            file.unlink()


def _best(study: optuna.Study) -> dict[str, Any]:
    """The best settings so far, by dotted key."""
    return {key: value_of(stored) for key, stored in study.best_params.items()}


def _outcome(study: optuna.Study, output: Path) -> Tuned:
    """What a search found, as it is written.

    Raises:
        UsageError: If no trial was finished; has the last one's reason.
    """
    ended = tried(study)
    count = Counter(trial.state for trial in ended)
    if not count[TrialState.COMPLETE]:
        reason = next(
            (one.user_attrs[REASON] for one in ended[::-1] if REASON in one.user_attrs), ""
        )
        raise UsageError(
            f"{output / TRIALS}: no trial was finished{reason and f'; the last failed: {reason}'}"
        )
    path = output / BEST_RECIPE
    load_recipe(str(path))
    pruned, failed = count[TrialState.PRUNED], count[TrialState.FAIL]
    return Tuned(_best(study), study.best_value, len(ended), pruned, failed, path)


def _table(trials: Sequence[FrozenTrial], keys: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "value", "epochs", *keys, REASON])
    for trial in trials:
        value = "" if trial.value is None else f"{trial.value:.6g}"
        state, epochs = trial.state.name.lower(), len(trial.intermediate_values)
        settings = [trial.params.get(key, "") for key in keys]
        reason = trial.user_attrs.get(REASON, "")
        writer.writerow([folder_of(trial), state, value, epochs, *settings, reason])
    return text.getvalue()
