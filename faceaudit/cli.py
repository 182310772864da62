"""The command line: one thin function per command.

Arguments in, one library call, one message out. Nothing heavy is imported until a command runs.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceaudit import __version__
from faceaudit.errors import (
    EXIT_TEMPORARY,
    EXIT_TOO_MANY_FAILURES,
    FaceauditError,
    UnknownNameError,
    UsageError,
)

if TYPE_CHECKING:
    from faceaudit.audit.results import Verdict
    from faceaudit.pipeline.predict import Prediction

app = typer.Typer(
    name="faceaudit",
    help="Predict age, gender and race of faces in many images; audit how well, for whom.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

LOG_FORMATS = ("text", "json")
MAX_COUNT = 10**15
MOMENT = 0.05
"""Seconds until an interruption that was ignored is tried again."""

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print what is done in detail.")]
LogFormat = Annotated[str, typer.Option(help="Log lines as text or json.", metavar="text|json")]
Images = Annotated[
    str,
    typer.Argument(
        help="A folder, image, glob, list of paths (.txt .csv .parquet), .tar or pixels:FILE.csv."
    ),
]
Detector = Annotated[str, typer.Option(help="retinaface, retina-face, or whole: images are crops.")]
Faces = Annotated[str, typer.Option(help="Which faces count: largest, center or all.")]
Labels = Annotated[
    str, typer.Option(help="auto, none, or FORMAT[:PATH]: utkface, fairface, imagefolder, table.")
]
Provenance = Annotated[
    str, typer.Option(help="Where labels come from: annotated, self-reported or predicted.")
]
Tables = Annotated[
    list[Path],
    typer.Argument(help="A Parquet or CSV table of predictions; or tallies, which are summed."),
]
MinN = Annotated[
    int, typer.Option(min=1, help="Smaller subgroups are shown and marked, never ranked.")
]
Confidence = Annotated[float, typer.Option(help="Of intervals, between 0 and 1.")]
Replicates = Annotated[
    int,
    typer.Option(min=100, help="Draws of permutation tests, distances and corrected shares."),
]
Seed = Annotated[int, typer.Option(help="Of the draws; intervals of metrics need none.")]
PolicyFile = Annotated[
    Path | None, typer.Option(help="Rules to hold against the table: NAME.toml.", metavar="FILE")
]
LabelsNow = Annotated[
    str, typer.Option(help="Join labels now: FORMAT:PATH, such as table:labels.csv.")
]
Columns = Annotated[
    list[str] | None, typer.Option(help="Names in a foreign table: age_pred=yhat,...")
]
Classes = Annotated[list[str] | None, typer.Option(help="Classes of a task: race=White,Black,...")]
Map = Annotated[list[str] | None, typer.Option("--map", help="Coarsen a scheme: race=utkface5.")]
By = Annotated[list[str] | None, typer.Option(help="Sensitive features, such as gender,race.")]
Within = Annotated[
    str | None, typer.Option(help="A control feature: compare within its values, at the same mix.")
]
SuppressBelow = Annotated[
    int, typer.Option(help="Cells of fewer faces or images are left out, for privacy.")
]
WithoutLeaks = Annotated[
    Path | None,
    typer.Option(
        help="Leave out images that are in several sets: a table `leaks` wrote.", metavar="LEAKS"
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        help="An earlier table or tally: the page also tells what changed.", metavar="TABLE"
    ),
]
Unit = Annotated[
    str | None, typer.Option(help="A column: rows with one value of it are not independent.")
]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="A recipe's key: KEY=VALUE; repeatable.")
]
TrainingDevice = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
MaxSteps = Annotated[int | None, typer.Option(min=1, help="Steps per epoch at most (a trial).")]
TableFormat = Annotated[
    str, typer.Option("--format", help="Print a table or json.", metavar="table|json")
]
AgeBins = Annotated[
    str | None, typer.Option(help="Lower bounds of age groups in years, such as 0,18,65.")
]
MaxPixels = Annotated[str, typer.Option(help="Larger images are not decoded; 100M is 100 million.")]
Workers = Annotated[str, typer.Option(help="Threads, or auto: one per core.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Take only the first so many images.")]


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"faceaudit {__version__}")
        raise typer.Exit


@app.command()
def predict(
    images: Images,
    out: Annotated[Path, typer.Argument(help="The table to write: NAME.parquet.")],
    model: Annotated[
        str, typer.Option(help="A bundle that ships, a bundle's folder, or FILE.onnx.")
    ] = "fairface",
    detector: Detector = "retinaface",
    faces: Faces = "largest",
    align: Annotated[
        str | None, typer.Option(help="similarity or none; default: as the model was trained.")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Widening of crops; default: as the model was trained.")
    ] = None,
    labels: Labels = "auto",
    provenance: Provenance = "annotated",
    tasks: Annotated[str, typer.Option(help="What to predict.")] = "gender,race,age",
    age_bins: AgeBins = None,
    limit: Limit = None,
    max_failures: Annotated[
        str | None, typer.Option(help="Exit with 4 if more images fail: N or N%.")
    ] = None,
    max_pixels: MaxPixels = "100M",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    batch_size: Annotated[str, typer.Option(help="Images per chunk of work, or auto.")] = "auto",
    workers: Workers = "auto",
    restart: Annotated[
        bool, typer.Option("--restart", help="Replace a table made with other inputs or options.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Predict age, gender and race of the faces in images, into one Parquet table."""
    start_logging(quiet, verbose, log_format)
    allowed = parse_failures(max_failures)
    from faceaudit.pipeline.predict import predict as run
    from faceaudit.schema import AGE_BINS, DEFAULT_AGE_SCHEME

    found = run(
        images,
        out,
        model=model,
        detector=detector,
        faces=faces,
        align=align,
        margin=margin,
        labels=labels,
        provenance=provenance,
        tasks=split_names(tasks),
        age_bins=parse_bins(age_bins) or AGE_BINS[DEFAULT_AGE_SCHEME],
        limit=limit,
        max_pixels=parse_count("--max-pixels", max_pixels),
        device=device,
        precision=precision,
        batch_size=parse_auto("--batch-size", batch_size),
        workers=parse_auto("--workers", workers),
        restart=restart,
        quiet=quiet,
    )
    if not quiet:
        typer.echo(prediction_message(found))
    if allowed is not None and found.failed > allowed(found.images):
        typer.echo(
            f"{found.failed} of {found.images} images failed, more than --max-failures "
            f"{max_failures}; the table is complete",
            err=True,
        )
        raise typer.Exit(EXIT_TOO_MANY_FAILURES)


