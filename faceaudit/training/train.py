"""`faceaudit train`: a recipe and prepared folders to a bundle."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from faceaudit.errors import FaceauditError, InputError, UsageError
from faceaudit.memory import keep_freed_memory
from faceaudit.models.backbones import find_backbone
from faceaudit.models.backbones.weights import source_of
from faceaudit.models.bundle import FACTS, GRAPH, Bundle, Input, load_bundle, write_facts
from faceaudit.models.export import write_bundle
from faceaudit.models.facts import VALUE_SCHEME
from faceaudit.models.heads import MultiTaskNetwork
from faceaudit.models.int8 import INT8, int8_graph
from faceaudit.runtimes import choose_device
from faceaudit.runtimes.torch_runtime import devices_of
from faceaudit.schema import AGE
from faceaudit.storage import exclusive, make_folder, remove_unfinished, write_text
from faceaudit.training.ancestors import RULE, ancestors_share, held_out_doubts, without_learned
from faceaudit.training.data import CropSet, check_labels, enlargements, read_folders
from faceaudit.training.gaps import find_gaps
from faceaudit.training.group import Group, open_group
from faceaudit.training.history import draw_history
from faceaudit.training.limits import out_of_memory
from faceaudit.training.loop import CHECKPOINT, HISTORY, OnEpoch
from faceaudit.training.loop import train as run_loop
from faceaudit.training.objective import faces_of, task_losses
from faceaudit.training.recipe import Recipe
from faceaudit.training.recipe_files import check_files, check_sizes, load_recipe
from faceaudit.training.splits import LEFT_OUT_AS_UNREADABLE, TEST, VALIDATION, Split, divide
from faceaudit.training.state import State, digest_of, identity_of
from faceaudit.training.terms import doubts_about_terms, name_of, sources_of, terms_of
from faceaudit.training.validation import predict_logits
from faceaudit.training.validation_page import audit_held_out

log = logging.getLogger(__name__)

FINISHED, PAGE = "finished.json", "validation.html"


def train(
    recipe: str | Recipe,
    *,
    data: Sequence[Path],
    output: Path | None = None,
    work: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    max_steps: int | None = None,
    limit: int | None = None,
    on_epoch: OnEpoch | None = None,
) -> Bundle:
    """Train a recipe and write a bundle.

    A training that was interrupted goes on from its last checkpoint when the same command is given
    again. Beside the bundle, the work folder holds ``history.csv`` and ``.png``, ``splits.parquet``
    (where every crop went, and why) and the bundle's own audit on crops it was not trained on,
    ``validation.html``, ``.json`` and ``.parquet``.

    Started by ``torchrun``, the processes train together: each takes an equal share of every batch,
    one GPU each where there are any, and the first one validates and writes. Missing labels make no
    difference: losses are divided by the labels of all. The result is that of one process but for
    rounding, for what augmentation, mixing and dropout draw, and for a batch of which a process can
    decode no crop, which is left out. On CPUs, batch norms that are trained make another
    difference: each process normalizes by its own share of a batch (``norms = "folded"`` has none).

    Beside other work on the same cores, set ``OMP_WAIT_POLICY=PASSIVE``: threads that wait then
    leave the core to others.

    Args:
        recipe: Name of a recipe that ships, a TOML file, or a recipe.
        data: Folders that ``faceaudit prepare`` wrote.
        output: The bundle's folder; by default the recipe's name in the current folder.
        work: Folder of checkpoints and history; by default ``<output>.training``.
        changes: Dotted key -> value, put over those of a named recipe.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        max_steps: Steps per epoch at most (a trial).
        limit: Crops used at most, of all folders (a trial).
        on_epoch: Called after every epoch with its number and its row of the history.

    Raises:
        FaceauditError: If the recipe, the data or the device cannot be used.
        LockedError: If another training has the output or the work folder.
    """
    keep_freed_memory()
    settings = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    check_sizes(settings)
    check_files(settings)
    output = output or Path(settings.name)
    _check_output(output, settings)
    work = work or output.with_name(f"{output.name}.training")
    with open_group(open_device(device)) as (group, place):
        group.check(settings.batch)
        with _held(output, work) if group.leads else nullcontext():
            make_folder(work)
            split = _find_split(settings, data, work, limit, group)
            say = log.info if group.leads else _say_nothing
            identity = _identity_of(settings, split, data, max_steps)
            if group.broadcast(partial(_is_finished, output, work, identity)):
                say(f"{output}: the bundle of this training is complete; it is left as it is")
            else:
                with _telling_of_memory(settings, place):
                    state = run_loop(
                        settings, split.training, split.validation, work, say, max_steps, place,
                        on_epoch, group,
                    )  # fmt: skip
                    if group.leads:
                        _finish(settings, state, split, data, output, work)
                if group.leads:
                    _note_finished(output, work, identity)
        group.wait()
        return load_bundle(output)


def _check_output(output: Path, recipe: Recipe) -> None:
    """Refuse, before the training, what cannot be a bundle's folder."""
    if output.name in ("", ".."):
        raise UsageError(
            f"--output {output}: has no name; give a new folder's, as {output / 'new'}"
        )
    if not output.is_dir() and (output.exists() or output.is_symlink()):
        raise UsageError(f"--output {output}: is no folder; give another name for the bundle's")
    export = (output / GRAPH).with_suffix(".json")
    if export.is_file():
        raise UsageError(
            f"--output {output}: holds an exported graph ({export.name}); give another folder"
        )
    for name in (*recipe.starts, *recipe.distillation.teachers):
        if load_bundle(name).graph.parent.resolve() == output.resolve():
            raise UsageError(
                f"--output {output}: is the bundle {name} itself, which the recipe learns "
                "from; give another folder"
            )


