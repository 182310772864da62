"""Commands for schedulers: run, purge."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceaudit.cli.ending import one_line
from faceaudit.cli.logs import start_logging
from faceaudit.cli.options import By, LogFormat, Quiet, Verbose
from faceaudit.cli.parsing import split_names
from faceaudit.errors import EXIT_TEMPORARY, UsageError

if TYPE_CHECKING:
    from faceaudit.jobs import StepRun


def run(
    job: Annotated[Path | None, typer.Argument(help="A job: JOB.toml.")] = None,
    init: Annotated[
        Path | None, typer.Option(help="Write a job to begin with, and do nothing else.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    date: Annotated[
        str | None, typer.Option(help="The day of {date} in the job: YYYY-MM-DD; default: today.")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Do one scheduled batch job: predict what is new, report, check."""
    start_logging(quiet, verbose, log_format)
    from faceaudit.jobs import STARTER, summary, tell
    from faceaudit.jobs import run as do
    from faceaudit.storage import as_path, write_starter

    if init is not None:
        write_starter(as_path(init), STARTER)
        typer.echo(init)
        return
    if job is None:
        raise UsageError("run: give a JOB.toml, or --init FILE to begin one")
    day = None if date is None else parse_day(date)
    if dry_run:
        for line in tell(job, date=day):
            typer.echo(line)
        return
    found = do(job, date=day, each=_say_nothing if quiet else _say, quiet=quiet)
    for step in found.steps:
        if step.error is not None:
            typer.echo(f"Error: {one_line(f'{job}: [{step.name}] {step.error}')}", err=True)
    if found.error is not None:
        typer.echo(f"Error: {one_line(f'{job}: {found.error}')}", err=True)
    code = found.exit_code
    if code or not quiet:
        line = f"{found.job.name} on {found.job.day}: {summary(found.steps)}; exit code {code}"
        typer.echo(line, err=bool(code))
    if code == EXIT_TEMPORARY:
        typer.echo(f"goes on with: faceaudit run {job} --date {found.job.day}", err=True)
    if code:
        raise typer.Exit(code)


def purge(
    dataset: Annotated[
        Path, typer.Argument(help="A table that `predict` wrote: a folder of parts, or a file.")
    ],
    older_than: Annotated[
        str | None, typer.Option(help="Delete parts made so long ago: 12h, 30d, 8w.")
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(help="Delete this image's rows, by its name in the table; repeatable."),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for the record.")] = None,
    by: By = None,
    suppress_below: Annotated[
        int, typer.Option(help="Smaller cells of the tally that is kept are put together.")
    ] = 10,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Delete rows of a table for good; keep their counts, and write down what went and why."""
    start_logging(quiet, verbose, log_format)
    from faceaudit.jobs import purge as do
    from faceaudit.jobs.purge import message

    found = do(
        dataset,
        older_than=older_than,
        image=image or (),
        reason=reason,
        by=split_names(by) or None,
        suppress_below=suppress_below,
        dry_run=dry_run,
    )
    if not quiet:
        for line in message(found):
            typer.echo(line)


def parse_day(given: str) -> dt.date:
    """A day such as 2026-11-27.

    Raises:
        UsageError: If it is none.
    """
    try:
        return dt.date.fromisoformat(given)
    except ValueError as error:
        raise UsageError(f"--date {given}: give a day as YYYY-MM-DD, such as 2026-03-01") from error


def _say(step: StepRun) -> None:
    for line in step.outcome.lines:
        typer.echo(line)


def _say_nothing(step: StepRun) -> None:
    """Errors are said at the end."""
