"""Commands on tables and their images: tally, leaks, sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faceaudit.cli.logs import start_logging
from faceaudit.cli.options import (
    AgeBins,
    By,
    Classes,
    Columns,
    Labels,
    LabelsNow,
    LogFormat,
    Map,
    MaxPixels,
    Provenance,
    Quiet,
    SuppressBelow,
    Table,
    Title,
    Unit,
    Verbose,
    Workers,
)
from faceaudit.cli.parsing import parse_auto, parse_count, parse_reading, shown_path, split_names


def tally(
    table: Table,
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
        **parse_reading(columns, classes, age_bins, map_),
        by=split_names(by) or None,
        unit=unit,
        suppress_below=suppress_below,
    )
    if not quiet:
        typer.echo(f"{shown_path(file)}: {found.rows:,} rows in {len(found.cells):,} subgroups")


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
    title: Title = None,
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


def sample(
    table: Table,
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
        **parse_reading(columns, classes, age_bins, map_),
        seed=seed,
    )
    if not quiet:
        typer.echo(
            f"{found.path}: {len(found.drawn.place):,} of {found.faces:,} faces, in "
            f"{len(found.drawn.sizes)} strata by {' and '.join(found.drawn.split_by)}; fill in the "
            f"columns <task>_true, then `faceaudit report {shown_path(table)} --calibration "
            f"{found.path}`"
        )
