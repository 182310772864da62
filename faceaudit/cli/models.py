"""Commands on models: train, tune, zoo, export, quantize."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from faceaudit.cli.logs import start_logging
from faceaudit.cli.options import (
    Changes,
    CropLimit,
    LogFormat,
    MaxSteps,
    Quiet,
    TableFormat,
    TrainingData,
    TrainingDevice,
    Verbose,
)
from faceaudit.cli.parsing import one_of, parse_changes
from faceaudit.errors import UnknownNameError, UsageError

TRAINING = ("torch", "safetensors", "onnx")
"""Modules of the extra ``train`` that its commands begin with."""


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe that ships, or FILE.toml.")],
    data: TrainingData,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The bundle's folder.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Checkpoints and history; default: OUTPUT.training.")
    ] = None,
    changes: Changes = None,
    device: TrainingDevice = "auto",
    max_steps: MaxSteps = None,
    limit: CropLimit = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Train a recipe to a model bundle; goes on where an interrupted training stopped."""
    quiet = quiet or is_follower()
    start_logging(quiet, verbose, log_format)
    for module in (*TRAINING, "onnxscript"):
        require(module, "faceaudit train", "train")
    from faceaudit.training.train import train as run

    bundle = run(
        recipe,
        data=data,
        output=output,
        work=work,
        changes=parse_changes(changes),
        device=device,
        max_steps=max_steps,
        limit=limit,
    )
    if not quiet:
        typer.echo(f"bundle {bundle.name} in {bundle.graph.parent}")
        for name, facts in bundle.card["metrics"].items():
            measure = "mae" if "mae" in facts else "accuracy"
            typer.echo(f"  {name}: {measure} {facts[measure]:.3f} on {facts['n']:,} {facts['on']}")


def tune(
    recipe: Annotated[str, typer.Argument(help="A recipe with ranges: one that ships or a file.")],
    data: TrainingData,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The search's folder.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Settings to try in all.")] = None,
    changes: Changes = None,
    device: TrainingDevice = "auto",
    max_steps: MaxSteps = None,
    limit: CropLimit = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Search a recipe's ranges for the settings that validate best; goes on where it stopped."""
    start_logging(quiet, verbose, log_format)
    for module in (*TRAINING, "optuna", "tomli_w"):
        require(module, "faceaudit tune", "train")
    from faceaudit.training.tune import tune as run

    found = run(
        recipe,
        data=data,
        output=output,
        trials=trials,
        changes=parse_changes(changes),
        device=device,
        max_steps=max_steps,
        limit=limit,
    )
    if not quiet:
        ended = {"given up": found.pruned, "failed": found.failed}
        counts = ", ".join(f"{count} {how}" for how, count in ended.items() if count)
        of_these = f" ({counts})" if counts else ""
        typer.echo(f"{found.recipe}: {found.value:.4f}, best of {found.trials} trials{of_these}")
        for key, value in found.best.items():
            typer.echo(f"  {key} = {json.dumps(value)}")


def zoo(
    action: Annotated[
        str | None, typer.Argument(help="Nothing, or show.", metavar="[show NAME]")
    ] = None,
    name: Annotated[
        str | None, typer.Argument(help="A bundle, model, recipe or architecture.", hidden=True)
    ] = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="Also time each network on this machine's CPU.")
    ] = False,
    format_: TableFormat = "table",
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print what was asked for alone.")
    ] = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """List bundles, recipes and architectures with their cost; show one: a card, a whole recipe."""
    start_logging(quiet, verbose, log_format)
    shown = one_of("--format", format_, ("table", "json"))
    if action is not None:
        if action != "show" or name is None:
            raise UsageError(f"zoo {action}: give nothing, or show NAME, such as show fairface")
        typer.echo(_card(name, as_json=shown == "json").rstrip("\n"))
        return
    require("torch", "faceaudit zoo", "torch")
    from faceaudit.training.zoo import zoo as run
    from faceaudit.training.zoo import zoo_text

    entries = run(speed=speed)
    if shown == "json":
        typer.echo(json.dumps([entry.to_json() for entry in entries], indent=2))
    else:
        typer.echo(zoo_text(entries))