@app.command()
def report(
    table: Tables,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where the page goes: NAME.html.")
    ] = None,
    labels: LabelsNow = "none",
    provenance: Provenance = "annotated",
    columns: Columns = None,
    classes: Classes = None,
    age_bins: AgeBins = None,
    map_: Map = None,
    by: By = None,
    within: Within = None,
    unit: Unit = None,
    min_n: MinN = 30,
    suppress_below: SuppressBelow = 0,
    confidence: Confidence = 0.95,
    replicates: Replicates = 2000,
    seed: Seed = 0,
    calibration: Annotated[
        Path | None, typer.Option(help="Labeled faces that correct the shares of a composition.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Target shares to compare with: task, class, share.")
    ] = None,
    verify: Annotated[
        str, typer.Option(help="Recompute with scikit-learn and fairlearn: auto, always, never.")
    ] = "auto",
    policy: PolicyFile = None,
    without_leaks: WithoutLeaks = None,
    baseline: Baseline = None,
    format_: Annotated[
        str, typer.Option("--format", help="What to write: html, json, md (a summary).")
    ] = "html,json",
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Audit a table of predictions: an HTML page and the same numbers as JSON."""
    start_logging(quiet, verbose, log_format)
    from faceaudit.reporting import report as run

    files = run(
        table,
        output=output,
        labels=labels,
        provenance=provenance,
        columns=parse_pairs("--columns", split_names(columns)),
        classes=parse_classes(classes),
        age_bins=parse_bins(age_bins),
        scheme_map=parse_map(map_),
        by=split_names(by) or None,
        within=within,
        unit=unit,
        min_n=min_n,
        suppress_below=suppress_below,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        calibration=calibration,
        reference=reference,
        verify=one_of("--verify", verify, ("auto", "always", "never")),
        policy=policy,
        without_leaks=without_leaks,
        baseline=baseline,
        formats=split_names(format_),
        title=title,
    )
    if not quiet:
        for path in files.paths:
            typer.echo(path)
    if files.exit_code:
        typer.echo(f"{policy}: {policy_message(files.audit.verdicts)}", err=True)
        raise typer.Exit(files.exit_code)


@app.command()
def check(
    table: Annotated[
        list[Path] | None,
        typer.Argument(help="A Parquet or CSV table of predictions; or tallies, which are summed."),
    ] = None,
    policy: PolicyFile = None,
    init: Annotated[
        Path | None, typer.Option(help="Write a policy to begin with, and do nothing else.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Also write the verdicts: NAME.json.")
    ] = None,
    labels: LabelsNow = "none",
    provenance: Provenance = "annotated",
    columns: Columns = None,
    classes: Classes = None,
    age_bins: AgeBins = None,
    map_: Map = None,
    unit: Unit = None,
    min_n: MinN = 30,
    suppress_below: SuppressBelow = 0,
    confidence: Confidence = 0.95,
    replicates: Replicates = 2000,
    seed: Seed = 0,
    without_leaks: WithoutLeaks = None,
    format_: TableFormat = "table",
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Hold a policy against a table: pass, fail or insufficient evidence per rule, by exit code."""
    start_logging(quiet, verbose, log_format)
    if init is not None:
        from faceaudit.reporting.check import write_starter

        write_starter(init)
        typer.echo(init)
        return
    if not table or policy is None:
        raise UsageError("check: give a table and --policy FILE, or --init FILE to begin a policy")
    shown = one_of("--format", format_, ("table", "json"))
    from faceaudit.reporting import check as run

    found = run(
        table,
        policy,
        output=output,
        labels=labels,
        provenance=provenance,
        columns=parse_pairs("--columns", split_names(columns)),
        classes=parse_classes(classes),
        age_bins=parse_bins(age_bins),
        scheme_map=parse_map(map_),
        unit=unit,
        min_n=min_n,
        suppress_below=suppress_below,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        without_leaks=without_leaks,
    )
    if not quiet:
        typer.echo(found.to_json() if shown == "json" else found.to_text(), nl=shown != "json")
    if found.exit_code:
        raise typer.Exit(found.exit_code)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="The table or tally to compare with.")],
    second: Annotated[Path, typer.Argument(help="The table or tally that is compared.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where the page goes: NAME.html.")
    ] = None,
    labels: LabelsNow = "none",
    provenance: Provenance = "annotated",
    columns: Columns = None,
    classes: Classes = None,
    age_bins: AgeBins = None,
    map_: Map = None,
    by: By = None,
    unit: Unit = None,
    min_n: MinN = 30,
    suppress_below: SuppressBelow = 0,
    confidence: Confidence = 0.95,
    replicates: Replicates = 2000,
    seed: Seed = 0,
    mode: Annotated[
        str, typer.Option(help="paired (the same images), drift (different ones), or auto.")
    ] = "auto",
    format_: Annotated[
        str, typer.Option("--format", help="What to write: html, json.")
    ] = "html,json",
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Compare two tables per subgroup: paired on the same images, drift between different ones."""
    start_logging(quiet, verbose, log_format)
    from faceaudit.reporting import compare as run

    files = run(
        first,
        second,
        output=output,
        labels=labels,
        provenance=provenance,
        columns=parse_pairs("--columns", split_names(columns)),
        classes=parse_classes(classes),
        age_bins=parse_bins(age_bins),
        scheme_map=parse_map(map_),
        by=split_names(by) or None,
        unit=unit,
        min_n=min_n,
        suppress_below=suppress_below,
        confidence=confidence,
        replicates=replicates,
        seed=seed,
        mode=one_of("--mode", mode, ("auto", "paired", "drift")),
        formats=split_names(format_),
        title=title,
    )
    if not quiet:
        for path in files.paths:
            typer.echo(path)


@app.command()
def tally(
    table: Annotated[Path, typer.Argument(help="A Parquet or CSV table of predictions.")],
    file: Annotated[Path, typer.Argument(help="The tally to write: NAME.tally.")],
    labels: LabelsNow = "none",
    provenance: Provenance = "annotated",
    columns: Columns = None,
    classes: Classes = None,
    age_bins: AgeBins = None,
    map_: Map = None,
    by: By = None,
    unit: Unit = None,
    suppress_below: SuppressBelow = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Count a table per subgroup into a small file without names, which report takes and sums."""
    start_logging(quiet, verbose, log_format)
    from faceaudit.reporting import tally as run

    found = run(
        table,
        file,
        labels=labels,
        provenance=provenance,
        columns=parse_pairs("--columns", split_names(columns)),
        classes=parse_classes(classes),
        age_bins=parse_bins(age_bins),
        scheme_map=parse_map(map_),
        by=split_names(by) or None,
        unit=unit,
        suppress_below=suppress_below,
    )
    if not quiet:
        typer.echo(f"{file}: {found.rows:,} rows in {len(found.cells):,} subgroups")