@contextmanager
def _held(output: Path, work: Path) -> Iterator[None]:
    """Hold the locks of a bundle and of a work folder, which is created."""
    with exclusive(output):
        make_folder(work)
        with exclusive(work / CHECKPOINT):
            for folder in (output, work):
                remove_unfinished(folder, "*")
            yield


@contextmanager
def _telling_of_memory(recipe: Recipe, device: str) -> Iterator[None]:
    """Tell in one line of a memory that is full.

    Raises:
        UsageError: If it is that of an accelerator.
        TemporaryError: If it is that of a CPU.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        full = out_of_memory(error, recipe, device)
        if full is None:
            raise
        raise full from error


def _identity_of(recipe: Recipe, split: Split, data: Sequence[Path], max_steps: int | None) -> str:
    """Hash of everything that decides a bundle and its audit."""
    teachers = [load_bundle(name).sha256 for name in recipe.distillation.teachers]
    facts = {
        **identity_of(recipe, split.training, split.validation, max_steps, teachers),
        "test crops": digest_of(split.test),
        "folders": [str(folder.resolve()) for folder in data],
        "recipe": recipe.to_json(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _is_finished(output: Path, work: Path, identity: str) -> bool:
    """Whether a training was finished, and its bundle and its audit are as they were."""
    try:
        known = json.loads((work / FINISHED).read_text(encoding="utf-8"))
        bundle = load_bundle(output)
    except (OSError, ValueError, FaceauditError):
        return False
    wanted = {"training": identity, "bundle": bundle.sha256}
    return known == wanted and "metrics" in bundle.card and (work / PAGE).is_file()


def _note_finished(output: Path, work: Path, identity: str) -> None:
    """Note that a training is finished, for the same command when it is given again."""
    facts = {"training": identity, "bundle": load_bundle(output).sha256}
    write_text(work / FINISHED, json.dumps(facts) + "\n")


def _say_nothing(line: str) -> None:
    """What a process says that does not lead."""


def _find_split(
    recipe: Recipe, data: Sequence[Path], work: Path, limit: int | None, group: Group
) -> Split:
    """The crops to train on, validate on and test on; the leading process hashes them first."""
    crops = read_folders(data, recipe, limit)
    check_labels(crops, recipe)
    if not group.leads:
        group.wait()
    split = divide(crops, recipe, data, work, record=group.leads)
    split = without_learned(recipe, split, work, record=group.leads)
    if group.leads:
        group.wait()
    if split.facts()[LEFT_OUT_AS_UNREADABLE] == len(crops):
        raise InputError(
            f"--data: none of {len(crops)} crops can be decoded, such as {crops.files[0]}"
        )
    if not len(split.training) or not len(split.validation):
        raise UsageError(
            f"--data: {len(crops)} crops give {len(split.training)} to train on and "
            f"{len(split.validation)} to validate on; more are needed"
        )
    parts = [len(part) for part in (split.training, split.validation, split.test)]
    if group.leads:
        log.info(
            "%d crops to train on, %d to validate on, %d to test on, %d left out",
            *parts,
            len(crops) - sum(parts),
        )
        doubts = (
            held_out_doubts(recipe, split),
            doubts_about_terms(recipe, data),
            find_gaps(recipe, split).sentences(),
            enlargements(split.training, data, recipe),
        )
        for doubt in itertools.chain(*doubts):
            log.warning("%s", doubt)
    return split


def _finish(
    recipe: Recipe, state: State, split: Split, data: Sequence[Path], output: Path, work: Path
) -> None:
    """Draw the history, where anything was learned, and write the calibrated bundle, audited."""
    if state.history:
        draw_history(work / HISTORY)
    network = state.average.cpu()
    temperatures = calibrate(network, recipe, split.validation)
    facts = describe(recipe, network, split, data, temperatures, state.seconds)
    finish(facts, network, recipe, split, data, output, work)
    log.info("wrote %s; its audit is %s", output, work / PAGE)


def open_device(device: str) -> str:
    """The device to train on: ``auto`` is a GPU where there is one.

    Raises:
        UsageError: If it cannot be had.
    """
    chosen = choose_device(device)
    devices_of(chosen)
    return "cpu" if device == "auto" and chosen == "mps" else chosen


def finish(
    facts: Bundle,
    network: MultiTaskNetwork,
    recipe: Recipe,
    split: Split,
    data: Sequence[Path],
    output: Path,
    work: Path,
) -> Bundle:
    """Write a bundle, audit it on crops it was not trained on, and put the result on its card."""
    scales = {AGE: recipe.tasks[AGE].scale} if is_regression(recipe) else {}
    before = _facts_before(output)
    bundle = write_bundle(output, network, facts, recipe.mean, recipe.std, recipe.gray, scales)
    if before.get("sha256") == bundle.sha256 and INT8 in before:
        bundle = replace(bundle, card={**bundle.card, INT8: before[INT8]})
        write_facts(bundle)  # now, as the audit takes minutes
    else:
        int8_graph(bundle).unlink(missing_ok=True)  # of other weights
    part, crops = (TEST, split.test) if len(split.test) else (VALIDATION, split.validation)
    found = audit_held_out(bundle, crops, data, work, part)
    figures = {"metrics": found.metrics, "weakest": found.weakest, "confusion": found.confusion}
    bundle = replace(bundle, card={**bundle.card, **figures})
    write_facts(bundle)
    return bundle


def _facts_before(output: Path) -> dict[str, Any]:
    """The facts of the bundle that a folder has; none where they cannot be read."""
    try:
        found = json.loads((output / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_regression(recipe: Recipe) -> bool:
    """Whether the recipe's age is one number."""
    return AGE in recipe.tasks and recipe.tasks[AGE].scheme == VALUE_SCHEME


