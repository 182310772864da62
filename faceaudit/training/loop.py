"""The training loop: epochs and steps, validation after each epoch, checkpoints in between."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from faceaudit.errors import UsageError
from faceaudit.models.backbones.timm_trunk import PREFIX
from faceaudit.progress import progress
from faceaudit.storage import write_text
from faceaudit.training.batches import Batch, batches
from faceaudit.training.data import CropSet
from faceaudit.training.distillation import Teachers, open_teachers
from faceaudit.training.folding import unfold_norms
from faceaudit.training.group import ALONE, Group
from faceaudit.training.objective import IMAGES, batch_losses, device_of, faces_of, weighted
from faceaudit.training.recipe import Recipe
from faceaudit.training.schedule import rate_at, stage_sizes
from faceaudit.training.state import (
    State,
    identity_of,
    new_state,
    restore,
    save,
    update_average,
)
from faceaudit.training.validation import check_selection, selection_value, validate

CHECKPOINT = "checkpoint.pt"
CHECKPOINT_SECONDS = 300
HISTORY = "history.csv"
ABLE = "able"
"""Share of the processes that can learn from the batch, beside the numbers of faces."""
TOO_FEW_VALUES = "Expected more than 1 value per channel"
"""What torch's batch norms say of a batch of one crop whose feature maps have one pixel."""
OnEpoch = Callable[[int, Mapping[str, float]], None]


def train(
    recipe: Recipe,
    training: CropSet,
    validation: CropSet,
    work: Path,
    say: Callable[[str], None],
    max_steps: int | None = None,
    device: str = "cpu",
    on_epoch: OnEpoch | None = None,
    group: Group = ALONE,
) -> State:
    """Train to the recipe's end, going on from a checkpoint in ``work`` where there is one.

    On a CPU, an interrupted training ends with the same weights as an uninterrupted one.

    Args:
        recipe: What to do.
        training: Crops to learn from.
        validation: Crops to report on after every epoch.
        work: Folder of the checkpoint and of ``history.csv``; must exist.
        say: Takes a line of progress.
        max_steps: Stop after this many steps of every epoch (a trial).
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        on_epoch: Called after every epoch with its number and its row of the history.
        group: The processes that train together; each gives the same arguments.

    Raises:
        InputError: If a file in ``work`` is damaged.
        UsageError: If the checkpoint is of another recipe or of other data, a teacher does not fit
            the recipe, the batch cannot be shared by the group or is too small for batch norms, no
            validation crop has a label of what epochs are selected by, nothing can be learned from,
            or a loss is no number any more.
    """
    group.check(recipe.batch)
    check_selection(recipe, validation)
    state = new_state(recipe, device)
    own = recipe.batch // group.size
    place = device_of(state.network)
    teachers = open_teachers(recipe, "mps" if place.type == "mps" else str(place), own)
    identity = identity_of(recipe, training, validation, max_steps, teachers.sha256)
    checkpoint = work / CHECKPOINT
    if checkpoint.is_file():
        restore(state, checkpoint, identity)
        ended = state.epoch >= recipe.epochs or _is_exhausted(state, recipe)
        say(
            f"training is complete after epoch {state.epoch}"
            if ended
            else f"going on at epoch {state.epoch + 1}, step {state.step}"
        )
    joined = group.joined(state.network, place, whole=PREFIX not in recipe.backbone)
    steps = math.ceil(group.whole(len(training)) / recipe.batch)
    steps = min(steps, max_steps) if max_steps else steps
    sizes = stage_sizes(recipe)
    keep = partial(save, state, checkpoint, identity) if group.leads else _keep_nothing
    state.since = time.monotonic()
    while state.epoch < recipe.epochs and not _is_exhausted(state, recipe):
        facts: dict[str, float] = {"epoch": state.epoch + 1, "size": sizes[state.epoch]}
        facts["learning_rate"] = recipe.learning_rate * rate_at(recipe, state.epoch, 0.5)
        _run_epoch(
            recipe, state, joined, training, sizes[state.epoch], steps, keep, say, group, teachers
        )
        if not state.sums:
            raise UsageError(
                f"recipe {recipe.name}: no batch of epoch {state.epoch + 1} could be learned from; "
                "give more crops, and such as can be decoded"
            )
        losses = _mean_losses(state, recipe)
        _check_finite({"loss": losses["loss"]}, recipe, state.epoch + 1)
        state.epoch, state.step, state.sums, state.counts = state.epoch + 1, 0, {}, {}
        metrics = group.broadcast(partial(validate, state.average, recipe, validation, recipe.size))
        _check_finite(metrics, recipe, state.epoch)
        state.count_seconds()
        state.history.append(facts | losses | metrics | {"seconds": state.seconds})
        if group.leads:
            write_history(work / HISTORY, state.history)
        figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        say(f"epoch {state.epoch}/{recipe.epochs}: loss {losses['loss']:.4f}; {figures}")
        _note_best(state, selection_value(metrics, recipe), recipe)
        keep()
        if on_epoch is not None:
            on_epoch(state.epoch, state.history[-1])
    group.wait()
    if state.best_weights is not None:
        state.average.load_state_dict(state.best_weights)
    unfold_norms(state.average.trunk)
    return state