@app.command()
def leaks(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Each a set: a folder, a list, a tar, prepared crops, or a table of predictions."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The table of pairs: NAME.parquet or NAME.csv.")
    ] = Path("leaks.parquet"),
    images: Annotated[
        list[str] | None,
        typer.Option(help="The folder that a table's images are in; repeatable, one per table."),
    ] = None,
    labels: Labels = "auto",
    fail_on: Annotated[
        str, typer.Option(help="Exit with 10 if found: across, exact, near, conflict; or none.")
    ] = "across",
    max_pixels: MaxPixels = "100M",
    workers: Workers = "auto",
    show_images: Annotated[
        bool, typer.Option("--show-images", help="Show images of some pairs on the page.")
    ] = False,
    format_: Annotated[
        str, typer.Option("--format", help="What to write beside the table: html, json.")
    ] = "html,json",
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Find images that show one picture, within and across sets, and labels that contradict."""
    start_logging(quiet, verbose, log_format)
    from faceaudit.reporting.leaks import leaks as run
    from faceaudit.reporting.leaks import sentences

    found = run(
        sources,
        output=output,
        images=images or [],
        labels=labels,
        fail_on=split_names(fail_on),
        max_pixels=parse_count("--max-pixels", max_pixels),
        workers=parse_auto("--workers", workers),
        show_images=show_images,
        title=title,
        formats=split_names(format_),
        quiet=quiet,
    )
    if not quiet:
        for line in (*sentences(found.leaks), *found.paths):
            typer.echo(line)
    if found.failures:
        typer.echo(f"found: {'; '.join(found.failures)} (--fail-on {fail_on})", err=True)
        raise typer.Exit(found.exit_code)


@app.command()
def sample(
    table: Annotated[Path, typer.Argument(help="A Parquet or CSV table of predictions.")],
    n: Annotated[int, typer.Option("--n", help="How many faces to draw.")] = 500,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The sample to write: NAME.csv.")
    ] = None,
    tasks: Annotated[str | None, typer.Option(help="What will be labeled; default: all.")] = None,
    columns: Columns = None,
    classes: Classes = None,
    age_bins: AgeBins = None,
    map_: Map = None,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Draw faces to label by hand, which then correct the shares of a composition report."""
    start_logging(quiet, verbose, log_format)
    from faceaudit.reporting import sample as run

    found = run(
        table,
        n=n,
        output=output,
        tasks=split_names(tasks) or None,
        columns=parse_pairs("--columns", split_names(columns)),
        classes=parse_classes(classes),
        age_bins=parse_bins(age_bins),
        scheme_map=parse_map(map_),
        seed=seed,
    )
    if not quiet:
        typer.echo(
            f"{found.path}: {len(found.drawn.place):,} of {found.faces:,} faces, in "
            f"{len(found.drawn.sizes)} strata by {' and '.join(found.drawn.split_by)}; fill in the "
            f"columns <task>_true, then `faceaudit report {table} --calibration {found.path}`"
        )


