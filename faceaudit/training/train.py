"""`faceaudit train`: a recipe and prepared folders to a bundle."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from faceaudit.errors import UsageError
from faceaudit.models.bundle import Bundle, Input
from faceaudit.models.export import write_bundle
from faceaudit.models.heads import MultiTaskNetwork
from faceaudit.schema import AGE
from faceaudit.storage import exclusive
from faceaudit.training.data import CropSet, read_crops, split
from faceaudit.training.loop import predict_logits, task_losses, validate
from faceaudit.training.loop import train as run_loop
from faceaudit.training.recipe import VALUE_SCHEME, Recipe, load_recipe

log = logging.getLogger(__name__)


def train(
    recipe: str,
    *,
    data: Sequence[Path],
    output: Path | None = None,
    work: Path | None = None,
    max_steps: int | None = None,
    limit: int | None = None,
) -> Bundle:
    """Train a recipe and write a bundle.

    A training that was interrupted goes on from its last checkpoint when the same command is given
    again.

    Args:
        recipe: Name of a recipe that ships, or a TOML file.
        data: Folders that ``faceaudit prepare`` wrote.
        output: The bundle's folder; by default the recipe's name in the current folder.
        work: Folder of checkpoints and history; by default ``<output>.training``.
        max_steps: Steps per epoch at most (a trial).
        limit: Crops used at most (a trial).

    Raises:
        FaceauditError: If the recipe or the data cannot be used.
    """
    settings = load_recipe(recipe)
    output = output or Path(settings.name)
    work = work or output.with_name(f"{output.name}.training")
    work.mkdir(parents=True, exist_ok=True)
    crops = join_crops([read_crops(folder, settings) for folder in data])
    if limit:
        crops = crops.take(np.arange(min(limit, len(crops))))
    training, validation, test = split(crops, settings.data)
    if not len(training) or not len(validation):
        raise UsageError(
            f"--data: {len(crops)} crops give {len(training)} to train on and {len(validation)} "
            "to validate on; more are needed"
        )
    log.info(
        "%d crops to train on, %d to validate on, %d to test on, %d left out for label conflicts",
        *(len(part) for part in (training, validation, test)),
        len(crops) - len(training) - len(validation) - len(test),
    )
    with exclusive(output):
        state = run_loop(settings, training, validation, work, log.info, max_steps)
        network = state.average
        temperatures = calibrate(network, settings, validation)
        facts = describe(settings, network, training, validation, test, temperatures)
        scales = {AGE: settings.tasks[AGE].scale} if is_regression(settings) else {}
        bundle = write_bundle(
            output, network, facts, settings.mean, settings.std, settings.gray, scales
        )
    log.info("wrote %s", output)
    return bundle


def is_regression(recipe: Recipe) -> bool:
    """Whether the recipe's age is one number."""
    return AGE in recipe.tasks and recipe.tasks[AGE].scheme == VALUE_SCHEME


def join_crops(sets: Sequence[CropSet]) -> CropSet:
    """Several crop sets as one.

    Raises:
        UsageError: If none is given or they were prepared with different margins.
    """
    if not sets:
        raise UsageError("--data: name at least one folder that `faceaudit prepare` wrote")
    if len({crops.view for crops in sets}) > 1:
        raise UsageError("--data: the folders were prepared with different margins")
    return CropSet(
        files=tuple(file for crops in sets for file in crops.files),
        view=sets[0].view,
        labels={
            name: np.concatenate([crops.labels[name] for crops in sets]) for name in sets[0].labels
        },
        sha256=tuple(digest for crops in sets for digest in crops.sha256),
    )


@torch.no_grad()
def calibrate(network: MultiTaskNetwork, recipe: Recipe, validation: CropSet) -> dict[str, float]:
    """Fit one temperature per head on held-out crops and fold it into the head's weights.

    Source:
        Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017.
    """
    logits = predict_logits(network, recipe, validation, recipe.size)
    temperatures = {}
    for name, values in logits.items():
        if name == AGE and is_regression(recipe):
            continue
        temperature = best_temperature(values, validation.labels, recipe, name)
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
    """Temperature between 0.2 and 5 that minimises the held-out loss of one head."""
    values = torch.from_numpy(logits)
    plain = replace(recipe.tasks[name], label_smoothing=0.0, smoothness=0.0)
    alone = replace(recipe, tasks={name: plain})

    def loss(log_temperature: float) -> float:
        scaled = values / float(np.exp(log_temperature))
        return task_losses({name: scaled}, labels, alone)[name].item()

    found = minimize_scalar(loss, bounds=(np.log(0.2), np.log(5.0)), method="bounded")
    return float(np.exp(found.x))


def describe(
    recipe: Recipe,
    network: MultiTaskNetwork,
    training: CropSet,
    validation: CropSet,
    test: CropSet,
    temperatures: Mapping[str, float],
) -> Bundle:
    """The facts of a bundle that is about to be written."""
    part, crops = ("test", test) if len(test) else ("validation", validation)
    metrics = validate(network, recipe, crops, recipe.size)
    share = recipe.data.validation_share
    card: dict[str, Any] = {
        "backbone": recipe.backbone,
        "parameters": sum(p.numel() for p in network.parameters()),
        "split": {
            "rule": f"u = sha256 of the image / 2**256; validation where u < {share:g}, "
            f"test where u < {share + recipe.data.test_share:g}",
            "training": len(training),
            "validation": len(validation),
            "test": len(test),
        },
        "metrics": {
            name: {
                "mae" if name == "age_mae" else "accuracy": round(value, 4),
                "n": len(crops),
                "on": f"{part} crops",
            }
            for name, value in metrics.items()
            if not name.endswith("_loss")
        },
        "temperatures": dict(temperatures),
        "normalisation": {"mean": recipe.mean, "std": recipe.std, "where": "in the graph"},
        "recipe": recipe.to_json(),
        **recipe.card,
    }
    return Bundle(
        name=recipe.name,
        graph=Path(),
        licence=recipe.licence,
        training_data=recipe.training_data,
        input=Input(recipe.size, "NHWC", range=255.0),
        align=recipe.align,
        margin=recipe.margin,
        offset=recipe.offset,
        tasks=recipe.outputs(),
        sha256="",
        card=card,
    )
