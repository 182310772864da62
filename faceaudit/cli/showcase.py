"""The command that shows the main job: demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from faceaudit.cli.logs import start_logging
from faceaudit.cli.options import LogFormat, Quiet, Verbose


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