@app.command()
def prepare(
    images: Images,
    folder: Annotated[Path, typer.Argument(help="Where the crops and their labels go.")],
    detector: Detector = "retinaface",
    faces: Faces = "largest",
    align: Annotated[str, typer.Option(help="similarity or none.")] = "similarity",
    margin: Annotated[float, typer.Option(help="Widening of the crops.")] = 0.4,
    size: Annotated[int, typer.Option(min=16, max=4096, help="Height and width in pixels.")] = 192,
    labels: Labels = "auto",
    provenance: Provenance = "annotated",
    limit: Limit = None,
    max_pixels: MaxPixels = "100M",
    workers: Workers = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Detect, align and crop faces to a folder, which training reads."""
    start_logging(quiet, verbose, log_format)
    from faceaudit.pipeline.prepare import prepare as run

    found = run(
        images,
        folder,
        detector=detector,
        faces=faces,
        align=align,
        margin=margin,
        size=size,
        labels=labels,
        provenance=provenance,
        limit=limit,
        max_pixels=parse_count("--max-pixels", max_pixels),
        workers=parse_auto("--workers", workers),
        quiet=quiet,
    )
    if not quiet:
        typer.echo(
            f"{found.images:,} images, {found.crops:,} crops in {found.folder} "
            f"({status_message(found.statuses)})"
        )


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe that ships, or FILE.toml.")],
    data: Annotated[list[Path], typer.Option(help="A folder that `prepare` wrote; repeatable.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The bundle's folder.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Checkpoints and history; default: OUTPUT.training.")
    ] = None,
    changes: Changes = None,
    device: TrainingDevice = "auto",
    max_steps: MaxSteps = None,
    limit: Limit = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Train a recipe to a model bundle; goes on where an interrupted training stopped."""
    start_logging(quiet, verbose, log_format)
    require("torch", "faceaudit train", "train")
    require("onnx", "faceaudit train", "train")
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


@app.command()
def tune(
    recipe: Annotated[str, typer.Argument(help="A recipe with ranges: one that ships or a file.")],
    data: Annotated[list[Path], typer.Option(help="A folder that `prepare` wrote; repeatable.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The search's folder.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Settings to try in all.")] = None,
    changes: Changes = None,
    device: TrainingDevice = "auto",
    max_steps: MaxSteps = None,
    limit: Limit = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Search a recipe's ranges for the settings that validate best; goes on where it stopped."""
    start_logging(quiet, verbose, log_format)
    require("torch", "faceaudit tune", "train")
    require("optuna", "faceaudit tune", "train")
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
        typer.echo(f"{found.recipe}: {found.value:.4f}, best of {found.trials} trials")
        for key, value in found.best.items():
            typer.echo(f"  {key} = {json.dumps(value)}")


@app.command()
def zoo(
    action: Annotated[
        str | None, typer.Argument(help="Nothing, or show.", metavar="[show NAME]")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="A bundle.", hidden=True)] = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="Also time each network on this machine's CPU.")
    ] = False,
    format_: TableFormat = "table",
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """List bundles, recipes and architectures with their cost; show a model card."""
    start_logging(False, verbose, log_format)
    shown = one_of("--format", format_, ("table", "json"))
    if action is not None:
        if action != "show" or name is None:
            raise UsageError(f"zoo {action}: give nothing, or show NAME, such as show fairface")
        from faceaudit.models.bundle import facts_of, load_bundle
        from faceaudit.models.card import card_text

        bundle = load_bundle(name)
        text = json.dumps(facts_of(bundle), indent=2) if shown == "json" else card_text(bundle)
        typer.echo(text, nl=shown == "json")
        return
    require("torch", "faceaudit zoo", "torch")
    from faceaudit.training.zoo import zoo as run
    from faceaudit.training.zoo import zoo_text

    entries = run(speed=speed)
    if shown == "json":
        typer.echo(json.dumps([entry.to_json() for entry in entries], indent=2))
    else:
        typer.echo(zoo_text(entries))


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A bundle: its name, folder or .onnx file.")],
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


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything goes.")] = Path("demo"),
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Run the main job on inputs that come with the package; print where the page is."""
    start_logging(quiet, verbose, log_format)
    from faceaudit.showcase.run import demo as run

    found = run(folder, say=(lambda line: None) if quiet else typer.echo)
    typer.echo(found.page)


def policy_message(verdicts: Sequence[Verdict]) -> str:
    """One line on what became of a policy's rules."""
    from faceaudit.reporting.check import summary

    return summary(verdicts)