def _run_epoch(
    recipe: Recipe,
    state: State,
    joined: nn.Module,
    training: CropSet,
    size: int,
    steps: int,
    keep: Callable[[], None],
    say: Callable[[str], None],
    group: Group,
    teachers: Teachers,
) -> None:
    """Take the steps that are left of an epoch; ``state.sums`` gathers their losses."""
    order = np.random.default_rng((recipe.seed, state.epoch)).permutation(len(training))
    order = order[: min(steps * recipe.batch, group.whole(len(training)))]
    source = batches(
        training,
        group.share(order.tolist(), recipe.batch),
        size,
        recipe.batch // group.size,
        recipe.augmentation,
        (recipe.seed, state.epoch, *([group.rank] if group.size > 1 else [])),
        first=state.step,
        teachers=teachers,
        device=device_of(state.network).type,
    )
    state.network.train()
    saved = time.monotonic()
    skipped: list[Path] = []
    with progress(
        f"epoch {state.epoch + 1}/{recipe.epochs}",
        len(order),
        done=min(state.step * recipe.batch, len(order)),
        quiet=None if group.leads else True,
        note=lambda: f"loss {_mean_losses(state, recipe)['loss']:.4f}",
    ) as advance:
        for batch in source:
            skipped += batch.skipped
            _take_step(recipe, state, joined, batch, steps, group)
            advance(min(recipe.batch, len(order) - (state.step - 1) * recipe.batch))
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                state.count_seconds()
                keep()
                saved = time.monotonic()
    if skipped:
        say(f"left out {len(skipped)} crops that cannot be decoded, such as {skipped[0]}")


def _take_step(
    recipe: Recipe, state: State, joined: nn.Module, batch: Batch, steps: int, group: Group
) -> None:
    """Learn from a batch; one that a process of the group cannot learn from is left out of all."""
    factor = rate_at(recipe, state.epoch, (state.step + 0.5) / steps)  # never 0
    for each in state.optimizer.param_groups:
        each["lr"] = each["base_lr"] * factor
    own = faces_of(batch.labels, recipe)
    faces = group.means({**own, ABLE: float(own[IMAGES] > 0)})
    able = faces.pop(ABLE) == 1
    losses = _losses(recipe, state, joined, batch, faces, group) if able else {}
    if able and group.means({ABLE: float(bool(losses))})[ABLE] == 1:
        state.optimizer.zero_grad(set_to_none=True)
        weighted(losses, recipe).backward()  # type: ignore[no-untyped-call]
        if recipe.clip_norm:
            nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip_norm)
        state.optimizer.step()
        update_average(state, recipe.ema)
        for name, loss in group.means({n: loss.item() for n, loss in losses.items()}).items():
            counted = faces[name] > 0 or name in batch.taught
            state.sums[name] = state.sums.get(name, 0.0) + (loss if counted else 0.0)
            state.counts[name] = state.counts.get(name, 0) + counted
    state.step, state.total = state.step + 1, state.total + 1


def _losses(
    recipe: Recipe,
    state: State,
    joined: nn.Module,
    batch: Batch,
    faces: Mapping[str, float],
    group: Group,
) -> dict[str, Tensor]:
    """Loss of each task; none where batch norms can take no statistics from a batch's one crop.

    Such is the last batch of an epoch at times, where feature maps are of one pixel.
    """
    # Dropout: equal after a resume, and of each process another.
    torch.manual_seed(recipe.seed + 7919 * state.total + 104729 * group.rank)
    try:
        return batch_losses(joined, batch, recipe, (recipe.seed, state.total), faces)
    except ValueError as error:
        if TOO_FEW_VALUES not in str(error):
            raise
        if recipe.batch == group.size:
            raise UsageError(
                f"recipe {recipe.name}: batch norms need more than one crop of this size at a "
                f"time; --set batch={2 * group.size} works"
            ) from error
        return {}


def _mean_losses(state: State, recipe: Recipe) -> dict[str, float]:
    """Training losses of the epoch so far: their weighted sum, and each task's alone.

    They are means over the batches that have a label of the task.
    """
    losses = {name: total / max(1, state.counts[name]) for name, total in state.sums.items()}
    loss = sum(recipe.tasks[name].weight * value for name, value in losses.items())
    return {"loss": loss} | {f"training_{name}_loss": value for name, value in losses.items()}


def _check_finite(figures: Mapping[str, float], recipe: Recipe, epoch: int) -> None:
    """Refuse to go on with a network whose losses or figures are no numbers any more."""
    for name, value in figures.items():
        if not math.isfinite(value):
            what = "the loss" if name == "loss" else f"{name} of the validation"
            raise UsageError(
                f"recipe {recipe.name}: {what} is {value} in epoch {epoch}; lower "
                f"learning_rate ({recipe.learning_rate:g}) or set clip_norm"
            )


def _keep_nothing() -> None:
    """What a process does that does not lead, where the leading one saves a checkpoint."""


def _note_best(state: State, value: float, recipe: Recipe) -> None:
    """Remember the best epoch, and its weights where they are to be kept."""
    if value > state.best:
        state.best, state.best_epoch = value, state.epoch
        if recipe.selection.keep == "best":
            weights = state.average.state_dict()
            state.best_weights = {name: each.detach().clone() for name, each in weights.items()}


def _is_exhausted(state: State, recipe: Recipe) -> bool:
    """Whether validation has not improved for as long as the recipe's patience."""
    patience = recipe.selection.patience
    return bool(patience) and state.epoch - state.best_epoch >= patience


def write_history(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write one row per finished epoch."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        values = (row.get(name, "") for name in names)
        writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in values])
    write_text(path, text.getvalue())