@torch.no_grad()
def calibrate(network: MultiTaskNetwork, recipe: Recipe, validation: CropSet) -> dict[str, float]:
    """Fit one temperature per head on held-out crops and fold it into the head's weights.

    Source:
        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017.
    """
    logits, labels = predict_logits(network, recipe, validation, recipe.size)
    temperatures = {}
    for name, values in logits.items():
        if name == AGE and is_regression(recipe):
            continue
        temperature = best_temperature(values, labels, recipe, name)
        for parameter in network.last_layers()[name].parameters():
            parameter.div_(temperature)
        temperatures[name] = round(temperature, 4)
    return temperatures


def best_temperature(
    logits: NDArray[np.float32],
    labels: Mapping[str, NDArray[np.int64]],
    recipe: Recipe,
    name: str,
) -> float:
    """Temperature between 0.2 and 5 that minimizes the held-out loss of one head.

    It is 1 where no face has a label.
    """
    values = torch.from_numpy(logits)
    plain = replace(recipe.tasks[name], label_smoothing=0.0, smoothness=0.0)
    alone = replace(recipe, tasks={name: plain})
    if not faces_of(labels, alone)[name]:
        return 1.0

    def loss(log_temperature: float) -> float:
        scaled = values / float(np.exp(log_temperature))
        return task_losses({name: scaled}, labels, alone)[name].item()

    found = minimize_scalar(loss, bounds=(np.log(0.2), np.log(5.0)), method="bounded")
    return float(np.exp(found.x))