def prediction_message(found: Prediction) -> str:
    """One line on what a run did."""
    if found.already_complete:
        return f"{found.table}: complete already, {found.images:,} images; nothing was done"
    rate = found.images / max(found.seconds, 1e-9)
    return (
        f"{found.table}: {found.images:,} images, {found.faces:,} faces "
        f"({status_message(found.statuses)}) in {found.seconds:.1f} s, {rate:,.0f} images/s"
    )


def status_message(statuses: Any) -> str:
    """Counts by status, in words."""
    return ", ".join(f"{count:,} {status}" for status, count in statuses.items())


def split_names(given: str | Sequence[str] | None) -> list[str]:
    """Names separated by commas, of an option that was given once or several times."""
    every = [given] if isinstance(given, str) else given or []
    return [name.strip() for one in every for name in one.split(",") if name.strip()]


def one_of(option: str, given: str, known: Sequence[str]) -> Any:
    """A value that is one of a few.

    Raises:
        UnknownNameError: If it is not.
    """
    if given not in known:
        raise UnknownNameError(f"value of {option}", given, known)
    return given


def parse_pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """``key=value`` pairs.

    Raises:
        UsageError: If one has no ``=``, or a key has two values.
    """
    pairs: dict[str, str] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UsageError(f"{option} {pair}: give NAME=VALUE")
        if pairs.get(key.strip(), value.strip()) != value.strip():
            raise UsageError(f"{option} {pair}: {key.strip()} is given twice; give one of them")
        pairs[key.strip()] = value.strip()
    return pairs


