"""Commands from images: predict, prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faceaudit.cli.logs import start_logging
from faceaudit.cli.options import (
    AgeBins,
    Detector,
    Faces,
    Images,
    Labels,
    Limit,
    LogFormat,
    MaxPixels,
    Provenance,
    Quiet,
    Verbose,
    Workers,
)
from faceaudit.cli.parsing import parse_auto, parse_bins, parse_count, split_names


def predict(
    images: Images,
    out: Annotated[
        str, typer.Argument(help="The table to write: NAME.parquet, or a folder of parts.")
    ],
    model: Annotated[
        str, typer.Option(help="A bundle: its name, folder or FILE.onnx; or MODULE:FACTORY.")
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
    precision: Annotated[
        str, typer.Option(help="auto, float32, bfloat16, float16 (GPU) or int8 (CPU).")
    ] = "auto",
    batch_size: Annotated[str, typer.Option(help="Images per chunk of work, or auto.")] = "auto",
    workers: Workers = "auto",
    engine: Annotated[
        str, typer.Option(help="Who does the work: local, or ray, a cluster.")
    ] = "local",
    part_rows: Annotated[
        int | None, typer.Option(min=1, help="Rows of each part, where OUT is a folder.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard what an earlier run made, and begin anew.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Predict age, gender and race of the faces in images, into one Parquet table."""
    start_logging(quiet, verbose, log_format)
    from faceaudit.pipeline.messages import failures_message, prediction_message
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
        max_failures=max_failures,
        max_pixels=parse_count("--max-pixels", max_pixels),
        device=device,
        precision=precision,
        batch_size=parse_auto("--batch-size", batch_size),
        workers=parse_auto("--workers", workers),
        engine=engine,
        part_rows=part_rows,
        restart=restart,
        quiet=quiet,
    )
    if not quiet:
        typer.echo(prediction_message(found))
    if found.exit_code:
        typer.echo(failures_message(found), err=True)
        raise typer.Exit(found.exit_code)


def prepare(
    images: Images,
    folder: Annotated[Path, typer.Argument(help="Where the crops and their labels go.")],
    detector: Detector = "retinaface",
    faces: Faces = "largest",
    align: Annotated[str, typer.Option(help="similarity or none.")] = "similarity",
    margin: Annotated[
        float, typer.Option(help="Widening of crops: in all where aligned, else on each side.")
    ] = 0.4,
    offset: Annotated[
        float, typer.Option(help="How far aligned crops are moved down, in their sides.")
    ] = 0.15,
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
    from faceaudit.labels.annotations import counted
    from faceaudit.pipeline.messages import status_message
    from faceaudit.pipeline.prepare import prepare as run

    found = run(
        images,
        folder,
        detector=detector,
        faces=faces,
        align=align,
        margin=margin,
        offset=offset,
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
            f"{counted(found.images, 'image')}, {counted(found.crops, 'crop')} in {found.folder} "
            f"({status_message(found.statuses)})"
        )
