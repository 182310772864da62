"""Commands that audit: report, check, compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceaudit.cli.logs import start_logging
from faceaudit.cli.options import (
    AgeBins,
    Baseline,
    By,
    Classes,
    Columns,
    Confidence,
    LabelsNow,
    LogFormat,
    Map,
    MinN,
    PageFile,
    PolicyFile,
    Provenance,
    Quiet,
    Replicates,
    Seed,
    SuppressBelow,
    TableFormat,
    Tables,
    Title,
    Unit,
    Verbose,
    Within,
    WithoutLeaks,
)
from faceaudit.cli.parsing import one_of, parse_reading, shown_path, split_names
from faceaudit.errors import UsageError

if TYPE_CHECKING:
    from faceaudit.audit.results import Verdict


def report(
    table: Tables,
    output: PageFile = None,
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
    title: Title = None,
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
        **parse_reading(columns, classes, age_bins, map_),
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
        typer.echo(f"{shown_path(policy)}: {policy_message(files.audit.verdicts)}", err=True)
        raise typer.Exit(files.exit_code)


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
        from faceaudit.audit.policy import STARTER
        from faceaudit.storage import as_path, write_starter

        write_starter(as_path(init), STARTER)
        typer.echo(shown_path(init))
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
        **parse_reading(columns, classes, age_bins, map_),
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


def compare(
    first: Annotated[Path, typer.Argument(help="The table or tally to compare with.")],
    second: Annotated[Path, typer.Argument(help="The table or tally that is compared.")],
    output: PageFile = None,
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
    title: Title = None,
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
        **parse_reading(columns, classes, age_bins, map_),
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


def policy_message(verdicts: Sequence[Verdict]) -> str:
    """One line on what became of a policy's rules."""
    from faceaudit.reporting.check import summary

    return summary(verdicts)