def parse_changes(given: Sequence[str] | None) -> dict[str, Any]:
    """Dotted keys of a recipe with their values, written as in TOML; plain words are text."""
    import tomllib

    changes: dict[str, Any] = {}
    for key, text in ((key, value) for one in given or [] for key, value in [_halves(one)]):
        try:
            changes[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key] = text
    return changes


def _halves(given: str) -> tuple[str, str]:
    key, separator, value = given.partition("=")
    if not (key.strip() and separator):
        raise UsageError(f"--set {given}: give KEY=VALUE, such as batch=32")
    return key.strip(), value.strip()


def parse_classes(given: Sequence[str] | None) -> dict[str, tuple[str, ...]]:
    """Classes of tasks, ``race=White,Black``."""
    pairs = parse_pairs("--classes", given or [])
    return {task: tuple(split_names(names)) for task, names in pairs.items()}


def parse_map(given: Sequence[str] | None) -> dict[str, str]:
    """Schemes of tasks, ``race=utkface5,gender=gender2``."""
    return parse_pairs("--map", split_names(given))


def parse_bins(given: str | None) -> tuple[int, ...] | None:
    """Lower bounds of age groups."""
    if given is None:
        return None
    from faceaudit.schema import age_group_names

    try:
        bins = tuple(int(bound) for bound in split_names(given))
    except ValueError as error:
        raise UsageError(f"--age-bins {given}: give whole years, such as 0,18,65") from error
    age_group_names(bins)
    return bins