RECIPE = "recipe:"
"""Before the name of a recipe that is a bundle's name too."""


def _card(name: str, *, as_json: bool) -> str:
    """What there is to say of a bundle or model, a recipe or an architecture."""
    from difflib import get_close_matches

    from faceaudit.models.backbones import BACKBONES
    from faceaudit.models.backbones.joined import SIGN
    from faceaudit.models.bundle import facts_of, shipped
    from faceaudit.models.card import card_text
    from faceaudit.models.load import load_model
    from faceaudit.training.recipe_files import list_recipes, load_recipe, recipe_text

    wanted = name.removeprefix(RECIPE)
    is_bundle = name == wanted and name in shipped()
    if name != wanted or name.endswith(".toml") or (name in list_recipes() and not is_bundle):
        for module in ("torch", "tomli_w"):
            require(module, "faceaudit zoo show RECIPE", "train")
        recipe = load_recipe(wanted)
        return json.dumps(recipe.to_json(), indent=2) if as_json else recipe_text(recipe)
    parts = name.split(SIGN)
    if all(part in BACKBONES or part.startswith("timm:") for part in parts):
        require("torch", "faceaudit zoo", "torch")
        from faceaudit.training.zoo import architecture, architecture_text

        entry = architecture(name)
        return json.dumps(entry.to_json(), indent=2) if as_json else architecture_text(entry)
    try:
        bundle = load_model(name)
    except UnknownNameError as error:
        near = get_close_matches(name, [*shipped(), *list_recipes(), *BACKBONES], 1)
        raise UsageError(
            f"no bundle, recipe or architecture is called {name!r}; `faceaudit zoo` lists them"
            + (f"; did you mean {near[0]}?" if near else "")
        ) from error
    return json.dumps(facts_of(bundle), indent=2) if as_json else card_text(bundle)


def export(
    model: Annotated[
        str, typer.Argument(help="A bundle: its name, folder or FILE.onnx; or MODULE:FACTORY.")
    ],
    file: Annotated[Path, typer.Argument(help="Where it goes: NAME.onnx, with NAME.json beside.")],
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Write a bundle as one ONNX file with its sidecar of facts."""
    start_logging(quiet, verbose, log_format)
    require("onnx", "faceaudit export", "train")
    from faceaudit.models.standalone import export as run

    written = run(model, file)
    if not quiet:
        typer.echo(f"{file}: {written.name}, sha256 {written.sha256}")


def quantize(
    model: Annotated[str, typer.Argument(help="A bundle: its name or folder; it is changed.")],
    data: TrainingData,
    held_out: Annotated[
        list[Path] | None,
        typer.Option(help="Such a folder, no image of which was trained on; repeatable."),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Give a bundle an int8 graph for CPUs, and measure on held-out faces what it loses."""
    start_logging(quiet, verbose, log_format)
    require("onnx", "faceaudit quantize", "train")
    from faceaudit.models.int8 import INT8, comparison_lines, shortfalls
    from faceaudit.training.quantize import quantize as run

    bundle = run(model, data=data, held_out=held_out or ())
    if not quiet:
        compared = bundle.card[INT8]["compared"]
        typer.echo("\n".join(comparison_lines(compared)))
        short = ", ".join(shortfalls(bundle, compared))
        typer.echo(f"not allowed, for {short}" if short else "allowed: --precision int8")


def is_follower() -> bool:
    """Whether ``torchrun`` started this process beside the one that speaks."""
    return "WORLD_SIZE" in os.environ and os.environ.get("RANK", "0") != "0"


def require(module: str, what: str, extra: str) -> None:
    """Check that an optional dependency is there before anything is done."""
    from importlib.util import find_spec

    from faceaudit.errors import MissingExtraError

    if find_spec(module) is None:
        raise MissingExtraError(what, extra)