def describe(
    recipe: Recipe,
    network: MultiTaskNetwork,
    split: Split,
    data: Sequence[Path],
    temperatures: Mapping[str, float],
    seconds: float,
) -> Bundle:
    """The facts of a bundle that is about to be written; its metrics come with its audit."""
    share, tested = recipe.data.validation_share, recipe.data.test_share
    source = source_of(find_backbone(recipe.backbone), recipe.weights)
    starts = [load_bundle(name) for name in recipe.starts]
    teachers = [load_bundle(name) for name in recipe.distillation.teachers]
    weights = name_of(recipe.weights)
    licence, research_only = terms_of(recipe)
    doubts, gaps = held_out_doubts(recipe, split), find_gaps(recipe, split)
    card: dict[str, Any] = {
        **recipe.card,
        "backbone": recipe.backbone,
        "parameters": sum(p.numel() for p in network.parameters()),
        "weights": weights if source is None else f"{weights}: {source.training_data}",
        "weights_licence": "" if source is None else source.licence,
        **_started(starts),
        **({"teachers": [_named(teacher) for teacher in teachers]} if teachers else {}),
        "research_only": research_only,
        "data": sources_of(data, split.table["file"]),
        "split": {
            "rule": "as another training recorded it"
            if recipe.data.split
            else f"{RULE}; validation where u < {share:g}"
            + (f", test where else u < {share + tested:g}" if tested else ""),
            "training": len(split.training),
            "validation": len(split.validation),
            "test": len(split.test),
            **split.facts(),
            **ancestors_share(recipe),
        },
        **({"held_out_doubts": doubts} if doubts else {}),
        **gaps.facts(),
        "seconds_trained": round(seconds),
        "temperatures_fitted_on": "validation crops"
        + ("" if len(split.test) else ", the same that the metrics are of"),
        "temperatures": dict(temperatures),
        "normalization": {"mean": recipe.mean, "std": recipe.std, "where": "in the graph"},
        "recipe": _told(recipe, starts, teachers),
    }
    if sentences := gaps.sentences():
        card["limits"] = [*recipe.card.get("limits", []), *sentences]
    return Bundle(
        name=recipe.name,
        graph=Path(),
        licence=licence,
        training_data=recipe.training_data,
        input=Input(recipe.size, "NHWC", range=255.0),
        align=recipe.align,
        margin=recipe.margin,
        offset=recipe.offset,
        tasks=recipe.outputs(),
        sha256="",
        card=card,
    )


def _told(recipe: Recipe, starts: Sequence[Bundle], teachers: Sequence[Bundle]) -> dict[str, Any]:
    """A recipe as a card tells it: with the names of bundles and files, not with their folders."""
    told: dict[str, Any] = recipe.to_json() | {"weights": name_of(recipe.weights)}
    names = [start.name for start in starts]
    told["start"] = names if len(names) > 1 else "".join(names)
    told["data"]["split"] = Path(recipe.data.split).name
    told["distillation"]["teachers"] = [teacher.name for teacher in teachers]
    return told


def _started(starts: Sequence[Bundle]) -> dict[str, Any]:
    """For a card: the bundle that was begun with, or the list of several.

    Their weights came from where the network's did, whatever the recipe says of weights.
    """
    if not starts:
        return {}
    facts = [{"bundle": start.name, "sha256": start.sha256} for start in starts]
    told: dict[str, Any] = {"start": facts if len(facts) > 1 else facts[0]}
    for key in ("weights", "weights_licence"):
        if known := [str(start.card[key]) for start in starts if start.card.get(key)]:
            told[key] = "; ".join(dict.fromkeys(known))
    return told


def _named(teacher: Bundle) -> dict[str, str]:
    """A bundle that was learned from, as a card names it."""
    return {"bundle": teacher.name, "sha256": teacher.sha256, "licence": teacher.licence}