def parse_count(option: str, given: str) -> int:
    """A count such as ``100M``, ``2.5k`` or ``1000000``; at least 1."""
    factors = {"k": 1e3, "m": 1e6, "g": 1e9}
    text = given.strip().lower()
    factor = factors.get(text[-1:], 1)
    try:
        count = int(float(text.rstrip("kmg")) * factor)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{option} {given}: give a count, such as 100M or 5000000") from error
    if not 1 <= count <= MAX_COUNT:
        raise UsageError(f"{option} {given}: must be at least 1 and at most {MAX_COUNT}")
    return count


def parse_auto(option: str, given: str) -> int | None:
    """A count, or None for ``auto``."""
    return None if given == "auto" else parse_count(option, given)


def parse_failures(given: str | None) -> Any:
    """A function from the number of images to the number that may fail; None without a limit."""
    if given is None:
        return None
    try:
        number = float(given.removesuffix("%"))
    except ValueError as error:
        raise UsageError(f"--max-failures {given}: give a count or a share, 10 or 2%") from error
    if not 0 <= number < float("inf"):
        raise UsageError(f"--max-failures {given}: cannot be negative or infinite")
    if given.endswith("%"):
        return lambda images: number / 100 * images
    return lambda images: number


def require(module: str, what: str, extra: str) -> None:
    """Check that an optional dependency is there before anything is done."""
    from importlib.util import find_spec

    from faceaudit.errors import MissingExtraError

    if find_spec(module) is None:
        raise MissingExtraError(what, extra)


class JsonLines(logging.Formatter):
    """Log records as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
            }
        )


def start_logging(quiet: bool, verbose: bool, log_format: str) -> None:
    """Send the package's log lines to stderr."""
    if log_format not in LOG_FORMATS:
        raise UnknownNameError("log format", log_format, LOG_FORMATS)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else logging.Formatter("%(message)s"))
    logger = logging.getLogger("faceaudit")
    logger.handlers[:] = [handler]
    logger.propagate = False
    level = logging.DEBUG if verbose else logging.INFO
    logger.setLevel(logging.ERROR if quiet else level)


class Interrupted(BaseException):
    """A signal asked the run to end; no ``except Exception`` of a library takes it for its own."""


def _interrupted(number: int, frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    raise Interrupted(f"interrupted by {name}; nothing half-written was left; run again")


def _ignored(ignored: sys.UnraisableHookArgs) -> None:
    """Interrupt again, in a moment, where Python had to ignore it, as in a finalizer."""
    if isinstance(ignored.exc_value, Interrupted):
        again = ignored.exc_value

        def raise_again(number: int, frame: FrameType | None) -> None:
            raise again

        signal.signal(signal.SIGALRM, raise_again)
        signal.setitimer(signal.ITIMER_REAL, MOMENT)
    else:
        sys.__unraisablehook__(ignored)


def main() -> None:
    """The entry point: errors that a user can fix become one line and an exit code."""
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGTERM, _interrupted)
    sys.unraisablehook = _ignored
    try:
        app()
    except Interrupted as interrupted:
        print(f"Error: {interrupted}", file=sys.stderr)  # noqa: T201 - as below
        sys.exit(EXIT_TEMPORARY)
    except FaceauditError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 - the one place that prints errors
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
