"""The command line: one thin function per command.

Arguments in, one library call, one message out. Nothing heavy is imported until a command runs.
To add a command, write its function in the module of its group and list it in ``COMMANDS``.
"""

from __future__ import annotations

from typing import Annotated

import typer

from faceaudit import __version__
from faceaudit.cli.audits import check, compare, report
from faceaudit.cli.ending import end_well
from faceaudit.cli.images import predict, prepare
from faceaudit.cli.jobs import purge, run
from faceaudit.cli.models import export, quantize, train, tune, zoo
from faceaudit.cli.showcase import demo
from faceaudit.cli.tables import leaks, sample, tally
from faceaudit.errors import EXIT_USAGE

COMMANDS = (
    predict,
    report,
    check,
    compare,
    tally,
    leaks,
    sample,
    prepare,
    train,
    tune,
    zoo,
    export,
    quantize,
    run,
    purge,
    demo,
)
"""In the order of the help."""

app = typer.Typer(
    name="faceaudit",
    help="Predict age, gender and race of faces in many images; audit how well, for whom.",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in COMMANDS:
    app.command()(_command)


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"faceaudit {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(EXIT_USAGE)


def main() -> None:
    """The entry point."""
    end_well(lambda: app(standalone_mode=False))
